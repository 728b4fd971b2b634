"""Features and their classes, checked once and read on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.arrays import checked_classes, on_host

__all__ = ["checked_features", "labelled_features", "split_by_class"]


def checked_features(
    values: ArrayLike | Tensor, *, name: str = "features", width: int | None = None
) -> np.ndarray:
    """Return features on the CPU, (N, D): float32, or float64 for float64 and integers.

    Parameters
    ----------
    values : array-like or Tensor of shape (N, D)
        Real numbers; on any device. An array of the right type is not copied.
    name : str, default="features"
        For the messages.
    width : int, optional
        The D that is expected.

    Raises
    ------
    ValueError
        If the shape is not (N, D), the values are not real numbers, or one is NaN or infinite.
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
    """Return features as `checked_features` and one class in [0, num_classes) for each row, int64 (N,).

    Raises
    ------
    ValueError
        As `checked_features`; or if there are not as many labels as rows, or one is no class.
    """
    values = checked_features(features, width=width)
    if not len(values) and not np.size(labels):
        return values, np.zeros(0, dtype=np.int64)
    codes = checked_classes("labels", labels, num_classes)
    if len(codes) != len(values):
        raise ValueError(f"labels must be {len(values)}, one for each row of features, got {len(codes)}.")
    return values, codes


def split_by_class(
    features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int
) -> list[np.ndarray]:
    """Return the features of each class, num_classes arrays (n, D) float64; errors are those of `labelled_features`."""
    values, codes = labelled_features(features, labels, num_classes)
    return [values[codes == label].astype(np.float64) for label in range(num_classes)]
