"""The generated parts of the book's pages: the status table and the foot of each chapter's card."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imbal_book.build.ledger import badge, came_out, evidence, glued
from imbal_book.build.parameters import read_notebook
from imbal_book.evidence.claims import VERDICT_BADGES

__all__ = ["chapter_card", "status_table"]


def chapter_card(chapter: str, executed: Path | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the foot of a chapter's card as MyST: its answer, its claims with their verdicts, and a link.

    Parameters
    ----------
    chapter : str
    executed : Path or None
        Its executed copy; None where the chapter is not written.
    rows : sequence of mapping
        The claims of its paper, see `imbal_book.build.ledger.claim_rows`; none of a chapter that is about no paper.
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
        f"<li>{badge(row['verdict'], page + '#parts-' + row['claim'].id.lower())} "
        f"{html.escape(row['claim'].statement)} <small>{_evidence(row['verdict'])}</small></li>"
        for row in rows
    )
    counts = Counter(row["verdict"]["label"] for row in rows)
    summary = ", ".join(f"{counts[label]} {label}" for label in VERDICT_BADGES if counts[label])
    judged = f"\n\nJudged on: {kept['judged_on']}." if kept.get("judged_on") else ""
    claims = f'<details class="card-claims"><summary>{len(rows)} claims: {summary}</summary><ul>{items}</ul></details>'
    return f"{_answer(kept['answer'], rows)}\n\n{claims}{judged}\n\n{link}"


def _evidence(verdict: Mapping[str, Any]) -> str:
    return f"{evidence(verdict)}, n = {verdict['n']}" if verdict["n"] else evidence(verdict)


def _answer(said: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a chapter's own answer, or else its first claim that was attempted; then label, grade, n and why."""
    for row in rows:
        if lines := came_out(row["verdict"]):
            verdict, claim = row["verdict"], row["claim"]
            link = f"../notebooks/{row['paper'].study}.html#parts-{claim.id.lower()}"
            text = said or f"{html.escape(claim.statement)} Here, {html.escape(lines[0])}."
            why = html.escape(f"{_evidence(verdict)}. {verdict['explanation']}")
            return f'{text}\n\n<p class="answer">{badge(verdict, link)} <small>{why}</small></p>'
    return "No claim was attempted yet."


def status_table(executed: Mapping[str, Path]) -> str:
    """Return the status page's table as MyST, from the metadata in the executed copies.

    Parameters
    ----------
    executed : mapping of str to Path
        Chapter name to its executed copy. Seconds, times and parameters are papermill's, device and versions
        come from :func:`imbal_book.build.notebooks.run_notebook`.
    """
    columns = ["Chapter", "Profile", "Live", "Trained", "Seconds", "Device", "Versions", "Executed (UTC)"]
    rows = [columns, ["---", "---", "---", "---", "---:", "---", "---", "---"]]
    for name, path in executed.items():
        metadata = read_notebook(path).metadata
        run, machine = metadata["papermill"], metadata["imbal"]
        versions = {"python": metadata["language_info"]["version"], **machine["versions"]}
        rows.append(
            [
                f"[](../notebooks/{name}.ipynb)",
                *(_word(run["parameters"].get(key)) for key in ("PROFILE", "LIVE", "TRAIN")),
                f"{run['duration']:.1f}",
                machine["device"],
                ", ".join(f"{package} {version}" for package, version in versions.items()),
                run["start_time"][:16].replace("T", " "),
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _word(value: Any) -> str:
    return {True: "yes", False: "no", None: ""}.get(value, str(value))
