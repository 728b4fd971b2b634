"""Workers end with the process that started them, whatever they and it are busy with."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from imbal_book.grid import workers

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes live")
# A parent whose worker says its number; both go on for long.
PARENT = """
import ctypes, multiprocessing, os, time
from imbal_book.grid.workers import end_with_parent

def hold_the_interpreter(seconds):
    ctypes.PyDLL(None).sleep(seconds)  # no other thread of the process runs meanwhile

def number_and(busy):
    end_with_parent()
    os.write(1, f"{{os.getpid()}}\\n".encode())
    busy(600)

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=number_and, args=({busy},))
    worker.start()
    worker.join()
"""
# The same with joblib's workers, as notebooks run.
JOBLIB = """
import os, time
from joblib import Parallel, delayed
from imbal_book.grid.workers import end_with_parent

def number_and(busy):
    end_with_parent()
    os.write(1, f"{os.getpid()}\\n".encode())
    busy(600)

if __name__ == "__main__":
    Parallel(n_jobs=2)(delayed(number_and)(time.sleep) for _ in range(2))
"""


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    with contextlib.suppress(OSError):
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def seconds_after_a_kill(script: Path, source: str, **environment: str) -> float:
    """Return how long workers live on when their parent is killed; they are ended after ten seconds."""
    script.write_text(source)
    command, environment = [sys.executable, str(script)], {**os.environ, **environment}
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    listed = [int(parent.stdout.readline()) for _ in range(2 if "joblib" in source else 1)]
    parent.kill()
    start = time.monotonic()
    parent.wait()
    while any(map(alive, listed)) and time.monotonic() < start + 10:
        time.sleep(0.02)
    taken = time.monotonic() - start
    for process in filter(alive, listed):
        os.kill(process, signal.SIGKILL)
    return taken


@linux
@pytest.mark.parametrize("busy", ["time.sleep", "hold_the_interpreter"])
def test_workers_end_within_two_seconds_of_their_parent_whatever_they_do(tmp_path, busy):
    assert seconds_after_a_kill(tmp_path / "parent.py", PARENT.format(busy=busy)) < 2


@linux
def test_notebooks_workers_end_with_their_parent_too(tmp_path):
    assert seconds_after_a_kill(tmp_path / "parent.py", JOBLIB) < 2


@linux
@pytest.mark.parametrize("source", [PARENT.format(busy="time.sleep"), JOBLIB], ids=["pool", "joblib"])
def test_workers_end_where_no_kernel_helps(tmp_path, source):
    """As on macOS and Windows, where a thread waits for the parent."""
    no_option = "from imbal_book.grid import workers; workers._PR_SET_PDEATHSIG = 0\n"
    assert seconds_after_a_kill(tmp_path / "parent.py", no_option + source) < 5


@linux
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_workers_end_when_anything_ends_the_grid(error):
    with pytest.raises(error), workers.worker_pool(1) as pool:
        worker = pool.submit(os.getpid).result()
        pool.submit(time.sleep, 600)
        raise error
    assert not alive(worker)


def test_a_worker_of_the_pool_is_to_end_with_its_parent(monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "end_with_parent", lambda: asked.append("watched"))
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=asked.append))
    workers._start_worker(3)
    assert asked == ["watched", 3]


def test_a_process_that_is_no_worker_has_no_parent_to_end_with(monkeypatch):
    monkeypatch.setattr(workers.threading, "Thread", lambda **_: pytest.fail("waits for a parent"))
    workers.end_with_parent()


def test_a_worker_watches_its_parent_before_it_loads_what_takes_seconds():
    code = "import sys, imbal_book.grid.workers; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
