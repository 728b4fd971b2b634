import json

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from imbal_book.build.split_files import export_splits
from imbal_core.data.datasets import ImageDataset, fingerprint
from imbal_core.data.prepared import DatasetError
from imbal_core.data.splits import Split


def tiny_dataset(name: str = "cifar10") -> ImageDataset:
    labels = np.arange(600) % 10
    images = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)
    names = tuple(f"class {k}" for k in range(10))
    return ImageDataset(name, "train", images, labels, names, fingerprint(images, labels))


def test_exported_splits_work_with_a_torchvision_style_subset(tmp_path):
    dataset = tiny_dataset()
    paths = export_splits(dataset, "cifar10", ["step-10", "exponential-4"], [0, 1], tmp_path / "splits")
    assert [p.name for p in paths] == [
        "cifar10-step-10-seed0.json",
        "cifar10-step-10-seed1.json",
        "cifar10-exponential-4-seed0.json",
        "cifar10-exponential-4-seed1.json",
    ]
    content = json.loads(paths[0].read_text())
    subset = Subset(
        TensorDataset(torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)), content["train"]
    )
    targets = torch.tensor([int(target) for _, target in subset])
    assert torch.bincount(targets).tolist() == content["train_counts"] == [60] * 5 + [6] * 5
    assert content["fingerprint"] == dataset.fingerprint
    assert "torchvision.datasets.CIFAR10(root, train=True), split['train']" in content["use"]
    again = Split(np.array(content["train"]), np.array(content["valid"]), np.arange(content["num_test"]))
    assert again.sha256 == content["sha256"]


def test_exported_splits_of_a_folder_have_a_plain_file_name(tmp_path):
    (path,) = export_splits(tiny_dataset("folder:a/b"), "folder:a/b", ["natural"], [0], tmp_path)
    assert path == tmp_path / "folder_a_b-natural-seed0.json"
    assert "load_dataset(dataset, 'train')" in json.loads(path.read_text())["use"]


def a_pool(groups: np.ndarray | None) -> ImageDataset:
    labels = np.arange(100) % 2
    images = np.zeros((100, 4, 4, 3), np.uint8)
    return ImageDataset("leaves", "train", images, labels, ("a", "b"), "f" * 64, groups, 10)


def test_exported_splits_of_a_pool_list_its_test_images(tmp_path):
    groups = np.array([str(i // 4) for i in range(100)])
    (plain,) = export_splits(a_pool(groups), "leaves", ["rare-20-2-5-1"], [3], tmp_path)
    (grouped,) = export_splits(a_pool(groups), "leaves", ["rare-20-2-5-1"], [3], tmp_path, by_group=True)
    assert (plain.name, grouped.name) == (
        "leaves-rare-20-2-5-1-seed3.json",
        "leaves-grouped-rare-20-2-5-1-seed3.json",
    )
    for path in (plain, grouped):
        content = json.loads(path.read_text())
        sides = [np.array(content[side]) for side in ("train", "valid", "test")]
        assert [np.bincount(side % 2).tolist() for side in sides] == [[20, 2], [5, 1], [10, 10]]
        assert content["test_counts"] == [10, 10] and content["num_test"] == 0
        assert "split['test']; all three index the same images" in content["use"]
        assert Split(*sides).sha256 == content["sha256"]
        assert content.get("by_group", False) == (path == grouped)
        shared = set(sides[0] // 4) & set(sides[2] // 4)
        assert bool(shared) == (path == plain)


def test_a_grouped_split_of_a_data_set_without_groups_is_not_exported(tmp_path):
    with pytest.raises(DatasetError, match="of no image of 'leaves' is it known"):
        export_splits(a_pool(None), "leaves", ["natural"], [0], tmp_path, by_group=True)
