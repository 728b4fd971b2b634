"""Large files over HTTP: with a progress bar, continued where they stopped, and checked by their SHA-256."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from imbal_core.data.prepared import DatasetError

__all__ = ["check_sha256", "fetch"]

_CHUNK = 1 << 16
_TIMEOUT = 60  # seconds without a byte


def fetch(url: str, path: Path, *, sha256: str) -> Path:
    """Return the path of a downloaded file, which has the given hash.

    What an interrupted download has brought stays in ``NAME.part``, and the next call asks the server for the
    rest. A file that is there already and has the hash is not downloaded again.

    Parameters
    ----------
    url : str
    path : Path
        Where the file is put; its folder is made where it is missing.
    sha256 : str
        64 hexadecimal digits.

    Raises
    ------
    DatasetError
        If the server cannot be reached, ends too early or sends another file.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    part = path.with_name(f"{path.name}.part")
    try:
        pooch.retrieve(url, f"sha256:{sha256.lower()}", path.name, path.parent, downloader=_Resuming(part))
    except (requests.RequestException, OSError) as error:
        size = part.stat().st_size if part.exists() else 0
        raise DatasetError(
            f"the download of {url} stopped after {size / 1e6:,.1f} MB ({error}). The same command continues "
            "it; without a network, use --from with a copy from a machine that has one"
        ) from error
    except ValueError as error:  # pooch's word for another hash; it has removed the file
        raise DatasetError(
            f"{url} is not the file that was expected: {error}. Nothing of it was kept. Try again; if the "
            "publisher has replaced the file and you trust it, give its new hash with --sha256"
        ) from error
    return path


class _Resuming:
    """A downloader for pooch that continues a ``.part`` file by an HTTP range request."""

    def __init__(self, part: Path) -> None:
        self.part = part

    def __call__(
        self, url: str, output_file: str, pooch: Any, check_only: bool | None = False
    ) -> bool | None:
        """Bring the rest of the file into the part file, then give it the name that pooch asks for."""
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:  # nothing after what is there: it is complete, or of another file
                os.replace(self.part, output_file)
                return None
            response.raise_for_status()
            if response.status_code != 206:  # the server sends the whole file, whatever was asked
                have = 0
            length = response.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            bar = tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=self.part.stem, disable=None
            )
            with bar, self.part.open("ab" if have else "wb") as sink:
                for chunk in response.iter_content(_CHUNK):
                    sink.write(chunk)
                    bar.update(len(chunk))
        if total is not None and self.part.stat().st_size < total:
            raise OSError(f"the server ended at {self.part.stat().st_size:,} of {total:,} bytes")
        os.replace(self.part, output_file)
        return None


def check_sha256(path: Path, sha256: str) -> None:
    """Raise DatasetError unless a file has the hash."""
    import pooch

    found = pooch.file_hash(str(path), alg="sha256")
    if found != sha256.lower():
        raise DatasetError(
            f"{path}: expected the SHA-256 {sha256}, found {found}; it is another file or damaged"
        )
