"""Files that are written whole or not at all, whoever else reads or writes them meanwhile.

The content goes to a hidden file beside its place, ``.NAME.PID-TOKEN.tmp``, which git ignores; it is flushed to
the disk and then given its name. A writer that is killed leaves at most that hidden file, which later ones remove.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, TypeAlias

_Content: TypeAlias = bytes | Callable[[BinaryIO], object]
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
_OPEN_ELSEWHERE = (5, 32, 33)  # Windows' numbers for a file in use
_PATIENCE = 2.0  # seconds to wait for it


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def regular(path: Path) -> Path:
    """Return a path; FileNotFoundError unless a file is there, so that pipes and devices are never opened."""
    if not path.is_file():
        raise FileNotFoundError("no such file, or no regular one")
    return path


def read_json(path: Path) -> Any:
    """Return the values in a JSON file; ValueError for any other, OSError for one that cannot be read."""
    try:
        return json.loads(regular(path).read_bytes())
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def complete(archive: zipfile.ZipFile) -> zipfile.ZipFile:
    """Return an archive; BadZipFile if members that its end counts are not in its directory, as `zipfile` lets pass."""
    if (count := zipfile._EndRecData(archive.fp)[4]) != len(archive.infolist()):  # type: ignore[attr-defined]
        raise zipfile.BadZipFile(f"its directory has {len(archive.infolist())} of {count} members")
    return archive


def write_atomically(path: Path, content: _Content) -> None:
    """Write a file whole or not at all; one of the same name is replaced, and of two writers the last one wins.

    Its folder is made where it is missing. Content is bytes, or a callable that writes into the open file. OSError, as
    on a full disk, and what the callable raises: no part of the file stays behind, and an older one keeps its content.
    """
    sweep(path.parent, f".{glob.escape(path.name)}.*.tmp")
    with _written_aside(path, content) as temporary:
        patiently(lambda: os.replace(temporary, path), path)


def create_atomically(path: Path, content: _Content) -> bool:
    """Return whether the file was written: False, and the file there untouched, when the name is taken.

    As `write_atomically`. One of several writers gets the name, by a hard link; without those, two at once may collide.
    """
    with _written_aside(path, content) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if path.exists():
                return False
            os.rename(temporary, path)
    return True


@contextlib.contextmanager
def _written_aside(path: Path, content: _Content) -> Iterator[Path]:
    """Yield the hidden file that holds the whole content; it is removed if it still has that name at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, pattern: str) -> None:
    """Remove files and folders of a pattern, as killed writers leave them, in which ten minutes changed nothing."""
    for left in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - max(place.stat().st_mtime for place in (left, *left.rglob("*"))) > 600:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def ignores_case(folder: Path) -> bool:
    """Return whether names that differ in case alone are one file in a folder, or where it will be made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    with tempfile.NamedTemporaryFile(prefix="Case", dir=there) as file:
        return Path(file.name).with_name(Path(file.name).name.swapcase()).exists()


def patiently(move: Callable[[], object], path: Path) -> object:
    """Call what renames, replaces or removes `path`; PermissionError if Windows says for two seconds it is open."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return move()
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _OPEN_ELSEWHERE:
                raise
            if time.monotonic() > deadline:
                raise PermissionError(error.errno, "is open elsewhere; close it there", str(path)) from error
        time.sleep(0.05)


def inside(folder: Path, name: str) -> Path:
    """Return ``folder / name`` for a name that a file from elsewhere brings.

    ValueError if it, read as Unix or Windows would, is empty or leads out of the folder, itself or by a link there.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    escapes = posix.is_absolute() or windows.anchor or ".." in (*posix.parts, *windows.parts)
    refused = not posix.parts or "\0" in name or escapes
    if refused or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of the folder")
    return folder / name
