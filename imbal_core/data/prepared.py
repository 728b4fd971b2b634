"""The prepared form of images: one npz per side with images, labels, class names and, where known, groups.

It is written all or nothing, and checked whenever it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imbal_core._checks.files import regular, write_atomically
from imbal_core._checks.npz import read_arrays


class DatasetError(ValueError):
    """Images that cannot be used: missing, corrupt, of the wrong shape; the message names file and remedy."""


class Arrays(NamedTuple):
    """Images, uint8 (N, H, W, 3), labels, int64 (N,), the K class names, and groups, str (N,), or None."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None


def read_prepared(path: Path, remedy: str, *, listing: str | None = None) -> Arrays:
    """Read a prepared npz and check it; with `listing`, it must have been made from exactly those files."""
    try:
        stored = read_arrays(regular(path))
        names = tuple(map(str, stored["class_names"].ravel()))
        arrays = Arrays(stored["images"], stored["labels"], names, stored.get("groups"))
    except Exception as error:  # damage can fail in any layer of the readers
        raise DatasetError(
            f"{path}: not a complete npz of images, labels and class_names ({error}); {remedy}"
        ) from error
    if listing is not None and str(stored.get("listing")) != listing:
        raise DatasetError(f"{path}: made from other files")
    return checked(path, arrays, remedy)


def prepared_once(
    path: Path, name: str, make: Callable[[], Arrays], *, files: Sequence[Path] | None = None, how: str = ""
) -> Arrays:
    """Return what `make` returns, and leave it at `path`: a root that cannot be written is warned of.

    With `files`, what is there is read instead as long as their places, sizes and times, and `how`, are the same.
    """
    listing = {} if files is None else {"listing": _listing_digest(files, how)}
    if listing and path.exists():
        # A damaged or old cache is no error: the images themselves are at hand.
        with contextlib.suppress(DatasetError):
            return read_prepared(path, "", **listing)
    made = make()
    kept: dict[str, Any] = {key: part for key, part in made._asdict().items() if part is not None}
    try:
        write_atomically(path, lambda file: np.savez(file, **kept, **listing))  # type: ignore[arg-type]
    except OSError as error:
        warnings.warn(f"{path}: could not be written ({error}); {name} is made anew each time", stacklevel=3)
    return made


def _listing_digest(files: Sequence[Path], how: str) -> str:
    """Return the SHA-256 of places, sizes and times of files, which changes when one of them is touched."""
    digest = hashlib.sha256(how.encode())
    for file in files:
        state = file.stat()
        line = f"{file.resolve().as_posix()}\t{state.st_size}\t{state.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # a file's name need not be UTF-8
    return digest.hexdigest()


def checked(path: Path, arrays: Arrays, remedy: str) -> Arrays:
    """Return the arrays with labels as int64; raise unless they are of images in which every class occurs."""
    images, labels, class_names, groups = arrays
    problem = None
    num_classes = len(class_names)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        problem = f"expected images uint8 (N, H, W, 3), found {images.dtype} {images.shape}"
    elif labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        problem = f"expected {len(images)} integer labels, found {labels.dtype} {labels.shape}"
    elif groups is not None and groups.shape != labels.shape:
        problem = f"expected {len(labels)} groups, found {groups.shape}"
    elif num_classes < 2:
        problem = f"expected at least 2 classes, found {num_classes}"
    elif len(labels) == 0:
        problem = "holds no images"
    elif labels.min() < 0 or labels.max() >= num_classes:
        problem = f"expected labels from 0 to {num_classes - 1}, found {labels.min()} to {labels.max()}"
    else:
        empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
        if len(empty):
            problem = f"no images of class {empty[0]} ({class_names[empty[0]]!r})"
    if problem:
        raise DatasetError(f"{path}: {problem}; {remedy}")
    return arrays._replace(labels=labels.astype(np.int64))
