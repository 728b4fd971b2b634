"""What is in a folder of images: a table of files with their classes, sides and groups, and what is wrong with it.

Nothing is guessed: a file that is left out is named with the reason, and what has no sensible reading is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from imbal_core.data.image_folders import SIDES, scan, shown, visible_files

__all__ = ["CompareError", "Listing", "check_images", "duplicate_groups", "list_images"]

#: Usual name of a side -> where its images count: validation images are drawn anew, from train and these alike.
_SIDES = {name: "train" if side == "validation" else side for name, side in SIDES.items()}
#: Bits of 64 that the perceptual hashes of near duplicates may differ in.
NEAR_BITS = 2


class CompareError(ValueError):
    """The folder cannot be compared; the message says what came, what was expected, and what to do."""


@dataclass
class Listing:
    """A table of files and the sentences about it.

    Attributes
    ----------
    files : DataFrame
        A row per file: ``path`` (Path), ``name`` (its place below the folder), ``label`` (class name), ``side``
        ("train", "test", or "" where the folder has no sides), ``group`` ("" for none).
    problems : list of str
        What is wrong with the folder, and what was done about it.
    """

    files: pd.DataFrame
    problems: list[str] = field(default_factory=list)


def list_images(source: Path) -> Listing:
    """Return the files of class folders, of train/(val/)test folders, or of a CSV of path, label, group and side.

    Raises
    ------
    CompareError
        If there is nothing there, or fewer than two classes.
    """
    source = source.expanduser()
    if source.is_file():
        listing = _from_table(source)
    elif source.is_dir():
        listing = _from_folder(source)
    else:
        raise CompareError(
            f"there is no folder or CSV file {str(source)!r}: give the folder that holds one sub-folder of images "
            "for each class, or a CSV with the columns path and label"
        )
    classes = sorted(listing.files["label"].unique())
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no class"
        raise CompareError(
            f"{source}: found {found}, at least 2 are needed: put the images of each class into a folder named "
            "after it"
        )
    return listing


def _from_folder(root: Path) -> Listing:
    entries, loose = scan(root, Counter())
    sides = {entry: _SIDES[entry.name.lower()] for entry in entries if entry.name.lower() in _SIDES}
    if len(sides) == 1 and any(scan(entry, Counter())[1] for entry in sides):
        sides = {}  # a class that is called like a side
    rows, problems = [], []
    if sides and "train" not in sides.values():
        raise CompareError(
            f"{root}: has {next(iter(sides)).name}/ but no train/: add the training images as train/CLASS/"
        )
    for entry in entries if sides else ():
        if entry not in sides:
            beside = " and ".join(sorted(side.name for side in sides))
            problems.append(
                f"the folder {entry.name!r} beside {beside} was left out: move it into one of them"
            )
    if sides:
        _name_loose(loose, problems)
    if any(SIDES[entry.name.lower()] == "validation" for entry in sides):
        problems.append(
            "the images of the validation folder were added to those of train: validation images are drawn from "
            "both, for every remedy alike"
        )
    if sides and "test" not in sides.values():
        problems.append("there is no folder test: test images are drawn from those of train")
        sides = dict.fromkeys(sides, "")
    for entry, side in (sides or {root: ""}).items():
        rows += _class_rows(root, entry, side, problems)
    return Listing(pd.DataFrame(rows, columns=["path", "name", "label", "side", "group"]), problems)


def _class_rows(
    root: Path, folder: Path, side: str, problems: list[str]
) -> list[tuple[Path, str, str, str, str]]:
    ignored: Counter[str] = Counter()
    classes, loose = scan(folder, ignored)
    _name_loose(loose, problems)
    rows = []
    for entry in classes:
        inner = {_SIDES.get(place.name.lower()): place.name for place in scan(entry, Counter())[0]}
        if {"train", "test"} <= inner.keys():
            raise CompareError(
                f"{shown(entry)}: holds {inner['train']}/ and {inner['test']}/, so it is a folder of classes and no "
                "class: give this folder itself"
            )
        files = visible_files(entry, ignored)
        label = shown(entry.name)
        if not files:
            problems.append(f"the class folder {label!r} is empty and was left out: add images or remove it")
        elif all(file.parent != entry for file in files):
            inside = ", ".join(sorted({shown(file.relative_to(entry).parts[0]) for file in files})[:3])
            raise CompareError(
                f"{shown(entry)}: holds only sub-folders ({inside}), no images of its own: give the folder whose "
                "sub-folders are the classes, move the images up, or give a CSV with the columns path, label and group"
            )
        rows += [(file, shown(file.relative_to(root).as_posix()), label, side, "") for file in files]
    if hidden := sum(count for name, count in ignored.items() if not name.startswith(".")):
        problems.append(f"{_count(hidden, 'file or folder', 'files or folders')} of the desktop left out")
    return rows


def _name_loose(loose: Sequence[Path], problems: list[str]) -> None:
    if loose:
        problems.append(
            f"{_count(len(loose), 'file')} outside the class folders left out, such as {shown(loose[0].name)!r}: move "
            "each image into the folder of its class"
        )


def _from_table(path: Path) -> Listing:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise CompareError(
            f"{path}: cannot be read as a CSV file ({error}): save it as comma-separated text in UTF-8, with the "
            "columns path, label and, where images belong together, group"
        ) from error
    missing = [name for name in ("path", "label") if name not in table]
    if missing:
        raise CompareError(
            f"{path}: has the columns {', '.join(map(repr, table.columns))}, but no "
            f"{' and no '.join(map(repr, missing))}: the first line must read path,label or path,label,group"
        )
    strange = set(table.get("side", pd.Series(dtype=str)).str.lower()) - {*_SIDES, ""}
    if strange:
        raise CompareError(f"{path}: the column side holds {min(strange)!r}: expected train, val or test")
    problems = []
    unlabelled = table["label"].str.strip() == ""
    if unlabelled.any():
        problems.append(f"{_count(int(unlabelled.sum()), 'row')} of the CSV without a label left out")
    table = table[~unlabelled].drop_duplicates("path")
    files = pd.DataFrame(
        {
            "path": [path.parent / name for name in table["path"]],
            "name": table["path"].to_numpy(),
            "label": table["label"].str.strip().to_numpy(),
            "side": table["side"].str.lower().map(lambda side: _SIDES.get(side, "")).to_numpy()
            if "side" in table
            else "",
            "group": table["group"].str.strip().to_numpy() if "group" in table else "",
        }
    )
    if (files["side"] == "").any() and (files["side"] != "").any():
        raise CompareError(f"{path}: some rows have a side and some have none: fill the column, or remove it")
    return Listing(files, problems)


def check_images(files: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Return the files that can be used, with a group for each; what is left out is added to `problems`.

    Parameters
    ----------
    files : DataFrame
        As of a `Listing`, with the columns that reading added: ``problem``, ``digest``, ``hash``, ``mode``, ``frames``.
    problems : list of str
        Sentences are appended.

    Returns
    -------
    DataFrame
        ``group`` is now an integer: files of one named group, and exact or near duplicates, share it.
    """
    broken = files[files["problem"] != ""]
    for row in broken.head(20).itertuples():
        problems.append(f"{row.name} was left out: {row.problem}")
    if len(broken) > 20:
        problems.append(f"{len(broken) - 20} more files were left out for such reasons")
    files = files[files["problem"] == ""]
    if files.empty:
        raise CompareError(
            "no file could be read as an image: "
            + (f"{broken.iloc[0]['name']}: {broken.iloc[0]['problem']}. " if len(broken) else "")
            + "compare needs still images such as JPEG or PNG; from videos, save single frames, with a CSV that "
            "names the video as their group"
        )
    files = _without_contradictions(files, problems)
    files = files.assign(group=duplicate_groups(files)).reset_index(drop=True)
    return _without_leaks(files, problems)


def _without_contradictions(files: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Return the files without those that lie in two classes; of equal files of one class on one side one stays."""
    labels = files.groupby("digest")["label"].transform("nunique")
    for _, same in files[labels > 1].groupby("digest", sort=False):
        names = " and ".join(same["name"].head(2))
        problems.append(
            f"{names} are the same image in different classes; all copies were left out: keep the right one"
        )
    files = files[labels == 1]
    repeated = files.duplicated(["digest", "side"])
    if repeated.any():
        example = files[repeated].iloc[0]["name"]
        problems.append(
            f"{_count(int(repeated.sum()), 'exact copy', 'exact copies')} of other images left out, such as {example}"
        )
    return files[~repeated]


def _without_leaks(files: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Return the files without training images whose group is also on the test side."""
    if (files["side"] == "").all():
        near = files["group"].value_counts()
        shared = int((near > 1).sum())
        if shared and files["group_name"].eq("").all():
            problems.append(
                f"{_count(shared, 'set')} of near-duplicate images found, {int(near[near > 1].sum())} images; each set "
                "was kept on one side of every split"
            )
        return files
    tested = files.loc[files["side"] == "test", "group"].unique()
    leaking = (files["side"] == "train") & files["group"].isin(tested)
    if leaking.any():
        example = files[leaking].iloc[0]["name"]
        problems.append(
            f"{_count(int(leaking.sum()), 'training image')} left out because a copy, a near duplicate or an image of "
            f"the same group is in test, such as {example}"
        )
    return files[~leaking].reset_index(drop=True)


def duplicate_groups(files: pd.DataFrame) -> np.ndarray:
    """Return a group number for each file, shape (N,), int64: equal for a named group and for near duplicates.

    Near duplicates are images of one class whose difference hashes (64 bits of which neighbouring areas are brighter)
    differ in at most `NEAR_BITS` bits; of groups that share an image one is made.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(files)
    ends = []
    named = files["group_name"].to_numpy()
    for name, same in pd.Series(np.arange(count)).groupby(named):
        if name:
            ends.append(np.column_stack([np.full(len(same), same.iloc[0]), same]))
    hashes = files["hash"].to_numpy(np.uint64)
    labels = files["label"].to_numpy()
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            bits = np.bitwise_count(hashes[part][:, None] ^ hashes[rows][None, :])
            first, second = np.nonzero(bits <= NEAR_BITS)
            ends.append(np.column_stack([part[first], rows[second]]))
    pairs = np.concatenate(ends)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
