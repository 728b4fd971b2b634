import copy
import dataclasses
import json

import pytest
import torch

from imbal_book.grid import verify as verification
from imbal_book.grid.verify import compare, verify
from imbal_book.run.config import RunConfig
from imbal_book.run.provenance import provenance
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore

CONFIG = RunConfig(
    study="category_centers",
    profile="laptop",
    dataset="mnist5k",
    imbalance="zhang-a",
    model="small_cnn",
    epochs=1,
)
MEASUREMENTS = {
    "train_counts": [10, 5],
    "history": {"train_loss": [1.5, 0.25]},
    "readouts": {"D": {"accuracy": 0.75, "recall": [1.0, 0.5]}},
}


def a_record(seed=0, measurements=MEASUREMENTS, **origin):
    config = dataclasses.replace(CONFIG, train_seed=seed)
    return Record.of_run(
        config,
        {"train": "a" * 64, "test": "b" * 64},
        "c" * 64,
        measurements,
        provenance("cpu", 1.0) | origin,
    )


@pytest.fixture
def store(tmp_path):
    store = RecordStore(tmp_path / "results")
    for seed in range(6):
        store.write(a_record(seed))
    return store


@pytest.fixture
def second_runs(monkeypatch):
    """Let the second run of a config be what the test says, and note the threads that it ran with."""
    threads = []

    def set_result(measurements=MEASUREMENTS, **origin):
        def execute(config, store, *, root=None, progress=True):
            threads.append(torch.get_num_threads())
            record = a_record(config.train_seed, measurements, **origin)
            store.write(record)
            return record

        monkeypatch.setattr(verification, "execute", execute)
        return threads

    return set_result


def changed(place, value):
    measurements = copy.deepcopy(MEASUREMENTS)
    inner = measurements
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return measurements


def test_equal_measurements_agree_exactly(store, second_runs):
    second_runs()
    report = verify(store, 3)
    assert report.agrees
    assert (report.population, len(report.checks)) == (6, 3)
    assert all(check.exact and check.detail == "the same measurements" for check in report.checks)


def test_the_last_bit_counts_on_the_same_machine(store, second_runs):
    second_runs(changed(["history", "train_loss"], [1.5, 0.25000000000000006]))
    report = verify(store, 1)
    assert not report.agrees
    assert (
        "history.train_loss: [1.5, 0.25] recorded, [1.5, 0.25000000000000006] now" in report.checks[0].detail
    )


@pytest.mark.parametrize("origin", [{"device": "another (cpu)"}, {"torch": "1.0"}, {"threads": 64}])
def test_another_machine_or_version_is_compared_with_a_stated_tolerance(store, second_runs, origin):
    second_runs(changed(["readouts", "D", "accuracy"], 0.72), **origin)
    (check,) = verify(store, 1).checks
    assert check.agrees and not check.exact
    assert "largest difference 0.03 at readouts.D.accuracy (within 0.05, not exactly: " in check.detail
    assert f"{next(iter(origin.values()))} here" in check.detail


def test_a_difference_beyond_the_tolerance_disagrees(store, second_runs):
    second_runs(changed(["readouts", "D", "accuracy"], 0.69), torch="1.0")
    (check,) = verify(store, 1).checks
    assert not check.agrees
    assert "readouts.D.accuracy: 0.75 recorded, 0.69 now" in check.detail


def test_other_images_are_no_second_run(store, second_runs, monkeypatch):
    other = dataclasses.replace(a_record(), key="0" * 16)
    monkeypatch.setattr(verification, "execute", lambda *_, **__: other)
    (check,) = verify(store, 1).checks
    assert not check.agrees
    assert "the images or the split differ" in check.detail


def test_the_recorded_number_of_threads_is_used_and_restored(tmp_path, second_runs):
    before = torch.get_num_threads()
    store = RecordStore(tmp_path / "results")
    store.write(a_record(threads=before + 1))
    threads = second_runs(threads=before + 1)
    assert verify(store, 1).checks[0].exact
    assert threads == [before + 1]
    assert torch.get_num_threads() == before


def test_the_seed_decides_the_sample_and_the_store_stays_as_it_is(store, second_runs):
    second_runs()
    files = {path: path.read_bytes() for path in store.root.rglob("*.json")}
    keys = [[check.key for check in verify(store, 3, seed=seed).checks] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert {path: path.read_bytes() for path in store.root.rglob("*.json")} == files


def test_a_sample_larger_than_the_store_takes_all(store, second_runs):
    second_runs()
    assert len({check.key for check in verify(store, 99).checks}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"study": "categry_centers"}, "did you mean 'category_centers'"),
        ({"profile": "labtop"}, "did you mean 'laptop'"),
        ({"sample": 0}, "sample must be at least 1, got 0"),
        ({"profile": "paper"}, "nothing to verify"),
    ],
)
def test_what_cannot_be_verified_is_refused(store, options, message):
    with pytest.raises(ValueError, match=message):
        verify(store, **options)


def test_within_a_tolerance_counts_stay_exact_and_lists_are_compared_by_their_mean():
    assert compare(MEASUREMENTS, changed(["train_counts"], [10, 6]), 0.5) == (
        False,
        "train_counts: [10, 5] recorded, [10, 6] now",
    )
    assert compare(MEASUREMENTS, changed(["readouts", "D", "recall"], [0.5, 1.0]), 0.05)[0]
    assert not compare(MEASUREMENTS, changed(["readouts", "D", "recall"], [0.5, 0.5]), 0.05)[0]


def test_within_a_tolerance_the_history_is_left_out():
    assert compare(MEASUREMENTS, changed(["history"], {}), 0.05) == (True, "the same measurements")
    assert not compare(MEASUREMENTS, changed(["history"], {}))[0]


def test_within_a_tolerance_the_summaries_of_latent_features_are_left_out():
    latent = {"units": 64, "gaps": {"CE": "packed"}, "coverage": [[0.5, 0.75]]}
    here, there = (MEASUREMENTS | {"latent": latent | {"gaps": {"CE": text}}} for text in ("one", "other"))
    assert compare(here, there, 0.05) == (True, "the same measurements")
    assert compare(here, there) == (False, "latent.gaps.CE: one recorded, other now")
    less = changed(["readouts"], {}) | {"latent": latent}
    assert not compare(here, less, 0.05)[0], "the readouts beside them count"


@pytest.mark.parametrize("tolerance", [None, 0.5])
def test_a_readout_that_one_side_lacks_is_a_difference(tolerance):
    less = changed(["readouts"], {})
    assert compare(MEASUREMENTS, less, tolerance)[0] is False
    assert compare(less, MEASUREMENTS, tolerance)[0] is False


def test_measurements_read_from_a_file_compare_equal():
    assert compare(json.loads(json.dumps(MEASUREMENTS)), MEASUREMENTS)[0]
