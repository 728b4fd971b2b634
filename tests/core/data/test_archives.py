import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from imbal_core._checks.files import ignores_case
from imbal_core.data import archives
from imbal_core.data.archives import safe_extract
from imbal_core.data.prepared import DatasetError


def write_tar(path: Path, files: dict[str, bytes], *, links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)


def write_zip(path: Path, files: dict[str, bytes], *, links: dict[str, str] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o120777 << 16
            archive.writestr(entry, target)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_honest_archive_is_unpacked(tmp_path, write):
    write(tmp_path / "a", {"x/one.txt": b"1", "x/y/two.txt": b"2", "..three": b"3"})
    safe_extract(tmp_path / "a", tmp_path / "out")
    found = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert found == {"x/one.txt": b"1", "x/y/two.txt": b"2", "..three": b"3"}


def test_an_archive_of_the_folder_itself_is_unpacked(tmp_path):
    """As `tar -czf a.tgz .` writes it, with a member for the folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.txt").write_bytes(b"1")
    with tarfile.open(tmp_path / "a", "w:gz") as archive:
        archive.add(tmp_path / "in", ".")
    safe_extract(tmp_path / "a", tmp_path / "out")
    assert (tmp_path / "out" / "one.txt").read_bytes() == b"1"


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize(
    "name", ["../evil", "x/../../evil", "/tmp/imbal-evil", "..\\evil", "C:\\evil", "C:/evil"]
)
def test_an_archive_cannot_write_outside_its_folder(tmp_path, write, name):
    write(tmp_path / "a", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DatasetError, match="leads out of the folder"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written before every member is checked"
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_cannot_hold_links(tmp_path, write):
    write(tmp_path / "a", {"good.txt": b"1"}, links={"door": "/etc"})
    with pytest.raises(DatasetError, match="'door' is a link or a device"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_cannot_use_a_link_that_is_there_already(tmp_path, write):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "door").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "a", {"door/evil": b"2"})
    with pytest.raises(DatasetError, match="leads out of the folder"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def write_twice(path: Path, kind: str, names: list[str]) -> None:
    """Write a member of each name, as an archive to which files were appended has them."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for number, name in enumerate(names):
                zipped.writestr(name, b"" if name.endswith("/") else str(number))
        return
    with tarfile.open(path, "w:gz") as tarred:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.size = int(entry.isreg())
            tarred.addfile(entry, io.BytesIO(str(number).encode()))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("again", ["cat/1.png", "./cat/1.png", "cat//1.png"])
def test_a_member_that_would_replace_another_is_refused_by_name(tmp_path, kind, again):
    write_twice(tmp_path / "a", kind, ["cat/", "cat/", "cat/1.png", "cat/2.png", again])
    with pytest.raises(DatasetError, match=rf"a: refused, its member '{again}' would replace 'cat/1\.png'"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written before every member is checked"


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("names", [["cat/1.PNG", "cat/1.png"], ["Straße", "STRASSE"], ["Cat/1", "cat/1"]])
def test_names_that_differ_in_case_alone_are_two_files_or_refused(tmp_path, monkeypatch, kind, names):
    write_twice(tmp_path / "a", kind, names)
    monkeypatch.setattr(archives, "ignores_case", lambda folder: True)
    with pytest.raises(DatasetError, match=f"its member '{names[1]}' would replace '{names[0]}'"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    if not ignores_case(tmp_path):
        safe_extract(tmp_path / "a", tmp_path / "out")
        assert [(tmp_path / "out" / name).read_bytes() for name in names] == [b"0", b"1"]


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7])
def test_a_damaged_archive_is_named(tmp_path, write, keep):
    write(tmp_path / "a", {f"{i}.bin": os.urandom(3000) for i in range(3)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[: int(keep * (tmp_path / "a").stat().st_size)])
    with pytest.raises(DatasetError, match="damaged") as caught:
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert str(tmp_path / "a") in str(caught.value)
