"""Bundles opened on another machine: every part checked against its manifest, every name and size before its use."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbal_book.grid.bundle import FORMAT, MANIFEST, SCHEMA, BundleError, as_json, identity_of, sha256_of
from imbal_book.grid.mosaics import WEBP_SIDE, decode_mosaic
from imbal_book.run.config import RunConfig
from imbal_core._checks.files import inside
from imbal_core._checks.forms import check_form
from imbal_core._checks.npz import MOST_BYTES, read_arrays
from imbal_core.data.prepared import UNREADABLE

__all__ = ["BundleContents", "open_bundle"]

#: The largest manifest, in bytes; it is in every part, and no part is larger than a few of them.
MOST_MANIFEST = 256 * 2**20
_SHA256, _IDENTITY = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")
_COUNT = range(1, 2**40)
#: What a manifest is made of.
_FORM = {
    "bundle": _IDENTITY,
    "part": range(1, 100_000),
    "parts": range(1, 100_000),
    "configs": [dict],
    "members": {str: _SHA256},
    "images": {
        str: {
            "fingerprint": _SHA256,
            "shape": [_COUNT],
            "labels": str,
            "present": {"images": range(2**40), "sha256": _SHA256},
            "pixels": _SHA256,
            "columns": range(1, WEBP_SIDE + 1),
            "mosaics": [{"member": str, "images": _COUNT}],
        }
    },
    "files": {str: {"sha256": _SHA256, "pieces": [str]}},
}


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
class _Part:
    """A file whose members were checked: their names in the order of the file, and its manifest."""

    path: Path
    names: list[str]
    manifest: dict[str, Any]


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
        A part is missing, damaged, given twice or of another bundle; or a file is no bundle at all. The message names
        the file and the field or member.
    """
    parts = _read_parts([Path(path) for path in paths])
    manifest, name = parts[0].manifest, parts[0].path.name
    members = {member: part.path for part in parts for member in part.names}
    hashes = [(member, part.manifest["members"][member]) for part in parts for member in part.names]
    if identity_of(manifest, hashes) != manifest["bundle"]:
        raise BundleError(f"{name} is damaged: bundle {manifest['bundle']!r} is not the name of its content")
    configs = [_config(name, number, config) for number, config in enumerate(manifest["configs"])]
    root = Path(destination) / manifest["bundle"]
    if not (root / MANIFEST).is_file():
        if root.exists():
            raise BundleError(f"{root} is in the way: it is no unpacked bundle. Remove it.")
        Path(destination).mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=destination))
        try:
            _unpack(manifest, members, temporary)
            (temporary / MANIFEST).write_bytes(as_json({key: manifest[key] for key in ("bundle", "configs")}))
            if not root.is_dir():
                temporary.rename(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return BundleContents(manifest["bundle"], configs, root)


def _config(name: str, number: int, values: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{name}: configs[{number}] is no run of this version ({error})") from error


def _read_parts(paths: Sequence[Path]) -> list[_Part]:
    """Return the parts in their order, after checking that they belong together."""
    if not paths:
        raise BundleError("no bundle file was given")
    parts = [_read_part(path) for path in paths]
    first, found = parts[0], dict[int, _Part]()
    for part in parts:
        if _common(part.manifest) != _common(first.manifest):
            raise BundleError(
                f"{part.path.name} is a part of bundle {part.manifest['bundle']}, but {first.path.name} of "
                f"{first.manifest['bundle']}: give the parts of one bundle"
            )
        number = part.manifest["part"]
        twin = found.setdefault(number, part)
        if twin.path != part.path:
            raise BundleError(
                f"{part.path.name} and {twin.path.name} are both part {number}: give each part once"
            )
    count = first.manifest["parts"]
    absent = sorted(set(range(1, count + 1)) - found.keys())
    if absent or len(found) > count:
        numbers = ", ".join(f"part {number}" for number in absent) or "none, and there are more"
        raise BundleError(
            f"bundle {first.manifest['bundle']} has {count} parts; missing: {numbers}. Give all its files."
        )
    return [found[number] for number in sorted(found)]


def _common(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in ("part", "members")}


def _read_part(path: Path) -> _Part:
    """Return one part, whose manifest has its form and whose members have the hashes that it names."""
    if not path.is_file():
        raise BundleError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if MANIFEST not in sizes:
                raise BundleError(f"{path.name} is no bundle: it has no {MANIFEST}")
            for name, size in sizes.items():
                # members are stored as they are, so that none is larger than the file; the manifest is compressed
                if size > (MOST_MANIFEST if name == MANIFEST else path.stat().st_size):
                    raise BundleError(f"{path.name} is damaged: {name} claims {size:,} bytes")
            manifest = _checked_manifest(path, archive.read(MANIFEST))
            names = [name for name in archive.namelist() if name != MANIFEST]
            if sorted(names) != sorted(manifest["members"]):
                raise BundleError(f"{path.name} is damaged: its members are not those of its manifest")
            for name, sha256 in manifest["members"].items():
                if sha256_of(archive.read(name)) != sha256:
                    raise BundleError(f"{path.name} is damaged: {name} has changed. Copy the file again.")
    except BundleError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise BundleError(f"{path.name} is damaged or no zip file ({error}): copy it again") from error
    return _Part(path, names, manifest)


def _checked_manifest(path: Path, content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} is damaged: its {MANIFEST} cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path.name} is no bundle: its {MANIFEST} is of something else")
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{path.name} has schema {manifest.get('schema')}, this version reads {SCHEMA}: "
            "use the version of the package that packed it"
        )
    try:
        check_form(manifest, _FORM)
    except ValueError as error:
        raise BundleError(f"{path.name}: its {MANIFEST} is damaged: {error}") from error
    return manifest


def _unpack(manifest: Mapping[str, Any], members: Mapping[str, Path], root: Path) -> None:
    """Write the data sets and files of a checked bundle below ``root``."""

    def read(name: str) -> bytes:
        if name not in members:
            raise BundleError(f"bundle {manifest['bundle']}: {name} is named in the manifest and in no part")
        with zipfile.ZipFile(members[name]) as archive:
            return archive.read(name)

    def place(name: str) -> Path:
        try:
            path = inside(root, name)
        except ValueError as error:
            raise BundleError(f"{error}: this is no bundle to trust") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    partial: dict[Path, dict[str, Any]] = {}
    for name, entry in manifest["images"].items():
        path = place(name)
        partial.setdefault(path.parent, {})[path.stem] = _unpack_images(name, entry, path, read)
    for folder, splits in partial.items():
        (folder / "partial.json").write_bytes(as_json(splits))
    for target, entry in manifest["files"].items():
        data = b"".join(read(piece) for piece in entry["pieces"])
        if sha256_of(data) != entry["sha256"]:
            raise BundleError(f"bundle {manifest['bundle']}: {target} is damaged")
        place(target).write_bytes(data)


def _unpack_images(
    what: str, entry: Mapping[str, Any], path: Path, read: Callable[[str], bytes]
) -> dict[str, str]:
    """Write one split in the prepared form and return its entry in ``partial.json``."""
    shape, counts = tuple(entry["shape"]), [mosaic["images"] for mosaic in entry["mosaics"]]
    try:
        arrays = read_arrays(io.BytesIO(read(entry["labels"])))
        kept: dict[str, Any] = {
            name: arrays[name] for name in ("labels", "class_names", "groups") if name in arrays
        }
        indices = np.flatnonzero(np.unpackbits(arrays["present"], count=len(kept["labels"])))
        expected = (len(kept["labels"]), *shape[1:3], 3)
        if (
            len(shape) != 4
            or shape != expected
            or sum(counts) != len(indices)
            or math.prod(shape) > MOST_BYTES
        ):
            raise ValueError(
                f"shape {shape} and {sum(counts)} images, expected {expected} and {len(indices)}"
            )
        images = np.zeros(shape, dtype=np.uint8)
        start = 0
        for mosaic in entry["mosaics"]:
            stop = start + mosaic["images"]
            images[indices[start:stop]] = decode_mosaic(
                read(mosaic["member"]), (stop - start, *shape[1:]), entry["columns"]
            )
            start = stop
    except BundleError:
        raise
    except (*UNREADABLE, MemoryError, TypeError) as error:
        raise BundleError(f"{what} in the manifest does not fit its members ({error})") from error
    if sha256_of(images[indices].tobytes()) != entry["pixels"]:
        raise BundleError(f"{what}: the decoded images are not those that were packed")
    np.savez(path, images=images, **kept)
    present = "all" if len(indices) == len(kept["labels"]) else entry["present"]["sha256"]
    return {"fingerprint": entry["fingerprint"], "present": present}
