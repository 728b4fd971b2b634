import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from leaf_photos import write_plant
from PIL import Image
from typer.testing import CliRunner

from imbal_book import studies
from imbal_book.build import book, cli, notebooks
from imbal_book.grid import batch, verify
from imbal_book.grid.batch import Failure, GridReport
from imbal_book.run.config import RunConfig
from imbal_book.run.provenance import provenance
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_core.data import plantvillage_files

CHECKOUT = Path(__file__).parents[3]
TINY = RunConfig(
    study="category_centers",
    profile="smoke",
    dataset="mnist5k",
    imbalance="zhang-a",
    imbalance_scale=0.02,
    model="small_cnn",
    epochs=1,
    batch_size=32,
)
# A process of its own with a grid of a few small runs; everything else is the command as users start it.
COMMAND = """
import dataclasses, sys
from imbal_book import studies
from imbal_book.build import cli
from imbal_book.run.config import RunConfig

tiny = RunConfig.from_dict({fields!r})
studies.build_grid = lambda study, profile: [
    dataclasses.replace(tiny, train_seed=seed) for seed in range({runs})
]
cli.app()
"""


def tiny_grid(runs):
    return [dataclasses.replace(TINY, train_seed=seed) for seed in range(runs)]


def start(runs, *arguments, fields=TINY, **options):
    code = COMMAND.format(fields=fields.to_dict(), runs=runs)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def children(process):
    """Return the processes that a process started, as Linux lists them."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    found = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, parent, state in found if int(parent) == process and "Z" not in state]


def alive(process):
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes live")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_says_what_it_keeps_and_leaves_no_process(data, tmp_path, number):
    long = dataclasses.replace(TINY, epochs=100_000)
    command = start(3, "run", "category_centers", "--results", str(tmp_path / "results"), fields=long)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "_build").rglob("*.progress")) and time.monotonic() < deadline:
        time.sleep(0.2)
    workers = children(command.pid)
    assert workers
    command.send_signal(number)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 128 + number, output
    assert "stopped: 0 of 3 runs are recorded" in output and f"stopped by {number.name}" in output
    assert "Traceback" not in output
    deadline = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    assert len(list((tmp_path / "_build" / "checkpoints").glob("*.pt"))) == 1
    assert not [path for path in (tmp_path / "_build" / "claims").rglob("*") if path.is_file()]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal that hangs up here")
def test_what_nohup_ignores_stays_ignored_and_handlers_are_put_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        with cli._stoppable():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != before[1]
        assert signal.getsignal(signal.SIGTERM) == before[1]
    finally:
        signal.signal(signal.SIGHUP, before[0])


def imbal(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def a_record(config, seconds=3600.0):
    data = {"train": "a" * 64, "test": "b" * 64}
    return Record.of_run(config, data, "c" * 64, {"accuracy": 0.5}, provenance("cpu", seconds, threads=1))


@pytest.fixture
def data(digits, monkeypatch):
    monkeypatch.setenv("IMBAL_DATA", str(digits))
    return digits


@pytest.fixture
def results(tmp_path):
    return tmp_path / "home" / "results"


@pytest.fixture
def grid(monkeypatch):
    """Let every study have the runs that the test says."""

    def set_grid(configs):
        monkeypatch.setattr(studies, "build_grid", lambda study, profile: configs)

    return set_grid


@pytest.fixture
def calls(monkeypatch):
    """Replace the training of a grid; returns what it was called with."""
    seen = {}

    def run_grid(configs, store, **options):
        seen.update(options, configs=list(configs), root_of_store=store.root)
        return GridReport(done=len(configs))

    monkeypatch.setattr(batch, "run_grid", run_grid)
    return seen


COMMANDS = [
    "data",
    "data splits",
    "plan",
    "run",
    "pack",
    "records",
    "records add",
    "records list",
]


@pytest.mark.parametrize("command", ["", *COMMANDS, "notebook", "book", "verify"])
def test_every_command_has_a_help_with_an_example(command):
    result = imbal(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"imbal {command}".strip() in result.output or command == "records"


def test_help_needs_no_torch():
    code = "import sys, imbal_book.build.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan categry_centers", "unknown study 'categry_centers': did you mean 'category_centers'?"),
        ("run categry_centers", "unknown study 'categry_centers': did you mean 'category_centers'?"),
        ("run category_centers --profile labtop", "unknown profile 'labtop': did you mean 'laptop'?"),
        ("run category_centers --only smapler=x", "unknown field of a run 'smapler': did you mean 'sampler'"),
        ("run category_centers --only sampler=oversample", "did you mean 'over-sample'"),
        ("run category_centers --only sampler", "'sampler' is not FIELD=VALUE"),
        ("run category_centers --jobs many", "--jobs 'many': expected a positive number or auto"),
        ("run", "which study?"),
        ("pack category_centers --profile papre --out x.zip", "did you mean 'paper'?"),
        ("verify categry_centers", "did you mean 'category_centers'?"),
        ("records list categry_centers", "did you mean 'category_centers'?"),
        ("records add nowhere", "nowhere is neither a folder nor a zip"),
        ("data cifar11", "did you mean 'cifar10'"),
        ("data cifar10 --from nowhere.tar.gz", "--from nowhere.tar.gz: no such file or folder"),
        ("data cifar10 --sha256 00", "--sha256: only PlantVillage's archive is checked by it, not cifar10"),
        ("data plantvilage", "did you mean 'plantvillage'"),
        ("data cifar10 --from /dev/zero", "--from /dev/zero: neither a file nor a folder"),
        ("data plantvillage --from /dev/zero", "/dev/zero: neither a file nor a folder"),
        ("data folder:", "'folder:' has no path; write it after the colon"),
        ("data plantvillage --from nowhere.zip", "nowhere.zip: no such file or folder"),
        ("data plantvillage-apple:Apple_scap --from .", "did you mean 'Apple_scab'"),
        (
            "data splits mnist5k --imbalance zhang-a --seeds 2-x --out x",
            "seeds '2-x': expected whole numbers",
        ),
    ],
)
def test_wrong_input_ends_with_one_line_and_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = imbal(*arguments.split())
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.startswith("imbal: ") and len(result.output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_came_from():
    result = imbal("--debug", "plan", "categry_centers")
    assert isinstance(result.exception, ValueError)


def test_a_package_that_is_not_installed_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(
        book,
        "find_notebook",
        lambda name: (_ for _ in ()).throw(
            ModuleNotFoundError("No module named 'papermill'", name="papermill")
        ),
    )
    result = imbal("notebook", "category_centers")
    assert result.exit_code == 2
    assert "papermill is not installed; pip install 'imbal-core[" in result.output


def test_plan_counts_runs_and_estimates_from_recorded_seconds(grid, results):
    grid(tiny_grid(3))
    RecordStore(results).write(a_record(TINY))
    result = imbal("plan", "category_centers", "--results", results)
    assert result.exit_code == 0
    assert "3 runs, 1 recorded, 2 missing" in result.output
    assert "about 2.00 device-hours" in result.output


def test_only_keeps_the_runs_with_the_asked_values(calls, results):
    only = "sampler=over-sample,imbalance=zhang-a,imbalance=ZHANG-C,split_seed=1"
    assert imbal("run", "category_centers", "--only", only, "--results", results).exit_code == 0
    found = {(config.sampler, config.imbalance, config.split_seed) for config in calls["configs"]}
    assert found == {("over-sample", "zhang-a", 1), ("over-sample", "zhang-c", 1)}


def test_run_passes_its_options_on(calls, grid, results):
    grid(tiny_grid(2))
    result = imbal("run", "category_centers", "--jobs", "auto", "--minutes", "7.5", "--results", results)
    assert "2 trained, 0 recorded before, 0 failed" in result.output
    assert (calls["jobs"], calls["minutes"], calls["root_of_store"]) == ("auto", 7.5, results)
    imbal("run", "category_centers", "--jobs", "3")
    assert calls["jobs"] == 3


def test_runs_that_did_not_fit_are_reported_and_are_no_failure(grid, monkeypatch):
    grid(tiny_grid(3))
    monkeypatch.setattr(batch, "run_grid", lambda *_, **__: GridReport(done=1, left=2))
    result = imbal("run", "category_centers")
    assert result.exit_code == 0
    assert "1 trained, 0 recorded before, 0 failed, 2 left for the next start" in result.output


def test_failures_are_listed_with_the_tail_of_each_error(grid, monkeypatch):
    configs = tiny_grid(2)
    report = GridReport(
        done=3, failed=[Failure(configs[0], "line\nBoom: one"), Failure(configs[1], "Bang: two")]
    )
    monkeypatch.setattr(batch, "run_grid", lambda *_, **__: report)
    grid(configs)
    result = imbal("run", "category_centers")
    assert result.exit_code == 1
    assert "3 trained, 0 recorded before, 2 failed" in result.output
    assert f"1. {configs[0].label()}\n   | line\n   | Boom: one" in result.output
    assert f"2. {configs[1].label()}\n   | Bang: two" in result.output


def test_a_run_without_its_images_fails_and_the_others_are_trained(grid, data, results):
    absent = dataclasses.replace(TINY, dataset="fashion_mnist")
    grid([absent, TINY])
    result = imbal("run", "category_centers", "--results", results)
    assert result.exit_code == 1
    assert "1 trained, 0 recorded before, 1 failed" in result.output
    assert "DatasetError: no images of fashion_mnist in the data root" in result.output
    assert RecordStore(results).missing([absent, TINY]) == [absent]


def test_two_processes_with_the_same_run_leave_one_record_and_a_third_trains_nothing(grid, data, results):
    both = [start(1, "run", "category_centers", "--results", str(results)) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    said = sorted(output.splitlines()[-1] for output in outputs)
    assert said == ["0 trained, 1 recorded before, 0 failed", "1 trained, 0 recorded before, 0 failed"]
    (file,) = results.rglob("*.json")
    before = file.read_bytes(), file.stat().st_mtime_ns
    grid([TINY])
    third = imbal("run", "category_centers", "--results", results)
    assert "0 trained, 1 recorded before, 0 failed" in third.output
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_a_killed_grid_goes_on_with_its_records_untouched(grid, data, results):
    process = start(4, "run", "category_centers", "--results", str(results), start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(results.glob("*/*/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    output = process.communicate()[0]
    early = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results.glob("*/*/*.json")}
    assert process.returncode == -signal.SIGKILL and 1 <= len(early) < 4, output
    grid(tiny_grid(4))
    again = imbal("run", "category_centers", "--results", results)
    assert again.exit_code == 0, again.output
    assert f"{4 - len(early)} trained, {len(early)} recorded before, 0 failed" in again.output
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in early} == early
    assert len(list(results.glob("*/*/*.json"))) == 4


def test_pack_and_run_of_a_bundle(grid, calls, data, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid([TINY])
    packed = imbal("pack", "category_centers", "--out", "grid.zip", "--max-mb", "0.2", "--results", results)
    assert packed.exit_code == 0, packed.output
    parts = sorted(tmp_path.glob("grid-*.zip"))
    assert len(parts) > 1 and all(path.name in packed.output for path in parts)
    options = [text for path in parts for text in ("--bundle", path.name)]
    assert imbal("run", *options).exit_code == 0
    assert calls["configs"] == [TINY]
    assert calls["root_of_store"] == Path("results")
    assert (calls["root"] / "mnist5k" / "train.npz").is_file()
    assert imbal("run", "category_centers", *options).exit_code == 0
    other = imbal("run", "category_centers", "--profile", "paper", *options)
    assert other.exit_code == 2 and "unknown profile in this grid 'paper': Valid: 'smoke'" in other.output


def test_records_that_come_back_are_added_and_foreign_files_refused_by_name(results, tmp_path):
    record = a_record(TINY)
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        archive.writestr("a.json", record.to_json())
        archive.writestr("foreign.json", json.dumps({"hello": 1}))
    result = imbal("records", "add", tmp_path / "back.zip", "--results", results)
    assert result.exit_code == 1
    assert "1 added, 0 there already, 1 refused" in result.output
    assert "refused foreign.json: foreign" in result.output
    listed = imbal("records", "list", "category_centers", "--results", results)
    assert record.key in listed.output and "1 records" in listed.output


def test_a_torn_record_is_named_without_a_traceback(grid, results):
    grid(tiny_grid(1))
    path = RecordStore(results).write(a_record(TINY))
    path.write_text(path.read_text()[:50])
    result = imbal("plan", "category_centers", "--results", results)
    assert result.exit_code == 0
    assert "imbal: note: skipped 1 of 1 files" in result.output and path.name in result.output


def test_data_lists_checks_and_copies(data, tmp_path, monkeypatch):
    listing = imbal("data")
    assert re.search(r"mnist5k +prepared", listing.output)
    assert re.search(r"cifar10 +not here yet", listing.output)
    assert re.search(r"plantvillage-apple +not here yet", listing.output)
    assert imbal("data", "--list").output == listing.output
    shown = imbal("data", "mnist5k")
    assert "mnist5k train: 4,000 images of 32x32, 10 classes of 400 to 400, fingerprint" in shown.output
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "other"))
    copied = imbal("data", "mnist5k", "--from", data / "mnist5k")
    assert copied.exit_code == 0 and copied.output == shown.output
    archive = tmp_path / "mnist5k.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for split in ("train", "test"):
            zipped.write(data / "mnist5k" / f"{split}.npz", f"mnist5k/{split}.npz")
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "third"))
    assert imbal("data", "mnist5k", "--from", archive).output == shown.output


def test_data_shows_the_classes_of_a_folder_and_what_it_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "data"))
    for side, numbers in (("Training", (3, 2)), ("Testing", (1, 1))):
        for label, number in zip(("cat", "dog"), numbers, strict=True):
            folder = tmp_path / "pets" / side / label
            folder.mkdir(parents=True)
            (folder / ".DS_Store").write_bytes(b"junk")
            for i in range(number):
                Image.new("RGB", (8, 8), (i, 9, 9)).save(folder / f"{i}.png")
    shown = imbal("data", f"folder:{tmp_path / 'pets'}")
    assert shown.exit_code == 0
    assert "train: 5 images of 64x64, 2 classes of 2 to 3" in shown.output
    assert "\n  cat 3, dog 2\n  left out: .DS_Store (2)\n" in shown.output
    assert "test: 2 images" in shown.output and "\n  cat 1, dog 1\n" in shown.output
    (tmp_path / "pets" / "Testing").rename(tmp_path / "pets" / "Val")
    drawn = imbal(
        "data", "splits", f"folder:{tmp_path / 'pets'}", "--imbalance", "natural", "--out", tmp_path / "s"
    )
    assert drawn.exit_code == 2 and "beside Training/ there is Val" in drawn.output
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("charset", "folder", "label", "shown"),
    [
        ("utf-8", b"caf\xe9", "cat", [r"caf\udce9 train: 2 images", "cat 1, dog 1"]),
        ("cp1252", b"pets", "猫", ["pets train: 2 images", r"dog 1, \u732b 1"]),
    ],
)
def test_a_name_that_the_console_cannot_show_is_shown_by_its_codes(
    tmp_path, monkeypatch, charset, folder, label, shown
):
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "data"))
    pets = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + folder))
    for name in (label, "dog"):
        (pets / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(pets / name / "0.png")
    result = CliRunner(charset=charset).invoke(cli.app, ["data", f"folder:{pets}"])
    assert result.exit_code == 0, result.output
    assert all(text in result.output for text in shown), result.output


@pytest.mark.parametrize("command", ["records list", "data"])
def test_a_reader_that_stops_reading_gets_no_message(command, results):
    """As `imbal records list | head -1` does, which closes the pipe after a line."""
    RecordStore(results).write(a_record(TINY))
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "imbal_book.build.cli", *command.split()]
    words += ["--results", str(results)] if command.startswith("records") else []
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
    os.close(writer)
    assert done.stderr == ""


def test_data_takes_plantvillage_from_a_copy_and_lists_what_is_odd(tmp_path, monkeypatch):
    monkeypatch.setattr(plantvillage_files, "MINIMUM", {"healthy": 6, "diseased": 9})
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "data"))
    files = write_plant(tmp_path / "copy" / "color")
    files[0].with_name("ffff___CAM_again 1.JPG").write_bytes(files[0].read_bytes())
    result = imbal("data", "plantvillage", "--from", tmp_path / "copy")
    assert result.exit_code == 0, result.output
    assert "plantvillage-apple train: 15 images of 128x128, 2 classes of 6 to 9, fingerprint" in result.output
    assert "healthy: 6 images, 0 of them with a known leaf" in result.output
    assert "diseased: 9 images (Apple_scab 3, Black_rot 3, Cedar_apple_rust 3)" in result.output
    assert f"Apple___healthy/{files[0].name} = Apple___healthy/ffff___CAM_again 1.JPG" in result.output
    assert "pepper" not in result.output
    assert imbal("data", "plantvillage").output == result.output, "what is here is not downloaded"
    one = imbal("data", "plantvillage-apple:Black_rot")
    assert "plantvillage-apple:Black_rot train: 9 images" in one.output
    assert re.search(r"plantvillage-apple +prepared", imbal("data").output)
    refused = imbal("data", "plantvillage", "--sha256", "0" * 64)
    assert refused.exit_code == 2 and "--sha256: nothing is downloaded" in refused.output
    drawn = imbal("data", "splits", "plantvillage-apple", "--imbalance", "rare-3-1", "--out", tmp_path / "s")
    assert drawn.exit_code == 2 and "+ 150 test images, the pool has 6" in drawn.output


def test_data_downloads_plantvillage_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "data"))
    asked = []

    def download(root, sha256=None):
        asked.append(sha256)
        write_plant(root / "plantvillage" / "color", "pepper")

    monkeypatch.setattr(plantvillage_files, "download_plantvillage", download)
    result = imbal("data", "plantvillage", "--sha256", "1" * 64)
    assert "plantvillage-pepper train: 9 images" in result.output and asked == ["1" * 64]


def test_data_splits_writes_one_file_per_seed(data, tmp_path):
    result = imbal(
        "data",
        "splits",
        "mnist5k",
        "--imbalance",
        "step-10",
        "--seeds",
        "0-1,4",
        "--out",
        tmp_path / "splits",
    )
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "splits").iterdir())
    assert [json.loads(path.read_text())["seed"] for path in files] == [0, 1, 4]
    assert result.output.split() == [str(path) for path in files]


def test_notebook_and_book_call_the_execution_with_their_options(monkeypatch, tmp_path):
    seen = {}
    source = tmp_path / "notebooks" / "category_centers.ipynb"
    monkeypatch.setattr(book, "find_notebook", lambda name: source)
    monkeypatch.setattr(
        notebooks, "run_notebook", lambda *arguments, repo: seen.setdefault("notebook", arguments)[1]
    )
    monkeypatch.setattr(book, "build_book", lambda **options: seen.update(book=options))
    assert imbal("notebook", "category_centers", "-p", "PROFILE=smoke", "-p", "LIVE=false").exit_code == 0
    target = tmp_path / "_build" / "notebooks" / source.name
    assert seen["notebook"] == (source, target, {"PROFILE": "smoke", "LIVE": False})
    assert imbal("book", "--no-live", "--profile", "paper", "--train", "--jobs", "3").exit_code == 0
    assert seen["book"] == {"live": False, "profile": "paper", "train": True, "jobs": 3}


def test_the_book_keeps_the_copy_that_the_notebook_command_made_of_the_same_records(
    monkeypatch, tmp_path, capfd
):
    source = tmp_path / "notebooks" / "category_centers.ipynb"
    source.parent.mkdir()
    parameters = 'PROFILE = "best"\nTRAIN = False\nLIVE = True'
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text("{}")
    copy = tmp_path / "_build" / "book" / "notebooks" / source.name
    monkeypatch.setattr(book, "find_notebook", lambda name: source)
    monkeypatch.setattr(notebooks, "_execute", lambda source, copy, *_: shutil.copy(source, copy))
    words = ("-p", "PROFILE=smoke", "-p", "LIVE=false", "--out", str(copy))
    assert imbal("notebook", "category_centers", *words).exit_code == 0
    values = {
        "PROFILE": "smoke",
        "TRAIN": False,
        "LIVE": False,
    }  # as `imbal book --no-live --profile smoke` gives
    notebooks.run_notebook(source, copy, values, repo=tmp_path, reuse=True)
    assert "nothing changed since the last execution" in capfd.readouterr().out


@pytest.mark.parametrize(("agrees", "code"), [(True, 0), (False, 1)])
def test_verify_prints_each_check_and_fails_on_a_difference(monkeypatch, results, agrees, code):
    check = verify.Check("k" * 16, "a run", agrees, True, "the detail")
    asked = {}

    def fake(store, sample, **options):
        asked.update(options, sample=sample)
        return verify.VerifyReport(9, [check])

    monkeypatch.setattr(verify, "verify", fake)
    result = imbal("verify", "--sample", "1", "--seed", "5", "--results", results)
    assert result.exit_code == code
    assert f"{'agrees' if agrees else 'DIFFERS'}" in result.output and "a run: the detail" in result.output
    assert (asked["sample"], asked["seed"], asked["profile"], asked["study"]) == (1, 5, "laptop", None)
