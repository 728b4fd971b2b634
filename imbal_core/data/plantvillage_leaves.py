"""Which leaf a photograph of PlantVillage shows.

One leaf is photographed several times. Which leaf an image shows is known from three sources, in this order:

- ``leaves.csv`` beside ``color/`` (columns file, leaf), made from the data set's own leaf map. Sure.
- Names such as ``GH_HL Leaf 259.1`` (tomato): leaf 259. The name says so, and photographs with one number are far
  more alike than those with neighbouring numbers (correlation of pixels, area under the ROC curve .83). Whether
  ``.1`` is a second photograph or a second leaflet is not documented; both are kept together, which errs on the
  safe side.
- ``RS_HL`` numbers of healthy tomatoes, which are the camera's: four in a row show one leaf, from 3 to 642 and from
  9622 to 9997. This is the whole of the data set's own leaf map for that class, 1,000 images of 250 leaves.

All other names end in the camera's number alone (bell pepper, apple black rot, most tomato diseases). Neighbouring
numbers often show one leaf (887 of 1,049 pairs among 1,320 healthy apples), but where one leaf ends cannot be told,
so their leaf is unknown, and each such photograph is a group of its own.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from imbal_core.data.prepared import DatasetError

__all__ = ["file_tail", "leaf_from_name", "read_leaves"]

_NUMBERED_LEAF = re.compile(
    r"(GH_HL|GHLB\w*) Leaf (\d{1,3})(?:\.\d+)?(?:JPG)?(?: Day [\d.]+)?", re.IGNORECASE
)
_CAMERA_NUMBER = re.compile(r"RS_HL (\d+)")
# First and last camera number of each run in which four photographs in a row show one healthy tomato leaf.
_FOURS = ((3, 642), (9622, 9997))


def read_leaves(path: Path) -> dict[str, str]:
    """Return the leaf by ``<Class>/<file>`` where the table names one; nothing without a table."""
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as source:
            return {row["file"]: row["leaf"] for row in csv.DictReader(source) if row["leaf"]}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
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
    """Return the leaf that a file name gives away, or None; see the text of this module for how sure that is.

    Examples
    --------
    >>> leaf_from_name("Tomato___healthy", "000146ff___GH_HL Leaf 259.1.JPG")
    'Tomato___healthy:gh_hl leaf 259'
    >>> leaf_from_name("Tomato___healthy", "0031da2a___RS_HL 0105.JPG")
    'Tomato___healthy:rs_hl 103-106'
    >>> leaf_from_name("Pepper,_bell___healthy", "00100ffa___JR_HL 7886.JPG") is None
    True
    """
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
