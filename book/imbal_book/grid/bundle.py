"""A grid, its images and its weights in a few files, for a machine without a network.

A bundle is one zip, or several where a size limit asks for it. Every part holds a ``manifest.json`` that
names the bundle, all its members and their sha256. The images travel as lossless WebP mosaics, and only those
that some split of the grid draws, and the test images. Labels and groups travel complete, because a split is
drawn from them: so a run has the same split and the same key on the lent machine as at home.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imbal_book.grid.mosaics import decode_mosaic, encode_mosaic, mosaic_layout
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import prepare
from imbal_book.run.records import RecordStore
from imbal_core._checks.files import write_atomically
from imbal_core.data.datasets import ImageDataset, decoded_size, prepared_path
from imbal_core.data.root import data_root
from imbal_core.models.weights import find_weights

FORMAT, SCHEMA = "imbal-bundle", 1
MANIFEST = "manifest.json"
#: The fields of a manifest that all parts share and that, with the members, its identity is made of.
_COMMON = ("format", "schema", "configs", "images", "files")


class BundleError(ValueError):
    """A bundle cannot be written or read; the message names the file and the remedy."""


def pack(
    configs: Sequence[RunConfig],
    store: RecordStore,
    out: Path | str,
    *,
    max_mb: float = 60,
    root: Path | str | None = None,
) -> list[Path]:
    """Return the files of a bundle with the runs of a grid that the store lacks, in order.

    Parameters
    ----------
    configs, store
        The grid, and what says which of its runs are recorded and left out.
    out : path
        The file to write, which is replaced. Several parts are called ``name-1of3.zip`` and so on.
    max_mb : float, default=60
        No file is larger than this many megabytes (of 1,000,000 bytes).
    root : path, optional
        The data root.

    Raises
    ------
    BundleError
        Nothing is missing, the limit is too small, or an image does not survive the compression.
    """
    missing = store.missing(list(configs))
    if not missing:
        raise BundleError(f"nothing to pack: all {len(configs)} runs of the grid are recorded in the store")
    limit = int(max_mb * 1_000_000)
    most = max(limit // 2, 1)
    images: dict[str, Any] = {}
    files: dict[str, Any] = {}
    members: dict[str, bytes] = {}
    for path, (dataset, present) in _needed_images(missing, root).items():
        images[path] = _pack_images(path.removesuffix(".npz"), dataset, present, most, members)
    for path, data in _needed_weights(missing, root).items():
        starts = range(0, len(data), most)
        pieces = {f"{path}.{n:05d}": data[start : start + most] for n, start in enumerate(starts)}
        files[path] = {"sha256": sha256_of(data), "pieces": list(pieces)}
        members |= pieces
    told = [config.to_dict() for config in missing]
    common = {"format": FORMAT, "schema": SCHEMA, "configs": told, "images": images, "files": files}
    return _write_parts(Path(out), common, members, limit)


def _needed_images(
    configs: Sequence[RunConfig], root: Path | str | None
) -> dict[str, tuple[ImageDataset, np.ndarray]]:
    """Return the images, and which of them the runs look at, (N,) bool, by their place in a data root."""
    needed: dict[str, tuple[ImageDataset, np.ndarray]] = {}
    for config in configs:
        run = prepare(config, root=root)
        drawn = np.concatenate([run.split.train, run.split.valid])
        size = decoded_size(config.dataset, config.image_size)
        for dataset, indices in ((run.train, drawn), (run.test, run.split.test)):
            path = prepared_path(config.dataset, dataset.split, root="/", image_size=size)
            entry = (dataset, np.zeros(len(dataset.labels), dtype=bool))
            needed.setdefault(path.relative_to("/").as_posix(), entry)[1][indices] = True
    return needed


def _needed_weights(configs: Sequence[RunConfig], root: Path | str | None) -> dict[str, bytes]:
    """Return the files of weights that pretrained networks need, by their place in a data root."""
    needed = {}
    for model in sorted({config.model for config in configs if config.pretrained}):
        path = find_weights(model, root)
        if path is None:
            raise BundleError(
                f"the weights of {model!r} are not in {data_root(root) / 'weights'}, and a bundle must carry "
                "them: start one run here, which downloads them, or put the file there"
            )
        needed[f"weights/{path.name}"] = path.read_bytes()
    return needed


def _pack_images(
    prefix: str, dataset: ImageDataset, present: np.ndarray, most: int, members: dict[str, bytes]
) -> dict[str, Any]:
    """Return the manifest entry of one split of a data set, after adding its members: labels and mosaics."""
    height, width = dataset.images.shape[1:3]
    indices = np.flatnonzero(present)
    labels = io.BytesIO()
    kept: dict[str, Any] = {"labels": dataset.labels, "class_names": np.array(dataset.class_names)}
    if dataset.groups is not None:
        kept["groups"] = dataset.groups
    np.savez_compressed(labels, present=np.packbits(present), **kept)
    members[f"{prefix}/labels.npz"] = labels.getvalue()
    columns, rows = mosaic_layout(height, width, most)
    mosaics = []
    for number, start in enumerate(range(0, len(indices), columns * rows)):
        images = dataset.images[indices[start : start + columns * rows]]
        data, name = encode_mosaic(images, columns), f"{prefix}/{number:05d}.webp"
        if not np.array_equal(decode_mosaic(data, images.shape, columns), images):
            raise BundleError(
                f"{dataset.name} {dataset.split}: mosaic {number} changed when it was compressed"
            )
        members[name] = data
        mosaics.append({"member": name, "images": len(images)})
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "fingerprint": dataset.fingerprint,
        "shape": list(dataset.images.shape),
        "labels": f"{prefix}/labels.npz",
        "present": {"images": len(indices), "sha256": sha256_of(indices.astype("<i8").tobytes())},
        "pixels": sha256_of(np.ascontiguousarray(dataset.images[indices]).tobytes()),
        "columns": columns,
        "mosaics": mosaics,
    }


def _write_parts(out: Path, common: dict[str, Any], members: Mapping[str, bytes], limit: int) -> list[Path]:
    """Write the parts, each at most ``limit`` bytes, and return their paths."""
    hashes = {name: sha256_of(data) for name, data in members.items()}
    common["bundle"] = identity_of(common, hashes.items())
    parts: list[list[str]] = [[]]
    # the manifest in every part, and the zip's own entries and directory
    size = overhead = len(zlib.compress(as_json(common))) + 4096
    for name, data in members.items():
        needed = len(data) + 2 * len(name) + 256
        if parts[-1] and size + needed > limit:
            parts.append([])
            size = overhead
        parts[-1].append(name)
        size += needed
    written = []
    for number, names in enumerate(parts, start=1):
        path = out if len(parts) == 1 else out.with_name(f"{out.stem}-{number}of{len(parts)}{out.suffix}")
        own = {"part": number, "parts": len(parts), "members": {name: hashes[name] for name in names}}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            # fixed dates, so that the same bundle has the same bytes
            archive.writestr(zipfile.ZipInfo(MANIFEST), as_json(common | own), zipfile.ZIP_DEFLATED)
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), members[name])
        data = buffer.getvalue()
        if len(data) > limit:
            raise BundleError(
                f"max_mb={limit / 1e6:g} is too small for this grid: one part would need "
                f"{len(data) / 1e6:.2f} MB (its manifest with {len(common['configs'])} runs is in every part)"
            )
        write_atomically(path, data)
        written.append(path)
    return written


def identity_of(manifest: Mapping[str, Any], members: Iterable[tuple[str, str]]) -> str:
    """Return the sixteen hex digits that name a bundle: of what its parts share, and all members and their sha256."""
    common = {name: manifest[name] for name in _COMMON}
    return sha256_of(as_json([common, [list(member) for member in members]]))[:16]


def as_json(value: object) -> bytes:
    """Return a value as JSON with sorted keys and no spaces, so that equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_of(data: bytes) -> str:
    """Return the sha256 of some bytes in hex digits."""
    return hashlib.sha256(data).hexdigest()
