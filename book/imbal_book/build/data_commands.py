"""The commands ``imbal data``: prepare images in the data root, list what there is, write splits."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imbal_core._checks.names import unknown_name

__all__ = ["data_app"]


class _DataGroup(TyperGroup):
    """``imbal data NAME`` is short for the hidden command ``imbal data show NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


data_app = typer.Typer(cls=_DataGroup, rich_markup_mode=None)

_Name = Annotated[str, typer.Argument(help="A data set, or folder:PATH.")]
_AnyName = Annotated[str | None, typer.Argument(help="A data set, or folder:PATH.")]
_From = Annotated[
    Path | None, typer.Option("--from", help="An archive or a folder with the files, instead of a download.")
]
_Sha256 = Annotated[
    str | None,
    typer.Option(help="Of PlantVillage's archive: what it must have, instead of what is recorded."),
]
_List = Annotated[bool, typer.Option("--list", help="List the data sets and whether they are here.")]
_Imbalance = Annotated[
    list[str], typer.Option(help="zhang-a, exponential-100, step-10, balanced, natural ...; may be repeated.")
]
_Out = Annotated[Path, typer.Option(help="The folder to write to.", metavar="DIR")]
_Seeds = Annotated[str, typer.Option(help="Split seeds: 0, or 0-2, or 0,3,7.")]
_ByGroup = Annotated[bool, typer.Option(help="Keep the images of one group, such as a leaf, on one side.")]
#: What `survey` finds odd about a file -> what becomes of it.
_ODDITIES = {
    "void": "empty, left out",
    "misnamed": "PNG under another name, kept",
    "copied": "the same bytes, the first kept",
    "torn": "the same bytes in two classes, all left out",
}


@data_app.callback()
def data() -> None:
    """Prepare images in the data root ($IMBAL_DATA, else ~/.cache/imbal_core), or list what there is.

    \b
    imbal data                                     list the data sets
    imbal data cifar10                             download and prepare one
    imbal data cifar10 --from cifar-10-python.tar.gz
    imbal data plantvillage                        download leaves (2.2 GB), and list what is odd about them
    imbal data folder:my_images                    check a folder with one sub-folder per class
    imbal data splits cifar10 --imbalance exponential-100 --seeds 0-2 --out splits
    """


@data_app.command(hidden=True)
def show(
    name: _AnyName = None, source: _From = None, sha256: _Sha256 = None, list_all: _List = False
) -> None:
    """Prepare a data set and show its classes, counts and fingerprint.

    \b
    imbal data cifar10
    imbal data cifar10 --from cifar-10-python.tar.gz
    imbal data plantvillage --from PlantVillage-Dataset/raw/color
    imbal data plantvillage-apple:Black_rot
    """
    from imbal_core.data import datasets, image_folders, plantvillage
    from imbal_core.data.root import data_root

    if name is None or list_all:
        typer.echo(f"data root: {data_root()}")
        for known in datasets.list_datasets():
            here = all(datasets.prepared_path(known, side).is_file() for side in _sides(known))
            typer.echo(f"  {known:19} {'prepared' if here else 'not here yet'}")
        typer.echo("  folder:PATH         your own images, one sub-folder per class")
        return
    leaves = name == "plantvillage" or plantvillage.is_plantvillage(name)
    names = (_take_leaves if leaves else _take)(data_root(), name, source, sha256)
    for one in names:
        for side in _sides(one):
            found = datasets.load_dataset(one, side, download=source is None)
            number, height, width, _ = found.images.shape
            typer.echo(
                f"{one} {side}: {number:,} images of {width}x{height}, {found.num_classes} classes of "
                f"{found.class_counts.min():,} to {found.class_counts.max():,}, fingerprint {found.fingerprint[:16]}"
            )
            if name.startswith("folder:"):
                pairs = zip(found.class_names, found.class_counts, strict=True)
                typer.echo(f"  {', '.join(f'{label} {count:,}' for label, count in pairs)}")
                for junk, count in image_folders.list_folder(name, side).ignored.items():
                    typer.echo(f"  left out: {junk} ({count})")
        for line in _about_leaves(one, data_root()) if leaves else ():
            typer.echo(f"  {line}")


def _sides(name: str) -> tuple[str, ...]:
    from imbal_core.data.datasets import has_test_side
    from imbal_core.data.image_folders import folder_sides

    # a folder without train/ and test/ has no test images, and a run says so; here it is no error
    tested = "test" in folder_sides(name) if name.startswith("folder:") else has_test_side(name)
    return ("train", "test") if tested else ("train",)


def _about_leaves(name: str, root: Path) -> list[str]:
    """Return lines on the pool of a plant: images and known leaves by class, and what was left out and why."""
    from imbal_core.data.image_folders import shown
    from imbal_core.data.plantvillage import CLASS_NAMES, survey

    found = survey(name, root)
    lines = []
    for label, kind in enumerate(CLASS_NAMES):
        pool = found[found.kept & (found.label == label)]
        parts = ", ".join(
            f"{disease} {number:,}" for disease, number in pool.groupby("kind", sort=False).size().items()
        )
        lines.append(
            f"{kind}: {len(pool):,} images{f' ({parts})' if label else ''}, {pool.leaf.count():,} of them with a "
            f"known leaf ({pool.leaf.nunique():,} leaves)"
        )
    odd = []
    for column, what in _ODDITIES.items():
        by_content = column in ("copied", "torn")
        files = found[found[column]].groupby("content" if by_content else "short", sort=False).short
        listed = [f"  {shown(' = '.join(same))}" for _, same in files]
        odd += [f"{what} ({len(listed)}):", *listed] if listed else []
    return [*lines, *(odd or ["no file is empty, misnamed or there twice"])]


def _take_leaves(root: Path, name: str, source: Path | None, sha256: str | None) -> list[str]:
    """Return the plants to show, after taking PlantVillage into the data root where that is asked for or needed."""
    from imbal_core.data import plantvillage, plantvillage_files

    if name != "plantvillage":
        plantvillage.prepared_name(name, 128)  # names a mistyped disease before anything is copied
    color = root / "plantvillage" / "color"
    if source is not None:
        plantvillage_files.install_plantvillage(source, root, sha256=sha256)
    elif not color.exists():
        plantvillage_files.download_plantvillage(root, sha256=sha256)
    elif sha256 is not None:
        raise ValueError(
            f"--sha256: nothing is downloaded, the images are in {color}; remove it to start anew"
        )
    folders = plantvillage.PLANT_FOLDERS
    here = [plant for plant, prefix in folders.items() if (color / f"{prefix}___healthy").is_dir()]
    return [name] if name != "plantvillage" else [f"plantvillage-{plant}" for plant in here or folders]


def _take(root: Path, name: str, source: Path | None, sha256: str | None) -> list[str]:
    """Return the data set's name, after bringing into the data root what is given of it.

    An archive is unpacked there, a folder (such as cifar-10-batches-py) or any other file copied.
    """
    from imbal_core.data.archives import safe_extract
    from imbal_core.data.datasets import list_datasets

    if sha256 is not None:
        raise ValueError(f"--sha256: only PlantVillage's archive is checked by it, not {name}")
    if not name.startswith("folder:") and name not in list_datasets():
        raise unknown_name("dataset", name, [*list_datasets(), "plantvillage", "folder:PATH"])
    if source is None:
        return [name]
    if not source.exists():
        raise FileNotFoundError(f"--from {source}: no such file or folder")
    if not source.is_file() and not source.is_dir():
        raise ValueError(f"--from {source}: neither a file nor a folder but a pipe, a socket or a device")
    if source.is_dir():
        shutil.copytree(source, root / source.resolve().name, dirs_exist_ok=True)
    elif tarfile.is_tarfile(source) or zipfile.is_zipfile(source) and source.suffix != ".npz":
        safe_extract(source, root)
    else:
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, root / name / source.name)
    return [name]


@data_app.command()
def splits(
    name: _Name, imbalance: _Imbalance, out: _Out, seeds: _Seeds = "0", by_group: _ByGroup = False
) -> None:
    """Write the image indices of splits as JSON files, for others to cite and to use with plain torchvision.

    \b
    imbal data splits cifar10 --imbalance zhang-a --imbalance exponential-100 --seeds 0-2 --out splits
    """
    from imbal_book.build.split_files import export_splits
    from imbal_core.data.datasets import load_dataset

    numbers = _parse_seeds(seeds)
    for path in export_splits(load_dataset(name, "train"), name, imbalance, numbers, out, by_group=by_group):
        typer.echo(path)


def _parse_seeds(text: str) -> list[int]:
    """Return whole numbers from ``0-2,5``."""
    items = [item.strip().split("-") for item in text.split(",")]
    numbers: list[int] = []
    if all(len(item) <= 2 and all(number.isdecimal() for number in item) for item in items):
        numbers = [n for item in items for n in range(int(item[0]), int(item[-1]) + 1)]
    if not numbers:
        raise ValueError(f"seeds {text!r}: expected whole numbers such as 0, 0-2 or 0,3,7")
    return numbers
