"""Which images train, measure and test: stratified, grouped, repeated; no group is ever on two sides.

The fixed test part enters no choice. Every repeated split divides the rest into images that train and
images that measure; inside those that train, validation images choose the settings of each remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["FEWEST", "Parts", "draw_part", "draw_parts"]

#: Fewest images of a class that are measured, and fewest groups of them: test, measure, validation and training.
FEWEST = 6
_FEWEST_GROUPS = 4
_TEST_SHARE, _MEASURE_SHARE, _VALIDATION_SHARE = 0.2, 0.2, 0.25


@dataclass(frozen=True)
class Parts:
    """Rows of a table of images.

    Attributes
    ----------
    train, measure : list of ndarray
        Of R repeated splits and, last, of the final one: all images outside the test part, and the test part.
    fit, validation : list of list of ndarray
        J divisions of each ``train``.
    measured : ndarray of shape (K,), bool
        Classes with enough images to be measured.
    """

    train: list[np.ndarray]
    measure: list[np.ndarray]
    fit: list[list[np.ndarray]]
    validation: list[list[np.ndarray]]
    measured: np.ndarray

    @property
    def test_over_train(self) -> float:
        """Images that measure over images that train, the mean of the repeated splits."""
        pairs = zip(self.measure[:-1], self.train[:-1], strict=True)
        return float(np.mean([len(measure) / len(train) for measure, train in pairs]))


def draw_parts(
    labels: np.ndarray,
    groups: np.ndarray,
    test: np.ndarray | None,
    *,
    repeats: int,
    validations: int,
    seed: int,
) -> Parts:
    """Return the parts of a comparison.

    Parameters
    ----------
    labels, groups : ndarray of shape (N,), int64
        Classes in [0, K) and group numbers.
    test : ndarray of bool, shape (N,), optional
        The images of a test side that is given; else about 20 % of each class are drawn.
    repeats, validations : int
        R and J.
    seed : int
        The same seed gives the same parts.
    """
    rng = np.random.default_rng(seed)
    free = np.ones(len(labels), bool) if test is None else ~test
    classes = int(labels.max()) + 1
    measured = np.array([_can_be_measured(labels[free] == c, groups[free]) for c in range(classes)])
    if test is None:
        test = np.zeros(len(labels), bool)
        test[draw_part(labels, groups, measured, _TEST_SHARE, rng)] = True
    rows = np.flatnonzero(~test)

    def divide(rows: np.ndarray, share: float, fewest: int) -> tuple[np.ndarray, np.ndarray]:
        taken = draw_part(labels[rows], groups[rows], measured, share, rng, fewest)
        out = np.zeros(len(rows), bool)
        out[taken] = True
        return rows[~out], rows[out]

    sides = [divide(rows, _MEASURE_SHARE, 2) for _ in range(repeats)]
    train = [train for train, _ in sides] + [rows]
    inner = [[divide(part, _VALIDATION_SHARE, 1) for _ in range(validations)] for part in train]
    return Parts(
        train,
        [measure for _, measure in sides] + [np.flatnonzero(test)],
        [[fit for fit, _ in pairs] for pairs in inner],
        [[validation for _, validation in pairs] for pairs in inner],
        measured,
    )


def draw_part(
    labels: np.ndarray,
    groups: np.ndarray,
    measured: Sequence[bool] | np.ndarray,
    share: float,
    rng: np.random.Generator,
    fewest: int = 2,
) -> np.ndarray:
    """Return rows of whole groups with about a share of each measured class, and at least `fewest` images of it.

    Groups of several images are taken in random order while each of their classes has room for them; single
    images then fill each class up. Where that leaves a class short, the smallest group that has it is taken too.
    """
    classes = len(measured)
    wanted = np.maximum(fewest, np.round(share * np.bincount(labels, minlength=classes))).astype(int)
    wanted[~np.asarray(measured, bool)] = 0
    order = np.lexsort((rng.permutation(len(labels)), groups))
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    members = np.split(order, starts[1:])
    single = np.array([rows[0] for rows, size in zip(members, sizes, strict=True) if size == 1], np.int64)
    several = [members[i] for i in rng.permutation(np.flatnonzero(sizes > 1))]
    taken: list[np.ndarray] = []
    left = wanted.copy()
    for rows in several:
        held = np.bincount(labels[rows], minlength=classes)
        if (held <= left).all():
            taken.append(rows)
            left -= held
    chosen = {id(rows) for rows in taken}
    for c in np.flatnonzero(left > 0):
        rows = rng.permutation(single[labels[single] == c])[: left[c]]
        taken.append(rows)
        left[c] -= len(rows)
        short = fewest - (wanted[c] - left[c])
        rest = [rows for rows in several if id(rows) not in chosen and (labels[rows] == c).any()]
        for rows in sorted(rest, key=len):
            if short <= 0:
                break
            taken.append(rows)
            chosen.add(id(rows))
            left -= np.bincount(labels[rows], minlength=classes)
            short = fewest - (wanted[c] - left[c])
    return np.sort(np.concatenate([np.zeros(0, np.int64), *taken]))


def _can_be_measured(mask: np.ndarray, groups: np.ndarray) -> bool:
    return int(mask.sum()) >= FEWEST and len(np.unique(groups[mask])) >= _FEWEST_GROUPS
