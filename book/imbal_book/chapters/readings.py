"""What every chapter reads off its long frame, its verdicts and its paper.

A long frame has one row per run, readout and metric, with columns form, profile, dataset and value among others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from imbal_book.chapters import judged_on, number
from imbal_book.evidence.claims import Verdict, judge
from imbal_book.evidence.papers import Claim, Paper
from imbal_book.evidence.statistics import (
    Interval,
    detectable_difference,
    mean_interval,
    seeds_for_power,
    variance_components,
)
from imbal_book.evidence.verbs import PAIR, minus
from imbal_book.studies import PROFILES

__all__ = [
    "NOTHING",
    "ambiguity_table",
    "contrast",
    "glue_verdicts",
    "headline",
    "interval_text",
    "judge_forms",
    "level",
    "power_table",
    "prefer",
    "verdict_line",
]

#: The interval of something that was not run.
NOTHING = Interval(np.nan, np.nan, np.nan, 0, np.nan)


def prefer(frame: pd.DataFrame, profiles: Sequence[str]) -> pd.DataFrame:
    """Return, for each form and data set of a frame, the rows of the first profile that has any."""
    rank = frame["profile"].map({name: index for index, name in enumerate(profiles)})
    best = rank.groupby([frame["form"], frame["dataset"]]).transform("min")
    return frame[rank == best]


def level(cell: pd.DataFrame, readout: str, metric: str) -> Interval:
    """Return a readout's mean over the seeds of one cell with its 95 % interval; n is 0 where there is no record."""
    values = cell.loc[(cell["readout"] == readout) & (cell["metric"] == metric), "value"]
    return mean_interval(values) if len(values) else NOTHING


def contrast(cell: pd.DataFrame, a: str, b: str, metric: str) -> Interval:
    """Return readout ``a`` minus readout ``b`` in one cell, paired by seed; n is 0 where no seed has both."""
    pairs = minus(cell[(cell["metric"] == metric) & cell["readout"].isin([a, b])], b)
    return mean_interval(pairs.sort_values(list(PAIR))["value"]) if len(pairs) else NOTHING


def interval_text(here: Interval, *, scale: float = 100, digits: int = 1, sign: bool = False) -> str:
    """Return a mean with its interval as text, or that it was not attempted."""
    if not here.n:
        return "not attempted"
    return number(here.mean, here.low, here.high, scale=scale, digits=digits, sign=sign)


def judge_forms(claim: Claim, frame: pd.DataFrame, forms: Iterable[str]) -> list[Verdict]:
    """Return the verdict on a claim in each of its forms; a claim without parts has one.

    Smoke records are left out, for digits decide no claim. The data sets of one form may come from two profiles, but
    a verdict is about one protocol: the larger profile counts.
    """
    found: list[Verdict] = []
    frame = frame[frame["profile"] != "smoke"]
    for form in forms:
        if form not in claim.forms or (found and not found[-1].form):
            continue
        profiles = set(frame.loc[frame["form"] == form, "profile"])
        profile = next((p for p in reversed(PROFILES) if p in profiles), None)
        found.append(judge(claim, frame[frame["profile"] == profile], form=form))
    return found


def headline(found: Sequence[Verdict]) -> dict[str, Verdict]:
    """Return one verdict per claim: that of the form nearest to the paper which was attempted."""
    best: dict[str, Verdict] = {}
    for verdict in found:
        if verdict.claim not in best or best[verdict.claim].label == "not attempted":
            best[verdict.claim] = verdict
    return best


def verdict_line(found: Sequence[Verdict]) -> str:
    """Return the headline as one line of Markdown, every claim with its verdict and the grade of its evidence."""
    words = [
        f"{claim} *{verdict.word}*" + (f" ({verdict.grade}, n = {verdict.n})" if verdict.grade else "")
        for claim, verdict in headline(found).items()
    ]
    return f"Verdicts, from the network nearest to the paper that was run: {'; '.join(words)}."


def glue_verdicts(found: Sequence[Verdict]) -> None:
    """Keep the headline, and what it rests on, in the executed notebook: the landing page reads them there."""
    from myst_nb import glue  # of the extra "notebooks"

    best = headline(found)
    for claim, verdict in best.items():
        glue(f"verdict_{claim}", verdict.label, display=False)
        glue(f"grade_{claim}", f"{verdict.grade}, n = {verdict.n}" if verdict.grade else "", display=False)
    glue("judged_on", judged_on(best.values()), display=False)


def power_table(frame: pd.DataFrame, a: str, b: str, metric: str) -> pd.DataFrame:
    """Return what the pairs of a difference could have shown, and where its variance lies.

    Parameters
    ----------
    frame : DataFrame
        Long form of one form.
    a, b, metric : str
        Readout a minus readout b, in fractions.

    Returns
    -------
    DataFrame
        A row per data set and imbalance with two pairs or more: pairs, draws, standard deviation of the paired
        differences and the difference that so many pairs show with 80 % power (percentage points), the share of the
        variance that lies between draws, and the pairs that 5 and 2 points need.
    """
    rows = []
    differences = minus(frame[(frame["metric"] == metric) & frame["readout"].isin([a, b])], b)
    for (dataset, imbalance), cell in differences.groupby(["dataset", "imbalance"], sort=False):
        values = cell.set_index(["split_seed", "train_seed"])["value"].astype(float)
        sd = float(values.std())
        if not sd > 0:
            continue
        parts = variance_components(values)
        rows.append(
            {
                "data": dataset,
                "imbalance": imbalance,
                "pairs": len(values),
                "draws": parts.draws,
                "standard deviation": f"{100 * sd:.1f}",
                "seen with 80 % power": f"{100 * detectable_difference(sd, len(values)):.1f}",
                "share between draws": "unknown" if np.isnan(parts.share) else f"{100 * parts.share:.0f} %",
                "pairs for 5 points": seeds_for_power(sd, 0.05),
                "pairs for 2 points": seeds_for_power(sd, 0.02),
            }
        )
    return pd.DataFrame(rows)


def ambiguity_table(paper: Paper) -> pd.DataFrame:
    """Return what the paper leaves open and what was chosen, with where the choice is put to the test."""
    names = {"id": "", "topic": "open", "paper": "the paper", "chosen": "our choice", "ablated": "tested"}
    points = pd.DataFrame([dataclasses.asdict(point) for point in paper.ambiguities], columns=list(names))
    return points.fillna({"ablated": "no"}).rename(columns=names)
