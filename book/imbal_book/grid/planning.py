"""How much of a grid is recorded, and what the rest may cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from imbal_book.run.config import RunConfig
from imbal_book.run.records import RecordStore


@dataclass(frozen=True)
class Plan:
    """How much of a grid is recorded, and what the rest may cost.

    Attributes
    ----------
    total, recorded : int
        Numbers of runs.
    missing : list of RunConfig
    estimated_seconds : float or None
        Device time of the missing runs, from recorded runs alike; None without any.
    basis : str
        What the estimate rests on, as a sentence.
    """

    total: int
    recorded: int
    missing: list[RunConfig]
    estimated_seconds: float | None
    basis: str


_Kind: TypeAlias = tuple[object, ...]


def _kind(fields: Mapping[str, Any]) -> _Kind:
    return fields["model"], fields["dataset"], fields["epochs"], fields.get("frozen", False)


def recorded_seconds(store: RecordStore) -> dict[_Kind, list[float]]:
    """Return the seconds of all recorded runs by their kind: model, data set, epochs and whether it is frozen."""
    seconds: dict[_Kind, list[float]] = {}
    for _, told, taken in store.listing():
        seconds.setdefault(_kind(told), []).append(taken)
    return seconds


def plan(
    configs: Sequence[RunConfig],
    store: RecordStore,
    seconds: dict[_Kind, list[float]],
    probe: Callable[[RunConfig], float] | None = None,
) -> Plan:
    """Return how much of a grid is recorded, and the device time that the rest may take.

    The estimate of a missing run is the median of recorded runs of its kind, see `recorded_seconds`. Where there is
    none, `probe` is asked once for the kind, see `imbal_book.grid.probe`; without one such runs are left out of the
    sum, and the basis says so.
    """
    seconds = dict(seconds)
    missing = store.missing(list(configs))
    kinds = [_kind(vars(config)) for config in missing]
    recorded = sum(kind in seconds for kind in kinds)
    for kind, config in zip(kinds, missing, strict=True):
        if probe is not None and kind not in seconds:
            seconds[kind] = [probe(config)]
    known = [statistics.median(seconds[kind]) for kind in kinds if kind in seconds]
    if not missing:
        basis = "nothing is missing"
    elif not known:
        basis = "no recorded run is like the missing ones, so their time is not known; --probe tries each kind for 20 s"
    else:
        basis = (
            "recorded seconds of runs with the same model, data set and epochs, "
            f"for {recorded} of {len(missing)} missing runs"
        )
        if len(known) > recorded:
            basis += f"; a short training on this machine, for {len(known) - recorded}"
    return Plan(len(configs), len(configs) - len(missing), missing, sum(known) if known else None, basis)
