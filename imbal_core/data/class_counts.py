"""Class counts: how many images of each class train and validate, by formula, by table or by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from imbal_core._checks.fields import checked_number, whole_number
from imbal_core._checks.names import unknown_name

# Zhang et al. 2018, Table I: training and validation images of each of 10 classes. In Table II, for 100 classes,
# ten classes in a row have a tenth of one of these.
_ZHANG = {
    "A": ([400] * 5 + [4000] * 5, [100] * 5 + [1000] * 5),
    "B": ([200] * 3 + [400] * 3 + [2000] * 3 + [4000], [50] * 3 + [100] * 3 + [500] * 3 + [1000]),
    "C": (
        [200, 600, 1000, 1400, 1800, 2200, 2600, 3000, 3500, 4000],
        [50, 150, 250, 350, 450, 550, 650, 750, 870, 1000],
    ),
}
_RARE = "rare-MAJORITY-MINORITY"
_NAMES = ["balanced", "natural", "zhang-a", "zhang-b", "zhang-c", "exponential-RATIO", "step-RATIO", _RARE]
_NAMES += [f"{_RARE}-VALID_MAJORITY-VALID_MINORITY"]


def exponential_counts(n_max: int, num_classes: int, ratio: float) -> np.ndarray:
    """Return class counts that fall exponentially, the long tail of Cao et al. 2019.

    Parameters
    ----------
    n_max, num_classes : int
        Images of class 0, the largest; and K, at least 2.
    ratio : float
        Imbalance ratio r, the largest count over the smallest; at least 1.

    Returns
    -------
    ndarray of int64, shape (K,)
        Class k has ``int(n_max * ratio ** (-k / (K - 1)))`` images.

    Raises
    ------
    ValueError
        If an argument is out of range, or the smallest class would be empty.

    References
    ----------
    K. Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019.

    Examples
    --------
    >>> exponential_counts(5000, 10, 100)
    array([5000, 2997, 1796, 1077,  645,  387,  232,  139,   83,   50])
    """
    return _counts(n_max, num_classes, ratio, lambda k: n_max * ratio ** (-k / (num_classes - 1)))


def step_counts(n_max: int, num_classes: int, ratio: float, *, minority_fraction: float = 0.5) -> np.ndarray:
    """Return class counts with one step: the last classes have ``int(n_max / ratio)`` images, others n_max.

    Parameters
    ----------
    n_max, num_classes : int
        Images of each majority class; and K, at least 2.
    ratio : float
        Imbalance ratio r, at least 1.
    minority_fraction : float, default=0.5
        Part of the classes that is rare, between 0 and 1; a fraction of a class counts as a rare class.

    Returns
    -------
    ndarray of int64, shape (K,)

    Raises
    ------
    ValueError
        If an argument is out of range, a minority class would be empty, or all classes or none would be rare.

    Examples
    --------
    >>> step_counts(100, num_classes=4, ratio=10)
    array([100, 100,  10,  10])
    """
    majority = _floor(num_classes * (1 - minority_fraction))
    if not 1 <= majority < num_classes:
        raise ValueError(
            f"minority_fraction={minority_fraction} of {num_classes} classes must leave classes on both "
            f"sides, found {majority} majority classes"
        )
    return _counts(n_max, num_classes, ratio, lambda k: n_max if k < majority else n_max / ratio)


def zhang_counts(num_classes: int, kind: str, *, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and validation counts of Tables I and II of Zhang et al. 2018, int64 of shape (num_classes,).

    The tables are for 10 classes (CIFAR-10) and 100 (CIFAR-100). Kind A has two levels, B four, C is about linear;
    class 0 is always among the smallest. For smaller pools `scale` is a factor: counts are rounded (half up), to at
    least 2 training images and 1 for validation. ValueError for any other number, kind or a scale that is not positive.
    """
    if kind not in ("A", "B", "C"):
        raise unknown_name("imbalance type of Zhang 2018", kind, ["A", "B", "C"])
    if num_classes not in (10, 100):
        raise ValueError(f"the tables of Zhang 2018 are for 10 or 100 classes, got {num_classes}")
    repeats = num_classes // 10
    train, valid = (np.repeat(np.array(counts) // repeats, repeats) for counts in _ZHANG[kind])
    return _scaled(train, scale, at_least=2), _scaled(valid, scale, at_least=1)


def counts_from_name(
    name: str, pool_counts: Sequence[int] | np.ndarray, *, scale: float = 1.0, valid_share: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and validation counts that a name asks of a pool of images.

    Parameters
    ----------
    name : str
        ``"zhang-a"``, ``"zhang-b"``, ``"zhang-c"``; ``"exponential-RATIO"`` and ``"step-RATIO"`` with the
        smallest class of the pool as n_max; ``"balanced"``: as many of each class as the smallest one has;
        ``"natural"``: all images as they are; ``"rare-1000-10"`` for two classes, majority and minority.
        Zhang's types set validation images aside, and so does ``"rare-1000-10-150-7"``: 150 and 7 of them.
    pool_counts : array of int, shape (K,)
        Images of each class in the pool.
    scale : float, default=1.0
        Factor on the counts (on n_max for exponential and step).
    valid_share : float, default=0.0
        Validation images of each class as a share of its training images and in addition to them, rounded
        (half up), at least 1. ``"natural"`` and ``"balanced"``, which ask for all images, train on as many fewer.
        Only for an imbalance that sets none aside itself.

    Returns
    -------
    train_counts, valid_counts : ndarray of int64, shape (K,)

    Raises
    ------
    ValueError
        If the name is unknown, a class has fewer images than both sides ask for, or `valid_share` would be ignored.

    Examples
    --------
    >>> train, valid = counts_from_name("exponential-10", [500] * 4)
    >>> train, valid
    (array([500, 232, 107,  50]), array([0, 0, 0, 0]))
    """
    pool = np.asarray(pool_counts, dtype=np.int64)
    zhang = re.fullmatch("zhang-([abc])", name)
    tail = re.fullmatch(r"(exponential|step)-(\d+(?:\.\d+)?)", name)
    rare = re.fullmatch(r"rare-(\d+)-(\d+)(?:-(\d+)-(\d+))?", name)
    if rare and len(pool) != 2:
        raise ValueError(f"imbalance {name!r} is for 2 classes, the pool has {len(pool)}")
    checked_number("valid_share", valid_share, "[0, 1)")
    if valid_share and (zhang or rare and rare[3]):
        raise ValueError(
            f"valid_share={valid_share:g}: imbalance {name!r} sets its own validation images aside; leave it 0"
        )
    valid = None
    if zhang:
        train, valid = zhang_counts(len(pool), zhang[1].upper(), scale=scale)
    elif rare:
        sides = np.array([int(number) for number in rare.groups() if number]).reshape(-1, 2)
        for majority, minority in sides:
            if not 1 <= minority <= majority:
                raise ValueError(f"need n_majority >= n_minority >= 1, got {majority} and {minority}")
        train, *set_aside = _scaled(sides, scale, at_least=1)
        valid = set_aside[0] if set_aside else None
    else:
        scaled = _scaled(pool, scale, at_least=1)
        if tail:
            count = exponential_counts if tail[1] == "exponential" else step_counts
            train = count(int(scaled.min()), len(pool), float(tail[2]))
        elif name in ("balanced", "natural"):
            scaled = np.minimum(scaled, _room(pool, valid_share)) if valid_share else scaled
            train = scaled if name == "natural" else np.full_like(scaled, scaled.min())
        else:
            raise unknown_name("imbalance", name, _NAMES)
    if valid is None:
        valid = _scaled(train, valid_share, at_least=1) if valid_share else np.zeros_like(train)
    check_pool(pool, train, valid, f"imbalance {name!r} at scale {scale:g}: ")
    return train, valid


def _room(pool: np.ndarray, valid_share: float) -> np.ndarray:
    """Return the most training images of each class, at least 1, that leave room for their validation images.

    t + floor(share t + 1/2) <= n where t < (n + 1/2) / (1 + share), and t <= n - 1.
    """
    most = np.ceil((pool + 0.5) / (1 + valid_share) - 1e-9).astype(np.int64) - 1
    return np.clip(np.minimum(most, pool - 1), 1, None)


def _floor(value: float) -> int:
    """Truncate, but not below an integer that a platform's power function misses in the last digit."""
    return int(value + 1e-9)


def _counts(n_max: int, num_classes: int, ratio: float, size: Callable[[int], float]) -> np.ndarray:
    """Return the sizes of all classes, rounded down, after the checks of what they are computed from."""
    whole_number("num_classes", num_classes, 2)
    whole_number("n_max", n_max, 1)
    checked_number("ratio", ratio, "[1, inf)")
    counts = [_floor(size(k)) for k in range(num_classes)]
    if min(counts) < 1:
        empty = f"class {counts.index(min(counts))} would have no images"
        raise ValueError(f"n_max={n_max} at ratio {ratio}: {empty}; lower the ratio")
    return np.array(counts, dtype=np.int64)


def _scaled(counts: np.ndarray, scale: float, *, at_least: int) -> np.ndarray:
    checked_number("scale", scale, "(0, inf)")
    return np.maximum(np.floor(counts * scale + 0.5).astype(np.int64), at_least)


def check_pool(
    pool: np.ndarray, train: np.ndarray, valid: np.ndarray, what: str, *, test: np.ndarray | None = None
) -> None:
    """Raise ValueError, beginning with `what`, if a class has fewer images than all sides ask for."""
    short = np.flatnonzero(train + valid + (0 if test is None else test) > pool)
    if len(short):
        k = int(short[0])
        of_test = "" if test is None else f" + {test[k]} test"
        raise ValueError(
            f"{what}class {k} needs {train[k]} training + {valid[k]} validation{of_test} images, the pool has "
            f"{pool[k]} ({len(short)} of {len(pool)} classes are short); ask for fewer or lower the scale"
        )
