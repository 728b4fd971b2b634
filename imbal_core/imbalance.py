"""Class counts, and the splits that draw them from a pool of images.

A split depends on nothing but the labels, the counts and the seed: images are ordered by a hash, not by a
random generator, so the same split comes out on every platform and with every version of NumPy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core.datasets import ImageDataset
from imbal_core.names import unknown_name

__all__ = [
    "Split",
    "binary_rare_counts",
    "counts_from_name",
    "draw_split",
    "export_splits",
    "exponential_counts",
    "step_counts",
    "zhang_counts",
]

# Zhang et al. 2018, Tables I and II: (number of classes, training images, validation images) by label.
_ZHANG = {
    (10, "A"): ((5, 400, 100), (5, 4000, 1000)),
    (10, "B"): ((3, 200, 50), (3, 400, 100), (3, 2000, 500), (1, 4000, 1000)),
    (10, "C"): (
        (1, 200, 50),
        (1, 600, 150),
        (1, 1000, 250),
        (1, 1400, 350),
        (1, 1800, 450),
        (1, 2200, 550),
        (1, 2600, 650),
        (1, 3000, 750),
        (1, 3500, 870),
        (1, 4000, 1000),
    ),
    (100, "A"): ((50, 40, 10), (50, 400, 100)),
    (100, "B"): ((30, 20, 5), (30, 40, 10), (30, 200, 50), (10, 400, 100)),
    (100, "C"): (
        (10, 20, 5),
        (10, 60, 15),
        (10, 100, 25),
        (10, 140, 35),
        (10, 180, 45),
        (10, 220, 55),
        (10, 260, 65),
        (10, 300, 75),
        (10, 350, 87),
        (10, 400, 100),
    ),
}
_NAMES = (
    "balanced",
    "natural",
    "zhang-a",
    "zhang-b",
    "zhang-c",
    "exponential-RATIO",
    "step-RATIO",
    "rare-MAJORITY-MINORITY",
)


def exponential_counts(n_max: int, num_classes: int, ratio: float) -> np.ndarray:
    """Return class counts that fall exponentially, the long tail of Cao et al. 2019.

    Class k of K has ``int(n_max * ratio ** (-k / (K - 1)))`` images.

    Parameters
    ----------
    n_max : int
        Images of class 0, the largest.
    num_classes : int
        K, at least 2.
    ratio : float
        Imbalance ratio r, the largest count over the smallest; at least 1.

    Returns
    -------
    ndarray of int64, shape (K,)

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
    _check_shape(n_max, num_classes, ratio)
    counts = [_floor(n_max * ratio ** (-k / (num_classes - 1))) for k in range(num_classes)]
    return _not_empty(counts, f"n_max={n_max} at ratio {ratio}")


def step_counts(n_max: int, num_classes: int, ratio: float, *, minority_fraction: float = 0.5) -> np.ndarray:
    """Return class counts with one step: the last classes have ``int(n_max / ratio)`` images, others n_max.

    Parameters
    ----------
    n_max : int
        Images of each majority class.
    num_classes : int
        K, at least 2.
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
    """
    _check_shape(n_max, num_classes, ratio)
    majority = _floor(num_classes * (1 - minority_fraction))
    if not 1 <= majority < num_classes:
        raise ValueError(
            f"minority_fraction={minority_fraction} of {num_classes} classes must leave classes on both "
            f"sides, found {majority} majority classes"
        )
    counts = [n_max if k < majority else _floor(n_max / ratio) for k in range(num_classes)]
    return _not_empty(counts, f"n_max={n_max} at ratio {ratio}")


def zhang_counts(num_classes: int, kind: str, *, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and validation counts of Tables I and II of Zhang et al. 2018.

    Parameters
    ----------
    num_classes : {10, 100}
        As in CIFAR-10 (Table I) or CIFAR-100 (Table II).
    kind : {"A", "B", "C"}
        The imbalance type: A two levels, B four levels, C about linear; class 0 is always among the smallest.
    scale : float, default=1.0
        Factor for smaller pools. Counts are rounded (half up), to at least 2 training and 1 validation image.

    Returns
    -------
    train_counts, valid_counts : ndarray of int64, shape (num_classes,)

    Raises
    ------
    ValueError
        For another number of classes, an unknown kind, or a scale that is not positive.
    """
    if kind not in ("A", "B", "C"):
        raise unknown_name("imbalance type of Zhang 2018", kind, ["A", "B", "C"])
    if (num_classes, kind) not in _ZHANG:
        raise ValueError(f"the tables of Zhang 2018 are for 10 or 100 classes, got {num_classes}")
    rows = np.array(_ZHANG[num_classes, kind], dtype=np.int64)
    train, valid = np.repeat(rows[:, 1], rows[:, 0]), np.repeat(rows[:, 2], rows[:, 0])
    return _scaled(train, scale, at_least=2), _scaled(valid, scale, at_least=1)


def binary_rare_counts(n_majority: int, n_minority: int) -> np.ndarray:
    """Return the counts of two classes, int64 of shape (2,): class 0 is the majority, class 1 is rare."""
    if not 1 <= n_minority <= n_majority:
        raise ValueError(f"need n_majority >= n_minority >= 1, got {n_majority} and {n_minority}")
    return np.array([n_majority, n_minority], dtype=np.int64)


def counts_from_name(
    name: str, pool_counts: Sequence[int] | np.ndarray, *, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and validation counts that a name asks of a pool of images.

    Parameters
    ----------
    name : str
        ``"zhang-a"``, ``"zhang-b"``, ``"zhang-c"``; ``"exponential-RATIO"`` and ``"step-RATIO"`` with the
        smallest class of the pool as n_max; ``"balanced"``: as many of each class as the smallest one has;
        ``"natural"``: all images as they are; ``"rare-MAJORITY-MINORITY"`` for two classes. Only Zhang's
        types set validation images aside.
    pool_counts : array of int, shape (K,)
        Images of each class in the pool.
    scale : float, default=1.0
        Factor on the counts (on n_max for exponential and step).

    Returns
    -------
    train_counts, valid_counts : ndarray of int64, shape (K,)

    Raises
    ------
    ValueError
        If the name is unknown, or a class has fewer images than asked for.
    """
    pool = np.asarray(pool_counts, dtype=np.int64)
    zhang = re.fullmatch("zhang-([abc])", name)
    tail = re.fullmatch(r"(exponential|step)-(\d+(?:\.\d+)?)", name)
    rare = re.fullmatch(r"rare-(\d+)-(\d+)", name)
    smallest = int(pool.min())
    if zhang:
        train, valid = zhang_counts(len(pool), zhang[1].upper(), scale=scale)
    else:
        if tail:
            n_max = int(_scaled(np.array([smallest]), scale, at_least=1)[0])
            count = exponential_counts if tail[1] == "exponential" else step_counts
            train = count(n_max, len(pool), float(tail[2]))
        elif rare:
            if len(pool) != 2:
                raise ValueError(f"imbalance {name!r} is for 2 classes, the pool has {len(pool)}")
            train = _scaled(binary_rare_counts(int(rare[1]), int(rare[2])), scale, at_least=1)
        elif name == "balanced":
            train = _scaled(np.full(len(pool), smallest), scale, at_least=1)
        elif name == "natural":
            train = _scaled(pool, scale, at_least=1)
        else:
            raise unknown_name("imbalance", name, _NAMES)
        valid = np.zeros_like(train)
    _check_pool(pool, train, valid, f"imbalance {name!r} at scale {scale:g}: ")
    return train, valid


@dataclass(frozen=True, eq=False)
class Split:
    """Which images train, validate and test.

    Attributes
    ----------
    train, valid : ndarray of int64
        Indices into the training pool, ascending, disjoint.
    test : ndarray of int64
        Indices into the test set: all of it, untouched.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the three index lists, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for indices in (self.train, self.valid, self.test):
            digest.update(f"{len(indices)}:".encode())
            digest.update(np.ascontiguousarray(indices, dtype="<i8").data)
        return digest.hexdigest()


def draw_split(
    labels: Sequence[int] | np.ndarray,
    train_counts: Sequence[int] | np.ndarray,
    valid_counts: Sequence[int] | np.ndarray | None = None,
    *,
    seed: int,
    num_test: int = 0,
    groups: Sequence[Any] | np.ndarray | None = None,
    num_classes: int | None = None,
) -> Split:
    """Return a split with exactly the given counts.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Labels of the training pool.
    train_counts, valid_counts : array of int, shape (K,)
        Images per class; no validation images when `valid_counts` is None.
    seed : int
        Of the split; two seeds give unrelated splits.
    num_test : int, default=0
        Size of the test set, which is used whole.
    groups : sequence of int or str, shape (N,), optional
        What each image shows (a leaf, a patient). No group is then on both sides.
    num_classes : int, optional
        K; ``labels.max() + 1`` if not given.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If the counts do not fit the labels or the groups; the message names the class and the numbers.

    Notes
    -----
    Inside a class, image i has the rank of ``blake2b(f"{seed}:{i}")``. Training takes the first ranks,
    validation the last. So for one seed, smaller counts are nested in larger ones, and the training images of
    one split are never validation images of another as long as both together fit into the pool. With groups
    the rank is that of the group, then of the image, and validation chooses its groups first; nesting then
    holds if each group lies in one class.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or labels.min() < 0:
        raise ValueError(f"labels must be integers >= 0 of shape (N,), got {labels.dtype} {labels.shape}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"seed must be an integer, got {seed!r}")
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    train_wanted = _checked_counts("train_counts", train_counts, num_classes)
    valid_wanted = _checked_counts(
        "valid_counts", np.zeros(num_classes, np.int64) if valid_counts is None else valid_counts, num_classes
    )
    if labels.max() >= num_classes:
        raise ValueError(f"labels go up to {labels.max()}, but num_classes={num_classes}")
    _check_pool(np.bincount(labels, minlength=num_classes), train_wanted, valid_wanted, "")
    of_image = _checked_groups(groups, len(labels))
    ranked = [_ranked(np.flatnonzero(labels == k), of_image, seed) for k in range(num_classes)]
    valid: list[int] = []
    for order, wanted in zip(ranked, valid_wanted, strict=True):
        valid += order[len(order) - wanted :]
    held_back = set(valid) if of_image is None else {of_image[i] for i in valid}
    train: list[int] = []
    for k, (order, wanted) in enumerate(zip(ranked, train_wanted, strict=True)):
        free = [i for i in order if (i if of_image is None else of_image[i]) not in held_back]
        if len(free) < wanted:
            raise ValueError(
                f"class {k}: {wanted} training images asked for, but only {len(free)} of {len(order)} share "
                "no group with a validation image; ask for fewer"
            )
        train += free[:wanted]
    return Split(
        np.sort(np.array(train, np.int64)),
        np.sort(np.array(valid, np.int64)),
        np.arange(num_test, dtype=np.int64),
    )


def export_splits(
    dataset: ImageDataset,
    name: str,
    imbalances: Sequence[str],
    seeds: Sequence[int],
    out_dir: Path | str,
    *,
    scale: float = 1.0,
    num_test: int = 0,
) -> list[Path]:
    """Write one JSON index file per imbalance and seed, for others to cite and use; return their paths.

    Parameters
    ----------
    dataset : ImageDataset
        The training pool.
    name : str
        What the files call the data set, such as ``"cifar10"``; the beginning of their names.
    imbalances, seeds : sequence
        Names for `counts_from_name`, and split seeds.
    out_dir : path
        Created when missing. Files of the same name are replaced.
    scale : float, default=1.0
        See `counts_from_name`.
    num_test : int, default=0
        Size of the test set, so that the hash is that of the runs that test on it.

    Returns
    -------
    list of Path
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", name)
    torchvision_class = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST"}.get(
        dataset.name
    )
    if torchvision_class:
        images = f"torchvision.datasets.{torchvision_class}(root, train=True)"
    elif dataset.name == "svhn":
        images = "torchvision.datasets.SVHN(root, split='train')"
    else:
        images = "the images of imbal_core.datasets.load_dataset(dataset, 'train')"
    written = []
    for imbalance in imbalances:
        train_counts, valid_counts = counts_from_name(imbalance, dataset.class_counts, scale=scale)
        for seed in seeds:
            split = draw_split(
                dataset.labels,
                train_counts,
                valid_counts,
                seed=seed,
                num_test=num_test,
                num_classes=dataset.num_classes,
            )
            content = {
                "dataset": name,
                "fingerprint": dataset.fingerprint,
                "class_names": list(dataset.class_names),
                "imbalance": imbalance,
                "scale": scale,
                "seed": int(seed),
                "train_counts": train_counts.tolist(),
                "valid_counts": valid_counts.tolist(),
                "num_test": num_test,
                "sha256": split.sha256,
                "use": f"torch.utils.data.Subset({images}, split['train']), and the same with "
                "split['valid']; the test set is used whole",
                "train": split.train.tolist(),
                "valid": split.valid.tolist(),
            }
            scaled = "" if scale == 1 else f"-x{scale:g}"
            path = folder / f"{stem}-{imbalance}{scaled}-seed{seed}.json"
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")
            written.append(path)
    return written


def _check_shape(n_max: int, num_classes: int, ratio: float) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if n_max < 1:
        raise ValueError(f"n_max must be at least 1, got {n_max}")
    if not 1 <= ratio < float("inf"):
        raise ValueError(f"ratio must be at least 1 (largest class over smallest), got {ratio}")


def _floor(value: float) -> int:
    """Truncate, but not below an integer that a platform's power function misses in the last digit."""
    return int(value + 1e-9)


def _not_empty(counts: list[int], source: str) -> np.ndarray:
    if min(counts) < 1:
        raise ValueError(f"{source}: class {counts.index(min(counts))} would have no images; lower the ratio")
    return np.array(counts, dtype=np.int64)


def _scaled(counts: np.ndarray, scale: float, *, at_least: int) -> np.ndarray:
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be positive, got {scale}")
    return np.maximum(np.floor(counts * scale + 0.5).astype(np.int64), at_least)


def _check_pool(pool: np.ndarray, train: np.ndarray, valid: np.ndarray, what: str) -> None:
    short = np.flatnonzero(train + valid > pool)
    if len(short):
        k = int(short[0])
        raise ValueError(
            f"{what}class {k} needs {train[k]} training + {valid[k]} validation images, the pool has "
            f"{pool[k]} ({len(short)} of {len(pool)} classes are short); ask for fewer or lower the scale"
        )


def _checked_counts(what: str, counts: Sequence[int] | np.ndarray, num_classes: int) -> np.ndarray:
    array = np.asarray(counts)
    if array.shape != (num_classes,) or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(
            f"{what} must be {num_classes} integers >= 0, one per class, got {array.dtype} {array.shape}"
        )
    return array.astype(np.int64)


def _checked_groups(groups: Sequence[Any] | np.ndarray | None, size: int) -> list[str] | None:
    if groups is None:
        return None
    values = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(values) != size:
        raise ValueError(f"groups must name one group per image: expected {size}, got {len(values)}")
    for i, value in enumerate(values):
        if value is None or value == "" or value != value:
            raise ValueError(
                f"groups[{i}] is missing; give an image that belongs to no group a name of its own"
            )
    return [str(value) for value in values]


def _ranked(members: np.ndarray, groups: list[str] | None, seed: int) -> list[int]:
    """Return the image indices of one class in the order in which they are drawn."""

    def rank(text: str) -> bytes:
        return hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=16).digest()

    if groups is None:
        return sorted(members.tolist(), key=lambda i: rank(str(i)))
    return sorted(members.tolist(), key=lambda i: (rank(f"group:{groups[i]}"), rank(str(i))))
