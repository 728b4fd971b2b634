"""Verdicts in words, from the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from imbal_book.evidence.papers.statements import Cell, Claim
from imbal_book.evidence.statistics import Interval

__all__ = ["VERDICT_BADGES", "explain", "why_not_attempted"]

#: Every verdict, and the colour of its badge in sphinx-design's words.
VERDICT_BADGES = {
    "reproduced": "success",
    "direction only": "info",
    "inconclusive": "warning",
    "contradicted": "danger",
    "not attempted": "secondary",
}


def explain(
    claim: Claim,
    table: pd.DataFrame,
    pooled: Interval | None,
    label: str,
    reason: str,
    left_out: Sequence[str],
    not_run: Sequence[Cell],
) -> str:
    """Return a verdict in one sentence, built from its numbers.

    Parameters
    ----------
    claim : Claim
    table : DataFrame
        The cells of the verdict, at least one.
    pooled : Interval or None
    label, reason : str
        The verdict, and why a higher one was not given ("" where nothing is to be said).
    left_out : sequence of str
        Contrasts that the form cannot have.
    not_run : sequence of Cell
    """
    parts = [_sides_in_words(claim, table)]
    if pooled is not None:
        parts.append(_pooled_in_words(claim, pooled))
    printed = table.dropna(subset="paper")
    if len(printed):
        scale, unit = _unit(claim)
        here, there = scale * printed["gain"].mean(), scale * printed["paper"].mean()
        unnamed = any(contrast.reported for contrast in claim.contrasts)
        where = "beside the paper's gain, printed without naming a cell," if unnamed else (
            f"in the {len(printed)} cells that the paper prints"
        )  # fmt: skip
        parts.append(f"{where} it is {here:+.1f}{unit} here and {there:+.1f} there")
    parts += [reason] if reason else []
    parts += [f"this form cannot have {', '.join(left_out)}"] if left_out else []
    parts += [f"not or not wholly run: {_places(not_run)}"] if not_run else []
    return f"{label[0].upper()}{label[1:]}: {'; '.join(parts)}."


def why_not_attempted(claim: Claim, form: str | None, left_out: Sequence[str]) -> str:
    """Return why there is no verdict: no comparison, no records, or readouts that the form cannot have."""
    if not claim.contrasts:
        return f"Not attempted: no comparison of records is stated for {claim.id}."
    which = f"form {form!r}" if form else "any form"
    text = f"Not attempted: no record of {which} holds the readouts and cells of {claim.id}"
    return text + (f"; this form cannot have {', '.join(left_out)}." if left_out else ".")


def _sides_in_words(claim: Claim, table: pd.DataFrame) -> str:
    sides = table["side"].value_counts()
    claimed, wrong, neither = (sides.get(side, 0) for side in ("claimed", "wrong", "open"))
    if claim.kind == "equivalence":
        scale, unit = _unit(claim)
        margin = f"{scale * (claim.margin or 0):g}{unit}"
        return (
            f"of {len(table)} cells {claimed} lie within {margin} of 0, {wrong} outside and {neither} neither"
        )
    return (
        f"of {len(table)} cells {claimed} lie on the claimed side, {wrong} on the wrong side "
        f"and {neither} include 0"
    )


def _unit(claim: Claim) -> tuple[float, str]:
    """Return what a gain is multiplied with in print, and the word that follows it."""
    return (100, " points") if claim.unit == "points" else (1, f" {claim.unit}")


def _pooled_in_words(claim: Claim, pooled: Interval) -> str:
    scale, unit = (1.0, "") if claim.kind == "spread" else _unit(claim)
    form = "+.2f" if claim.kind == "spread" else "+.1f"
    mean, low, high = scale * pooled.mean, scale * pooled.low, scale * pooled.high
    interval = (
        f"{low:{form}} to {high:{form}}, n = {pooled.n}" if pooled.n > 1 else "one pair, so no interval"
    )
    if claim.kind == "equivalence":
        return f"the average difference is {mean:{form}}{unit} ({interval})"
    what = "log ratio of deviations" if claim.kind == "spread" else "average gain"
    return f"the {what} in the claimed direction is {mean:{form}}{unit} ({interval})"


def _places(not_run: Sequence[Cell]) -> str:
    """Return data sets and imbalances in words, each once."""
    places: dict[str, list[str]] = {}
    for cell in not_run:
        kinds = places.setdefault(cell.dataset, [])
        if cell.imbalance not in kinds:
            kinds.append(cell.imbalance)
    return "; ".join(f"{dataset} {', '.join(sorted(kinds))}" for dataset, kinds in places.items())
