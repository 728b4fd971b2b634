"""Splits that draw given class counts from a pool of images.

A split depends on nothing but the labels, the counts and the seed: images are ordered by a hash, not by a
random generator, so the same split comes out on every platform and with every version of NumPy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imbal_core.data.class_counts import check_pool, counts_from_name
from imbal_core.data.datasets import ImageDataset
from imbal_core.data.prepared import DatasetError


@dataclass(frozen=True, eq=False)
class Split:
    """Which images train, validate and test.

    Attributes
    ----------
    train : ndarray of int64
        Indices into the training pool, ascending.
    valid : ndarray of int64
        Further indices into it, ascending, disjoint from the first.
    test : ndarray of int64
        Indices into the test set: all of it, untouched. Or, of a data set without one, indices into the pool,
        ascending, disjoint from the other two.

    Examples
    --------
    >>> Split(train=np.array([0, 2]), valid=np.array([1]), test=np.array([0])).sha256[:8]
    '81ce10aa'
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
    test_counts: Sequence[int] | np.ndarray | None = None,
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
    test_counts : array of int, shape (K,), optional
        Test images per class, drawn from the pool like the others, for a data set without a test set of its
        own; then `num_test` must be 0.
    groups : sequence of int or str, shape (N,), optional
        What each image shows (a leaf, a patient). No group is then on two sides.
    num_classes : int, optional
        K; ``labels.max() + 1`` if not given.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If the counts do not fit the labels or the groups, the message names the class and the numbers; or
        if `num_test` and `test_counts` are both given.

    Notes
    -----
    Inside a class, image i has the rank of ``blake2b(f"{seed}:{i}")``. Training takes the first ranks,
    validation the last. So for one seed, smaller counts are nested in larger ones, and the training images of
    one split are never validation images of another as long as both together fit into the pool. With groups
    the rank is that of the group, then of the image, and validation chooses its groups first; nesting then
    holds if each group lies in one class. Test images drawn from the pool take the very last ranks, and with groups
    they choose before the others: they depend on the seed, `test_counts` and the groups alone.

    Examples
    --------
    >>> split = draw_split([0, 0, 0, 1, 1, 1], [2, 1], [1, 1], seed=0)
    >>> len(split.train), len(split.valid)
    (3, 2)
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or labels.min() < 0:
        raise ValueError(f"labels must be integers >= 0 of shape (N,), got {labels.dtype} {labels.shape}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"seed must be an integer, got {seed!r}")
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    train_wanted = _checked_counts("train_counts", train_counts, num_classes)
    valid_wanted = _checked_counts("valid_counts", valid_counts, num_classes)
    test_wanted = _checked_counts("test_counts", test_counts, num_classes)
    if test_counts is not None and num_test:
        raise ValueError(f"num_test={num_test} and test_counts exclude each other; give one of them")
    if labels.max() >= num_classes:
        raise ValueError(f"labels go up to {labels.max()}, but num_classes={num_classes}")
    pool = np.bincount(labels, minlength=num_classes)
    check_pool(pool, train_wanted, valid_wanted, "", test=None if test_counts is None else test_wanted)
    group_of = _checked_groups(groups, len(labels))
    grouped = groups is not None
    ranked = [_ranked(np.flatnonzero(labels == k), group_of, grouped, seed) for k in range(num_classes)]
    taken: set[str] = set()
    before: list[str] = []

    def draw(side: str, wanted: np.ndarray, *, last: bool) -> np.ndarray:
        """Return the last or first images of each class whose group no other side has."""
        drawn: list[int] = []
        for k, (order, number) in enumerate(zip(ranked, wanted, strict=True)):
            free = [i for i in order if group_of[i] not in taken]
            if len(free) < number:
                raise ValueError(
                    f"class {k}: {number} {side} images asked for, but only {len(free)} of {len(order)} share "
                    f"no group with a {' or '.join(before)} image; ask for fewer"
                )
            drawn += free[len(free) - number :] if last else free[:number]
        taken.update(group_of[i] for i in drawn)
        before.append(side)
        return np.sort(np.array(drawn, np.int64))

    own = test_counts is None
    test = np.arange(num_test, dtype=np.int64) if own else draw("test", test_wanted, last=True)
    valid = draw("validation", valid_wanted, last=True)
    train = draw("training", train_wanted, last=False)
    return Split(train, valid, test)


def split_counts(
    dataset: ImageDataset, imbalance: str, *, scale: float = 1.0, valid_share: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return how many images of each class train, validate and test, int64 of shape (K,), for `draw_split`.

    Of a data set with ``test_per_class``, so many images of each class are put aside for testing before the imbalance
    is applied to the rest; else the test counts are None. The options and errors are those of
    `imbal_core.data.class_counts.counts_from_name`.
    """
    pool = dataset.class_counts
    test_counts = None
    if dataset.test_per_class is not None:
        test_counts = np.full(dataset.num_classes, dataset.test_per_class, np.int64)
        nothing = np.zeros_like(pool)
        check_pool(pool, nothing, nothing, f"{dataset.name}: ", test=test_counts)
        pool = pool - test_counts
    train_counts, valid_counts = counts_from_name(imbalance, pool, scale=scale, valid_share=valid_share)
    return train_counts, valid_counts, test_counts


def dataset_groups(dataset: ImageDataset) -> np.ndarray:
    """Return the groups of a data set; raise DatasetError if it has none."""
    if dataset.groups is None:
        raise DatasetError(
            f"a grouped split was asked for, but of no image of {dataset.name!r} is it known what it shares "
            "with others (the leaf, the patient); draw a split without groups"
        )
    return dataset.groups


def shared_groups(split: Split, groups: Sequence[Any] | np.ndarray) -> dict[str, float]:
    """Return how much of the test and validation sides shows a group that is also in training.

    The test images are drawn from the pool, and `groups` has the group of each image of the pool, shape (N,).
    ``"test"`` and ``"valid"`` are the share of that side's images whose group is also in training, from 0 to 1, nan
    without images; ``"test_groups"`` and ``"test_groups_shared"`` count the groups on the test side, and those of
    them that are also in training. An image whose group is unknown, and has a name of its own, counts as not shared:
    the shares are lower bounds where groups are missing.
    """
    group_of = _checked_groups(groups, len(groups))
    in_train = {group_of[i] for i in split.train}
    shares = {
        name: float(np.mean([group_of[i] in in_train for i in side])) if len(side) else float("nan")
        for name, side in (("test", split.test), ("valid", split.valid))
    }
    tested = {group_of[i] for i in split.test}
    return {**shares, "test_groups": len(tested), "test_groups_shared": len(tested & in_train)}


def _checked_counts(what: str, counts: Sequence[int] | np.ndarray | None, num_classes: int) -> np.ndarray:
    array = np.zeros(num_classes, np.int64) if counts is None else np.asarray(counts)
    if array.shape != (num_classes,) or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(
            f"{what} must be {num_classes} integers >= 0, one per class, got {array.dtype} {array.shape}"
        )
    return array.astype(np.int64)


def _checked_groups(groups: Sequence[Any] | np.ndarray | None, size: int) -> list[str]:
    """Return the group of each image as text; without groups, each image is one."""
    if groups is None:
        return [str(i) for i in range(size)]
    values = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(values) != size:
        raise ValueError(f"groups must name one group per image: expected {size}, got {len(values)}")
    for i, value in enumerate(values):
        if value is None or value == "" or value != value:
            raise ValueError(f"groups[{i}] is missing; give an image of no group a name of its own")
    return [str(value) for value in values]


def _ranked(members: np.ndarray, group_of: list[str], grouped: bool, seed: int) -> list[int]:
    """Return the image indices of one class in the order in which they are drawn."""

    def rank(text: str) -> bytes:
        return hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=16).digest()

    return sorted(
        members.tolist(), key=lambda i: (rank(f"group:{group_of[i]}") if grouped else b"", rank(str(i)))
    )
