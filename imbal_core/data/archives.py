"""Zip and tar files that come from elsewhere, unpacked into one folder and nowhere else."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from imbal_core._checks.files import complete, ignores_case, inside, regular
from imbal_core.data.prepared import DatasetError


def safe_extract(archive: Path, destination: Path) -> None:
    """Unpack a zip or tar file, told by its content, into a folder and nowhere else.

    DatasetError before anything is written if a member's path leaves the folder, a member is a link or a device, or two
    would be one file there; and if the archive is damaged or of another kind.
    """
    try:
        if zipfile.is_zipfile(regular(archive)):
            with complete(zipfile.ZipFile(archive)) as zipped:
                kinds = [(entry, stat.S_IFMT(entry.external_attr >> 16)) for entry in zipped.infolist()]
                plain = (0, stat.S_IFREG, stat.S_IFDIR)
                members = [(entry.filename, kind in plain, entry.is_dir()) for entry, kind in kinds]
                _check_members(archive, destination, members)
                zipped.extractall(destination)
        else:
            with tarfile.open(archive) as tarred:
                found = tarred.getmembers()
                members = [(one.name, one.isreg() or one.isdir(), one.isdir()) for one in found]
                _check_members(archive, destination, members)
                while tarred.fileobj.read(2**20):
                    pass  # to the checksum, which stands behind the last member
                tarred.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Debian's 3.11.2
                tarred.extractall(destination)
    except DatasetError:
        raise
    except Exception as error:  # damage can fail in any layer of the readers
        raise DatasetError(f"{archive}: cannot be unpacked ({error}); is it damaged? Get it again") from error


def _check_members(archive: Path, destination: Path, members: list[tuple[str, bool, bool]]) -> None:
    """Raise DatasetError for a member, given as name, whether it is a file or a folder, and whether it is a folder."""
    files: dict[str, set[str]] = {}
    for name, plain, is_folder in members:
        path = PurePosixPath(name)
        try:
            if path.parts:  # "./" is the folder itself
                inside(destination, name)
        except ValueError as error:
            raise DatasetError(f"{archive}: refused, its member {error}") from None
        if not plain:
            raise DatasetError(f"{archive}: refused, its member {name!r} is a link or a device")
        alike = set() if is_folder else files.setdefault(str(path).casefold(), set())
        if str(path) in alike or alike and ignores_case(destination):
            raise DatasetError(f"{archive}: refused, its member {name!r} would replace {min(alike)!r}")
        alike.add(str(path))
