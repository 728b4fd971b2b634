"""From what a caller holds (list, array, tensor on any device) to a NumPy array whose content is checked."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def on_host(values: ArrayLike | Tensor) -> np.ndarray:
    """Return the values as a NumPy array of their own type; bfloat16, which NumPy lacks, becomes float32.

    It shares its memory with `values` where it can: do not write to it.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def checked_classes(
    name: str, values: ArrayLike | Tensor, num_classes: int, *, rows: tuple[int, str] | None = None
) -> np.ndarray:
    """Return class indices, integers of shape (N,) in [0, K), as int64; `name` is what an error calls them.

    ValueError for any other, for none at all, and with `rows` (how many, of what) unless there is one for each row.
    """
    indices = on_host(values)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape (N,), got {indices.dtype} {indices.shape}.")
    if len(indices) == 0:
        raise ValueError(f"{name} is empty: nothing to measure.")
    if indices.min() < 0 or indices.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in [0, {num_classes}), got values from {indices.min()} to {indices.max()}."
        )
    if rows is not None and len(indices) != rows[0]:
        raise ValueError(f"{name} must be {rows[0]}, one for each row of {rows[1]}, got {len(indices)}.")
    return indices.astype(np.int64)


def checked_features(
    values: ArrayLike | Tensor, *, name: str = "features", width: int | None = None
) -> np.ndarray:
    """Return real numbers of shape (N, D) on the CPU: float32, or float64 for float64 and integers.

    ValueError if the shape is another, D is not the `width` that is expected, or a value is NaN or infinite.
    """
    array = on_host(values)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must be real numbers of shape (N, D), got {array.dtype} of shape {array.shape}: flatten each "
            "instance."
        )
    if width is not None and array.shape[1] != width:
        raise ValueError(
            f"{name} have {array.shape[1]} units, expected {width}: take the same layer on both sides, and for "
            "classification embeddings the one that the classifier reads."
        )
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    found = array.astype(np.float32 if narrow else np.float64, copy=False)
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise ValueError(f"{name} hold NaN or infinity, first in row {row}: drop or repair such rows.")
    return found


def labelled_features(
    features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int, *, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return features as `checked_features`, and as `checked_classes` one class for each row; there may be no row."""
    values = checked_features(features, width=width)
    if not len(values) and not np.size(labels):
        return values, np.zeros(0, dtype=np.int64)
    return values, checked_classes("labels", labels, num_classes, rows=(len(values), "features"))


def checked_scores(labels: ArrayLike | Tensor, scores: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are of the rare class, bool (N,), and their scores, floating (N,), of two classes.

    Labels are 1 or True for the rare class, 0 or False for the other; scores are larger for likelier rare images.
    ValueError for other shapes or types, a score that is NaN or infinite, or a class without images.
    """
    rare, values = on_host(labels), on_host(scores)
    if rare.ndim != 1 or rare.dtype.kind not in "biu" or not np.isin(rare, (0, 1)).all():
        raise ValueError(
            f"labels must be 0 or 1, 1 for the rare class, of shape (N,), got {rare.dtype} of shape "
            f"{rare.shape}: pass labels == rare_class."
        )
    if values.shape != rare.shape or values.dtype.kind != "f":
        raise ValueError(
            f"scores must be floating-point of shape {rare.shape}, one for each label, got {values.dtype} "
            f"of shape {values.shape}: pass the column of the rare class."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores must be finite, got {int((~np.isfinite(values)).sum())} of {len(values)} that are not: "
            "a network that diverged has no scores, and the logarithm of a probability of 0 is no score."
        )
    rare = rare.astype(bool)
    if rare.all() or not rare.any():
        raise ValueError(
            f"both classes are needed, got {int(rare.sum())} images of the rare class and "
            f"{int((~rare).sum())} others."
        )
    return rare, values
