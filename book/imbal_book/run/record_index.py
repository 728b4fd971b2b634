"""What was read of a store's files, kept beside it: which of 10,000 runs are recorded is asked without reading them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import UserDict
from pathlib import Path
from typing import NamedTuple

from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import SCHEMA, RecordError
from imbal_core._checks.files import write_atomically

__all__ = ["Index", "Summary"]

#: So many files read anew make the index worth writing.
WORTH_WRITING = 200
#: What the summaries depend on beside the files; another version begins anew.
_VERSION = [SCHEMA, *(field.name for field in dataclasses.fields(RunConfig))]


class Summary(NamedTuple):
    """The digest and canonical text of a record's configuration, and the seconds of its run."""

    digest: str
    canonical: str
    seconds: float


class Index(UserDict[str, tuple[tuple[int, ...], "Summary | RecordError"]]):
    """File name -> its state (inode, size, time of change) when it was read, and its summary or why it is no record.

    Parameters
    ----------
    path : Path
        Where it is kept between processes. The file may be deleted at any time, and what cannot be read there is
        passed over. Refusals are not kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["version"] == _VERSION:
                self.data = {
                    name: (tuple(state), Summary(*told)) for name, (state, told) in kept["files"].items()
                }
        self._written = len(self.data)

    def save(self) -> None:
        """Keep what was read, where it is worth it; a folder that cannot be written is no error."""
        if len(self.data) - self._written < WORTH_WRITING:
            return
        files = {name: entry for name, entry in self.data.items() if isinstance(entry[1], Summary)}
        with contextlib.suppress(OSError):
            write_atomically(self.path, json.dumps({"version": _VERSION, "files": files}).encode())
            self._written = len(self.data)
