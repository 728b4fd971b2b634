"""Provenance: it is complete, names nobody, and tells the state of the right repository."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from imbal_book.run import provenance as provenance_module
from imbal_book.run.provenance import git_state, provenance


def test_provenance_has_everything_and_no_path_or_name():
    entry = provenance("some device", 1.23456, threads=2, precision="bf16", peak_memory_mb=10)
    assert set(entry) == {
        "package", "git_commit", "git_dirty", "python", "torch", "torchvision", "numpy", "system", "device",
        "threads", "precision", "seconds", "peak_memory_mb", "date",
    }  # fmt: skip
    assert (entry["device"], entry["seconds"], entry["precision"]) == ("some device", 1.235, "bf16")
    assert entry["date"].endswith("+00:00")
    text = json.dumps(entry)
    assert str(Path.home()) not in text and str(Path.cwd()) not in text and os.uname().nodename not in text


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A package in a git checkout of its own."""
    (tmp_path / "imbal_core").mkdir()
    (tmp_path / "imbal_core" / "code.py").write_text("1")
    (tmp_path / "README.md").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(git + arguments, check=True)
    monkeypatch.setattr(provenance_module, "checkout_folder", lambda: tmp_path)
    git_state.cache_clear()
    yield tmp_path
    git_state.cache_clear()


def test_git_state_tells_the_commit_and_whether_the_code_differs(checkout):
    head = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    assert git_state() == (commit, False)
    git_state.cache_clear()
    (checkout / "README.md").write_text("2")  # prose decides no number
    assert git_state() == (commit, False)
    git_state.cache_clear()
    machinery = checkout / "book" / "imbal_book" / "new.py"
    machinery.parent.mkdir(parents=True)
    for code in (checkout / "imbal_core" / "new.py", machinery):
        code.write_text("1")
        git_state.cache_clear()
        assert git_state() == (commit, True)
        code.unlink()


def test_git_state_is_unknown_for_a_package_inside_another_repository(checkout, monkeypatch):
    installed = checkout / "venv" / "imbal_core" / "provenance.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(provenance_module, "checkout_folder", lambda: installed.parent)
    assert git_state() == (None, None)


def test_git_state_is_unknown_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert git_state() == (None, None)
