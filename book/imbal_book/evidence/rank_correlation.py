"""Rank correlation over classes with another quantity held fixed, and its interval over classes and draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

# What is left of ranks that the others explain wholly is their rounding.
_NOTHING = 1e-9
#: Fewest different classes of a resample: three ranks and one that is held leave a correlation of 1 or -1.
_FEWEST = 4


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike | None = None) -> np.ndarray:
    r"""Return the rank correlation of x and y with another quantity, z, held fixed; without one Spearman's own.

    The Pearson correlation of what is left of the ranks of x and y after a linear regression on the ranks of z,

    .. math:: (r_{xy} - r_{xz} r_{yz}) / \sqrt{(1 - r_{xz}^2)(1 - r_{yz}^2)}

    with Spearman's :math:`r`. Equal values share the mean of their ranks; a z that is constant holds nothing. From
    finite values (..., n), one for each class, say, to (...), in [-1, 1]; NaN where x or y is constant, or z explains
    one of them wholly.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is not finite.
    """
    sides = [np.asarray(values, dtype=np.float64) for values in (x, y, *(() if given is None else (given,)))]
    if len({side.shape for side in sides}) > 1 or sides[0].ndim < 1 or not sides[0].shape[-1]:
        raise ValueError(
            f"x, y and given must have one shape, (..., n), got {[side.shape for side in sides]}."
        )
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("x, y and given must be finite: leave out a class that has no value.")
    left, right, *held = (stats.rankdata(side, axis=-1) - (side.shape[-1] + 1) / 2 for side in sides)
    for other in held:
        square = (other**2).sum(axis=-1, keepdims=True)
        weight = other / np.where(square > 0, square, 1)
        left, right = (side - (side * other).sum(axis=-1, keepdims=True) * weight for side in (left, right))
    lengths = [np.sqrt((side**2).sum(axis=-1)) for side in (left, right)]
    some = np.minimum(*lengths) > _NOTHING * sides[0].shape[-1] ** 1.5
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.clip((left * right).sum(axis=-1) / (lengths[0] * lengths[1]), -1.0, 1.0)
    return np.where(some, found, np.nan)


def rank_contrast(a: ArrayLike, b: ArrayLike, of: ArrayLike) -> np.ndarray:
    """Return the correlation of a with ``of`` at equal b, less that of b with ``of`` at equal a; in [-2, 2], (...)."""
    return partial_spearman(a, of, b) - partial_spearman(b, of, a)


@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """A statistic of runs, and what resampled classes and draws make of its mean.

    ``values`` of the runs where it is defined, by split_seed and train_seed; sorted ``replicates``; the ``bounds`` of
    what the statistic can be.
    """

    values: pd.Series
    replicates: np.ndarray
    bounds: tuple[float, float]

    @property
    def mean(self) -> float:
        """Return the mean over runs; NaN without any."""
        return float(self.values.mean())

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the quantiles of the replicates; all that is possible where these are too few for the confidence."""
        rest = (1 - confidence) / 2
        if rest * len(self.replicates) < 1:
            return self.bounds
        low, high = np.quantile(self.replicates, [rest, 1 - rest])
        return float(low), float(high)


def bootstrap(
    statistic: Callable[..., np.ndarray],
    columns: pd.DataFrame,
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
    replicates: int = 2000,
    seed: int = 0,
) -> Bootstrapped:
    """Return the mean over runs of a statistic over classes, with resamples of the classes and of the draws.

    Every resample takes as many classes, the same for all runs, and as many draws of the split, with all of their runs,
    both with replacement. So its spread is that of other classes and other draws, and never leaves what the statistic
    can be. A resample with fewer than four different classes is taken again, one without any value left out.

    Parameters
    ----------
    statistic : callable
        From arrays of shape (..., n), one for each column, to one of shape (...); NaN where undefined.
    columns : DataFrame
        Indexed by split_seed, train_seed and the class. A class of which a run lacks a value is left out.
    bounds, replicates, seed
        What the statistic can be, and the resamples: the same records have the same interval.

    Raises
    ------
    ValueError
        If fewer than four classes have a value in every run.

    References
    ----------
    Owen, A. B. (2007). "The pigeonhole bootstrap": crossed factors are resampled each for itself.
    """
    wide = columns.astype(float).unstack(columns.index.names[-1])
    arrays = np.stack([wide[name].to_numpy() for name in map(str, columns)])
    arrays = arrays[:, :, np.isfinite(arrays).all(axis=(0, 1))]
    classes = arrays.shape[-1]
    if classes < _FEWEST:
        raise ValueError(
            f"{classes} classes have a value in each of {len(wide)} runs: expected {_FEWEST} or more."
        )
    generator = np.random.default_rng(seed)
    chosen = generator.integers(classes, size=(replicates, classes))
    while (few := np.array([len(set(row)) < _FEWEST for row in chosen.tolist()])).any():
        chosen[few] = generator.integers(classes, size=(few.sum(), classes))
    draws, of_draw = np.unique(wide.index.get_level_values("split_seed"), return_inverse=True)
    times = generator.multinomial(len(draws), np.full(len(draws), 1 / len(draws)), size=replicates)
    values = statistic(*arrays[:, :, chosen].swapaxes(1, 2))
    weights = np.where(np.isfinite(values), times[:, of_draw], 0)
    total = weights.sum(axis=1)
    means = (np.nan_to_num(values) * weights).sum(axis=1)[total > 0] / total[total > 0]
    of_runs = pd.Series(statistic(*arrays), wide.index, dtype=float).dropna()
    return Bootstrapped(of_runs, np.sort(means), bounds)
