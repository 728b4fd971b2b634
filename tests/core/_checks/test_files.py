"""Files that are written whole or not at all: full disks, killed and concurrent writers, names that are taken."""

import errno
import os
import subprocess
import sys
import time

import pytest

from imbal_core._checks import files
from imbal_core._checks.files import (
    create_atomically,
    ignores_case,
    patiently,
    sweep,
    write_atomically,
)

BOTH = pytest.mark.parametrize("function", [write_atomically, create_atomically])


def full_disk(file):
    file.write(b"half of the con")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@BOTH
@pytest.mark.parametrize("content", [b"content", lambda file: file.write(b"content")])
def test_bytes_and_what_a_function_writes_arrive_in_a_folder_that_is_made(tmp_path, function, content):
    path = tmp_path / "a" / "b" / "file.bin"
    function(path, content)
    assert path.read_bytes() == b"content"
    assert names(path.parent) == ["file.bin"]


@BOTH
def test_the_file_has_the_permissions_of_any_new_file(tmp_path, function):
    function(tmp_path / "file", b"content")
    (tmp_path / "plain").write_bytes(b"content")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_is_replaced_by_writing_and_kept_by_creating(tmp_path):
    path = tmp_path / "file"
    assert create_atomically(path, b"first") is True
    assert create_atomically(path, b"second") is False
    assert path.read_bytes() == b"first"
    write_atomically(path, b"third")
    assert path.read_bytes() == b"third"
    assert names(tmp_path) == ["file"]


@BOTH
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, function):
    path = tmp_path / "file"
    with pytest.raises(OSError, match="No space left"):
        function(path, full_disk)
    assert names(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        function(path, full_disk)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@BOTH
def test_any_other_error_and_an_interruption_leave_nothing_either(tmp_path, function):
    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function(tmp_path / "file", interrupted)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("function", "call"),
    [
        (write_atomically, "fsync"),
        (write_atomically, "replace"),
        (create_atomically, "fsync"),
        (create_atomically, "link"),
    ],
)
def test_an_error_after_the_content_leaves_nothing(tmp_path, monkeypatch, function, call):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="Input/output error"):
        function(tmp_path / "file", b"content")
    assert names(tmp_path) == []


@BOTH
def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch, function):
    flushed, fsync = [], os.fsync

    def note(handle):
        flushed.append((os.fstat(handle).st_size, names(tmp_path)))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    function(tmp_path / "file", b"content")
    ((size, (hidden,)),) = flushed
    assert size == len(b"content")
    assert hidden.startswith(".file.") and hidden.endswith(".tmp"), "git ignores .*.tmp"


@BOTH
def test_a_killed_writer_leaves_no_file_of_that_name(tmp_path, function):
    script = (
        "import os, sys, pathlib; from imbal_core._checks import files\n"
        f"files.{function.__name__}(pathlib.Path(sys.argv[1]), lambda f: (f.write(b'half'), os._exit(9)))"
    )
    path = tmp_path / "file"
    assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode == 9
    (left,) = names(tmp_path)
    assert left.startswith(".file.") and left.endswith(".tmp")
    assert function(path, b"whole") is not False
    assert path.read_bytes() == b"whole"


def aged(path, seconds):
    """Give everything in a folder, or a file, an age."""
    then = time.time() - seconds
    for place in (path, *path.rglob("*")):
        os.utime(place, (then, then))
    return path


@pytest.mark.parametrize("name", ["file", "run[1]*.pt"])
def test_what_a_killed_writer_left_of_a_file_goes_when_the_file_is_written_again(tmp_path, name):
    left = {owner: tmp_path / f".{owner}.7-ab.tmp" for owner in (name, "other", "run1.pt")}
    for path in left.values():
        path.write_bytes(b"half")
        aged(path, 700)
    under_way = tmp_path / f".{name}.8-cd.tmp"
    under_way.write_bytes(b"half, of a writer that lives")
    write_atomically(tmp_path / name, b"content")
    kept = {".other.7-ab.tmp", ".run1.pt.7-ab.tmp", under_way.name, name}
    assert set(names(tmp_path)) == kept


def test_a_folder_of_a_killed_unpacking_goes_unless_something_in_it_is_new(tmp_path):
    for name in (".unpack-old", ".unpack-new"):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / "1.png").write_bytes(b"1")
        aged(tmp_path / name, 700)
    (tmp_path / "unpack-mine").mkdir()
    aged(tmp_path / "unpack-mine", 700)
    aged(tmp_path / ".unpack-new" / "train" / "1.png", 5)
    sweep(tmp_path, ".unpack-*")
    sweep(tmp_path / "nowhere", "*")
    assert names(tmp_path) == [".unpack-new", "unpack-mine"]


def test_whether_a_folder_ignores_case_is_found_out_there_or_above(tmp_path):
    (tmp_path / "probe").touch()
    expected = (tmp_path / "PROBE").exists()
    assert ignores_case(tmp_path) == ignores_case(tmp_path / "not" / "yet") == expected
    assert names(tmp_path) == ["probe"]


WRITERS = """
import pathlib, sys, time
from imbal_core._checks import files
from imbal_core._checks.files import create_atomically, patiently, write_atomically
folder, letter = pathlib.Path(sys.argv[1]), sys.argv[2].encode()
(folder / f"ready-{sys.argv[2]}").touch()
while len(list(folder.glob("ready-*"))) < 3:
    time.sleep(0.001)
won = 0
for number in range(20):
    write_atomically(folder / "replaced", letter * 100_000)
    seen = (folder / "replaced").read_bytes()
    assert len(seen) == 100_000 and len(set(seen)) == 1, "half a file, or a mixture"
    won += create_atomically(folder / f"created-{number}", letter * 100_000)
print(won)
"""


def test_of_several_writers_readers_see_whole_files_and_one_gets_each_new_name(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITERS, tmp_path, letter], stdout=subprocess.PIPE)
        for letter in "abc"
    ]
    won = [int(writer.communicate()[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sum(won) == 20
    for number in range(20):
        assert len(set((tmp_path / f"created-{number}").read_bytes())) == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL])
def test_without_hard_links_a_name_that_is_taken_is_still_kept(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "file"
    assert create_atomically(path, b"first") is True
    assert create_atomically(path, b"second") is False
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


@BOTH
def test_a_file_where_the_folder_should_be_is_an_error_and_no_taken_name(tmp_path, function):
    (tmp_path / "folder").write_bytes(b"a file")
    with pytest.raises(FileExistsError):
        function(tmp_path / "folder" / "file", b"content")


class WindowsError(PermissionError):
    """What Windows raises where another program has a file open, or, by its number, for another reason."""

    def __init__(self, number):
        super().__init__(errno.EACCES, "The process cannot access the file")
        self.winerror = number


@pytest.fixture
def refused(monkeypatch):
    """Let the file system refuse to replace files so often, with an error; return the calls."""
    calls, replace = [], os.replace

    def refuse(times, error):
        def attempt(source, target):
            calls.append(target)
            if len(calls) <= times:
                raise error
            replace(source, target)

        monkeypatch.setattr(os, "replace", attempt)
        return calls

    return refuse


@pytest.mark.parametrize("number", [5, 32])
def test_a_file_that_is_open_elsewhere_is_replaced_when_it_is_closed(tmp_path, refused, number):
    calls, path = refused(3, WindowsError(number)), tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and len(calls) == 4 and names(tmp_path) == ["file"]


def test_a_file_that_stays_open_elsewhere_is_named_with_what_to_do(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 0.2)
    calls, path = refused(10**6, WindowsError(32)), tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(PermissionError, match="is open elsewhere; close it there") as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == str(path) and len(calls) > 1
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), WindowsError(1314)])
def test_a_folder_that_is_closed_to_us_is_said_at_once(tmp_path, refused, error):
    calls = refused(10**6, error)
    with pytest.raises(PermissionError) as caught:
        write_atomically(tmp_path / "file", b"new")
    assert caught.value is error and len(calls) == 1


def test_what_removes_a_file_waits_as_well(tmp_path):
    answers = iter([WindowsError(32), None])

    def remove():
        if (error := next(answers)) is not None:
            raise error

    patiently(remove, tmp_path / "file")
    assert next(answers, "none left") == "none left"
