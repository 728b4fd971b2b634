"""Run the benchmarks, or those named, and keep what they print in speed.json beside them, from which the book reads it.

``python -m benchmarks`` runs all of them, ``python -m benchmarks losses centers`` two, and the others keep their
numbers. The machine should be idle. The exit code is 1 when a target is missed or a benchmark fails.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measured import GOALS, Measured, reported
from imbal_core.training.prediction import device_label

KEPT = Path(__file__).with_name("speed.json")
PACKAGES = ("torch", "numpy", "scikit-learn", "timm")


def machine() -> dict[str, str]:
    """Return the processor, the versions and the day."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return {
        "machine": f"{device_label('cpu')}, {os.cpu_count()} cores",
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def run(benchmark: str) -> tuple[dict[str, Measured], int]:
    """Return what a benchmark measured, whose output is shown as it comes, and its exit code."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    return reported("".join(lines)), process.returncode


def main() -> int:
    known = list(dict.fromkeys(goal.benchmark for goal in GOALS.values() if goal.benchmark))
    chosen = sys.argv[1:] or known
    if unknown := set(chosen) - set(known):
        sys.exit(f"error: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    before = json.loads(KEPT.read_text(encoding="utf-8"))["goals"] if KEPT.is_file() else []
    kept: dict[str, dict[str, Any]] = {row["name"]: row["measured"] for row in before if row["measured"]}
    failed = 0
    for benchmark in chosen:
        print(f"== {benchmark}", flush=True)
        found, code = run(benchmark)
        failed |= code
        kept |= {name: asdict(measured) | machine() for name, measured in found.items()}
    rows = [{"name": name, **asdict(goal), "measured": kept.get(name)} for name, goal in GOALS.items()]
    KEPT.write_text(json.dumps({"goals": rows}, indent=1) + "\n", encoding="utf-8")
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
