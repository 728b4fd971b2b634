"""Claims: who trains which run of a grid, so that any number of runners share it, and how far each run is.

A claim is a file beside the store, made atomically; its time is renewed while the run goes on. A claim whose time is
old, or whose process is gone from this machine, is taken over. Ages are read off the file system's own clock, so that
machines whose clocks differ agree. At worst a run is done twice, and gives the same record.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from imbal_book.run.config import RunConfig
from imbal_book.run.provenance import utc_now
from imbal_core._checks.files import create_atomically, patiently, read_json, write_atomically
from imbal_core._checks.forms import check_form

#: Seconds between two signs of life.
BEAT = 15.0
#: What a claim and a note of progress are made of.
_CLAIM = {"host": str, "process": int, "token": str, "since": str}
_PROGRESS = {
    "epoch": int,
    "loss": float,
    "images_per_second": float,
    "seconds_of_epoch": float,
    "seconds_left": float,
}


class Claims:
    """The claims of one runner; used in a ``with`` block, which renews them and gives back what it holds at its end.

    Parameters
    ----------
    folder : Path
        On a file system that all runners of the grid share.
    expiry : float, default=120
        Seconds without a sign of life after which a claim may be taken over.
    """

    def __init__(self, folder: Path, expiry: float = 120.0) -> None:
        self.folder, self.expiry = folder, expiry
        self._token = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        #: Its time, after a touch, is that of the file system.
        self._clock = folder / f".clock-{self._token}.tmp"
        self._held: set[Path] = set()
        self._ended = threading.Event()

    def __enter__(self) -> Claims:
        threading.Thread(target=self._renew, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for path in list(self._held):
            self._remove(path)
        self._clock.unlink(missing_ok=True)

    def take(self, config: RunConfig) -> bool:
        """Return whether this runner may train a run: nobody else does, or whoever did gives no sign of life.

        OSError if something that is no file lies in the place of the claim.
        """
        path = _place(self.folder, config)
        if os.path.lexists(path) and not self._clear_dead(path):
            return False
        own = {"host": socket.gethostname(), "process": os.getpid(), "token": self._token}
        taken = create_atomically(path, json.dumps(own | {"since": utc_now()}).encode())
        if taken:
            self._held.add(path)
        return taken

    def release(self, config: RunConfig) -> None:
        """Give a run back, because it ended."""
        self._remove(_place(self.folder, config))

    def holder(self, config: RunConfig) -> str:
        """Return who holds a run, in words; empty where nobody does."""
        claim = _read(_place(self.folder, config), _CLAIM)
        return f"{claim['host']}, process {claim['process']}, since {claim['since']}" if claim else ""

    def progress(self, config: RunConfig) -> dict[str, Any]:
        """Return what :func:`note_progress` noted last of a run, empty before its first epoch."""
        return _read(_place(self.folder, config).with_suffix(".progress"), _PROGRESS)

    def _remove(self, path: Path) -> None:
        self._held.discard(path)
        # one that was taken over meanwhile is somebody else's
        if _read(path, _CLAIM).get("token") == self._token:
            with contextlib.suppress(OSError):  # without a beat it is taken over, which ends no grid
                patiently(lambda: path.unlink(missing_ok=True), path)
                path.with_suffix(".progress").unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(min(BEAT, self.expiry / 4)):
            for path in list(self._held):
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _clear_dead(self, path: Path) -> bool:
        """Return whether the claim at ``path`` was dead and is gone."""
        try:
            if not path.is_file() and os.path.lexists(path):
                raise OSError(
                    errno.EINVAL, "no regular file lies in the place of a claim: remove it", str(path)
                )
            content, renewed = path.read_bytes(), path.stat().st_mtime
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clock.touch()
            if abs(self._clock.stat().st_mtime - renewed) < self.expiry and not _is_gone(_read(path, _CLAIM)):
                return False
            aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            os.rename(path, aside)
        # given back, or taken over by another runner, a moment ago; or being read, which forbids it on Windows
        except (FileNotFoundError, PermissionError):
            return False
        dead = aside.read_bytes() == content
        if not dead:  # somebody else took it over between the look and the rename: it is theirs
            with contextlib.suppress(FileExistsError):
                create_atomically(path, aside.read_bytes())
        aside.unlink()
        return dead


def note_progress(folder: Path, config: RunConfig, **values: float) -> None:
    """Leave beside the claim of a run how far it is, for the runner to show."""
    with contextlib.suppress(OSError):  # a full disk ends no run over this
        write_atomically(_place(folder, config).with_suffix(".progress"), json.dumps(values).encode())


def _place(folder: Path, config: RunConfig) -> Path:
    return folder / config.study / config.profile / f"{config.digest()}.json"


def _read(path: Path, form: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of this form says; nothing where there is none, or another."""
    try:
        check_form(found := read_json(path), form)
    except (OSError, ValueError):
        return {}
    return dict(found)


def _is_gone(claim: dict[str, Any]) -> bool:
    """Return whether a claim is of this machine and its process is gone; that of another machine cannot be known.

    On Windows only its age tells: asking for a process as Unix does would stop this one there.
    """
    if sys.platform == "win32":
        return False
    if claim.get("host") == socket.gethostname():
        try:
            os.kill(claim["process"], 0)
        except (ProcessLookupError, OverflowError):  # the number of no process
            return True
        except OSError:  # it lives, under another user
            pass
    return False
