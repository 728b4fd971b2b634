"""Judging a claim: each part in each cell holds, fails or stays open, and the label follows by logic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from imbal_book.evidence.rules import Gate, Part, Rules
from imbal_book.evidence.statistics import pitman_morgan

__all__ = ["COLUMNS", "gate_reason", "interval_over_draws", "judge_parts", "label_of", "settle_identity"]

#: One row per part and cell. The interval is that of Holm's procedure and decides the state: "holds", "fails", "open",
#: "not run". In the metric's unit; of a spread the natural logarithm of a ratio.
COLUMNS = tuple("part dataset imbalance pairs draws mean low high confidence side margin state".split())
_SEEDS = ["split_seed", "train_seed"]
_Interval = Callable[[float], tuple[float, float]]


def interval_over_draws(values: pd.Series, confidence: float) -> tuple[float, float]:
    """Return the interval of a mean of paired differences, some of which share a draw of the split.

    Where the mean square between draws exceeds that within them, the draws' means are the values, with as many
    degrees of freedom as draws less one; otherwise every pair is one. One value has an infinite interval.

    Parameters
    ----------
    values : Series of float, indexed by split_seed and train_seed
    confidence : float
        In (0, 1).
    """
    groups = values.groupby(level="split_seed")
    sizes, means = groups.size(), groups.mean()
    draws, n = len(sizes), len(values)
    used = values.to_numpy(dtype=float)
    if 1 < draws < n:
        between = float((sizes * (means - values.mean()) ** 2).sum()) / (draws - 1)
        within = float(((values - groups.transform("mean")) ** 2).sum()) / (n - draws)
        if between > within:
            used = means.to_numpy(dtype=float)
    if len(used) < 2:
        return -math.inf, math.inf
    half = stats.t.ppf((1 + confidence) / 2, len(used) - 1) * used.std(ddof=1) / math.sqrt(len(used))
    return float(used.mean() - half), float(used.mean() + half)


def judge_parts(
    parts: Sequence[Part], cells: Iterable[tuple[str, str]], frame: pd.DataFrame, form: str, rules: Rules
) -> pd.DataFrame:
    """Return the state of every part in every cell, with the columns of `COLUMNS`.

    Parameters
    ----------
    parts : sequence of Part
    cells : iterable of (dataset, imbalance)
        Those that the form can have.
    frame : DataFrame
        Long form of one profile; other forms may stand beside the one that is judged.
    form : str
    rules : Rules
    """
    rows: list[dict[str, object]] = []
    intervals: list[_Interval] = []
    for part in parts:
        for dataset, imbalance in cells:
            if part.dataset in (None, dataset):
                row, interval = _cell(part, dataset, imbalance, frame, form, rules.pairs)
                rows.append(row)
                intervals.append(interval)
    _step_down(rows, intervals, rules.confidence)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cell(
    part: Part, dataset: str, imbalance: str, frame: pd.DataFrame, form: str, fewest: int
) -> tuple[dict[str, object], _Interval]:
    here = frame[frame["dataset"] == dataset]

    def pairs_of(name: str, kind: str) -> pd.DataFrame:
        rows = here[(here["form"] == name) & (here["imbalance"] == kind) & (here["metric"] == part.metric)]
        wide = rows[rows["readout"].isin([part.a, part.b])].pivot(
            index=_SEEDS, columns="readout", values="value"
        )
        return wide.reindex(columns=[part.a, part.b]).astype(float).dropna()

    pairs = pairs_of(form, imbalance)
    differences = pairs[part.a] - pairs[part.b]
    for name, kind in (
        (form, part.versus),
        (part.against_form and _beside(form, part.against_form), imbalance),
    ):
        if name and kind and (name, kind) != (form, imbalance):
            other = pairs_of(name, kind)
            differences = (differences - (other[part.a] - other[part.b])).dropna()
    mean = float(differences.mean()) if len(differences) else math.nan
    interval: _Interval = lambda confidence: interval_over_draws(differences, confidence)  # noqa: E731
    if part.compare == "sign":
        differences = differences.map(np.sign)
        interval = _sign_interval(differences.to_numpy(dtype=float))
        mean = float(differences.mean()) if len(differences) else math.nan
    elif part.compare == "spread":
        means = pairs.groupby(level="split_seed").mean()
        mean, interval = _spread(means[part.a].to_numpy(), means[part.b].to_numpy())
        differences = means[part.a]
    draws = differences.index.get_level_values("split_seed").nunique()
    state = "not run" if differences.empty else "open" if len(differences) < fewest else ""
    values = (part.part, dataset, imbalance, len(differences), draws, mean, math.nan, math.nan, math.nan)
    return dict(zip(COLUMNS, (*values, part.side, part.margin, state), strict=True)), interval


def _sign_interval(signs: np.ndarray) -> _Interval:
    """Return the interval of a mean of signs: Clopper and Pearson's for the share of positive ones, ties half each."""
    n, positive = len(signs), float((signs + 1).sum() / 2)

    def interval(confidence: float) -> tuple[float, float]:
        rest = (1 - confidence) / 2
        low = float(stats.beta.ppf(rest, positive, n - positive + 1)) if positive > 0 else 0.0
        high = float(stats.beta.ppf(1 - rest, positive + 1, n - positive)) if positive < n else 1.0
        return 2 * low - 1, 2 * high - 1

    return interval


def _beside(form: str, other: str) -> str:
    """Return the name of the form beside it: "net, batch 16", or "net (timm's start)"."""
    return f"{form} {other}" if other.startswith("(") else f"{form}, {other}"


def _spread(a: np.ndarray, b: np.ndarray) -> tuple[float, _Interval]:
    """Return the logarithm of the ratio of standard deviations, and its interval by the Pitman-Morgan test."""
    if len(a) < 3:
        return math.nan, lambda _: (-math.inf, math.inf)
    test = pitman_morgan(a, b)

    def interval(confidence: float) -> tuple[float, float]:
        low, high = (math.log(end) if end > 0 else -math.inf for end in test.interval(confidence))
        return low, high

    return (math.log(test.ratio) if 0 < test.ratio < math.inf else math.nan), interval


def _state(side: str, margin: float, low: float, high: float) -> str:
    """Return what an interval says of a part: "holds", "fails" or "open"; see ``parts`` in the rules."""
    inside = -margin < low and high < margin
    holds, fails = {
        "above": (low > margin, high < 0),
        "below": (high < -margin, low > 0),
        "no_worse": (low > -margin, high < -margin),
        "equal": (inside, low > margin or high < -margin),
        "differs": (low > 0 or high < 0, inside),
    }[side]
    return "holds" if holds else "fails" if fails else "open"


def _step_down(rows: list[dict[str, object]], intervals: list[_Interval], confidence: float) -> None:
    """Fill in intervals and states by Holm's procedure: the surest cell first, each at the confidence of its rank.

    After the first cell that stays open all others do, and their intervals have its confidence.
    """
    waiting = [index for index, row in enumerate(rows) if not row["state"]]
    surest = sorted(waiting, key=lambda index: _p_value(rows[index], intervals[index]))
    left, stopped = len(waiting), False
    for index in surest:
        row, level = rows[index], 1 - (1 - confidence) / left
        row["low"], row["high"] = intervals[index](level)
        row["confidence"] = level
        row["state"] = "open" if stopped else _state(*_rule(row), *intervals[index](level))
        stopped = stopped or row["state"] == "open"
        left -= not stopped
    for index, row in enumerate(rows):
        if row["state"] == "open" and not math.isfinite(float(str(row["confidence"]))):
            row["low"], row["high"] = intervals[index](confidence)
            row["confidence"] = confidence


def _rule(row: dict[str, object]) -> tuple[str, float]:
    return str(row["side"]), float(str(row["margin"]))


def _p_value(row: dict[str, object], interval: _Interval) -> float:
    """Return the smallest error at which the interval decides the part either way, to 2**-40."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        decided = _state(*_rule(row), *interval(1 - middle)) != "open"
        low, high = (low, middle) if decided else (middle, high)
    return high


def label_of(states: Sequence[str]) -> str:
    """Return the label that follows from the states of all parts in all cells."""
    if not states or set(states) == {"not run"}:
        return "not attempted"
    if "fails" in states:
        return "fails"
    return "holds" if set(states) == {"holds"} else "undecided"


def settle_identity(deviation: float | None, allowed: float) -> tuple[str, str]:
    """Return label and reason of an identity, from the largest deviation that a computation found."""
    if deviation is None:
        return "not attempted", "The computation that settles it was not run."
    if not deviation >= 0:
        raise ValueError(f"deviation is {deviation}, expected a number of at least 0")
    text = (
        f"In a computation the two sides differ by at most {deviation:.1e}; rounding explains {allowed:.0e}."
    )
    return ("holds" if deviation <= allowed else "fails"), text


def gate_reason(gate: Gate, frame: pd.DataFrame, printed: Callable[[str, str], float | None]) -> str:
    """Return why the baseline gate is not passed, or "" where it is or where nothing of it was published.

    Parameters
    ----------
    gate : Gate
    frame : DataFrame
        Long form of one profile.
    printed : callable
        From data set and imbalance to the level that the paper prints for the gate's readout, a fraction or None.
    """
    rows = frame[
        (frame["form"] == gate.form) & (frame["readout"] == gate.readout) & (frame["metric"] == gate.metric)
    ]
    for key, cell in rows.groupby(["dataset", "imbalance"], sort=False):
        dataset, imbalance = map(str, key)
        if gate.dataset not in (None, dataset) or gate.imbalance not in (None, imbalance):
            continue
        mean = float(cell["value"].astype(float).mean())
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
