"""Zip and tar files that come from elsewhere, unpacked into one folder and nowhere else."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from imbal_core._checks.files import complete, inside, regular
from imbal_core.data.prepared import DatasetError


def safe_extract(archive: Path, destination: Path) -> None:
    """Unpack a zip or tar file, told by its content, into a folder and nowhere else.

    DatasetError before anything is written if a member's path leaves the folder or a member is a link or a device; and
    if the archive is damaged or of another kind.
    """
    try:
        if zipfile.is_zipfile(regular(archive)):
            with complete(zipfile.ZipFile(archive)) as zipped:
                for entry in zipped.infolist():
                    plain = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                    _check_member(archive, destination, entry.filename, plain)
                zipped.extractall(destination)
        else:
            with tarfile.open(archive) as tarred:
                for member in tarred.getmembers():
                    _check_member(archive, destination, member.name, member.isreg() or member.isdir())
                while tarred.fileobj.read(2**20):
                    pass  # to the checksum, which stands behind the last member
                tarred.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Debian's 3.11.2
                tarred.extractall(destination)
    except DatasetError:
        raise
    except Exception as error:  # damage can fail in any layer of the readers
        raise DatasetError(f"{archive}: cannot be unpacked ({error}); is it damaged? Get it again") from error


def _check_member(archive: Path, destination: Path, name: str, plain: bool) -> None:
    try:
        if PurePosixPath(name).parts:  # "./" is the folder itself
            inside(destination, name)
    except ValueError as error:
        raise DatasetError(f"{archive}: refused, its member {error}") from None
    if not plain:
        raise DatasetError(f"{archive}: refused, its member {name!r} is a link or a device")
