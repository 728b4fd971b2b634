"""Features and class indices as the accumulators over classes read them: checked once, then piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.arrays import checked_classes

__all__ = ["Features", "check_features", "class_indices", "pieces_by_group", "read_rows"]

Features: TypeAlias = np.ndarray | Tensor

# Values in a piece: 1 MiB in float32, so that all readings of it but the first come from the CPU's cache.
_PIECE_VALUES = 2**18


def check_features(features: ArrayLike | Tensor, *, name: str = "features", width: int | None) -> Features:
    """Return features of shape (N, D), a tensor or an array, of which no value has been read.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D)
        Real numbers; on any device.
    name : str, default="features"
        For the messages.
    width : int or None
        The D that is expected, if that is known.

    Raises
    ------
    ValueError
        If the shape is not (N, D), or the values are not real numbers.
    """
    array: Any = features.detach() if isinstance(features, Tensor) else np.asarray(features)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (N, D), got {tuple(array.shape)}: flatten each instance.")
    real = not array.is_complex() if isinstance(array, Tensor) else array.dtype.kind in "fiu"
    if not real or array.dtype == torch.bool:
        raise ValueError(f"{name} must be real numbers, got {array.dtype}.")
    if width is not None and array.shape[1] != width:
        raise ValueError(
            f"{name} have {array.shape[1]} units, expected {width}: take the same layer each time, and for "
            "classification embeddings the one that the classifier reads."
        )
    return array


def read_rows(features: Features, rows: np.ndarray, *, name: str = "features") -> np.ndarray:
    """Return the given rows on the CPU: float32, or float64 for float64 and integers.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    if isinstance(features, Tensor):
        part = features[torch.from_numpy(rows).to(features.device)]
        wide = torch.float32 if part.is_floating_point() and part.dtype.itemsize <= 4 else torch.float64
        values = part.to("cpu", wide).numpy()
    else:
        narrow = features.dtype.kind == "f" and features.dtype.itemsize <= 4
        values = features[rows].astype(np.float32 if narrow else np.float64, copy=False)
    if not np.isfinite(values).all():
        first = int(rows[~np.isfinite(values).all(axis=1)][0])
        raise ValueError(f"{name} hold NaN or infinity, first in row {first}: drop or repair such rows.")
    return values


def class_indices(values: ArrayLike | Tensor, *, name: str, count: int, num_classes: int) -> np.ndarray:
    """Return one class index for each of `count` rows, int64 in [0, num_classes).

    Raises
    ------
    ValueError
        If there are not as many, there is none, a value is no integer, or a class is unknown.
    """
    indices = checked_classes(name, values, num_classes)
    if len(indices) != count:
        raise ValueError(f"{name} must be {count}, one for each row of features, got {len(indices)}.")
    return indices


def pieces_by_group(groups: np.ndarray, width: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (group, indices of some of its rows), the groups in order and each row once.

    Parameters
    ----------
    groups : ndarray of shape (N,), integer
    width : int
        Units of a row: a piece holds about a mebibyte of float32.
    """
    most = max(1, _PIECE_VALUES // width)
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    for group, start, stop in zip(present, starts, [*starts[1:], len(groups)], strict=True):
        for first in range(start, stop, most):
            yield int(group), order[first : min(first + most, stop)]
