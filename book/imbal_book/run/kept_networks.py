"""Trained networks kept under the data root, so that a study reads what another has trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_core._checks.files import create_atomically
from imbal_core.models.networks import Network
from imbal_core.training.fit import FitResult

__all__ = ["KEPT_PROFILES", "keep_network", "network_key", "network_path", "read_network"]

#: Profiles whose networks take long enough to be worth keeping.
KEPT_PROFILES = ("paper",)


def network_key(prepared: PreparedRun) -> str:
    """Return 16 hexadecimal digits of what decides the trained weights: recipe, class counts, split and images.

    Two runs of different studies with one such key train the same network.
    """
    config = prepared.config
    recipe = {
        name: value for name, value in json.loads(config.canonical()).items() if name not in _OF_THE_STUDY
    }
    content = [recipe, prepared.train.fingerprint, prepared.split.sha256]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


#: Fields that say for whom a network is trained; the split's own fields act through its hash.
_OF_THE_STUDY = {field.name for field in dataclasses.fields(RunConfig)} & {
    *(
        "study",
        "profile",
        "dataset",
        "imbalance",
        "imbalance_scale",
        "split_seed",
        "split_groups",
        "valid_share",
    ),
}


def network_path(prepared: PreparedRun) -> Path | None:
    """Return where the run's network is kept, ``<data root>/networks/<network key>.safetensors``; None if nowhere."""
    if prepared.config.profile not in KEPT_PROFILES or prepared.config.frozen:
        return None
    return prepared.root / "networks" / f"{network_key(prepared)}.safetensors"


def keep_network(path: Path, network: Network, result: FitResult) -> None:
    """Keep the weights with their history; a file that is there stays, and a full disk costs the file alone."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    metadata = {"history": json.dumps(result.history), "seconds": json.dumps(result.seconds)}
    try:
        create_atomically(path, save(state, metadata))
    except OSError as error:
        warnings.warn(f"network {path.name} is not kept: {error}", RuntimeWarning, stacklevel=2)


def read_network(path: Path, network: Network) -> FitResult | None:
    """Load kept weights into an untrained network of the same recipe and return their history.

    None where there is no such file; one that cannot be used is warned of, and the network is then as it was.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        result = FitResult(json.loads(metadata["history"]), json.loads(metadata["seconds"]))
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        warnings.warn(
            f"network {path.name} is not used, it is trained anew: {error}", RuntimeWarning, stacklevel=2
        )
        return None
    return result
