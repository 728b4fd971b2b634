"""The register of deviations: what a paper says, what its authors' code does, what is done here, what that changes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from imbal_book.build.ledger import METRICS, card_table
from imbal_book.chapters import Chapter
from imbal_book.evidence.papers import Ambiguity, Paper, list_papers, load_paper
from imbal_book.evidence.verbs import CELL, minus, summarise
from imbal_book.run.record_format import Record
from imbal_book.studies import get_study

__all__ = ["effect_text", "register"]


def effect_text(frame: pd.DataFrame, effect: Mapping[str, str]) -> str:
    """Return what a choice does: the span over cells of the mean paired difference of two readouts, in points.

    ``frame`` is the study's long form, and ``effect`` names readouts ``a`` and ``b``, and the ``metric``, a fraction.
    """
    wanted = frame[(frame["metric"] == effect["metric"]) & frame["readout"].isin([effect["a"], effect["b"]])]
    gains = minus(wanted, effect["b"], keep=["model"]) if len(wanted) else wanted
    if gains.empty:
        return "not measured"
    cells = summarise(gains, [*CELL, "model"])
    low, high = (f"{100 * end:+.1f}" for end in (cells["mean"].min(), cells["mean"].max()))
    sure = int(((cells["low"] > 0) | (cells["high"] < 0)).sum())
    span = low if low == high else f"{low} to {high}"
    number = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    words = METRICS.get(effect["metric"], effect["metric"].replace("_", " "))
    text = f"{effect['a']} minus {effect['b']}, {words}: {span} points in {number}; the 95 % interval leaves out 0 in "
    return text + (f"{sure}" if sure else "none")


def register(records: Iterable[Record], chapters: Sequence[str] = ()) -> str:
    """Return the register as HTML, a table per paper with a row for each of its open points.

    Effects are computed from ``records``, of which smoke records do not count; papers follow the order of ``chapters``.
    """
    real = [record for record in records if record.config["profile"] != "smoke"]
    papers = [load_paper(name) for name in list_papers()]
    order = [*chapters, *(paper.study for paper in papers)]
    return "\n".join(_section(p, real) for p in sorted(papers, key=lambda paper: order.index(paper.study)))


def _section(paper: Paper, records: list[Record]) -> str:
    own = [record for record in records if record.config["study"] == paper.study]
    frame = None
    if own and any(point.effect for point in paper.ambiguities):
        study: Any = get_study(paper.study)
        frame = study.frame(Chapter(paper.study, (), own, {}).frame())
    title = html.escape(f"{paper.title} ({paper.year})")
    name = f"deviations-{paper.study.replace('_', '-')}"
    return f'<h2 id="{name}">{title}</h2>\n{card_table([_row(point, frame) for point in paper.ambiguities])}'


def _row(point: Ambiguity, frame: pd.DataFrame | None) -> dict[str, str]:
    effect = f"varied: {point.ablated}" if point.ablated and not point.effect else "not measured"
    if point.effect and frame is not None:
        effect = effect_text(frame, point.effect)
    path, _, name = (point.test or "").partition("::")
    words = name.removeprefix("test_").replace("_", " ")
    return {
        "Point": f"<b>{point.id}</b> {html.escape(point.topic)}",
        "The paper": html.escape(point.paper) or "nothing",
        "Its authors' code": html.escape(point.code) or "nothing found",
        "Here": html.escape(point.chosen),
        "Effect": html.escape(effect),
        "Test": f"{html.escape(words)}<br><small>{path}</small>" if name else "none of its own",
    }
