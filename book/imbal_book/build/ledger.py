"""The ledger of claims: what each paper says, what came out here, and what it takes to run it again."""

from __future__ import annotations

import ast
import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.build.parameters import read_notebook
from imbal_book.chapters import number
from imbal_book.evidence.claims import VERDICT_BADGES
from imbal_book.evidence.papers import Claim, Paper, list_papers, load_paper
from imbal_book.evidence.rules import load_rules
from imbal_book.evidence.statistics import detectable_difference, seeds_for_power
from imbal_book.run.record_format import Record
from imbal_core._checks.names import unknown_name

__all__ = ["badge", "came_out", "claim_rows", "glued", "ledger_table", "score", "seeds_table"]

#: The part that is shown first: what decides the label stands before what does not.
_DECIDES = ("fails", "open", "holds")
#: Metrics that are fractions of images, so that a difference of one percentage point means the same in all of them.
_FRACTIONS = {
    "accuracy": "accuracy",
    "f1_minority": "F1 of the rare class",
    "recall_few": "recall, rare classes",
    "recall_many": "recall, frequent classes",
    "recall_minority": "recall of the rare class",
}
_POINTS = (0.01, 0.02, 0.05)
#: The verdict on a claim whose chapter was not executed.
_NOTHING: dict[str, Any] = {
    "label": "not attempted",
    "word": "not attempted",
    "grade": "",
    "explanation": "",
    "form": None,
    "n": 0,
    "draws": 0,
    "parts": [],
    "models": [],
}


def glued(executed: Path) -> dict[str, Any]:
    """Return the values that an executed chapter glued, by name; none from smoke records: digits decide no claim."""
    notebook = read_notebook(executed)
    if notebook.metadata.get("papermill", {}).get("parameters", {}).get("PROFILE") == "smoke":
        return {}
    found = {}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("scrapbook", {}).get("name", ""):
            text = next(value for mime, value in output["data"].items() if mime.endswith("text/plain"))
            found[name] = text
    kept = {
        name: ast.literal_eval(found[name]) for name in ("verdicts", "judged_on", "answer") if name in found
    }
    kept["verdicts"] = json.loads(kept.get("verdicts", "[]"))
    for verdict in kept["verdicts"]:
        if verdict["label"] not in VERDICT_BADGES:
            raise unknown_name(f"verdict in {executed.name}", verdict["label"], VERDICT_BADGES)
    return kept


def claim_rows(executed: Mapping[str, Path], records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return one entry per claim of every paper: the claim, its paper, its verdict, and the command that runs it again.

    Parameters
    ----------
    executed : mapping of str to Path
        Chapter to its executed copy; the claims of a chapter without one are not attempted.
    records : iterable of Record
        Those whose seconds say what the command costs.
    """
    papers = [load_paper(name) for name in list_papers()]
    seconds = pd.DataFrame(
        [
            {name: record.config[name] for name in ("study", "profile", "model", "dataset")}
            | {"seconds": record.provenance["seconds"]}
            for record in records
        ],
        columns=["study", "profile", "model", "dataset", "seconds"],
    )
    order = [*executed, *(paper.study for paper in papers)]
    rows = []
    for paper in sorted(papers, key=lambda paper: order.index(paper.study)):
        copy = executed.get(paper.study)
        verdicts = {v["claim"]: v for v in glued(copy).get("verdicts", [])} if copy else {}
        for claim in paper.claims.values():
            verdict = verdicts.get(claim.id, _NOTHING)
            command, cost = _again(paper, verdict, seconds)
            rows.append(
                {
                    "claim": claim,
                    "paper": paper,
                    "chapter": copy is not None,
                    "command": command,
                    "cost": cost,
                }
                | {"verdict": verdict}
            )
    return rows


def _again(paper: Paper, verdict: Mapping[str, Any], seconds: pd.DataFrame) -> tuple[str, str]:
    """Return the command that makes a verdict's records again, and what those cost."""
    if not verdict["n"]:
        command = f"imbal notebook {paper.study}" if verdict["label"] != "not attempted" else ""
        return command, "no training" if command else ""
    chosen = {
        "model": verdict["models"],
        "dataset": list(dict.fromkeys(part["dataset"] for part in verdict["parts"] if part["pairs"])),
    }
    only = ",".join(f"{name}={value}" for name, values in chosen.items() for value in values)
    runs = seconds[(seconds["study"] == paper.study) & (seconds["profile"] == verdict["profile"])]
    for name, values in chosen.items():
        runs = runs[runs[name].isin(values)]
    cost = f"{len(runs):,} runs, {runs['seconds'].sum() / 60:,.0f} device-minutes"
    return f"imbal run {paper.study} --profile {verdict['profile']} --only {only}", cost


def _citation(paper: Paper) -> str:
    others = " et al." if len(paper.authors) > 1 else ""
    return f"{paper.authors[0].split()[-1]}{others} {paper.year}"


def badge(verdict: Mapping[str, Any], link: str = "") -> str:
    """Return a verdict's word as a badge, which leads to its table of parts where there is one."""
    look = f'class="verdict verdict-{VERDICT_BADGES[verdict["label"]]}"'
    return (
        f'<a {look} href="{link}">{verdict["word"]}</a>' if link else f"<span {look}>{verdict['word']}</span>"
    )


def came_out(verdict: Mapping[str, Any]) -> list[str]:
    """Return, for each part of a verdict, the cell that decides it: estimate, interval, draws and trainings.

    That is the one that fails or is open, else of those that hold the one whose interval ends nearest to 0.
    """
    parts = pd.DataFrame(verdict["parts"])
    if parts.empty:
        return []
    lines = []
    for name, cells in parts[parts["pairs"] > 0].groupby("part", sort=False):
        rank = cells["state"].map(_DECIDES.index)
        distance = np.minimum(cells["low"].abs(), cells["high"].abs())
        cell = cells.loc[
            pd.DataFrame({"rank": rank, "distance": distance}).sort_values(["rank", "distance"]).index[0]
        ]
        unit = "" if cell["metric"] not in _FRACTIONS else " points"
        text = number(
            cell["mean"],
            cell["low"],
            cell["high"],
            scale=100 if unit else 1,
            digits=1 if unit else 2,
            sign=True,
        )
        more = f" and {len(cells) - 1} more cells" if len(cells) > 1 else ""
        trainings = cell["pairs"] / cell["draws"]
        design = (
            f"{cell['draws']:g} draws × {trainings:g} trainings"
            if trainings % 1 == 0
            else (f"{cell['pairs']:g} pairs of {cell['draws']:g} draws")
        )
        lines.append(f"{name}: {text}{unit} on {cell['dataset']}, {cell['imbalance']} ({design}){more}")
    return lines


def _reported(claim: Claim, form: str | None) -> str:
    """Return the size that the paper prints for the first part of a claim: one gain, or the span over its cells."""
    parts = load_rules().claims[claim.id]
    if claim.ours or not isinstance(parts, list):
        return ""
    beside = claim.forms.get(form or "") or next(iter(claim.forms.values()))
    network = beside.network
    if network in claim.printed:
        return f"{100 * claim.printed[network]:+.1f} points ({network})"
    pairs = [
        [
            claim.reported.get((network, cell.dataset, cell.imbalance, readout))
            for readout in (parts[0].a, parts[0].b)
        ]
        for cell in claim.cells
    ]
    gains = [100 * (a - b) for a, b in pairs if a is not None and b is not None]
    if not gains:
        return "no number that could be read"
    return f"{min(gains):+.1f} to {max(gains):+.1f} points in {len(gains)} cells ({network})"


def ledger_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the ledger as HTML: a row per claim, marked with paper, label and grade for the filter of the page."""
    heads = ("Claim", "Verdict", "Reported", "What came out here", "Run it again")
    body = []
    for row in rows:
        claim, verdict, paper = row["claim"], row["verdict"], row["paper"]
        page = f"../notebooks/{paper.study}.html"
        link = f"{page}#parts-{claim.id.lower()}" if row["chapter"] else ""
        by = "ours" if claim.ours else _citation(paper)
        quote = (
            f"<details><summary>in its words</summary>“{html.escape(claim.quote)}”</details>"
            if claim.quote
            else ""
        )
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in came_out(verdict))
        links = f' <a href="{link}">table of parts</a>, <a href="{page}">figures</a>' if link else ""
        cells = (
            f"<b>{claim.id}</b> {html.escape(claim.statement)}<br><small>{by}; {html.escape(claim.source)}; "
            f"{claim.status}</small>{quote}",
            f"{badge(verdict, link)}<br><small>{verdict['grade'] or 'no evidence'}</small>",
            html.escape(_reported(claim, verdict["form"])) or "ours, not the paper's",
            f"{f'<ul>{lines}</ul>' if lines else html.escape(verdict['explanation'])}<small>{links}</small>",
            f"<code>{html.escape(row['command'])}</code><br><small>{row['cost']}</small>"
            if row["command"]
            else "",
        )
        marks = {"paper": by, "label": verdict["label"], "grade": verdict["grade"] or "no evidence"}
        data = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in marks.items())
        tds = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in zip(heads, cells, strict=True))
        body.append(f'<tr id="{claim.id.lower()}" {data}>{tds}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    start = f'<table class="ledger" id="ledger"><thead><tr>{head}</tr></thead><tbody>'
    return "\n".join([start, *body, "</tbody></table>"]) + "\n"


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
    """Return, as Markdown, how much paired differences vary, and the pairs that it takes to see 1, 2 and 5 points.

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
    parts = parts[parts["metric"].isin(list(_FRACTIONS)) & (parts["sd"] > 0)]
    # two claims may rest on the same differences
    parts = parts.drop_duplicates(["chapter", "network", "metric", "dataset", "imbalance", "sd"])
    groups = parts.groupby(["chapter", "network", "metric", "dataset"], sort=False)
    found = [
        _variation(str(chapter), str(network), str(metric), str(dataset), cells)
        for (chapter, network, metric, dataset), cells in groups
    ]
    if not found:
        return "No paired differences are recorded yet.\n"
    lines = [[*found[0]], ["---"] * 4 + ["---:"] * (len(found[0]) - 4), *(row.values() for row in found)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _variation(chapter: str, network: str, metric: str, dataset: str, cells: pd.DataFrame) -> dict[str, Any]:
    free, crossed = cells["pairs"] - 1, cells.dropna(subset="share")
    sd = float(np.sqrt((free * cells["sd"] ** 2).sum() / free.sum()))
    pairs = int(cells["pairs"].min())
    share = np.average(crossed["share"], weights=crossed["sd"] ** 2) if len(crossed) else None
    return {
        "Chapter": f"[](../notebooks/{chapter}.ipynb)",
        "Network": network,
        "Metric": _FRACTIONS[metric],
        "Data": dataset,
        "Cells": len(cells),
        "Pairs of a cell": pairs,
        "SD, points": f"{100 * sd:.1f}",
        "Between draws": "unknown" if share is None else f"{100 * share:.0f} %",
        "Seen with 80 %, points": f"{100 * detectable_difference(sd, pairs):.1f}",
        **{f"Pairs for {100 * points:g}": f"{seeds_for_power(sd, points):,}" for points in _POINTS},
    }
