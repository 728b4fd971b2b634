"""The ledger of claims: what each paper says, what came out here, and what it takes to run it again."""

from __future__ import annotations

import ast
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.build.parameters import read_notebook
from imbal_book.chapters import estimate
from imbal_book.evidence.claims import VERDICT_BADGES, printed_gain
from imbal_book.evidence.judgement import COLUMNS
from imbal_book.evidence.papers import Claim, Paper, list_papers, load_paper
from imbal_book.evidence.rules import load_rules
from imbal_book.evidence.statistics import detectable_difference, seeds_for_power
from imbal_book.run.record_format import Record
from imbal_core._checks.names import unknown_name

__all__ = [
    "METRICS",
    "came_out",
    "card_table",
    "chapter_card",
    "claim_rows",
    "glued",
    "ledger_table",
    "score",
    "seeds_table",
]

_GLUE = re.compile(r"\{glue:text\}`(\w+)`")
#: The part that is shown first: what decides the label stands before what does not.
_DECIDES = ("fails", "open", "holds")
#: Metrics that are fractions of images, so that a difference of one percentage point means the same in all of them.
METRICS = {
    "accuracy": "accuracy",
    "f1_minority": "F1 of the rare class",
    "recall_few": "recall, rare classes",
    "recall_many": "recall, frequent classes",
    "recall_minority": "recall of the rare class",
}
_POINTS = (0.01, 0.02, 0.05)
#: The verdict on a claim whose chapter was not executed.
_NOTHING: dict[str, Any] = {"label": "not attempted", "word": "not attempted", "grade": "", "explanation": ""}
_NOTHING |= {"form": None, "n": 0, "parts": []}


def glued(executed: Path) -> dict[str, Any]:
    """Return what an executed chapter says to other pages; nothing from smoke records: digits decide no claim.

    These are verdicts, as `imbal_book.chapters.readings.glue_verdicts` keeps them; judged_on, the forms and profiles
    behind them; answer, the first paragraph below *At a glance* with its numbers, "" where one is missing.
    """
    notebook = read_notebook(executed)
    if notebook.metadata.get("papermill", {}).get("parameters", {}).get("PROFILE") == "smoke":
        return {}
    found = {}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("scrapbook", {}).get("name", ""):
            found[name] = next(value for mime, value in output["data"].items() if mime.endswith("text/plain"))
    verdicts = json.loads(ast.literal_eval(found.get("verdicts", "'[]'")))
    for verdict in verdicts:
        if verdict["label"] not in VERDICT_BADGES:
            raise unknown_name(f"verdict in {executed.name}", verdict["label"], VERDICT_BADGES)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    opening = next((text for text in texts if text.startswith("## At a glance")), "")
    answer = "".join(opening.partition("\n\n")[2:]).partition("\n\n")[0].replace("\n", " ")
    numbers = set(_GLUE.findall(answer))
    complete = numbers and numbers <= found.keys()
    return {
        "verdicts": verdicts,
        "judged_on": ast.literal_eval(found.get("judged_on", "''")),
        "answer": _GLUE.sub(lambda role: str(ast.literal_eval(found[role[1]])), answer) if complete else "",
    }


def claim_rows(executed: Mapping[str, Path], records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return one entry per claim of every paper: the claim, its paper, its verdict, and the command that runs it again.

    ``executed`` maps a chapter to its executed copy; the claims of a chapter without one are not attempted. The seconds
    of ``records`` say what the command costs.
    """
    papers = [load_paper(name) for name in list_papers()]
    names = ["study", "profile", "model", "dataset"]
    seconds = pd.DataFrame(
        [(*map(record.config.get, names), record.provenance["seconds"]) for record in records],
        columns=[*names, "seconds"],
    )
    order = [*executed, *(paper.study for paper in papers)]
    rows = []
    for paper in sorted(papers, key=lambda paper: order.index(paper.study)):
        copy = executed.get(paper.study)
        verdicts = {v["claim"]: v for v in glued(copy).get("verdicts", [])} if copy else {}
        for claim in paper.claims.values():
            verdict = verdicts.get(claim.id, _NOTHING)
            command, cost = _again(paper, verdict, seconds)
            row = {"claim": claim, "paper": paper, "verdict": verdict, "chapter": copy is not None}
            rows.append(row | {"command": command, "cost": cost})
    return rows


def _again(paper: Paper, verdict: Mapping[str, Any], seconds: pd.DataFrame) -> tuple[str, str]:
    """Return the command that makes a verdict's records again, and what those cost."""
    if not verdict["n"]:
        command = f"imbal notebook {paper.study}" if verdict["label"] != "not attempted" else ""
        return command, "no training" if command else ""
    datasets = dict.fromkeys(part["dataset"] for part in verdict["parts"] if part["pairs"])
    chosen = {"model": verdict["models"], "dataset": datasets}
    only = ",".join(f"{name}={value}" for name, values in chosen.items() for value in values)
    runs = seconds[(seconds["study"] == paper.study) & (seconds["profile"] == verdict["profile"])]
    for name, values in chosen.items():
        runs = runs[runs[name].isin(list(values))]
    cost = f"{len(runs):,} runs, {runs['seconds'].sum() / 60:,.0f} device-minutes"
    return f"imbal run {paper.study} --profile {verdict['profile']} --only {only}", cost


def _evidence(verdict: Mapping[str, Any]) -> str:
    """Return the grade of a verdict's records, or what else it rests on."""
    return verdict["grade"] or ("no records" if verdict["label"] == "not attempted" else "a computation")


def _badge(verdict: Mapping[str, Any], link: str = "") -> str:
    """Return a verdict's word as a badge, which leads to its table of parts where there is one."""
    tag, target = ("a", f' href="{link}"') if link else ("span", "")
    colour = VERDICT_BADGES[verdict["label"]]
    return f'<{tag} class="verdict verdict-{colour}"{target}>{verdict["word"]}</{tag}>'


def came_out(verdict: Mapping[str, Any]) -> list[str]:
    """Return, for each part of a verdict, the cell that decides it: estimate, interval, draws and trainings.

    That is the one that fails or is open, else of those that hold the one whose interval ends nearest to 0.
    """
    parts = pd.DataFrame(verdict["parts"], columns=COLUMNS)
    run = parts[parts["pairs"] > 0]
    run = run.assign(rank=run["state"].map(_DECIDES.index), near=run[["low", "high"]].abs().min(axis=1))
    ordered = run.sort_values(["rank", "near"], kind="stable").groupby("part", sort=False)
    deciding = ordered.head(1).assign(more=ordered["part"].transform("size") - 1).sort_index()
    lines = []
    for cell in deciding.to_dict("records"):
        pairs, draws, more = int(cell["pairs"]), int(cell["draws"]), int(cell["more"])
        design = f"{pairs} pairs of {draws} draws"
        if pairs % draws == 0:
            trainings = pairs // draws
            design = f"{draws} draw{'s' * (draws != 1)} × {trainings} training{'s' * (trainings != 1)}"
        part = f"{cell['part']}: " if len(deciding) > 1 else ""
        rest = f", and {more} more cell{'s' * (more != 1)}" if more else ""
        lines.append(f"{part}{estimate(cell)} on {cell['dataset']}, {cell['imbalance']} ({design}){rest}")
    return lines


def chapter_card(chapter: str, executed: Path | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the foot of a chapter's card as MyST: its answer, its claims with their verdicts, and a link.

    ``executed`` is its executed copy, None where the chapter is not written; ``rows`` are the claims of its paper, see
    `claim_rows`, none of a chapter that is about no paper.
    """
    if executed is None:
        return "{bdg-light}`chapter in preparation`\n"
    kept = glued(executed)
    link = f"[Read the chapter](../notebooks/{chapter}.ipynb)\n"
    if not rows and kept.get("answer"):  # a chapter of no paper has an answer and no verdict
        return f"{kept['answer']}\n\n{link}"
    if not kept.get("verdicts"):
        return f"This build judges no claim.\n\n{link}"
    page = f"../notebooks/{chapter}.html"
    items = "".join(
        f"<li>{_badge(row['verdict'], page + '#parts-' + row['claim'].id.lower())} "
        f"{html.escape(row['claim'].statement)} <small>{_counted(row['verdict'])}</small></li>"
        for row in rows
    )
    counts = Counter(row["verdict"]["label"] for row in rows)
    summary = ", ".join(f"{counts[label]} {label}" for label in VERDICT_BADGES if counts[label])
    judged = f"\n\nJudged on: {kept['judged_on']}." if kept.get("judged_on") else ""
    claims = f'<details class="card-claims"><summary>{len(rows)} claims: {summary}</summary><ul>{items}</ul></details>'
    return f"{_answer(kept['answer'], rows)}\n\n{claims}{judged}\n\n{link}"


def _counted(verdict: Mapping[str, Any]) -> str:
    return f"{_evidence(verdict)}, n = {verdict['n']}" if verdict["n"] else _evidence(verdict)


def _answer(said: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a chapter's own answer, or else its first claim that was attempted; then label, grade, n and why."""
    for row in rows:
        if lines := came_out(row["verdict"]):
            verdict, claim = row["verdict"], row["claim"]
            link = f"../notebooks/{row['paper'].study}.html#parts-{claim.id.lower()}"
            text = said or f"{html.escape(claim.statement)} Here, {html.escape(lines[0])}."
            why = html.escape(f"{_counted(verdict)}. {verdict['explanation']}")
            return f'{text}\n\n<p class="answer">{_badge(verdict, link)} <small>{why}</small></p>'
    return "No claim was attempted yet."


def _reported(claim: Claim, form: str | None) -> str:
    """Return the size that the paper prints for the first part of a claim: one gain, or the span over its cells."""
    parts = load_rules().claims[claim.id]
    if claim.ours:
        return "nothing: ours"
    if not isinstance(parts, list):
        return "no size"
    first = parts[0]
    form = form if form and form in claim.forms else next(iter(claim.forms))
    network = claim.forms[form].network
    cells = [cell for cell in claim.cells if first.dataset in (None, cell.dataset)]
    found = [printed_gain(claim, first, form, cell.dataset, cell.imbalance) for cell in cells]
    gains = [100 * gain for gain in found if gain is not None]
    if not gains:
        return "no size"
    if network in claim.printed:
        return f"{gains[0]:+.1f} points ({network})"
    return f"{min(gains):+.1f} to {max(gains):+.1f} points in {len(gains)} cells ({network})"


def card_table(rows: Sequence[Mapping[str, str]], marks: Sequence[str] = (), name: str = "") -> str:
    """Return a table of HTML cells whose rows a narrow screen shows as cards, each cell below its column's name.

    ``rows`` map columns to HTML, ``marks`` are attributes of each row, such as those by which a script filters, and
    ``name`` is the table's id.
    """
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in rows[0])
    lines = [f'<table class="ledger"{f" id={name}" if name else ""}><thead><tr>{head}</tr></thead><tbody>']
    for row, mark in zip(rows, marks or [""] * len(rows), strict=True):
        cells = "".join(f'<td data-head="{html.escape(key)}">{cell}</td>' for key, cell in row.items())
        lines.append(f"<tr {mark}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"]) + "\n"


def ledger_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the ledger as HTML: a row per claim, marked with paper, label and grade for the filter of the page."""
    lines, marks = [], []
    for row in rows:
        claim, verdict, paper = row["claim"], row["verdict"], row["paper"]
        page = f"../notebooks/{paper.study}.html"
        link = f"{page}#parts-{claim.id.lower()}" if row["chapter"] else ""
        others = " et al." if len(paper.authors) > 1 else ""
        by = "ours" if claim.ours else f"{paper.authors[0].split()[-1]}{others} {paper.year}"
        grade = _evidence(verdict)
        quote = f"<details><summary>in its words</summary>“{html.escape(claim.quote)}”</details>"
        found = "".join(f"<li>{html.escape(line)}</li>" for line in came_out(verdict))
        links = f'<a href="{link}">parts</a>, <a href="{page}">figures</a>' if link else ""
        command = f"<code>{html.escape(row['command'])}</code><br>" if row["command"] else ""
        lines.append(
            {
                "Claim": f"<b>{claim.id}</b> {html.escape(claim.statement)}<br><small>{by}; "
                f"{html.escape(claim.source)}; {claim.status}</small>{quote if claim.quote else ''}",
                "Verdict": f"{_badge(verdict, link)}<br><small>{grade}</small>",
                "Reported": html.escape(_reported(claim, verdict["form"])),
                "What came out here": f"{f'<ul>{found}</ul>' if found else ''}"
                f"<small>{html.escape(verdict['explanation'])} {links}</small>",
                "Run it again": f"{command}<small>{row['cost'] or 'no run'}</small>",
            }
        )
        values = {"paper": by, "label": verdict["label"], "grade": grade}
        data = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in values.items())
        marks.append(f'id="{claim.id.lower()}" {data}')
    return card_table(lines, marks, "ledger")


def score(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the score of the ledger as HTML: how many claims of the papers have each label, each a link to them."""
    papers = [row["verdict"] for row in rows if not row["claim"].ours]
    counts = Counter(verdict["label"] for verdict in papers)
    strip = "".join(
        f'<a class="score-cell verdict-{colour}" href="claims.html?label={label.replace(" ", "+")}">'
        f"<b>{counts[label]}</b> {label}</a>"
        for label, colour in VERDICT_BADGES.items()
    )
    at = sum(verdict["grade"] == "paper's protocol" for verdict in papers)
    ours = len(rows) - len(papers)
    return (
        f'<div class="score" role="group" aria-label="Labels of the {len(papers)} claims">{strip}</div>\n'
        f"<p><small>{len(papers)} claims of the papers, {at} of them judged at the paper's own protocol; "
        f"{ours} further ones are ours.</small></p>\n"
    )


def seeds_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return, as HTML, how much paired differences vary, and the pairs that it takes to see 1, 2 and 5 points.

    A row is a chapter, network, metric and data set. Variances of its parts and cells are pooled by their degrees of
    freedom; the share between draws is pooled over the cells in which draws have several trainings.
    """
    parts = pd.DataFrame(
        [
            {"chapter": row["paper"].study, "network": row["verdict"]["form"], **part}
            for row in rows
            for part in row["verdict"]["parts"]
        ],
        columns=["chapter", "network", "metric", "dataset", "imbalance", "pairs", "sd", "share"],
    ).astype({"pairs": float, "sd": float, "share": float})
    parts = parts[parts["metric"].isin(list(METRICS)) & (parts["sd"] > 0)]
    # two claims may rest on the same differences
    parts = parts.drop_duplicates(["chapter", "network", "metric", "dataset", "imbalance", "sd"])
    found = []
    keys: Any  # of a group, which pandas types as one
    for keys, cells in parts.groupby(["chapter", "network", "metric", "dataset"], sort=False):
        chapter, network, metric, dataset = keys
        free, crossed = cells["pairs"] - 1, cells.dropna(subset="share")
        sd = float(np.sqrt((free * cells["sd"] ** 2).sum() / free.sum()))
        pairs = int(cells["pairs"].median())
        share = np.average(crossed["share"], weights=crossed["sd"] ** 2) if len(crossed) else None
        found.append(
            {
                "Network": f'<a href="../notebooks/{chapter}.html">{html.escape(str(network))}</a>',
                "Metric": METRICS[metric],
                "Data": dataset,
                "Cells": str(len(cells)),
                "Pairs of a cell": str(pairs),
                "SD, points": f"{100 * sd:.1f}",
                "Between draws": "unknown" if share is None else f"{100 * share:.0f} %",
                "Seen with 80 %, points": f"{100 * detectable_difference(sd, pairs):.1f}",
                **{f"Pairs for {100 * points:g}": f"{seeds_for_power(sd, points):,}" for points in _POINTS},
            }
        )
    return card_table(found) if found else "No paired differences are recorded yet.\n"
