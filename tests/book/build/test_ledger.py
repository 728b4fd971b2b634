"""The ledger of claims: every claim once, the cell that decides, what it costs to run it again, by hand."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from executed_copies import executed, glued_verdict

from imbal_book.build.deviations import effect_text, register
from imbal_book.build.ledger import came_out, claim_rows, ledger_table, score, seeds_table
from imbal_book.evidence.claims import VERDICT_BADGES
from imbal_book.evidence.judgement import COLUMNS
from imbal_book.evidence.papers import list_papers, load_paper
from imbal_book.evidence.statistics import detectable_difference, seeds_for_power
from imbal_book.grid.selection import select_runs
from imbal_book.run.record_format import Record
from imbal_book.studies import build_grid

ROOT = Path(__file__).parents[3]
PAPERS = [load_paper(name) for name in list_papers()]


def part(name="it rises", state="holds", mean=0.02, half=0.01, imbalance="A", pairs=8, draws=4, **more):
    values = (
        name,
        "accuracy",
        "mean",
        "cifar10",
        imbalance,
        pairs,
        draws,
        mean,
        mean - half,
        mean + half,
        0.95,
    )
    row = dict(zip(COLUMNS, (*values, 0.02, 0.5, "above", 0.0, state), strict=True))
    return row | more


def record_of(config):
    sides = {"train": "aa" * 32, "test": "bb" * 32}
    return Record.of_run(config, sides, "cc" * 32, {"readouts": {}}, {"seconds": 1800.0})


@pytest.fixture
def rows(tmp_path):
    verdict = glued_verdict("D-1a", "undecided", parts=[part(), part(state="open", mean=0.0, imbalance="B")])
    verdict |= {"models": ["all_cnn"], "profile": "laptop", "explanation": "The plain arm is too low."}
    copy = executed(tmp_path / "category_centers.ipynb", [verdict])
    grid = [c for c in build_grid("category_centers", "laptop") if c.model == "all_cnn"]
    runs = [c for c in grid if c.dataset == "cifar10"][:3]
    others = [c for c in build_grid("category_centers", "laptop") if c.model != "all_cnn"][:2]
    return claim_rows({"category_centers": copy}, [record_of(config) for config in (*runs, *others)])


class Rows(HTMLParser):
    """The rows of a table: attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([dict(attrs), ""])
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_data(self, data):
        if self.rows:
            self.rows[-1][1] += data


def test_every_claim_of_every_paper_has_one_row_with_the_marks_of_the_filter(rows):
    head, *found = Rows(ledger_table(rows)).rows
    claims = {claim.id: claim for paper in PAPERS for claim in paper.claims.values()}
    assert sorted(row["id"] for row, _ in found) == sorted(name.lower() for name in claims)
    for attributes, text in found:
        claim = next(claims[name] for name in claims if name.lower() == attributes["id"])
        assert claim.statement in text and claim.source in text and claim.status in text
        assert attributes["data-label"] in VERDICT_BADGES and attributes["data-grade"]
        assert (attributes["data-paper"] == "ours") == claim.ours == ("nothing: ours" in text)
    assert "Verdict" in head[1]


def test_a_row_says_what_decides_what_it_rests_on_and_what_it_costs(rows):
    table = ledger_table(rows)
    (text,) = [text for row, text in Rows(table).rows if row.get("id") == "d-1a"]
    assert "+0.0 (-1.0 to 1.0) points on cifar10, B (4 draws × 2 trainings), and 1 more cell" in text
    assert "imbal run category_centers --profile laptop --only model=all_cnn,dataset=cifar10" in text
    assert "3 runs, 90 device-minutes" in text, "half an hour a run, the other network's runs left out"
    assert "points in 6 cells (vgg16)" in text and "The plain arm is too low. parts, figures" in text
    only = re.search(r"--only (\S*cifar10)", text)[1]
    chosen = select_runs(build_grid("category_centers", "laptop"), only)
    assert chosen and {(c.model, c.dataset) for c in chosen} == {("all_cnn", "cifar10")}, "the command is one"
    (text,) = [text for row, text in Rows(table).rows if row.get("id") == "d-2"]
    assert "no size" in text, "the paper prints accuracies, the claim is about recall"
    assert "../notebooks/category_centers.html#parts-d-1a" in Rows(table).links


def test_a_chapter_without_an_executed_copy_has_claims_that_are_not_attempted(rows):
    others = [row for row in rows if row["paper"].study != "category_centers"]
    assert {row["verdict"]["label"] for row in others} == {"not attempted"} and not any(
        row["command"] for row in others
    )
    assert [row["paper"].study for row in rows][0] == "category_centers", "the order of the chapters"


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ([part(mean=0.05), part(mean=0.02, imbalance="B")], "+2.0 (1.0 to 3.0) points on cifar10, B"),
        (
            [part(state="open", mean=0.0), part(state="fails", mean=-0.03, imbalance="B")],
            "-3.0 (-4.0 to -2.0)",
        ),
        ([part(state="open"), part(state="not run", pairs=0, draws=0, imbalance="B")], "+2.0 (1.0 to 3.0)"),
        ([part(pairs=7)], "(7 pairs of 4 draws)"),
        (
            [part(metric="log_effective_rank_few", mean=0.25)],
            "+0.25 (0.24 to 0.26) in log effective rank few on",
        ),
        (
            [part(low=-math.inf, high=math.inf, pairs=1, draws=1)],
            "no interval) points on cifar10, A (1 draw × 1 training)",
        ),
        ([part("one"), part("other")], "one: +2.0"),
        ([part(compare="spread", mean=math.log(2))], "2.00 (1.98 to 2.02) times the standard deviation on"),
        ([part(compare="spread", low=-math.inf, high=math.inf)], "(0.00 to inf) times"),
        ([part(compare="rank", mean=0.3)], "+0.30 (0.29 to 0.31) in rank correlation on"),
        ([part(compare="sign", mean=-0.5)], "-0.50 (-0.51 to -0.49) in the mean sign"),
    ],
)
def test_of_several_cells_the_one_is_shown_that_decides(cells, shown):
    line, *_ = came_out({"parts": cells})
    assert shown in line
    assert came_out({"parts": []}) == came_out({"parts": [part(state="not run", pairs=0)]}) == []


def test_the_score_counts_the_papers_claims_by_label_and_links_to_them(rows):
    text = score(rows)
    claims = [claim for paper in PAPERS for claim in paper.claims.values()]
    theirs = sum(not claim.ours for claim in claims)
    counts = {label: int(n) for n, label in re.findall(r"<b>(\d+)</b> ([a-z ]+)</a>", text)}
    assert counts == {"holds": 0, "fails": 0, "undecided": 1, "not attempted": theirs - 1}
    assert f"{len(claims) - theirs} further ones are ours" in text
    assert "claims.html?label=not+attempted" in Rows("<tr>" + text).links


def test_variances_are_pooled_by_their_degrees_of_freedom(rows):
    cells = [part(sd=0.02, share=0.5, pairs=8), part(sd=0.04, share=math.nan, pairs=4, imbalance="B")]
    rows[0]["verdict"] |= {"parts": [*cells, cells[0], part(metric="confidence", sd=1.0)], "form": "net"}
    found = dict(re.findall(r'<td data-head="([^"]+)">(.*?)</td>', seeds_table(rows)))
    assert seeds_table(rows).count("<tr ") == 1, "the same difference counts once, confidence not at all"
    sd = math.sqrt((7 * 0.02**2 + 3 * 0.04**2) / 10)
    assert ">net</a>" in found["Network"] and (found["Data"], found["Cells"]) == ("cifar10", "2")
    assert (found["Pairs of a cell"], found["SD, points"]) == ("6", f"{100 * sd:.1f}")
    assert found["Between draws"] == "50 %", "of the cell in which draws have several trainings"
    assert found["Seen with 80 %, points"] == f"{100 * detectable_difference(sd, 6):.1f}"
    for points in (1, 2, 5):
        assert found[f"Pairs for {points}"] == f"{seeds_for_power(sd, points / 100):,}"
    assert "No paired differences" in seeds_table(rows[1:])


def test_an_effect_is_the_span_of_the_paired_differences_over_cells():
    frame = pd.DataFrame(
        [
            ("laptop", "net", "m", "cifar10", kind, seed, seed, readout, "accuracy", value)
            for kind, gain in (("A", 0.1), ("B", -0.02))
            for seed, noise in enumerate((0.0, 0.001, 0.002))
            for readout, value in (("old", 0.5), ("new", 0.5 + gain + noise))
        ],
        columns="profile form model dataset imbalance split_seed train_seed readout metric value".split(),
    )
    effect = {"a": "new", "b": "old", "metric": "accuracy"}
    assert effect_text(frame, effect) == (
        "new minus old, accuracy: -1.9 to +10.1 points in 2 cells; the 95 % interval leaves out 0 in 2"
    )
    one = effect_text(frame[frame["imbalance"] == "A"], effect)
    assert one == "new minus old, accuracy: +10.1 points in 1 cell; the 95 % interval leaves out 0 in 1"
    assert effect_text(frame, effect | {"metric": "recall"}) == "not measured"
    assert effect_text(frame, effect | {"a": "other"}) == "not measured"


def test_the_register_has_every_open_point_and_the_tests_it_names_exist():
    text = register([])
    points = [point for paper in PAPERS for point in paper.ambiguities]
    assert len(Rows(text).rows) == len(points) + len(PAPERS)
    for point in points:
        assert point.paper or point.code, f"{point.topic}: neither the paper nor its code says anything"
        if point.test:
            path, name = point.test.split("::")
            assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), point.test
