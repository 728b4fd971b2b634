"""A built wheel, unpacked far from the checkout: both packages, their data files and the command are in it."""

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from imbal_book.evidence.papers import list_papers

ROOT = Path(__file__).parents[3]
#: What a build says that could not get its backend, and not that the project is wrong.
NO_BACKEND = "network|cache|offline|Failed to (fetch|download)|error sending request|No solution found"


def build(folder: Path) -> None:
    """Build the wheel with the backend that is installed, else with uv, which has it in its cache or fetches it."""
    uv = shutil.which("uv", path=f"{Path(sys.prefix, 'tools', 'bin')}{os.pathsep}{os.environ['PATH']}")
    commands = [[sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]]
    if importlib.util.find_spec("hatchling") is None:
        if uv is None:
            pytest.skip("neither hatchling nor uv is here to build a wheel")
        once = [uv, "build", "--quiet", "--wheel", "--out-dir", str(folder)]
        commands = [[*once, "--offline"], once]
    for command in commands:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if result.returncode == 0:
            return
    if re.search(NO_BACKEND, result.stderr):
        pytest.skip(f"the build backend could not be had: {result.stderr.strip().splitlines()[-1]}")
    pytest.fail(result.stderr)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    wheels, folder = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    build(wheels)
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def python(unpacked: Path, cwd: Path, code: str, *arguments: str) -> str:
    """Return what a Python prints that has only the wheel's folder before the environment, in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert list(cwd.iterdir()) == []
    return result.stdout


def test_the_wheel_holds_every_module_and_every_data_file(unpacked):
    packages = {"imbal_core": ROOT / "imbal_core", "imbal_book": ROOT / "book" / "imbal_book"}
    for name, source in packages.items():
        files = [path.relative_to(source) for path in source.rglob("*") if path.suffix in (".py", ".yml")]
        assert [str(file) for file in files if not (unpacked / name / file).is_file()] == []
    others = {path.name for path in unpacked.iterdir()} - set(packages)
    assert all(name.endswith(".dist-info") for name in others)


def test_both_packages_are_imported_from_the_wheel_and_read_their_files(unpacked, tmp_path):
    code = """
import imbal_book, imbal_core
from imbal_book.evidence.papers import list_papers, load_paper
print(imbal_book.__file__, imbal_core.__file__)
print(*[load_paper(name).name for name in list_papers()])
"""
    modules, papers = python(unpacked, tmp_path, code).splitlines()
    assert [Path(text).parents[1] for text in modules.split()] == [unpacked, unpacked]
    assert papers.split() == list_papers()


def test_the_command_tells_its_help_and_plans_a_study(unpacked, tmp_path):
    (points,) = unpacked.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read(points)
    module, name = parser["console_scripts"]["imbal"].split(":")
    code = f"from {module} import {name}; {name}()"
    assert "imbal plan category_centers --profile smoke" in python(unpacked, tmp_path, code, "--help")
    planned = python(unpacked, tmp_path, code, "plan", "category_centers", "--profile", "smoke")
    assert re.match(r"category_centers, profile smoke: (\d+) runs, 0 recorded, \1 missing", planned)
