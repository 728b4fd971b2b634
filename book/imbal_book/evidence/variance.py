"""How much of the variance lies between draws and how much between trainings, and what a number of pairs can show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from scipy import optimize

from imbal_book.evidence.statistics import CONFIDENCE, power_of_pairs

__all__ = ["Components", "detectable_difference", "variance_components"]


@dataclass(frozen=True)
class Components:
    """Variances between draws of the split and between trainings of one draw, with the numbers of both.

    ``share`` is the part of their sum that lies between draws, in [0, 1]; NaN where either is unknown.
    """

    draw: float
    training: float
    draws: int
    pairs: int

    @property
    def share(self) -> float:
        """Return the share of the draws."""
        total = self.draw + self.training
        return self.draw / total if total > 0 else math.nan


def variance_components(values: pd.Series) -> Components:
    r"""Return the variance components of values of several draws with several trainings each.

    The estimates of a one-way random-effects analysis of variance: :math:`\sigma_t^2 = MS_w` and
    :math:`\sigma_d^2 = \max(0, (MS_b - MS_w) / n_0)` with :math:`n_0 = (N - \sum n_d^2 / N) / (D - 1)`.

    Parameters
    ----------
    values : Series of float, indexed by split_seed and train_seed
        Such as paired differences.

    Returns
    -------
    Components
        NaN for both variances where there is one draw only, or none with two trainings.

    References
    ----------
    Searle, S. R., Casella, G., McCulloch, C. E. (1992), "Variance Components", chapter 3.
    """
    groups = values.groupby(level="split_seed")
    sizes, means = groups.size(), groups.mean()
    draws, n = len(sizes), len(values)
    if draws < 2 or draws == n:
        return Components(math.nan, math.nan, draws, n)
    within = float(((values - groups.transform("mean")) ** 2).sum()) / (n - draws)
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (draws - 1)
    per_draw = (n - float((sizes**2).sum()) / n) / (draws - 1)
    return Components(max(0.0, (between - within) / per_draw), within, draws, n)


def detectable_difference(
    sd: float, pairs: int, *, power: float = 0.8, confidence: float = CONFIDENCE
) -> float:
    """Return the mean difference that so many pairs show with this power, in the unit of ``sd``.

    Parameters
    ----------
    sd : float
        Standard deviation of the paired differences, above 0.
    pairs : int
        At least 2.
    power : float, default=0.8
    confidence : float, default=0.95
        Of the two-sided paired t test, see `imbal_book.evidence.statistics.seeds_for_power`.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    if not 0 < sd < math.inf or pairs < 2 or not 0 < power < 1:
        raise ValueError(f"sd {sd}, pairs {pairs}, power {power}: expected sd > 0, pairs >= 2, 0 < power < 1")

    def short_of(effect: float) -> float:
        return power_of_pairs(pairs, effect, confidence) - power

    return sd * float(optimize.brentq(short_of, 1e-6, 1e3))
