"""Intervals, variance components and numbers of pairs: pure functions, numbers in and numbers out."""

from __future__ import annotations

import bisect
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

CONFIDENCE = 0.95


def sign_interval(signs: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a mean of signs: Clopper and Pearson's for the share of positive ones, ties half each.

    ``signs`` of shape (n,) are -1, 0 or 1; 0 is a tie. Clopper and Pearson (1934), The use of confidence or fiducial
    limits illustrated in the case of the binomial.
    """
    array = _finite(signs, "signs")
    n, positive, rest = len(array), float((array + 1).sum() / 2), (1 - confidence) / 2
    low = float(stats.beta.ppf(rest, positive, n - positive + 1)) if positive > 0 else 0.0
    high = float(stats.beta.ppf(1 - rest, positive + 1, n - positive)) if positive < n else 1.0
    return 2 * low - 1, 2 * high - 1


def ratio_of_deviations(
    a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    r"""Return the standard deviation of ``a`` over that of ``b``, paired samples, and its interval: (ratio, low, high).

    The interval inverts the test of Pitman (1939) and Morgan (1939): Var(a) = Var(b) if and only if a + b and a - b are
    uncorrelated. With r the correlation of a and b, the ratio of variances lies in

    .. math:: \hat\rho^2 \,(K \pm \sqrt{K^2 - 1}), \quad K = 1 + 2 (1 - r^2)\, t^2_{n-2} / (n - 2).

    It is (0, inf) where a deviation is 0.

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than 3 pairs, or a value is not finite.
    """
    left, right = _finite(a, "a"), _finite(b, "b")
    _check_share("confidence", confidence)
    if len(left) != len(right) or len(left) < 3:
        raise ValueError(f"a has {len(left)} values and b has {len(right)}; expected at least 3 pairs")
    sd_a, sd_b = float(left.std(ddof=1)), float(right.std(ddof=1))
    if sd_a == 0 or sd_b == 0:
        return (math.nan if sd_a == sd_b else math.inf if sd_a else 0.0), 0.0, math.inf
    n, r = len(left), stats.pearsonr(left, right).statistic
    k = 1 + 2 * (1 - r**2) * stats.t.ppf((1 + confidence) / 2, n - 2) ** 2 / (n - 2)
    factor = math.sqrt(k + math.sqrt(max(k * k - 1, 0.0)))
    return sd_a / sd_b, sd_a / sd_b / factor, sd_a / sd_b * factor


def deviation_interval(sd: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    r"""Return the interval of the standard deviation behind one that ``n`` normal values gave; (0, inf) for one value.

    .. math:: s \sqrt{(n - 1) / \chi^2_{n-1,\,(1 \pm c)/2}}
    """
    _check_share("confidence", confidence)
    if n < 2:
        return 0.0, math.inf
    ends = stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], n - 1)
    low, high = sd * np.sqrt((n - 1) / ends)
    return float(low), float(high)


def _power(n: int, effect: float) -> float:
    r"""Return the probability that the two-sided paired t test on n pairs rejects.

    With :math:`\delta` the effect in standard deviations, the statistic has a noncentral t distribution with n - 1
    degrees of freedom and noncentrality :math:`\sqrt n\, \delta`. Cohen (1988), "Statistical Power Analysis for the
    Behavioral Sciences", chapter 2.
    """
    quantile, shift = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1), math.sqrt(n) * effect
    if shift > 8 * quantile:  # certain, and beyond what the noncentral distribution is computed for
        return 1.0
    # far in the other tail scipy gives NaN for what is 0 in all digits that are added here
    wrong_sign = np.nan_to_num(stats.nct.cdf(-quantile, n - 1, shift))
    return float(stats.nct.sf(quantile, n - 1, shift) + wrong_sign)


def seeds_for_power(std: float, difference: float, *, power: float = 0.8) -> int:
    """Return how many pairs it takes to see a mean difference: that its interval leaves out 0 with this probability.

    ``std`` is the standard deviation of the paired differences, at least 0, in the unit of ``difference``, which is
    above 0. The power lies in (0, 1). A ValueError names what is out of its range.
    """
    _check_share("power", power)
    if not 0 <= std < math.inf or not 0 < difference < math.inf:
        raise ValueError(
            f"std is {std} and difference is {difference}, expected finite numbers, the second above 0"
        )
    if std == 0:
        return 2
    # one pair has no test, and so no power; more pairs have more
    numbers = range(2, 2**60)
    enough = bisect.bisect_left(numbers, power, key=lambda n: _power(n, difference / std))
    return numbers[enough]


def detectable_difference(sd: float, pairs: int, *, power: float = 0.8) -> float:
    """Return the mean difference, in the unit of ``sd``, that so many pairs show: the inverse of `seeds_for_power`.

    A ValueError says that there are fewer than 2 pairs, or another argument is out of its range.
    """
    if not 0 < sd < math.inf or pairs < 2 or not 0 < power < 1:
        raise ValueError(f"sd {sd}, pairs {pairs}, power {power}: expected sd > 0, pairs >= 2, 0 < power < 1")
    effect = optimize.brentq(lambda effect: _power(pairs, effect) - power, 1e-6, 1e3)
    return sd * float(effect)


def mean_squares(values: pd.Series) -> tuple[float, float]:
    """Return the mean squares between draws and within them, of values indexed by split_seed and train_seed.

    Both are NaN where there is one draw only, or none with two trainings.
    """
    groups = values.groupby(level="split_seed")
    sizes, means, n = groups.size(), groups.mean(), len(values)
    if not 1 < len(sizes) < n:
        return math.nan, math.nan
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (len(sizes) - 1)
    within = float(((values - groups.transform("mean")) ** 2).sum()) / (n - len(sizes))
    return between, within


class Components(NamedTuple):
    """Variances between draws of the split and between trainings of one draw; NaN where they cannot be told apart."""

    draw: float
    training: float
    draws: int
    pairs: int

    @property
    def share(self) -> float:
        """The part of their sum that lies between draws, in [0, 1]; NaN where either is unknown."""
        total = self.draw + self.training
        return self.draw / total if total > 0 else math.nan


def variance_components(values: pd.Series) -> Components:
    r"""Return the variance components of values, such as paired differences, indexed by split_seed and train_seed.

    The estimates of a one-way random-effects analysis of variance: :math:`\sigma_t^2 = MS_w` and
    :math:`\sigma_d^2 = \max(0, (MS_b - MS_w) / n_0)` with :math:`n_0 = (N - \sum n_d^2 / N) / (D - 1)`. Searle, Casella
    and McCulloch (1992), "Variance Components", chapter 3.
    """
    sizes, n = values.groupby(level="split_seed").size(), len(values)
    between, within = mean_squares(values)
    if math.isnan(within):
        return Components(math.nan, math.nan, len(sizes), n)
    per_draw = (n - float((sizes**2).sum()) / n) / (len(sizes) - 1)
    return Components(max(0.0, (between - within) / per_draw), within, len(sizes), n)


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (n,) with n at least 1")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return array


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}, expected a number between 0 and 1")
