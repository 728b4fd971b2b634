"""What a chapter shows: which records, where they come from, and every table against a second computation."""

import dataclasses
import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from long_rows import rows
from sample_records import record_of
from scipy import stats

from imbal_book import chapters
from imbal_book.chapters import Chapter, judged_on, number, open_chapter, table, verdict_table
from imbal_book.chapters.readings import ambiguity_table, headline, power_table, prefer
from imbal_book.evidence.claims import Verdict
from imbal_book.evidence.judgement import COLUMNS
from imbal_book.evidence.papers import load_paper
from imbal_book.evidence.statistics import detectable_difference, seeds_for_power
from imbal_book.grid.batch import Failure, GridReport
from imbal_book.run.long_frames import records_frame
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies import category_centers as study

STUDY = "category_centers"


@pytest.fixture(scope="module")
def paper():
    return load_paper("zhang_2018")


def half_right(config, **origin):
    """Return the record of a run that took half an hour and recognises half of every class."""
    scores = {"accuracy": 0.5, "recall": [0.5] * 10, "precision": [0.5] * 10}
    measurements = {"train_counts": [10] * 5 + [40] * 5, "readouts": {"D": scores}}
    return record_of(config, measurements, seconds=1800.0, **origin)


def first_runs(profile, count):
    return build_grid(STUDY, profile)[:count]


@pytest.fixture
def store(tmp_path):
    store = RecordStore(tmp_path / "results")
    for config in first_runs("laptop", 8):  # seed 0 of six arms, two arms of seed 1
        store.write(half_right(config))
    store.write(
        half_right(first_runs("paper", 1)[0], device="A <fast> GPU", date="2026-02-03T00:00:00+00:00")
    )
    store.write(half_right(first_runs("smoke", 1)[0]))
    return store


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a run was started")

    monkeypatch.setattr(chapters, "run_grid", refuse)


def test_a_chapter_opened_without_training_trains_nothing(store, no_training):
    for profile in ("best", "smoke", "laptop", "paper"):
        open_chapter(STUDY, profile, store=store)


def test_the_best_profiles_are_paper_then_laptop_and_never_smoke(store, no_training):
    best = open_chapter(STUDY, store=store)
    assert best.profiles == ("paper", "laptop")
    assert [record.config["profile"] for record in best.records] == ["paper"] + ["laptop"] * 8
    assert best.planned == {name: len(build_grid(STUDY, name)) for name in ("paper", "laptop")}
    smoke = open_chapter(STUDY, "smoke", store=store)
    assert (len(smoke.records), smoke.planned) == (1, {"smoke": len(build_grid(STUDY, "smoke"))})


def test_mistyped_names_get_the_nearest_ones(store):
    with pytest.raises(ValueError, match="did you mean 'laptop'"):
        open_chapter(STUDY, "labtop", store=store)
    with pytest.raises(ValueError, match="did you mean 'category_centers'"):
        open_chapter("category_center", store=store)


@pytest.mark.parametrize(
    ("device", "profile", "trained"),
    [
        ("cpu", "best", "laptop"),
        ("cuda", "best", "paper"),
        ("cpu", "paper", "paper"),
        ("cuda", "smoke", "smoke"),
    ],
)
def test_training_runs_the_profile_that_the_device_can_do(store, monkeypatch, device, profile, trained):
    grids = []
    monkeypatch.setattr(chapters, "default_device", lambda: torch.device(device))
    monkeypatch.setattr(chapters, "run_grid", lambda grid, *a, **k: grids.append(grid) or GridReport())
    open_chapter(STUDY, profile, train=True, store=store)
    assert grids == [build_grid(STUDY, trained)]


def test_a_failed_run_stops_the_chapter_with_its_traceback(store, monkeypatch):
    failure = Failure(first_runs("smoke", 1)[0], "DivergedError: the loss is NaN")
    monkeypatch.setattr(chapters, "run_grid", lambda *a, **k: GridReport(failed=[failure, failure]))
    with pytest.raises(RuntimeError, match="2 runs failed; the first:\nDivergedError: the loss is NaN"):
        open_chapter(STUDY, "smoke", train=True, store=store)


def test_the_head_names_profile_runs_seeds_hardware_time_and_date(store):
    chapter = open_chapter(STUDY, store=store)
    head = chapter.head()._repr_html_()
    assert "<dd>paper, laptop</dd>" in head
    paper, laptop = chapter.planned.values()
    assert f"<dd>paper 1 of {paper:,}, laptop 8 of {laptop:,}</dd>" in head
    assert "up to 2 pairs" in head, "seeds 0 and 1"
    assert "Two cores (cpu), 2 threads" in head
    assert "A &lt;fast&gt; GPU" in head and "<fast>" not in head
    assert "<dd>4.5 hours</dd>" in head, "nine times half an hour"
    assert "<dd>2026-01-02 to 2026-02-03</dd>" in head


def test_the_head_of_a_chapter_without_records_says_so():
    empty = Chapter(STUDY, ("paper",), [], 45)
    assert "paper: not attempted" in empty.head()
    assert empty.source() == "Not attempted."


def test_the_source_of_a_figure_names_runs_profile_commit_and_date(store):
    chapter = open_chapter(STUDY, store=store)
    assert chapter.source() == "9 runs, profile paper, laptop; code at abcdef0; 2026-01-02 to 2026-02-03."
    keys = [record.key for record in chapter.records if record.config["profile"] == "laptop"][:3]
    assert chapter.source(keys) == "3 runs, profile laptop; code at abcdef0; 2026-01-02."
    assert chapter.source([]) == "Not attempted."


def test_the_frame_of_a_chapter_is_what_the_study_reads(store):
    # some runs have no image size of their own, so the column holds numbers and None
    store.write(half_right(next(c for c in build_grid(STUDY, "laptop") if c.image_size is None)))
    chapter = open_chapter(STUDY, "laptop", store=store)
    found = study.frame(chapter.frame())
    expected = study.frame(records_frame(store.read(STUDY, "laptop")))
    assert len(found) == 9 * 4 and set(found["form"]) == {"frozen", "from scratch"}
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "1.2 (-0.4 to 2.9)"),
        ({"sign": True}, "+1.2 (-0.4 to 2.9)"),
        ({"digits": 2, "scale": 1}, "0.01 (-0.00 to 0.03)"),
    ],
)
def test_number_prints_percent_with_the_interval(options, text):
    assert number(0.0123, -0.0044, 0.0291, **options) == text


class TextOf(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_a_table_is_escaped_and_shows_its_index_only_where_that_has_a_name():
    frame = pd.DataFrame({"seed": [1, 2], "note": ["a < b", "<script>"]})
    plain = TextOf(table(frame)._repr_html_())
    assert "script" not in [tag for tag, _ in plain.tags] and "<script>" in plain.text
    assert [text for text in plain.text if text.strip()] == ["seed", "note", "1", "a < b", "2", "<script>"]
    named = TextOf(table(frame.set_index("seed").rename_axis(index="seed of the split")))
    assert "seed of the split" in named.text
    assert table(frame.iloc[:0]).startswith('<div class="table-wrap')


def make_verdict(claim="D-1a", label="holds", form="fine-tuned", n=10, reason="because"):
    row = ("centers beat it", "accuracy", "mean", "cifar10", "A", n, n, 0.01, 0.005, 0.015, 0.95, 0.02, 0.1)
    row += ("above", 0.0, "holds")
    parts = pd.DataFrame([row] if n else [], columns=list(COLUMNS))
    return Verdict(claim, label, "near" if n else "", "laptop", form, reason, "", parts)


def test_what_verdicts_rest_on_names_each_form_once_and_none_without_records():
    found = [
        Verdict(claim, label, profile=profile, form=form)
        for claim, label, profile, form in [
            ("B-1", "fails", "laptop", "small network"),
            ("B-2", "undecided", "laptop", "small network"),
            ("B-3", "not attempted", "paper", "ResNet-34"),
            ("B-4", "undecided", "paper", "ResNet-32"),
            ("B-5", "holds", None, None),
        ]
    ]
    assert judged_on(found) == "small network, profile laptop; ResNet-32, profile paper"
    assert judged_on(found[2:3]) == ""


def test_the_verdict_table_escapes_what_it_quotes_and_names_each_claim_once():
    found = [
        make_verdict(reason="C > D & <script>alert(1)</script>"),
        make_verdict(label="fails", form="from scratch", n=3),
        make_verdict("O-1", "not attempted", "from scratch", n=0),
    ]
    first, ours = load_paper("zhang_2018").claims["D-1a"], load_paper("kocaman_2020").claims["O-1"]
    claims = {
        "D-1a": dataclasses.replace(first, statement="C < D & <b>F</b>"),
        "O-1": dataclasses.replace(ours, statement="spread"),
    }
    page = verdict_table(found, claims)
    parsed = TextOf(page._repr_html_())
    assert "script" not in [tag for tag, _ in parsed.tags]
    text = "".join(parsed.text)
    assert "C > D & <script>alert(1)</script>" in text and "C < D & <b>F</b>" in text
    assert text.count("D-1a") == 1 and text.count("O-1") == 1 and text.index("Ours") < text.index("O-1")
    assert "profile laptop, n = 10 pairs of 10 draws" in text and "n = 0" not in text
    assert text.count("+1.0 (0.5 to 1.5)") == 2 and text.count("near") == 2
    assert {attrs["id"] for _, attrs in parsed.tags if "id" in attrs} == {"parts-d-1a", "parts-o-1"}
    badges = [attrs["class"] for tag, attrs in parsed.tags if tag == "span"]
    assert badges == ["verdict verdict-success", "verdict verdict-danger", "verdict verdict-secondary"]
    assert sum(tag == "tr" for tag, _ in parsed.tags) == 1 + 1 + len(found) + 2 * 2


def test_prefer_takes_the_first_profile_of_each_form_and_data_set():
    places = [
        ("laptop", "fine-tuned", "cifar10"),
        ("paper", "fine-tuned", "cifar10"),
        ("laptop", "fine-tuned", "cifar100"),
        ("laptop", "frozen", "cifar10"),
        ("paper", "from scratch", "cifar10"),
    ]
    frame = pd.DataFrame(places, columns=["profile", "form", "dataset"])
    found = prefer(frame, ("paper", "laptop"))
    assert set(found[["profile", "form", "dataset"]].itertuples(index=False, name=None)) == {
        ("paper", "fine-tuned", "cifar10"),
        ("laptop", "fine-tuned", "cifar100"),
        ("laptop", "frozen", "cifar10"),
        ("paper", "from scratch", "cifar10"),
    }
    assert len(found) == 4


def test_the_headline_takes_the_nearest_form_with_enough_pairs_or_else_that_was_attempted():
    head = headline(
        [
            make_verdict("D-1", "not attempted", "fine-tuned", 0),
            make_verdict("D-1", "fails", "from scratch"),
            make_verdict("D-1", "holds", "frozen"),
            make_verdict("D-2", "undecided", "fine-tuned"),
            make_verdict("D-2", "holds", "frozen"),
            make_verdict("D-3", "not attempted", "frozen", 0),
            make_verdict("D-4", "not attempted", "fine-tuned", 0),
            make_verdict("D-4", "undecided", "from scratch", 2),
            make_verdict("D-4", "fails", "frozen", 3),
            make_verdict("D-5", "undecided", "fine-tuned", 1),
            make_verdict("D-5", "undecided", "from scratch", 2),
        ]
    )
    assert {claim: (v.form, v.label) for claim, v in head.items()} == {
        "D-1": ("from scratch", "fails"),
        "D-2": ("fine-tuned", "undecided"),
        "D-3": ("frozen", "not attempted"),
        "D-4": ("frozen", "fails"),
        "D-5": ("fine-tuned", "undecided"),
    }


def test_the_twelve_open_points_are_listed_and_two_are_tested(paper):
    found = ambiguity_table(paper)
    assert found[""].tolist() == list(range(1, 13))
    assert (found["tested"] != "no").sum() == 2
    assert (found["our choice"].str.len() > 0).all()


def test_a_single_seed_is_printed_without_an_interval():
    assert number(0.012, -math.inf, math.inf, sign=True) == "+1.2 (one seed, no interval)"
    assert number(0.012, 0.004, 0.02) == "1.2 (0.4 to 2.0)"


def test_the_page_says_what_its_pairs_could_have_shown():
    rng = np.random.default_rng(3)
    values = {name: level + 0.02 * rng.normal(size=8) for name, level in (("plain", 0.5), ("new", 0.6))}
    frame = rows(values, "f1", draws=[0, 0, 1, 1, 2, 2, 3, 3])
    (found,) = power_table(frame, "new", "plain", "f1").to_dict("records")
    wide = frame.pivot(index=["split_seed", "train_seed"], columns="readout", values="value")
    sd = (wide["new"] - wide["plain"]).std()
    assert (found["pairs"], found["draws"]) == (8, 4) and found["standard deviation"] == f"{100 * sd:.1f}"
    assert found["pairs for 5 points"] == seeds_for_power(sd, 0.05) < found["pairs for 2 points"]
    assert float(found["seen with 80 % power"]) == pytest.approx(100 * detectable_difference(sd, 8), abs=0.05)
    assert power_table(frame[frame["readout"] == "new"], "new", "plain", "f1").empty


def test_pairs_that_share_no_draw_give_their_spread_an_interval_and_any_difference_may_be_asked():
    values = [0.01, 0.03, 0.02, 0.05]
    frame = rows({"plain": [0.5] * 4, "new": [0.5 + gain for gain in values]}, "f1")
    (found,) = power_table(frame, "new", "plain", "f1", (0.01,)).to_dict("records")
    sd = np.std(values, ddof=1)
    low, high = (100 * sd * math.sqrt(3 / stats.chi2.ppf(end, 3)) for end in (0.975, 0.025))
    assert found["standard deviation"] == f"{100 * sd:.1f} ({low:.1f} to {high:.1f})"
    assert found["pairs for 1 points"] == seeds_for_power(sd, 0.01) and "pairs for 5 points" not in found
    assert found["share between draws"] == "unknown"
