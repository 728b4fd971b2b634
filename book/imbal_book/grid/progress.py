"""What a terminal or a log shows of a grid while it runs: the grid, and each run that is under way."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from imbal_book.run.config import RunConfig

#: Seconds between two lines of a log about one run; without an epoch for this long, a run is said to hang.
LOG_EVERY, STALLED_AFTER = 30.0, 600.0


def run_line(config: RunConfig, progress: Mapping[str, Any]) -> str:
    """Return one run as a line: its label, epochs, loss, images per second and the time left.

    Examples
    --------
    >>> config = RunConfig(
    ...     study="demo", profile="smoke", dataset="mnist5k", imbalance="step-10", model="small_cnn", epochs=3
    ... )
    >>> run_line(config, {"epoch": 2, "loss": 0.25, "images_per_second": 812.3, "seconds_left": 75.0})
    'mnist5k step-10, small_cnn from scratch, shuffle, seeds 0/0: epoch 2/3, loss 0.250, 812 images/s, 1.2 min left'
    """
    if not progress:
        return f"{config.label()}: starting"
    left = progress["seconds_left"]
    time_left = (
        f"{left:.0f} s" if left < 60 else f"{left / 60:.1f} min" if left < 3600 else f"{left / 3600:.1f} h"
    )
    return (
        f"{config.label()}: epoch {progress['epoch']}/{config.epochs}, loss {progress['loss']:.3f}, "
        f"{progress['images_per_second']:.0f} images/s, {time_left} left"
    )


@contextlib.contextmanager
def _whoever_reads() -> Iterator[None]:
    """Go on where the terminal is gone or the log's disk is full: no run ends over that."""
    with contextlib.suppress(OSError):
        yield


class Board:
    """A bar over the grid and, in a terminal, a line below it for each run; a log gets plain lines.

    Parameters
    ----------
    total, done : int
        Runs of the grid, and how many are recorded.
    shown : bool
        False: nothing is printed, except what :meth:`say` says.
    """

    def __init__(self, total: int, done: int, shown: bool = True) -> None:
        self.total, self.done = total, done
        self.terminal, notebook = shown and sys.stderr.isatty(), "ipykernel" in sys.modules
        bar = self.terminal or shown and notebook
        self.bar = tqdm(total=total, initial=done, unit="run", disable=not bar, dynamic_ncols=True)
        self.log = shown and not bar
        self.lines: list[tqdm] = []
        # run -> when its last line was printed, and its epoch then; when its epoch changed last, and the epoch
        self.printed: dict[RunConfig, tuple[float, int]] = {}
        self.moved: dict[RunConfig, tuple[float, int]] = {}

    def __enter__(self) -> Board:
        return self

    @_whoever_reads()
    def __exit__(self, *_: object) -> None:
        for bar in (*self.lines, self.bar):
            bar.close()

    @_whoever_reads()
    def show(self, running: Mapping[RunConfig, Mapping[str, Any]]) -> None:
        """Show how far each run under way is, and say once of each that hangs."""
        now = time.monotonic()
        while self.terminal and len(self.lines) < len(running):
            self.lines.append(tqdm(bar_format="{desc}", position=len(self.lines) + 1, leave=False))
        for number, (config, progress) in enumerate(running.items()):
            epoch = progress.get("epoch", 0)
            if self.terminal:
                self.lines[number].set_description_str(run_line(config, progress))
            then, last = self.printed.setdefault(config, (now, 0))
            if self.log and epoch > last and now - then >= LOG_EVERY:
                self.printed[config] = (now, epoch)
                self.say(run_line(config, progress))
            changed, before = self.moved.setdefault(config, (now, epoch))
            if epoch != before:
                self.moved[config] = (now, epoch)
            elif now - changed > max(STALLED_AFTER, 10 * progress.get("seconds_of_epoch", 0.0)):
                self.moved[config] = (float("inf"), epoch)
                minutes = (now - changed) / 60
                self.say(f"{config.label()}: no epoch ended for {minutes:.0f} min; does it hang?")

    @_whoever_reads()
    def ended(self, config: RunConfig, outcome: str, seconds: float) -> None:
        """Count a run that ended."""
        self.done += 1
        self.bar.update()
        self.printed.pop(config, None)
        self.moved.pop(config, None)
        if self.log:
            self.say(f"{self.done}/{self.total} {config.label()}: {outcome}, {seconds:.1f} s")

    @_whoever_reads()
    def say(self, text: str) -> None:
        """Print a line above the bars."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()
