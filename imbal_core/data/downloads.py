"""Files from elsewhere: torchvision's data sets, and large files over HTTP, continued where they stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from imbal_core._checks.files import sha256_of_file
from imbal_core.data.prepared import DatasetError

_CHUNK = 1 << 16
_TIMEOUT = 60  # seconds without a byte


def fetch(url: str, path: Path, *, sha256: str) -> Path:
    """Return the path of a downloaded file, which has the given hash.

    What an interrupted download has brought stays in ``NAME.part``, and the next call asks the server for the
    rest. A file that is there already and has the hash is not downloaded again. DatasetError if the server cannot be
    reached, ends too early or sends another file.
    """
    if path.exists() and sha256_of_file(path) == sha256.lower():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _complete(part, url)
    except OSError as error:  # those of requests are of this kind
        size = part.stat().st_size if part.exists() else 0
        raise DatasetError(
            f"the download of {url} stopped after {size / 1e6:,.1f} MB ({error}). The same command continues "
            "it; without a network, use --from with a copy from a machine that has one"
        ) from error
    if (found := sha256_of_file(part)) != sha256.lower():
        part.unlink()
        raise DatasetError(
            f"{url} is not the file that was expected: its SHA-256 is {found}, not {sha256}. Nothing of it was "
            "kept. Try again; if the publisher has replaced the file and you trust it, give its new hash with "
            "--sha256"
        )
    os.replace(part, path)
    return path


def _complete(part: Path, url: str) -> None:
    """Ask the server for what a part file lacks."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416:  # nothing after what is there: it is complete, or of another file
            return
        response.raise_for_status()
        if response.status_code != 206:  # the server sends the whole file, whatever was asked
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None)
        with bar, part.open("ab" if have else "wb") as sink:
            for chunk in response.iter_content(_CHUNK):
                sink.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the server ended at {part.stat().st_size:,} of {total:,} bytes")


def open_or_download(
    name: str, split: str, root: Path, files: str, open_: Callable[..., Any], download: bool
) -> Any:
    """Return torchvision's data set, which ``open_(download=...)`` opens, of the files in the data root.

    They are downloaded where they are missing and may be. DatasetError if they are missing, incomplete or damaged and
    cannot be downloaded, or must not.
    """
    place = root / files
    try:
        return open_(download=False)
    except Exception as error:  # those of the data sets' own readers are of many kinds
        reason = error
    at_hand = f"{place}: incomplete or damaged ({reason})"
    if not download and place.exists():
        raise DatasetError(f"{at_hand}; delete it and run `imbal data {name}`") from reason
    if not download:
        raise DatasetError(
            f"no images of {name} in the data root {root}: `imbal data {name}` downloads them, or set "
            f"IMBAL_DATA to the folder that holds {name}/{split}.npz or {files}"
        ) from reason
    try:
        return open_(download=True)
    except DatasetError:
        raise
    except Exception as error:  # those of the data sets' own readers are of many kinds
        raise DatasetError(
            f"{f'{at_hand}, and ' if place.exists() else ''}could not download {name} ({error}). Without a network, "
            f"copy {name}/train.npz and {name}/test.npz, or {files}, from a machine that has them into the data root "
            f"{root}"
        ) from error
