"""Files of NumPy arrays, whose headers are compared with the file before anything is allocated."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imbal_core._checks.files import complete

#: No file makes the package allocate more than this at once.
MOST_BYTES = 64 * 2**30


def read_arrays(file: Path | BinaryIO) -> dict[str, np.ndarray]:
    """Return the arrays of an npz by name, after comparing what their headers claim with the file.

    ValueError before anything is allocated, if an array claims another size than its member has, a member more than
    deflate can hold in its place (1,032 bytes in one), or all of them more than `MOST_BYTES`. Other damage: any error.
    """
    arrays = {}
    with complete(zipfile.ZipFile(file)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_BYTES:
            raise ValueError(f"its arrays claim more than the {MOST_BYTES:,} bytes that are read")
        for member in members:
            with archive.open(member) as content:
                form = np.lib.format
                version = form.read_magic(content)
                read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
                shape, _, dtype = read(content)
                claimed = content.tell() + math.prod(shape) * dtype.itemsize
            if claimed != member.file_size or member.file_size > 1032 * member.compress_size + 64:
                raise ValueError(
                    f"{member.filename} claims {claimed:,} bytes and has {member.compress_size:,} in the file"
                )
            with archive.open(member) as content:
                arrays[member.filename.removesuffix(".npy")] = form.read_array(content, allow_pickle=False)
    return arrays
