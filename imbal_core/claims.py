"""Verdicts on a paper's claims, from paired differences over seeds.

Every function is pure: frames and arrays in, numbers and words out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from imbal_core.names import unknown_name
from imbal_core.papers import Cell, Claim, Contrast

__all__ = [
    "LABELS",
    "MIN_PAIRS",
    "RULES",
    "Claim",
    "Interval",
    "PitmanMorgan",
    "Verdict",
    "bonferroni",
    "holm",
    "judge",
    "ledger",
    "mean_interval",
    "paired",
    "paired_difference",
    "pitman_morgan",
]

CONFIDENCE = 0.95
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
_SEEDS = ("split_seed", "train_seed")


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, the number of values and their standard deviation (NaN for one value)."""

    mean: float
    low: float
    high: float
    n: int
    sd: float


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    r"""Return the mean of ``values`` with its Student-t interval.

    .. math:: \bar x \pm t_{n-1,\,(1+c)/2}\; s / \sqrt n

    One value has an infinite interval: nothing is known about its spread.

    Parameters
    ----------
    values : array-like of shape (n,)
    confidence : float, default=0.95
        In (0, 1).

    Raises
    ------
    ValueError
        If there is no value, one is not finite, or the confidence is not in (0, 1).
    """
    array = _finite(values, "values")
    _check_confidence(confidence)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1, math.nan)
    sd = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, sd)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of ``a - b`` with its Student-t interval; element i of both belongs to one pair.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        See :func:`paired` for how they are aligned by seed.
    confidence : float, default=0.95

    Raises
    ------
    ValueError
        If the lengths differ, or a value is not finite.
    """
    left, right = _finite(a, "a"), _finite(b, "b")
    _check_lengths(left, right)
    return mean_interval(left - right, confidence)


def paired(
    frame: pd.DataFrame, metric: str, arm_a: str, arm_b: str, on: Sequence[str] = _SEEDS
) -> pd.DataFrame:
    """Return the values of two readouts side by side, one row per pair that both have.

    Parameters
    ----------
    frame : DataFrame
        Long form with the columns ``on``, ``readout``, ``metric`` and ``value``.
    metric, arm_a, arm_b : str
        Which metric, and which two readouts.
    on : sequence of str
        What makes a pair; by default the seed of the split and that of the training.

    Returns
    -------
    DataFrame
        Columns ``a`` and ``b``, indexed by ``on``, sorted.

    Raises
    ------
    ValueError
        If a readout has two values for one pair, as when two models or data sets are mixed.
    """
    rows = frame[(frame["metric"] == metric) & frame["readout"].isin([arm_a, arm_b])]
    twice = rows.duplicated([*on, "readout"])
    if twice.any():
        row = rows[twice].iloc[0]
        place = ", ".join(f"{name} {row[name]}" for name in on)
        raise ValueError(
            f"readout {row['readout']!r} has two values of {metric!r} for {place}: "
            f"select one model and one cell before pairing"
        )
    wide = rows.pivot(index=list(on), columns="readout", values="value").reindex(columns=[arm_a, arm_b])
    return wide.set_axis(["a", "b"], axis=1).dropna().sort_index()


def bonferroni(cells: int, confidence: float = CONFIDENCE) -> float:
    """Return the confidence of each of ``cells`` intervals that hold together with ``confidence``."""
    _check_confidence(confidence)
    if cells < 1:
        raise ValueError(f"cells is {cells}, expected at least 1")
    return 1 - (1 - confidence) / cells


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p values of a family, in the given order.

    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = _finite(p_values, "p_values")
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p_values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class PitmanMorgan:
    """The comparison of two paired standard deviations.

    Attributes
    ----------
    ratio : float
        Standard deviation of ``a`` over that of ``b``.
    t, p : float
        Student's t with n - 2 degrees of freedom, and the two-sided p value.
    correlation : float
        Between ``a`` and ``b``.
    n : int
    """

    ratio: float
    t: float
    p: float
    correlation: float
    n: int

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        r"""Return the interval of the ratio of standard deviations, which inverts the test.

        .. math:: \hat\rho^2 \,(K \pm \sqrt{K^2 - 1}), \quad K = 1 + 2 (1 - r^2)\, t^2_{n-2} / (n - 2)

        for the ratio of variances; its roots are returned. (0, inf) where a deviation is 0.
        """
        _check_confidence(confidence)
        if not 0 < self.ratio < math.inf:
            return 0.0, math.inf
        quantile = float(stats.t.ppf((1 + confidence) / 2, self.n - 2))
        k = 1 + 2 * (1 - self.correlation**2) * quantile**2 / (self.n - 2)
        factor = math.sqrt(k + math.sqrt(max(k * k - 1, 0.0)))
        return self.ratio / factor, self.ratio * factor


def pitman_morgan(a: ArrayLike, b: ArrayLike) -> PitmanMorgan:
    """Return the test that the variances of two paired samples are equal.

    Var(a) = Var(b) if and only if a + b and a - b are uncorrelated, so their correlation is tested.
    Pitman (1939), A note on normal correlation; Morgan (1939), A test for the significance of the
    difference between the two variances in a sample from a normal bivariate population.

    Parameters
    ----------
    a, b : array-like of shape (n,), n >= 3

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than 3 pairs, or a value is not finite.
    """
    left, right = _finite(a, "a"), _finite(b, "b")
    _check_lengths(left, right)
    n = len(left)
    if n < 3:
        raise ValueError(f"there are {n} pairs; the test needs at least 3")
    sd_a, sd_b = float(left.std(ddof=1)), float(right.std(ddof=1))
    if sd_a == 0 or sd_b == 0:
        ratio = math.nan if sd_a == sd_b else (0.0 if sd_a == 0 else math.inf)
        return PitmanMorgan(ratio, math.nan, math.nan, math.nan, n)
    total, difference = left + right, left - right
    if total.std() == 0 or difference.std() == 0:
        r = 0.0
    else:
        r = float(np.clip(np.corrcoef(total, difference)[0, 1], -1, 1))
    t = math.copysign(math.inf, r) if abs(r) == 1 else r * math.sqrt((n - 2) / (1 - r * r))
    p = float(2 * stats.t.sf(abs(t), n - 2))
    return PitmanMorgan(sd_a / sd_b, t, p, float(np.corrcoef(left, right)[0, 1]), n)


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
        what, form = (
            ("average gain", "+.4f") if claim.kind != "spread" else ("log ratio of deviations", "+.2f")
        )
        interval = f"{pooled.low:{form}} to {pooled.high:{form}}, n = {pooled.n}"
        parts.append(f"the {what} in the claimed direction is {pooled.mean:{form}} ({interval})")
    printed = table.dropna(subset="paper")
    if len(printed):
        parts.append(
            f"in the {len(printed)} cells that the paper prints it is {printed['gain'].mean():+.4f} here and "
            f"{printed['paper'].mean():+.4f} there"
        )
    parts += [reason] if reason else []
    parts += [f"this form cannot have {', '.join(left_out)}"] if left_out else []
    parts += [f"{len(not_run)} cells were not run ({', '.join(not_run)})"] if not_run else []
    return f"{label[0].upper()}{label[1:]}: {'; '.join(parts)}."


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (n,) with n at least 1")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return array


def _check_lengths(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b has {len(b)}; a pair needs one of each")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
