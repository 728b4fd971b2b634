"""Which runs answer a paper: a module per study, data that is read without PyTorch and pandas."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from imbal_book.run.config import RunConfig


def crossed(
    bases: Iterable[RunConfig],
    pairs: Iterable[tuple[int, int]],
    arms: Iterable[Mapping[str, Any]] = ({},),
) -> list[RunConfig]:
    """Return every base with what each arm changes, for one pair (split seed, training seed) after the other."""
    bases, arms = list(bases), list(arms)
    return [
        dataclasses.replace(base, split_seed=split, train_seed=training, **arm)
        for split, training in pairs
        for base in bases
        for arm in arms
    ]


def same(seeds: int) -> list[tuple[int, int]]:
    """Return pairs in which split and training have one seed."""
    return [(seed, seed) for seed in range(seeds)]
