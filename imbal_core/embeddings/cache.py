"""Feature embeddings of whole data sets, cached by content."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from imbal_core._checks.files import write_atomically
from imbal_core._checks.npz import read_arrays
from imbal_core.data.datasets import ImageDataset
from imbal_core.models.networks import Network
from imbal_core.training.prediction import iter_predict


def network_digest(network: Network) -> str:
    """Return the SHA-256 of a network's parameters, buffers and input size, as 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{network.name}:{network.image_size}".encode())
    for name, value in sorted(network.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(array.shape)}:{array.dtype}".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return digest.hexdigest()


def cached_embeddings(
    network: Network,
    dataset: ImageDataset,
    tap: str,
    *,
    cache: Path,
    precision: str = "fp32",
    device: torch.device | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Return a tap's feature embeddings of every image (N, D) float16, computed once per network and data set.

    They come in the order of ``dataset.images``; half precision keeps about three decimal digits and halves the file.
    The network, frozen and pretrained as a rule, is not changed. The forward pass has the precision "fp32" or "bf16".
    The folder `cache` can be deleted at any time: a file's name is a hash of everything that its content depends on, so
    a stale file is never read. A cache that cannot be written, or is damaged by a single bit, is a RuntimeWarning.
    """
    content = f"{network_digest(network)}:{dataset.fingerprint}:{tap}:{precision}:float16"
    path = cache / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npz"
    if path.is_file():
        try:
            return read_arrays(path)["features"]
        except Exception as error:  # damage can fail in any layer of the reader
            warnings.warn(f"{path} is damaged ({error}) and made again", RuntimeWarning, stacklevel=2)
    batches = []
    with tqdm(total=len(dataset.labels), unit="image", desc="features", disable=not progress) as bar:
        for batch in iter_predict(
            network, dataset.images, taps=(tap,), batch_size=250, precision=precision, device=device
        ):
            batches.append(batch[tap].to(torch.float16).numpy())
            bar.update(len(batches[-1]))
    features = np.concatenate(batches)
    try:
        write_atomically(path, lambda file: np.savez(file, features=features))
    except OSError as error:
        message = f"features of {dataset.name} are not cached ({error}); the next run computes them again"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return features
