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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imbal_book.grid.bundle import FORMAT, MANIFEST, SCHEMA, BundleError, as_json, identity_of, sha256_of
from imbal_book.grid.mosaics import WEBP_SIDE, decode_mosaic
from imbal_book.run.config import NO_DEVICE, RunConfig
from imbal_core._checks.files import inside, sweep
from imbal_core._checks.forms import check_form
from imbal_core._checks.npz import MOST_BYTES, read_arrays

#: The largest manifest, in bytes; it is in every part, and no part is larger than a few of them.
MOST_MANIFEST = 256 * 2**20
_SHA256, _IDENTITY = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")
_COUNT = range(1, 2**40)
#: A part of a path that every system takes for what it says: Windows keeps names for devices, drops a dot or a space
#: at the end, and has its own use for some characters.
_PORTABLE = re.compile(NO_DEVICE + r"[^<>:\"|?*\\\x00-\x1f]*[^<>:\"|?*\\\x00-\x1f. ]")
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
#: What reading a zip file raises that is none, or is damaged.
_TORN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


class BundleContents(NamedTuple):
    """What an unpacked bundle holds: the runs to do, and the data root to pass to whatever loads images or weights."""

    configs: list[RunConfig]
    root: Path


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
    first, manifest = parts[0]
    hashes = [pair for _, part in parts for pair in part["members"].items()]
    try:
        identity = identity_of(manifest, hashes)
    except ValueError as error:  # of a number that is none
        raise BundleError(f"{first.name}: its {MANIFEST} is damaged: {error}") from error
    if identity != manifest["bundle"]:
        raise BundleError(
            f"{first.name} is damaged: bundle {manifest['bundle']!r} is not the name of its content"
        )
    configs = []
    for number, values in enumerate(manifest["configs"]):
        try:
            configs.append(RunConfig.from_dict(values))
        except (ValueError, TypeError) as error:
            what = f"{first.name}: configs[{number}] is no run of this version"
            raise BundleError(f"{what} ({error})") from error
    root = Path(destination) / manifest["bundle"]
    if not (root / MANIFEST).is_file():
        if root.exists():
            raise BundleError(f"{root} is in the way: it is no unpacked bundle. Remove it.")
        Path(destination).mkdir(parents=True, exist_ok=True)
        sweep(Path(destination), ".unpack-*")
        temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=destination))
        try:
            _unpack(manifest, {name: path for path, part in parts for name in part["members"]}, temporary)
            (temporary / MANIFEST).write_bytes(as_json({key: manifest[key] for key in ("bundle", "configs")}))
            if not root.is_dir():
                temporary.rename(root)
        except BundleError as error:
            raise BundleError(f"{first.name}: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return BundleContents(configs, root)


def _read_parts(paths: list[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the parts, file and manifest, in their order, after checking that they belong together."""
    if not paths:
        raise BundleError("no bundle file was given")
    manifests = {path: _read_part(path) for path in paths}
    (first, manifest), found = next(iter(manifests.items())), dict[int, Path]()
    for path, other in manifests.items():
        if {**other, "part": 0, "members": 0} != {**manifest, "part": 0, "members": 0}:
            raise BundleError(
                f"{path.name} is a part of bundle {other['bundle']}, but {first.name} of "
                f"{manifest['bundle']}: give the parts of one bundle"
            )
        twin = found.setdefault(other["part"], path)
        if twin != path:
            raise BundleError(
                f"{path.name} and {twin.name} are both part {other['part']}: give each part once"
            )
    count = manifest["parts"]
    absent = sorted(set(range(1, count + 1)) - found.keys())
    if absent or len(found) > count:
        numbers = ", ".join(f"part {number}" for number in absent) or "none, and there are more"
        raise BundleError(
            f"bundle {manifest['bundle']} has {count} parts; missing: {numbers}. Give all its files."
        )
    return [(found[number], manifests[found[number]]) for number in sorted(found)]


def _read_part(path: Path) -> dict[str, Any]:
    """Return a part's manifest, which has its form, and whose members are in the file and have the hashes it names."""
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
            for name in names:
                if sha256_of(archive.read(name)) != manifest["members"][name]:
                    raise BundleError(f"{path.name} is damaged: {name} has changed. Copy the file again.")
    except BundleError:
        raise
    except _TORN as error:
        raise BundleError(f"{path.name} is damaged or no zip file ({error}): copy it again") from error
    # in the order of the file, which the identity of the bundle depends on
    return manifest | {"members": {name: manifest["members"][name] for name in names}}


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

    placed: dict[str, str] = {}

    def place(name: str) -> Path:
        try:
            path = inside(root, name)
        except ValueError as error:
            raise BundleError(f"{error}: this is no bundle to trust") from None
        # pack writes no such names; they would be lost, or one file instead of two, where systems read names so
        if not all(_PORTABLE.fullmatch(part) for part in Path(name).parts):
            raise BundleError(f"{name!r} is no file name on every system: this is no bundle to trust")
        if (twin := placed.setdefault(name.casefold(), name)) != name:
            raise BundleError(f"{twin!r} and {name!r} are one file on some systems: no bundle to trust")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    partial: dict[Path, dict[str, Any]] = {}
    for name, entry in manifest["images"].items():
        path = place(name)
        present = _unpack_images(name, entry, path, read)
        told = {"fingerprint": entry["fingerprint"], "present": present}
        partial.setdefault(path.parent, {})[path.stem] = told
    for folder, splits in partial.items():
        (folder / "partial.json").write_bytes(as_json(splits))
    for target, entry in manifest["files"].items():
        data = b"".join(read(piece) for piece in entry["pieces"])
        if sha256_of(data) != entry["sha256"]:
            raise BundleError(f"bundle {manifest['bundle']}: {target} is damaged")
        place(target).write_bytes(data)


def _unpack_images(what: str, entry: Mapping[str, Any], path: Path, read: Callable[[str], bytes]) -> str:
    """Write one split in the prepared form, and return which images it has: "all", or the sha256 of their indices."""
    shape, count = tuple(entry["shape"]), sum(mosaic["images"] for mosaic in entry["mosaics"])
    try:
        arrays = read_arrays(io.BytesIO(read(entry["labels"])))
        kept: dict[str, Any] = {
            name: arrays[name] for name in ("labels", "class_names", "groups") if name in arrays
        }
        indices = np.flatnonzero(np.unpackbits(arrays["present"], count=len(kept["labels"])))
        expected = (len(kept["labels"]), *shape[1:3], 3)
        if len(shape) != 4 or shape != expected or count != len(indices) or math.prod(shape) > MOST_BYTES:
            raise ValueError(f"shape {shape} and {count} images, expected {expected} and {len(indices)}")
        images = np.zeros(shape, dtype=np.uint8)
        rest = indices
        for mosaic in entry["mosaics"]:
            own, rest = rest[: mosaic["images"]], rest[mosaic["images"] :]
            images[own] = decode_mosaic(read(mosaic["member"]), (len(own), *shape[1:]), entry["columns"])
    except BundleError:
        raise
    except Exception as error:  # damage can fail in any layer of the readers
        raise BundleError(f"{what} in the manifest does not fit its members ({error})") from error
    if sha256_of(images[indices].tobytes()) != entry["pixels"]:
        raise BundleError(f"{what}: the decoded images are not those that were packed")
    np.savez(path, images=images, **kept)
    return "all" if len(indices) == len(kept["labels"]) else entry["present"]["sha256"]
