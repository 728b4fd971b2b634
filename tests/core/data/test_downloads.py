import hashlib

import numpy as np
import pytest
from file_server import serve

from imbal_core.data.downloads import fetch
from imbal_core.data.prepared import DatasetError

BODY = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve({"/a.zip": BODY}) as served:
        yield served


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "a.zip"


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_a_file_is_downloaded_once(server, path):
    assert fetch(f"{server.url}/a.zip", path, sha256=SHA256.upper()) == path
    assert path.read_bytes() == BODY and names(path) == ["a.zip"]
    fetch(f"{server.url}/a.zip", path, sha256=SHA256)
    assert server.asked == [("/a.zip", None)]


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(server, path):
    server.cuts[:] = [150_000]
    with pytest.raises(DatasetError, match=r"stopped after 0\.1 MB .*The same command continues it"):
        fetch(f"{server.url}/a.zip", path, sha256=SHA256)
    assert names(path) == ["a.zip.part"]
    have = (path.parent / "a.zip.part").stat().st_size
    assert 0 < have <= 150_000
    fetch(f"{server.url}/a.zip", path, sha256=SHA256)
    assert server.asked == [("/a.zip", None), ("/a.zip", f"bytes={have}-")]
    assert path.read_bytes() == BODY and names(path) == ["a.zip"]


def test_a_server_without_ranges_starts_anew(server, path):
    server.cuts[:], server.ranges = [150_000], False
    with pytest.raises(DatasetError, match="stopped after"):
        fetch(f"{server.url}/a.zip", path, sha256=SHA256)
    fetch(f"{server.url}/a.zip", path, sha256=SHA256)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("ready", [BODY, BODY + b"more", b"x" * len(BODY)])
def test_a_part_that_is_complete_is_taken_only_if_it_is_the_file(server, path, ready):
    path.parent.mkdir()
    (path.parent / "a.zip.part").write_bytes(ready)
    if ready != BODY:
        with pytest.raises(DatasetError, match="is not the file that was expected"):
            fetch(f"{server.url}/a.zip", path, sha256=SHA256)
        assert names(path) == []
    fetch(f"{server.url}/a.zip", path, sha256=SHA256)
    assert path.read_bytes() == BODY


def test_another_file_is_refused_and_not_kept(server, path):
    with pytest.raises(DatasetError, match=r"is not the file that was expected.*--sha256"):
        fetch(f"{server.url}/a.zip", path, sha256="0" * 64)
    assert names(path) == []


def test_an_address_that_does_not_answer_is_named(server, path):
    with pytest.raises(DatasetError, match=r"/b\.zip stopped after 0\.0 MB .*404.*--from"):
        fetch(f"{server.url}/b.zip", path, sha256=SHA256)
