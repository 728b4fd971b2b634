"""Records: what a run leaves behind, one JSON file per run, and the store that keeps them.

A record is written once and never changed. The store is the only state that runs share, so writing is atomic
and any number of processes may write at the same time.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from imbal_book.run.config import RunConfig
from imbal_book.run.provenance import checkout_folder, utc_now
from imbal_book.run.record_archives import offered_files, read_regular
from imbal_book.run.record_format import SCHEMA, Record, RecordError, parse_record, plain_values
from imbal_core._checks.files import create_atomically, read_json, sweep, write_atomically

_T = TypeVar("_T")
#: So many files read anew make the index worth writing.
WORTH_WRITING = 200
#: What the summaries in an index depend on beside the files; another version begins anew.
_VERSION = [SCHEMA, *(item.name for item in fields(RunConfig))]


class ContradictionError(RecordError):
    """Two records of one key with different measurements; the message names both."""


class RecordWriteError(OSError):
    """A record that could not be written, such as on a full disk; ``filename`` names the file."""


class SkippedRecordWarning(UserWarning):
    """Files in the store that are not records of this schema; they are named and were not read."""


@dataclass(frozen=True)
class AddReport:
    """What became of offered files: keys of new records and of those there already; names and reasons of the rest."""

    added: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


class _Summary(NamedTuple):
    """The sha256 of a record's file, digest and canonical text of its configuration, and the seconds of its run."""

    content: str
    digest: str
    canonical: str
    seconds: float


class RecordStore:
    """A folder of records, ``<root>/<study>/<profile>/<key>.json``.

    Parameters
    ----------
    root : path-like, optional
        Default: ``results/`` of the checkout that holds this package, else of the working folder. It is created by
        the first write.

    Attributes
    ----------
    root, scratch : Path
        The folder, and the one beside it for what need not be kept: ``_build/``, which git ignores.
    skipped : list of (str, str)
        Name and reason of every file that the last read did not take.

    Notes
    -----
    A record is written to a hidden temporary file beside its place, flushed to the disk, and then linked to
    its name. Linking fails when the name exists, so no record is ever overwritten, and a reader sees a whole
    file or none. On file systems without hard links the temporary file is renamed instead.

    An index in :attr:`scratch`, which may be deleted at any time, says which of 10,000 runs are recorded, and which
    files have passed every check: what has their sha256 still is not checked again.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        own = checkout_folder()
        if not (own / "pyproject.toml").is_file() or not (own / "results").is_dir():
            own = Path()
        self.root = own / "results" if root is None else Path(root)
        self.scratch = self.root.parent / "_build"
        self.skipped: list[tuple[str, str]] = []
        #: File name -> its state when it was read, and its summary or why it is no record.
        self._index: dict[str, tuple[tuple[int, ...], _Summary | RecordError]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            kept = read_json(self.scratch / "index.json")
            if kept["version"] == _VERSION and kept["sha256"] == _digest(kept["files"]):
                self._index = {
                    name: (tuple(state), _Summary(*told)) for name, (state, told) in kept["files"].items()
                }
        self._indexed = len(self._index)

    def path(self, record: Record) -> Path:
        """Return the file that ``record`` belongs in."""
        return self.root / record.config["study"] / record.config["profile"] / f"{record.key}.json"

    def write(self, record: Record) -> Path:
        """Return the file of ``record`` after writing it, or after finding the same measurements there.

        A file at that place that is no record (torn by a copy, say) is set aside as ``<key>.torn-<token>``,
        with a warning. A note of an earlier failure of the same configuration is cleared.

        Raises
        ------
        RecordError
            If the record is not valid: a NaN, a key that is not that of its content.
        ContradictionError
            If a record of the same key holds other measurements. The file there is left as it is.
        RecordWriteError
            If the file cannot be written. No partial and no temporary file stays behind.
        """
        return self._place(record)[0]

    def _place(self, record: Record) -> tuple[Path, bool]:
        """Write ``record`` and return its file and whether it is new."""
        text = record.to_json()
        parse_record(text)
        path = self.path(record)
        with _naming(path):
            new = create_atomically(path, text.encode())
            while not new and not self._agrees(record, path):
                new = create_atomically(path, text.encode())
        self._failure_path(record.run_config()).unlink(missing_ok=True)
        return path, new

    def _agrees(self, record: Record, path: Path) -> bool:
        """Return whether the file at ``path`` says the same; False if it was no record and was set aside.

        A file of an earlier version that says the same is brought into today's form, which has a checksum.
        """
        try:
            content = read_regular(path)
            present = parse_record(content)
        except FileNotFoundError:
            return False
        except RecordError as error:
            _set_aside(path, str(error))
            return False
        measured = plain_values(record.measurements, "measurements")
        if present.measurements == measured:
            if (text := present.to_json().encode()) != content:
                write_atomically(path, text)
            return True
        where = _first_difference(present.measurements, measured, "measurements")
        old, new = (f"{one.provenance['date']} on {one.provenance['device']}" for one in (present, record))
        raise ContradictionError(
            f"two records of key {record.key} contradict each other: {path} ({old}) and a new one ({new}); "
            f"{where}. The file was kept; the new record was not written."
        )

    def read(self, study: str | None = None, profile: str | None = None) -> list[Record]:
        """Return the records of a study and profile (None: all), sorted by study, profile and key.

        Files that are torn, foreign, of another schema or in the wrong place are left out, listed in
        :attr:`skipped` and named in one :class:`SkippedRecordWarning`.
        """
        collects = gc.isenabled()
        gc.disable()  # which looks for garbage again and again in what stays, for half of the time
        try:
            records = self._take(study, profile, self._read_file)
        finally:
            if collects:
                # what was read is old now, and not the first to be looked through
                if not gc.get_freeze_count():
                    gc.freeze()
                    gc.unfreeze()
                gc.enable()
        self._keep_index()
        return records

    def _take(self, study: str | None, profile: str | None, look: Callable[[Path], _T]) -> list[_T]:
        """Return what ``look`` makes of each file; those that it refuses are named in a warning."""
        taken: list[_T] = []
        self.skipped = []
        for path in self._files(study, profile):
            try:
                taken.append(look(path))
            except (RecordError, OSError) as error:
                self.skipped.append((path.relative_to(self.root).as_posix(), str(error)))
        if self.skipped:
            names = "; ".join(f"{name}: {reason}" for name, reason in self.skipped)
            warnings.warn(
                f"skipped {len(self.skipped)} of {len(self.skipped) + len(taken)} files in {self.root.name}/, "
                f"they are not records: {names}",
                SkippedRecordWarning,
                stacklevel=3,
            )
        return taken

    def _read_file(self, path: Path) -> Record:
        """Return the record in a file, of which a summary is kept."""
        name, state = self._named(path)
        content = read_regular(path)
        content_sha256 = hashlib.sha256(content).hexdigest()
        known = self._index[name][1] if name in self._index else None
        summary = known if isinstance(known, _Summary) and known.content == content_sha256 else None
        record = parse_record(content, checked=summary is not None)
        if path != self.path(record):
            raise RecordError(f"in the wrong place, it belongs in {self.path(record).relative_to(self.root)}")
        if summary is None:
            config, seconds = record.run_config(), float(record.provenance["seconds"])
            summary = _Summary(content_sha256, config.digest(), config.canonical(), seconds)
        self._index[name] = state, summary
        return record

    def _summary(self, path: Path) -> _Summary:
        """Return what is kept of a record in a file; the file is read only after a change."""
        name, state = self._named(path)
        if name not in self._index or self._index[name][0] != state:
            try:
                self._read_file(path)
            except RecordError as error:
                self._index[name] = state, error
        found = self._index[name][1]
        if isinstance(found, RecordError):
            raise found
        return found

    def _named(self, path: Path) -> tuple[str, tuple[int, ...]]:
        """Return the name of a file in the index, and its state: inode, size, time."""
        status = path.stat()
        return "/".join(self._below(path)), (status.st_ino, status.st_size, status.st_mtime_ns)

    def _keep_index(self) -> None:
        """Write the index, where it is worth it; a folder that cannot be written is no error."""
        if len(self._index) - self._indexed < WORTH_WRITING:
            return
        files = {name: entry for name, entry in self._index.items() if isinstance(entry[1], _Summary)}
        with contextlib.suppress(OSError):
            text = json.dumps({"version": _VERSION, "sha256": _digest(files), "files": files})
            write_atomically(self.scratch / "index.json", text.encode())
            self._indexed = len(self._index)

    def _files(self, study: str | None, profile: str | None) -> Iterator[Path]:
        # Without a profile also files that lie too high are met, so that none is passed over in silence.
        pattern = f"{study or '*'}/{profile}/**/*.json" if profile else f"{study or '.'}/**/*.json"
        for path in sorted(set(self.root.glob(pattern))):
            # Names with a leading dot are files that a killed writer left unfinished.
            if not any(part[0] == "." for part in self._below(path)):
                yield path

    def _below(self, path: Path) -> tuple[str, ...]:
        """Return the parts of a file's path in the store; `Path.relative_to` takes ten times as long."""
        return path.parts[len(self.root.parts) :]

    def missing(self, grid: Iterable[RunConfig]) -> list[RunConfig]:
        """Return the configurations of ``grid`` that have no record, in the order of the grid."""
        grid = list(grid)
        recorded = {
            one.digest
            for study, profile in sorted({(config.study, config.profile) for config in grid})
            for one in self._take(study, profile, self._summary)
        }
        self._keep_index()
        return [config for config in grid if config.digest() not in recorded]

    def listing(self, study: str | None = None) -> list[tuple[str, dict[str, Any], float]]:
        """Return key, configuration (fields at their default left out) and seconds of the records of a study, or all.

        They are sorted as by :meth:`read`, which reads every file: here only those that have changed are read.
        """
        summaries = self._take(study, None, lambda path: (path.stem, self._summary(path)))
        self._keep_index()
        return [(key, json.loads(one.canonical), one.seconds) for key, one in summaries]

    def find(self, config: RunConfig) -> Record | None:
        """Return the record of ``config``, or None.

        A store reads each file once, and again when it has changed: so a grid of runs can ask for every run.
        RecordError if there are several, made from different data or splits.
        """
        digest = config.digest()
        summaries = self._take(config.study, config.profile, lambda path: (path, self._summary(path)))
        found = [path for path, one in summaries if one.digest == digest]
        if len(found) > 1:
            keys = ", ".join(path.stem for path in found)
            raise RecordError(
                f"records {keys} hold the same configuration with different data or splits; keep only one of them"
            )
        for path in found:
            with contextlib.suppress(RecordError, OSError):  # removed or spoilt since the look
                return self._read_file(path)
        return None

    def add(self, path: str | os.PathLike[str]) -> AddReport:
        """Return what became of each file in a zip archive or folder of records.

        A record without a checksum gets one. Its place in the store follows from its content, never from the name in
        the archive. Refused by name: foreign, torn and damaged files, other schemas, a key or checksum that is not that
        of the content, measurements that contradict a record of the store, links, names that lead outside the archive.
        RecordError if ``path`` is neither a zip archive nor a folder.
        """
        report = AddReport()
        for name, read in offered_files(Path(path)):
            try:
                record = parse_record(read())
                _, new = self._place(record)
                (report.added if new else report.same).append(record.key)
            except RecordError as error:
                report.refused.append((name, str(error)))
        return report

    def sweep(self) -> None:
        """Remove temporary files of killed writers, here and beside it; those of the last ten minutes stay."""
        for folder in (self.root, *(self.scratch / name for name in ("checkpoints", "claims", "failures"))):
            sweep(folder, "**/.*.tmp")

    def _failure_path(self, config: RunConfig) -> Path:
        return self.scratch / "failures" / config.study / config.profile / f"{config.digest()}.json"

    def write_failure(self, config: RunConfig, error_text: str) -> Path:
        """Return the file of a note that the run of ``config`` failed; an older note is replaced.

        The notes lie in :attr:`scratch`, one JSON file per run (config, error, date); a later success clears its own.
        """
        note = {"config": config.to_dict(), "error": error_text, "date": utc_now()}
        path = self._failure_path(config)
        with _naming(path):
            write_atomically(path, f"{json.dumps(note, sort_keys=True, indent=1)}\n".encode())
        return path


def _digest(files: Any) -> str:
    """Return the checksum of an index, which reads the same from the values and from their JSON."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        remedy = "Nothing was left behind; make room or mend the folder"
        reason = f"cannot write a record: {error.strerror}. {remedy}"
        raise RecordWriteError(error.errno, reason, str(path)) from error


def _set_aside(path: Path, reason: str) -> None:
    """Rename a file that is no record, so that the record can take its place and nothing is lost."""
    aside = path.with_name(f"{path.stem}.torn-{secrets.token_hex(4)}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    try:
        parse_record(read_regular(aside))
    except RecordError:
        warnings.warn(
            f"{path} was no record ({reason}); set aside as {aside.name}", SkippedRecordWarning, stacklevel=4
        )
        return
    # Another process put a record here between the look and the rename: give it its name back.
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    aside.unlink()


def _first_difference(one: Any, other: Any, where: str) -> str:
    """Return the first place at which two plain values differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(one.keys() | other.keys())
        parts = [(f"{where}.{name}", one.get(name, "nothing"), other.get(name, "nothing")) for name in names]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [(f"{where}[{number}]", *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    else:
        return f"{where} is {str(one)[:60]} in the file and {str(other)[:60]} in the new one"
    return next(_first_difference(old, new, place) for place, old, new in parts if old != new)
