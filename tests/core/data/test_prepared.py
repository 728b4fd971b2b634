"""The prepared form: what its headers claim is compared with the file before anything is allocated."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from imbal_core._checks import npz as files
from imbal_core._checks.npz import read_arrays
from imbal_core.data.prepared import DatasetError, read_prepared


def npz(path, save=np.savez, **arrays):
    given = {
        "images": np.zeros((4, 8, 8, 3), np.uint8),
        "labels": np.array([0, 1, 0, 1]),
        "class_names": np.array(["a", "b"]),
    }
    save(path, **(given | arrays))
    return path


def header(shape):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_out_as_they_were_saved(tmp_path, save):
    path = npz(tmp_path / "a.npz", save, images=np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3))
    with np.load(path) as expected:
        found = read_arrays(path)
        assert found.keys() == set(expected.files)
        assert all(np.array_equal(found[name], expected[name]) for name in found)
    with path.open("rb") as file:
        assert read_arrays(io.BytesIO(file.read()))["class_names"].tolist() == ["a", "b"]


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_claims_more_than_its_member_has_is_refused_before_it_is_allocated(tmp_path, packed):
    path = npz(tmp_path / "a.npz")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in (members | {"images.npy": header((10**9, 100, 100, 3)) + b"\0" * 1000}).items():
            archive.writestr(name, data)
    tracemalloc.start()
    with pytest.raises(
        DatasetError, match=r"a\.npz.*images\.npy claims 30,000,000,000,1.* bytes and has .* again"
    ):
        read_prepared(path, "download it again")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_member_whose_size_the_archive_itself_overstates_is_refused(tmp_path):
    path = npz(tmp_path / "a.npz")
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("images.npy").file_size
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 2**31 - 1)))
    with pytest.raises(DatasetError, match=r"a\.npz: not a complete npz"):
        read_prepared(path, "replace it")


def test_more_than_the_stated_limit_is_refused(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz")
    monkeypatch.setattr(files, "MOST_BYTES", 500)
    with pytest.raises(DatasetError, match="claim more than the 500 bytes"):
        read_prepared(path, "replace it")
