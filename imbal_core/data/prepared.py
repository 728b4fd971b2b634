"""The prepared form of images: one npz per side with images, labels and class names.

It is written all or nothing, and checked whenever it is read.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core._checks.files import write_atomically

__all__ = ["UNREADABLE", "DatasetError", "check_arrays", "read_prepared", "write_npz"]

# What reading a damaged or foreign file raises.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class DatasetError(ValueError):
    """Images that cannot be used: missing, corrupt, of the wrong shape; the message names file and remedy."""


def read_prepared(
    path: Path, remedy: str, *, listing: str | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read a prepared npz and check it; with `listing`, it must have been made from exactly those files."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if listing is not None and str(stored["listing"]) != listing:
                raise DatasetError(f"{path}: made from other files")
            images, labels, class_names = stored["images"], stored["labels"], stored["class_names"]
    except DatasetError:
        raise
    except (*UNREADABLE, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: not a complete npz of images, labels and class_names ({error}); {remedy}"
        ) from error
    names = tuple(str(name) for name in class_names.ravel())
    check_arrays(path, images, labels, names, remedy)
    return images, labels.astype(np.int64), names


def check_arrays(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    remedy: str = "replace the file",
) -> None:
    """Raise unless the arrays are those of an image data set in which every class occurs."""
    problem = None
    num_classes = len(class_names)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        problem = f"expected images uint8 (N, H, W, 3), found {images.dtype} {images.shape}"
    elif labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        problem = f"expected {len(images)} integer labels, found {labels.dtype} {labels.shape}"
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


def write_npz(path: Path, **arrays: Any) -> None:
    """Write an npz all or nothing: other processes may read, or write the same, meanwhile."""
    write_atomically(path, lambda file: np.savez(file, **arrays))
