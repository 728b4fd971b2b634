"""Rank correlation with another quantity held fixed, within runs and over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imbal_book.evidence.statistics import CONFIDENCE, Interval, mean_interval

__all__ = ["mean_partial_spearman", "partial_spearman"]

# What is left of ranks that the others explain wholly is their rounding.
_NOTHING = 1e-9


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    r"""Return the rank correlation of x and y with one or more other quantities held fixed.

    The Pearson correlation of what is left of the ranks of x and y after a linear regression on the ranks of the
    others; for one other, z,

    .. math:: (r_{xy} - r_{xz} r_{yz}) / \sqrt{(1 - r_{xz}^2)(1 - r_{yz}^2)}

    with Spearman's :math:`r`. Equal values share the mean of their ranks.

    Parameters
    ----------
    x, y : array-like of shape (n,)
    given : array-like of shape (n,) or (n, m)
        A row with a NaN, here or in x or y, is left out.

    Returns
    -------
    float
        In [-1, 1]; NaN where fewer rows than m + 3 are left, or `given` explains x or y wholly, as it does a
        constant.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    others = np.asarray(given, dtype=np.float64)
    others = others[:, None] if others.ndim == 1 else others
    if left.ndim != 1 or left.shape != right.shape or others.ndim != 2 or len(others) != len(left):
        raise ValueError(
            "x, y and given must be of one length, (n,), (n,) and (n,) or (n, m), got "
            f"{left.shape}, {right.shape} and {np.asarray(given).shape}."
        )
    rows = np.isfinite(left) & np.isfinite(right) & np.isfinite(others).all(axis=1)
    if rows.sum() < others.shape[1] + 3:
        return float("nan")
    ranks = stats.rankdata(np.column_stack([left, right, others])[rows], axis=0)
    ranks -= ranks.mean(axis=0)
    solution = np.linalg.lstsq(ranks[:, 2:], ranks[:, :2], rcond=None)[0]
    rest = ranks[:, :2] - ranks[:, 2:] @ solution
    lengths = np.linalg.norm(rest, axis=0)
    if (lengths <= _NOTHING * len(rest) ** 1.5).any():
        return float("nan")
    return float(np.clip(rest[:, 0] @ rest[:, 1] / lengths.prod(), -1.0, 1.0))


def mean_partial_spearman(
    x: ArrayLike, y: ArrayLike, given: ArrayLike, confidence: float = CONFIDENCE
) -> Interval:
    """Return the mean over runs of `partial_spearman` within each, with its Student-t interval over runs.

    Parameters
    ----------
    x, y, given : array-like of shape (R, n)
        A row is a run, with one value for each class, say. Runs without a correlation are left out.
    confidence : float, default=0.95

    Raises
    ------
    ValueError
        If the shapes differ, or no run has a correlation.
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in (x, y, given)]
    if arrays[0].ndim != 2 or len({array.shape for array in arrays}) > 1:
        raise ValueError(
            f"x, y and given must have one shape, (R, n), got {[array.shape for array in arrays]}."
        )
    found = np.array([partial_spearman(*row) for row in zip(*arrays, strict=True)])
    found = found[np.isfinite(found)]
    if len(found) == 0:
        raise ValueError("no run has a correlation: its classes are too few, or all alike.")
    interval = mean_interval(found, confidence)
    if interval.n == 1:
        return interval
    low, high = np.clip([interval.low, interval.high], -1.0, 1.0)
    return Interval(interval.mean, float(low), float(high), interval.n, interval.sd)
