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
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
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

__all__ = ["BundleContents", "BundleError", "open_bundle", "pack"]

FORMAT = "imbal-bundle"
SCHEMA = 1
MANIFEST = "manifest.json"


class BundleError(ValueError):
    """A bundle cannot be written or read; the message names the file and the remedy."""


@dataclass(frozen=True)
class BundleContents:
    """What an unpacked bundle holds.

    Attributes
    ----------
    identity : str
        Sixteen hex digits that all parts share.
    configs : list of RunConfig
        The runs to do.
    root : Path
        A data root: pass it as ``root`` to whatever loads a data set or weights.
    """

    identity: str
    configs: list[RunConfig]
    root: Path


@dataclass(frozen=True)
class _Member:
    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        return _sha256(self.data)


def pack(
    configs: Sequence[RunConfig],
    store: RecordStore,
    out: Path | str,
    *,
    max_mb: float = 60,
    root: Path | str | None = None,
) -> list[Path]:
    """Return the files of a bundle with the runs of a grid that the store lacks.

    Parameters
    ----------
    configs : sequence of RunConfig
        The grid; recorded runs are left out.
    store : RecordStore
        Says which runs are recorded.
    out : path
        The file to write. Where several parts are needed they are called ``name-1of3.zip`` and so on.
    max_mb : float, default=60
        No file is larger than this many megabytes (of 1,000,000 bytes).
    root : path, optional
        The data root.

    Returns
    -------
    list of Path
        The files, in order. A file of the same name is replaced.

    Raises
    ------
    BundleError
        Nothing is missing, the limit is too small, or an image does not survive the compression.
    """
    missing = store.missing(list(configs))
    if not missing:
        raise BundleError(f"nothing to pack: all {len(configs)} runs of the grid are recorded in the store")
    limit = int(max_mb * 1_000_000)
    common: dict[str, Any] = {
        "format": FORMAT,
        "schema": SCHEMA,
        "configs": [config.to_dict() for config in missing],
        "images": {},
        "files": {},
    }
    most = max(limit // 2, 1)
    members: list[_Member] = []
    for path, (dataset, present) in _needed_images(missing, root).items():
        common["images"][path], new = _pack_images(path.removesuffix(".npz"), dataset, present, most)
        members += new
    for path, data in _needed_weights(missing, root).items():
        common["files"][path], new = _pack_file(path, data, most)
        members += new
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
    for model in sorted({config.model for config in configs if config.pretrained or config.frozen}):
        path = find_weights(model, root)
        if path is None:
            raise BundleError(
                f"the weights of {model!r} are not in {data_root(root) / 'weights'}, and a bundle must carry "
                "them: start one run here, which downloads them, or put the file there"
            )
        needed[f"weights/{path.name}"] = path.read_bytes()
    return needed


def _pack_images(
    prefix: str, dataset: ImageDataset, present: np.ndarray, most: int
) -> tuple[dict[str, Any], list[_Member]]:
    """Return the manifest entry of one split of a data set, and its members: labels and mosaics."""
    height, width = dataset.images.shape[1:3]
    indices = np.flatnonzero(present)
    labels = io.BytesIO()
    kept: dict[str, Any] = {"labels": dataset.labels, "class_names": np.array(dataset.class_names)}
    if dataset.groups is not None:
        kept["groups"] = dataset.groups
    np.savez_compressed(labels, present=np.packbits(present), **kept)
    members = [_Member(f"{prefix}/labels.npz", labels.getvalue())]
    columns, rows = mosaic_layout(height, width, most)
    mosaics = []
    for number, start in enumerate(range(0, len(indices), columns * rows)):
        images = dataset.images[indices[start : start + columns * rows]]
        member = _Member(f"{prefix}/{number:05d}.webp", encode_mosaic(images, columns))
        if not np.array_equal(decode_mosaic(member.data, (len(images), *images.shape[1:]), columns), images):
            raise BundleError(
                f"{dataset.name} {dataset.split}: mosaic {number} changed when it was compressed"
            )
        members.append(member)
        mosaics.append({"member": member.name, "images": len(images)})
    entry = {
        "dataset": dataset.name,
        "split": dataset.split,
        "fingerprint": dataset.fingerprint,
        "shape": list(dataset.images.shape),
        "labels": members[0].name,
        "present": {"images": len(indices), "sha256": _sha256(indices.astype("<i8").tobytes())},
        "pixels": _sha256(np.ascontiguousarray(dataset.images[indices]).tobytes()),
        "columns": columns,
        "mosaics": mosaics,
    }
    return entry, members


def _pack_file(target: str, data: bytes, most: int) -> tuple[dict[str, Any], list[_Member]]:
    """Return the manifest entry of one file and its members: pieces of at most ``most`` bytes."""
    pieces = [data[start : start + most] for start in range(0, len(data), most)]
    members = [_Member(f"{target}.{number:05d}", piece) for number, piece in enumerate(pieces)]
    return {"sha256": _sha256(data), "pieces": [member.name for member in members]}, members


def _write_parts(out: Path, common: dict[str, Any], members: Sequence[_Member], limit: int) -> list[Path]:
    """Write the parts, each at most ``limit`` bytes, and return their paths."""
    common["bundle"] = _sha256(_json([common, [[member.name, member.sha256] for member in members]]))[:16]
    parts: list[list[_Member]] = [[]]
    # the manifest in every part, and the zip's own entries and directory
    overhead = len(zlib.compress(_json(common))) + 4096
    size = overhead
    for member in members:
        needed = len(member.data) + 2 * len(member.name) + 256
        if parts[-1] and size + needed > limit:
            parts.append([])
            size = overhead
        parts[-1].append(member)
        size += needed
    written = []
    for number, part in enumerate(parts, start=1):
        path = out if len(parts) == 1 else out.with_name(f"{out.stem}-{number}of{len(parts)}{out.suffix}")
        manifest = {
            **common,
            "part": number,
            "parts": len(parts),
            "members": {member.name: member.sha256 for member in part},
        }
        data = _zip_bytes([_Member(MANIFEST, _json(manifest)), *part])
        if len(data) > limit:
            raise BundleError(
                f"max_mb={limit / 1e6:g} is too small for this grid: one part would need "
                f"{len(data) / 1e6:.2f} MB (its manifest with {len(common['configs'])} runs is in every part)"
            )
        write_atomically(path, data)
        written.append(path)
    return written


def _zip_bytes(members: Sequence[_Member]) -> bytes:
    """Return a zip of the members with fixed dates, so that the same bundle has the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name)
            info.compress_type = zipfile.ZIP_DEFLATED if member.name == MANIFEST else zipfile.ZIP_STORED
            archive.writestr(info, member.data)
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def open_bundle(paths: Iterable[Path | str], destination: Path | str) -> BundleContents:
    """Return what a bundle holds, unpacked into a data root.

    Parameters
    ----------
    paths : iterable of path
        All parts, in any order.
    destination : path
        The data root is made in this folder, under the bundle's identity. A bundle that was unpacked there
        before is not unpacked again.

    Raises
    ------
    BundleError
        A part is missing, damaged, given twice or of another bundle; or a file is no bundle at all.
    """
    parts = _read_parts([Path(path) for path in paths])
    manifest = next(iter(parts.values()))
    root = Path(destination) / manifest["bundle"]
    configs = [RunConfig.from_dict(config) for config in manifest["configs"]]
    if not (root / MANIFEST).is_file():
        members = {name: path for path, part in parts.items() for name in part["members"]}
        Path(destination).mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=destination))
        try:
            _unpack(manifest, members, temporary)
            (temporary / MANIFEST).write_bytes(_json({key: manifest[key] for key in ("bundle", "configs")}))
            if root.is_dir() and not (root / MANIFEST).is_file():
                raise BundleError(f"{root} is in the way: it is no unpacked bundle. Remove it.")
            if not root.is_dir():
                temporary.rename(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return BundleContents(manifest["bundle"], configs, root)


def _read_parts(paths: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """Return the manifest of each part in the parts' order, after checking that they belong together."""
    if not paths:
        raise BundleError("no bundle file was given")
    manifests = {path: _read_manifest(path) for path in paths}
    first_path, first = next(iter(manifests.items()))
    numbers: dict[int, Path] = {}
    for path, manifest in manifests.items():
        if _common(manifest) != _common(first):
            raise BundleError(
                f"{path.name} is a part of bundle {manifest['bundle']}, but {first_path.name} of "
                f"{first['bundle']}: give the parts of one bundle"
            )
        twin = numbers.setdefault(manifest["part"], path)
        if twin != path:
            raise BundleError(
                f"{path.name} and {twin.name} are both part {manifest['part']}: give each part once"
            )
    absent = sorted(set(range(1, first["parts"] + 1)) - set(numbers))
    if absent:
        raise BundleError(
            f"bundle {first['bundle']} has {first['parts']} parts; missing: "
            f"{', '.join(f'part {number}' for number in absent)}. Give all its files."
        )
    return {numbers[number]: manifests[numbers[number]] for number in sorted(numbers)}


def _common(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in ("part", "members")}


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of one part, whose members were all checked against it."""
    if not path.is_file():
        raise BundleError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if MANIFEST not in names:
                raise BundleError(f"{path.name} is no bundle: it has no {MANIFEST}")
            manifest = json.loads(archive.read(MANIFEST))
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise BundleError(f"{path.name} is no bundle: its {MANIFEST} is of something else")
            if manifest.get("schema") != SCHEMA:
                raise BundleError(
                    f"{path.name} has schema {manifest.get('schema')}, this version reads {SCHEMA}: "
                    "use the version of the package that packed it"
                )
            if sorted(names) != sorted([MANIFEST, *manifest["members"]]):
                raise BundleError(f"{path.name} is damaged: its members are not those of its manifest")
            for name, sha256 in manifest["members"].items():
                if _sha256(archive.read(name)) != sha256:
                    raise BundleError(f"{path.name} is damaged: {name} has changed. Copy the file again.")
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
        UnicodeDecodeError,
    ) as error:
        raise BundleError(f"{path.name} is damaged or no zip file ({error}): copy it again") from error
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path.name} is damaged: its {MANIFEST} cannot be read ({error!r})") from error
    return manifest


def _unpack(manifest: Mapping[str, Any], members: Mapping[str, Path], root: Path) -> None:
    """Write the data sets and files of a checked bundle below ``root``."""

    def read(name: str) -> bytes:
        if name not in members:
            raise BundleError(f"bundle {manifest['bundle']}: {name} is named in the manifest and in no part")
        with zipfile.ZipFile(members[name]) as archive:
            return archive.read(name)

    partial: dict[Path, dict[str, Any]] = {}
    for name, entry in manifest["images"].items():
        path = _inside(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.setdefault(path.parent, {})[path.stem] = _unpack_images(name, entry, path, read)
    for folder, splits in partial.items():
        (folder / "partial.json").write_bytes(_json(splits))
    for target, entry in manifest["files"].items():
        data = b"".join(read(piece) for piece in entry["pieces"])
        if _sha256(data) != entry["sha256"]:
            raise BundleError(f"bundle {manifest['bundle']}: {target} is damaged")
        path = _inside(root, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _unpack_images(
    what: str, entry: Mapping[str, Any], path: Path, read: Callable[[str], bytes]
) -> dict[str, str]:
    """Write one split in the prepared form and return its entry in ``partial.json``."""
    with np.load(io.BytesIO(read(entry["labels"])), allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in ("labels", "class_names", "groups") if name in arrays.files}
        labels, bits = kept["labels"], arrays["present"]
    indices = np.flatnonzero(np.unpackbits(bits, count=len(labels)))
    images = np.zeros(entry["shape"], dtype=np.uint8)
    start = 0
    for mosaic in entry["mosaics"]:
        stop = start + mosaic["images"]
        shape = (mosaic["images"], *entry["shape"][1:])
        images[indices[start:stop]] = decode_mosaic(read(mosaic["member"]), shape, entry["columns"])
        start = stop
    if _sha256(images[indices].tobytes()) != entry["pixels"]:
        raise BundleError(f"{what}: the decoded images are not those that were packed")
    np.savez(path, images=images, **kept)
    present = "all" if len(indices) == len(labels) else entry["present"]["sha256"]
    return {"fingerprint": entry["fingerprint"], "present": present}


def _inside(folder: Path, name: str) -> Path:
    """Return ``folder / name`` for a name that stays in the folder."""
    pure = PurePosixPath(name)
    if (
        pure.is_absolute()
        or not pure.parts
        or ".." in pure.parts
        or "\\" in name
        or ":" in name
        or "\0" in name
    ):
        raise BundleError(f"{name!r} in the manifest leads out of the folder: this is no bundle to trust")
    return folder.joinpath(*pure.parts)
