"""The folder of all data."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["data_root"]


def data_root(root: Path | str | None = None) -> Path:
    """Return the folder of all data: the argument, else ``$IMBAL_DATA``, else ``~/.cache/imbal_core``."""
    chosen = root or os.environ.get("IMBAL_DATA") or Path.home() / ".cache" / "imbal_core"
    return Path(chosen).expanduser()
