"""Whether two runs of one configuration agree: to the last bit, or in what they lead to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.run.long_frames import records_frame
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.run.record_format import Record
from imbal_book.studies import get_study

#: Largest accepted difference of an outcome where equality cannot be asked for: of a fraction, or relative above 1.
TOLERANCE = 0.05
#: An outcome may also differ by this many standard deviations over the recorded seeds of its arm and cell.
SPREADS = 4
# What the images and the split decide, which no rounding changes.
_DECIDED = ("train_counts", "valid_counts", "test_counts", "shared_groups")
# What validation images chose: judged by the readouts that it leads to, for two machines may choose far apart and
# be right both.
_CHOSEN = ("tau", "thresholds", "temperature", "chosen")
# Numbers of units, which another training draws anew.
_NAMES_OF_UNITS = ("identities",)


def same_to_the_bit(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether two measurements are the same, and a sentence on the first difference.

    Examples
    --------
    >>> same_to_the_bit({"accuracy": 0.75}, {"accuracy": 0.74})
    (False, 'accuracy: 0.75 recorded, 0.74 now')
    """
    for place, old, new in _leaves(recorded, again):
        if old != new or type(old) is not type(new):
            shown = [text if len(text) <= 60 else f"{text[:57]}..." for text in (str(old), str(new))]
            return False, f"{'.'.join(place)}: {shown[0]} recorded, {shown[1]} now"
    return True, "the same measurements"


def same_outcomes(
    recorded: Record, again: Record, others: Sequence[Record] = (), tolerance: float = TOLERANCE
) -> tuple[bool, str]:
    """Return whether two runs lead to the same, and the largest difference beside what is allowed there.

    Counts are equal. Every outcome differs by at most ``tolerance``, of its size above 1, or by `SPREADS` standard
    deviations over the records ``others`` of the same configuration apart from its seeds, of which fewer than three
    say nothing: as little as two trainings that differ by their seeds alone.
    """
    decided = [{name: r.measurements.get(name) for name in _DECIDED} for r in (recorded, again)]
    same, detail = same_to_the_bit(*decided)
    if not same:
        return False, detail
    compared = pd.DataFrame({"old": outcomes(recorded), "new": outcomes(again)}, dtype=float)
    lacking = compared[compared.isna().sum(axis=1) == 1]
    if len(lacking):
        return False, f"{lacking.index[0]}: only one of the two runs has it"
    spread = pd.DataFrame([outcomes(record) for record in others] if len(others) > 2 else []).std()
    compared["gap"] = (compared["old"] - compared["new"]).abs()
    by_size = tolerance * compared["old"].abs().clip(lower=1)
    compared["allowed"] = np.fmax(by_size, SPREADS * spread.reindex(compared.index))
    compared = compared.dropna(subset="gap")
    if not compared["gap"].any():
        return True, "the same outcomes"
    worst = compared.iloc[int((compared["gap"] / compared["allowed"]).argmax())]
    if worst["gap"] > worst["allowed"]:
        numbers = f"{worst['old']:.4g} recorded, {worst['new']:.4g} now"
        return False, f"{worst.name}: {numbers}, {worst['allowed']:.2g} allowed"
    return True, f"largest difference {worst['gap']:.2g} at {worst.name}, {worst['allowed']:.2g} allowed"


def outcomes(record: Record) -> dict[str, float]:
    """Return what a run leads to, by name: the scores of its study's frame, and one number of all else it measured.

    That is the last value of a history, and the mean absolute value of other numbers, packed ones too. Counts, what
    validation images chose and names of units are left out.
    """
    rows = get_study(record.config["study"]).frame(records_frame([record]))
    names = rows["readout"] + ", " + rows["metric"]
    found = dict(zip(names, rows["value"].astype(float), strict=True))
    for place, value, _ in _leaves(record.measurements, record.measurements):
        if place[0] in (*_DECIDED, *_CHOSEN) or place[-1] in _NAMES_OF_UNITS:
            continue
        numbers = np.abs(list(_numbers(value)))
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            found[".".join(place)] = float(numbers[-1] if place[0] == "history" else numbers.mean())
    return found


def alike(record: Record, records: Sequence[Record]) -> list[Record]:
    """Return the records of the same configuration, whatever their seeds."""

    def without_seeds(one: Record) -> object:
        return dataclasses.replace(one.run_config(), split_seed=0, train_seed=0)

    wanted = without_seeds(record)
    return [other for other in records if without_seeds(other) == wanted]


def _leaves(old: Any, new: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield place, old and new value of each leaf; a list is a leaf, and so is what one side lacks."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        yield place, old, new
        return
    for name in sorted(old.keys() | new.keys()):
        yield from _leaves(old.get(name, "nothing"), new.get(name, "nothing"), (*place, name))


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers of a leaf: its own, those in a list at any depth, and those packed as text."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, str):
        try:
            yield from unpack_rows([value]).ravel().tolist()
        except ValueError:  # words
            return
