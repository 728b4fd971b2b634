"""The batch on a cluster: the Snakefile as it plans, and on a real SLURM with two nodes of which one is lost."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imbal_book.studies import STUDIES

ROOT = Path(__file__).parents[1]
pytest.importorskip("snakemake", reason="the extra `cluster` is not installed")
cluster = pytest.mark.skipif(
    os.environ.get("IMBAL_TEST_CLUSTER") != "1",
    reason="needs a SLURM cluster made for tests, whose nodes may be killed: IMBAL_TEST_CLUSTER=1",
)


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of the checkout without records, so that nothing is written into this one."""
    parts = ("imbal_core", "book", "notebooks", "workflow", "_config.yml", "pyproject.toml")
    for part in parts:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path


def command(checkout, profile, *words, **changes):
    """Return what starts snakemake there with the checkout's own packages, and its environment."""
    paths = os.pathsep.join([str(checkout), str(checkout / "book")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **changes}
    start = [sys.executable, "-m", "snakemake", "--profile", f"workflow/profiles/{profile}", *words]
    return {"args": start, "cwd": checkout, "env": environment, "text": True}


def snakemake(checkout, profile, *words, **changes):
    """Return the exit status and the output of one call."""
    done = subprocess.run(
        **command(checkout, profile, *words, **changes), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def records(checkout):
    return sorted((checkout / "results").rglob("*.json"))


def test_a_shard_of_every_study_a_chapter_each_and_the_book_are_planned(checkout):
    status, said = snakemake(checkout, "local", "-n", "--config", "shards=3")
    assert status == 0, said
    planned = dict(re.findall(r"(?m)^(shard|chapter|book)\s+(\d+)$", said))
    assert planned == {"shard": f"{3 * len(STUDIES)}", "chapter": f"{len(STUDIES)}", "book": "1"}


@contextlib.contextmanager
def node(name):
    """Yield a function that loses a node as a power cut does; it comes back at the end."""
    pid_file = re.search(r"SlurmdPidFile\s*=\s*(\S+)", subprocess.getoutput("scontrol show config"))
    assert pid_file, "scontrol names no pid file"

    def lose():
        os.kill(int(Path(pid_file[1].replace("%n", name)).read_text()), signal.SIGKILL)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"SLURMD_NODENAME={name}\0".encode() in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)

    try:
        yield lose
    finally:
        subprocess.run(["slurmd", "-N", name])


@contextlib.contextmanager
def started(checkout, said, words):
    """Yield a running snakemake; whatever comes, it and its jobs end with the test."""
    running = subprocess.Popen(**command(checkout, "slurm", *words), stdout=said, stderr=subprocess.STDOUT)
    try:
        yield running
    finally:
        running.kill()
        subprocess.run(["scancel", "--me"])


def jobs_on(name):
    return subprocess.getoutput(f"squeue -h -t running -w {name} -o %A").split()


@cluster
def test_a_grid_over_two_nodes_completes_though_one_node_is_lost_and_a_second_call_does_nothing(checkout):
    words = ("grid", "--config", "study=final_batch_norm,complement_cross_entropy", "shards=2")
    with (
        open(checkout / "said.txt", "w+") as said,
        node("n2") as lose,
        started(checkout, said, words) as running,
    ):
        deadline = time.monotonic() + 600
        while not (jobs_on("n1") and jobs_on("n2") and records(checkout)):
            assert running.poll() is None and time.monotonic() < deadline, said.seek(0) or said.read()
            time.sleep(0.5)
        assert len(records(checkout)) < 26, "the grid was over before a node could be lost"
        lose()
        assert running.wait(timeout=900) == 0, said.seek(0) or said.read()
    # each record lies there once, whoever trained it
    assert len(records(checkout)) == 8 + 18
    before = {path: path.stat().st_mtime_ns for path in records(checkout)}
    status, said = snakemake(checkout, "slurm", *words)
    assert status == 0 and "Nothing to be done" in said, said
    assert before == {path: path.stat().st_mtime_ns for path in records(checkout)}


@cluster
def test_a_failing_job_is_tried_again_and_then_reported_with_its_log(checkout, tmp_path):
    (tmp_path / "no data").mkdir()
    words = ("grid", "--config", "study=category_centers", "profile=laptop", "shards=1", "retries=1")
    only = "only=dataset=cifar10,imbalance=zhang-a,sampler=shuffle,split_seed=0"
    status, said = snakemake(checkout, "slurm", *words, only, IMBAL_DATA=str(tmp_path / "no data"))
    assert status != 0
    log = next((checkout / "_build/workflow/category_centers").rglob("*.log")).read_text()
    assert "failed runs:" in log and "no images of cifar10" in log
    assert len(re.findall(r"has been submitted with SLURM jobid", said)) == 2, said
    assert "failed runs:" in said, "the log is shown"
