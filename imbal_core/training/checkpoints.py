"""The state of a training run on disk: always a whole file, refused when it is torn or of another run."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from imbal_core._checks.files import write_atomically


def write_checkpoint(path: Path, state: Mapping[str, Any], identity: str) -> None:
    """Write the state so that the file is always a whole one; a full disk costs only the checkpoint.

    The state is tensors, numbers, strings, and lists and dicts of them; the identity is that of the run.
    """
    try:
        write_atomically(path, lambda file: torch.save({"identity": identity, **state}, file))
    except (OSError, RuntimeError) as error:
        message = f"checkpoint {path.name} not written ({error}); an interruption would cost its epochs."
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def load_state(path: Path) -> dict[str, Any]:
    """Return the state in a file, of whatever run, on the CPU; ValueError for damage that torch's reader misses."""
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"its part {damaged} is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def read_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the state of this run, on the CPU, or None; a file that cannot be used is warned of."""
    if not path.is_file():
        return None
    try:
        state = load_state(path)
        if state["identity"] != identity:
            raise ValueError("it belongs to another config or other labels")
    except Exception as error:  # a torn file can fail in any layer of the reader
        message = f"checkpoint {path.name} is not used, training starts anew: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=4)
        return None
    return state
