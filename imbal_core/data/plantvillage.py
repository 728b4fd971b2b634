"""PlantVillage: photographs of healthy and diseased leaves, as one pool of images per plant.

The images lie in ``<data root>/plantvillage/color/<Class>/<file>.JPG`` and are decoded once per image size. There
is no test side: test images are drawn from the pool by the split.

Known oddities of the data set, and what becomes of them: an empty file is left out; a PNG file named .JPG is read as
what it is; of files with the same bytes in one class folder the first by name is kept; an image in two class folders
has no sure class and is dropped from both. `survey` lists them. Any other file that cannot be read is an error.

One leaf is photographed several times. Which leaf an image shows is known from three sources, in this order:

- ``leaves.csv`` beside ``color/`` (columns file, leaf), made from the data set's own leaf map. Sure.
- Names such as ``GH_HL Leaf 259.1`` (tomato): leaf 259. The name says so, and photographs with one number are far more
  alike than those with neighbouring numbers (correlation of pixels, area under the ROC curve .83). Whether ``.1`` is a
  second photograph or a second leaflet is not documented; both are kept together, which errs on the safe side.
- ``RS_HL`` numbers of healthy tomatoes, which are the camera's: four in a row show one leaf, from 3 to 642 and from
  9622 to 9997. This is the whole of the data set's own leaf map for that class, 1,000 images of 250 leaves.

All other names end in the camera's number alone (bell pepper, apple black rot, most tomato diseases). Neighbouring
numbers often show one leaf (887 of 1,049 pairs among 1,320 healthy apples), but where one leaf ends cannot be told,
so their leaf is unknown, and each such photograph is a group of its own.

References
----------
D. Hughes and M. Salathé, "An open access repository of images on plant health", arXiv:1511.08060, 2015.
S. Mohanty, D. Hughes and M. Salathé, "Using deep learning for image-based plant disease detection", Frontiers in
Plant Science 7:1419, 2016.
"""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imbal_core._checks.files import regular
from imbal_core._checks.names import unknown_name
from imbal_core.data.image_folders import decode_all, visible_files
from imbal_core.data.prepared import Arrays, DatasetError, checked, prepared_once

if TYPE_CHECKING:
    import pandas as pd

CLASS_NAMES: tuple[str, ...] = ("healthy", "diseased")
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
_NUMBERED_LEAF = re.compile(r"(GH_HL|GHLB\w*) Leaf (\d{1,3})(?:\.\d+)?(?:JPG)?(?: Day [\d.]+)?", re.I)
_CAMERA_NUMBER = re.compile(r"RS_HL (\d+)")
# First and last camera number of each run in which four photographs in a row show one healthy tomato leaf.
_FOURS = ((3, 642), (9622, 9997))


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
    kept decoded at `path` until a file of ``color/`` or ``leaves.csv`` changes. DatasetError if any is damaged.
    """
    leaves = root / "plantvillage" / "leaves.csv"
    files = [file for folder in _class_folders(name, root).values() for file in visible_files(folder)]

    def decoded() -> Arrays:
        pool = survey(name, root).query("kept")
        images, labels = decode_all(pool.file.tolist(), size), pool.label.to_numpy()
        names: tuple[str, ...] = CLASS_NAMES
        if name.endswith(f":{BY_DISEASE}"):
            names = ("healthy", *DISEASES[_parsed(name)[0]])
            labels = pool.kind.map(names.index).to_numpy(np.int64)
        arrays = Arrays(images, labels, names, pool.group.to_numpy(str))
        return checked(root / "plantvillage" / "color", arrays, "add images of it")

    return prepared_once(path, name, decoded, files=[*files, *([leaves] if leaves.exists() else [])])


def known_groups(groups: np.ndarray) -> np.ndarray | None:
    """Return the groups, or None where no leaf is known."""
    return None if all(group.startswith(_UNKNOWN) for group in groups) else groups


def class_folders(plant: str) -> dict[str, str]:
    """Return the names of a plant's class folders by what they show, "healthy" first, then the diseases."""
    return {kind: f"{PLANT_FOLDERS[plant]}___{kind}" for kind in ("healthy", *DISEASES[plant])}


def _class_folders(name: str, root: Path) -> dict[str, Path]:
    """Return all class folders of a plant by what they show; raise DatasetError if one is missing."""
    color = root / "plantvillage" / "color"
    folders = {kind: color / folder for kind, folder in class_folders(_parsed(name)[0]).items()}
    missing = [folder for folder in folders.values() if not folder.is_dir()]
    if missing:
        few = f"{len(missing)} of its {len(folders)} class folders are missing, such as {missing[0].name}"
        raise DatasetError(
            f"no images of {name} in {color}: {few}. `imbal data plantvillage` downloads them, `imbal data "
            "plantvillage --from PATH` takes them from a copy; or set IMBAL_DATA to the folder that holds "
            f"plantvillage/color/{missing[0].name}"
        )
    return folders


def read_leaves(path: Path) -> dict[str, str]:
    """Return the leaf by ``<Class>/<file>`` where the table names one; nothing without a table."""
    if not path.exists():
        return {}
    try:
        with regular(path).open(newline="", encoding="utf-8") as source:
            return {row["file"]: row["leaf"] for row in csv.DictReader(source) if row["leaf"]}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"{path}: not a table with the columns file and leaf ({error!r}); replace or remove it"
        ) from error


def file_tail(file_name: str) -> str:
    """Return what a file name says of the photograph: ``RS_HL 5672`` of ``0055dd26-…___RS_HL 5672.JPG``.

    The number of a copy (``RS_HL 5672 copy 2.jpg``, a second cut of one photograph) is left out.
    """
    tail = re.sub(r"\.(jpe?g|png)$", "", file_name.rsplit("___", 1)[-1], flags=re.IGNORECASE)
    return tail.split("copy")[0].strip()


def leaf_from_name(class_folder: str, file_name: str) -> str | None:
    """Return the leaf that a file name gives away, or None; see the text of this module for how sure that is."""
    tail = file_tail(file_name)
    numbered = _NUMBERED_LEAF.fullmatch(tail)
    if numbered:
        return f"{class_folder}:{numbered[1].lower()} leaf {int(numbered[2])}"
    camera = _CAMERA_NUMBER.fullmatch(tail)
    if camera and class_folder == "Tomato___healthy":
        number = int(camera[1])
        for first, last in _FOURS:
            if first <= number <= last:
                start = number - (number - first) % 4
                return f"{class_folder}:rs_hl {start}-{start + 3}"
    return None


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
