"""What the records of complement cross entropy answer, in words: verdicts, the first lines, and what stands beside."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from imbal_book.chapters.complement_places import FIRST, METRICS, at, nearest, recorded_places
from imbal_book.chapters.readings import contrast, interval_text, judge_forms, level, verdict_line
from imbal_book.evidence.claims import Verdict, settle
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.rules import load_rules

__all__ = ["findings", "glance", "verdicts"]

_PAPER, _RELEASED, _COUNTING = "CCE (paper)", "CCE (released)", "Balanced softmax"
#: What is compared beside the claims: the words, and two differences (a, b, metric) that are set against each other.
_BESIDE = (
    (
        "Entropy of the wrong classes (nats): the paper's form minus CE, against the released form minus CE",
        (_PAPER, "CE", "wrong_class_entropy"),
        (_RELEASED, "CE", "wrong_class_entropy"),
    ),
    (
        "Accuracy (points): the paper's form minus the released one, against balanced softmax minus CE",
        (_PAPER, _RELEASED, "accuracy"),
        (_COUNTING, "CE", "accuracy"),
    ),
    (
        "Minority recall (points): the paper's form minus CE, against balanced softmax, which knows the class "
        "counts, minus CE",
        (_PAPER, "CE", "recall_few"),
        (_COUNTING, "CE", "recall_few"),
    ),
)


def verdicts(paper: Paper, frame: pd.DataFrame, deviation: float | None) -> list[Verdict]:
    """Return the verdict on every claim in every form, the form nearest to the paper first.

    Parameters
    ----------
    paper : Paper
    frame : DataFrame
        Of `imbal_book.studies.complement_cross_entropy.frame`. Smoke records are left out, for digits decide no
        claim; of two profiles the larger one counts.
    deviation : float or None
        By how much both losses differ for two classes, which settles the identity.
    """
    found = []
    for claim in paper.claims.values():
        if isinstance(load_rules().claims[claim.id], float):
            found.append(settle(claim, deviation))
        else:
            found += judge_forms(claim, frame, claim.forms)
    return found


def glance(found: Sequence[Verdict], frame: pd.DataFrame) -> str:
    """Return the answer of the chapter in a few sentences of Markdown, every number from the records.

    Parameters
    ----------
    found : sequence of Verdict
        Of :func:`verdicts`.
    frame : DataFrame
    """
    lines = []
    for place in nearest(recorded_places(frame)):
        cell, seeds, parts = at(frame, place), [], []
        for metric in ("accuracy", "recall_few"):
            gains = {arm: contrast(cell, arm, "CE", metric) for arm in FIRST[1:]}
            if all(gain.n for gain in gains.values()):
                plain = 100 * level(cell, "CE", metric).mean
                each = [f"{interval_text(gain, sign=True)} points with {arm}" for arm, gain in gains.items()]
                parts.append(f"{METRICS[metric][0]} {plain:.1f} % with CE, {', '.join(each)}")
                seeds += [gain.n for gain in gains.values()]
        if parts:
            count = f"{min(seeds)} seed{'s' * (min(seeds) > 1)}"
            lines.append(f"- **{place.title()}** ({count}): {'; '.join(parts)}.")
    return "\n".join([*lines, "", verdict_line(found)])


def findings(frame: pd.DataFrame) -> str:
    """Return what the records say beside the claims, as a Markdown list, every number computed.

    A place of the network nearest to the paper that lacks an arm is left out; "" without any record.
    """
    lines = []
    for words, *differences in _BESIDE:
        each = []
        for place in nearest(recorded_places(frame)):
            gains = [contrast(at(frame, place), *difference) for difference in differences]
            if all(gain.n for gain in gains):
                _, scale, unit = METRICS[differences[0][2]]
                digits = 1 if unit == "%" else 2
                texts = [interval_text(gain, scale=scale, digits=digits, sign=True) for gain in gains]
                each.append(f"  - {place.title(network=False)}: {' against '.join(texts)}.")
        if each:
            lines += [f"- {words}.", *each]
    return "\n".join(lines)
