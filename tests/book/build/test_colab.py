import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from imbal_book.build.colab import badge_row, install_missing, repository_url, setup_cell


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/someone/some-book}\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy>=1.26", "torch>=2.6", "absent-package>=1"]\n'
        '[project.optional-dependencies]\nnotebooks = ["jupyterlab>=4", "mlxtend>=0.23"]\n'
    )
    return tmp_path


@pytest.fixture
def commands(monkeypatch):
    """Record what would be run, with the text of the constraints file, which is gone afterwards."""
    calls = []

    def record(command, **options):
        file = command[command.index("-c") + 1] if "-c" in command else None
        calls.append((command, Path(file).read_text() if file else ""))

    monkeypatch.setattr(subprocess, "run", record)
    return calls


def pretend(monkeypatch, versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_only_absent_packages_are_installed_and_torch_is_pinned(repo, commands, monkeypatch):
    pretend(monkeypatch, {"numpy": "2.0.2", "torch": "2.6.0+cu124", "torchvision": "0.21.0+cu124"})
    assert install_missing(repo) == ["absent-package>=1", "mlxtend>=0.23"]
    [(command, constraints)] = commands
    assert command[-2:] == ["absent-package>=1", "mlxtend>=0.23"]
    assert constraints.split() == ["torch==2.6.0+cu124", "torchvision==0.21.0+cu124", "numpy==2.0.2"]


def test_nothing_is_installed_where_everything_is_there(repo, commands, monkeypatch):
    pretend(monkeypatch, dict.fromkeys(["numpy", "torch", "absent-package", "mlxtend"], "1"))
    assert install_missing(repo) == []
    assert commands == []


def test_every_badge_has_the_address_of_the_settings(repo):
    assert repository_url(repo) == "https://github.com/someone/some-book"
    row = badge_row("chapter", repo)
    assert (
        "https://colab.research.google.com/github/someone/some-book/blob/main/notebooks/chapter.ipynb" in row
    )
    assert "https://github.com/someone/some-book/blob/main/notebooks/chapter.ipynb" in row
    assert "https://github.com/someone/some-book/raw/main/notebooks/chapter.ipynb" in row


def test_the_setup_cell_does_nothing_outside_colab(repo, commands):
    exec(setup_cell(repo), {})
    assert commands == []


def test_the_setup_cell_clones_once_in_colab(repo, commands, monkeypatch, tmp_path):
    import sys

    import imbal_book.build.colab

    installed = []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(imbal_book.build.colab, "install_missing", lambda: installed.append(True))
    monkeypatch.chdir(tmp_path)
    exec(setup_cell(repo), {})
    [(command, _)] = commands
    assert command[:2] == ["git", "clone"]
    assert "https://github.com/someone/some-book" in command
    assert sys.path[0] == str((tmp_path / "some-book").resolve())
    (tmp_path / "some-book").mkdir()
    exec(setup_cell(repo), {})
    assert len(commands) == 1
    assert installed == [True, True]
