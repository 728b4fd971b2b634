"""Where a run's numbers come from: code, versions, machine, cost and date."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def checkout_folder() -> Path:
    """Return the folder two levels above ``book/imbal_book``'s rooms; of an installed wheel it holds no checkout."""
    return Path(__file__).resolve().parents[3]


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds this package, and whether its code differs from it.

    Only what decides the numbers counts as a difference: the two packages and the lock of its requirements.
    Both are None when the package is not in a git checkout of its own, or git cannot be asked. The answer is
    that of the first call: what the process loaded does not change later.
    """
    checkout = checkout_folder()
    top = _git("rev-parse", "--show-toplevel")
    # An installed package may lie inside somebody else's repository, whose commit says nothing about it.
    if top is None or Path(top) != checkout:
        return None, None
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--", "imbal_core", "book/imbal_book", "requirements.lock")
    return commit, None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    """Return what git prints of the checkout, or None if it fails for any reason."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # asking must not disturb a commit that is under way
    command = ["git", "-C", str(checkout_folder()), *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.strip()


def provenance(
    device: str, seconds: float, *, threads: int, precision: str = "fp32", peak_memory_mb: float | None = None
) -> dict[str, Any]:
    """Return where a run's numbers come from, as plain JSON values: neither a path nor a user's or a host's name.

    ``device`` is a name, see `imbal_core.training.prediction.device_label`; ``seconds`` are wall-clock time,
    ``peak_memory_mb`` megabytes (10**6 bytes), None where it was not measured.
    """
    commit, dirty = git_state()
    return {
        "package": _version("imbal-core"),
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "torchvision", "numpy")},
        "system": f"{sys.platform} {platform.machine()}",
        "device": device,
        "threads": threads,
        "precision": precision,
        "seconds": round(float(seconds), 3),
        "peak_memory_mb": None if peak_memory_mb is None else round(float(peak_memory_mb), 1),
        "date": utc_now(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def utc_now() -> str:
    """Return the time now, in ISO form to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
