"""Data sets of photographs that come as files: six scenes, five classes of Places, five of iNaturalist.

All are cut to centred squares of `SIDE` pixels. Places and iNaturalist are read, and on request downloaded, by
torchvision's own classes. ``scenes6`` is what this project has recorded in the place of Places, which was out of reach
when its runs were made: six scene classes, mostly others, with fewer and smaller images and some label noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imbal_core.data.downloads import open_or_download
from imbal_core.data.image_folders import decode_all, scan, visible_files
from imbal_core.data.prepared import Arrays, DatasetError

__all__ = ["INATURALIST_CLASSES", "PHOTOGRAPHS", "PLACES_CLASSES", "SIDE", "read_photographs"]

#: Side of the prepared images in pixels.
SIDE = 64
#: Names of the data sets that `read_photographs` reads.
PHOTOGRAPHS = ("scenes6", "places", "inaturalist")
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

_FilesByClass = dict[str, list[Path]]


def read_photographs(name: str, split: str, root: Path, download: bool) -> Arrays:
    """Return one side of a data set out of `PHOTOGRAPHS`, whose files lie in the data root below its name.

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
        files = {label: _spread(found, _MOST[split]) for label, found in files.items()}
    empty = [label for label, found in files.items() if not found]
    if empty:
        raise DatasetError(f"{root / name}: no {split} images of {empty[0]!r}; run `imbal data {name}` again")
    labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(found) for found in files.values()])
    return Arrays(
        decode_all([file for found in files.values() for file in found], SIDE), labels, tuple(files)
    )


def _scenes(split: str, root: Path) -> _FilesByClass:
    folder = root / "scenes6" / split
    if not folder.is_dir():
        raise DatasetError(
            f"no images of scenes6 in the data root {root}: it stands in for Places in this project's records and "
            "cannot be downloaded. Put a copy into scenes6/train/CLASS and scenes6/test/CLASS there, or take "
            "'places' (`imbal data places`), or your own images (folder:PATH)"
        )
    return {entry.name: visible_files(entry) for entry in scan(folder, Counter())[0]}


def _places(split: str, root: Path, download: bool) -> _FilesByClass:
    from torchvision.datasets import Places365

    side, folder = _PLACES_SIDES[split]

    def open_(download: bool) -> Places365:
        return Places365(root / "places", split=side, small=True, download=download)

    data = open_or_download("places", f"places/{split}.npz", root, f"places/{folder}", open_, download)
    by_category: dict[int, list[Path]] = {}
    for file, category in data.imgs:
        by_category.setdefault(category, []).append(Path(file))
    return {
        label: by_category.get(data.class_to_idx.get(category, -1), [])
        for label, category in PLACES_CLASSES.items()
    }


def _inaturalist(split: str, root: Path, download: bool) -> _FilesByClass:
    from torchvision.datasets import INaturalist

    version = _INATURALIST_VERSION[split]
    ranks = sorted({rank for rank, _ in INATURALIST_CLASSES.values()})

    def open_(download: bool) -> INaturalist:
        return INaturalist(root / "inaturalist", version=version, target_type=ranks, download=download)

    npz, folder = f"inaturalist/{split}.npz", f"inaturalist/{version}"
    data = open_or_download("inaturalist", npz, root, folder, open_, download)
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


def _spread(files: Sequence[Path], most: int) -> list[Path]:
    """Return at most that many of the files, evenly over their order."""
    most = min(most, len(files))
    return [files[i * len(files) // most] for i in range(most)]
