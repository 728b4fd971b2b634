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

import torch

from imbal_book.run.checkout import checkout_folder
from imbal_core.training.prediction import device_label

__all__ = ["git_state", "provenance", "utc_now"]


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds this package, and whether its code differs from it.

    Only what decides the numbers counts as a difference: the two packages and the lock of its requirements.
    Both are None when the package is not in a git checkout of its own, or git cannot be asked. The answer is
    that of the first call: what the process loaded does not change later.
    """
    checkout = checkout_folder()
    top = _git(checkout, "rev-parse", "--show-toplevel")
    # An installed package may lie inside somebody else's repository, whose commit says nothing about it.
    if top is None or Path(top) != checkout:
        return None, None
    commit = _git(checkout, "rev-parse", "HEAD")
    status = _git(
        checkout, "status", "--porcelain", "--", "imbal_core", "book/imbal_book", "requirements.lock"
    )
    return commit, None if status is None else bool(status)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if it fails for any reason."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = (
        "0"  # asking for the state must not disturb a commit that is under way
    )
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout.strip()


def provenance(
    device: torch.device | str,
    seconds: float,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    peak_memory_mb: float | None = None,
    git: tuple[str | None, bool | None] | None = None,
) -> dict[str, Any]:
    """Return where a run's numbers come from: code, versions, machine, cost and date.

    Parameters
    ----------
    device : torch.device or str
        The device, or its name in words.
    seconds : float
        Wall-clock time of the run.
    precision : str
        Number format of the forward pass.
    threads : int, optional
        Default: the number that torch uses now.
    peak_memory_mb : float, optional
        Largest memory of the run in megabytes (10**6 bytes). Default: None, not measured.
    git : (commit, dirty), optional
        Default: :func:`git_state`. A machine without the checkout is told the state where its code came
        from.

    Returns
    -------
    dict
        Plain JSON values; neither a path nor a user's or a host's name.
    """
    commit, dirty = git_state() if git is None else git
    return {
        "package": _version("imbal-core"),
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "torchvision", "numpy")},
        "system": f"{sys.platform} {platform.machine()}",
        "device": device if isinstance(device, str) else device_label(device),
        "threads": torch.get_num_threads() if threads is None else threads,
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
