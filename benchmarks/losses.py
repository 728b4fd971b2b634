"""Microseconds of forward + backward of every loss, beside `F.cross_entropy` and the released CCE expression.

All run on the same float32 logits, in turns (A B C A B C ...) in one process, so that a machine that slows down
slows all of them. A ratio compares the best rounds: other processes only ever add time.

The targets hold for 4,096 x 1,000 logits, where a loss costs what its passes over the logits cost. With 128 x 10
a loss costs what its calls into PyTorch cost, tens of microseconds per step whatever it computes; that size is
printed and not judged. The judged three take turns by themselves, for twice as many rounds.

Run as ``python benchmarks/losses.py``. The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbal_book.chapters.complement_checks import released_expression
from imbal_core.losses.modules import build_loss
from imbal_core.losses.options import list_losses

SIZES = ((4096, 1000), (128, 10))
REFERENCE = "F.cross_entropy"
RELEASED = "released expression"
SLOWDOWN_TARGET = 1.6
SPEEDUP_TARGET = 3.0

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
    for function in functions.values():
        seconds(function, logits, targets, 2)
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            taken[name].append(seconds(function, logits, targets, calls))
    return {name: np.array(values) for name, values in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30, help="interleaved rounds")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; its own choice if not given")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    taken = {size: measure(*size, arguments.rounds) for size in SIZES}

    best = {size: {name: values.min() for name, values in each.items()} for size, each in taken.items()}
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} CPU threads, float32, forward + backward")
    print(
        f"best (and median) of {arguments.rounds} interleaved rounds, in microseconds; x: best / {REFERENCE}"
    )
    print(f"{'loss':<24}" + "".join(f"{f'{n:,} x {k:,}':>28}" for n, k in SIZES))
    for name in dict.fromkeys(name for each in taken.values() for name in each):
        row = f"{name:<24}"
        for size in SIZES:
            fastest, median = best[size][name], float(np.median(taken[size][name]))
            timing = f"{fastest * 1e6:.0f} ({median * 1e6:.0f})"
            row += f"{timing:>20}{fastest / best[size][REFERENCE]:>7.2f}x"
        print(row)

    judged = measure(*SIZES[0], 2 * arguments.rounds, (REFERENCE, "cce", RELEASED))
    large = {name: values.min() for name, values in judged.items()}
    slowdown = large["cce"] / large[REFERENCE]
    speedup = large[RELEASED] / large["cce"]
    print(f"cce-vs-cross-entropy: {slowdown:.2f} (target {SLOWDOWN_TARGET})")
    print(f"cce-vs-released: {speedup:.2f} (target {SPEEDUP_TARGET})")
    return int(slowdown > SLOWDOWN_TARGET or speedup < SPEEDUP_TARGET)


if __name__ == "__main__":
    sys.exit(main())
