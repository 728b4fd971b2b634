"""Make faults on purpose, count what becomes of them, and exit with 1 if a count that must be 0 is not."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from benchmarks.faults import fuzz
    from benchmarks.faults.runners import Counts

T = TypeVar("T")


def main() -> int:
    """Run what was asked for and print the counts."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is imported; all numbers are compared bit for bit
    options = _options()
    if not sys.platform.startswith("linux"):
        print("faults: skipped, they are made with forks, pipes and /proc, which this system lacks")
        return 0
    from benchmarks.faults import fuzz
    from benchmarks.faults.book_parsers import book_parsers
    from benchmarks.faults.data_parsers import data_parsers
    from benchmarks.faults.runners import Counts

    parsers = [one for one in (*book_parsers(), *data_parsers()) if re.search(options.parsers, one.name)]
    started = time.monotonic()
    total, tallies = Counts(), {}
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        damaged = _beside(fuzz.run, parsers, folder / "fuzz", options.cases, seed=options.seed)
        rows = _faults_of_runners(options, folder) if options.kills else {}
        tallies = damaged()
    for counts in rows.values():
        total += counts
    print(*fuzz.table(tallies), "", sep="\n")
    columns = [column for column in vars(total) if column != "kills_after_first"]
    print(f"{'faults of runners':<32}" + "".join(f"{column.replace('_', ' '):>14}" for column in columns))
    for scenario, counts in rows.items():
        print(f"{scenario:<32}" + "".join(f"{getattr(counts, column):>14,}" for column in columns))
    print(f"\n{time.monotonic() - started:.0f} s\n")
    return _last_lines(total, rows, tallies)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few kills and damaged files, in a minute")
    parser.add_argument("--cases", type=int, help="damaged files for each parser; default: 1,000")
    parser.add_argument(
        "--kills", type=int, help="of runners, a tenth of `imbal run` started anew; default: 100"
    )
    parser.add_argument("--writers", type=int, help="kills of writers that share a store; default: 300")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another campaign")
    parser.add_argument("--parsers", default=".", help="only those whose name this pattern finds")
    options = parser.parse_args()
    for name, full, quick in (("cases", 1000, 8), ("kills", 100, 3), ("writers", 300, 20)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def _beside(function: Callable[..., T], *args: object, **options: object) -> Callable[[], T]:
    """Call a function in a fork of this process, and return what waits for its answer."""
    answers, sender = multiprocessing.Pipe(duplex=False)
    lane = multiprocessing.get_context("fork").Process(target=lambda: sender.send(function(*args, **options)))
    lane.start()
    sender.close()
    return lambda: (answers.recv(), lane.join())[0]


def _faults_of_runners(options: argparse.Namespace, folder: Path) -> dict[str, Counts]:
    """Return the counts of each scenario by name."""
    import torch

    from benchmarks.faults.kills import in_peace, kill_campaign, writers_campaign
    from benchmarks.faults.runners import Counts, prepare_data, smoke_runs
    from benchmarks.faults.stress import SCENARIOS

    torch.set_num_threads(1)
    prepare_data(folder / "data")
    only, runs = smoke_runs(1 if options.quick else 2)
    peace = in_peace(folder / "peace", only, runs, anew=options.kills >= 10)
    stress = _beside(_stress, {} if options.quick else SCENARIOS, folder, only, runs, peace.records)
    # a killed runner leaves a core idle while its next one starts, so two campaigns go on side by side
    kills = [options.kills // 2, options.kills - options.kills // 2]
    campaigns = [
        _beside(
            kill_campaign, folder / f"kills {lane}", only, runs, count, peace, seed=2 * options.seed + lane
        )
        for lane, count in enumerate(kills)
    ]
    rows = {
        "in peace": peace.counts,
        "writers": writers_campaign(folder / "writers", options.writers, seed=options.seed),
        "imbal run": Counts(),
    }
    for campaign in campaigns:
        rows["imbal run"] += campaign()
    return rows | stress()


def _stress(
    scenarios: Mapping[str, Callable[..., Counts]], folder: Path, *given: object
) -> dict[str, Counts]:
    """Return the counts of each scenario by name; they wait more than they compute."""
    rows = {}
    for scenario, run in scenarios.items():
        rows[scenario] = run(folder / scenario.replace(" ", "_"), *given)
        print(f"{scenario}: {rows[scenario]}", file=sys.stderr, flush=True)
    return rows


def _last_lines(total: Counts, rows: dict[str, Counts], tallies: dict[str, fuzz.Tally]) -> int:
    """Print a line for each count; return 1 if one that must be 0 is not."""
    cases = {
        name: sum(tally.counts[name] for tally in tallies.values()) for name in ("traceback", "wrong", "hang")
    }
    runners = total.kills - rows["writers"].kills if rows else 0
    print(
        f"kills: {total.kills} ({runners} of runners, {total.true_kills} of them started anew as `imbal run`, "
        f"{total.kills_after_first} after the first record; the others of writers)"
    )
    zeros = {
        "lost": total.lost,
        "torn": total.torn,
        "wrong": cases["wrong"] + total.other_numbers,
        "hangs": cases["hang"] + total.hangs,
        "tracebacks": cases["traceback"] + total.tracebacks,
    }
    for name, count in zeros.items():
        print(f"{name}: {count} (0)")
        if name == "torn":
            print(f"trained twice: {total.twice}")
    return int(any(zeros.values()))


if __name__ == "__main__":
    sys.exit(main())
