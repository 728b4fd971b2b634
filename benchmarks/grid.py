"""Images per second of a grid's runs in total, one process a core, beside the standard recipe alone on all cores.

Both train ResNet-32 with batches of 128, in turns. The processes are those of ``imbal run --jobs``, each with its share
of the cores, and all of them train at the same time; `benchmarks.training` says what the standard recipe is.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.measured import across, report
from benchmarks.training import BATCH, best_workers, fastest_precision, images_and_labels, ours, standard
from imbal_book.grid.workers import worker_pool

CPU = torch.device("cpu")


@functools.cache
def prepared(steps: int) -> Callable[[], float]:
    """Return a run of this process, in the precision that is faster with its threads."""
    images, labels, _ = images_and_labels()
    return ours(images, labels, steps, fastest_precision(CPU), CPU)


def images_per_second(steps: int) -> float:
    return steps * BATCH / prepared(steps)()


def in_total(pool: ProcessPoolExecutor, jobs: int, steps: int) -> float:
    return sum(pool.map(images_per_second, [steps] * jobs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10, help="steps of each run in a round")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    images, labels, source = images_and_labels()
    workers = best_workers(images, labels, options.steps, CPU)
    theirs = standard(images, labels, options.steps, workers, CPU)
    theirs()
    ratios = []
    with worker_pool(options.jobs) as pool:
        in_total(pool, options.jobs, options.steps)
        print(f"ResNet-32, batch {BATCH}, {source}; {options.jobs} runs at once, standard: {workers} workers")
        print(f"{'grid':>10}{'standard':>10}   images/s")
        for _ in range(options.rounds):
            alone = options.steps * BATCH / theirs()
            total = in_total(pool, options.jobs, options.steps)
            print(f"{total:>10.0f}{alone:>10.0f}")
            ratios.append(total / alone)
    return report({"grid-vs-standard": across(ratios)})


if __name__ == "__main__":
    sys.exit(main())
