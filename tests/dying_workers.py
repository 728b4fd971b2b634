"""A run of a grid whose process dies, and runs beside it; in a module that worker processes can import."""

import os
import time
from pathlib import Path

from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore

#: The split seed of the run that kills its process, once another one is under way.
DIES = 0


def work(config: RunConfig, store_root: str, root: str) -> tuple[str, str, float]:
    under_way = Path(root, "under way")
    if config.split_seed == DIES:
        while not under_way.exists():
            time.sleep(0.01)
        os._exit(1)
    if not under_way.exists():  # a run of an hour, which nobody should wait for
        under_way.touch()
        time.sleep(3600)
    data, origin = {"train": "aa" * 32, "test": "bb" * 32}, {"device": "cpu", "threads": 1}
    origin |= {"date": "2026-01-01", "git_commit": None, "seconds": 1.0}
    record = Record.of_run(config, data, "cc" * 32, {"accuracy": 0.5}, origin)
    RecordStore(Path(store_root)).write(record)
    return "done", "", 1.0
