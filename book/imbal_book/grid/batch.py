"""Execution of runs: one, or a grid of them in several processes, with what is recorded already left alone."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from imbal_book.grid.claims import Claims, note_progress
from imbal_book.grid.progress import Board
from imbal_book.grid.workers import end_workers, worker_pool
from imbal_book.run.config import RunConfig
from imbal_book.run.networks import borrow_network, keep_network, network_file
from imbal_book.run.prepared import prepare
from imbal_book.run.provenance import provenance
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_book.studies import get_study
from imbal_core._checks.files import sha256_of_file
from imbal_core.models.weights import find_weights
from imbal_core.training.fit import FitResult, Progress
from imbal_core.training.prediction import default_device, device_label

_TAIL_LINES = 12
#: Seconds between two looks at the runs under way, and at those that other runners have claimed.
_LOOK = 1.0
#: "kept", "done", "failed", or "device lost" of a failed run whose process can do no other; the error's tail; seconds.
_Outcome: TypeAlias = tuple[str, str, float]


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


def _peak_memory_mb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def execute(
    config: RunConfig,
    store: RecordStore,
    *,
    root: Path | str | None = None,
    device: torch.device | None = None,
    progress: Progress = True,
    share: bool = True,
) -> Record:
    """Return the record of one run, which is trained, measured and stored.

    An interrupted run continues from the last finished epoch: the checkpoint lies beside the store, under
    ``_build/checkpoints``, and is removed when the record is safe. A network that another study has trained by the same
    recipe on the same images is read instead of trained again: the record says so, and counts its training's seconds.

    ``device`` and ``progress`` are as `imbal_core.training.fit.fit` takes them, by default the GPU if there is one;
    ``root`` is the data root; ``share`` says whether networks are read and kept, see `imbal_book.run.networks`.
    DivergedError when the loss is no longer finite; ContradictionError when the store holds other measurements of the
    same run.
    """
    device = device or default_device()
    prepared = prepare(config, root=root)
    checkpoint = store.scratch / "checkpoints" / f"{prepared.key}.pt"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    network = network_file(prepared) if share else None
    borrowed = borrow_network(network, checkpoint) if network else None
    start = time.perf_counter()
    measurements = get_study(config.study).measure(
        prepared, device=device, checkpoint=checkpoint, progress=progress
    )
    origin = provenance(
        device_label(device),
        seconds=time.perf_counter() - start + (borrowed or 0),
        threads=torch.get_num_threads(),
        precision=config.precision,
        peak_memory_mb=_peak_memory_mb(device),
    )
    if config.pretrained and (weights := find_weights(config.model, prepared.root)):
        origin["weights"] = sha256_of_file(weights)
    if network:
        origin["network"] = {"key": network.stem, "read": borrowed is not None}
    fingerprints = {"train": prepared.train.fingerprint, "test": prepared.test.fingerprint}
    record = Record.of_run(config, fingerprints, prepared.split.sha256, measurements, origin)
    store.write(record)
    if network and borrowed is None and checkpoint.exists():
        keep_network(network, checkpoint)
    checkpoint.unlink(missing_ok=True)
    return record


@functools.lru_cache(maxsize=1)
def _store(root: str) -> RecordStore:
    """Return a worker's store; kept because it reads each record once, however many runs ask for theirs."""
    return RecordStore(Path(root))


def _tail(error: BaseException) -> str:
    return "\n".join("".join(traceback.format_exception(error)).strip().splitlines()[-_TAIL_LINES:])


def _work(config: RunConfig, store_root: str, root: str | None) -> _Outcome:
    """Run one configuration in a worker, unless it is recorded already."""
    store = _store(store_root)
    if store.find(config) is not None:  # another process was faster
        return "kept", "", 0.0
    start, outcome, tail = time.perf_counter(), "done", ""
    try:
        execute(config, store, root=root, progress=functools.partial(_note, store, config))
    except Exception as error:
        # after an error of CUDA every further run of the same process fails, too
        outcome, tail = "device lost" if "CUDA error" in str(error) else "failed", _tail(error)
    return outcome, tail, time.perf_counter() - start


def _note(store: RecordStore, config: RunConfig, result: FitResult, images: int) -> None:
    """Leave word of a run after an epoch: the runner that started this worker shows it."""
    last, mean = result.seconds[-1], sum(result.seconds) / len(result.seconds)
    note_progress(
        store.scratch / "claims",
        config,
        epoch=result.epochs,
        loss=result.history["train_loss"][-1],
        images_per_second=images / max(last, 1e-9),
        seconds_of_epoch=last,
        seconds_left=mean * (config.epochs - result.epochs),
    )


def _number_of_jobs(jobs: int | Literal["auto"], runs: int) -> int:
    """Return how many processes run at once: on a GPU several small networks share it; a CPU run uses all cores."""
    if jobs == "auto":
        return min(6, max(1, (os.cpu_count() or 1) // 2), runs) if torch.cuda.is_available() else 1
    if jobs < 1:
        raise ValueError(f"jobs must be a positive number or 'auto', got {jobs!r}.")
    return min(jobs, runs)


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
        return left > self.longest.get(self._kind(config), max(self.longest.values(), default=0.0))


def _as_they_end(
    pool: ProcessPoolExecutor,
    work: Callable[[RunConfig], _Outcome],
    waiting: list[RunConfig],
    jobs: int,
    clock: _Clock,
    claims: Claims,
    board: Board,
) -> Iterator[tuple[Future[_Outcome], RunConfig]]:
    """Yield runs as they end, after taking them from ``waiting`` in its order; those not started are left there.

    A run that another runner has claimed is passed over, and waited for when nothing else is left: then it is recorded,
    or its runner gives no sign of life and it is taken over.
    """
    running: dict[Future[_Outcome], RunConfig] = {}
    announced = broken = False
    while True:
        while not broken and len(running) < jobs:
            # the first that still fits into the time and that nobody else trains; it is claimed then
            config = next(filter(claims.take, itertools.takewhile(clock.fits, waiting)), None)
            if config is None:
                break
            try:
                running[pool.submit(work, config)] = config
                waiting.remove(config)
            except BrokenProcessPool:
                broken = True
                claims.release(config)
        if running:
            finished, _ = wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED)
            board.show({config: claims.progress(config) for config in running.values()})
            for future in finished:
                broken = broken or not future.exception() and future.result()[0] == "device lost"
                yield future, running.pop(future)
        elif broken or not waiting or not clock.fits(waiting[0]):
            return
        else:
            if not announced:
                holders = sorted({claims.holder(config) for config in waiting} - {""})
                board.say(f"waiting for {len(waiting)} runs that others train: {'; '.join(holders)}")
            announced = True
            time.sleep(_LOOK)


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
    checkpoint; a KeyboardInterrupt ends the workers. Several runners, on one machine or on many that share the store,
    divide a grid by claims, see `imbal_book.grid.claims`.

    Parameters
    ----------
    configs, store
    jobs : int or "auto", default=1
        Processes at once. "auto": one on a CPU, up to six on a GPU.
    minutes : float, optional
        No run is started that would, by the runs of its kind so far, end later than this.
    root : path, optional
        The data root.
    progress : bool, default=True
        Show the grid and each run under way: epochs, loss, images per second, time left.
    """
    waiting = store.missing(list(configs))
    report = GridReport(kept=len(configs) - len(waiting))
    if not waiting:
        return report
    jobs, clock = _number_of_jobs(jobs, len(waiting)), _Clock(minutes)
    work = functools.partial(_work, store_root=str(store.root), root=None if root is None else str(root))
    store.sweep()
    with Claims(store.scratch / "claims") as claims, Board(len(configs), report.kept, progress) as board:
        # a process that is killed, for want of memory say, takes its pool with it, and one whose device is lost must
        # take no other run: what waits gets a new pool. Of several that ran, only another try alone tells which died
        suspects: list[RunConfig] = []
        for queue, at_once in ((waiting, jobs), (suspects, 1)):
            while queue and clock.fits(queue[0]):
                with worker_pool(at_once) as pool:
                    for future, config in _as_they_end(pool, work, queue, at_once, clock, claims, board):
                        claims.release(config)
                        died = future.exception()
                        if isinstance(died, BrokenProcessPool) and at_once > 1:
                            end_workers(pool)
                            suspects.append(config)
                            board.say(
                                f"{config.label()}: a process died, this one's or one beside it; tried again alone"
                            )
                            continue
                        outcome, tail, seconds = ("failed", _tail(died), 0.0) if died else future.result()
                        if outcome in ("failed", "device lost"):
                            store.write_failure(config, tail)
                            report.failed.append(Failure(config, tail))
                        elif outcome == "kept":
                            report.kept += 1
                        else:
                            report.done += 1
                            clock.note(config, seconds)
                        board.ended(config, outcome, seconds)
    report.left = len(waiting) + len(suspects)
    return report
