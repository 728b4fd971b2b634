"""SIGKILLs of ``imbal run`` at random moments, each grid resumed to its end and compared with one left in peace."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.faults.book_parsers import record
from benchmarks.faults.runners import LIMIT, Counts, Grid, import_what_runs_import, in_session
from imbal_book.run.records import RecordStore

#: What half of the kills wait for: a file of this pattern that was not there before.
MOMENTS = ("_build/checkpoints/.*.tmp", "_build/checkpoints/*.pt", "results/**/.*.tmp", "results/**/*.json")


class Peace(NamedTuple):
    """What a grid gives that nobody stops: what its records say, by key; seconds of a run in a fork; the counts."""

    records: dict[str, object]
    seconds: float
    counts: Counts


def in_peace(folder: Path, only: str, runs: int, *, anew: bool) -> Peace:
    """Return what the runs of a grid give without a stop: started anew and then by forks, or by a fork alone."""
    records, counts, seconds = None, Counts(), 0.0
    if anew:
        grid = Grid(folder / "anew", only, runs)
        if grid.wait(grid.start_anew(), limit=4 * LIMIT) != 0:
            raise RuntimeError(f"the grid cannot be trained here: {grid.log.read_text()[-2000:]}")
        records = dict(grid.records())
    # the first fork tells what its runs import, and the second one how long they take without that
    for name in ("first", "second") if anew else ("first",):
        grid, begun = Grid(folder / name, only, runs), time.monotonic()
        found = grid.finish(records)
        records = records or found
        seconds = 1.5 * (time.monotonic() - begun) / runs
        import_what_runs_import(grid.notes)
        counts += grid.counts
    return Peace(records or {}, seconds, counts)


def _moment(grid: Grid, rng: np.random.Generator, seconds: float) -> Callable[[], bool]:
    """Return a function that says whether a kill is due: at a random time, or as soon as a file appears."""
    if rng.random() < 0.5:
        pattern = MOMENTS[rng.integers(len(MOMENTS))]
        before = set(grid.folder.glob(pattern))
        return lambda: not before.issuperset(grid.folder.glob(pattern))
    due = time.monotonic() + rng.uniform(0, seconds)
    return lambda: time.monotonic() > due


def kill_once(grid: Grid, rng: np.random.Generator, seconds: float, *, anew: bool) -> bool:
    """Start a runner and kill it, in one case of five its worker first; return whether it ended the grid before."""
    runner = grid.start_anew() if anew else grid.start()
    status = grid.wait(runner, until=_moment(grid, rng, seconds + 10 * anew))
    workers = [process for process in in_session(runner) if process != runner]
    if status is None and workers and rng.random() < 0.2:
        # the runner says what failed, and goes on with the others
        grid.kill(workers[0], runner)
        status = grid.wait(runner, until=_moment(grid, rng, seconds))
    if status is None:
        grid.kill(runner, runner)
        grid.counts.true_kills += anew
    grid.check()
    return status == 0


def kill_campaign(folder: Path, only: str, runs: int, kills: int, peace: Peace, *, seed: int = 0) -> Counts:
    """Return the counts of so many kills, a tenth of them of commands that were started anew, over as many grids."""
    rng, total, number, anew = np.random.default_rng(seed), Counts(), 0, kills // 10
    while total.kills < kills:
        grid, complete = Grid(folder / f"grid {number}", only, runs), False
        while not complete and total.kills + grid.counts.kills < kills:
            left = anew - total.true_kills - grid.counts.true_kills
            complete = kill_once(grid, rng, peace.seconds, anew=left > 0 and rng.random() < 2 * anew / kills)
        grid.finish(peace.records)
        total += grid.counts
        shutil.rmtree(grid.folder)
        number += 1
        print(f"{number} grids, {kills} kills to do: {total}", file=sys.stderr, flush=True)
    return total


def _write(folder: Path, first: int, writers: int) -> None:
    """Write records, those with odd numbers as others do, too, and say of each when it is safe."""
    store = RecordStore(folder / "results")
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(first, first + 1000):
        seed = number % (20 * writers) if number % 2 else 1000 + number
        store.write(record(seed))
        os.write(said, f"{seed}\n".encode())


def writers_campaign(folder: Path, kills: int, *, writers: int = 4, seed: int = 0) -> Counts:
    """Return the counts of so many kills of writers that race on one store."""
    folder.mkdir(parents=True)
    rng, counts, running = np.random.default_rng(seed), Counts(), []

    def kill(victim: int) -> None:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)

    for number in range(kills + writers - 1):
        process = os.fork()
        if not process:
            try:
                _write(folder, 100 * number, writers)
            finally:
                os._exit(0)
        running.append(process)
        time.sleep(rng.uniform(0, 0.05))
        if len(running) == writers:
            kill(running.pop(int(rng.integers(writers))))
            counts.kills += 1
    for process in running:
        kill(process)
    store = RecordStore(folder / "results")
    found = {one.config["split_seed"] for one in store.read()}
    safe = {int(line) for line in (folder / "said").read_text().split()}
    counts.lost, counts.torn = len(safe - found), len(store.skipped)
    return counts
