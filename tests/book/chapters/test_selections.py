"""Whatever profile a reader asks for, with records of it or without any, a chapter's report runs to its end."""

import pytest
from notebook_cells import outputs_of

from imbal_book.build.book import find_notebook
from imbal_book.pictures.figures import Drawing

CHAPTERS = ["category_centers", "cnn_fragility", "complement_cross_entropy", "final_batch_norm", "remedies"]


def report_of(name, profile, monkeypatch):
    """Return what the report cells of a chapter show, as text, but for the pictures: drawing takes most of the time."""
    monkeypatch.setattr(Drawing, "svg", lambda self: b"<svg/>")
    shown, _ = outputs_of(find_notebook(name), monkeypatch, PROFILE=profile, TRAIN=False, LIVE=False)
    return "\n".join(getattr(output, "_repr_html_", output.__str__)() for output in shown)


# With its records the book itself runs each chapter, in profile best.
@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_any_profile_of_the_committed_records(name, profile, monkeypatch):
    assert "chapter-head" in report_of(name, profile, monkeypatch)


@pytest.mark.parametrize("profile", ["best", "smoke", "laptop", "paper"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_without_records_says_how_to_make_them(name, profile, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr("imbal_book.run.records.checkout_folder", lambda: tmp_path)
    shown = report_of(name, profile, monkeypatch)
    asked = "laptop" if profile == "best" else profile
    assert f"imbal run {name} --profile {asked}" in shown
    assert "<figure" not in shown or "code at" not in shown, "no picture speaks of records"
