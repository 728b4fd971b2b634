"""Zip and tar files that come from elsewhere, unpacked into one folder and nowhere else."""

from __future__ import annotations

import contextlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from imbal_core.data.prepared import DatasetError

__all__ = ["safe_extract"]


def safe_extract(archive: Path, destination: Path) -> None:
    """Unpack a zip or tar file into a folder and nowhere else.

    Parameters
    ----------
    archive : path
        A ``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz`` file, told by its content.
    destination : path
        Created when missing.

    Raises
    ------
    DatasetError
        Before anything is written, if a member's path leaves the folder or a member is a link or a device;
        and if the archive is damaged or of another kind.
    """
    archive, destination = Path(archive), Path(destination)
    try:
        with _open_archive(archive) as members:
            inside = destination.resolve()
            for name, is_plain, _ in members:
                parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
                absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
                if absolute or ".." in parts or not (destination / name).resolve().is_relative_to(inside):
                    raise DatasetError(f"{archive}: refused, its member {name!r} leads out of the folder")
                if not is_plain:
                    raise DatasetError(f"{archive}: refused, its member {name!r} is a link or a device")
            for name, _, open_member in members:
                target = destination / name
                if open_member is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member() as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DatasetError(
            f"{archive}: damaged archive ({error}); delete it and download it again"
        ) from error


_Member = tuple[str, bool, Callable[[], IO[bytes]] | None]


@contextlib.contextmanager
def _open_archive(archive: Path) -> Iterator[list[_Member]]:
    """Yield the members as (name, is a plain file or folder, how to open it or None for a folder)."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            members: list[_Member] = []
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                opener = None if entry.is_dir() else partial(zipped.open, entry)
                members.append((entry.filename, plain, opener))
            yield members
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tarred:
            yield [
                (m.name, m.isreg() or m.isdir(), None if m.isdir() else partial(_open_tarred, tarred, m))
                for m in tarred.getmembers()
            ]
    else:
        raise DatasetError(f"{archive}: neither a zip nor a tar file, or a damaged one; download it again")


def _open_tarred(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = tarred.extractfile(member)
    # None only for what is neither a file nor a link, and those were refused.
    assert opened is not None
    return opened
