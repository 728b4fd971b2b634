"""Runs and records that nobody trained, which the tests of everything that reads them share."""

from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import Record

DATA = {"train": "aa" * 32, "test": "bb" * 32}
SPLIT = "cc" * 32
ORIGIN = {
    "device": "Two cores (cpu)",
    "threads": 2,
    "seconds": 2.5,
    "git_commit": "abcdef0123456789",
    "date": "2026-01-02T03:04:05+00:00",
}


def run_config(seed=0, **changes):
    """Return a run whose split and training have one seed."""
    values = {
        "study": "demo",
        "profile": "laptop",
        "dataset": "cifar10",
        "imbalance": "zhang-a",
        "model": "small_cnn",
        "epochs": 3,
        "split_seed": seed,
        "train_seed": seed,
    }
    return RunConfig(**(values | changes))


def record_of(config, measurements, *, data=DATA, **origin):
    """Return the record of a run with these measurements; what is said of its origin replaces `ORIGIN`."""
    return Record.of_run(config, data, SPLIT, measurements, ORIGIN | origin)
