"""Folders and zip archives of records that come from elsewhere, read without unpacking them anywhere."""

from __future__ import annotations

import functools
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from imbal_book.run.record_format import RecordError
from imbal_core._checks.files import complete, inside

# A record is some 10 to 500 kB; this bounds what a hostile archive can unpack to.
MAX_RECORD_BYTES = 16 * 2**20


def read_regular(file: Path) -> bytes:
    """Return the content of a record's file; links are followed, while pipes, devices and folders are never opened.

    RecordError if it is no regular file, or larger than any record; OSError if it is gone, or cannot be read.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RecordError("is no regular file")
    _refuse_larger(status.st_size)
    return file.read_bytes()


def offered_files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each file in a folder or zip archive, and a function that reads it or raises RecordError.

    Not read are links, files that are larger than any record, members that cannot be unpacked, and those
    whose names lead outside the archive. RecordError if ``path`` is neither a zip archive nor a folder.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_symlink() or not file.is_dir():
                yield file.relative_to(path).as_posix(), functools.partial(_read_file, file)
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise RecordError(f"{path} is neither a folder nor a zip archive of records (or it does not exist)")
    try:
        with complete(zipfile.ZipFile(path)) as archive:
            for member in archive.infolist():
                if not member.filename.endswith("/"):  # a folder; zipfile's own answer needs a name
                    yield member.filename, functools.partial(_read_member, archive, member)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} is a damaged zip archive ({error}); copy it again") from error


def _refuse_larger(size: int) -> None:
    if size > MAX_RECORD_BYTES:
        raise RecordError(f"has {size:,} bytes; a record has at most {MAX_RECORD_BYTES:,}")


def _read_file(file: Path) -> bytes:
    if file.is_symlink():
        raise RecordError("is a link; links are not followed")
    try:
        return read_regular(file)
    except OSError as error:
        raise RecordError(f"cannot be read ({error.strerror})") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        inside(Path(), member.filename)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if stat.S_ISLNK(member.external_attr >> 16):
        raise RecordError("is a link; links are not followed")
    _refuse_larger(member.file_size)
    try:
        with archive.open(member) as file:
            return file.read(MAX_RECORD_BYTES)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError) as error:
        raise RecordError(f"cannot be unpacked ({error})") from error
