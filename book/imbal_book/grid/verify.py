"""Second runs of recorded runs, and whether the recorded numbers come out again.

On a CPU of the same kind, with the same libraries and the recorded number of threads, a run gives the same
measurements to the last bit, and anything else is a disagreement. On another device or with other versions
rounding differs and training amplifies it; then what the run leads to is compared within a stated tolerance.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from imbal_book.grid.agreement import alike, same_outcomes, same_to_the_bit
from imbal_book.grid.batch import execute
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_book.studies import PROFILES, known_study
from imbal_core._checks.names import unknown_name
from imbal_core.training.prediction import default_device

_SAME = ("system", "device", "torch", "torchvision", "numpy", "threads", "weights")


@dataclass(frozen=True)
class Check:
    """The comparison of one record with its second run.

    Attributes
    ----------
    key, label : str
        Name of the record, and its configuration in words.
    agrees, exact : bool
        ``exact``: whether equality was asked for; False: outcomes within a tolerance.
    detail : str
        What differed, or how much at most beside what is allowed; and why the comparison was not exact.
    """

    key: str
    label: str
    agrees: bool
    exact: bool
    detail: str


@dataclass
class VerifyReport:
    """The checks of a sample, and how many records it was drawn from."""

    population: int
    checks: list[Check] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every record of the sample agrees."""
        return all(check.agrees for check in self.checks)


def verify(
    store: RecordStore,
    sample: int = 3,
    *,
    study: str | None = None,
    profile: str = "laptop",
    seed: int = 0,
    announce: Callable[[list[Record], tuple[float, float]], None] | None = None,
) -> VerifyReport:
    """Return how a sample of records of a study (None: any) compares with a second run of each on this machine.

    The store is only read; the second runs go to a temporary folder. ``announce`` is called with the sample and
    `expected_seconds` of it before the first run starts.

    Raises
    ------
    ValueError
        When the study or the profile is unknown, the sample is not positive or there is nothing to draw from.
    """
    if study is not None:
        known_study(study)
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    records = store.read(study, profile)
    if not records:
        raise ValueError(
            f"no records of {study or 'any study'}, profile {profile!r}, in {store.root}: nothing to verify"
        )
    chosen = random.Random(seed).sample(records, min(sample, len(records)))
    if announce is not None:
        announce(chosen, expected_seconds(chosen, records))
    return VerifyReport(len(records), [_check(record, alike(record, records)) for record in chosen])


def expected_seconds(chosen: Sequence[Record], records: Sequence[Record]) -> tuple[float, float]:
    """Return how long second runs took as recorded, and at most.

    A run on frozen features took seconds where another had computed them before: at most as long as the slowest run on
    the features of the same network and images.
    """

    def features(record: Record) -> object:
        config = record.run_config()
        return (config.model, config.dataset, config.image_size) if config.frozen else record.key

    slowest: dict[object, float] = {}
    for record in records:
        seconds = record.provenance["seconds"]
        slowest[features(record)] = max(seconds, slowest.get(features(record), 0.0))
    recorded = sum(record.provenance["seconds"] for record in chosen)
    return recorded, sum(slowest[features(record)] for record in chosen)


def _check(record: Record, others: Sequence[Record]) -> Check:
    config = record.run_config()
    with tempfile.TemporaryDirectory() as folder, _threads(record.provenance["threads"]):
        again = execute(config, RecordStore(Path(folder) / "results"), share=False)
    if again.key != record.key:
        detail = f"the images or the split differ: this machine's run has the key {again.key}"
        return Check(record.key, config.label(), False, True, detail)
    other = [
        f"{name} {record.provenance[name]} there, {again.provenance.get(name)} here"
        for name in _SAME
        # a record of the first edition does not say which weights it started from
        if name in record.provenance and record.provenance[name] != again.provenance.get(name)
    ]
    exact = default_device().type == "cpu" and not other
    if exact:
        agrees, detail = same_to_the_bit(record.measurements, again.measurements)
    else:
        agrees, detail = same_outcomes(record, again, others)
        detail += f" (not to the bit: {'; '.join(other) or 'a GPU does not repeat its rounding'})"
    return Check(record.key, config.label(), agrees, exact, detail)


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Run with the recorded number of threads: sums are rounded in an order that depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
