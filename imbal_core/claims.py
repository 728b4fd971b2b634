"""Verdicts on a paper's claims, from paired differences over seeds.

Every function is pure: frames in, numbers and words out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from imbal_core.names import unknown_name
from imbal_core.papers import Cell, Claim, Contrast
from imbal_core.statistics import CONFIDENCE, Interval, bonferroni, mean_interval, paired, pitman_morgan

__all__ = ["LABELS", "MIN_PAIRS", "RULES", "Claim", "Verdict", "judge", "ledger"]

MIN_PAIRS = 3
SIZE = 0.5  # share of the paper's mean gain that a reproduction must reach

#: Label and condition, in the order in which they are tried; the book prints this table.
RULES = (
    ("not attempted", "There is no record of any cell that the claim speaks of."),
    ("inconclusive", f"A cell has fewer than {MIN_PAIRS} pairs."),
    (
        "contradicted",
        "The simultaneous interval of at least one cell (Bonferroni over all cells of the claim, 95 %) lies "
        "wholly on the wrong side of 0; for a claim about the average, the interval of the average does.",
    ),
    (
        "reproduced",
        "Every cell was run, the simultaneous interval of every cell lies wholly on the claimed side (for a "
        "claim about the average, the interval of the average), and the mean gain is at least half the "
        "paper's mean gain in the same cells, where the paper prints one.",
    ),
    (
        "direction only",
        "The above fails, but the average over cells, paired by seed, lies on the claimed side (95 %).",
    ),
    ("inconclusive", "None of these."),
)
LABELS = ("reproduced", "direction only", "inconclusive", "contradicted", "not attempted")
_COLUMNS = (
    "profile",
    "form",
    "dataset",
    "imbalance",
    "split_seed",
    "train_seed",
    "readout",
    "metric",
    "value",
)


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim.

    Attributes
    ----------
    claim : str
        Its id.
    label : str
        One of :data:`LABELS`.
    profile, form : str or None
        Of the records; None where there are none and nothing was asked for.
    n : int
        Pairs in the cell that has the fewest.
    cells : DataFrame
        One row per contrast and cell: contrast, dataset, imbalance, n, gain, low, high (simultaneous
        interval), paper (the gain that the paper prints, or NaN), side ("claimed", "wrong" or "open"). A
        gain counts in the claimed direction. Fractions; for a spread, the natural logarithm of the ratio
        of standard deviations.
    pooled : Interval or None
        The average over cells, paired by seed, 95 %.
    explanation : str
        One sentence built from the numbers.
    left_out : tuple of str
        Contrasts that this form cannot have.
    not_run : tuple of str
        Cells without records.
    """

    claim: str
    label: str
    profile: str | None
    form: str | None
    n: int
    cells: pd.DataFrame
    pooled: Interval | None
    explanation: str
    left_out: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()


def judge(
    claim: Claim, frame: pd.DataFrame, *, profile: str | None = None, form: str | None = None
) -> Verdict:
    """Return the verdict on a claim by the rules of :data:`RULES`.

    A claim is a family of contrasts (readout a minus readout b, a metric, a sign) over cells (data set and
    type of imbalance). Tried in this order:

    1. *not attempted*: no record of any needed cell.
    2. *inconclusive*: a cell has fewer than 3 pairs.
    3. *contradicted*: the simultaneous interval (Bonferroni over the cells, 95 %) of a cell lies wholly on
       the wrong side of 0; for a claim of kind "average", the pooled interval.
    4. *reproduced*: no cell lacks records, every simultaneous interval lies wholly on the claimed side
       (kind "average": the pooled one), and the mean gain is at least half the paper's in the same cells,
       where it prints any.
    5. *direction only*: the pooled paired difference (average over cells per seed, 95 %) lies wholly on
       that side.
    6. *inconclusive* otherwise.

    Claims of kind "spread" compare standard deviations over the draws of the split (values of several
    training seeds are averaged first) by the interval that inverts the Pitman-Morgan test; the pooled one
    compares the spread of the average over cells.

    Parameters
    ----------
    claim : Claim
    frame : DataFrame
        Long form: profile, form, dataset, imbalance ("A", "B", "C"), split_seed, train_seed, readout,
        metric, value.
    profile, form : str, optional
        Which records to judge by. Needed when the frame holds several.

    Raises
    ------
    ValueError
        If a column is missing, a smoke record is given, several profiles or forms remain, or the form is
        unknown.
    """
    chosen, profile, form = _select(claim, frame, profile, form)
    left_out, family, not_run = [], [], []
    for contrast in claim.contrasts:
        cells = [c for c in claim.cells if contrast.dataset in (None, c.dataset)]
        if form is not None and not {contrast.a, contrast.b} <= set(claim.forms[form].readouts):
            left_out.append(contrast.label())
            continue
        for cell in cells:
            if form is not None and cell.dataset not in claim.forms[form].datasets:
                continue
            pairs = _pairs(claim, contrast, cell, chosen)
            if pairs.empty:
                not_run.append(f"{contrast.label()} on {cell.dataset} {cell.imbalance}")
            else:
                family.append((contrast, cell, pairs))
    if not family:
        which = f"form {form!r}" if form else "any form"
        text = f"Not attempted: no record of {which} holds the readouts and cells of {claim.id}"
        text += f"; this form cannot have {', '.join(left_out)}." if left_out else "."
        return Verdict(
            claim.id, "not attempted", profile, form, 0, _table(claim, [], form), None, text,
            tuple(left_out), tuple(not_run),
        )  # fmt: skip
    table = _table(claim, family, form)
    pooled = _pool(claim, family)
    label, reason = _label(claim, table, pooled, bool(not_run))
    text = _explain(claim, table, pooled, label, reason, left_out, not_run)
    n = int(table["n"].min())
    return Verdict(claim.id, label, profile, form, n, table, pooled, text, tuple(left_out), tuple(not_run))


def ledger(claims: Iterable[Claim], frame: pd.DataFrame) -> list[Verdict]:
    """Return a verdict for every claim, profile in the frame, and form; those without records say so.

    Smoke records are not allowed, as in :func:`judge`.
    """
    _check_frame(frame)
    profiles = sorted(frame["profile"].unique()) or [None]
    return [judge(c, frame, profile=p, form=form) for c in claims for p in profiles for form in c.forms]


def _select(
    claim: Claim, frame: pd.DataFrame, profile: str | None, form: str | None
) -> tuple[pd.DataFrame, str | None, str | None]:
    _check_frame(frame)
    asked = {"profile": profile, "form": form}
    for name, value in asked.items():
        if value is not None:
            frame = frame[frame[name] == value]
        found = sorted(frame[name].unique())
        if len(found) > 1:
            raise ValueError(
                f"the frame holds the {name}s {', '.join(map(repr, found))}: say which by {name}="
            )
        asked[name] = value or (found[0] if found else None)
    if asked["form"] is not None and asked["form"] not in claim.forms:
        raise unknown_name("form", asked["form"], claim.forms)
    return frame, asked["profile"], asked["form"]


def _check_frame(frame: pd.DataFrame) -> None:
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"the frame lacks the columns {', '.join(missing)}; expected {', '.join(_COLUMNS)}")
    if (frame["profile"] == "smoke").any():
        raise ValueError(
            "the frame holds records of profile 'smoke', which never enter a verdict: leave them out"
        )


def _pairs(claim: Claim, contrast: Contrast, cell: Cell, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of one cell, with column ``gain`` in the claimed direction."""
    rows = frame[(frame["dataset"] == cell.dataset) & (frame["imbalance"] == cell.imbalance)]
    pairs = paired(rows, contrast.metric, contrast.a, contrast.b)
    if contrast.minus:
        pairs = pairs - paired(rows, contrast.minus, contrast.a, contrast.b)
        pairs = pairs.dropna()
    if claim.kind == "spread":
        pairs = pairs.groupby(level="split_seed").mean()
    return pairs.assign(gain=contrast.sign * (pairs["a"] - pairs["b"]))


def _interval(claim: Claim, pairs: pd.DataFrame, sign: int, confidence: float) -> Interval:
    if claim.kind != "spread":
        return mean_interval(pairs["gain"], confidence)
    if len(pairs) < MIN_PAIRS:
        return Interval(math.nan, -math.inf, math.inf, len(pairs), math.nan)
    test = pitman_morgan(pairs["a"], pairs["b"])
    ends = [math.log(end) if end > 0 else -math.inf for end in test.interval(confidence)]
    low, high = sorted(sign * end for end in ends)
    middle = sign * math.log(test.ratio) if 0 < test.ratio < math.inf else math.nan
    return Interval(middle, low, high, test.n, math.nan)


_Family = list[tuple[Contrast, Cell, pd.DataFrame]]


def _table(claim: Claim, family: _Family, form: str | None) -> pd.DataFrame:
    rows = []
    for contrast, cell, pairs in family:
        interval = _interval(claim, pairs, contrast.sign, bonferroni(len(family)))
        reported = claim.reported_gain(contrast, cell, form) if form else None
        side = "claimed" if interval.low > 0 else "wrong" if interval.high < 0 else "open"
        place = (contrast.label(), cell.dataset, cell.imbalance)
        numbers = (interval.n, interval.mean, interval.low, interval.high)
        rows.append((*place, *numbers, math.nan if reported is None else reported, side))
    names = ["contrast", "dataset", "imbalance", "n", "gain", "low", "high", "paper", "side"]
    return pd.DataFrame(rows, columns=names)


def _pool(claim: Claim, family: _Family) -> Interval | None:
    """Return the average over cells per seed with its interval; None where no pair is in every cell."""
    joined = pd.concat([pairs for _, _, pairs in family], keys=range(len(family)))
    names = list(joined.index.names[1:])
    counts = joined.groupby(level=names).size()
    common = joined.groupby(level=names).mean()[counts == len(family)]
    if common.empty:
        return None
    signs = {contrast.sign for contrast, _, _ in family}
    # Standard deviations of averages can only be compared when every contrast points the same way.
    if claim.kind == "spread" and len(signs) > 1:
        return None
    return _interval(claim, common, signs.pop() if claim.kind == "spread" else 1, CONFIDENCE)


def _label(claim: Claim, table: pd.DataFrame, pooled: Interval | None, incomplete: bool) -> tuple[str, str]:
    """Return the label and why a higher one was not given."""
    if table["n"].min() < MIN_PAIRS:
        return (
            "inconclusive",
            f"a cell has only {table['n'].min()} of the {MIN_PAIRS} pairs that a verdict needs",
        )
    average = claim.kind == "average"
    on_claimed_side = pooled is not None and pooled.n >= MIN_PAIRS and pooled.low > 0
    on_wrong_side = pooled is not None and pooled.n >= MIN_PAIRS and pooled.high < 0
    if on_wrong_side if average else (table["side"] == "wrong").any():
        return "contradicted", ""
    printed = table.dropna(subset="paper")
    large = printed.empty or printed["gain"].mean() >= SIZE * printed["paper"].mean()
    all_claimed = on_claimed_side if average else bool((table["side"] == "claimed").all())
    if all_claimed and large and not incomplete:
        return "reproduced", "" if len(printed) else "the paper prints no number to compare the size with"
    reason = "not every cell was run" if incomplete else "the mean gain is less than half the paper's"
    return "direction only" if on_claimed_side else "inconclusive", reason if all_claimed else ""


def _explain(
    claim: Claim,
    table: pd.DataFrame,
    pooled: Interval | None,
    label: str,
    reason: str,
    left_out: list[str],
    not_run: list[str],
) -> str:
    sides = table["side"].value_counts()
    parts = [
        f"of {len(table)} cells {sides.get('claimed', 0)} lie on the claimed side, "
        f"{sides.get('wrong', 0)} on the wrong side and {sides.get('open', 0)} include 0"
    ]
    if pooled is not None:
        parts.append(_pooled_in_words(claim, pooled))
    printed = table.dropna(subset="paper")
    if len(printed):
        parts.append(
            f"in the {len(printed)} cells that the paper prints it is {100 * printed['gain'].mean():+.1f} points here "
            f"and {100 * printed['paper'].mean():+.1f} there"
        )
    parts += [reason] if reason else []
    parts += [f"this form cannot have {', '.join(left_out)}"] if left_out else []
    parts += [f"not or not wholly run: {_places(not_run)}"] if not_run else []
    return f"{label[0].upper()}{label[1:]}: {'; '.join(parts)}."


def _pooled_in_words(claim: Claim, pooled: Interval) -> str:
    if claim.kind == "spread":
        what, mean, low, high = "log ratio of deviations", pooled.mean, pooled.low, pooled.high
        form, unit = "+.2f", ""
    else:
        what, mean, low, high = "average gain", 100 * pooled.mean, 100 * pooled.low, 100 * pooled.high
        form, unit = "+.1f", " points"
    interval = (
        f"{low:{form}} to {high:{form}}, n = {pooled.n}" if pooled.n > 1 else "one pair, so no interval"
    )
    return f"the {what} in the claimed direction is {mean:{form}}{unit} ({interval})"


def _places(not_run: list[str]) -> str:
    """Return the data sets and types behind entries such as "accuracy: C > D on cifar10 A", each once."""
    places: dict[str, list[str]] = {}
    for entry in not_run:
        dataset, kind = entry.rsplit(" on ", 1)[1].rsplit(" ", 1)
        places.setdefault(dataset, [])
        if kind not in places[dataset]:
            places[dataset].append(kind)
    return "; ".join(f"{dataset} {', '.join(sorted(kinds))}" for dataset, kinds in places.items())
