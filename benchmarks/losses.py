"""Microseconds of forward + backward of every loss, beside `F.cross_entropy` and the released CCE expression.

All run on the same float32 logits, in turns (A B C A B C ...) in one process, so that a machine that slows down
slows all of them. The median of the rounds' ratios counts. With 4,096 x 1,000 logits a loss costs what its passes over
the logits cost, with 128 x 10 what its calls into PyTorch cost. Those that have a target take turns by themselves, for
twice as many rounds.

glibc keeps freed memory, as it does in the workers that train: else the time of 4,096 x 1,000 is that of fresh pages,
which some rounds get and others do not.

Run as ``python -m benchmarks.losses``. The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measured import across, report
from imbal_book.chapters.complement_checks import released_expression
from imbal_book.grid.workers import KEEP_FREED_MEMORY
from imbal_core.losses.modules import build_loss
from imbal_core.losses.options import list_losses

SIZES = {(4096, 1000): "", (128, 10): "-small"}
REFERENCE = "F.cross_entropy"
RELEASED = "released expression"
JUDGED = (REFERENCE, "cce", "asl", RELEASED)
#: Rounds after which the memory that is freed serves what follows.
WARM = 8

Function = Callable[[Tensor, Tensor], Tensor]


def competitors(classes: int) -> dict[str, Function]:
    counts = [max(1, int(5000 * 0.01 ** (c / (classes - 1)))) for c in range(classes)]
    functions: dict[str, Function] = {REFERENCE: F.cross_entropy}
    for name in list_losses():
        updates = build_loss(name, class_counts=counts).updates
        functions[name if len(updates) == 1 else f"{name}, second update"] = updates[-1]
    functions["cce, released form"] = build_loss("cce", form="released")
    functions[RELEASED] = released_expression
    return functions


def seconds(function: Function, logits: Tensor, targets: Tensor, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        logits.grad = None
        function(logits, targets).backward()
    return (time.perf_counter() - start) / calls


def measure(rows: int, classes: int, rounds: int, only: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Return the seconds of each loss, or of those named, in each round."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator).requires_grad_()
    targets = torch.randint(classes, (rows,), generator=generator)
    functions = {name: each for name, each in competitors(classes).items() if not only or name in only}
    calls = max(1, 100_000 // (rows * classes))
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(WARM + rounds):
        for name, function in functions.items():
            taken[name].append(seconds(function, logits, targets, calls))
    return {name: np.array(values[WARM:]) for name, values in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="interleaved rounds")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; its own choice if not given")
    arguments = parser.parse_args()
    if missing := KEEP_FREED_MEMORY.keys() - os.environ.keys():  # glibc reads them when a process starts
        os.environ |= {name: KEEP_FREED_MEMORY[name] for name in missing}
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.losses", *sys.argv[1:]])
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    taken = {size: measure(*size, arguments.rounds) for size in SIZES}

    middle = {
        size: {name: np.median(values) for name, values in each.items()} for size, each in taken.items()
    }
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} CPU threads, float32, forward + backward")
    print(f"median (and best) of {arguments.rounds} rounds, in microseconds; x: median / {REFERENCE}")
    print(f"{'loss':<24}" + "".join(f"{f'{n:,} x {k:,}':>28}" for n, k in SIZES))
    for name in dict.fromkeys(name for each in taken.values() for name in each):
        row = f"{name:<24}"
        for size in SIZES:
            median, best = middle[size][name], taken[size][name].min()
            timing = f"{median * 1e6:.0f} ({best * 1e6:.0f})"
            row += f"{timing:>20}{median / middle[size][REFERENCE]:>7.2f}x"
        print(row)

    found = {}
    for size, ending in SIZES.items():
        judged = measure(*size, 2 * arguments.rounds, JUDGED)
        for name in ("cce", "asl"):
            found[f"{name}-vs-cross-entropy{ending}"] = across(judged[name] / judged[REFERENCE])
        if not ending:
            found["cce-vs-released"] = across(judged[RELEASED] / judged["cce"])
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
