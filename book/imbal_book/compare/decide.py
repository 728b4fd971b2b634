"""From the scores of all remedies to what a reader should do, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imbal_book.compare.curve import Curve
from imbal_book.heads.remedies import PLAIN, Remedy
from imbal_book.heads.scores import LEVEL, Change, rare_classes
from imbal_book.heads.words import listed

__all__ = ["Decision", "decide", "with_more_images"]

#: Points of recall from which a price is spoken of, and by which a cheaper alternative must be cheaper.
_PRICE = 0.03
_CHEAPER = 0.05
#: Rare classes that are named one by one.
_MOST_NAMES = 3


@dataclass(frozen=True)
class Decision:
    """What to do.

    Attributes
    ----------
    remedy : str
        Key of the recommended remedy; that of the plain one if none is better beyond noise.
    sentence : str
        The answer, for a reader who knows no statistics.
    """

    remedy: str
    sentence: str


def decide(
    table: pd.DataFrame,
    by_validation: Change,
    recalls: Mapping[str, np.ndarray],
    counts: np.ndarray,
    measured: np.ndarray,
    classes: Sequence[str],
    remedies: Mapping[str, Remedy],
    *,
    metric: str,
    portable: Sequence[str],
) -> Decision:
    """Return the recommendation.

    Parameters
    ----------
    table : DataFrame
        As `imbal_book.heads.scores.compare_with_plain`.
    by_validation : Change
        Of the remedy that validation chooses, as of `imbal_book.compare.measured.Measured`. A
        remedy is recommended if this one is better than plain, or one of the table by Holm's p value.
    recalls : mapping of str to ndarray of shape (K,)
        Mean recall of each class over the repeated splits, by remedy.
    counts, measured : ndarray of shape (K,)
        Images of each class, and whether it is measured.
    classes : sequence of str
    remedies : mapping of str to Remedy
    metric : str
        How the metric is called.
    portable : sequence of str
        Remedies that can be saved as a model.
    """
    better = table[(table["change"] > 0) & table.index.isin(portable) & (table.index != PLAIN)]
    helps = (by_validation.mean > 0 and by_validation.p < LEVEL) or bool((better["p"] < LEVEL).any())
    if better.empty or not helps:
        return Decision(PLAIN, _nothing(table, counts, measured, classes, remedies, metric))
    best = str(better.index[0])
    row = {key: float(better[key][best]) for key in ("change", "low", "high")}
    rare = rare_classes(counts) & measured
    gain = f"{metric} rises by {_points(row['change'])} ({_points(row['low'])} to {_points(row['high'])})"
    sentence = f"{remedies[best].advice}: "
    if rare.any() and not rare[measured].all():
        before, after = (float(recalls[name][rare].mean()) for name in (PLAIN, best))
        names = [name for name, is_rare in zip(classes, rare, strict=True) if is_rare]
        named = listed(names, "'") if len(names) <= _MOST_NAMES else f"the {len(names)} rare classes"
        sentence += f"the share of images found in {named} goes from {before:.0%} to {after:.0%}"
        common = np.flatnonzero(~rare & measured)
        worst, price = _price(recalls, best, common)
        sentence += f", at the price of {_points(price)} on {classes[worst]!r}" if price >= _PRICE else ""
        sentence += _cheaper(better, recalls, remedies, best, price, common, rare)
        return Decision(best, f"{sentence}; {gain}.")
    return Decision(best, f"{sentence}{gain}.")


def with_more_images(decision: Decision, curves: Sequence[Curve], classes: Sequence[str]) -> Decision:
    """Return the decision with the class of which more images would help most, where that is beyond noise."""
    helped = [
        curve
        for curve in curves
        if curve.doubling.p < LEVEL / len(curves) and curve.doubling.mean >= _CHEAPER
    ]
    if not helped:
        return decision
    best = max(helped, key=lambda curve: curve.doubling.mean)
    change = best.doubling
    bought = (
        f"more images of {classes[best.label]!r}: when its training images went from {best.images[-2]} to "
        f"{best.images[-1]}, the share of them found rose by {_points(change.mean)} ({_points(change.low)} to "
        f"{_points(change.high)}); if that goes on, {best.images[-1]} more buy as much again, and less if it flattens"
    )
    if decision.remedy == PLAIN:
        return Decision(PLAIN, f"Collect {bought}. {decision.sentence}")
    return Decision(decision.remedy, f"{decision.sentence} Beside that, collect {bought}.")


def _price(recalls: Mapping[str, np.ndarray], name: str, common: np.ndarray) -> tuple[int, float]:
    """Return the common class that loses most, and what it loses (a fraction)."""
    lost = (recalls[PLAIN] - recalls[name])[common]
    return int(common[lost.argmax()]), float(lost.max())


def _cheaper(
    better: pd.DataFrame,
    recalls: Mapping[str, np.ndarray],
    remedies: Mapping[str, Remedy],
    best: str,
    price: float,
    common: np.ndarray,
    rare: np.ndarray,
) -> str:
    """Return the words about a remedy of the same tie group that costs the common classes clearly less."""
    tied = better.index[(better["tie"] == better.loc[best, "tie"]) & (better.index != best)]
    prices = {str(name): _price(recalls, str(name), common)[1] for name in tied}
    if not prices or min(prices.values()) > price - _CHEAPER:
        return ""
    name = min(prices, key=lambda key: prices[key])
    costs = f"costs {_points(prices[name])}" if prices[name] >= _PRICE else "costs no common class much"
    return f" ({remedies[name].name} {costs} and reaches {recalls[name][rare].mean():.0%})"


def _nothing(
    table: pd.DataFrame,
    counts: np.ndarray,
    measured: np.ndarray,
    classes: Sequence[str],
    remedies: Mapping[str, Remedy],
    metric: str,
) -> str:
    others = table[table.index != PLAIN]
    change, low, high = (float(others[key].iloc[0]) for key in ("change", "low", "high"))
    sentence = (
        "Train as usual: no remedy differs from plain training beyond noise here. "
        f"{metric[0].upper()}{metric[1:]} is {float(table['score'][PLAIN]):.0%}"
    )
    if change <= 0:
        return f"{sentence}, and none of {len(others)} remedies raised it."
    fewest = int(np.where(measured, counts, counts.max() + 1).argmin())
    return (
        f"{sentence}; the most promising of {len(others)} remedies, {remedies[str(others.index[0])].name}, changed it "
        f"by {_points(change)} ({_points(low)} to {_points(high)}), which so many remedies bring by chance as well: "
        f"more images would settle it, first of {classes[fewest]!r}, which has {counts[fewest]} to train on."
    )


def _points(fraction: float) -> str:
    value = 100 * fraction
    return f"{value:.1f} points" if abs(value) < 9.95 else f"{value:.0f} points"
