"""Matrices of numbers as short text, one line a row: what a record holds where a number a line would be too long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def pack_rows(values: ArrayLike, *, digits: int = 4) -> list[str]:
    """Return each row of an array (N, D) as text, its numbers with so many significant digits and spaces between them.

    An integer is kept whole, and NaN as ``nan``, which JSON's own numbers cannot be. ValueError for another shape.

    Examples
    --------
    >>> pack_rows([[0.123456, 20.0], [float("nan"), 3e-7]], digits=3)
    ['0.123 20', 'nan 3e-07']
    """
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"values must have shape (N, D), got {array.shape}.")
    form = "d" if array.dtype.kind in "iu" else f".{digits}g"
    # adding 0 makes of a negative zero, which would be read as a whole number, a plain one
    return [" ".join(format(number + 0, form) for number in row) for row in array.tolist()]


def unpack_rows(rows: Sequence[str]) -> np.ndarray:
    """Return the numbers of `pack_rows`, (N, D): int64 if all are whole and written so, else float64.

    ValueError if the rows differ in length, or hold something else.
    """
    parts = [row.split() for row in rows]
    if len(lengths := {len(part) for part in parts}) > 1:
        raise ValueError(f"rows must be of one length, got {sorted(lengths)}.")
    whole = all(word.lstrip("-").isdecimal() for part in parts for word in part)
    return np.array(parts).astype(np.int64 if whole else np.float64)
