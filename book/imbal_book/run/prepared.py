"""One run, prepared: the images and the split that its configuration asks for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import run_key
from imbal_core.data.datasets import ImageDataset, decoded_size, load_dataset
from imbal_core.data.root import data_root
from imbal_core.data.splits import Split, dataset_groups, draw_split, split_counts


@dataclass(frozen=True)
class PreparedRun:
    """The images and the split that one configuration asks for.

    Attributes
    ----------
    train : ImageDataset
        The whole training pool; ``split.train`` and ``split.valid`` index into it.
    test : ImageDataset
        The images that ``split.test`` indexes: the untouched test side, or the pool itself, `train`, for a data
        set without one.
    train_counts, valid_counts : ndarray of shape (K,), int64
        Images per class in the split.
    key : str
        Name of the record that this run leaves.
    root : Path
        The data root, where weights are looked for and frozen features are cached.
    """

    config: RunConfig
    train: ImageDataset
    test: ImageDataset
    split: Split
    train_counts: np.ndarray
    valid_counts: np.ndarray
    key: str
    root: Path


# kept because the runs of a grid read the same images again and again
_load = functools.lru_cache(maxsize=4)(load_dataset)


def prepare(config: RunConfig, *, root: Path | str | None = None) -> PreparedRun:
    """Return the images and the split of one configuration; the data root is as `data_root` finds it by default.

    DatasetError when the images are missing or damaged; ValueError when a class has fewer of them than the imbalance
    asks for, or ``split_groups`` is set and the data set has no groups.
    """
    folder = data_root(root)
    size = decoded_size(config.dataset, config.image_size)
    train = _load(config.dataset, "train", root=folder, image_size=size)
    pooled = train.test_per_class is not None
    test = train if pooled else _load(config.dataset, "test", root=folder, image_size=size)
    train_counts, valid_counts, test_counts = split_counts(
        train, config.imbalance, scale=config.imbalance_scale, valid_share=config.valid_share
    )
    split = draw_split(
        train.labels,
        train_counts,
        valid_counts,
        seed=config.split_seed,
        num_test=0 if pooled else len(test.labels),
        test_counts=test_counts,
        groups=dataset_groups(train) if config.split_groups else None,
    )
    fingerprints = {"train": train.fingerprint, "test": test.fingerprint}
    key = run_key(config, fingerprints, split.sha256)
    return PreparedRun(config, train, test, split, train_counts, valid_counts, key, folder)
