"""Execution of runs: one, or a grid of them in several processes, with what is recorded already left alone."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from tqdm import tqdm

from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import prepare
from imbal_book.run.provenance import provenance
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_book.studies import get_study
from imbal_core.training.prediction import default_device

__all__ = [
    "KEEP_FREED_MEMORY",
    "Failure",
    "GridReport",
    "Plan",
    "execute",
    "plan",
    "run_grid",
]

_TAIL_LINES = 12
#: "kept", "done" or "failed"; the tail of the error; seconds.
_Outcome: TypeAlias = tuple[str, str, float]
#: Environment of the worker processes: glibc keeps what is freed instead of handing it back to the kernel.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error, with the last lines of its traceback."""

    config: RunConfig
    tail: str


@dataclass
class GridReport:
    """What became of a grid: numbers of runs trained now, kept from before, and left for later; and the failures."""

    done: int = 0
    kept: int = 0
    left: int = 0
    failed: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How much of a grid is recorded, and what the rest may cost.

    Attributes
    ----------
    total, recorded : int
        Numbers of runs.
    missing : list of RunConfig
    estimated_seconds : float or None
        Device time of the missing runs, from recorded runs alike; None without any.
    basis : str
        What the estimate rests on, as a sentence.
    """

    total: int
    recorded: int
    missing: list[RunConfig]
    estimated_seconds: float | None
    basis: str


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def execute(
    config: RunConfig,
    store: RecordStore,
    *,
    root: Path | str | None = None,
    device: torch.device | None = None,
    progress: bool = True,
) -> Record:
    """Return the record of one run, which is trained, measured and stored.

    An interrupted run continues from the last finished epoch: the checkpoint lies beside the store, under
    ``_build/checkpoints``, and is removed when the record is safe.

    Parameters
    ----------
    config : RunConfig
    store : RecordStore
    root : path, optional
        The data root.
    device : torch.device, optional
        By default the GPU if there is one.
    progress : bool, default=True
        Show a bar over the epochs.

    Raises
    ------
    imbal_core.training.fit.DivergedError
        When the loss is no longer finite.
    imbal_book.run.records.ContradictionError
        When the store holds other measurements of the same run.
    """
    device = device or default_device()
    prepared = prepare(config, root=root)
    checkpoint = store.root.parent / "_build" / "checkpoints" / f"{prepared.key}.pt"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    measurements = get_study(config.study).measure(
        prepared, device=device, checkpoint=checkpoint, progress=progress
    )
    seconds = time.perf_counter() - start
    record = Record.of_run(
        config,
        {"train": prepared.train.fingerprint, "test": prepared.test.fingerprint},
        prepared.split.sha256,
        measurements,
        provenance(
            device=device,
            seconds=seconds,
            precision=config.precision,
            peak_memory_mb=_peak_memory_mb(device),
        ),
    )
    store.write(record)
    checkpoint.unlink(missing_ok=True)
    return record


def _tail(error: BaseException) -> str:
    return "\n".join("".join(traceback.format_exception(error)).strip().splitlines()[-_TAIL_LINES:])


@functools.lru_cache(maxsize=1)
def _store(root: str) -> RecordStore:
    """Return a worker's store; kept because it reads each record once, however many runs ask for theirs."""
    return RecordStore(Path(root))


def _work(config: RunConfig, store_root: str, root: str | None) -> _Outcome:
    """Run one configuration in a worker, unless it is recorded already."""
    store = _store(store_root)
    if store.find(config) is not None:  # another process was faster
        return "kept", "", 0.0
    start = time.perf_counter()
    try:
        execute(config, store, root=root, progress=False)
    except Exception as error:
        tail = _tail(error)
        store.write_failure(config, tail)
        return "failed", tail, time.perf_counter() - start
    return "done", "", time.perf_counter() - start


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, even by SIGKILL, instead of waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _number_of_jobs(jobs: int | Literal["auto"], runs: int) -> int:
    """Return how many processes run at once: on a GPU several small networks share it; a CPU run uses all cores."""
    if jobs == "auto":
        number = min(6, max(1, (os.cpu_count() or 1) // 2)) if torch.cuda.is_available() else 1
    elif jobs < 1:
        raise ValueError(f"jobs must be a positive number or 'auto', got {jobs!r}.")
    else:
        number = jobs
    return max(1, min(number, runs))


@dataclass
class _Clock:
    """Decides whether one more run fits into the minutes that are left, from the runs that ended so far."""

    minutes: float | None
    start: float = field(default_factory=time.perf_counter)
    longest: dict[tuple[object, ...], float] = field(default_factory=dict)

    @staticmethod
    def _kind(config: RunConfig) -> tuple[object, ...]:
        return (config.model, config.dataset, config.imbalance, config.sampler, config.epochs, config.frozen)

    def note(self, config: RunConfig, seconds: float) -> None:
        kind = self._kind(config)
        self.longest[kind] = max(seconds, self.longest.get(kind, 0.0))

    def fits(self, config: RunConfig) -> bool:
        if self.minutes is None:
            return True
        left = self.minutes * 60 - (time.perf_counter() - self.start)
        expected = self.longest.get(self._kind(config), max(self.longest.values(), default=0.0))
        return left > expected


@contextlib.contextmanager
def _executor(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes that share the processor's cores evenly."""
    threads = max(1, torch.get_num_threads() // jobs)
    # glibc hands large freed blocks back to the kernel at once and asks for them again at the next step; keeping
    # them makes training on a CPU a fifth faster (benchmarks/allocator.py). Read by the workers when they start.
    for name, value in KEEP_FREED_MEMORY.items():
        os.environ.setdefault(name, value)
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(threads,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _as_they_end(
    pool: ProcessPoolExecutor,
    work: Callable[[RunConfig], _Outcome],
    waiting: list[RunConfig],
    jobs: int,
    clock: _Clock,
    bar: tqdm,
) -> Iterator[tuple[Future[_Outcome], RunConfig]]:
    """Yield runs as they end, after taking them from ``waiting`` in its order; those not started are left there."""
    running: dict[Future[_Outcome], RunConfig] = {}
    while True:
        with contextlib.suppress(BrokenProcessPool):
            while waiting and len(running) < jobs and clock.fits(waiting[0]):
                running[pool.submit(work, waiting[0])] = waiting[0]
                bar.set_postfix_str(waiting.pop(0).label())
        if not running:
            return
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future, running.pop(future)


def _take_stock(
    future: Future[_Outcome],
    config: RunConfig,
    report: GridReport,
    clock: _Clock,
    store: RecordStore,
) -> None:
    """Enter into the report what became of one run."""
    error = future.exception()
    if error is not None:  # the worker could not leave a note itself
        store.write_failure(config, _tail(error))
        outcome, tail, seconds = "failed", _tail(error), 0.0
    else:
        outcome, tail, seconds = future.result()
    if outcome == "failed":
        report.failed.append(Failure(config, tail))
    elif outcome == "kept":
        report.kept += 1
    else:
        report.done += 1
        clock.note(config, seconds)


def run_grid(
    configs: Sequence[RunConfig],
    store: RecordStore,
    *,
    jobs: int | Literal["auto"] = 1,
    minutes: float | None = None,
    root: Path | str | None = None,
    progress: bool = True,
) -> GridReport:
    """Return what became of a grid, after training the runs that the store lacks.

    Runs start in the order of ``configs``. A failed run leaves a note and does not stop the others. Every
    record is saved as soon as its run ends, so an interrupted grid loses at most the epochs since the last
    checkpoint.

    Parameters
    ----------
    configs : sequence of RunConfig
    store : RecordStore
    jobs : int or "auto", default=1
        Processes at once. "auto": one on a CPU, up to six on a GPU.
    minutes : float, optional
        No run is started that would, by the runs of its kind so far, end later than this.
    root : path, optional
        The data root.
    progress : bool, default=True
        Show a bar over the grid.
    """
    missing = store.missing(list(configs))
    report = GridReport(kept=len(configs) - len(missing))
    if not missing:
        return report
    jobs = _number_of_jobs(jobs, len(missing))
    clock = _Clock(minutes)
    waiting = list(missing)
    work = functools.partial(_work, store_root=str(store.root), root=None if root is None else str(root))
    bar = tqdm(total=len(configs), initial=report.kept, unit="run", disable=not progress, dynamic_ncols=True)
    with bar:
        # a process that is killed, for want of memory say, takes its pool with it; what waits gets a new one
        while waiting and clock.fits(waiting[0]):
            with _executor(jobs) as pool:
                for future, config in _as_they_end(pool, work, waiting, jobs, clock, bar):
                    _take_stock(future, config, report, clock, store)
                    bar.update()
    report.left = len(waiting)
    return report


def _kind(config: RunConfig) -> tuple[object, ...]:
    """Return what runs that take about as long share."""
    return config.model, config.dataset, config.epochs, config.frozen


def plan(configs: Sequence[RunConfig], store: RecordStore) -> Plan:
    """Return how much of a grid is recorded, and the device time that the rest may take.

    The estimate of a missing run is the median of recorded runs with the same model, data set and epochs; a
    missing run without any such record is left out of the sum, and the basis says so.
    """
    missing = store.missing(list(configs))
    seconds: dict[tuple[object, ...], list[float]] = {}
    for record in store.read():
        seconds.setdefault(_kind(record.run_config()), []).append(record.provenance["seconds"])
    known = [float(np.median(seconds[_kind(c)])) for c in missing if _kind(c) in seconds]
    if not missing:
        basis = "nothing is missing"
    elif not known:
        basis = "no recorded run is like the missing ones, so their time is not known"
    else:
        basis = (
            "recorded seconds of runs with the same model, data set and epochs, "
            f"for {len(known)} of {len(missing)} missing runs"
        )
    return Plan(len(configs), len(configs) - len(missing), missing, sum(known) if known else None, basis)
