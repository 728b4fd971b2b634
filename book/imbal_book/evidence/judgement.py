"""Judging a claim: each part in each cell holds, fails or stays open, and the label follows by logic."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from imbal_book.evidence.rank_correlation import bootstrap, rank_contrast
from imbal_book.evidence.rules import Gate, Part, Rules
from imbal_book.evidence.statistics import (
    mean_squares,
    ratio_of_deviations,
    sign_interval,
    variance_components,
)

#: One row per part and cell. The interval is that of Holm's procedure and decides the state: "holds", "fails", "open",
#: "not run". In the metric's unit; of a spread the natural logarithm of a ratio. ``sd`` is the standard deviation of
#: the paired differences, ``share`` the part of their variance that lies between draws; NaN where there is none.
COLUMNS = tuple(
    "part metric compare dataset imbalance pairs draws mean low high confidence sd share side margin state".split()
)
_SEEDS = ["split_seed", "train_seed"]


@dataclass
class _Cell:
    """A part in a cell: its row, and its interval at any confidence."""

    row: dict[str, Any]
    interval: Callable[[float], tuple[float, float]]

    def state(self, confidence: float) -> str:
        """Return what the interval says: "holds", "fails" or "open"; see ``parts`` in the rules."""
        margin, (low, high) = self.row["margin"], self.interval(confidence)
        inside = -margin < low and high < margin
        holds, fails = {
            "above": (low > margin, high < 0),
            "below": (high < -margin, low > 0),
            "no_worse": (low > -margin, high < -margin),
            "equal": (inside, low > margin or high < -margin),
            "differs": (low > 0 or high < 0, inside),
        }[self.row["side"]]
        return "holds" if holds else "fails" if fails else "open"

    def p_value(self) -> float:
        """Return the smallest error at which the interval decides the part either way, to 2**-40."""
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.state(1 - middle) == "open" else (low, middle)
        return high

    def settle(self, confidence: float, state: str) -> None:
        """Fill in the interval at this confidence, and the state."""
        low, high = self.interval(confidence)
        self.row |= {"low": low, "high": high, "confidence": confidence, "state": state}


def interval_over_draws(values: pd.Series) -> Callable[[float], tuple[float, float]]:
    """Return the interval, at any confidence, of a mean of paired differences indexed by split_seed and train_seed.

    Where the mean square between draws exceeds that within them, the draws' means are the values, with as many
    degrees of freedom as draws less one; otherwise every pair is one. One value has an infinite interval.
    """
    between, within = mean_squares(values)
    used = values.groupby(level="split_seed").mean() if between > within else values
    n, mean, error = len(used), float(used.mean()), float(used.std()) / math.sqrt(max(len(used), 1))

    def interval(confidence: float) -> tuple[float, float]:
        if n < 2:
            return -math.inf, math.inf
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
        return mean - half, mean + half

    return interval


def judge_parts(
    parts: Sequence[Part], cells: Iterable[tuple[str, str]], frame: pd.DataFrame, form: str, rules: Rules
) -> pd.DataFrame:
    """Return the state of every part in every cell, with the columns of `COLUMNS`.

    The states are found by Holm's procedure: the surest cell first, each at the confidence of its rank. After the first
    that stays open all others do, and their intervals have its confidence. ``cells`` (data set, imbalance) are those
    that the form can have; ``frame`` is long and of one profile, other forms may stand beside the one that is judged.
    """
    found = [
        _cell(part, dataset, imbalance, frame, form)
        for part in parts
        for dataset, imbalance in cells
        if part.dataset in (None, dataset)
    ]
    waiting = [cell for cell in found if cell.row["pairs"] >= rules.pairs]
    left, stopped = len(waiting), False
    for cell in sorted(waiting, key=_Cell.p_value):
        confidence = 1 - (1 - rules.confidence) / left
        state = "open" if stopped else cell.state(confidence)
        cell.settle(confidence, state)
        stopped = stopped or state == "open"
        left -= not stopped
    for cell in found:
        if 0 < cell.row["pairs"] < rules.pairs:
            cell.settle(rules.confidence, "open")
    return pd.DataFrame([cell.row for cell in found], columns=list(COLUMNS))


def _cell(part: Part, dataset: str, imbalance: str, frame: pd.DataFrame, form: str) -> _Cell:
    here = frame[(frame["dataset"] == dataset) & (frame["metric"] == part.metric)]

    def pairs_of(name: str, kind: str) -> pd.DataFrame:
        rows = here[(here["form"] == name) & (here["imbalance"] == kind)]
        rows = rows[rows["readout"].isin([part.a, part.b])]
        wide = rows.pivot(index=_SEEDS, columns="readout", values="value")
        return wide.reindex(columns=[part.a, part.b]).astype(float).dropna()

    pairs = pairs_of(form, imbalance)
    values = pairs[part.a] - pairs[part.b]
    other = (_beside(form, part.against_form), part.versus or imbalance)
    if other != (form, imbalance):
        beside = pairs_of(*other)
        values = (values - (beside[part.a] - beside[part.b])).dropna()
    if part.compare == "rank":
        values, mean, interval = _ranks(part, frame, (dataset, imbalance, form))
    elif part.compare == "spread":
        means = pairs.groupby(level="split_seed").mean()
        values = means[part.a]
        mean, interval = _spread(values, means[part.b])
    else:
        values = values.map(np.sign) if part.compare == "sign" else values
        mean = float(values.mean()) if len(values) else math.nan
        signs = functools.partial(sign_interval, values)
        interval = signs if part.compare == "sign" else interval_over_draws(values)
    draws = values.index.get_level_values("split_seed").nunique()
    plain = part.compare == "mean" and len(values) > 1
    row: dict[str, Any] = dict.fromkeys(COLUMNS, math.nan)
    row |= {name: getattr(part, name) for name in ("part", "metric", "compare", "side", "margin")}
    row |= {"dataset": dataset, "imbalance": imbalance, "pairs": len(values), "draws": draws, "mean": mean}
    if plain:
        row |= {"sd": float(values.std()), "share": variance_components(values).share}
    return _Cell(row | {"state": "not run"}, interval)


def _ranks(
    part: Part, frame: pd.DataFrame, place: tuple[str, str, str]
) -> tuple[pd.Series, float, Callable[[float], tuple[float, float]]]:
    """Return each run's contrast of rank correlations over classes where it is defined, their mean and its interval."""
    here = frame[(frame[["dataset", "imbalance", "form"]] == [*place]).all(axis=1)]
    names = [part.a, part.b, str(part.of)]
    here = here[here["readout"].isin(names) & here["metric"].str.startswith(f"{part.metric} ")]
    if here.empty:
        nothing = pd.Series(dtype=float, index=pd.MultiIndex.from_tuples([], names=_SEEDS))
        return nothing, math.nan, lambda _: (-2.0, 2.0)
    wide = here.pivot(index=[*_SEEDS, "metric"], columns="readout", values="value")
    found = bootstrap(rank_contrast, wide[names], bounds=(-2.0, 2.0))
    return found.values, found.mean, found.interval


def _beside(form: str, other: str | None) -> str:
    """Return the name of the form beside it: "net, batch 16", or "net (timm's start)"."""
    return form if not other else f"{form} {other}" if other.startswith("(") else f"{form}, {other}"


def _spread(a: pd.Series, b: pd.Series) -> tuple[float, Callable[[float], tuple[float, float]]]:
    """Return the logarithm of the ratio of standard deviations, and its interval by the Pitman-Morgan test."""

    def logarithms(confidence: float) -> list[float]:
        found = ratio_of_deviations(a, b, confidence)
        return [math.log(end) if end > 0 else -math.inf for end in found]

    if len(a) < 3:
        return math.nan, lambda _: (-math.inf, math.inf)
    mean = logarithms(0.5)[0]
    return (mean if math.isfinite(mean) else math.nan), lambda c: (logarithms(c)[1], logarithms(c)[2])


def label_of(states: Sequence[str]) -> str:
    """Return the label that follows from the states of all parts in all cells."""
    if set(states) <= {"not run"}:
        return "not attempted"
    if "fails" in states:
        return "fails"
    return "holds" if set(states) == {"holds"} else "undecided"


def gate_reason(gate: Gate, frame: pd.DataFrame, printed: Callable[[str, str], float | None]) -> str:
    """Return why the baseline gate is not passed, or "" where it is or where nothing of it was published.

    ``frame`` is long and of one profile; ``printed`` gives for a data set and an imbalance the level that the paper
    prints for the gate's readout, a fraction or None.
    """
    of = ("form", "readout", "metric", "dataset", "imbalance")
    wanted = {name: getattr(gate, name) for name in of if getattr(gate, name) is not None}
    rows = frame[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    means = rows.astype({"value": float}).groupby(["dataset", "imbalance"], sort=False)["value"].mean()
    for dataset, imbalance, mean in means.reset_index().itertuples(index=False):
        ends = [printed(dataset, imbalance) if end == "printed" else end for end in (gate.low, gate.high)]
        if None in ends:
            continue
        low, high = float(str(ends[0])) - gate.distance, float(str(ends[1])) + gate.distance
        if not low <= mean <= high:
            return (
                f"The plain arm ({gate.readout}) is at {mean:.3f} on {dataset} {imbalance}, outside of {low:.3f} to "
                f"{high:.3f} around the published level ({gate.source})."
            )
    return ""
