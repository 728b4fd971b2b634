"""The generated parts of the book's pages: the status table and the foot of each chapter's card."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbal_book.build.parameters import read_notebook
from imbal_book.evidence.claims import VERDICT_BADGES
from imbal_core._checks.names import unknown_name

__all__ = ["chapter_card", "status_table"]


def _glued(executed: Path) -> dict[str, str]:
    """Return the reprs that an executed chapter glued, by name; none from smoke records: digits decide no claim."""
    notebook = read_notebook(executed)
    if notebook.metadata.get("papermill", {}).get("parameters", {}).get("PROFILE") == "smoke":
        return {}
    found = {}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("scrapbook", {}).get("name", ""):
            found[name] = next(value for mime, value in output["data"].items() if mime.endswith("text/plain"))
    return found


def chapter_card(chapter: str, executed: Path | None) -> str:
    """Return the foot of a chapter's card as MyST: verdicts, what they rest on and a link, or that it is not written.

    The verdicts are the values that the chapter glued as ``verdict_<claim>``, with ``grade_<claim>`` beside them. What
    they rest on is the text that it glued as ``judged_on``: a verdict from a small network is not read as one from the
    paper's.

    Raises
    ------
    ValueError
        If a glued verdict is not one of the labels.
    """
    if executed is None:
        return "{bdg-light}`chapter in preparation`\n"
    glued = _glued(executed)
    lines = []
    for claim in (key.removeprefix("verdict_") for key in glued if key.startswith("verdict_")):
        verdict = ast.literal_eval(glued[f"verdict_{claim}"])
        if verdict not in VERDICT_BADGES:
            raise unknown_name(f"verdict in {executed.name}", verdict, VERDICT_BADGES)
        grade = ast.literal_eval(glued.get(f"grade_{claim}", "''"))
        link = f'<a href="../notebooks/{chapter}.html#parts-{claim.lower()}">parts</a>'
        lines.append(f"- {{bdg-{VERDICT_BADGES[verdict]}}}`{claim} {verdict}`{grade and f' {grade},'} {link}")
    verdicts = "\n".join(lines) or "This build judges no claim."
    basis = ast.literal_eval(glued.get("judged_on", "''"))
    judged = f"Judged on: {basis}.\n\n" if basis else ""
    return f"{verdicts}\n\n{judged}[Read the chapter](../notebooks/{chapter}.ipynb)\n"


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
