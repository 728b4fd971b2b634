"""Splits that draw given class counts from a pool of images, and their index files.

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
from imbal_core.imbalance import check_pool, counts_from_name

__all__ = ["Split", "draw_split", "export_splits"]


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
    check_pool(np.bincount(labels, minlength=num_classes), train_wanted, valid_wanted, "")
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
