"""Running one configuration or a grid: the split, what is kept, what fails, the clock, and resuming."""

import contextlib
import functools
import hashlib
import io
import json
import os
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import dying_workers
import numpy as np
import pytest
import torch
from leaf_photos import write_leaves, write_plant
from sample_records import record_of, run_config

from imbal_book.grid import batch, planning
from imbal_book.grid import probe as probing
from imbal_book.grid.probe import probe
from imbal_book.run import networks
from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import run_key
from imbal_book.run.records import RecordStore, SkippedRecordWarning
from imbal_book.run.trained import train_run
from imbal_core.data.class_counts import zhang_counts
from imbal_core.data.datasets import load_dataset
from imbal_core.data.prepared import DatasetError
from imbal_core.data.splits import draw_split, shared_groups
from imbal_core.training import fit as training
from imbal_core.training.fit import FitResult

CPU = torch.device("cpu")
plain_config = functools.partial(run_config, profile="smoke", dataset="mnist5k")


def plain_record(config, seconds=1.0):
    return record_of(config, {"accuracy": 0.5}, seconds=seconds)


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def record(tiny_config, tiny_data, one_thread, tmp_path_factory):
    """Return the record of one uninterrupted run in this process, and its store."""
    store = RecordStore(tmp_path_factory.mktemp("whole") / "results")
    return batch.execute(tiny_config(), store, root=tiny_data[1], device=CPU, progress=False), store


class InlinePool:
    """Runs what is submitted at once, in this process."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def inline(monkeypatch):
    """Replace the processes by this one, and training by a function that a test can change."""
    calls = []

    def execute(config, store, **options):
        calls.append(config)
        if config.split_seed == 13:
            raise FloatingPointError("the loss is NaN at epoch 2")
        store.write(plain_record(config))

    @contextlib.contextmanager
    def executor(jobs):
        yield InlinePool()

    monkeypatch.setattr(batch, "worker_pool", executor)
    monkeypatch.setattr(batch, "execute", execute)
    return calls


def test_prepare_gives_the_split_of_draw_split_and_the_key_of_the_record(tiny_config, tiny_data):
    name, root = tiny_data
    config = tiny_config(seed=3)
    prepared = batch.prepare(config, root=root)
    pool, test = (load_dataset(name, side, root=root, image_size=8) for side in ("train", "test"))
    counts = zhang_counts(10, "A", scale=0.005)
    expected = draw_split(pool.labels, *counts, seed=3, num_test=40)
    np.testing.assert_array_equal(prepared.split.train, expected.train)
    np.testing.assert_array_equal(prepared.split.valid, expected.valid)
    np.testing.assert_array_equal(prepared.split.test, np.arange(40))
    np.testing.assert_array_equal(np.bincount(pool.labels[prepared.split.train]), [2] * 5 + [20] * 5)
    np.testing.assert_array_equal(prepared.valid_counts, [1] * 5 + [5] * 5)
    prints = {"train": pool.fingerprint, "test": test.fingerprint}
    assert prepared.key == run_key(config, prints, expected.sha256)
    assert prepared.root == root


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    """A data root with 180 healthy and 3 x 60 diseased apple leaves; only of the last 60 the leaf is unknown."""
    root = tmp_path_factory.mktemp("leaves")
    files = write_plant(root / "plantvillage" / "color", "apple", healthy=180, diseased=60)
    write_leaves(root, files[:300], per_leaf=2)
    return root


def leaf_config(tiny_config, **changes):
    pool = {"dataset": "plantvillage-apple", "imbalance": "rare-20-2-6-3", "imbalance_scale": 1.0}
    return tiny_config(**(pool | changes))


def test_a_pool_is_tested_on_images_that_the_split_draws_from_it(tiny_config, leaves):
    runs = [
        batch.prepare(leaf_config(tiny_config, **changes), root=leaves)
        for changes in ({}, {"imbalance_scale": 0.5}, {"image_size": 16}, {"split_seed": 1})
    ]
    first = runs[0]
    assert first.test is first.train and first.train.images.shape == (360, 8, 8, 3)
    sides = (first.split.train, first.split.valid, first.split.test)
    assert [np.bincount(first.train.labels[side]).tolist() for side in sides] == [[20, 2], [6, 3], [150, 150]]
    assert len(set(np.concatenate(sides))) == 331
    assert runs[1].split.test.tolist() == first.split.test.tolist() != runs[3].split.test.tolist()
    assert set(runs[1].split.train) < set(first.split.train)
    assert runs[2].train.images.shape == (360, 16, 16, 3) and runs[2].split.sha256 == first.split.sha256
    assert len({run.key for run in runs}) == 4


def test_split_groups_keeps_a_leaf_on_one_side(tiny_config, leaves):
    grouped, plain = (
        batch.prepare(leaf_config(tiny_config, split_groups=split_groups), root=leaves)
        for split_groups in (True, False)
    )
    assert shared_groups(grouped.split, grouped.train.groups)["test"] == 0
    assert shared_groups(plain.split, plain.train.groups)["test"] > 0
    assert grouped.key != plain.key


def test_split_groups_without_groups_is_refused(tiny_config, tiny_data):
    with pytest.raises(DatasetError, match="a grouped split was asked for, but of no image of 'folder:"):
        batch.prepare(tiny_config(split_groups=True), root=tiny_data[1])


def test_a_share_of_validation_images_is_set_aside(tiny_config, tiny_data):
    config = tiny_config(imbalance="step-10", imbalance_scale=0.5, valid_share=0.2)
    prepared = batch.prepare(config, root=tiny_data[1])
    assert prepared.train_counts.tolist() == [13] * 5 + [1] * 5
    assert prepared.valid_counts.tolist() == [3] * 5 + [1] * 5
    assert len(prepared.split.valid) == 20


def test_arms_of_one_seed_share_the_split_and_other_seeds_do_not(tiny_config, tiny_data):
    plain, over, other = (
        batch.prepare(c, root=tiny_data[1])
        for c in (tiny_config(), tiny_config(sampler="over-sample"), tiny_config(seed=1))
    )
    assert plain.split.sha256 == over.split.sha256 != other.split.sha256
    assert len({plain.key, over.key, other.key}) == 3


def test_a_mistyped_data_set_is_named_with_the_nearest_one(store):
    with pytest.raises(DatasetError, match="mnist5k"):
        batch.execute(plain_config(study="category_centers", dataset="mnist5"), store, progress=False)


def test_execute_stores_a_plain_record_and_removes_its_checkpoint(record, tiny_config):
    done, store = record
    on_disk = json.loads(store.path(done).read_text())
    assert on_disk["measurements"] == done.measurements
    assert on_disk["config"] == tiny_config().to_dict()
    assert on_disk["provenance"]["threads"] == 1
    assert on_disk["provenance"]["seconds"] > 0 and on_disk["provenance"]["peak_memory_mb"] > 0
    assert list(store.scratch.rglob("*.pt")) == []


def test_a_run_needs_no_measure_of_memory_that_a_system_lacks(monkeypatch):
    assert batch._peak_memory_mb(CPU) > 0
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert batch._peak_memory_mb(CPU) is None


def test_a_study_reads_the_network_that_another_has_trained(store, tmp_path, one_thread, monkeypatch):
    monkeypatch.setattr(networks, "SHARED_PROFILES", ("smoke",))
    steps = []
    real_step = training._Run._step

    def step(run, *arguments):
        steps.extend([1] * isinstance(run.recipe, RunConfig))  # a re-trained classifier has a plain recipe
        return real_step(run, *arguments)

    monkeypatch.setattr(training._Run, "_step", step)
    small = {"epochs": 1, "imbalance": "exponential-20", "imbalance_scale": 0.2}
    runs = [plain_config(study=study, **small) for study in ("complement_cross_entropy", "cnn_fragility")]
    run = functools.partial(batch.execute, root=tmp_path, device=CPU, progress=False)
    first, second = (run(config, store) for config in runs)
    one_training = len(steps)
    assert first.provenance["network"] | {"read": True} == second.provenance["network"]
    assert not first.provenance["network"]["read"]
    assert second.provenance["seconds"] >= sum(
        torch.load(next(tmp_path.glob("networks/*.pt")), weights_only=True)["seconds"]
    )
    alone = run(runs[1], RecordStore(tmp_path / "alone" / "results"), share=False)
    assert len(steps) == 2 * one_training
    assert alone.measurements == second.measurements and "network" not in alone.provenance
    other = run(plain_config(study="cnn_fragility", learning_rate=0.05, **small), store)
    assert not other.provenance["network"]["read"] and len(steps) == 3 * one_training


@pytest.mark.parametrize("damage", ["torn", "a flipped bit"])
def test_a_kept_network_that_cannot_be_read_is_warned_of_and_trained_anew(
    store, tmp_path, monkeypatch, damage
):
    monkeypatch.setattr(networks, "SHARED_PROFILES", ("smoke",))
    config = plain_config(study="cnn_fragility", epochs=1, imbalance="exponential-20", imbalance_scale=0.2)
    network = networks.network_file(batch.prepare(config, root=tmp_path))
    network.parent.mkdir()
    content = io.BytesIO()
    torch.save({"seconds": [1.0], "weights": torch.arange(999)}, content)
    content = bytearray(content.getvalue())
    content[len(content) // 2] ^= 1  # in the tensor, which torch reads without a word
    network.write_bytes(b"torn" if damage == "torn" else content)
    with pytest.warns(RuntimeWarning, match=f"network {network.name} is not used"):
        found = batch.execute(config, store, root=tmp_path, device=CPU, progress=False)
    assert not found.provenance["network"]["read"]
    assert torch.load(network, weights_only=True)["history"] == found.measurements["history"]


def test_an_interrupted_run_resumes_and_leaves_the_same_record(
    record, store, tiny_config, tiny_data, one_thread, monkeypatch
):
    config, root = tiny_config(), tiny_data[1]
    real_write = training.write_checkpoint

    def interrupted(*arguments):
        real_write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch.execute(config, store, root=root, device=CPU, progress=False)
    checkpoint = store.scratch / "checkpoints" / f"{batch.prepare(config, root=root).key}.pt"
    assert checkpoint.exists() and store.read() == []

    epochs = []
    monkeypatch.setattr(training, "write_checkpoint", lambda *a: epochs.append(1) or real_write(*a))
    resumed = batch.execute(config, store, root=root, device=CPU, progress=False)
    assert len(epochs) == 1, "only the second of two epochs is left to train"
    assert resumed.key == record[0].key
    assert resumed.measurements == record[0].measurements
    assert not checkpoint.exists()


def test_a_record_names_the_weights_that_its_run_started_from(store, tiny_config, tmp_path, monkeypatch):
    file = tmp_path / "weights" / "resnet34-b627a593.pth"
    file.parent.mkdir()
    file.write_bytes(b"some weights")
    study = SimpleNamespace(measure=lambda *_, **__: {"accuracy": 0.5})
    monkeypatch.setattr(batch, "get_study", lambda _: study)
    config = tiny_config(model="resnet34", pretrained=True, image_size=32)
    record = batch.execute(config, store, root=tmp_path, device=CPU, progress=False)
    assert record.provenance["weights"] == hashlib.sha256(b"some weights").hexdigest()
    assert "weights" not in batch.execute(tiny_config(), store, root=tmp_path, device=CPU).provenance


def noted(store):
    """Return the errors of the runs that failed, by the digest of their configuration."""
    return {
        path.stem: json.loads(path.read_text())["error"] for path in store.scratch.glob("failures/*/*/*.json")
    }


def test_processes_give_the_bits_of_one_process_and_a_failure_does_not_stop_them(
    record, store, tiny_config, tiny_data, one_thread, capfd
):
    # at full scale the tables ask for 4,000 images of a class, and the folder has 26
    good, bad = tiny_config(), tiny_config(seed=1, imbalance_scale=1.0)
    report = batch.run_grid([bad, good], store, jobs=2, root=tiny_data[1], progress=True)
    assert f"2/2 {good.label()}: done" in capfd.readouterr().err.replace(
        "1/2 " + good.label(), "2/2 " + good.label()
    )
    assert (report.done, report.kept, report.left) == (1, 0, 0)
    assert [failure.config for failure in report.failed] == [bad]
    assert "ValueError" in report.failed[0].tail and "class 0" in report.failed[0].tail
    assert store.find(good).measurements == record[0].measurements
    assert store.find(good).provenance["threads"] == 1
    assert noted(store) == {bad.digest(): report.failed[0].tail}
    again = batch.run_grid([good], store, jobs=2, root=tiny_data[1], progress=False)
    assert (again.done, again.kept, again.left, again.failed) == (0, 1, 0, [])


def test_a_grid_keeps_what_is_recorded_and_lists_what_failed(inline, store):
    grid = [plain_config(seed) for seed in (0, 1, 13, 2)]
    kept = store.write(plain_record(grid[0], seconds=99.0)).read_bytes()
    report = batch.run_grid(grid, store, progress=False)
    assert (report.done, report.kept, report.left) == (2, 1, 0)
    assert inline == grid[1:]
    (failure,) = report.failed
    assert failure.config == grid[2]
    assert failure.tail.endswith("FloatingPointError: the loss is NaN at epoch 2")
    assert 1 < len(failure.tail.splitlines()) <= 12
    assert noted(store) == {grid[2].digest(): failure.tail}
    assert store.path(plain_record(grid[0])).read_bytes() == kept

    inline.clear()
    second = batch.run_grid(grid, store, progress=False)
    assert inline == [grid[2]], "only the failed run is tried again"
    assert (second.done, second.kept, len(second.failed)) == (0, 3, 1)


def test_a_run_that_another_process_recorded_meanwhile_is_kept(inline, store, monkeypatch):
    grid = [plain_config(0), plain_config(1)]
    write = batch.execute

    def with_a_rival(config, store, **options):
        write(config, store)
        if config == grid[0]:
            store.write(plain_record(grid[1]))

    monkeypatch.setattr(batch, "execute", with_a_rival)
    report = batch.run_grid(grid, store, progress=False)
    assert (report.done, report.kept) == (1, 1)
    assert inline == [grid[0]]


def test_runners_that_share_a_grid_do_every_run_once_and_wait_for_each_other(inline, store, monkeypatch):
    write, grid, reports = batch.execute, [plain_config(seed) for seed in range(20, 44)], []
    monkeypatch.setattr(batch, "_LOOK", 0.05)

    def slowly(config, store, **options):
        time.sleep(0.05)
        write(config, store)

    def run():
        reports.append(batch.run_grid(grid, RecordStore(store.root), progress=False))

    monkeypatch.setattr(batch, "execute", slowly)
    runners = [threading.Thread(target=run) for _ in range(3)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert sorted(config.split_seed for config in inline) == list(range(20, 44)), "each once"
    assert [(r.done + r.kept, r.left, r.failed) for r in reports] == [(24, 0, [])] * 3
    assert max(report.done for report in reports) < 24, "they share it"


def test_temporary_files_of_killed_writers_are_swept_at_the_next_start(inline, store):
    old, new = (store.scratch / "checkpoints" / f".{name}.pt.1-ab.tmp" for name in "on")
    beside = store.root / "demo" / "smoke" / ".key.json.1-ab.tmp"
    for path in (old, new, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in (old, beside):
        os.utime(path, (1e9, 1e9))
    batch.run_grid([plain_config(0)], store, progress=False)
    assert new.exists() and not old.exists() and not beside.exists()


def test_a_worker_reads_each_record_once_whatever_the_number_of_its_runs(inline, store, monkeypatch):
    old = [store.write(plain_record(plain_config(seed))).name for seed in range(5)]
    reads, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or read_bytes(path))
    monkeypatch.setattr(batch, "execute", lambda config, store, **_: store.write(plain_record(config)))
    report = batch.run_grid([plain_config(seed) for seed in range(12)], store, progress=False)
    assert (report.kept, report.done) == (5, 7)
    assert [reads.count(name) for name in old] == [2] * 5, "once by the grid, and once by its one worker"
    assert max(reads.count(name) for name in set(reads)) == 2


def test_a_killed_worker_costs_its_own_run_only(store, monkeypatch):
    grid = [plain_config(seed) for seed in range(3)]

    @contextlib.contextmanager
    def executor(jobs):
        yield DyingPool()

    class DyingPool(InlinePool):
        broken = False

        def submit(self, function, config, *arguments):
            if self.broken:
                raise BrokenProcessPool("the pool is not usable anymore")
            if config == grid[0]:
                self.broken = True
                future = Future()
                future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
                return future
            return super().submit(function, config, *arguments)

    monkeypatch.setattr(batch, "worker_pool", executor)
    monkeypatch.setattr(batch, "execute", lambda config, store, **_: store.write(plain_record(config)))
    report = batch.run_grid(grid, store, progress=False)
    assert [failure.config for failure in report.failed] == [grid[0]]
    assert "terminated abruptly" in report.failed[0].tail
    assert (report.done, report.left) == (2, 0)
    assert noted(store) == {grid[0].digest(): report.failed[0].tail}


def test_a_run_beside_one_whose_process_dies_is_stopped_and_then_done(store, tmp_path, monkeypatch, capfd):
    grid = [plain_config(seed) for seed in range(3)]
    monkeypatch.setattr(batch, "_work", dying_workers.work)
    report = batch.run_grid(grid, store, jobs=2, root=tmp_path)
    assert [failure.config for failure in report.failed] == [grid[dying_workers.DIES]]
    assert (report.done, report.left) == (2, 0)
    assert noted(store).keys() == {grid[dying_workers.DIES].digest()}
    assert capfd.readouterr().err.count("tried again alone") == 2


def test_a_process_whose_device_is_lost_fails_one_run_and_does_no_other(store, monkeypatch):
    grid, pools = [plain_config(seed) for seed in range(4)], []

    @contextlib.contextmanager
    def executor(jobs):
        pools.append([])
        yield InlinePool()

    def execute(config, store, **_):
        pools[-1].append(config.split_seed)
        if config == grid[1] or len(pools[-1]) > 2:  # one run breaks the device of its process, for good
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        store.write(plain_record(config))

    monkeypatch.setattr(batch, "worker_pool", executor)
    monkeypatch.setattr(batch, "execute", execute)
    report = batch.run_grid(grid, store, progress=False)
    assert pools == [[0, 1], [2, 3]]
    assert [failure.config for failure in report.failed] == [grid[1]] and report.done == 3
    assert "illegal memory access" in noted(store)[grid[1].digest()]


def test_no_run_is_started_that_does_not_fit_into_the_minutes(inline, store, monkeypatch):
    now = [0.0]
    write, clock = batch.execute, batch._Clock

    def takes_20_seconds(config, store, **options):
        write(config, store)
        now[0] += 20

    monkeypatch.setattr(batch, "execute", takes_20_seconds)
    monkeypatch.setattr(batch, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(batch, "_Clock", lambda minutes: clock(minutes, start=0.0))
    grid = [plain_config(seed) for seed in range(6)]
    report = batch.run_grid(grid, store, minutes=1.1, progress=False)  # 66 seconds
    assert (report.done, report.left) == (3, 3)
    assert inline == grid[:3], "in the order of the grid"
    assert now[0] <= 66
    later = batch.run_grid(grid, store, minutes=None, progress=False)
    assert (later.done, later.kept, later.left) == (3, 3, 0)


def test_the_clock_expects_the_longest_run_of_the_same_kind():
    quick, slow, new = plain_config(), plain_config(epochs=50), plain_config(model="resnet20")
    clock = batch._Clock(1.0, start=time.perf_counter() - 30)
    assert clock.fits(quick), "nothing is known yet"
    clock.note(quick, 25.0)
    clock.note(quick, 5.0)
    clock.note(slow, 31.0)
    assert clock.fits(quick)
    assert not clock.fits(slow)
    assert not clock.fits(new), "a kind that has not run yet may take as long as the longest so far"
    assert not batch._Clock(1.0, start=time.perf_counter() - 61).fits(quick), "the time is up"


@pytest.mark.parametrize("jobs", [0, -1])
def test_a_number_of_jobs_below_one_is_refused(store, jobs):
    with pytest.raises(ValueError, match="positive number or 'auto'"):
        batch.run_grid([plain_config()], store, jobs=jobs)


def test_never_more_processes_than_runs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert batch._number_of_jobs(8, 3) == 3
    assert batch._number_of_jobs("auto", 100) == 1


def test_plan_sums_the_median_seconds_of_runs_alike(store):
    for seed, seconds in enumerate([10.0, 12.0, 90.0]):
        store.write(plain_record(plain_config(seed), seconds))
    like = [plain_config(seed) for seed in range(5)]
    unlike = plain_config(epochs=77)
    found = planning.plan([*like, unlike], store, planning.recorded_seconds(store))
    assert (found.total, found.recorded) == (6, 3)
    assert found.missing == [*like[3:], unlike]
    assert found.estimated_seconds == 24.0  # two runs of the median, 12 seconds
    assert "for 2 of 3 missing runs" in found.basis


def test_plan_asks_a_probe_once_for_each_kind_that_was_never_recorded(store):
    store.write(plain_record(plain_config(0), 10.0))
    new, asked = [plain_config(seed, epochs=77) for seed in range(3)], []
    found = planning.plan(
        [plain_config(1), *new],
        store,
        planning.recorded_seconds(store),
        lambda config: asked.append(config) or 50.0,
    )
    assert asked == new[:1] and found.estimated_seconds == 160.0
    assert "for 1 of 4 missing runs; a short training on this machine, for 3" in found.basis


@pytest.mark.parametrize(
    "changes", [{}, {"sampler": "over-sample"}, {"loss": "ldam"}, {"schedule": "plateau-zhang"}]
)
def test_a_probe_is_near_the_time_of_the_run_itself(tiny_config, tiny_data, one_thread, changes):
    config = tiny_config(epochs=40, **changes)
    prepared = batch.prepare(config, root=tiny_data[1])
    start = time.perf_counter()
    run = train_run(prepared, device=CPU, progress=False)
    taken = time.perf_counter() - start
    assert sum(run.result.seconds) <= taken
    found = probe(config, seconds=0.01, root=tiny_data[1])
    assert 0.1 * sum(run.result.seconds) < found < 20 * taken, "the machine may be busy now and idle then"


def test_a_probe_ends_when_a_part_takes_a_third_of_its_time(tiny_config, tiny_data, monkeypatch):
    sizes = []

    def slow(network, inputs, labels, recipe, *, progress, **_):
        sizes.append(len(labels))
        progress(FitResult(seconds=[10.0 * len(labels)]), len(labels))

    monkeypatch.setattr(probing, "fit", slow)
    config = tiny_config(imbalance="exponential-4", imbalance_scale=1.0, epochs=7)
    images = len(batch.prepare(config, root=tiny_data[1]).split.train)
    assert probe(config, seconds=1.0, root=tiny_data[1]) == pytest.approx(70.0 * images)
    assert sizes == [images], "this training side is one part by itself"


def test_plan_passes_over_a_record_that_it_cannot_use_and_names_it(store):
    for seed in range(3):
        path = store.write(plain_record(plain_config(seed), 10.0))
    value = json.loads(path.read_text())
    del value["provenance"]["seconds"]
    path.write_text(json.dumps(value))
    older = json.loads(store.path(plain_record(plain_config(0))).read_text())
    del older["config"]["frozen"], older["provenance"]["sha256"]  # written before that field was
    store.path(plain_record(plain_config(0))).write_text(json.dumps(older))
    with pytest.warns(SkippedRecordWarning, match=f"skipped 1 of 3 .*{path.name}: damaged: provenance lacks"):
        found = planning.plan(
            [plain_config(seed) for seed in range(4)], store, planning.recorded_seconds(store)
        )
    assert (found.recorded, found.estimated_seconds) == (2, 20.0)


def test_plan_says_when_nothing_is_known_and_when_nothing_is_missing(store):
    config = plain_config()
    unknown = planning.plan([config], store, planning.recorded_seconds(store))
    assert unknown.estimated_seconds is None and "not known" in unknown.basis
    store.write(plain_record(config))
    complete = planning.plan([config], store, planning.recorded_seconds(store))
    assert (complete.recorded, complete.missing) == (1, [])
    assert complete.estimated_seconds is None and complete.basis == "nothing is missing"
