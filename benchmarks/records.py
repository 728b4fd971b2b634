"""Seconds that a store of 10,000 records (539 MB) needs for its plan, its frame, and which runs are missing.

The records are committed ones under other seeds, most of them of the study whose records are the largest. Each number
is asked for first without the index beside the store, which may be deleted at any time, and then with it. The second
counts, in seconds of this process, so that what else the machine does is left out.
"""

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measured import Measured, report
from imbal_book.grid.planning import plan, recorded_seconds
from imbal_book.run.long_frames import records_frame
from imbal_book.run.record_format import Record, run_key
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid

LARGEST, OTHER = "cnn_fragility", "final_batch_norm"


def under_other_seeds(study: str, number: int) -> Iterator[Record]:
    """Yield so many records, made of the committed ones of a study."""
    known = RecordStore().read(study, "laptop")
    for place in range(number):
        like = known[place % len(known)]
        seed = like.config["split_seed"] + 1000 * (1 + place // len(known))
        config = dataclasses.replace(like.run_config(), split_seed=seed)
        key = run_key(config, like.data, like.split)
        yield dataclasses.replace(like, key=key, config={**like.config, "split_seed": seed})


def fill(store: RecordStore, number: int) -> int:
    """Write so many records, and return their size in bytes."""
    size = 0
    for study, share in ((LARGEST, number - number // 20), (OTHER, number // 20)):
        for record in under_other_seeds(study, share):
            path = store.path(record)
            path.parent.mkdir(parents=True, exist_ok=True)
            size += path.write_bytes(record.to_json().encode())
    return size


def seconds(asked: Callable[[RecordStore], object], root: Path) -> tuple[float, float]:
    """Return the seconds of the processor and on the clock that a new store takes for an answer."""
    start, busy = time.perf_counter(), time.process_time()
    asked(RecordStore(root))
    return time.process_time() - busy, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    number = parser.parse_args().records
    grid = build_grid(LARGEST, "laptop")
    questions: dict[str, Callable[[RecordStore], object]] = {
        "plan": lambda store: plan(grid, store, recorded_seconds(store)),
        "frame": lambda store: records_frame(store.read()),
        "missing": lambda store: store.missing(grid),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(Path(folder) / "results")
        size = fill(store, number)
        print(f"{number:,} records, {size / 1e6:.0f} MB")
        print(f"{'':<10}{'no index':>10}{'on the clock':>14}{'index':>10}{'on the clock':>14}   seconds")
        counted = {}
        for name, asked in questions.items():
            shutil.rmtree(store.scratch, ignore_errors=True)
            first, second = seconds(asked, store.root), seconds(asked, store.root)
            counted[name] = second[0]
            print(f"{name:<10}{first[0]:>10.2f}{first[1]:>14.2f}{second[0]:>10.2f}{second[1]:>14.2f}")
    return report({f"records-{name}": Measured(each, each, each) for name, each in counted.items()})


if __name__ == "__main__":
    sys.exit(main())
