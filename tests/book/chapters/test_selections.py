"""Whatever profile a reader asks for, with records of it or without any, a chapter's report runs to its end."""

import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from imbal_book.pictures.figures import Drawing

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
CHAPTERS = ["category_centers", "cnn_fragility", "complement_cross_entropy", "final_batch_norm", "remedies"]


def report_of(name, profile):
    """Run the cells of a chapter that papermill runs with LIVE=False; return what they showed, as text."""
    shell = InteractiveShell.instance()
    shell.reset(new_session=True)
    shell.user_ns.update(PROFILE=profile, TRAIN=False, LIVE=False)
    shown = []
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and not {"parameters", "live"} & set(cell.metadata.get("tags", [])):
            with capture_output() as captured:
                result = shell.run_cell(cell.source)
            assert result.success, f"{name}, {profile}:\n{cell.source}\n{captured.stdout}"
            shown += [str(output.data) for output in captured.outputs]
            shown.append(getattr(result.result, "_repr_html_", str)())
    return "\n".join(shown)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Leave the pictures undrawn: that takes most of the time, and tests of their own look at them."""
    monkeypatch.setattr(Drawing, "svg", lambda self: b"<svg/>")
    # a shell puts a module of its own there, from which no process can be spawned
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    yield
    InteractiveShell.clear_instance()


# With its records the book itself runs each chapter, in profile best.
@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_any_profile_of_the_committed_records(name, profile):
    assert "chapter-head" in report_of(name, profile)


@pytest.mark.parametrize("profile", ["best", "smoke", "laptop", "paper"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_without_records_says_how_to_make_them(name, profile, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr("imbal_book.run.records.checkout_folder", lambda: tmp_path)
    shown = report_of(name, profile)
    asked = "laptop" if profile == "best" else profile
    assert f"imbal run {name} --profile {asked}" in shown
    assert "<figure" not in shown or "code at" not in shown, "no picture speaks of records"
