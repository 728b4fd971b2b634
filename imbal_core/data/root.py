"""The folder of all data."""

from __future__ import annotations

import os
from pathlib import Path

from imbal_core.data.prepared import DatasetError


def data_root(root: Path | str | None = None) -> Path:
    """Return the folder of all data: the argument, else ``$IMBAL_DATA``, else ``~/.cache/imbal_core``.

    It need not exist; DatasetError if it cannot be a folder because it, or one above it, is a file.
    """
    chosen = Path(root or os.environ.get("IMBAL_DATA") or Path.home() / ".cache" / "imbal_core").expanduser()
    nearest = next((place for place in (chosen, *chosen.parents) if place.exists()), None)
    if nearest is not None and not nearest.is_dir():
        what = "the data root" if root or not os.environ.get("IMBAL_DATA") else "IMBAL_DATA"
        raise DatasetError(f"{what} {chosen}: {nearest} is a file; give a folder, which need not exist yet")
    return chosen
