"""What may happen to runners beside a kill: disks, clocks, memory and devices that fail, made on purpose."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults.runners import Counts, Grid
from imbal_book.grid import batch, workers

#: Seconds in a day, by which a clock may be wrong.
DAY = 86_400.0
#: Bytes of a disk that is too small for a checkpoint, and of a file where no such disk can be made.
DISK, FILE = 400_000, 5_000


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Yield whether a folder is a disk of its own, of a few hundred kB; it needs root."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def _fails(grid: Grid, change: Callable[[], object] | None = None) -> None:
    """Start a runner that cannot do its work; it must end by itself, in a sentence."""
    status = grid.wait(grid.start(change=change))
    grid.counts.tracebacks += status not in (1, 2)
    grid.check()


def full_disk(folder: Path, only: str, runs: int, expected: dict[str, object]) -> Counts:
    """Return the counts of a grid on a full disk, which gets room for records later, but not for checkpoints."""
    with small_disk(folder) as made:
        grid = Grid(folder, only, runs, folder.with_name("notes of a full disk"))
        if made:
            with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(b"\0" * 4096)
            _fails(grid)
            (folder / "filler").unlink()
        else:
            _fails(grid, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE)))
        grid.finish(expected)
        return grid.counts


def read_only(folder: Path, only: str, runs: int, expected: dict[str, object]) -> Counts:
    """Return the counts of a grid whose store cannot be written at first."""
    with small_disk(folder) as made:
        grid = Grid(folder, only, runs, folder.with_name("notes of a read-only store"))
        if made:
            _remount(folder, "ro")
            _fails(grid)
            _remount(folder, "rw,size=200m")
        else:
            folder.chmod(0o500)
            _fails(grid)
            folder.chmod(0o700)
        grid.finish(expected)
        return grid.counts


def _slow() -> None:
    """Make every call that a file's safety rests on take its time, as on a loaded file server."""
    for name in ("fsync", "link", "replace", "rename"):
        call = getattr(os, name)
        setattr(os, name, lambda *args, call=call, **more: (time.sleep(0.05), call(*args, **more))[1])


def _clock(seconds: float, host: str) -> Callable[[], object]:
    """Return a change that makes a runner one of another machine, whose clock is wrong."""
    now = time.time

    def change() -> None:
        time.time = lambda: now() + seconds
        socket.gethostname = lambda: host

    return change


def _together(grid: Grid, changes: list[Callable[[], object]], kill_first: bool = False) -> None:
    """Start a runner with each change at once on one grid, and wait for all."""
    runners = [grid.start(change=change) for change in changes]
    if kill_first:
        grid.wait(runners[0], until=lambda: bool(list(grid.folder.glob("_build/checkpoints/*.pt"))))
        grid.kill(runners[0], runners[0])
    for runner in runners[kill_first:]:
        grid.counts.tracebacks += grid.wait(runner) != 0
    grid.check()


def shared(folder: Path, only: str, runs: int, expected: dict[str, object]) -> Counts:
    """Return the counts of runners that share a grid: on a slow store, and with clocks that are days apart."""
    total = Counts()
    slow = Grid(folder / "slow", only, runs)
    _together(slow, [_slow, _slow])
    skewed = Grid(folder / "skewed", only, runs)
    _together(skewed, [_clock(DAY, "ahead"), _clock(-DAY, "behind"), lambda: None])
    killed = Grid(folder / "killed", only, runs)
    _together(killed, [lambda: None, lambda: None], kill_first=True)
    for grid in (slow, skewed, killed):
        grid.finish(expected)
        total += grid.counts
    return total


def _little_memory() -> None:
    """Give the workers of this runner hardly more memory than they begin with."""
    start = workers._start_worker

    def start_worker(threads: int) -> None:
        start(threads)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**22, resource.RLIM_INFINITY))

    workers._start_worker = start_worker


def _broken_device(folder: Path) -> Callable[[], object]:
    """Return a change after which one run meets a CUDA error, and its process has no working device from then on."""

    def change() -> None:
        execute, broken = batch.execute, []

        def on_the_device(*args: object, **more: object) -> object:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(folder / "broken", os.O_CREAT | os.O_EXCL))
                broken.append(True)
            if broken:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return execute(*args, **more)  # type: ignore[arg-type]

        batch.execute = on_the_device  # type: ignore[assignment]

    return change


def failing_workers(folder: Path, only: str, runs: int, expected: dict[str, object]) -> Counts:
    """Return the counts of grids of which a worker runs out of memory, or meets an error of its device."""
    memory = Grid(folder / "memory", only, runs)
    _fails(memory, _little_memory)
    device = Grid(folder / "device", only, runs)
    status = device.wait(device.start("--jobs", "2", change=_broken_device(device.folder)))
    device.counts.tracebacks += status not in (0, 1)
    device.check()
    # no more runs may fail than there were processes when the device broke
    device.counts.lost += max(0, runs - 1 - len(device.kept))
    total = Counts()
    for grid in (memory, device):
        grid.finish(expected)
        total += grid.counts
    return total


SCENARIOS = {
    "full disk": full_disk,
    "read-only store": read_only,
    "slow store, clock skew, shared": shared,
    "memory, CUDA error": failing_workers,
}
