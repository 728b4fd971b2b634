"""Records: the key, the file, the store with many writers, what it refuses, and what a full disk leaves."""

import dataclasses
import errno
import gc
import hashlib
import json
import multiprocessing
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sample_records import DATA, ORIGIN, SPLIT, record_of, run_config

from imbal_book.grid import planning
from imbal_book.run import record_archives, record_format, records
from imbal_book.run.config import RunConfig
from imbal_book.run.long_frames import records_frame
from imbal_book.run.record_format import Record, RecordError, parse_record, run_key
from imbal_book.run.records import ContradictionError, RecordStore, RecordWriteError, SkippedRecordWarning


def make_record(seed=0, accuracy=0.5, data=DATA, provenance=None, **changes):
    measurements = {"accuracy": accuracy, "recall": [0.25, 0.75]}
    return record_of(run_config(seed, **changes), measurements, data=data, **(provenance or {}))


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# The key


def test_key_is_the_hash_of_configuration_data_and_split():
    config = run_config(1)
    text = '["%s",{"test":"%s","train":"%s"},"%s"]' % (  # noqa: UP031
        config.canonical().replace('"', '\\"'),
        DATA["test"],
        DATA["train"],
        SPLIT,
    )
    assert run_key(config, DATA, SPLIT) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_key_changes_with_each_of_its_parts():
    keys = {
        run_key(run_config(0), DATA, SPLIT),
        run_key(run_config(1), DATA, SPLIT),
        run_key(run_config(0), DATA | {"test": "dd" * 32}, SPLIT),
        run_key(run_config(0), DATA, "ee" * 32),
    }
    assert len(keys) == 4


def test_key_of_a_known_run_never_changes():
    assert run_key(run_config(3), DATA, SPLIT) == "4a9624bffee7acd3"


# One record


def test_a_record_survives_its_file(store):
    record = make_record(accuracy=0.1 + 0.2)
    path = store.write(record)
    assert path == store.root / "demo" / "laptop" / f"{record.key}.json"
    assert store.read() == [record]
    assert store.read()[0].measurements["accuracy"] == 0.1 + 0.2
    assert store.read()[0].run_config() == run_config()
    assert store.skipped == []


def test_the_file_has_sorted_keys_and_ends_with_a_newline(store):
    text = store.write(make_record()).read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"


def test_numpy_values_are_written_as_plain_numbers(store):
    measured = {"recall": np.array([0.5, 1.0]), "n": np.int64(3), "f": np.float32(0.5)}
    record = record_of(run_config(), measured)
    assert record.measurements == {"recall": [0.5, 1.0], "n": 3, "f": 0.5}
    store.write(record)
    assert store.read() == [record]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64("nan"), np.array([1.0, -np.inf])])
def test_a_number_that_is_not_finite_is_refused_with_its_place(bad):
    with pytest.raises(RecordError, match=r"measurements\.loss\[1\].*finite"):
        record_of(run_config(), {"loss": [0.5, bad]})


def test_a_value_that_json_lacks_is_refused_with_its_place():
    with pytest.raises(RecordError, match=r"measurements\.when is of type set"):
        record_of(run_config(), {"when": {1}})
    with pytest.raises(RecordError, match="names must be text"):
        record_of(run_config(), {"recall": {0: 0.5}})


def test_a_record_whose_key_is_not_its_own_is_not_written(store):
    with pytest.raises(RecordError, match="but its configuration, data and split give"):
        store.write(dataclasses.replace(make_record(), key="0" * 16))
    with pytest.raises(RecordError, match=r"key is .*escape.*expected text of the form"):
        store.write(dataclasses.replace(make_record(), key="../../escape"))
    assert files_below(store.root.parent) == []


def test_the_same_measurements_again_keep_the_first_file(store):
    first = make_record(provenance={"device": "first", "seconds": 1.0})
    path = store.write(first)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert store.write(make_record(provenance={"device": "second", "seconds": 9.0})) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_contradiction_names_both_records_and_the_place_and_keeps_the_first(store):
    path = store.write(make_record(accuracy=0.5, provenance={"device": "Alpha", "date": "2026-01-01"}))
    before = path.read_bytes()
    with pytest.raises(ContradictionError) as caught:
        store.write(make_record(accuracy=0.6, provenance={"device": "Beta", "date": "2026-02-02"}))
    message = str(caught.value)
    for part in (path.name, "Alpha", "2026-01-01", "Beta", "2026-02-02", "measurements.accuracy is 0.5"):
        assert part in message
    assert path.read_bytes() == before
    assert files_below(store.root) == [f"demo/laptop/{path.name}"]


# Reading


def test_reading_sorts_and_filters(store):
    for seed in range(4):
        store.write(make_record(seed))
        store.write(make_record(seed, profile="paper"))
        store.write(make_record(seed, study="other"))
    everything = store.read()
    assert len(everything) == 12
    places = [(r.config["study"], r.config["profile"], r.key) for r in everything]
    assert places == sorted(places)
    assert len(store.read("demo")) == 8
    assert len(store.read("demo", "paper")) == 4
    assert len(store.read(profile="laptop")) == 8
    assert store.read("absent") == []
    assert RecordStore(store.root / "nowhere").read() == []


def edited(change):
    """Return a function from the text of a record to the same with its values changed."""

    def apply(text):
        value = json.loads(text)
        change(value)
        return json.dumps(value)

    return apply


def without_origin(name):
    return edited(lambda value: value["provenance"].pop(name)), f"provenance lacks '{name}'"


#: What may lie at the place of a record, from its text, and the reason that is given.
SPOILED = {
    "torn": (lambda text: text[:100], "torn"),
    "empty": (lambda text: "", "torn"),
    "binary": (lambda text: "\udcff\udcfe\0", "torn"),
    "nan": (lambda text: text.replace("0.25", "NaN"), "NaN"),
    "foreign": (lambda text: '{"cells": [], "nbformat": 4}', "foreign"),
    "list": (lambda text: "[1, 2]", "foreign"),
    "old schema": (edited(lambda v: v.update(schema=0)), "schema 0, and this version reads schema 1"),
    "new schema": (edited(lambda v: v.update(schema=2)), "schema 2"),
    "field absent": (edited(lambda v: v.pop("split")), "lacks 'split'"),
    "field unknown": (edited(lambda v: v.update(comment="hello")), "unknown field 'comment'"),
    "wrong type": (edited(lambda v: v.update(measurements=[1])), "expected an object"),
    **{name: without_origin(name) for name in ORIGIN},
    "seconds as text": (
        edited(lambda v: v["provenance"].update(seconds="2.5 s")),
        "provenance.seconds is '2.5 s', expected a finite number",
    ),
    "a measurement changed": (
        edited(lambda v: v["measurements"].update(recall=[0.125, 0.75])),
        "its checksum is not that of its content",
    ),
    "edited": (edited(lambda v: v["config"].update(epochs=4)), "configuration, data and split give"),
    "unknown option": (edited(lambda v: v["config"].update(epocs=4)), "did you mean 'epochs'"),
    "escape": (edited(lambda v: v["config"].update(profile="../../elsewhere")), "profile names a folder"),
}


def spoil(store, how):
    """Put what is not a record at the place of a record; return its file and the reason."""
    path, (change, reason) = store.write(make_record(7)), SPOILED[how]
    path.write_bytes(change(path.read_text()).encode(errors="surrogateescape"))
    return path, reason


@pytest.mark.parametrize("how", SPOILED)
def test_what_is_not_a_record_is_skipped_by_name_with_a_count(store, how):
    store.write(make_record(0))
    path, reason = spoil(store, how)
    with pytest.warns(SkippedRecordWarning, match="skipped 1 of 2 files") as caught:
        assert store.read() == [make_record(0)]
    assert path.name in str(caught[0].message)
    assert [name for name, _ in store.skipped] == [f"demo/laptop/{path.name}"]
    assert reason in store.skipped[0][1]
    path.unlink()
    assert len(store.read()) == 1 and store.skipped == []


def test_a_record_in_the_wrong_place_is_skipped(store):
    path = store.write(make_record(0))
    path.rename(path.with_name("0123456789abcdef.json"))
    (store.root / "stray.json").write_text("{}")
    with pytest.warns(SkippedRecordWarning, match="skipped 2 of 2") as caught:
        assert store.read() == []
    assert "wrong place" in str(caught[0].message) and "stray.json" in str(caught[0].message)


def test_what_a_killed_writer_left_is_not_read(store):
    path = store.write(make_record(0))
    (path.parent / ".0123456789abcdef.12-ab.tmp").write_text('{"half": ')
    assert len(store.read()) == 1


def test_a_torn_file_in_the_way_is_set_aside_and_kept(store):
    path, _ = spoil(store, "torn")
    torn = path.read_bytes()
    with pytest.warns(SkippedRecordWarning, match="set aside as"):
        store.write(make_record(7))
    assert store.read() == [make_record(7)]
    (aside,) = path.parent.glob("*.torn-*")
    assert aside.read_bytes() == torn


def test_a_record_that_arrived_meanwhile_is_not_set_aside(store):
    path = store.write(make_record(7))
    before = path.read_bytes()
    records._set_aside(path, "torn when it was looked at")
    assert path.read_bytes() == before
    assert files_below(store.root) == [f"demo/laptop/{path.name}"]


def test_missing_lists_what_has_no_record_in_the_grid_s_order(store):
    grid = [run_config(seed) for seed in (4, 2, 0, 3, 1)] + [run_config(0, profile="paper")]
    assert store.missing(grid) == grid
    store.write(make_record(0))
    store.write(make_record(3, data={"train": "11", "test": "22"}))
    assert store.missing(iter(grid)) == [grid[0], grid[1], grid[4], grid[5]]


def test_find_returns_the_record_or_none_and_refuses_two(store):
    assert store.find(run_config(0)) is None
    store.write(make_record(0))
    assert store.find(run_config(0)) == make_record(0)
    store.write(make_record(0, data={"train": "11", "test": "22"}))
    with pytest.raises(RecordError, match="same configuration with different data"):
        store.find(run_config(0))


@pytest.fixture
def reads(monkeypatch):
    """Return the names of the records that are read, once for each time."""
    names, read_bytes = [], Path.read_bytes

    def note(path):
        names.extend([path.name] * (path.name != "index.json"))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", note)
    return names


def test_asking_for_every_run_of_a_grid_reads_each_file_once(store, reads):
    files = [store.write(make_record(seed)).name for seed in range(6)]
    assert store.missing([run_config(seed) for seed in range(3, 12)]) == [run_config(s) for s in range(6, 12)]
    assert [store.find(run_config(seed)) for seed in range(6, 12)] == [None] * 6
    assert sorted(reads) == sorted(files)
    assert store.find(run_config(4)) == make_record(4), "the record itself is read when it is asked for"
    assert len(reads) == 7


def test_a_record_that_another_process_adds_is_noticed_and_read_alone(store, reads):
    store.write(make_record(0))
    assert store.find(run_config(1)) is None
    other = RecordStore(store.root)
    del reads[:]
    path = other.write(make_record(1))
    assert store.find(run_config(2)) is None and reads == [path.name]
    assert store.find(run_config(1)) == make_record(1)
    assert store.missing([run_config(0), run_config(1)]) == []
    path.unlink()
    assert store.find(run_config(1)) is None
    assert store.missing([run_config(0), run_config(1)]) == [run_config(1)]


def test_an_index_beside_the_store_spares_reading_and_may_vanish_or_break(store, reads, monkeypatch):
    monkeypatch.setattr(records, "WORTH_WRITING", 3)
    grid = [run_config(seed) for seed in range(9)]
    files = {seed: store.write(make_record(seed)) for seed in range(6)}
    index = store.scratch / "index.json"
    for content in (None, b"", b"[]", b'{"version": 0}', b'{"files": 1, "version": %a}' % [1]):
        index.unlink(missing_ok=True) if content is None else index.write_bytes(content)
        del reads[:]
        assert RecordStore(store.root).missing(grid) == grid[6:]
        assert len(reads) == 6, "what cannot be read of an index is passed over"
    del reads[:]
    assert RecordStore(store.root).missing(grid) == grid[6:]
    assert RecordStore(store.root).listing() == [
        (record.key, json.loads(record.run_config().canonical()), 2.5)
        for record in sorted(map(make_record, range(6)), key=lambda r: r.key)
    ]
    assert reads == []
    files[0].write_text("torn")
    files[1].unlink()
    with pytest.warns(SkippedRecordWarning, match="skipped 1 of 5 files"):
        assert RecordStore(store.root).missing(grid) == [*grid[:2], *grid[6:]]
    assert reads == [files[0].name]


@pytest.mark.parametrize("name", ["CON", "nul", "aux.x", "LPT1", "end.", "a:b", ".hidden", "a/b"])
def test_a_study_and_a_profile_have_names_that_are_folders_on_every_system(name):
    for field in ("study", "profile"):
        with pytest.raises(ValueError, match=f"{field} names a folder"):
            run_config(0, **{field: name})
    assert run_config(0, profile="console.v2-b_").profile == "console.v2-b_"


def test_what_passed_every_check_is_not_checked_again_as_long_as_its_bytes_are_the_same(
    store, reads, monkeypatch
):
    monkeypatch.setattr(records, "WORTH_WRITING", 3)
    checks, checksum = [], record_format._checksum
    monkeypatch.setattr(
        record_format, "_checksum", lambda content: checks.append(content["key"]) or checksum(content)
    )
    runs = sorted(map(make_record, range(1000)), key=lambda record: record.key)
    files = [store.write(record) for record in runs]
    for time_read, checked in enumerate([1000, 0, 0]):
        if time_read == 2:  # copied, as to another machine: it is the bytes that count
            os.utime(files[0], (1, 1))
        del checks[:], reads[:]
        assert RecordStore(store.root).read() == runs
        assert (len(checks), len(reads)) == (checked, 1000)
    # a bit that flips on the disk changes neither size nor time
    before, content = files[7].stat(), files[7].read_bytes()
    with files[7].open("r+b") as file:
        file.write(content.replace(b"0.75", b"0.74"))
    os.utime(files[7], ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.warns(SkippedRecordWarning, match="skipped 1 of 1000 .*checksum is not that of its content"):
        assert RecordStore(store.root).read() == runs[:7] + runs[8:]


def test_reading_leaves_the_collector_of_garbage_as_it_was_even_after_an_error(store, monkeypatch):
    store.write(make_record(0))
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        store.read()
        assert gc.isenabled() == before and gc.get_freeze_count() == 0
    gc.enable()
    monkeypatch.setattr(store, "_files", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.read()
    assert gc.isenabled()


def test_a_thousand_records_are_looked_for_without_reading_one(store, reads, monkeypatch):
    for seed in range(1000):
        store.write(make_record(seed))
    grid = [run_config(seed) for seed in range(1010)]
    for read in (1000, 0, 0):
        del reads[:]
        told = planning.recorded_seconds(RecordStore(store.root))
        assert planning.plan(grid, RecordStore(store.root), told).estimated_seconds == 25
        assert RecordStore(store.root).missing(grid) == grid[1000:]
        assert len(reads) == read


def test_a_file_that_another_process_replaces_is_read_again(store):
    path = store.write(make_record(0))
    whole = path.read_bytes()
    assert store.find(run_config(0)) == make_record(0)
    for content in (b"torn", b" " * len(whole)):
        path.write_bytes(content)
        with pytest.warns(SkippedRecordWarning, match="skipped 1 of 1 files"):
            assert store.find(run_config(0)) is None
        with pytest.warns(SkippedRecordWarning, match="torn"):
            assert store.missing([run_config(0)]) == [run_config(0)]
        assert [name for name, _ in store.skipped] == [f"demo/laptop/{path.name}"]
    path.unlink()
    path.write_bytes(whole)
    assert store.find(run_config(0)) == make_record(0) and store.skipped == []


def test_a_record_that_changes_hands_is_not_changed_in_the_store(store):
    store.write(make_record(0))
    store.find(run_config(0)).measurements["accuracy"] = 1.0
    assert store.find(run_config(0)) == make_record(0)


def test_a_record_that_vanishes_between_the_look_and_the_reading_is_not_found(store, monkeypatch):
    path = store.write(make_record(0))
    assert store.missing([run_config(0)]) == []
    read_bytes = Path.read_bytes

    def vanish(path):
        path.unlink()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", vanish)
    assert store.find(run_config(0)) is None
    assert not path.exists()


def test_the_frame_has_one_row_a_record_with_its_configuration_and_every_field_of_it():
    runs = [make_record(seed, accuracy=seed / 4, schedule="step", milestones=(1, 2)) for seed in range(3)]
    frame = records_frame(runs)
    assert frame.columns.tolist() == list(records_frame([]).columns)
    assert set(frame.columns) == {f.name for f in dataclasses.fields(RunConfig)} | {
        "key", "config", "measurements",
    }  # fmt: skip
    row = frame[frame.train_seed == 2].iloc[0]
    assert (row["key"], row["config"]) == (runs[2].key, runs[2].run_config())
    assert (row["measurements"]["accuracy"], row["milestones"], row["image_size"]) == (0.5, [1, 2], None)


def test_default_root_is_the_checkout_s_results_else_the_working_folder_s(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "checkout_folder", lambda: tmp_path)
    assert RecordStore().root == Path("results")
    (tmp_path / "results").mkdir()
    assert RecordStore().root == Path("results")  # a folder of that name in site-packages is not a checkout
    (tmp_path / "pyproject.toml").touch()
    assert RecordStore().root == tmp_path / "results"


# Failures


def test_a_failure_is_noted_replaced_and_cleared_by_success(store):
    path = store.write_failure(run_config(0), "loss is NaN in epoch 2")
    assert path.is_relative_to(store.root.parent / "_build" / "failures" / "demo" / "laptop")
    store.write_failure(run_config(0), "disk on fire")
    other = store.write_failure(run_config(1), "other")
    for note, error, seed in ((path, "disk on fire", 0), (other, "other", 1)):
        told = json.loads(note.read_text())
        assert (told["error"], told["config"]) == (error, run_config(seed).to_dict())
    store.write(make_record(0))
    assert other.exists() and not path.exists()
    assert store.read() == [make_record(0)] and store.skipped == []


# Checksums, and what is no record


def without_checksum(record):
    value = json.loads(record.to_json())
    del value["provenance"]["sha256"]
    return json.dumps(value, sort_keys=True, indent=1) + "\n"


def test_a_record_without_a_checksum_is_read_and_gets_one_when_it_is_added(store, tmp_path):
    record = make_record(0)
    back = tmp_path / "back" / "old.json"
    back.parent.mkdir()
    back.write_text(without_checksum(record))
    assert parse_record(back.read_bytes()) == record
    for _ in range(2):
        store.add(back.parent)
        assert store.path(record).read_text() == record.to_json() != back.read_text()
    store.path(record).write_text(back.read_text())
    assert store.read() == [record], "it is read where it lies, too"
    assert store.add(back.parent).same == [record.key]
    assert store.path(record).read_text() == record.to_json()


def test_the_checksum_lies_where_versions_that_know_none_read_past_it():
    value = json.loads(make_record(0).to_json())
    assert value.keys() == {field.name for field in dataclasses.fields(Record)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_regular_file_is_named_and_never_opened(store, tmp_path):
    store.write(make_record(0))
    folder = store.root / "demo" / "laptop"
    os.mkfifo(folder / f"{make_record(1).key}.json")
    (folder / "folder.json").mkdir()
    (folder / "dangling.json").symlink_to(tmp_path / "nowhere.json")
    with pytest.warns(SkippedRecordWarning, match="skipped 3 of 4 files"):
        assert store.read() == [make_record(0)]
    reasons = dict(store.skipped)
    assert reasons[f"demo/laptop/{make_record(1).key}.json"] == "is no regular file"
    assert "No such file" in reasons["demo/laptop/dangling.json"]
    refused = dict(RecordStore(tmp_path / "other").add(store.root).refused)
    assert refused[f"demo/laptop/{make_record(1).key}.json"] == "is no regular file"
    with pytest.warns(SkippedRecordWarning, match="set aside"):
        store.write(make_record(1))


def test_a_damaged_archive_is_an_error_that_names_it(store, tmp_path):
    path = tmp_path / "back.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", make_record(0).to_json())
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02")
    path.write_bytes(content[:place] + b"PK\x07\x07" + content[place + 4 :])
    with pytest.raises(RecordError, match=r"back.zip is a damaged zip archive"):
        store.add(path)


# Many writers


def _write_beside_others(number, root, barrier, answers):
    """Write, as one process of several: records of its own, the same as the others, and rivals of theirs."""
    store, own, ends = RecordStore(root), range(100 + 10 * number, 110 + 10 * number), []
    barrier.wait(200)
    for seed in [*own, *range(20)]:
        store.write(make_record(seed))
    for seed in range(50, 60):
        try:
            store.write(make_record(seed, accuracy=number / 8))
            ends.append("written")
        except ContradictionError:
            ends.append("contradiction")
    answers.put((number, ends))


def test_eight_writers_at_once_lose_nothing(tmp_path):
    # of processes that fork from one which has imported what they need, where that can be
    methods = [
        method for method in ("forkserver", "spawn") if method in multiprocessing.get_all_start_methods()
    ]
    root, context = tmp_path / "results", multiprocessing.get_context(methods[0])
    context.set_forkserver_preload(["imbal_book.run.long_frames", "imbal_book.run.records"])
    barrier, answers = context.Barrier(8), context.Queue()
    writers = [
        context.Process(target=_write_beside_others, args=(number, root, barrier, answers), daemon=True)
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    ends = dict(answers.get(timeout=200) for _ in writers)
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0] * 8
    store = RecordStore(root)
    accuracy = {record.config["train_seed"]: record.measurements["accuracy"] for record in store.read()}
    assert accuracy.keys() == {*range(100, 180), *range(20), *range(50, 60)}
    assert store.skipped == []
    for place, seed in enumerate(range(50, 60)):
        winners = [number for number in range(8) if ends[number][place] == "written"]
        assert [number / 8 for number in winners] == [accuracy[seed]]
    assert len(files_below(root)) == 110  # no temporary file stays


def test_a_file_system_without_hard_links_works_too(store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    path = store.write(make_record(0))
    store.write(make_record(0))
    with pytest.raises(ContradictionError):
        store.write(make_record(0, accuracy=0.9))
    assert files_below(store.root) == [f"demo/laptop/{path.name}"]


# A full disk


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_no_space_names_the_file_and_leaves_nothing(store, monkeypatch, call):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(RecordWriteError, match="No space left") as caught:
        store.write(make_record(0))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(store.path(make_record(0)))
    assert files_below(store.root.parent) == []
    monkeypatch.undo()
    store.write(make_record(0))
    assert store.read() == [make_record(0)]


def test_a_file_where_the_folder_should_be_is_a_clear_error(store):
    store.root.mkdir()
    (store.root / "demo").write_text("in the way")
    with pytest.raises(RecordWriteError, match="cannot write a record"):
        store.write(make_record(0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a file system of Linux")
def test_a_real_full_disk_keeps_whole_records_only(tmp_path):
    from benchmarks.faults.stress import (
        small_disk,
    )  # here: the processes of the writers above load this file, too

    store, written = RecordStore(tmp_path / "disk" / "results"), []
    with small_disk(tmp_path / "disk") as made:
        if not made:
            pytest.skip("cannot mount a small disk here: it needs root")
        with pytest.raises(RecordWriteError, match="No space left") as caught:
            for seed in range(1000):
                store.write(make_record(seed))
                written.append(make_record(seed).key)
        assert 1 <= len(written) < 1000
        assert caught.value.filename == str(store.path(make_record(len(written))))
        assert sorted(record.key for record in store.read()) == sorted(written)
        assert store.skipped == []
        assert len(files_below(tmp_path / "disk")) == len(written)
        store.path(make_record(0)).unlink()
        store.write(make_record(len(written)))  # room again: the same run gets in


# Adding records that come back


@pytest.fixture(params=["zip", "folder"])
def pack(request, tmp_path):
    """A function that packs names and texts as a zip archive or a folder."""

    def build(files):
        if request.param == "zip":
            path = tmp_path / "back.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in files.items():
                    archive.writestr(name, text)
            return path
        path = tmp_path / "back"
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        return path

    return build


def test_records_that_come_back_are_added_once(store, pack):
    files = {f"results/demo/laptop/{n}.json": make_record(n).to_json() for n in range(3)}
    store.write(make_record(0))
    offered = pack(files)
    report = store.add(offered)
    assert report.added == [make_record(n).key for n in (1, 2)]
    assert report.same == [make_record(0).key]
    assert report.refused == []
    assert sorted(store.read(), key=lambda r: r.config["train_seed"]) == [make_record(n) for n in range(3)]
    again = store.add(offered)
    assert again.added == [] and len(again.same) == 3


def test_what_cannot_be_taken_is_refused_by_name_and_the_rest_is_added(store, pack, tmp_path):
    side = RecordStore(tmp_path / "side" / "results")
    files, reasons = {}, {}
    for how in SPOILED:
        if how != "binary":
            path, reasons[f"{how}.json"] = spoil(side, how)
            files[f"{how}.json"] = path.read_text()
            path.unlink()
    store.write(make_record(1, accuracy=0.5))
    files["rival.json"] = make_record(1, accuracy=0.9).to_json()
    reasons["rival.json"] = "contradict each other"
    files["notes.txt"] = "hello"
    reasons["notes.txt"] = "not JSON"
    files["good.json"] = make_record(2).to_json()
    report = store.add(pack(files))
    assert report.added == [make_record(2).key]
    refused = dict(report.refused)
    assert refused.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in refused[name], name
    assert sorted(r.measurements["accuracy"] for r in store.read()) == [0.5, 0.5]
    assert store.skipped == []


def test_an_archive_cannot_reach_outside(store, tmp_path):
    path = tmp_path / "back.zip"
    names = ["../up.json", "a/../../up.json", "/absolute.json", "..\\up.json", "C:/windows.json"]
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, make_record(number).to_json())
        link = zipfile.ZipInfo("link.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    report = store.add(path)
    assert report.added == []
    refused = dict(report.refused)
    assert len(refused) == 6
    assert all(
        "leads out of the folder" in refused[name.replace("\\", os.sep) if os.sep == "\\" else name]
        for name in names
    )
    assert "link" in refused["link.json"]
    assert files_below(tmp_path) == ["back.zip"]


def test_a_link_in_a_folder_is_not_followed(store, tmp_path):
    secret = tmp_path / "elsewhere.json"
    secret.write_text(make_record(0).to_json())
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "link.json").symlink_to(secret)
    assert store.add(tmp_path / "back").refused == [("link.json", "is a link; links are not followed")]


def test_a_damaged_or_huge_member_is_refused_by_name(store, tmp_path, monkeypatch):
    path = tmp_path / "back.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("damaged.json", make_record(0).to_json())
        archive.writestr("huge.json", make_record(1).to_json() + " " * 5000)
        archive.writestr("good.json", make_record(2).to_json())
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    monkeypatch.setattr(record_archives, "MAX_RECORD_BYTES", 4000)
    report = store.add(path)
    assert report.added == [make_record(2).key]
    assert [name for name, _ in report.refused] == ["damaged.json", "huge.json"]
    assert "cannot be unpacked" in report.refused[0][1] and "4,000" in report.refused[1][1]


def test_neither_zip_nor_folder_is_an_error_that_names_it(store, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("notes.txt", "absent.zip"):
        with pytest.raises(RecordError, match=name):
            store.add(tmp_path / name)
