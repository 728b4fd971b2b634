"""Claims: a run is trained by one runner at a time, and what a dead one held is taken over."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from sample_records import run_config

from imbal_book.grid import claims as module
from imbal_book.grid.claims import Claims, note_progress


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "claims"


def place(folder):
    (path,) = folder.rglob("[!.]*.json")
    return path


def left_by(folder, host, process, seconds_ago):
    """Leave the claim of another runner."""
    with Claims(folder) as gone:
        gone.take(run_config())
        content = json.loads(place(folder).read_text()) | {"host": host, "process": process, "token": "other"}
        place(folder).write_text(json.dumps(content))
    then = time.time() - seconds_ago
    os.utime(place(folder), (then, then))


def test_of_many_runners_at_once_one_gets_a_run(folder):
    runners = [Claims(folder) for _ in range(8)]
    took, barrier = [], threading.Barrier(8)

    def try_all(runner):
        barrier.wait(60)
        took.extend((seed, runner) for seed in range(20) if runner.take(run_config(seed)))

    threads = [threading.Thread(target=try_all, args=(runner,)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seed for seed, _ in took) == list(range(20))


def test_a_claim_is_given_back_when_the_run_or_the_runner_ends(folder):
    with Claims(folder) as mine, Claims(folder) as other:
        assert mine.take(run_config(0)) and mine.take(run_config(1))
        assert not other.take(run_config(0)) and not other.take(run_config(1))
        mine.release(run_config(0))
        assert other.take(run_config(0))
        mine.release(run_config(0))
        assert not mine.take(run_config(0)), "what another runner holds is not given back"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == []


def test_a_claim_without_a_sign_of_life_is_taken_over_by_one(folder):
    left_by(folder, "elsewhere", 1, seconds_ago=60)
    assert not Claims(folder, expiry=120).take(run_config())
    left = json.loads(place(folder).read_text())
    assert left["host"] == "elsewhere" and Claims(folder).holder(run_config()).startswith(
        "elsewhere, process 1, since 2"
    )
    runners = [Claims(folder, expiry=30) for _ in range(4)]
    assert sum(runner.take(run_config()) for runner in runners) == 1


def test_the_age_of_a_claim_is_that_of_the_file_system_whatever_this_machine_s_clock_says(
    folder, monkeypatch
):
    left_by(folder, "elsewhere", 1, seconds_ago=0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    assert not Claims(folder).take(run_config())


def test_the_claim_of_a_process_that_is_gone_from_this_machine_is_taken_over_at_once(folder):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left_by(folder, module.socket.gethostname(), ended.pid, seconds_ago=0)
    assert Claims(folder).take(run_config())
    left_by(folder / "2", module.socket.gethostname(), os.getppid(), seconds_ago=0)
    assert not Claims(folder / "2").take(run_config())


def test_a_claim_that_changed_hands_between_the_look_and_the_rename_stays_with_its_new_holder(
    folder, monkeypatch
):
    left_by(folder, "elsewhere", 1, seconds_ago=1000)
    rename = os.rename

    def meanwhile(source, target):
        source.write_text('{"token": "new"}')
        rename(source, target)

    monkeypatch.setattr(os, "rename", meanwhile)
    assert not Claims(folder).take(run_config())
    assert json.loads(place(folder).read_text()) == {"token": "new"}


def test_a_claim_is_renewed_while_its_runner_lives(folder):
    with Claims(folder, expiry=8) as mine:
        assert mine.take(run_config())
        then = time.time() - 100
        os.utime(place(folder), (then, then))
        deadline = time.monotonic() + 120
        while place(folder).stat().st_mtime == pytest.approx(then, abs=1) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert place(folder).stat().st_mtime > then + 50


def test_progress_is_read_as_it_was_noted_and_ends_with_the_run(folder):
    with Claims(folder) as mine:
        mine.take(run_config())
        assert mine.progress(run_config()) == {}
        told = {
            "epoch": 2,
            "loss": 0.5,
            "images_per_second": 9.0,
            "seconds_of_epoch": 1.0,
            "seconds_left": 2.0,
        }
        note_progress(folder, run_config(), **told)
        assert mine.progress(run_config()) == told
        mine.release(run_config())
        assert mine.progress(run_config()) == {}


def test_on_windows_no_process_is_asked_for_since_that_would_stop_it(folder, monkeypatch):
    """Signal 0 is Ctrl-C there; a claim's age alone tells."""
    left_by(folder, module.socket.gethostname(), 2**22 + 1, seconds_ago=60)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was sent a signal"))
    assert not Claims(folder, expiry=120).take(run_config())
    assert Claims(folder, expiry=30).take(run_config())


@pytest.mark.parametrize("step", ["rename", "unlink"])
def test_a_claim_that_somebody_reads_on_windows_ends_no_grid(folder, monkeypatch, step):
    def refuse(*_, **__):
        raise PermissionError(13, "The process cannot access the file")

    if step == "rename":
        left_by(folder, "elsewhere", 1, seconds_ago=1000)
        monkeypatch.setattr(os, "rename", refuse)
        assert not Claims(folder).take(run_config()), "it is asked for again at the next look"
    else:
        with Claims(folder) as mine:
            assert mine.take(run_config())
            monkeypatch.setattr(os, "unlink", refuse)
            monkeypatch.setattr(type(folder), "unlink", refuse)
            mine.release(run_config())
            monkeypatch.undo()
    monkeypatch.undo()
    assert place(folder).is_file()
