import importlib.metadata
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import imbal_book.build.colab
from imbal_book.build.colab import install_missing

CHAPTER = Path(__file__).parents[3] / "notebooks" / "category_centers.ipynb"


def setup_cell() -> str:
    """Return the set-up cell; another test holds that all chapters have the same one."""
    cells = nbformat.read(CHAPTER, as_version=4).cells
    return next(cell.source for cell in cells if "colab" in cell.metadata.get("tags", []))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy>=1.26", "torch>=2.6", "absent-package>=1"]\n'
        '[project.optional-dependencies]\nnotebooks = ["jupyterlab>=4", "mlxtend>=0.23"]\n'
    )
    (tmp_path / "requirements.lock").write_text(
        "# made by a tool\nabsent-package==1.4 ; python_version < '3.12' \\\n    --hash=sha256:00\n    # via x\n"
        "joblib==9.9 \\\n    --hash=sha256:00\nmlxtend==0.25.0 \\\n    --hash=sha256:00\n"
        "new-below-it==2.0 \\\n    --hash=sha256:00\ntorch==2.13 \\\n    --hash=sha256:00\n"
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


def test_only_absent_packages_are_installed_in_tested_versions_and_torch_is_pinned(
    repo, commands, monkeypatch
):
    here = {"numpy": "2.0.2", "torch": "2.6.0+cu124", "torchvision": "0.21.0+cu124", "joblib": "1.4"}
    pretend(monkeypatch, here)
    assert install_missing(repo) == ["absent-package>=1", "mlxtend>=0.23"]
    [(command, constraints)] = commands
    assert command[-2:] == ["absent-package>=1", "mlxtend>=0.23"]
    kept = ["torch==2.6.0+cu124", "torchvision==0.21.0+cu124", "numpy==2.0.2"]
    tested = ["absent-package==1.4 ; python_version < '3.12'", "mlxtend==0.25.0", "new-below-it==2.0"]
    assert constraints.splitlines() == [*kept, *tested], "what is there keeps its version"


def test_the_lock_of_the_checkout_names_a_tested_version_of_whatever_colab_may_lack():
    lock = (CHAPTER.parents[1] / "requirements.lock").read_text(encoding="utf-8")
    named = {name for _, name in imbal_book.build.colab._LOCKED.findall(lock)}
    assert {"mlxtend", "myst-nb", "timm", "scikit-learn", "safetensors"} <= named and len(named) > 100


def test_nothing_is_installed_where_everything_is_there(repo, commands, monkeypatch):
    pretend(monkeypatch, dict.fromkeys(["numpy", "torch", "absent-package", "mlxtend"], "1"))
    assert install_missing(repo) == []
    assert commands == []


def test_the_setup_cell_does_nothing_outside_colab(commands):
    exec(setup_cell(), {})
    assert commands == []


def test_the_setup_cell_clones_once_in_colab(commands, monkeypatch, tmp_path):
    installed = []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(imbal_book.build.colab, "install_missing", lambda: installed.append(True))
    monkeypatch.chdir(tmp_path)
    exec(setup_cell(), {})
    [(command, _)] = commands
    folder = Path(command[-1])
    assert command[:2] == ["git", "clone"] and folder.parent == tmp_path.resolve()
    assert sys.path[:2] == [str(folder), str(folder / "book")]
    folder.mkdir()
    exec(setup_cell(), {})
    assert len(commands) == 1
    assert installed == [True, True]
