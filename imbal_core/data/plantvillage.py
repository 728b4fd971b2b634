"""PlantVillage: photographs of healthy and diseased leaves, as one pool of images per plant.

The images lie in ``<data root>/plantvillage/color/<Class>/<file>.JPG`` and are decoded once per image size. There
is no test side: test images are drawn from the pool by the split.

Known oddities of the data set, and what becomes of them: an empty file is left out; a PNG file named .JPG is read
as what it is; of files with the same bytes in one class folder the first by name is kept; an image in two class
folders has no sure class and is dropped from both. `survey` lists them. Any other file that cannot be read is an
error. Which leaf an image shows: `imbal_core.data.plantvillage_leaves`.

References
----------
D. Hughes and M. Salathé, "An open access repository of images on plant health", arXiv:1511.08060, 2015.
S. Mohanty, D. Hughes and M. Salathé, "Using deep learning for image-based plant disease detection", Frontiers in
Plant Science 7:1419, 2016.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imbal_core._checks.names import unknown_name
from imbal_core.data.image_folders import decode_all, shown, visible_files
from imbal_core.data.plantvillage_leaves import file_tail, leaf_from_name, read_leaves
from imbal_core.data.prepared import Arrays, DatasetError, checked, prepared_once

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BY_DISEASE",
    "CLASS_NAMES",
    "DISEASES",
    "PLANTVILLAGE_IMAGE_SIZE",
    "PLANTVILLAGE_NAMES",
    "PLANT_FOLDERS",
    "TEST_PER_CLASS",
    "TEST_PER_DISEASE",
    "describe",
    "is_plantvillage",
    "known_groups",
    "load_plantvillage",
    "prepared_name",
    "survey",
]

CLASS_NAMES = ("healthy", "diseased")
PLANTVILLAGE_IMAGE_SIZE = 128
# 150 healthy and 150 diseased test images: the balanced test set of Kocaman et al. 2020, its size recalled.
TEST_PER_CLASS = 150
# Of each disease and of healthy leaves, where every disease is a class: some have no more than three dozen images.
TEST_PER_DISEASE = 10
#: The first part of the names of a plant's class folders.
PLANT_FOLDERS = {"apple": "Apple", "pepper": "Pepper,_bell", "tomato": "Tomato"}
DISEASES = {
    "apple": ("Apple_scab", "Black_rot", "Cedar_apple_rust"),
    "pepper": ("Bacterial_spot",),
    "tomato": (
        "Bacterial_spot",
        "Early_blight",
        "Late_blight",
        "Leaf_Mold",
        "Septoria_leaf_spot",
        "Spider_mites Two-spotted_spider_mite",
        "Target_Spot",
        "Tomato_Yellow_Leaf_Curl_Virus",
        "Tomato_mosaic_virus",
    ),
}
#: What stands in the place of a disease where every disease is a class of its own.
BY_DISEASE = "by-disease"
PLANTVILLAGE_NAMES = tuple(f"plantvillage-{plant}" for plant in PLANT_FOLDERS)

_UNKNOWN = "unknown:"
_PNG = b"\x89PNG\r\n\x1a\n"
_ODDITIES = {
    "void": "empty, left out",
    "misnamed": "PNG under another name, kept",
    "copied": "the same bytes, the first kept",
    "torn": "the same bytes in two classes, all left out",
}


def is_plantvillage(name: str) -> bool:
    """Return whether a data set's name, with or without a disease, is one of `PLANTVILLAGE_NAMES`."""
    return name.partition(":")[0] in PLANTVILLAGE_NAMES


def prepared_name(name: str, size: int) -> str:
    """Return the file name of the decoded pool; raise DatasetError for a mistyped disease."""
    plant, _ = _parsed(name)
    _, _, part = name.partition(":")
    parts = ["prepared", plant, *([part] if part else []), str(size)]
    return re.sub(r"[^\w-]+", "_", "-".join(parts)) + ".npz"


def _parsed(name: str) -> tuple[str, str | None]:
    """Return the plant and the named disease, None for all of them."""
    base, colon, disease = name.partition(":")
    plant = base.removeprefix("plantvillage-")
    if disease == BY_DISEASE:
        return plant, None
    if colon and disease not in DISEASES[plant]:
        raise unknown_name(f"disease of {base}", disease, DISEASES[plant], DatasetError)
    return plant, disease if colon else None


def load_plantvillage(name: str, path: Path, size: int, root: Path) -> Arrays:
    """Return the pool of one of `PLANTVILLAGE_NAMES`; ``:`` and one of `DISEASES` leave the others out.

    With ``:by-disease`` the classes are healthy and every disease for itself, in the order of `DISEASES`. The pool is
    kept decoded at `path`, and decoded anew when a file below ``color/`` or ``leaves.csv`` changed. DatasetError if
    images are missing or damaged.
    """
    leaves = root / "plantvillage" / "leaves.csv"
    files = [file for folder in _class_folders(name, root).values() for file in visible_files(folder)]

    def decoded() -> Arrays:
        pool = survey(name, root).query("kept")
        images, labels, names = decode_all(pool.file.tolist(), size), pool.label.to_numpy(), CLASS_NAMES
        if name.endswith(f":{BY_DISEASE}"):
            names = ("healthy", *DISEASES[_parsed(name)[0]])
            labels = pool.kind.map(names.index).to_numpy(np.int64)
        arrays = Arrays(images, labels, names, pool.group.to_numpy(str))
        return checked(root / "plantvillage" / "color", arrays, "add images of it")

    return prepared_once(path, name, decoded, files=[*files, *([leaves] if leaves.exists() else [])])


def known_groups(groups: np.ndarray) -> np.ndarray | None:
    """Return the groups, or None where no leaf is known."""
    return None if all(group.startswith(_UNKNOWN) for group in groups) else groups


def _class_folders(name: str, root: Path) -> dict[str, Path]:
    """Return all class folders of a plant by what they show; raise DatasetError if one is missing."""
    plant, _ = _parsed(name)
    color = root / "plantvillage" / "color"
    folders = {kind: color / f"{PLANT_FOLDERS[plant]}___{kind}" for kind in ("healthy", *DISEASES[plant])}
    missing = [folder for folder in folders.values() if not folder.is_dir()]
    if missing:
        few = f"{len(missing)} of its {len(folders)} class folders are missing, such as {missing[0].name}"
        raise DatasetError(
            f"no images of {name} in {color}: {few}. `imbal data plantvillage` downloads them, `imbal data "
            "plantvillage --from PATH` takes them from a copy; or set IMBAL_DATA to the folder that holds "
            f"plantvillage/color/{missing[0].name}"
        )
    return folders


def survey(name: str, root: Path) -> pd.DataFrame:
    """Return one row per file of a plant, healthy first, then by class folder and name, and what becomes of it.

    ``file``, ``short`` (``<Class>/<file>``), ``kind`` (healthy or the disease), ``label`` (0 healthy, 1 diseased),
    ``leaf`` (None where it is unknown), ``group`` (the leaf, or a name of its own), ``content`` (a hash); whether it is
    ``kept``, ``void`` (without bytes, left out), ``misnamed`` (a PNG file named otherwise, kept), ``copied`` (with the
    bytes of others, of which the first is kept) or ``torn`` (with the bytes of files in other class folders, all left
    out). All class folders of the plant are read, also where `name` asks for one disease, because an image can lie in
    two of them. DatasetError if a class folder is missing, or ``leaves.csv`` is not a table of file and leaf.
    """
    import pandas as pd

    leaves = read_leaves(root / "plantvillage" / "leaves.csv")

    def row(kind: str, file: Path) -> tuple[Any, ...]:
        content, short = file.read_bytes(), f"{file.parent.name}/{file.name}"
        misnamed = content.startswith(_PNG) and file.suffix.lower() != ".png"
        leaf = leaves.get(short) or leaf_from_name(file.parent.name, file.name)
        # an image whose leaf is unknown is a group with other cuts of the same photograph
        group = leaf or f"{_UNKNOWN}{file.parent.name}/{file_tail(file.name)}"
        digest = hashlib.sha256(content).hexdigest()
        return file, short, kind, int(kind != "healthy"), leaf, group, digest, not content, misnamed

    columns = ["file", "short", "kind", "label", "leaf", "group", "content", "void", "misnamed"]
    folders = _class_folders(name, root).items()
    rows = [row(kind, file) for kind, folder in folders for file in visible_files(folder)]
    table = pd.DataFrame(rows, columns=columns).astype({"label": np.int64, "void": bool, "misnamed": bool})
    kinds = table[~table.void].groupby("content").kind
    several = kinds.transform("size").reindex(table.index) > 1
    torn = kinds.transform("nunique").reindex(table.index) > 1
    _, disease = _parsed(name)
    asked = table.kind.isin(["healthy", disease]) | (disease is None)
    kept = asked & ~table.void & ~torn & ~table.duplicated("content")
    return table.assign(copied=several & ~torn, torn=torn, kept=kept)


def describe(name: str, root: Path) -> list[str]:
    """Return lines on the pool of a plant: images and known leaves by class, and what was left out and why."""
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
