"""Features of a frozen network for files of images: read once, kept by the content of each file.

Files pass in chunks through reading, decoding and the network, so memory holds one chunk of images; each finished chunk
is a file of the cache, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm.auto import tqdm

from imbal_core._checks.files import regular, write_atomically
from imbal_core._checks.npz import read_arrays
from imbal_core.data.image_folders import decode_image
from imbal_core.embeddings.cache import network_digest
from imbal_core.models.build import build_model
from imbal_core.models.networks import Network
from imbal_core.models.weights import WeightsError, find_weights
from imbal_core.training.prediction import predict

__all__ = ["BACKBONES", "read_features", "load_backbone"]

#: Networks whose ImageNet weights are looked for, the first found is taken.
BACKBONES = ("timm:tf_efficientnet_lite0", "resnet34")
_CHUNK = 128
# A batch of one fixed size, filled up with black images, gives an image the same features whatever is beside it.
_BATCH = 32
#: What is kept of a file beside its hash and its feature.
_KEPT = ("digest", "width", "height", "mode", "frames")


def load_backbone(name: str | None = None, *, root: Path | None = None) -> Network:
    """Return a network with ImageNet weights in evaluation mode.

    Parameters
    ----------
    name : str, optional
        As `imbal_core.build_model` takes it. Default: the first of `BACKBONES` whose weights are in the data root,
        else the first that can be downloaded.
    root : path, optional
        Data root.
    """
    names = [name] if name else sorted(BACKBONES, key=lambda known: find_weights(known, root) is None)
    for number, known in enumerate(names, start=1):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(
                    0
                )  # of the classifier, which nobody reads and the name of the cache depends on
                return build_model(known, 2, pretrained=True, root=root).eval()
        except (WeightsError, ImportError):
            if number == len(names):
                raise
    raise AssertionError("there is at least one name")


def read_features(
    network: Network, files: Sequence[Path], *, cache: Path | None, progress: bool = True
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the features of every file, and what else was read from it.

    Parameters
    ----------
    network : Network
        In evaluation mode; the tap that its classifier reads, else its last.
    files : sequence of Path
    cache : Path or None
        Folder of the cached features; None keeps nothing.
    progress : bool, default=True

    Returns
    -------
    features : ndarray of shape (N, D), float16
        Zeros for a file that cannot be read.
    facts : DataFrame
        Columns ``digest`` (SHA-256 of the file), ``hash`` (difference hash, uint64), ``width``, ``height`` (pixels),
        ``mode``, ``frames``, and ``problem``, "" or why the file cannot be used.
    """
    tap = network.embedding_tap or network.taps[-1]
    store = _Store(cache, f"{network_digest(network)}:{tap}")
    features, facts = [], []
    with (
        tqdm(total=len(files), unit="image", desc="features", disable=not progress) as bar,
        ThreadPoolExecutor(4) as pool,
    ):
        for start in range(0, len(files), _CHUNK):
            read = list(
                pool.map(lambda file: _read(file, network.image_size, store), files[start : start + _CHUNK])
            )
            new = [item for item in read if "pixels" in item]
            if new:
                found = _forward(network, tap, np.stack([item.pop("pixels") for item in new]))
                for item, row in zip(new, found, strict=True):
                    item["feature"] = row
                store.add(new)
            features += [item.pop("feature", None) for item in read]
            facts += read
            bar.update(len(read))
    width = next((len(row) for row in features if row is not None), 1)
    rows = [np.zeros(width, np.float16) if row is None else row for row in features]
    return np.stack(rows), pd.DataFrame(facts)


def _read(file: Path, side: int, store: _Store) -> dict[str, Any]:
    """Return what is known of a file: from the cache by its content, else with its pixels decoded."""
    facts: dict[str, Any] = {
        "digest": "",
        "hash": 0,
        "width": 0,
        "height": 0,
        "mode": "",
        "frames": 1,
        "problem": "",
    }
    try:
        content = regular(file).read_bytes()
    except (OSError, ValueError) as error:  # a name in a table may be none of a file
        return facts | {"problem": f"it cannot be read ({getattr(error, 'strerror', None) or error})"}
    facts["digest"] = hashlib.sha256(content).hexdigest()
    known = store.get(facts["digest"])
    if known is not None:
        return facts | known
    pixels = decode_image(file, side)
    if isinstance(pixels, str):
        return facts | {"problem": pixels}
    try:
        with Image.open(BytesIO(content)) as opened:
            facts |= {"width": opened.width, "height": opened.height, "mode": opened.mode}
            facts["frames"] = getattr(opened, "n_frames", 1)
    except Exception as error:  # in frames after the first, which is decoded
        return facts | {"problem": f"damaged image ({error})"}
    return facts | {"hash": difference_hash(pixels), "pixels": pixels}


def difference_hash(pixels: np.ndarray) -> int:
    """Return 64 bits: of 8 x 9 areas of the grey image, which is brighter than its right neighbour."""
    small = np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits(small[:, :-1] > small[:, 1:])
    return int.from_bytes(bits.tobytes(), "big")


def _forward(network: Network, tap: str, images: np.ndarray) -> np.ndarray:
    """Return the features, float16 (N, D), computed in batches of one size."""
    filled = np.concatenate([images, np.zeros((-len(images) % _BATCH, *images.shape[1:]), np.uint8)])
    network.to(memory_format=torch.channels_last)
    found = predict(network, filled, taps=(tap,), batch_size=_BATCH)[tap]
    return found[: len(images)].to(torch.float16).numpy()


class _Store:
    """Features by the SHA-256 of a file's content; one npz for each chunk that was computed."""

    def __init__(self, folder: Path | None, content: str) -> None:
        key = hashlib.sha256(f"{content}:float16:1".encode()).hexdigest()[:16]
        self.folder = None if folder is None else folder / key
        self._rows: dict[str, dict] = {}
        for path in sorted(self.folder.glob("*.npz")) if self.folder else ():
            try:
                table = read_arrays(regular(path))
                rows = {name: table[name].tolist() for name in (*_KEPT, "hash")}
                told = zip(rows["digest"], table["feature"], range(len(rows["hash"])), strict=True)
                self._rows |= {
                    digest: {name: rows[name][i] for name in (*_KEPT[1:], "hash")} | {"feature": feature}
                    for digest, feature, i in told
                }
            except Exception:  # torn by a full disk, in any layer of the readers: it is computed again
                continue

    def get(self, digest: str) -> dict | None:
        """Return a copy of what is kept of a file."""
        found = self._rows.get(digest)
        return None if found is None else dict(found)

    def add(self, items: list[dict]) -> None:
        """Keep the features of a chunk; a full disk costs the cache, not the run."""
        if self.folder is None:
            return
        table: dict[str, Any] = {
            name: np.array([item[name] for item in items]) for name in (*_KEPT, "feature")
        }
        table["hash"] = np.array([item["hash"] for item in items], np.uint64)
        name = hashlib.sha256("".join(table["digest"].tolist()).encode()).hexdigest()[:24]
        try:
            write_atomically(self.folder / f"{name}.npz", lambda file: np.savez(file, **table))
        except OSError as error:
            warnings.warn(
                f"features are not kept in {self.folder} ({error.strerror}): free some space, or give "
                "another --cache; the next run computes them again",
                RuntimeWarning,
                stacklevel=3,
            )
            self.folder = None
