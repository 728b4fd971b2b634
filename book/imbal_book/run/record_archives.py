"""Folders and zip archives of records that come from elsewhere, read without unpacking them anywhere."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from imbal_book.run.record_format import RecordError
from imbal_core._checks.files import inside

__all__ = ["offered_files", "read_regular"]

# A record is some 10 to 500 kB; this bounds what a hostile archive can unpack to.
MAX_RECORD_BYTES = 16 * 2**20


def read_regular(file: Path) -> bytes:
    """Return the content of a record's file; links are followed, while pipes, devices and folders are never opened.

    Raises
    ------
    RecordError
        If it is no regular file, or larger than any record.
    OSError
        If it is gone, or cannot be read.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RecordError("is no regular file")
    if refusal := _within_limit(status.st_size):
        raise refusal
    return file.read_bytes()


def offered_files(path: Path) -> Iterator[tuple[str, bytes | RecordError]]:
    """Yield name and content of each file in a folder or zip archive, or why it was not opened.

    Not opened are links, files that are larger than any record, members that cannot be unpacked, and those
    whose names lead outside the archive.

    Raises
    ------
    RecordError
        If ``path`` is neither a zip archive nor a folder.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if file.is_symlink():
                yield name.as_posix(), RecordError("is a link; links are not followed")
            elif not file.is_dir():
                try:
                    yield name.as_posix(), read_regular(file)
                except RecordError as error:
                    yield name.as_posix(), error
                except OSError as error:
                    yield name.as_posix(), RecordError(f"cannot be read ({error.strerror})")
        return
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise RecordError(f"{path} is neither a folder nor a zip archive of records (or it does not exist)")
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield member.filename, _refuse_member(member) or _read_member(archive, member)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} is a damaged zip archive ({error}); copy it again") from error


def _within_limit(size: int) -> RecordError | None:
    if size > MAX_RECORD_BYTES:
        return RecordError(f"has {size:,} bytes; a record has at most {MAX_RECORD_BYTES:,}")
    return None


def _refuse_member(member: zipfile.ZipInfo) -> RecordError | None:
    try:
        inside(Path(), member.filename)
    except ValueError as error:
        return RecordError(str(error))
    if stat.S_ISLNK(member.external_attr >> 16):
        return RecordError("is a link; links are not followed")
    return _within_limit(member.file_size)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | RecordError:
    try:
        with archive.open(member) as file:
            return file.read(MAX_RECORD_BYTES)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError) as error:
        return RecordError(f"cannot be unpacked ({error})")
