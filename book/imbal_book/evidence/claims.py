"""Verdicts on a paper's claims, from paired differences over seeds.

Every function is pure: frames in, numbers and words out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from imbal_book.evidence.papers.statements import Cell, Claim, Contrast
from imbal_book.evidence.statistics import (
    CONFIDENCE,
    Interval,
    bonferroni,
    mean_interval,
    paired,
    pitman_morgan,
)
from imbal_book.evidence.verdict_words import explain, why_not_attempted
from imbal_core._checks.names import unknown_name

__all__ = ["LABELS", "MIN_PAIRS", "OTHER_RULES", "RULES", "Claim", "Verdict", "judge", "ledger", "settle"]

MIN_PAIRS = 3
SIZE = 0.5  # share of the paper's mean gain that a reproduction must reach

#: Label and condition, in the order in which they are tried; the book prints this table.
RULES = (
    (
        "not attempted",
        "There is no record of any cell that the claim speaks of, or no comparison is stated for it.",
    ),
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
#: What differs from :data:`RULES` for two kinds of claim.
OTHER_RULES = {
    "equivalence": (
        "A claim that two methods are equally good has no direction. It is reproduced if every cell was run "
        "and every simultaneous interval lies wholly within the stated margin on both sides of 0, "
        "contradicted if one lies wholly outside, else inconclusive."
    ),
    "identity": (
        "A claim that two quantities are the same needs no records. It is reproduced if the largest deviation "
        "of a computation is at most the stated margin, which rounding explains, else contradicted."
    ),
}
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
        gain counts in the claimed direction; for an equivalence it is the difference itself. In the unit of
        the claim, "points" as fractions; for a spread, the natural logarithm of the ratio of standard
        deviations.
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

    Claims of kind "equivalence" follow :data:`OTHER_RULES`, with the same intervals: two one-sided tests at
    2.5 % (Schuirmann 1987), simultaneously over the cells. Those of kind "identity" go to :func:`settle`.

    Claims of kind "spread" compare standard deviations over the draws of the split (values of several
    training seeds are averaged first) by the interval that inverts the Pitman-Morgan test; the pooled one
    compares the spread of the average over cells.

    Parameters
    ----------
    claim : Claim
    frame : DataFrame
        Long form: profile, form, dataset, imbalance (such as "A", or "exponential 100"), split_seed,
        train_seed, readout, metric, value.
    profile, form : str, optional
        Which records to judge by. Needed when the frame holds several.

    Raises
    ------
    ValueError
        If a column is missing, a smoke record is given, several profiles or forms remain, the form is
        unknown, or the claim is an identity.
    """
    if claim.kind == "identity":
        raise ValueError(f"claim {claim.id!r} is an identity: settle it with the deviation of a computation")
    chosen, profile, form = _select(claim, frame, profile, form)
    left_out: list[str] = []
    family: _Family = []
    missing: list[tuple[Contrast, Cell]] = []
    for contrast in claim.contrasts:
        cells = [c for c in claim.cells if contrast.dataset in (None, c.dataset)]
        if form is not None and not {contrast.a, contrast.b} <= set(claim.forms[form].readouts):
            left_out.append(contrast.label())
            continue
        for cell in cells:
            if form is not None and not claim.forms[form].has(cell):
                continue
            pairs = _pairs(claim, contrast, cell, chosen)
            if pairs.empty:
                missing.append((contrast, cell))
            else:
                family.append((contrast, cell, pairs))
    not_run = tuple(f"{contrast.label()} on {cell.dataset} {cell.imbalance}" for contrast, cell in missing)
    if not family:
        text = why_not_attempted(claim, form, left_out)
        return Verdict(
            claim.id, "not attempted", profile, form, 0, _table(claim, [], form), None, text,
            tuple(left_out), not_run,
        )  # fmt: skip
    table = _table(claim, family, form)
    pooled = _pool(claim, family)
    label, reason = _label(claim, table, pooled, bool(missing))
    text = explain(claim, table, pooled, label, reason, left_out, [cell for _, cell in missing])
    n = int(table["n"].min())
    return Verdict(claim.id, label, profile, form, n, table, pooled, text, tuple(left_out), not_run)


def settle(claim: Claim, deviation: float | None) -> Verdict:
    """Return the verdict on an identity from the largest deviation that a computation found.

    Parameters
    ----------
    claim : Claim
        Of kind "identity".
    deviation : float or None
        The largest absolute difference between the two sides; None where it was not computed.

    Raises
    ------
    ValueError
        If the claim is of another kind, or the deviation is negative or NaN.
    """
    if claim.kind != "identity" or claim.margin is None:
        raise ValueError(f"claim {claim.id!r} is of kind {claim.kind!r}: judge it by records")
    if deviation is None:
        label, text = "not attempted", "Not attempted: the computation that settles it was not run."
    elif not deviation >= 0:
        raise ValueError(f"deviation is {deviation}, expected a number of at least 0")
    else:
        holds = deviation <= claim.margin
        label = "reproduced" if holds else "contradicted"
        text = (
            f"{label.capitalize()}: in a computation the two sides differ by at most {deviation:.1e}, "
            f"{'within' if holds else 'beyond'} the {claim.margin:.0e} that rounding explains."
        )
    return Verdict(claim.id, label, None, None, 0, _table(claim, [], None), None, text)


def ledger(
    claims: Iterable[Claim], frame: pd.DataFrame, *, deviations: Mapping[str, float] | None = None
) -> list[Verdict]:
    """Return a verdict for every claim, profile in the frame, and form; those without records say so.

    An identity has one verdict, from ``deviations`` by the claim's id. Smoke records are not allowed, as in
    :func:`judge`.
    """
    _check_frame(frame)
    profiles = sorted(frame["profile"].unique()) or [None]
    verdicts = []
    for claim in claims:
        if claim.kind == "identity":
            verdicts.append(settle(claim, (deviations or {}).get(claim.id)))
        else:
            verdicts += [judge(claim, frame, profile=p, form=form) for p in profiles for form in claim.forms]
    return verdicts


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
    rows = frame[frame["dataset"] == cell.dataset]
    here = rows[rows["imbalance"] == cell.imbalance]
    pairs = paired(here, contrast.metric, contrast.a, contrast.b)
    if contrast.minus:
        pairs = (pairs - paired(here, contrast.minus, contrast.a, contrast.b)).dropna()
    if contrast.versus:
        there = rows[rows["imbalance"] == contrast.versus]
        pairs = (pairs - paired(there, contrast.metric, contrast.a, contrast.b)).dropna()
    if claim.kind == "spread":
        pairs = pairs.groupby(level="split_seed").mean()
    # an equivalence has no direction, so its gain is the difference itself
    return pairs.assign(gain=(contrast.sign or 1) * (pairs["a"] - pairs["b"]))


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
        side = _side(claim, interval)
        place = (contrast.label(), cell.dataset, cell.imbalance)
        numbers = (interval.n, interval.mean, interval.low, interval.high)
        rows.append((*place, *numbers, math.nan if reported is None else reported, side))
    names = ["contrast", "dataset", "imbalance", "n", "gain", "low", "high", "paper", "side"]
    return pd.DataFrame(rows, columns=names)


def _side(claim: Claim, interval: Interval) -> str:
    """Return where an interval lies: on the claimed side, on the wrong one, or neither."""
    if claim.kind == "equivalence":
        margin = claim.margin or 0.0
        within = -margin < interval.low and interval.high < margin
        return (
            "claimed" if within else "wrong" if interval.low > margin or interval.high < -margin else "open"
        )
    return "claimed" if interval.low > 0 else "wrong" if interval.high < 0 else "open"


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
    if claim.kind == "equivalence":
        if (table["side"] == "wrong").any():
            return "contradicted", ""
        within = bool((table["side"] == "claimed").all())
        reason = "not every cell was run" if within and incomplete else ""
        return ("reproduced" if within and not incomplete else "inconclusive"), reason
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
