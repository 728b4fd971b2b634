from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from imbal_book.build.pages import chapter_card, status_table
from imbal_book.evidence.claims import VERDICT_BADGES


def executed(path: Path, verdicts=(), profile="best") -> Path:
    """Write a copy as papermill and `run_notebook` leave it, with glued verdicts."""
    outputs = [
        new_output(
            "display_data",
            data={"application/papermill.record/text/plain": repr(text)},
            metadata={"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}},
        )
        for name, text in verdicts
    ]
    metadata = {
        "language_info": {"name": "python", "version": "3.12.1"},
        "papermill": {
            "duration": 12.345,
            "start_time": "2026-01-02T03:04:05.678901+00:00",
            "parameters": {"PROFILE": profile, "TRAIN": False, "LIVE": True},
        },
        "imbal": {"inputs": "0", "device": "some CPU", "versions": {"torch": "2.6.0"}},
    }
    cells = [new_code_cell("1", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_a_card_shows_the_glued_verdicts_and_links_the_chapter(tmp_path):
    copy = executed(
        tmp_path / "a.ipynb",
        [
            ("verdict_D-1", "undecided"),
            ("accuracy", "x"),
            ("verdict_D-2", "holds"),
            ("grade_D-2", "near, n = 5"),
        ],
    )
    card = chapter_card("a", copy)
    assert card.splitlines()[:2] == [
        '- {bdg-warning}`D-1 undecided` <a href="../notebooks/a.html#parts-d-1">parts</a>',
        '- {bdg-success}`D-2 holds` near, n = 5, <a href="../notebooks/a.html#parts-d-2">parts</a>',
    ]
    assert "(../notebooks/a.ipynb)" in card


def test_a_chapter_that_is_not_written_is_announced_without_a_link():
    card = chapter_card("final_batch_norm", None)
    assert "in preparation" in card
    assert "](" not in card


def test_smoke_records_give_no_verdict(tmp_path):
    copy = executed(tmp_path / "a.ipynb", [("verdict_D-1", "holds")], profile="smoke")
    assert "judges no claim" in chapter_card("a", copy)


def test_a_card_says_which_network_the_verdicts_rest_on(tmp_path):
    glued = [("verdict_B-1", "fails"), ("judged_on", "small network, profile laptop")]
    card = chapter_card("a", executed(tmp_path / "a.ipynb", glued))
    assert "Judged on: small network, profile laptop." in card.splitlines()
    without = chapter_card("a", executed(tmp_path / "b.ipynb", [("judged_on", "")]))
    assert "Judged on" not in without


def test_a_verdict_outside_the_labels_stops_the_build(tmp_path):
    with pytest.raises(ValueError, match=r"unknown verdict in a\.ipynb 'confirmed'"):
        chapter_card("a", executed(tmp_path / "a.ipynb", [("verdict_D-1", "confirmed")]))


def test_the_landing_page_explains_every_verdict():
    page = Path(__file__).parents[3].joinpath("book", "index.md").read_text(encoding="utf-8")
    for verdict, colour in VERDICT_BADGES.items():
        assert f"{{bdg-{colour}}}`{verdict}`" in page


def test_the_status_table_has_papermills_seconds_and_parameters(tmp_path):
    header, _, row = status_table({"a": executed(tmp_path / "a.ipynb")}).splitlines()
    cells = dict(zip(header.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert cells == {
        "Chapter": "[](../notebooks/a.ipynb)",
        "Profile": "best",
        "Live": "yes",
        "Trained": "no",
        "Seconds": "12.3",
        "Device": "some CPU",
        "Versions": "python 3.12.1, torch 2.6.0",
        "Executed (UTC)": "2026-01-02 03:04",
    }
