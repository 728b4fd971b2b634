"""Trained networks that studies share: kept under the data root by what decides their weights."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

from imbal_book.run.prepared import PreparedRun
from imbal_core._checks.files import write_atomically
from imbal_core.training.checkpoints import load_state

#: Profiles whose networks take long enough to be worth keeping.
SHARED_PROFILES = ("paper",)


def network_file(prepared: PreparedRun) -> Path | None:
    """Return where a run's trained network is kept, ``<data root>/networks/<network key>.pt``; None if nowhere.

    The key is a hash of recipe, split and images: two runs of different studies that have one train one network.
    """
    config = prepared.config
    if config.profile not in SHARED_PROFILES or config.frozen:
        return None
    content = f"{config.training_digest()}:{prepared.train.fingerprint}:{prepared.split.sha256}"
    return prepared.root / "networks" / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.pt"


def borrow_network(network: Path, checkpoint: Path) -> float | None:
    """Leave a kept network as the last checkpoint of a run that has none; return the seconds its training took.

    None where there is none, or the run has a checkpoint of its own; a file that cannot be read is warned of.
    """
    if checkpoint.exists() or not network.is_file():
        return None
    try:
        seconds = sum(load_state(network)["seconds"])
        write_atomically(checkpoint, network.read_bytes())
    except Exception as error:  # a torn file can fail in any layer of the reader
        warnings.warn(f"network {network.name} is not used: {error}", RuntimeWarning, stacklevel=2)
        return None
    return float(seconds)


def keep_network(network: Path, checkpoint: Path) -> None:
    """Keep the last checkpoint of a run as its network; a full disk costs the file alone."""
    try:
        write_atomically(network, checkpoint.read_bytes())
    except OSError as error:
        warnings.warn(f"network {network.name} is not kept: {error}", RuntimeWarning, stacklevel=2)
