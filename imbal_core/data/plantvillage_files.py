"""PlantVillage's files on the way into the data root: by download, or from a copy that is there already.

Only the class folders of the plants in `imbal_core.data.plantvillage` are kept, and their leaves as ``leaves.csv``.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from pathlib import Path

from imbal_core._checks.files import read_json, sha256_of_file, sweep, write_atomically
from imbal_core._checks.forms import check_form
from imbal_core.data.archives import safe_extract
from imbal_core.data.downloads import fetch
from imbal_core.data.image_folders import visible_files
from imbal_core.data.plantvillage import PLANT_FOLDERS, class_folders, file_tail
from imbal_core.data.prepared import DatasetError

# The data set's first author publishes it here; the revision never changes. Size (2,184,723,441 bytes) and hashes
# are those that several public projects recorded independently when they downloaded this revision. They were not
# measured anew for this package, so the structure is checked as well.
_REVISION = (
    "https://huggingface.co/datasets/mohanty/PlantVillage/resolve/9e97599868962bd0079b8db4b7f1efa9185fa1e7"
)
#: Address and SHA-256 of the archive, 2.2 GB with the images in colour, in grey and without background.
ARCHIVE = (f"{_REVISION}/data.zip", "fba30c6a7965e49be94b47a62f8aff6cfb1c35c27f475f22092b56db41745e84")
#: Address and SHA-256 of the leaf map, JSON: the tail of a file name to the leaves that it may be.
LEAF_MAP = (
    f"{_REVISION}/leaf_grouping/leaf-map.json",
    "3b4b253683c6911744959a3870a92509b1faa1ee34e9f8585e21d0fe6337a25b",
)
#: Fewest images of a plant: training 1,000 to 10, validation 150 to 7 and testing 150 to 150 can be drawn.
MINIMUM = {"healthy": 1300, "diseased": 167}


def download_plantvillage(root: Path, *, sha256: str | None = None) -> None:
    """Download the data set's archive and leaf map into the data root and keep what is needed of them.

    The archive, whose recorded hash `sha256` replaces, needs 2.2 GB, and as much again while it is unpacked; both are
    removed in the end. DatasetError if the download fails, which the next call continues, or brings something else.
    """
    folder = root / "plantvillage"
    leaf_map = fetch(LEAF_MAP[0], folder / "leaf-map.json", sha256=LEAF_MAP[1])
    archive = fetch(ARCHIVE[0], folder / "data.zip", sha256=sha256 or ARCHIVE[1])
    install_plantvillage(archive, root, leaf_map=leaf_map)
    archive.unlink()
    leaf_map.unlink()


def install_plantvillage(
    source: Path, root: Path, *, sha256: str | None = None, leaf_map: Path | None = None
) -> None:
    """Take PlantVillage's colour images and leaves from a folder or an archive into the data root.

    Files of the same name in the root's ``plantvillage/color`` are replaced, others stay. The source is a folder, which
    stays as it is, that holds, at any depth, the class folders (``Apple___healthy`` ...), or a zip or tar file of one,
    with the hash `sha256` where one is given. Where the class folders occur several times, those in a folder called
    ``color`` are taken. A leaf map is looked for beside ``color/`` and one level up unless it is given:
    ``leaves.csv``, ``leaf-map.json``, ``leaf_grouping/leaf-map.json``.

    DatasetError if the archive is damaged, would write outside its folder or has another hash, or if the class folders
    of a plant are incomplete. A plant of which nothing is there is left out; one must be complete.
    """
    folder = root / "plantvillage"
    folder.mkdir(parents=True, exist_ok=True)
    if not source.is_file() and not source.is_dir():
        what = "neither a file nor a folder but a pipe, a socket or a device"
        raise DatasetError(f"{source}: {what if source.exists() else 'no such file or folder'}")
    if sha256 is not None:
        if source.is_dir():
            raise DatasetError(f"--sha256: {source} is a folder, and only an archive has a hash")
        if (found := sha256_of_file(source)) != sha256.lower():
            raise DatasetError(f"{source}: expected the SHA-256 {sha256}, found {found}; damaged or another")
    sweep(folder, ".install-*")
    with tempfile.TemporaryDirectory(prefix=".install-", dir=folder) as temporary:
        place = source
        if not source.is_dir():
            place = Path(temporary, "unpacked")
            safe_extract(source, place)
        color = _find_color(place, source)
        classes = _checked_classes(color, source)
        target = folder / "color"
        if not (target.exists() and target.samefile(color)):
            staged = Path(temporary, "color")
            staged.mkdir()
            for name in classes:
                take = shutil.copytree if place == source else shutil.move
                take(str(color / name), str(staged / name))
            if target.exists():  # file by file, else in one step
                shutil.copytree(staged, target, dirs_exist_ok=True, copy_function=os.replace)
            else:
                staged.rename(target)
        leaves = _leaves_csv(color, leaf_map, target, classes)
        if leaves is not None:
            write_atomically(folder / "leaves.csv", lambda file: file.write(leaves))


def _find_color(place: Path, source: Path) -> Path:
    """Return the folder of class folders."""
    found = []
    for parent, subfolders, _ in os.walk(place):
        if any(f"{plant}___healthy" in subfolders for plant in PLANT_FOLDERS.values()):
            found.append(Path(parent))
            subfolders.clear()
    chosen = [folder for folder in found if folder.name == "color"] or found
    if len(chosen) == 1:
        return chosen[0]
    what = f"class folders in {len(chosen)} places" if chosen else "no class folder such as Apple___healthy"
    raise DatasetError(f"{source}: {what}; give the folder that holds PlantVillage's colour images")


def _checked_classes(color: Path, source: Path) -> list[str]:
    """Return the class folders to take, after a check that each plant that is there is there completely."""
    classes: list[str] = []
    for plant in PLANT_FOLDERS:
        names = list(class_folders(plant).values())
        missing = [name for name in names if not (color / name).is_dir()]
        if len(missing) == len(names):
            continue
        if missing:
            raise DatasetError(f"{source}: {plant} lacks the class folder {missing[0]}; copy it anew")
        healthy, *diseased = (len(visible_files(color / name)) for name in names)
        totals = {"healthy": healthy, "diseased": sum(diseased)}
        for kind, least in MINIMUM.items():
            if totals[kind] < least:
                raise DatasetError(
                    f"{source}: {plant} has {totals[kind]} {kind} images, expected at least {least}; copy it anew"
                )
        classes += names
    if not classes:
        raise DatasetError(f"{source}: none of {', '.join(PLANT_FOLDERS)} has all its class folders")
    return classes


def _leaves_csv(color: Path, leaf_map: Path | None, target: Path, classes: list[str]) -> bytes | None:
    """Return the content of ``leaves.csv``; None if the source has no leaves."""
    if leaf_map is None:
        names = ("leaves.csv", "leaf-map.json", "leaf_grouping/leaf-map.json")
        places = (place / name for place in (color.parent, color.parent.parent) for name in names)
        leaf_map = next((place for place in places if place.is_file()), None)
    if leaf_map is None:
        return None
    if leaf_map.suffix == ".csv":
        return leaf_map.read_bytes()
    try:
        known = read_json(leaf_map)
        check_form(known, {str: [str]})
    except (OSError, ValueError) as error:
        what = "not a leaf map (JSON, the tail of a file name to a list of leaves)"
        raise DatasetError(f"{leaf_map}: {what}: {error}") from error
    rows = [("file", "leaf")]
    for name in classes:
        for file in visible_files(target / name):
            # as the data set's own loader finds the leaf: the only one, or the one of the same class
            leaves = known.get(file_tail(file.name).lower(), [])
            leaves = leaves if len(leaves) == 1 else [leaf for leaf in leaves if name in leaf]
            rows += [(f"{name}/{file.name}", leaf.replace(":::", ":")) for leaf in leaves[:1]]
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    return table.getvalue().encode("utf-8", "backslashreplace")  # JSON can hold what UTF-8 cannot
