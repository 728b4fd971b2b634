"""Folders of images, one sub-folder per class, decoded once per image size.

What is decoded is kept in the data root, never in the user's folder, and made again when a file changes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from imbal_core.data.prepared import Arrays, DatasetError, prepared_once

__all__ = ["FOLDER_IMAGE_SIZE", "FOLDER_PREFIX", "decode_all", "load_folder", "visible_files"]

FOLDER_PREFIX = "folder:"
FOLDER_IMAGE_SIZE = 64
# Folders of images are full of what the desktop left there; none of it is the user's.
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)


def load_folder(name: str, split: str, path: Path, size: int) -> Arrays:
    """Return a folder's images, decoded again if file names, sizes or times are not those kept at `path`."""
    class_names, files, labels = _list_images(Path(name.removeprefix(FOLDER_PREFIX)).expanduser(), split)
    return prepared_once(
        path, name, lambda: Arrays(decode_all(files, size), labels, class_names), files=files
    )


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
        names = {side: [entry.name for entry in _subfolders(sides[side])] for side in ("train", "test")}
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
    files = [visible_files(entry) for entry in classes]
    for entry, found in zip(classes, files, strict=True):
        if not found:
            raise DatasetError(f"{entry}: the class folder is empty; add images or remove it")
    labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(found) for found in files])
    return tuple(entry.name for entry in classes), [file for found in files for file in found], labels


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def visible_files(folder: Path) -> list[Path]:
    """Return all files in and below a folder by name, without hidden ones and what a desktop leaves there."""
    found = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [sub for sub in subfolders if not sub.startswith(".")]
        found += [Path(place, n) for n in names if not n.startswith(".") and n.lower() not in IGNORED_FILES]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def decode_all(files: Sequence[Path], size: int) -> np.ndarray:
    """Return all files decoded, uint8 (N, size, size, 3); one DatasetError names those that fail."""
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
