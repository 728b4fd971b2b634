"""Folders of images, one sub-folder per class, decoded once per image size.

What is decoded is kept in the data root, never in the user's folder, and made again when a file changes. A listing is
complete or an error: links are followed, and whatever cannot be read, or is no file, is named. Only what desktops and
file servers leave behind is left out, and counted.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from imbal_core.data.prepared import Arrays, DatasetError, prepared_once

FOLDER_PREFIX = "folder:"
FOLDER_IMAGE_SIZE = 64
#: What desktops and file servers leave in folders, beside names that begin with a dot; none of it is the user's.
_JUNK = frozenset("thumbs.db ehthumbs.db desktop.ini @eadir __macosx lost+found $recycle.bin".split())
#: The usual names of a side, in lower case.
SIDES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SIDES |= dict.fromkeys(("val", "valid", "validation"), "validation")
_SUFFIXES = frozenset(".jpg .jpeg .jfif .jp2 .png .bmp .gif .webp .avif .heic .tif .tiff .ppm .pgm".split())
#: A part of the cache's name for its content, so that what an older decoder made of the same files is not taken.
_DECODER = "transparent parts on white"


class Listing(NamedTuple):
    """The images of each class by name, and how often which names were left out."""

    files: dict[str, list[Path]]
    ignored: Counter[str]


def folder_path(name: str) -> Path:
    """Return the path in ``folder:PATH``."""
    text = name.removeprefix(FOLDER_PREFIX)
    if not text.strip():
        raise DatasetError(f"{name!r} has no path; write it after the colon, such as folder:my_images")
    return Path(text).expanduser()


def load_folder(name: str, split: str, path: Path, size: int) -> Arrays:
    """Return a folder's images, decoded again if file names, sizes or times are not those kept at `path`."""
    by_class = list_folder(name, split).files
    files = [file for found in by_class.values() for file in found]
    return prepared_once(path, name, lambda: decoded(by_class, size), files=files, how=_DECODER)


def folder_sides(name: str) -> dict[str, Path]:
    """Return the folder of class folders of each side, "train" and where there is one "test", of ``folder:PATH``.

    A sub-folder is a side by its usual name in any case (train, training; val, valid, validation; test, testing), if
    there is another side or it holds sub-folders: a class may be called "train", too. Validation images are drawn from
    those of training, so a third side is refused.
    """
    folder = folder_path(name)
    if not folder.is_dir():
        raise DatasetError(
            f"there is no folder {shown(folder)!r} (looked for from {Path.cwd().name!r}); write folder:PATH "
            "with the path of a folder that holds one sub-folder of images per class"
        )
    folders = scan(folder, Counter())[0]
    named = [(SIDES[entry.name.lower()], entry) for entry in folders if entry.name.lower() in SIDES]
    sides = dict(reversed(named))
    if not sides or len(sides) == 1 and any(scan(entry, Counter())[1] for _, entry in named):
        return {"train": folder}
    kept = {side: entry for side, entry in sides.items() if side != "validation"}
    others = ", ".join(shown(entry.name) for entry in folders if entry not in kept.values())
    if "train" not in kept:
        has = " and ".join(f"{entry.name}/" for entry in sides.values())
        raise DatasetError(f"{shown(folder)}: has {has} but no train/; add training images as train/CLASS/")
    if others:
        beside = " and ".join(f"{kept[side].name}/" for side in ("train", "test") if side in kept)
        raise DatasetError(
            f"{shown(folder)}: beside {beside} there is {others}; move its images into {kept['train'].name}/ "
            "(validation images are drawn from there), or out of the folder"
        )
    classes = {side: {entry.name for entry in scan(place, Counter())[0]} for side, place in kept.items()}
    for have, lack in (("train", "test"), ("test", "train")) if "test" in kept else ():
        missing = sorted(classes[have] - classes[lack])
        if missing:
            raise DatasetError(
                f"{shown(kept[lack])}: no images of class {shown(missing[0])!r}, which {kept[have].name}/ has; add "
                f"them, or remove the class from {kept[have].name}/"
            )
    return kept


def list_folder(name: str, split: str) -> Listing:
    """Return the images of one side of ``folder:PATH``."""
    sides = folder_sides(name)
    if split not in sides:
        raise DatasetError(
            f"{shown(folder_path(name))}: has no test images; sort them into train/CLASS/ and test/CLASS/ inside the "
            "folder"
        )
    ignored: Counter[str] = Counter()
    for place in dict.fromkeys((folder_path(name), sides[split])):
        classes, loose = scan(place, ignored)
        stray = [file for file in loose if file.suffix.lower() in _SUFFIXES]
        if stray:
            raise DatasetError(
                f"{shown(stray[0])}: lies outside the class folders; move it into the folder of its class"
            )
    if len(classes) < 2:
        raise DatasetError(
            f"{shown(sides[split])}: found {len(classes)} class folder(s), need at least 2; put the images of each "
            "class into a folder named after it"
        )
    # no folder is of two classes or of both sides, by whatever links
    listed = {
        e.resolve() for side, place in sides.items() if side != split for e in scan(place, Counter())[0]
    }
    return Listing({entry.name: _of_class(entry, ignored, listed) for entry in classes}, ignored)


def _of_class(folder: Path, ignored: Counter[str], listed: set[Path]) -> list[Path]:
    if shown(folder.name) != folder.name or min(folder.name) < " ":
        raise DatasetError(f"{shown(folder)!r}: a class cannot have this name (UTF-8, one line); rename it")
    files = visible_files(folder, ignored, listed)
    if not files:
        raise DatasetError(f"{folder}: the class folder is empty; add images or remove it")
    if all(file.parent != folder for file in files):
        inside = ", ".join(sorted({shown(file.relative_to(folder).parts[0]) for file in files})[:3])
        raise DatasetError(
            f"{folder}: holds only sub-folders ({inside}), no images of its own; give the folder whose sub-folders are "
            f"the classes, or move the images up into {folder.name}/"
        )
    return files


def visible_files(
    folder: Path, ignored: Counter[str] | None = None, listed: set[Path] | None = None
) -> list[Path]:
    """Return all files in and below a folder by name, without hidden ones and what a desktop leaves there.

    Links are followed. `ignored` counts what is left out by name, and `listed` holds the folders that were listed.
    DatasetError if something cannot be read, is neither a file nor a folder, or a link leads to a folder of `listed`.
    """
    ignored, listed = Counter() if ignored is None else ignored, set() if listed is None else listed
    found, waiting = [], [folder]
    while waiting:
        place = waiting.pop()
        real = place.resolve()
        if real in listed:
            raise DatasetError(f"{shown(place)}: a link lists images in {shown(real)} twice; remove the link")
        listed.add(real)
        folders, files = scan(place, ignored)
        waiting += folders
        found += files
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def scan(folder: Path, ignored: Counter[str]) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in a folder by name, linked ones too."""
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    entry = folder
    try:
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(".") or entry.name.lower() in _JUNK:
                ignored["._*" if entry.name.startswith("._") else entry.name] += 1
                continue
            mode = entry.stat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise DatasetError(
                    f"{shown(entry)}: neither a file nor a folder but a pipe, a socket or a device; remove it"
                )
            kinds[stat.S_ISDIR(mode)].append(entry)
    except OSError as error:
        what = "a link that leads nowhere" if entry.is_symlink() and entry != folder else "cannot be read"
        raise DatasetError(
            f"{shown(entry)}: {what} ({error.strerror}), so that its images would be missing; repair or remove it"
        ) from error
    return kinds[True], kinds[False]


def shown(path: Path | str) -> str:
    """Return a path as text that can be printed, with hexadecimal digits for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


_DECODING = threading.local()


def decoded(files: Mapping[str, Sequence[Path]], size: int) -> Arrays:
    """Return the images of each class, the classes in their order, as `decode_all`."""
    labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(found) for found in files.values()])
    return Arrays(decode_all([file for part in files.values() for file in part], size), labels, tuple(files))


def decode_all(files: Sequence[Path], size: int) -> np.ndarray:
    """Return all files decoded, uint8 (N, size, size, 3); one DatasetError names those that fail.

    What Pillow warns of is passed on with the name of the file.
    """
    images = np.empty((len(files), size, size, 3), np.uint8)
    bad, notes = [], Counter[str]()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        notes[f"{shown(getattr(_DECODING, 'file', ''))}: {message}"] += 1

    # Pillow decodes outside the interpreter's lock, so threads are enough.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("always")
        warnings.showwarning = note
        results = pool.map(lambda file: decode_image(file, size), files)
        for i, result in enumerate(tqdm(results, "decode images", len(files), leave=False, disable=None)):
            if isinstance(result, str):
                bad.append(f"{shown(files[i])}: {result}")
            else:
                images[i] = result
    if notes:
        warnings.warn(_few(list(notes)), stacklevel=2)
    if bad:
        raise DatasetError(f"{_few(bad)}\nReplace or remove {'it' if len(bad) == 1 else 'them'}.")
    return images


def _few(lines: list[str]) -> str:
    return "\n".join([*lines[:5], *([f"… and {len(lines) - 5} more"] if len(lines) > 5 else [])])


def decode_image(file: Path, size: int) -> np.ndarray | str:
    """Return one image upright and cut to a square, uint8 (size, size, 3), or what is wrong with the file."""
    _DECODING.file = file
    try:
        with Image.open(file) as opened:
            if opened.mode[0] in "IF":
                return f"{opened.mode} pixels (more than 8 bits); convert the image to 8-bit grey or RGB"
            # A JPEG of many megapixels is decoded at a fraction of its size, never below the one asked for.
            opened.draft("RGB", (size, size))
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright.convert("RGBA"))
            return np.asarray(ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.BILINEAR))
    except UnidentifiedImageError:
        return "not an image that Pillow can read"
    except (Image.DecompressionBombError, MemoryError) as error:
        return f"too large to be decoded ({error}), which does not mean that it is damaged; scale it down"
    except Exception as error:  # a torn file can fail in any layer of Pillow's readers
        # Pillow's own have no number; the system's say that the file cannot be read, and not that it is damaged
        if isinstance(error, OSError) and error.errno:
            return f"cannot be read ({error.strerror})"
        return f"damaged image ({error})"
