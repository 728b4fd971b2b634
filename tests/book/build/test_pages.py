from pathlib import Path

import pytest
from executed_copies import executed, glued_verdict

from imbal_book.build.book import status_table
from imbal_book.build.ledger import chapter_card, claim_rows
from imbal_book.evidence.claims import VERDICT_BADGES
from imbal_book.evidence.judgement import COLUMNS
from imbal_book.evidence.papers import load_paper


def card(copy):
    rows = claim_rows({"category_centers": copy} if copy else {}, [])
    return chapter_card("category_centers", copy, [row for row in rows if row["paper"].name == "zhang_2018"])


def part_row():
    row = ("it rises", "accuracy", "mean", "cifar10", "A", 5, 5, 0.02, 0.01, 0.03, 0.95, 0.01, 0.1)
    return dict(zip(COLUMNS, (*row, "above", 0.0, "holds"), strict=True))


def test_a_card_answers_first_and_folds_the_claims_each_with_its_word_and_a_link_to_its_parts(tmp_path):
    verdicts = [
        glued_verdict("D-1a", parts=[part_row()]),
        glued_verdict("D-2", "fails", grade="stand-in", n=3),
    ]
    text = card(executed(tmp_path / "a.ipynb", verdicts))
    answer, _, label, _, claims = text.splitlines()[:5]
    assert answer.startswith(load_paper("zhang_2018").claims["D-1a"].statement)
    assert "Here, +2.0 (1.0 to 3.0) points on cifar10, A (5 draws × 1 training)" in answer
    assert "near, n = 5" in label and "parts-d-1a" in label
    assert "<summary>5 claims: 1 holds, 1 fails, 3 not attempted</summary>" in claims
    assert (
        '<a class="verdict verdict-danger" href="../notebooks/category_centers.html#parts-d-2">fails</a>'
        in claims
    )
    assert "stand-in, n = 3" in claims and "(../notebooks/category_centers.ipynb)" in text


def test_the_answer_is_the_chapters_own_first_paragraph_with_its_numbers(tmp_path):
    opening = "## At a glance\n\nDo centers\nhelp? **By {glue:text}`gain` points.**\n\nMore."
    parts = [part_row()]
    text = card(executed(tmp_path / "a.ipynb", [glued_verdict(parts=parts)], opening=opening, gain="+2.0"))
    assert text.startswith("Do centers help? **By +2.0 points.**\n\n<p")
    assert "near, n = 5" in text.splitlines()[2] and "#parts-d-1a" in text.splitlines()[2]
    without = card(executed(tmp_path / "b.ipynb", [glued_verdict(parts=parts)], opening=opening))
    assert without.startswith("Category centers are more accurate"), (
        "a number that was not glued is not shown"
    )


def test_a_chapter_of_no_paper_answers_and_judges_nothing(tmp_path):
    opening = "## At a glance\n\nWhich helps? **{glue:text}`best`.**\n\nMore."
    copy = executed(tmp_path / "a.ipynb", opening=opening, best="weights")
    assert chapter_card("remedies", copy, []).splitlines() == [
        "Which helps? **weights.**",
        "",
        "[Read the chapter](../notebooks/remedies.ipynb)",
    ]
    silent = executed(tmp_path / "b.ipynb", opening=opening)
    assert "judges no claim" in chapter_card("remedies", silent, [])


def test_a_chapter_that_is_not_written_is_announced_without_a_link():
    text = card(None)
    assert "in preparation" in text and "](" not in text


def test_smoke_records_give_no_verdict(tmp_path):
    assert "judges no claim" in card(executed(tmp_path / "a.ipynb", [glued_verdict()], profile="smoke"))


def test_a_card_says_which_network_the_verdicts_rest_on(tmp_path):
    text = card(executed(tmp_path / "a.ipynb", [glued_verdict()], judged_on="small network, profile laptop"))
    assert "Judged on: small network, profile laptop." in text.splitlines()
    assert "Judged on" not in card(executed(tmp_path / "b.ipynb", [glued_verdict()], judged_on=""))


def test_a_verdict_outside_the_labels_stops_the_build(tmp_path):
    with pytest.raises(ValueError, match=r"unknown verdict in a\.ipynb 'confirmed'"):
        card(executed(tmp_path / "a.ipynb", [glued_verdict(label="confirmed")]))


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
