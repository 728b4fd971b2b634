"""Second runs of recorded runs, and whether the recorded numbers come out again.

On a CPU of the same kind, with the same libraries and the recorded number of threads, a run gives the same
measurements to the last bit, and anything else is a disagreement. On another device or with other versions
rounding differs and training amplifies it; then the readouts are compared within a stated tolerance.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imbal_book.grid.batch import execute
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_book.studies import PROFILES, STUDIES
from imbal_core._checks.names import unknown_name
from imbal_core.training.prediction import default_device

__all__ = ["TOLERANCE", "Check", "VerifyReport", "compare", "verify"]

#: Largest accepted difference of a readout on another device or with other versions, as a fraction.
TOLERANCE = 0.05

_SAME = ("system", "device", "torch", "torchvision", "numpy", "threads")
# What training went through, and what the single features look like, may differ freely where only the outcome is
# compared: a unit has another rank or place, packed as text, though the predictions are the same.
_PATHS_OF_TRAINING = ("history", "feature_sketch", "latent")


@dataclass(frozen=True)
class Check:
    """The comparison of one record with its second run.

    Attributes
    ----------
    key, label : str
        Name of the record, and its configuration in words.
    agrees : bool
    exact : bool
        Whether equality was asked for; False: readouts within the tolerance.
    detail : str
        What differed, or how much at most; and why the comparison was not exact.
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
    tolerance: float = TOLERANCE,
    root: Path | str | None = None,
    progress: bool = True,
    announce: Callable[[Record], None] | None = None,
) -> VerifyReport:
    """Return how a sample of records compares with a second run of each on this machine.

    Parameters
    ----------
    store : RecordStore
        It is only read; the second runs go to a temporary folder.
    sample : int, default=3
        Number of records; all of them where there are fewer.
    study : str, optional
        Draw from one study; by default from all.
    profile : str, default="laptop"
    seed : int, default=0
        Which sample is drawn.
    tolerance : float, default=0.05
        Largest accepted difference of a readout (fractions) where equality cannot be asked for.
    root : path, optional
        The data root.
    progress : bool, default=True
        Show a bar over the epochs of each run.
    announce : callable, optional
        Called with each record before its run starts.

    Raises
    ------
    ValueError
        When the study or the profile is unknown, the sample is not positive or there is nothing to draw from.
    """
    if study is not None and study not in STUDIES:
        raise unknown_name("study", study, STUDIES)
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    records = store.read(study, profile)
    if not records:
        raise ValueError(
            f"no records of {study or 'any study'}, profile {profile!r}, in {store.root}: nothing to verify"
        )
    report = VerifyReport(population=len(records))
    for record in random.Random(seed).sample(records, min(sample, len(records))):
        if announce is not None:
            announce(record)
        report.checks.append(_check(record, tolerance, root, progress))
    return report


def _check(record: Record, tolerance: float, root: Path | str | None, progress: bool) -> Check:
    config = record.run_config()
    with tempfile.TemporaryDirectory() as folder, _threads(record.provenance.get("threads")):
        again = execute(config, RecordStore(Path(folder) / "results"), root=root, progress=progress)
    if again.key != record.key:
        detail = f"the images or the split differ: this machine's run has the key {again.key}"
        return Check(record.key, config.label(), False, True, detail)
    other = [
        f"{name} {record.provenance.get(name)} there, {again.provenance.get(name)} here"
        for name in _SAME
        if record.provenance.get(name) != again.provenance.get(name)
    ]
    on_cpu = default_device().type == "cpu"
    exact = on_cpu and not other
    agrees, detail = compare(record.measurements, again.measurements, None if exact else tolerance)
    if not exact:
        why = "; ".join(other) if other else "a GPU does not repeat its rounding"
        detail += f" (within {tolerance:g}, not exactly: {why})"
    return Check(record.key, config.label(), agrees, exact, detail)


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Run with the recorded number of threads: sums are rounded in an order that depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(
    recorded: Mapping[str, Any], again: Mapping[str, Any], tolerance: float | None = None
) -> tuple[bool, str]:
    """Return whether two measurements of one run agree, and a sentence on their difference.

    Parameters
    ----------
    recorded, again : mapping
        Measurements, as a record holds them.
    tolerance : float, optional
        None: every value is the same. Else the history of the training and the pictures and summaries of
        features are left out, whole numbers and text are the same, and a fraction, or the mean of a list of
        fractions (recall per class, say), differs by at most this much.

    Examples
    --------
    >>> compare({"accuracy": 0.75}, {"accuracy": 0.74}, 0.05)
    (True, 'largest difference 0.01 at accuracy')
    >>> compare({"accuracy": 0.75}, {"accuracy": 0.74})
    (False, 'accuracy: 0.75 recorded, 0.74 now')
    """
    worst, place = 0.0, ""
    for where, old, new in _leaves(recorded, again, "", tolerance is not None):
        if old == new and type(old) is type(new):
            continue
        numbers = _fraction(old), _fraction(new)
        if tolerance is None or numbers[0] is None or numbers[1] is None:
            return False, f"{where}: {_short(old)} recorded, {_short(new)} now"
        gap = abs(numbers[0] - numbers[1])
        if not gap <= tolerance:
            return False, f"{where}: {numbers[0]:.4g} recorded, {numbers[1]:.4g} now"
        if gap > worst:
            worst, place = gap, where
    return True, f"largest difference {worst:.2g} at {place}" if worst else "the same measurements"


def _leaves(old: Any, new: Any, where: str, outcome_only: bool) -> Iterator[tuple[str, Any, Any]]:
    """Yield place, recorded and new value of each leaf; a list is a leaf, and so is what one side lacks."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        yield where, old, new
        return
    for name in sorted(old.keys() | new.keys()):
        if not (outcome_only and name in _PATHS_OF_TRAINING):
            inner = f"{where}.{name}" if where else name
            yield from _leaves(old.get(name, "nothing"), new.get(name, "nothing"), inner, outcome_only)


def _fraction(value: Any) -> float | None:
    """Return a fraction, or the mean of a list that holds at least one; None for anything else."""
    if isinstance(value, float):
        return value
    if isinstance(value, list) and any(isinstance(item, float) for item in value):
        if all(isinstance(item, int | float) for item in value):
            return float(np.mean(value))
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
