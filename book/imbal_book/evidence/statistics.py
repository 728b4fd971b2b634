"""Intervals and tests of paired differences over seeds.

Every function is pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "CONFIDENCE",
    "Interval",
    "PitmanMorgan",
    "bonferroni",
    "deviation_interval",
    "holm",
    "mean_interval",
    "paired",
    "paired_difference",
    "pitman_morgan",
    "power_of_pairs",
    "seeds_for_power",
]

CONFIDENCE = 0.95
_SEEDS = ("split_seed", "train_seed")


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, the number of values and their standard deviation (NaN for one value)."""

    mean: float
    low: float
    high: float
    n: int
    sd: float


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    r"""Return the mean of ``values`` with its Student-t interval.

    .. math:: \bar x \pm t_{n-1,\,(1+c)/2}\; s / \sqrt n

    One value has an infinite interval: nothing is known about its spread.

    Parameters
    ----------
    values : array-like of shape (n,)
    confidence : float, default=0.95
        In (0, 1).

    Raises
    ------
    ValueError
        If there is no value, one is not finite, or the confidence is not in (0, 1).
    """
    array = _finite(values, "values")
    _check_confidence(confidence)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1, math.nan)
    sd = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, sd)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of ``a - b`` with its Student-t interval; element i of both belongs to one pair.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        See :func:`paired` for how they are aligned by seed.
    confidence : float, default=0.95

    Raises
    ------
    ValueError
        If the lengths differ, or a value is not finite.
    """
    left, right = _finite(a, "a"), _finite(b, "b")
    _check_lengths(left, right)
    return mean_interval(left - right, confidence)


def paired(
    frame: pd.DataFrame, metric: str, arm_a: str, arm_b: str, on: Sequence[str] = _SEEDS
) -> pd.DataFrame:
    """Return the values of two readouts side by side, one row per pair that both have.

    Parameters
    ----------
    frame : DataFrame
        Long form with the columns ``on``, ``readout``, ``metric`` and ``value``.
    metric, arm_a, arm_b : str
        Which metric, and which two readouts.
    on : sequence of str
        What makes a pair; by default the seed of the split and that of the training.

    Returns
    -------
    DataFrame
        Columns ``a`` and ``b``, indexed by ``on``, sorted.

    Raises
    ------
    ValueError
        If a readout has two values for one pair, as when two models or data sets are mixed.
    """
    rows = frame[(frame["metric"] == metric) & frame["readout"].isin([arm_a, arm_b])]
    twice = rows.duplicated([*on, "readout"])
    if twice.any():
        row = rows[twice].iloc[0]
        place = ", ".join(f"{name} {row[name]}" for name in on)
        raise ValueError(
            f"readout {row['readout']!r} has two values of {metric!r} for {place}: "
            f"select one model and one cell before pairing"
        )
    wide = rows.pivot(index=list(on), columns="readout", values="value").reindex(columns=[arm_a, arm_b])
    return wide.set_axis(["a", "b"], axis=1).dropna().sort_index()


def bonferroni(cells: int, confidence: float = CONFIDENCE) -> float:
    """Return the confidence of each of ``cells`` intervals that hold together with ``confidence``."""
    _check_confidence(confidence)
    if cells < 1:
        raise ValueError(f"cells is {cells}, expected at least 1")
    return 1 - (1 - confidence) / cells


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p values of a family, in the given order.

    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = _finite(p_values, "p_values")
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p_values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class PitmanMorgan:
    """The comparison of two paired standard deviations.

    Attributes
    ----------
    ratio : float
        Standard deviation of ``a`` over that of ``b``.
    t, p : float
        Student's t with n - 2 degrees of freedom, and the two-sided p value.
    correlation : float
        Between ``a`` and ``b``.
    n : int
    """

    ratio: float
    t: float
    p: float
    correlation: float
    n: int

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        r"""Return the interval of the ratio of standard deviations, which inverts the test.

        .. math:: \hat\rho^2 \,(K \pm \sqrt{K^2 - 1}), \quad K = 1 + 2 (1 - r^2)\, t^2_{n-2} / (n - 2)

        for the ratio of variances; its roots are returned. (0, inf) where a deviation is 0.
        """
        _check_confidence(confidence)
        if not 0 < self.ratio < math.inf:
            return 0.0, math.inf
        quantile = float(stats.t.ppf((1 + confidence) / 2, self.n - 2))
        k = 1 + 2 * (1 - self.correlation**2) * quantile**2 / (self.n - 2)
        factor = math.sqrt(k + math.sqrt(max(k * k - 1, 0.0)))
        return self.ratio / factor, self.ratio * factor


def pitman_morgan(a: ArrayLike, b: ArrayLike) -> PitmanMorgan:
    """Return the test that the variances of two paired samples are equal.

    Var(a) = Var(b) if and only if a + b and a - b are uncorrelated, so their correlation is tested.
    Pitman (1939), A note on normal correlation; Morgan (1939), A test for the significance of the
    difference between the two variances in a sample from a normal bivariate population.

    Parameters
    ----------
    a, b : array-like of shape (n,), n >= 3

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than 3 pairs, or a value is not finite.
    """
    left, right = _finite(a, "a"), _finite(b, "b")
    _check_lengths(left, right)
    n = len(left)
    if n < 3:
        raise ValueError(f"there are {n} pairs; the test needs at least 3")
    sd_a, sd_b = float(left.std(ddof=1)), float(right.std(ddof=1))
    if sd_a == 0 or sd_b == 0:
        ratio = math.nan if sd_a == sd_b else (0.0 if sd_a == 0 else math.inf)
        return PitmanMorgan(ratio, math.nan, math.nan, math.nan, n)
    total, difference = left + right, left - right
    if total.std() == 0 or difference.std() == 0:
        r = 0.0
    else:
        r = float(np.clip(np.corrcoef(total, difference)[0, 1], -1, 1))
    t = math.copysign(math.inf, r) if abs(r) == 1 else r * math.sqrt((n - 2) / (1 - r * r))
    p = float(2 * stats.t.sf(abs(t), n - 2))
    return PitmanMorgan(sd_a / sd_b, t, p, float(np.corrcoef(left, right)[0, 1]), n)


def deviation_interval(sd: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    r"""Return the interval of the standard deviation behind one that ``n`` values gave.

    .. math:: s \sqrt{(n - 1) / \chi^2_{n-1,\,(1 \pm c)/2}}

    For normal values. One value says nothing: (0, inf).

    Parameters
    ----------
    sd : float
        At least 0; NaN for one value, as in :class:`Interval`.
    n : int
    confidence : float, default=0.95
    """
    _check_confidence(confidence)
    if n < 2:
        return 0.0, math.inf
    ends = stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], n - 1)
    low, high = sd * np.sqrt((n - 1) / ends)
    return float(low), float(high)


def seeds_for_power(
    std: float, difference: float, *, power: float = 0.8, confidence: float = CONFIDENCE
) -> int:
    r"""Return how many pairs it takes to see a mean difference, the smallest number of seeds with this power.

    "See" means that the two-sided paired t test rejects no difference at ``1 - confidence``, which is the same
    as that the interval of :func:`paired_difference` leaves out 0. With :math:`\delta` the difference and
    :math:`\sigma` the standard deviation of paired differences, the statistic of n pairs has a noncentral t
    distribution with n - 1 degrees of freedom and noncentrality :math:`\sqrt n\, \delta / \sigma`.

    Parameters
    ----------
    std : float
        Standard deviation of the paired differences, in the unit of ``difference``; at least 0.
    difference : float
        Above 0.
    power : float, default=0.8
        The probability of seeing it, in (0, 1).
    confidence : float, default=0.95

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Cohen, J. (1988). "Statistical Power Analysis for the Behavioral Sciences", chapter 2.
    """
    _check_confidence(confidence)
    if not 0 < power < 1:
        raise ValueError(f"power is {power}, expected a number between 0 and 1")
    if not 0 <= std < math.inf or not 0 < difference < math.inf:
        raise ValueError(
            f"std is {std} and difference is {difference}, expected finite numbers, the second above 0"
        )
    if std == 0:
        return 2
    low, high = 1, 2  # one pair has no test, and so no power
    while power_of_pairs(high, difference / std, confidence) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of_pairs(middle, difference / std, confidence) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def power_of_pairs(n: int, effect: float, confidence: float) -> float:
    """Return the probability that the two-sided test on n pairs rejects, at an effect in standard deviations."""
    quantile = stats.t.ppf((1 + confidence) / 2, n - 1)
    shift = math.sqrt(n) * effect
    if shift > 8 * quantile:  # certain, and beyond what the noncentral distribution is computed for
        return 1.0
    wrong_sign = stats.nct.cdf(-quantile, n - 1, shift)
    # far in that tail scipy gives NaN for what is 0 in all digits that are added here
    return float(stats.nct.sf(quantile, n - 1, shift) + np.nan_to_num(wrong_sign))


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (n,) with n at least 1")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return array


def _check_lengths(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b has {len(b)}; a pair needs one of each")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
