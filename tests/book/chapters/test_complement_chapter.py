"""The chapter on complement cross entropy: every table, verdict and sentence from hand-made records."""

import dataclasses

import long_rows
import numpy as np
import pandas as pd
import pytest
from long_rows import t_text
from sample_records import record_of
from scipy import stats

from imbal_book.chapters import complement_cross_entropy as tables
from imbal_book.chapters import open_chapter, readings
from imbal_book.evidence.papers import load_paper
from imbal_book.evidence.papers.reference import published_values, reference_numbers
from imbal_book.evidence.rules import load_rules
from imbal_book.evidence.verbs import minus, summarise
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies import complement_cross_entropy as study
from imbal_book.studies.grids import complement_cross_entropy as grids

STUDY = "complement_cross_entropy"
TAIL = ("small network", "cifar10", "exponential 100")
STEP = ("small network", "cifar10", "step 10")
PAPER_SCALE = ("ResNet-32", "cifar10", "exponential 100")
TITLE = "CIFAR-10, exponential 100, small network"


@pytest.fixture(scope="module")
def paper():
    return load_paper("kim_2021")


def rows(values, place=TAIL, metric="accuracy", profile="laptop"):
    form, dataset, imbalance = place
    place = {"form": form, "dataset": dataset, "imbalance": imbalance}
    return long_rows.rows(values, metric, profile=profile, **place)


ACCURACY = {
    "CE": [0.70, 0.72, 0.69, 0.74],
    "CCE (paper)": [0.73, 0.74, 0.70, 0.75],
    "CCE (released)": [0.69, 0.72, 0.67, 0.71],
    "Balanced softmax": [0.78, 0.79, 0.77, 0.80],
    "CE, logit adjusted": [0.76, 0.79, 0.75, 0.77],
}
RECALL = {"CE": [0.40, 0.44, 0.39, 0.45], "CCE (paper)": [0.42, 0.43, 0.44, 0.46]}
FRAME = tables.in_order(pd.concat([rows(ACCURACY), rows(RECALL, metric="recall_few")]))


# Tables


def test_the_network_nearest_to_the_paper_stands_first_and_the_strongest_imbalance_before_the_weaker():
    wanted = [
        ("ResNet-34", "cifar10", "step 50"),
        ("ResNet-32", "cifar10", "exponential 100"),
        ("ResNet-32", "cifar10", "exponential 10"),
        ("ResNet-32", "cifar10", "step 50"),
        ("ResNet-32", "cifar100", "exponential 100"),
        TAIL,
    ]
    frame = tables.in_order(pd.concat([rows({"CE": [0.5]}, place) for place in reversed(wanted)]))
    assert list(frame[["form", "dataset", "imbalance"]].itertuples(index=False, name=None)) == wanted
    assert frame["place"].iloc[4] == "CIFAR-100, exponential 100, ResNet-32"
    assert set(tables.with_pairs(frame)["form"]) == {"ResNet-34"}
    decided = pd.concat([frame, tables.in_order(rows({"CE": [0.5] * 3}, TAIL))])
    assert set(tables.with_pairs(decided)["form"]) == {TAIL[0]}, "three pairs can decide, one cannot"
    arms = tables.in_order(rows({"COT": [0.5], "CE, logit adjusted": [0.5], "CE": [0.5, 0.6]}))
    assert list(arms["readout"]) == ["CE", "CE", "COT", "CE, logit adjusted"]


def test_each_form_of_the_loss_is_told_on_the_first_network_that_has_run_it():
    near = ("ResNet-32", "cifar10", "exponential 100")
    seen = [
        rows({"CE": [0.5, 0.6, 0.7], "CCE (paper)": [0.51, 0.62, 0.73]}, near),
        rows({"CE": [0.5] * 3, "CCE (paper)": [0.4] * 3, "CCE (released)": [0.3] * 3}, TAIL),
    ]
    frame = tables.with_pairs(tables.in_order(pd.concat(seen)))
    assert list(frame["form"].unique()) == [near[0], TAIL[0]], "what can decide stays, whatever stands nearer"
    paper, released = (tables.first_change(frame, name) for name in tables.FIRST[1:])
    assert (list(paper["form"]), list(released["form"])) == ([near[0]], [TAIL[0]])
    assert readings.span(paper)["change"] == t_text([0.51, 0.62, 0.73], [0.5, 0.6, 0.7])
    assert tables.first_change(frame, "COT").empty


def test_the_first_picture_has_a_panel_for_each_level_and_for_each_difference():
    found = tables.levels(FRAME)
    assert list(dict.fromkeys(found["panel"])) == [
        "accuracy (%)",
        "accuracy minus CE (points)",
        "minority recall (%)",
        "minority recall minus CE (points)",
    ]
    row = found[
        (found["panel"] == "accuracy minus CE (points)") & (found["method"] == "CCE (released)")
    ].iloc[0]
    test = stats.ttest_rel(ACCURACY["CCE (released)"], ACCURACY["CE"]).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((100 * test.low, 100 * test.high))
    assert (row["n"], row["row"]) == (4, TITLE)
    assert "CE" not in set(found.loc[found["panel"].str.contains("minus"), "method"])


def test_gains_hold_every_arm_and_readout_that_was_run_but_cross_entropy():
    found = tables.gains(FRAME)
    accuracy = found[found["panel"] == "accuracy minus CE (points)"].set_index("method")
    assert set(accuracy.index) == set(ACCURACY) - {"CE"} and list(accuracy["row"]) == list(accuracy.index)
    assert accuracy.loc["CE, logit adjusted", "mean"] == pytest.approx(5.5)
    assert list(found.loc[found["panel"].str.startswith("minority"), "method"]) == ["CCE (paper)"]


def test_the_table_of_arms_says_what_was_not_attempted_and_what_can_never_be():
    found = tables.arm_table(FRAME).set_index("arm")
    assert list(found.index) == [*grids.ARMS, *study.POST_HOC]
    assert found.loc["CCE (paper)", "accuracy (%)"] == t_text(ACCURACY["CCE (paper)"], sign="")
    assert found.loc["CCE (paper)", "minority recall minus CE"] == t_text(RECALL["CCE (paper)"], RECALL["CE"])
    assert found.loc["COT", "accuracy (%)"] == found.loc["COT", "accuracy minus CE"] == "not attempted"
    assert found.loc["CE", "accuracy minus CE"] == "" and found.loc["CE", "n"] == 4
    assert found.loc[study.TAU, "accuracy (%)"] == "not attempted" and found.loc[study.TAU, "n"] == 0
    never = tables.arm_table(FRAME, [study.TAU]).set_index("arm")
    assert never.loc[study.TAU, "accuracy (%)"] == "no images for validation"
    assert never.loc["COT", "accuracy (%)"] == "not attempted"


def test_the_gap_of_the_best_test_epoch_is_paired_with_the_last():
    best = {"CE": [0.75, 0.72, 0.73, 0.76], "COT": [0.8]}
    frame = pd.concat([rows(ACCURACY), rows(best, metric="best_test_accuracy")])
    (row,) = tables.selection_table(tables.in_order(frame)).to_dict("records")
    assert (row["arm"], row["n"], row["place"]) == ("CE", 4, TITLE)
    assert row["gap (points)"] == t_text(best["CE"], ACCURACY["CE"])
    assert (row["last epoch (%)"], row["best test epoch (%)"]) == ("71.2", "74.0")


def test_the_mechanism_is_printed_in_percent_and_nats():
    p_true = {"CE": [0.30, 0.32, 0.31], "CCE (paper)": [0.33, 0.36, 0.30]}
    entropy = {"CE": [1.5, 1.4, 1.45], "CCE (paper)": [1.9, 1.8, 1.95]}
    frame = pd.concat(
        [
            rows(p_true, metric="p_true"),
            rows(p_true, metric="p_true_few"),
            rows(entropy, metric="wrong_class_entropy"),
        ]
    )
    found = tables.mechanism_table(tables.in_order(frame)).set_index("arm")
    row = found.loc["CCE (paper)"]
    assert row["p of the true class (%)"] == "33.0" and row["wrong-class entropy (nats)"] == "1.88"
    assert row["p of the true class, minus CE"] == t_text(p_true["CCE (paper)"], p_true["CE"])
    assert row["wrong-class entropy, minus CE"] == t_text(
        entropy["CCE (paper)"], entropy["CE"], scale=1, digits=2
    )
    assert (
        list(found.index) == ["CE", "CCE (paper)"] and found.loc["CE", "wrong-class entropy, minus CE"] == ""
    )


def test_what_stands_beside_the_claims_is_paired_and_says_what_was_not_run():
    found = tables.differences(FRAME).set_index("difference")
    sign = found.loc["CCE (paper) - CCE (released)"]
    assert sign["accuracy (points)"] == t_text(ACCURACY["CCE (paper)"], ACCURACY["CCE (released)"])
    counting = found.loc["Balanced softmax - CE"]
    assert counting["accuracy (points)"] == t_text(ACCURACY["Balanced softmax"], ACCURACY["CE"])
    assert counting["wrong-class entropy (nats)"] == "not attempted"


# Records


def made_record(config, seconds):
    name = grids.arm(config)
    scores = {"accuracy": 0.5, "recall": [0.6] * 5 + [0.4] * 5, "precision": [0.5] * 10}
    measured = {
        "train_counts": [40] * 5 + [10] * 5,
        "readouts": {"softmax": scores} | ({study.POST_HOC[0]: scores} if name == "CE" else {}),
        "history": {"test_accuracy": [0.2, 0.6, 0.5]},
        "p_true": [0.5] * 10,
        "wrong_class_entropy": [1.0] * 10,
    }
    return record_of(config, measured, seconds=seconds)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Return the chapter with three arms on two seeds of one place; COT takes twice the time."""
    store = RecordStore(tmp_path_factory.mktemp("records") / "results")
    for config in build_grid(STUDY, "laptop"):
        name = grids.arm(config)
        if config.imbalance == "step-10" and config.train_seed < 2 and name in ("CE", "CCE (paper)", "COT"):
            pace = {"COT": 2.0 + 0.2 * config.train_seed}.get(name, 1.0)
            store.write(made_record(config, 100 * (1 + config.train_seed) * pace))
    return open_chapter(STUDY, store=store)


def test_the_frames_of_the_records_fill_the_tables(opened):
    frame = tables.in_order(study.frame(opened.frame()))
    assert list(frame["place"].unique()) == ["CIFAR-10, step 10, small network"]
    assert set(tables.selection_table(frame)["gap (points)"]) == {"+10.0 (10.0 to 10.0)"}
    labels = study.label_frame(opened.frame())
    recall = readings.recalls(tables.in_order(labels[labels["readout"] == "CE"]))
    assert recall["mean"].tolist() == pytest.approx([0.6] * 5 + [0.4] * 5)


def test_recorded_times_are_ratios_of_runs_with_the_same_seeds(opened):
    found = tables.recorded_times(opened).set_index("arm")
    assert list(found.index) == ["CCE (paper)", "COT"], "CE is left out: its time includes the readouts"
    assert found.loc["COT", "recorded run, × CCE (paper)"] == "2.10" and found.loc["COT", "pairs"] == 2


def test_without_records_no_claim_is_judged_and_the_first_sentence_says_so(paper, store):
    frame = tables.in_order(study.frame(open_chapter(STUDY, store=store).frame()))
    found = readings.verdicts(paper, frame)
    assert {verdict.label for verdict in found} == {"not attempted"}
    words = readings.opening(tables.gains(frame), readings.headline(found)["B-1"])
    assert (words["change"], words["cells"], words["pairs"]) == ("not run", "0", "0")
    assert words["label"] == "not attempted"


# Verdicts


def both(gain_tail, gain_step, metric="accuracy", a="CCE (paper)", b="CE", seeds=5):
    """Return rows in which a is above b by these gains in the two places, with a spread of 0.1 points."""
    noise = 0.001 * np.array([-1, 1, 0, 1, -1])[:seeds]
    return pd.concat(
        rows({b: [0.5] * seeds, a: 0.5 + gain + noise}, place, metric)
        for place, gain in ((TAIL, gain_tail), (STEP, gain_step))
    )


def verdict_of(paper, claim, frame, deviation=None):
    alone = dataclasses.replace(paper, claims={claim: paper.claims[claim]})
    return readings.headline(readings.verdicts(alone, frame, deviation))[claim]


@pytest.mark.parametrize(
    ("gains", "label"),
    [
        ((0.02, 0.03), "holds"),
        ((0.02, -0.02), "fails"),
        ((0.02, 0.0005), "undecided"),
        ((0.0002, -0.0002), "undecided"),
    ],
)
@pytest.mark.parametrize(
    ("claim", "metric", "b"),
    [("B-1", "accuracy", "CE"), ("B-2", "p_true", "CE"), ("B-6", "accuracy", "CCE (released)")],
)
def test_claims_on_every_cell_get_each_verdict(paper, claim, metric, b, gains, label):
    found = verdict_of(paper, claim, both(*gains, metric=metric, b=b))
    assert (found.label, found.form, found.profile, found.n) == (label, "small network", "laptop", 5)


@pytest.mark.parametrize(
    ("many", "label"), [(0.02, "holds"), (0.0, "holds"), (-0.05, "fails"), (-0.01, "undecided")]
)
def test_b3_needs_the_minority_to_gain_and_the_majority_not_to_pay(paper, many, label):
    frame = pd.concat([both(0.03, 0.03, "recall_few"), both(many, many, "recall_many")])
    assert verdict_of(paper, "B-3", frame).label == label


@pytest.mark.parametrize(
    ("gains", "label"),
    [
        ((0.001, -0.002), "holds"),
        ((0.03, 0.0), "fails"),
        ((-0.03, 0.0), "fails"),
        ((0.0095, 0.0), "undecided"),
    ],
)
def test_b4_is_about_a_margin_of_one_point_on_both_sides(paper, gains, label):
    assert verdict_of(paper, "B-4", both(*gains, b="COT")).label == label


@pytest.mark.parametrize(("deviation", "label"), [(1e-12, "holds"), (1e-3, "fails"), (None, "not attempted")])
def test_b5_follows_from_the_computed_deviation(paper, deviation, label):
    assert verdict_of(paper, "B-5", FRAME.iloc[:0], deviation).label == label


def test_digits_enter_no_verdict_and_the_larger_profile_counts(paper):
    digits = both(0.02, 0.02).assign(profile="smoke")
    assert verdict_of(paper, "B-1", digits).label == "not attempted"
    larger = both(-0.02, -0.02).assign(profile="paper")
    found = verdict_of(paper, "B-1", pd.concat([both(0.02, 0.02), larger]))
    assert (found.label, found.profile) == ("fails", "paper")


# Sentences


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.02, 0.03), ("+2.0 to +3.0", "2", "0", "holds")),
        ((-0.02, 0.0002), ("-2.0 to +0.0", "0", "1", "fails")),
    ],
)
def test_the_first_sentence_follows_the_records(paper, gains, words):
    frame = tables.in_order(both(*gains))
    verdict = readings.headline(readings.verdicts(paper, frame, 0.0))["B-1"]
    found = readings.opening(summarise(minus(frame, "CE"), ["place"]), verdict)
    assert tuple(found[name] for name in ("change", "above", "below", "label")) == words
    assert (found["cells"], found["pairs"], found["grade"]) == ("2", "5", "stand-in")
    assert found["why"] == "The comparisons alone decide it."


# The paper's scale


def at_the_papers_scale(plain):
    """Return CE and the paper's loss, 2 points better, in the cell of the gate."""
    noise = 0.001 * np.array([-1, 0, 1])
    levels = {"CE": plain + noise, "CCE (paper)": plain + 0.02 + noise[::-1] / 2}
    return tables.in_order(rows(levels, PAPER_SCALE, profile="paper").assign(model="resnet32"))


@pytest.mark.parametrize(
    ("plain", "lies", "judged"),
    [
        (0.718, "inside", True),
        (0.698, "below", True),
        (0.738, "above", True),
        (0.60, "below", False),
        (0.80, "above", False),
    ],
)
def test_where_cross_entropy_stands_and_whether_the_gate_is_open_follow_the_records(
    paper, plain, lies, judged
):
    frame = at_the_papers_scale(plain)
    found = tables.baseline(frame)
    (gate,) = (gate for gate in load_rules().gates if gate.study == STUDY)
    assert found["published"] == f"{100 * gate.low:.1f} to {100 * gate.high:.1f} %" == "70.4 to 73.2 %"
    assert found["here"] == f"{t_text(plain + 0.001 * np.array([-1, 0, 1]), sign='')} %, n = 3"
    assert found["lies"] == f"{lies} the published span"
    assert ("are judged" in found["gate"]) is judged
    verdict = next(v for v in readings.judge_forms(paper.claims["B-1"], frame, ["ResNet-32"]))
    assert verdict.parts["state"].value_counts()["holds"] == 1
    assert ("outside of" in verdict.reason) is not judged, "the page and the rules say the same"
    why = readings.opening(tables.gains(frame), verdict)["why"]
    assert why.startswith("The plain arm (CE) is at") is not judged


def test_while_nothing_is_recorded_at_the_papers_scale_the_page_says_so():
    for frame in (FRAME.iloc[:0], FRAME, at_the_papers_scale(0.718).assign(profile="laptop")):
        found = tables.baseline(frame)
        assert (found["here"], found["lies"]) == ("not run", "no such run is recorded")
        assert "judged" in found["gate"] and found["gate"].startswith("no claim")
        cells = tables.beside_published(frame, [("cifar10", 100)])
        assert set(cells["lies"]) == {"not run", "no such arm", "no images for validation"}
        assert not cells["n"].any()


def test_our_resnet32_stands_below_inside_or_above_the_published_spread():
    names = ("CE", "LDAM-DRW", "Balanced softmax")
    spread = {name: published_values(reference_numbers(), name, "cifar10", 100) for name in names}
    last = {
        "CE": [np.mean(spread["CE"])] * 2,
        "LDAM-DRW": [max(spread["LDAM-DRW"]) + 0.01, max(spread["LDAM-DRW"]) + 0.02],
        "Balanced softmax": [0.5],
    }
    frame = pd.concat(
        [
            rows(last, PAPER_SCALE, profile="paper"),
            rows({"CE": [0.73, 0.74]}, PAPER_SCALE, "best_test_accuracy", "paper"),
            rows({"Class-balanced": [0.77]}, PAPER_SCALE, profile="laptop"),
        ]
    )
    cells = tables.beside_published(tables.in_order(frame), [("cifar10", 100), ("cifar10", 50)])
    first = cells[cells["panel"] == "CIFAR-10, exponential 100"].set_index("row")
    sides = {
        "CE": "inside",
        "LDAM-DRW": "above",
        "Balanced softmax": "below",
        "Class-balanced": "not run",
        "Focal, sigmoid": "no such arm",
        "tau-normalisation": "no images for validation",
    }
    assert {name: first.loc[name, "lies"] for name in sides} == sides, "laptop is no such profile"
    never = {"no such arm", "no images for validation"}
    assert set(cells.loc[cells["panel"] == "CIFAR-10, exponential 50", "lies"]) == {"not run", *never}
    assert first.loc["CE", "values"] == tuple(sorted(spread["CE"]))
    table = tables.published_table(cells).iloc[0]
    low, high = 100 * min(spread["CE"]), 100 * max(spread["CE"])
    assert (table["published (%)"], table["results"]) == (f"{low:.1f} to {high:.1f}", len(spread["CE"]))
    assert (table["here, best test epoch (%)"], table["n"]) == ("73.5", 2)
