"""The front door: the public names, loaded when they are used, each documented with an example that runs."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import imbal_core

ROOT = Path(__file__).parents[2]


def fresh(code):
    """Run code in a process of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def test_importing_the_library_loads_nothing_heavy_and_takes_no_time():
    code = (
        "import sys, time; start = time.perf_counter(); import imbal_core; "
        "print(time.perf_counter() - start, [m for m in ('numpy', 'torch', 'pandas', 'sklearn') if m in sys.modules])"
    )
    seconds, loaded = fresh(code).split(" ", 1)
    assert float(seconds) < 0.1 and loaded == "[]"


def test_a_name_loads_only_what_it_needs():
    loaded = fresh("import sys, imbal_core; imbal_core.exponential_counts; print('torch' in sys.modules)")
    assert loaded == "False"
    loaded = fresh("import sys, imbal_core; imbal_core.load_dataset; print('timm' in sys.modules)")
    assert loaded == "False"


@pytest.mark.parametrize("name", imbal_core.__all__)
def test_every_name_is_there_and_documented(name):
    found = getattr(imbal_core, name)
    text = inspect.getdoc(found) or ""
    assert "Returns" in text or "Attributes" in text or inspect.isclass(found) or text.startswith("Return"), (
        name
    )
    assert "Examples\n--------\n" in text, f"{name} has no example"
    assert name in dir(imbal_core)


def test_a_mistyped_name_gets_the_nearest():
    with pytest.raises(AttributeError, match="did you mean 'load_dataset'"):
        imbal_core.load_datasets  # noqa: B018
