"""How large an effect is beside its spread: the seeds that it takes, and what others published."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from imbal_book.chapters.complement_places import FIRST, Place, at
from imbal_book.chapters.readings import contrast, interval_text, level
from imbal_book.evidence.papers.reference import Spread, published_spread, published_values
from imbal_book.evidence.statistics import Interval, deviation_interval, seeds_for_power

__all__ = ["power_table", "published_table"]


def power_table(
    frame: pd.DataFrame,
    where: Sequence[Place],
    *,
    differences: Sequence[float] = (0.005, 0.01, 0.02),
    assumed: Sequence[float] = (0.0025, 0.005, 0.01, 0.02),
    power: float = 0.8,
) -> pd.DataFrame:
    """Return how many seeds it takes to see a difference in accuracy, by the spread of paired differences.

    Parameters
    ----------
    frame : DataFrame
    where : sequence of Place
        Each with at least two pairs gives rows of our own spread.
    differences, assumed : sequence of float
        True differences and assumed standard deviations, fractions.
    power : float, default=0.8
    """
    rows = []
    for place in where:
        for arm in FIRST[1:]:
            gain = contrast(at(frame, place), arm, "CE", "accuracy")
            if gain.n > 1:
                low, high = deviation_interval(gain.sd, gain.n)
                spread = f"{100 * gain.sd:.2f} ({100 * low:.2f} to {100 * high:.2f})"
                rows.append((f"{place.title()}: {arm} - CE", spread, str(gain.n), gain.sd))
    rows += [("assumed", f"{100 * sd:g}", "", sd) for sd in assumed]
    table = pd.DataFrame(
        rows, columns=["spread of", "standard deviation of paired differences (points)", "pairs", "sd"]
    )
    for difference in differences:
        needed = [seeds_for_power(sd, difference, power=power) for sd in table["sd"]]
        table[f"seeds for {100 * difference:g} points"] = [f"{n:,}" for n in needed]
    return table.drop(columns="sd")


#: Readout -> what the published numbers call it.
_PUBLISHED = {
    "CE": "CE",
    "Focal": "Focal",
    "Class-balanced": "Class-balanced",
    "LDAM-DRW": "LDAM-DRW",
    "Balanced softmax": "Balanced softmax",
    "Logit adjustment": "Logit adjustment",
    "CE, logit adjusted": "Logit adjustment, post-hoc",
    "CE, tau-normalised": "tau-normalisation",
    "CE, classifier re-trained": "cRT",
}


def published_table(
    frame: pd.DataFrame, reference: pd.DataFrame, cells: Sequence[tuple[str, int]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return where our ResNet-32 of profile paper falls inside the published spread.

    Parameters
    ----------
    frame : DataFrame
    reference : DataFrame
        Of `imbal_book.evidence.papers.reference.reference_numbers`.
    cells : sequence of (dataset, ratio)
        Of the exponential imbalance.

    Returns
    -------
    table : DataFrame
        A row per readout and cell, in percent: the published spread, ours, and where ours lies.
    drawn : DataFrame
        For `imbal_book.pictures.figures.intervals`, fractions: ours with the best test epoch as its ``paper``, and
        the published numbers as its ``values``.
    """
    ours = frame[(frame["profile"] == "paper") & (frame["form"] == "ResNet-32")]
    rows, drawn = [], []
    for dataset, ratio in cells:
        place = Place("ResNet-32", dataset, f"exponential {ratio}")
        title, cell = place.title(network=False), at(ours, place)
        for readout, method in _PUBLISHED.items():
            spread = published_spread(reference, method, dataset, ratio)
            if not spread.n:
                continue
            last, best = (level(cell, readout, metric) for metric in ("accuracy", "best_test_accuracy"))
            rows.append(
                {
                    "place": title,
                    "method": method,
                    "published (%)": f"{100 * spread.low:.1f} to {100 * spread.high:.1f}",
                    "results": spread.n,
                    "here, last epoch (%)": interval_text(last),
                    "it lies": _side(last, spread),
                    "here, best test epoch (%)": f"{100 * best.mean:.1f}" if best.n else "",
                    "n": last.n,
                }
            )
            values = tuple(published_values(reference, method, dataset, ratio))
            drawn.append((title, method, readout, last.mean, last.low, last.high, last.n, best.mean, values))
    names = ["panel", "row", "method", "mean", "low", "high", "n", "paper", "values"]
    return pd.DataFrame(rows), pd.DataFrame(drawn, columns=names)


def _side(here: Interval, published: Spread) -> str:
    if not here.n:
        return ""
    if published.holds(here.mean):
        return "inside"
    return "below" if here.mean < published.low else "above"
