"""The words of the chapter on CNN fragility that come from records: the first lines, and the findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from imbal_book.chapters.cnn_fragility import places
from imbal_book.chapters.complement_places import Place, at
from imbal_book.chapters.readings import contrast, headline, interval_text, level, verdict_line
from imbal_book.evidence.claims import Verdict
from imbal_book.evidence.statistics import Interval

__all__ = ["condensed", "findings", "glance"]

_NO_RECORD = (
    "No run of this study is recorded yet, so nothing on this page speaks for or against a claim. What the figures "
    "look like, on digits, is under *Run it here*."
)


def glance(found: Sequence[Verdict], frame: pd.DataFrame) -> str:
    """Return the answer of the chapter in a few sentences of Markdown, every number from the records.

    Parameters
    ----------
    found : sequence of Verdict
    frame : DataFrame
        Of `imbal_book.studies.cnn_fragility.frame`.
    """
    lines = []
    for place in places(frame):
        part = at(frame, place)
        share = level(part, "CE imbalanced", "top_k_share")
        missed, right = (_change(part, which) for which in ("false negatives", "true positives"))
        if share.n and missed.n:
            lines.append(
                f"- **{place.title()}** ({share.n} seed{'s' * (share.n > 1)}): the ten largest of all units carry "
                f"{interval_text(share)} % of a class's absolute embedding. From training to test their "
                f"magnitude changes by {interval_text(missed, sign=True)} % in images that are missed, by "
                f"{interval_text(right, sign=True)} % in those that are recognised."
            )
    lines += [_experiment(frame, place) for place in places(frame, "step")]
    lines = [line for line in lines if line] or [_NO_RECORD]
    return "\n".join([*lines, "", verdict_line(found)])


def _change(part: pd.DataFrame, which: str) -> Interval:
    """Return by how much the magnitude of some images changes from training to test: the gap is what it loses."""
    gap = level(part, which, "magnitude_gap")
    return dataclasses.replace(gap, mean=-gap.mean, low=-gap.high, high=-gap.low)


def condensed(found: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts in their order, but one only for a claim that no network was run for."""
    attempted = {verdict.claim for verdict in found if verdict.label != "not attempted"}
    first = headline(found)
    return [verdict for verdict in found if verdict.claim in attempted or verdict is first[verdict.claim]]


def _experiment(frame: pd.DataFrame, place: Place) -> str:
    part = at(frame, place)
    copies, diverse = (level(part, name, "gain_few") for name in ("more copies", "more diverse images"))
    if not copies.n:
        return ""
    return (
        f"- **{place.title()}**: minority recall changes by {interval_text(copies, sign=True)} points when the few "
        f"images are repeated until they are as many as the majority's, and by {interval_text(diverse, sign=True)} "
        "points more when they are distinct instead."
    )


#: What is said beside the claims: the words, and two differences (a, b, metric, factor, digits).
_BESIDE = (
    (
        "Overlap of a class's top 10 with those of other classes (points), imbalanced minus balanced",
        ("CE imbalanced", "CE balanced", "class_overlap", 100, 1),
    ),
    (
        "Effective rank of the minority's test features, imbalanced minus balanced",
        ("CE imbalanced", "CE balanced", "effective_rank_few", 1, 1),
    ),
    (
        "Minority recall (points), LDAM-DRW minus cross entropy",
        ("LDAM-DRW", "CE imbalanced", "recall_few", 100, 1),
    ),
    (
        "Effective rank of the minority's test features, LDAM-DRW minus cross entropy",
        ("LDAM-DRW", "CE imbalanced", "effective_rank_few", 1, 1),
    ),
)


def findings(frame: pd.DataFrame) -> str:
    """Return what the records say beside the claims, as a Markdown list; "" without any record."""
    lines = []
    for words, (a, b, metric, scale, digits) in _BESIDE:
        each = []
        for place in places(frame):
            gain = contrast(at(frame, place), a, b, metric)
            if gain.n:
                text = interval_text(gain, scale=scale, digits=digits, sign=True)
                each.append(f"{place.title()}: {text}")
        if each:
            lines.append(f"- {words}. {'; '.join(each)}.")
    return "\n".join(lines)
