"""Index files of splits, for others to cite and to use with plain torchvision."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imbal_core.data.datasets import ImageDataset
from imbal_core.data.splits import dataset_groups, draw_split, split_counts

__all__ = ["export_splits"]

_TORCHVISION = {
    "cifar10": "CIFAR10(root, train=True)",
    "cifar100": "CIFAR100(root, train=True)",
    "fashion_mnist": "FashionMNIST(root, train=True)",
    "svhn": "SVHN(root, split='train')",
}


def export_splits(
    dataset: ImageDataset,
    name: str,
    imbalances: Sequence[str],
    seeds: Sequence[int],
    out_dir: Path | str,
    *,
    scale: float = 1.0,
    num_test: int = 0,
    by_group: bool = False,
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
        Size of the test set, so that the hash is that of the runs that test on it. 0 for a data set without
        one, whose files list test images of the pool.
    by_group : bool, default=False
        Keep the images of one group on one side.

    Raises
    ------
    ValueError
        If a split cannot be drawn, or `by_group` is set and the data set has no groups.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", name) + ("-grouped" if by_group else "")
    groups = dataset_groups(dataset) if by_group else None
    written = []
    for imbalance in imbalances:
        train_counts, valid_counts, test_counts = split_counts(dataset, imbalance, scale=scale)
        options: dict[str, Any] = {"num_test": num_test, "test_counts": test_counts, "groups": groups}
        for seed in seeds:
            split = draw_split(
                dataset.labels,
                train_counts,
                valid_counts,
                seed=seed,
                num_classes=dataset.num_classes,
                **options,
            )
            content = {
                "dataset": name,
                "fingerprint": dataset.fingerprint,
                "class_names": list(dataset.class_names),
                "imbalance": imbalance,
                **({"by_group": True} if by_group else {}),
                "scale": scale,
                "seed": int(seed),
                "train_counts": train_counts.tolist(),
                "valid_counts": valid_counts.tolist(),
                "num_test": num_test,
                "sha256": split.sha256,
                "use": _use(dataset),
                "train": split.train.tolist(),
                "valid": split.valid.tolist(),
            }
            if test_counts is not None:
                content |= {"test_counts": test_counts.tolist(), "test": split.test.tolist()}
            scaled = "" if scale == 1 else f"-x{scale:g}"
            path = folder / f"{stem}-{imbalance}{scaled}-seed{seed}.json"
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")
            written.append(path)
    return written


def _use(dataset: ImageDataset) -> str:
    known = _TORCHVISION.get(dataset.name)
    images = "the images of imbal_core.data.datasets.load_dataset(dataset, 'train')"
    images = f"torchvision.datasets.{known}" if known else images
    tested = "the test set is used whole"
    if dataset.test_per_class is not None:
        tested = "split['test']; all three index the same images"
    return f"torch.utils.data.Subset({images}, split['train']), and the same with split['valid']; {tested}"
