"""Index files of splits, for others to cite and to use with plain torchvision."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imbal_core.data.datasets import ImageDataset
from imbal_core.data.sources import source_of
from imbal_core.data.splits import dataset_groups, draw_split, split_counts

__all__ = ["export_splits"]


def export_splits(
    dataset: ImageDataset,
    name: str,
    imbalances: Sequence[str],
    seeds: Sequence[int],
    out_dir: Path | str,
    *,
    by_group: bool = False,
) -> list[Path]:
    """Write one JSON index file per imbalance and seed, for others to cite and use; return their paths.

    The files call the data set, a training pool, `name`, which begins their own names; files of the same name in
    `out_dir` are replaced. Imbalances are names for `counts_from_name`, seeds those of the split. With `by_group` the
    images of one group stay on one side, which is an error if the data set has no groups.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", name) + ("-grouped" if by_group else "")
    groups = dataset_groups(dataset) if by_group else None
    written = []
    for imbalance in imbalances:
        train_counts, valid_counts, test_counts = split_counts(dataset, imbalance)
        # every class occurs in a data set, so that the labels tell their number
        drawn: dict[str, Any] = {"test_counts": test_counts, "groups": groups}
        for seed in seeds:
            split = draw_split(dataset.labels, train_counts, valid_counts, seed=seed, **drawn)
            content = {
                "dataset": name,
                "fingerprint": dataset.fingerprint,
                "class_names": list(dataset.class_names),
                "imbalance": imbalance,
                **({"by_group": True} if by_group else {}),
                "scale": 1.0,
                "seed": int(seed),
                "train_counts": train_counts.tolist(),
                "valid_counts": valid_counts.tolist(),
                "num_test": 0,
                "sha256": split.sha256,
                "use": _use(dataset),
                "train": split.train.tolist(),
                "valid": split.valid.tolist(),
            }
            if test_counts is not None:
                content |= {"test_counts": test_counts.tolist(), "test": split.test.tolist()}
            path = folder / f"{stem}-{imbalance}-seed{seed}.json"
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")
            written.append(path)
    return written


def _use(dataset: ImageDataset) -> str:
    known = source_of(dataset.name).torchvision_class
    option = "split='train'" if known == "SVHN" else "train=True"
    own = "the images of imbal_core.data.datasets.load_dataset(dataset, 'train')"
    images = f"torchvision.datasets.{known}(root, {option})" if known else own
    pooled = dataset.test_per_class is not None
    tested = "split['test']; all three index the same images" if pooled else "the test set is used whole"
    return f"torch.utils.data.Subset({images}, split['train']), and the same with split['valid']; {tested}"
