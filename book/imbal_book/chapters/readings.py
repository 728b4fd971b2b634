"""What every chapter reads off its long frame, its verdicts and its paper.

A long frame has one row per run, readout and metric, with columns form, profile, dataset and value among others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.chapters import judged_on, number, numbers
from imbal_book.evidence.claims import Verdict, judge, settle
from imbal_book.evidence.papers import Claim, Paper
from imbal_book.evidence.rules import load_rules
from imbal_book.evidence.statistics import (
    detectable_difference,
    deviation_interval,
    seeds_for_power,
    variance_components,
)
from imbal_book.evidence.verbs import PAIR, minus, summarise
from imbal_book.studies import PROFILES

#: Data set -> how it is called in print.
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist5k": "digits"}
#: What an executed notebook keeps of a verdict, beside its parts.
GLUED = ("claim", "label", "word", "grade", "profile", "form", "explanation", "n", "draws", "models")


def prefer(frame: pd.DataFrame, profiles: Sequence[str]) -> pd.DataFrame:
    """Return, for each form and data set of a frame, the rows of the first profile that has any."""
    rank = frame["profile"].map({name: index for index, name in enumerate(profiles)})
    best = rank.groupby([frame["form"], frame["dataset"]]).transform("min")
    return frame[rank == best]


def in_order(frame: pd.DataFrame, **orders: Iterable[str]) -> pd.DataFrame:
    """Return the rows sorted by columns in turn: by a value's place in the order given, or by itself where it is ()."""
    ranks = {name: {value: place for place, value in enumerate(values)} for name, values in orders.items()}

    def rank(column: Any) -> Any:
        return column.map(ranks[column.name]) if ranks[column.name] else column

    return frame.sort_values(list(orders), key=rank, kind="stable")


def texts(
    rows: pd.DataFrame, words: Mapping[str, tuple[Any, ...]], by: Sequence[str], *, sign: bool = False
) -> pd.DataFrame:
    """Return `summarise` of each metric that has words (name, factor, digits ...), with column (its name) and text."""
    cells = summarise(rows[rows["metric"].isin(words)], [*by, "metric"])
    said = [words[metric] for metric in cells["metric"]]
    ends = cells[["mean", "low", "high"]].to_numpy()
    text = [
        number(*end, scale=scale, digits=digits, sign=sign)
        for end, (_, scale, digits, *_) in zip(ends, said, strict=True)
    ]
    return cells.assign(text=text, column=[name for name, *_ in said])


def wide(cells: pd.DataFrame, rows: Sequence[str], column: str, value: str) -> pd.DataFrame:
    """Return the values of one column as a table, rows and columns in the order of the cells."""
    return cells.set_index([*rows, column])[value].unstack(sort=False)


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


def verdicts(paper: Paper, frame: pd.DataFrame, deviation: float | None = None) -> list[Verdict]:
    """Return the verdict on every claim of a paper in every form, the form nearest to the paper first.

    ``frame`` is long, see :func:`judge_forms`; ``deviation`` is what a computation found for a claim that is an
    identity, which is not attempted without.
    """
    found = []
    for claim in paper.claims.values():
        if isinstance(load_rules().claims[claim.id], float):
            found.append(settle(claim, deviation))
        else:
            found += judge_forms(claim, frame, claim.forms)
    return found


def headline(found: Sequence[Verdict]) -> dict[str, Verdict]:
    """Return one verdict per claim: of the form nearest to the paper that has the pairs a cell needs to be decided.

    Where none has them, that of the nearest form which was attempted.
    """
    few = load_rules().pairs

    def behind(verdict: Verdict) -> int:
        return 2 if verdict.label == "not attempted" else int(0 < verdict.n < few)

    best: dict[str, Verdict] = {}
    for verdict in found:
        if verdict.claim not in best or behind(verdict) < behind(best[verdict.claim]):
            best[verdict.claim] = verdict
    return best


def headline_table(found: Sequence[Verdict], claims: Mapping[str, Claim]) -> pd.DataFrame:
    """Return the headline as a table: a row per claim, what was found, the grade of its evidence and the pairs."""
    best = headline(found)
    return pd.DataFrame(
        {
            "claim": [f"{name}. {claims[name].statement}" for name in best],
            "here": [verdict.word for verdict in best.values()],
            "evidence": [verdict.grade for verdict in best.values()],
            "pairs": [verdict.n or "" for verdict in best.values()],
        }
    )


def glue_verdicts(found: Sequence[Verdict]) -> None:
    """Keep the headline, with its parts and what it rests on, in the executed notebook.

    The landing page and the ledger of claims read them there; see `imbal_book.build.ledger`.
    """
    from myst_nb import glue  # of the extra "notebooks"

    best = headline(found).values()
    kept = [{name: getattr(v, name) for name in GLUED} | {"parts": v.parts.to_dict("records")} for v in best]
    glue("verdicts", json.dumps(kept, default=float), display=False)
    glue("judged_on", judged_on(best), display=False)


def power_table(
    frame: pd.DataFrame, a: str, b: str, metric: str, differences: Sequence[float] = (0.05, 0.02)
) -> pd.DataFrame:
    """Return what the pairs of readout ``a`` minus readout ``b`` could have shown, and where its variance lies.

    ``frame`` is of one form, the metric and the ``differences`` for which the pairs that they need are given are
    fractions.

    Returns
    -------
    DataFrame
        A row per data set and imbalance with two pairs or more: pairs, draws, standard deviation of the paired
        differences (with its 95 % interval where no two pairs share a draw) and the difference that so many pairs show
        with 80 % power (percentage points), the share of the variance that lies between draws, and the pairs that each
        of ``differences`` needs.
    """
    rows = []
    found = minus(frame[(frame["metric"] == metric) & frame["readout"].isin([a, b])], b)
    for (dataset, imbalance), cell in found.groupby(["dataset", "imbalance"], sort=False):
        values = cell.set_index(list(PAIR))["value"].astype(float)
        sd = float(values.std())
        if not sd > 0:
            continue
        parts, spread = variance_components(values), f"{100 * sd:.1f}"
        if parts.draws == parts.pairs:
            low, high = deviation_interval(sd, parts.pairs)
            spread += f" ({100 * low:.1f} to {100 * high:.1f})"
        rows.append(
            {
                "data": DATA.get(str(dataset), dataset),
                "imbalance": imbalance,
                "pairs": parts.pairs,
                "draws": parts.draws,
                "standard deviation": spread,
                "seen with 80 % power": f"{100 * detectable_difference(sd, parts.pairs):.1f}",
                "share between draws": "unknown" if np.isnan(parts.share) else f"{100 * parts.share:.0f} %",
                **{f"pairs for {100 * size:g} points": seeds_for_power(sd, size) for size in differences},
            }
        )
    return pd.DataFrame(rows)


def recalls(labels: pd.DataFrame) -> pd.DataFrame:
    """Return each label's recall for `pictures.figures.recall_by_label`; labels of CIFAR-100 in tens.

    ``labels`` is of a study's ``label_frame``, of one form and data set; imbalances and readouts keep their order.
    Columns imbalance, method, label (as printed), train_count, mean, low, high (within 0 to 1) and n.
    """
    width, by = (10 if labels["label"].max() > 9 else 1), ["imbalance", "readout", "first"]
    tens = labels.assign(first=labels["label"] // width * width, value=labels["recall"])
    tens = tens.groupby([*by, *PAIR], sort=False)[["value", "train_count"]].mean().reset_index()
    tens = tens.assign(group=tens.groupby(by, sort=False).ngroup()).sort_values(["group", *PAIR])
    found = summarise(tens.astype({"train_count": int}), [*by, "train_count"])
    names = [str(first) if width == 1 else f"{first}-{first + width - 1}" for first in found["first"]]
    return found.assign(method=found["readout"], label=names, **found[["low", "high"]].clip(0, 1))


def ends(values: pd.Series, form: str) -> str:
    """Return the smallest and the largest value as text, once where they are printed alike."""
    return " to ".join(dict.fromkeys(format(end, form) for end in (values.min(), values.max())))


def opening(cells: pd.DataFrame, verdict: Verdict) -> dict[str, str]:
    """Return the words of a page's first sentence: those of :func:`span`, and label, grade and why of a verdict."""
    why = verdict.reason or "The comparisons alone decide it."
    return span(cells) | {"label": verdict.word, "grade": verdict.grade or "none", "why": why}


def span(cells: pd.DataFrame) -> dict[str, str]:
    """Return what the differences in several cells of `evidence.verbs.summarise` say together, for a sentence.

    change, the smallest and the largest mean in points, of one cell its mean with the interval, "not run" without
    cells; cells, how many; pairs, the fewest and the most of a cell; above and below, in how many cells the whole
    interval lies on that side of 0.
    """
    said = numbers(cells, sign=True) if len(cells) == 1 else [ends(100 * cells["mean"], "+.1f")]
    return {
        "change": said[0] if len(cells) else "not run",
        "cells": str(len(cells)),
        "pairs": ends(cells["n"], "d") if len(cells) else "0",
        "above": str((cells["low"] > 0).sum()),
        "below": str((cells["high"] < 0).sum()),
    }


def ambiguity_table(paper: Paper) -> pd.DataFrame:
    """Return what the paper leaves open and what was chosen, with where the choice is put to the test."""
    names = {"id": "", "topic": "open", "paper": "the paper", "chosen": "our choice", "ablated": "tested"}
    points = pd.DataFrame([dataclasses.asdict(point) for point in paper.ambiguities])
    points["paper"] = (points["paper"] + " " + points["code"]).str.strip()
    return points[list(names)].fillna({"ablated": "no"}).rename(columns=names)
