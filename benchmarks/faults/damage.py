"""Seeded damage to the content of files: to their bytes, and to what their fields say.

A function takes content and a generator, and returns other content. Damage to bytes is what disks, networks and copies
do. Damage to fields keeps the form of the file, so that it comes past the reader of that form to the code behind it.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

Damage: TypeAlias = Callable[[bytes, np.random.Generator], bytes]

_HUGE = [struct.pack(form, number) for form, number in (("<I", 2**32 - 1), ("<I", 2**31), ("<Q", 2**45))]
_HUGE += [struct.pack(">I", 2**31 - 1), struct.pack("<Q", 2**63), b"99999999999999", b"-1"]
_MAGIC = [
    b"PK\x03\x04",
    b"\x93NUMPY\x01\x00",
    b"\x89PNG\r\n\x1a\n",
    b"\x1f\x8b\x08",
    b"GIF89a",
    b"{",
    b"\x80\x02",
]
#: Values that may stand where others are expected.
JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    "",
    "../x",
    "/x",
    "a\0b",
    "x" * 5000,
    "\ud800",
]
JUNK += [[], [[]], {}, {"a": 1}, ["a", 1], [None] * 50]
#: How deep the fields are nested that exhaust a reader's stack.
_DEEP = 20_000


def damage_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Return content with flipped bits, or cut, or with a part removed, repeated, overwritten or exchanged."""
    size = len(content)
    start, stop = sorted(int(place) for place in rng.integers(0, size + 1, 2))
    stop = min(stop, start + int(rng.integers(1, 65)))
    kind = int(rng.integers(9))
    if kind <= 2:  # the commonest, and the hardest to see
        flipped = bytearray(content)
        for place in rng.integers(0, size, int(rng.integers(1, 5))):
            flipped[place] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    if kind == 3:
        return content[:start]
    if kind == 4:
        return content[:start] + content[stop:]
    if kind == 5:
        return content[:stop] + content[start:]
    if kind == 6:
        return content[:start] + rng.bytes(stop - start) + content[stop:]
    if kind == 7:
        huge = _HUGE[rng.integers(len(_HUGE))]
        return content[:start] + huge + content[start + len(huge) :]
    magic = _MAGIC[rng.integers(len(_MAGIC))]
    return magic + content[len(magic) :]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return (holder, name) of every value below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for name, inner in items:
        found += [(value, name), *_places(inner)]
    return found


def damage_value(value: Any, rng: np.random.Generator) -> Any:
    """Return a value, as JSON or YAML has them, with one field removed, renamed, replaced, repeated or exchanged."""
    spoilt = copy.deepcopy(value)
    places = _places(spoilt)
    junk = JUNK[rng.integers(len(JUNK))]
    if not places or rng.random() < 0.03:
        return junk
    holder, name = places[rng.integers(len(places))]
    kind = int(rng.integers(6))
    if kind <= 2:
        holder[name] = junk
    elif kind == 3:
        other, there = places[rng.integers(len(places))]
        holder[name], other[there] = copy.deepcopy(other[there]), copy.deepcopy(holder[name])
    elif kind == 4:
        del holder[name]
    elif isinstance(holder, dict):
        holder[f"{name}s"] = holder.pop(name)
    else:
        holder.append(holder[name])
    return spoilt


def damage_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Return JSON with a damaged field, or with lists in lists until the stack of its reader ends."""
    if rng.random() < 0.02:
        return b"[" * _DEEP + b"]" * _DEEP
    return json.dumps(damage_value(json.loads(content), rng)).encode(errors="replace")


def damage_yaml(content: bytes, rng: np.random.Generator) -> bytes:
    """Return YAML with a damaged field, an impossible date, or lists in lists until the stack of its reader ends."""
    if rng.random() < 0.02:
        return [b"[" * 2_000 + b"]" * 2_000, b"a: 2018-99-99", b"a: &a [*a]", b"? {}\n: 1", b"a: !!int x"][
            rng.integers(5)
        ]
    spoilt = damage_value(yaml.safe_load(content), rng)
    with contextlib.suppress(yaml.YAMLError, UnicodeError):
        return yaml.safe_dump(spoilt, sort_keys=False).encode()
    return b"\xff"


def damage_csv(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a table with a damaged cell, row or heading."""
    rows = damage_value(list(csv.reader(io.StringIO(content.decode()))), rng)
    text = io.StringIO()
    for row in rows if isinstance(rows, list) else [rows]:
        cells = row if isinstance(row, list) else [row]
        text.write(",".join(str(cell) for cell in cells) + "\n")
    return text.getvalue().encode(errors="replace")


def damage_gzip(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a compressed file whose content is damaged and whose own checksum is right."""
    return gzip.compress(damage_bytes(gzip.decompress(content), rng), 1)


def damage_npy(content: bytes, rng: np.random.Generator) -> bytes:
    """Return an array with another header in front of the same numbers."""
    shape = [(10**13,), (2**40, 3), (-1, -4), (), (0,), (3, 2, 1)][rng.integers(6)]
    kind = ["|u1", "<f8", "|O", "<U9", "|V8", ">i8", "<M8[s]", "x", [("a", "<i4")]][rng.integers(9)]
    header = io.BytesIO()
    described = {"descr": kind, "fortran_order": bool(rng.integers(2)), "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue() + content[128:]


def damage_safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    """Return tensors with a damaged header, of which the length is right, in front of the same numbers."""
    length = int.from_bytes(content[:8], "little")
    header = damage_json(content[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def zip_members(content: bytes) -> dict[str, bytes]:
    """Return the members of an archive by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def as_zip(members: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of members by name, with fixed dates."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, packed)
    return content.getvalue()


def damage_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """Return an archive, its own checksums right, with one member damaged, renamed, left out or turned into a link."""
    members = zip_members(content)
    name = list(members)[rng.integers(len(members))]
    kind, mode = int(rng.integers(8)), 0
    if kind <= 2:
        members[name] = damage_bytes(members[name], rng) if members[name] else b"x"
    elif kind <= 4:
        members[name] = damage_for(name)(members[name] or b"x", rng)
    elif kind == 5:
        del members[name]
    elif kind == 6:
        other = ["../x", "/x", "a\\..\\..\\x", "c:/x", "x" * 300, f"{name}/x", "", "é.npy", "a/../b"][
            rng.integers(9)
        ]
        members[other] = members.pop(name)
    else:
        mode = [0o120777, 0o010644, 0o020644][rng.integers(3)] << 16
    packed = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA][rng.integers(4)]
    spoilt = bytearray(as_zip(members, packed))
    if mode and (place := spoilt.rfind(b"PK\x01\x02")) >= 0:
        spoilt[place + 38 : place + 42] = struct.pack("<I", mode)
    if rng.random() < 0.1:  # says that it is encrypted, or compressed in a way that nobody knows
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = spoilt.find(mark)
            spoilt[place + offset + 2 * int(rng.integers(2))] |= 1
    return bytes(spoilt)


_BY_SUFFIX: dict[str, Damage] = {
    ".json": damage_json,
    ".ipynb": damage_json,
    ".yml": damage_yaml,
    ".csv": damage_csv,
    ".gz": damage_gzip,
    ".npy": damage_npy,
    ".safetensors": damage_safetensors,
    **dict.fromkeys((".zip", ".npz", ".pt", ".pth"), damage_zip),
}


def damage_for(name: str) -> Damage:
    """Return the damage to the fields of a file of this name; to its bytes where it has none that is known."""
    return _BY_SUFFIX.get(Path(name).suffix, damage_bytes)
