"""The page on speed: what was measured, against what a user would pick instead, and with which target.

The numbers are those of ``benchmarks/speed.json``, which ``make bench`` writes.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbal_book.build.ledger import card_table

__all__ = ["speed_table"]


def speed_table(file: Path) -> str:
    """Return the table of the goals in `file` as HTML, and below it the machines on which they were measured."""
    if not file.is_file():
        return "Nothing is measured yet.\n"
    goals = json.loads(file.read_text(encoding="utf-8"))["goals"]
    made = [(each["date"], each["machine"], each["versions"]) for goal in goals if (each := goal["measured"])]
    lines = [f"Measured on {date}: {machine}; {versions}." for date, machine, versions in dict.fromkeys(made)]
    return card_table([_row(goal) for goal in goals]) + "".join(f"\n{line}\n" for line in lines)


def _row(goal: Mapping[str, Any]) -> dict[str, str]:
    measured, unit = goal["measured"], goal["unit"]
    found, spread, reached = "CUDA not run" if goal["cuda"] else "not measured", "", ""
    if measured:
        value, target = measured["value"], goal["target"]
        found, spread = f"{value:.3g} {unit}", f"{measured['low']:.3g} to {measured['high']:.3g}"
        reached = "yes" if (value >= target if goal["at_least"] else value <= target) else "no"
    return {
        "What": f"{html.escape(goal['what'])}<br><small>{html.escape(goal['name'])}</small>",
        "Against": html.escape(goal["against"]),
        "Target": f"at {'least' if goal['at_least'] else 'most'} {goal['target']:g} {unit}",
        "Measured": found,
        "Spread": spread,
        "Reached": reached,
    }
