"""Files from elsewhere: the campaign of damaged files counts what it must, and the smallest cases that it found."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from benchmarks.faults import fuzz
from benchmarks.faults.book_parsers import CONFIG, book_parsers, record
from benchmarks.faults.damage import as_zip, zip_members
from benchmarks.faults.data_parsers import data_parsers
from benchmarks.faults.fuzz import Parser
from benchmarks.faults.runners import Grid, in_session, tracebacks
from imbal_book.evidence.papers.facts import PaperError
from imbal_book.evidence.papers.reference import parse_reference
from imbal_book.evidence.rules import RulesError, load_rules, parse_rules
from imbal_book.grid.claims import Claims
from imbal_book.run.records import RecordStore
from imbal_core.data import plantvillage_files
from imbal_core.data.archives import safe_extract
from imbal_core.data.prepared import DatasetError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and makes pipes")
PARSERS = {parser.name: parser for parser in (*book_parsers(), *data_parsers())}


# The campaign itself, on parsers that are broken on purpose


def write_number(folder):
    (folder / "number.json").write_text('{"number": 7, "checksum": 7}')


def number_in(folder, _):
    found = json.loads((folder / "number.json").read_text())
    if found["number"] != found["checksum"]:
        raise ValueError("number.json: its checksum is not that of its number")
    return found["number"]


def careful(folder, scratch):
    try:
        if not (folder / "number.json").is_file():
            raise OSError("no file")
        return number_in(folder, scratch)
    except Exception as error:
        raise ValueError(f"number.json: {error}") from error


def credulous(folder, _):
    try:
        return int(re.search(r"\d+", (folder / "number.json").read_text(errors="replace"))[0])
    except (OSError, TypeError) as error:
        raise ValueError(f"number.json: {error}") from error


def nameless(folder, scratch):
    try:
        return careful(folder, scratch)
    except ValueError:
        raise ValueError("something is wrong") from None


def deadly(folder, scratch):
    try:
        return careful(folder, scratch)
    except ValueError:
        os._exit(7)


def escaping(folder, scratch):
    (scratch.parent / "outside").touch()
    return 7


@pytest.mark.parametrize(
    ("read", "fault", "irregular"),
    [
        (careful, None, True),
        (number_in, "traceback: (JSONDecodeError|UnicodeDecodeError|KeyError|TypeError) in", False),
        (number_in, "hang: more than 5 s", True),
        (nameless, "traceback: a refusal without the name of the file", False),
        (credulous, "wrong: number.json is read as something else", False),
        (deadly, "traceback: the reading process ended with 7", False),
        (escaping, "wrong: number.json made the parser write outside", False),
    ],
)
def test_the_campaign_finds_what_a_broken_parser_does_and_nothing_in_a_sound_one(
    tmp_path, read, fault, irregular
):
    parser = Parser("broken", write_number, read, (ValueError,), summed=("bytes",), irregular=irregular)
    cases = 2 if "hang" in (fault or "") else 8 if read is deadly else 40
    tally = fuzz.campaign(parser, tmp_path / "base", cases, limit=5)
    assert sum(tally.counts.values()) == cases
    if fault is None:
        assert not tally.faults and tally.counts["refused"] > 10
    else:
        assert any(re.match(fault, found) for found in tally.faults), tally.faults
        assert [line for line in fuzz.table({"broken": tally}) if "broken, case" in line]


def test_a_parser_that_cannot_read_what_is_intact_ends_the_campaign(tmp_path):
    parser = Parser("renamed", write_number, lambda folder, _: folder.no_such_name)
    with pytest.raises(RuntimeError, match="renamed: its intact files cannot be read: AttributeError"):
        fuzz.campaign(parser, tmp_path / "base", 8)


def test_a_case_is_the_same_whenever_it_is_made(tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_number(tmp_path / name)
        path, kind = fuzz.spoil(PARSERS["parameters as text"], tmp_path / name, 33, 5)
        found.append((kind, path.read_bytes()))
    assert found[0] == found[1] != ("bytes", b'{"number": 7, "checksum": 7}')


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_refuses_damage_in_a_sentence_or_reads_what_was_written(tmp_path, name):
    tally = fuzz.campaign(PARSERS[name], tmp_path / "base", 16 if "YAML" not in name else 6, seed=1)
    assert not tally.faults
    assert tally.counts["accepted"] + tally.counts["refused"] >= 6


# The counts of runners


def test_records_that_vanish_change_or_are_torn_are_counted(tmp_path):
    grid = Grid(tmp_path, "", 3)
    first, second, third = (RecordStore(grid.results).write(record(seed)) for seed in range(3))
    grid.check()
    assert (grid.counts.lost, grid.counts.torn) == (0, 0)
    first.unlink()
    second.write_text(second.read_text() + " ")
    third.with_name("0123456789abcdef.json").write_text(third.read_text()[:50])
    grid.check()
    assert (grid.counts.lost, grid.counts.torn) == (2, 1)


def test_a_traceback_is_counted_where_nobody_caught_it(tmp_path):
    caught = "1. a run\n   | Traceback (most recent call last):\n   |   File x\n"
    keeper = "Traceback (most recent call last):\n  File python3.11/multiprocessing/resource_tracker.py, line 239\n"
    (tmp_path / "log").write_text(caught + keeper)
    assert tracebacks(tmp_path / "log") == tracebacks(tmp_path / "absent") == 0
    (tmp_path / "log").write_text(caught + "Traceback (most recent call last):\n  File batch.py, line 1\n")
    assert tracebacks(tmp_path / "log") == 1


def test_a_runner_that_never_ends_and_a_worker_that_outlives_it_are_hangs(tmp_path):
    grid = Grid(tmp_path, "", 1)
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    assert grid.wait(sleeper.pid, until=lambda: True) is None
    assert grid.wait(sleeper.pid, limit=0.2) == -9 and grid.counts.hangs == 1
    leader = subprocess.Popen(["sh", "-c", "sleep 600 & exit"], start_new_session=True)
    leader.wait()
    grid.wait_for_workers(leader.pid, limit=0.2)
    assert grid.counts.hangs == 2 and not in_session(leader.pid)


# What it found, each in its smallest form


def swallow(content):
    """Say of the first member that a comment follows it, as long as the rest of the directory."""
    place, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    second = content.index(b"PK\x01\x02", place + 4)
    return content[: place + 32] + (end - second).to_bytes(2, "little") + content[place + 34 :]


def locked(content):
    """Say of the first member that it is encrypted."""
    spoilt = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        spoilt[content.index(mark) + offset] |= 1
    return bytes(spoilt)


def unclosed(content):
    """Open a bracket in the header of an array that is never closed."""
    members = zip_members(content)
    return as_zip(members | {"images.npy": members["images.npy"].replace(b"(10, 8, 8, 3)", b"(10, 8, 8, 3(")})


def with_value(*place, value):
    """Return a function that puts a value into JSON."""

    def change(content):
        found = holder = json.loads(content)
        for name in place[:-1]:
            holder = holder[name]
        holder[place[-1]] = value
        return json.dumps(found).encode()

    return change


def infinite(content):
    """Put a number into the manifest of a bundle that is read as infinity."""
    members = zip_members(content)
    manifest = members["manifest.json"].replace(b'"epochs":3', b'"epochs":1e999')
    return as_zip(members | {"manifest.json": manifest})


def deep(_):
    return b"[" * 100_000 + b"]" * 100_000


CASES = [
    ("zip archive", "data.zip", swallow, "its directory has 1 of 3 members"),
    ("archive of records", "back.zip", swallow, "its directory has 1 of 3 members"),
    ("archive of records", "back.zip", lambda _: as_zip({"": b"{}"}), "'' leads out of the folder"),
    ("bundle", "grid.zip", infinite, "manifest.json is damaged: Out of range float values"),
    ("prepared images", "train.npz", swallow, "its directory has 1 of 4 members"),
    ("prepared images", "train.npz", locked, "encrypted"),
    ("prepared images", "train.npz", unclosed, "not a complete npz"),
    ("zip archive", "data.zip", locked, "encrypted"),
    ("images of a bundle", "folders/*/partial.json", deep, "nested too deeply"),
    ("tables of leaves", "leaf-map.json", deep, "nested too deeply"),
    ("notebook parameters", "chapter.ipynb", deep, "is not a notebook"),
    ("notebook parameters", "chapter.ipynb", with_value("cells", 1, "source", value={}), "is not a notebook"),
    (
        "notebook parameters",
        "chapter.ipynb",
        with_value("cells", 1, "metadata", value=[]),
        "is not a notebook",
    ),
    ("saved model", "model/pipeline.json", with_value("classes", value=["a"]), "a head of shape"),
    ("saved model", "model/pipeline.json", with_value("image_size", value="8"), "image_size is '8'"),
    ("saved model", "model/pipeline.json", deep, "nested too deeply"),
    ("table of images", "images.csv", lambda _: b"path,label\na\0b,a\nb/0.png,b\n", "cannot be read"),
    ("paper's YAML", "*.yml", lambda _: b"year: 2018-99-99", "cannot be read as YAML"),
    ("paper's YAML", "*.yml", lambda _: b"year: !!bool x", "cannot be read as YAML"),
]


@pytest.mark.parametrize(("name", "place", "change", "message"), CASES)
def test_what_the_campaign_found_is_refused_with_file_and_reason(tmp_path, name, place, change, message):
    parser, folder, scratch = PARSERS[name], tmp_path / "files", tmp_path / "scratch"
    folder.mkdir(), scratch.mkdir()
    parser.write(folder)
    (path,) = folder.glob(place)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises((fuzz.Refused, *parser.refusal), match=message) as caught:
        parser.read(folder, scratch)
    assert path.name in str(caught.value)


def test_a_tar_file_is_read_to_the_checksum_behind_its_last_member(tmp_path):
    """A large one ended before it, and a changed file was unpacked as if nothing were wrong."""
    (tmp_path / "one.bin").write_bytes(np.random.default_rng(0).bytes(600_000))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "one.bin", "one.bin")
        archive.fileobj.write(b"\0" * 3_000_000)
    content = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(content[:-8] + b"wrong" + content[-3:])
    with pytest.raises(DatasetError, match=r"a\.tar\.gz: cannot be unpacked \(CRC check failed"):
        safe_extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written before"


def test_a_leaf_map_with_half_a_character_is_read(tmp_path):
    """JSON can hold what UTF-8 cannot; a leaf's name is only compared."""
    PARSERS["tables of leaves"].write(tmp_path)
    (tmp_path / "leaf-map.json").write_text(r'{"rs_hl 1": ["\ud800"]}')
    found = plantvillage_files._leaves_csv(
        tmp_path, tmp_path / "leaf-map.json", tmp_path, ["Apple___healthy"]
    )
    assert found.decode().splitlines()[1].endswith(r",\ud800")


def test_a_record_is_not_lost_from_an_archive_whose_directory_is_damaged(tmp_path):
    PARSERS["archive of records"].write(tmp_path)
    content = (tmp_path / "back.zip").read_bytes()
    (tmp_path / "back.zip").write_bytes(swallow(content))
    assert len(zipfile.ZipFile(tmp_path / "back.zip").namelist()) == 1, "zipfile says nothing of it"


@pytest.mark.parametrize("change", [deep, lambda _: b'{"version": [], "files": []}', lambda _: b"[]"])
def test_an_index_of_records_that_is_no_index_is_made_again(tmp_path, change):
    PARSERS["index of records"].write(tmp_path)
    index = tmp_path / "_build" / "index.json"
    index.write_bytes(change(index.read_bytes()))
    assert len(RecordStore(tmp_path / "results").missing([CONFIG])) == 0


def test_an_index_of_records_is_not_believed_when_its_checksum_is_another(tmp_path):
    PARSERS["index of records"].write(tmp_path)
    index = tmp_path / "_build" / "index.json"
    index.write_bytes(re.sub(rb'", 2\.5\]', b'", 9.5]', index.read_bytes()))
    assert {seconds for *_, seconds in RecordStore(tmp_path / "results").listing()} == {2.5}


def test_a_claim_from_the_future_is_as_dead_as_an_old_one(tmp_path):
    """Of a file server whose clock was set back, or a claim that was restored."""
    with Claims(tmp_path) as gone:
        gone.take(CONFIG)
        (path,) = tmp_path.rglob("[!.]*.json")
        claim = json.loads(path.read_text()) | {"host": "elsewhere", "token": "other"}
        path.write_text(json.dumps(claim))
    os.utime(path, (4e9, 4e9))
    assert Claims(tmp_path).take(CONFIG)


def test_what_is_no_claim_is_told_from_one_and_a_pipe_is_named(tmp_path):
    with Claims(tmp_path) as mine:
        mine.take(CONFIG)
        (path,) = tmp_path.rglob("[!.]*.json")
        path.write_text('{"host": 7}')
        assert mine.holder(CONFIG) == "" and not Claims(tmp_path).take(CONFIG)
        path.with_suffix(".progress").write_text('{"epoch": "two"}')
        assert mine.progress(CONFIG) == {}
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(OSError, match=r"no regular file lies in the place of a claim: remove it.*\.json"):
            mine.take(CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": 7}, "gates is 7, expected a list"),
        ({"gates": [{"study": "x"}]}, "gate 0 is incomplete"),
        ({"claims": {"A": {"because": "x"}}}, "claims.A is .*expected"),
        ({"parts": None}, "parts is None, expected an object"),
    ],
)
def test_rules_of_another_form_are_refused_with_the_field(change, message):
    with pytest.raises(RulesError, match=message):
        parse_rules(dict(load_rules().content) | change)


@pytest.mark.parametrize("row", [["cifar10", 100, "", "read"], [[], 100, "1", "read"], ["a", 1, "1", [1]]])
def test_a_reference_number_of_another_form_is_refused(row):
    entry = {"method": "CE", "variant": "v", "source": "s", "values": [row]}
    with pytest.raises(PaperError, match="CE, v"):
        parse_reference([entry])
