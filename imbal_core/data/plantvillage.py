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
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbal_core._checks.names import unknown_name
from imbal_core.data.image_folders import decode_all, visible_files
from imbal_core.data.plantvillage_leaves import file_tail, leaf_from_name, read_leaves
from imbal_core.data.prepared import Arrays, DatasetError, checked, prepared_once

__all__ = [
    "CLASS_NAMES",
    "DISEASES",
    "PLANTVILLAGE_IMAGE_SIZE",
    "PLANTVILLAGE_NAMES",
    "PLANT_FOLDERS",
    "TEST_PER_CLASS",
    "Survey",
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
PLANTVILLAGE_NAMES = tuple(f"plantvillage-{plant}" for plant in PLANT_FOLDERS)

_UNKNOWN = "unknown:"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Survey:
    """What the files of one plant are, after its oddities were sorted out.

    Attributes
    ----------
    files : list of Path
        The images of the pool: healthy first, then by class folder and name.
    labels : ndarray of int64, shape (N,)
        0 healthy, 1 diseased.
    groups : ndarray of str, shape (N,)
        The leaf, or a name of its own for an image whose leaf is unknown.
    leaf_known : ndarray of bool, shape (N,)
    empty, misnamed_png : list of str
        ``<Class>/<file>`` of what is empty and left out, and of PNG files named otherwise, which are kept.
    duplicates, contradictions : list of list of str
        Files with the same bytes: in one class folder, of which the first is kept; in several, all left out.
    """

    files: list[Path]
    labels: np.ndarray
    groups: np.ndarray
    leaf_known: np.ndarray
    empty: list[str]
    misnamed_png: list[str]
    duplicates: list[list[str]]
    contradictions: list[list[str]]


def is_plantvillage(name: str) -> bool:
    """Return whether a data set's name, with or without a disease, is one of `PLANTVILLAGE_NAMES`."""
    return name.partition(":")[0] in PLANTVILLAGE_NAMES


def prepared_name(name: str, size: int) -> str:
    """Return the file name of the decoded pool; raise DatasetError for a mistyped disease."""
    plant, disease = _parsed(name)
    parts = ["prepared", plant, *([] if disease is None else [disease]), str(size)]
    return re.sub(r"[^\w-]+", "_", "-".join(parts)) + ".npz"


def _parsed(name: str) -> tuple[str, str | None]:
    """Return the plant and the named disease, None for all of them."""
    base, colon, disease = name.partition(":")
    plant = base.removeprefix("plantvillage-")
    if colon and disease not in DISEASES[plant]:
        raise unknown_name(f"disease of {base}", disease, DISEASES[plant], DatasetError)
    return plant, disease if colon else None


def load_plantvillage(name: str, path: Path, size: int, root: Path) -> Arrays:
    """Return the pool of one of `PLANTVILLAGE_NAMES`; ``:`` and one of `DISEASES` leave the others out.

    It is kept decoded at `path`, and decoded anew when a file below ``color/`` or ``leaves.csv`` changed.

    Raises
    ------
    DatasetError
        If images are missing or damaged.
    """
    leaves = root / "plantvillage" / "leaves.csv"
    files = [file for folder in _class_folders(name, root).values() for file in visible_files(folder)]

    def decoded() -> Arrays:
        found = survey(name, root)
        arrays = Arrays(decode_all(found.files, size), found.labels, CLASS_NAMES, found.groups)
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


def survey(name: str, root: Path) -> Survey:
    """Return which images the pool of a plant has, what their leaves are, and what was left out.

    All class folders of the plant are read, also where `name` asks for one disease, because an image can lie in
    two of them.

    Raises
    ------
    DatasetError
        If a class folder is missing, or ``leaves.csv`` is not a table of file and leaf.
    """
    _, disease = _parsed(name)
    by_content: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    empty, misnamed = [], []
    for kind, folder in _class_folders(name, root).items():
        for file in visible_files(folder):
            content = file.read_bytes()
            if not content:
                empty.append(_short(file))
                continue
            if content.startswith(_PNG) and file.suffix.lower() != ".png":
                misnamed.append(_short(file))
            by_content[hashlib.sha256(content).hexdigest()].append((kind, file))
    copied = [copies for copies in by_content.values() if len(copies) > 1]
    torn = [copies for copies in copied if len({kind for kind, _ in copies}) > 1]
    whole = (copies[0] for copies in by_content.values() if copies not in torn)
    kept = [(kind, file) for kind, file in whole if disease is None or kind in ("healthy", disease)]
    leaves = read_leaves(root / "plantvillage" / "leaves.csv")
    known = [leaves.get(_short(file)) or leaf_from_name(file.parent.name, file.name) for _, file in kept]
    # an image whose leaf is unknown is a group with other cuts of the same photograph
    alone = [f"{_UNKNOWN}{file.parent.name}/{file_tail(file.name)}" for _, file in kept]
    return Survey(
        files=[file for _, file in kept],
        labels=np.array([kind != "healthy" for kind, _ in kept], dtype=np.int64),
        groups=np.array([leaf or own for leaf, own in zip(known, alone, strict=True)]),
        leaf_known=np.array([leaf is not None for leaf in known], dtype=bool),
        empty=empty,
        misnamed_png=misnamed,
        duplicates=[[_short(file) for _, file in copies] for copies in copied if copies not in torn],
        contradictions=[[_short(file) for _, file in copies] for copies in torn],
    )


def describe(name: str, root: Path) -> list[str]:
    """Return lines on the pool of a plant: images and known leaves by class, and what was left out and why."""
    found = survey(name, root)
    lines = []
    for label, kind in enumerate(CLASS_NAMES):
        of_class = found.labels == label
        known = of_class & found.leaf_known
        shown = [found.files[i].parent.name.split("___")[1] for i in np.flatnonzero(of_class)]
        parts = ", ".join(f"{disease} {number:,}" for disease, number in Counter(shown).items())
        lines.append(
            f"{kind}: {of_class.sum():,} images{f' ({parts})' if label else ''}, {known.sum():,} of them with a "
            f"known leaf ({len(set(found.groups[known])):,} leaves)"
        )
    oddities = {
        "empty, left out": found.empty,
        "PNG under another name, kept": found.misnamed_png,
        "the same bytes, the first kept": map(" = ".join, found.duplicates),
        "the same bytes in two classes, all left out": map(" = ".join, found.contradictions),
    }
    listed = {what: [f"  {file}" for file in files] for what, files in oddities.items()}
    odd = [line for what, files in listed.items() if files for line in (f"{what} ({len(files)}):", *files)]
    return [*lines, *(odd or ["no file is empty, misnamed or there twice"])]


def _short(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"
