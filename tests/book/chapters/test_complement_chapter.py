"""The chapter on complement cross entropy: every table, verdict and sentence from hand-made records."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from imbal_book.chapters import complement_answers as answers
from imbal_book.chapters import complement_cross_entropy as tables
from imbal_book.chapters import open_chapter
from imbal_book.chapters.complement_places import FORMS, Place, at, nearest, recorded_places
from imbal_book.chapters.complement_spread import power_table, published_table
from imbal_book.chapters.readings import contrast, headline, interval_text, level
from imbal_book.evidence.papers import load_paper
from imbal_book.evidence.papers.reference import parse_reference
from imbal_book.pictures.figures import intervals
from imbal_book.run.long_frames import IDENTITY
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies import complement_cross_entropy as study

STUDY = "complement_cross_entropy"
TAIL = Place("small network", "cifar10", "exponential 100")
STEP = Place("small network", "cifar10", "step 10")


@pytest.fixture(scope="module")
def paper():
    return load_paper("kim_2021")


def rows(values, place=TAIL, metric="accuracy", profile="laptop"):
    """Return rows in long form; ``values`` maps a readout to one value per seed."""
    found = [
        (f"{readout} {seed}", profile, place.form, "net", *place[1:], seed, seed, readout, metric, value)
        for readout, series in values.items()
        for seed, value in enumerate(series)
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "metric", "value"])


ACCURACY = {
    "CE": [0.70, 0.72, 0.69, 0.74],
    "CCE (paper)": [0.73, 0.74, 0.70, 0.75],
    "CCE (released)": [0.69, 0.72, 0.67, 0.71],
    "Balanced softmax": [0.78, 0.79, 0.77, 0.80],
    "CE, logit adjusted": [0.76, 0.79, 0.75, 0.77],
}
RECALL = {"CE": [0.40, 0.44, 0.39, 0.45], "CCE (paper)": [0.42, 0.43, 0.44, 0.46]}
FRAME = pd.concat([rows(ACCURACY), rows(RECALL, metric="recall_few")])


def t_text(a, b=None, scale=100, digits=1):
    """Return the mean of a, or of a - b, with its interval, by SciPy."""
    values = np.asarray(a) if b is None else np.asarray(a) - np.asarray(b)
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    sign = "" if b is None else "+"
    mean = f"{scale * values.mean():{sign}.{digits}f}"
    return f"{mean} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


# Places


def test_the_network_nearest_to_the_paper_stands_first_and_the_strongest_imbalance_before_the_weaker():
    assert FORMS == ("ResNet-34", "ResNet-32", "small network")
    wanted = [
        Place("ResNet-32", "cifar10", "exponential 100"),
        Place("ResNet-32", "cifar10", "exponential 10"),
        Place("ResNet-32", "cifar10", "step 50"),
        Place("ResNet-32", "cifar100", "exponential 100"),
        TAIL,
    ]
    frame = pd.concat([rows({"CE": [0.5]}, place) for place in reversed(wanted)])
    assert recorded_places(frame) == wanted
    assert nearest(wanted) == wanted[:4] and nearest([]) == []
    assert len(at(frame, TAIL)) == 1
    assert wanted[3].title() == "CIFAR-100, exponential 100, ResNet-32"
    assert wanted[3].title(network=False) == "CIFAR-100, exponential 100"


def test_levels_and_contrasts_are_means_and_paired_differences():
    shuffled = FRAME.sample(frac=1, random_state=0)
    assert interval_text(level(shuffled, "CE", "accuracy")) == t_text(ACCURACY["CE"])
    gain = contrast(shuffled, "CCE (paper)", "CE", "accuracy")
    assert interval_text(gain, sign=True) == t_text(ACCURACY["CCE (paper)"], ACCURACY["CE"])
    assert contrast(shuffled, "COT", "CE", "accuracy").n == level(shuffled, "COT", "accuracy").n == 0
    assert interval_text(level(shuffled, "COT", "accuracy")) == "not attempted"


# Tables


def test_the_first_picture_has_a_panel_for_each_level_and_for_each_difference():
    found = tables.levels(FRAME, [TAIL])
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
    assert (row["n"], row["row"]) == (4, TAIL.title())
    assert "CE" not in set(found.loc[found["panel"].str.contains("minus"), "method"])


def test_contrasts_hold_every_arm_and_readout_that_was_run_but_cross_entropy():
    found = tables.contrasts(FRAME, TAIL)
    accuracy = found[found["panel"] == "accuracy minus CE (points)"].set_index("method")
    assert set(accuracy.index) == set(ACCURACY) - {"CE"} and list(accuracy["row"]) == list(accuracy.index)
    assert accuracy.loc["CE, logit adjusted", "mean"] == pytest.approx(5.5)
    assert list(found.loc[found["panel"].str.startswith("minority"), "method"]) == ["CCE (paper)"]


def test_the_table_of_arms_says_what_was_not_attempted():
    found = tables.arm_table(FRAME, TAIL).set_index("arm")
    assert list(found.index) == [*study.ARMS, *study.POST_HOC]
    assert found.loc["CCE (paper)", "accuracy (%)"] == t_text(ACCURACY["CCE (paper)"])
    assert found.loc["CCE (paper)", "minority recall minus CE"] == t_text(RECALL["CCE (paper)"], RECALL["CE"])
    assert found.loc["COT", "accuracy (%)"] == found.loc["COT", "accuracy minus CE"] == "not attempted"
    assert found.loc["CE", "accuracy minus CE"] == "" and found.loc["CE", "n"] == 4


def test_the_gap_of_the_best_test_epoch_is_paired_with_the_last():
    best = {"CE": [0.75, 0.72, 0.73, 0.76], "COT": [0.8]}
    frame = pd.concat([rows(ACCURACY), rows(best, metric="best_test_accuracy")])
    (row,) = tables.selection_table(frame, [TAIL, STEP]).to_dict("records")
    assert (row["arm"], row["n"], row["place"]) == ("CE", 4, TAIL.title())
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
    found = tables.mechanism_table(frame, [TAIL]).set_index("arm")
    row = found.loc["CCE (paper)"]
    assert row["p of the true class (%)"] == "33.0" and row["wrong-class entropy (nats)"] == "1.88"
    assert row["p of the true class, minus CE"] == t_text(p_true["CCE (paper)"], p_true["CE"])
    assert row["wrong-class entropy, minus CE"] == t_text(
        entropy["CCE (paper)"], entropy["CE"], scale=1, digits=2
    )
    assert (
        list(found.index) == ["CE", "CCE (paper)"] and found.loc["CE", "wrong-class entropy, minus CE"] == ""
    )


@pytest.mark.parametrize(("dataset", "classes", "groups"), [("cifar10", 10, 10), ("cifar100", 100, 10)])
def test_recalls_of_labels_stand_alone_or_in_tens_inside_0_to_1(dataset, classes, groups):
    place = Place("ResNet-32", dataset, "step 10")
    width = classes // groups
    labels = pd.DataFrame(
        [
            (
                *place,
                seed,
                seed,
                "CE",
                label,
                10 * (label // width + 1),
                min(1, 0.1 * (label // width) + 0.1 * seed),
            )
            for seed in range(3)
            for label in range(classes)
        ],
        columns=[
            *("form", "dataset", "imbalance", "split_seed", "train_seed"),
            *("readout", "label", "train_count", "recall"),
        ],
    )
    found = tables.label_recalls(labels, [place], ["CE", "COT"])
    assert list(found["label"]) == [str(g) if width == 1 else f"{10 * g}-{10 * g + 9}" for g in range(groups)]
    assert found.loc[3, "mean"] == pytest.approx(0.4) and found.loc[3, "train_count"] == 40
    low, high = stats.t.interval(0.95, 2, 0.4, stats.sem([0.3, 0.4, 0.5]))
    assert (found.loc[3, "low"], found.loc[3, "high"]) == pytest.approx((low, high))
    assert found["high"].max() == 1 and found["low"].min() == 0
    assert set(found["n"]) == {3} and set(found["method"]) == {"CE"}


# Records


def record_of(config, seconds):
    name = study.arm(config)
    scores = {"accuracy": 0.5, "recall": [0.6] * 5 + [0.4] * 5, "precision": [0.5] * 10}
    measured = {
        "train_counts": [40] * 5 + [10] * 5,
        "readouts": {"softmax": scores} | ({study.POST_HOC[0]: scores} if name == "CE" else {}),
        "history": {"test_accuracy": [0.2, 0.6, 0.5]},
        "p_true": [0.5] * 10,
        "wrong_class_entropy": [1.0] * 10,
    }
    origin = {"device": "cpu", "threads": 1, "git_commit": "a" * 40, "date": "2026-01-02T03:04:05+00:00"}
    data = {"train": "aa" * 32, "test": "bb" * 32}
    return Record.of_run(config, data, "cc" * 32, measured, origin | {"seconds": seconds})


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Return the chapter with three arms on two seeds of one place; COT takes twice the time."""
    store = RecordStore(tmp_path_factory.mktemp("records") / "results")
    for config in build_grid(STUDY, "laptop"):
        name = study.arm(config)
        if config.imbalance == "step-10" and config.train_seed < 2 and name in ("CE", "CCE (paper)", "COT"):
            pace = {"COT": 2.0 + 0.2 * config.train_seed}.get(name, 1.0)
            store.write(record_of(config, 100 * (1 + config.train_seed) * pace))
    return open_chapter(STUDY, store=store)


def test_the_frames_of_the_records_fill_the_tables(opened):
    frame = study.frame(opened.frame())
    assert recorded_places(frame) == [STEP]
    assert set(tables.selection_table(frame, [STEP])["gap (points)"]) == {"+10.0 (10.0 to 10.0)"}
    curve = tables.learning_curves(study.epoch_frame(opened.frame()), [STEP], ["CE", "Focal"])
    assert curve[["epoch", "mean", "n"]].to_numpy().tolist() == [[1, 0.2, 2], [2, 0.6, 2], [3, 0.5, 2]]
    recall = tables.label_recalls(study.label_frame(opened.frame()), [STEP], ["CE"])
    assert recall["mean"].tolist() == pytest.approx([0.6] * 5 + [0.4] * 5)


def test_recorded_times_are_ratios_of_runs_with_the_same_seeds(opened):
    found = tables.recorded_times(opened).set_index("arm")
    assert list(found.index) == ["CCE (paper)", "COT"], "CE is left out: its time includes the readouts"
    assert found.loc["COT", "recorded run, × CCE (paper)"] == "2.10" and found.loc["COT", "pairs"] == 2


def test_a_chapter_without_records_has_empty_tables_and_says_how_to_run_them(paper, tmp_path):
    empty = open_chapter(STUDY, store=RecordStore(tmp_path))
    frame = study.frame(empty.frame())
    assert recorded_places(frame) == [] and answers.findings(frame) == ""
    assert tables.recorded_times(empty).empty and tables.selection_table(frame, []).empty
    assert list(power_table(frame, [])["spread of"].unique()) == ["assumed"]
    found = answers.verdicts(paper, frame, None)
    assert {verdict.label for verdict in found} == {"not attempted"}
    assert answers.glance(found, frame).startswith("\nVerdicts")
    assert "--profile laptop</code>" in tables.not_run("best")
    assert "--profile paper</code>" in tables.not_run("paper")


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
    return headline(answers.verdicts(alone, frame, deviation))[claim]


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


def test_the_first_lines_take_every_number_from_the_records(paper):
    frame = pd.concat(
        [FRAME, rows({"CCE (released)": [0.41, 0.40, 0.40, 0.41]}, metric="recall_few")], ignore_index=True
    )
    text = answers.glance(answers.verdicts(paper, frame, 0.0), frame)
    for arm in ("CCE (paper)", "CCE (released)"):
        assert f"{t_text(ACCURACY[arm], ACCURACY['CE'])} points with {arm}" in text
    assert f"- **{TAIL.title()}** (4 seeds): accuracy 71.2 % with CE" in text
    assert f"minority recall 42.0 % with CE, {t_text(RECALL['CCE (paper)'], RECALL['CE'])}" in text
    assert "B-5 *holds*" in text


def test_findings_set_two_differences_against_each_other_and_leave_out_what_was_not_run():
    text = answers.findings(FRAME)
    forms = t_text(ACCURACY["CCE (paper)"], ACCURACY["CCE (released)"])
    counting = t_text(ACCURACY["Balanced softmax"], ACCURACY["CE"])
    assert text.count("\n") == 1, "no entropy, and no minority recall of balanced softmax, was recorded"
    assert text.endswith(f"CIFAR-10, exponential 100: {forms} against {counting}.")
    entropy = {"CE": [1.5, 1.4], "CCE (paper)": [1.9, 1.7], "CCE (released)": [1.0, 1.2]}
    _, first, *_ = answers.findings(pd.concat([FRAME, rows(entropy, metric="wrong_class_entropy")])).split(
        "\n"
    )
    assert t_text(entropy["CCE (paper)"], entropy["CE"], scale=1, digits=2) in first


# Spread


def power(n, effect):
    """Return the power of the two-sided paired t test, by integration over the estimated variance."""
    quantile = stats.t.ppf(0.975, n - 1)

    def rejected(chi2):
        bar, shift = quantile * math.sqrt(chi2 / (n - 1)), math.sqrt(n) * effect
        return (stats.norm.sf(bar - shift) + stats.norm.cdf(-bar - shift)) * stats.chi2.pdf(chi2, n - 1)

    return integrate.quad(rejected, 0, np.inf, limit=200)[0]


def test_the_seeds_of_the_power_table_are_the_fewest_that_reach_the_power():
    found = power_table(FRAME, [TAIL, STEP], differences=(0.01,), assumed=(0.01, 0.02))
    gains = np.subtract(ACCURACY["CCE (paper)"], ACCURACY["CE"])
    sd = gains.std(ddof=1)
    low, high = (sd * math.sqrt(3 / stats.chi2.ppf(end, 3)) for end in (0.975, 0.025))
    first = found.iloc[0]
    assert first.iloc[0] == f"{TAIL.title()}: CCE (paper) - CE"
    assert first.iloc[1] == f"{100 * sd:.2f} ({100 * low:.2f} to {100 * high:.2f})" and first["pairs"] == "4"
    assert list(found["spread of"])[2:] == ["assumed"] * 2 and list(found.iloc[2:, 1]) == ["1", "2"]
    for spread, text in zip([sd, 0.01, 0.02], found["seeds for 1 points"].iloc[[0, 2, 3]], strict=True):
        n = int(text)
        assert power(n, 0.01 / spread) >= 0.8 > power(n - 1, 0.01 / spread)


def test_our_resnet32_stands_below_inside_or_above_the_published_spread():
    entry = {"variant": "v", "source": "someone"}
    reference = parse_reference(
        [
            {"method": "CE", **entry, "values": [["cifar10", 100, "70.0", "read"]]},
            {"method": "CE", **entry, "source": "other", "values": [["cifar10", 100, "73.0", "read"]]},
            {"method": "CE", **entry, "source": "third", "values": [["cifar10", 100, "99.0", "recalled"]]},
            *(
                {"method": name, **entry, "values": [["cifar10", 100, "77.0", "read"]]}
                for name in ("Focal", "LDAM-DRW", "Balanced softmax", "Class-balanced", "Logit adjustment")
            ),
            *(
                {"method": name, **entry, "values": [["cifar100", 10, "50.0", "read"]]}
                for name in ("Logit adjustment, post-hoc", "tau-normalisation", "cRT")
            ),
        ]
    )
    place = Place("ResNet-32", "cifar10", "exponential 100")
    last = {"CE": [0.71, 0.72], "Focal": [0.70, 0.71], "LDAM-DRW": [0.80, 0.82]}
    frame = pd.concat(
        [
            rows(last, place, profile="paper"),
            rows({"CE": [0.73, 0.74]}, place, "best_test_accuracy", "paper"),
            rows({"Balanced softmax": [0.77]}, place, profile="laptop"),
        ]
    )
    table, drawn = published_table(frame, reference, [("cifar10", 100), ("cifar10", 50)])
    found = table.set_index("method")
    sides = {"CE": "inside", "Focal": "below", "LDAM-DRW": "above", "Balanced softmax": ""}
    assert {name: found.loc[name, "it lies"] for name in sides} == sides
    ours = found.loc["CE"]
    assert (ours["published (%)"], ours["results"], ours["n"]) == ("70.0 to 73.0", 2, 2)
    assert (
        ours["here, best test epoch (%)"] == "73.5" and found.loc["Focal", "here, best test epoch (%)"] == ""
    )
    assert found.loc["Balanced softmax", "here, last epoch (%)"] == "not attempted", (
        "laptop is no such profile"
    )
    point = drawn.set_index("method").loc["CE"]
    assert (point["mean"], point["paper"], point["values"]) == (
        pytest.approx(0.715),
        pytest.approx(0.735),
        pytest.approx((0.70, 0.73)),
    )
    assert drawn.loc[drawn["n"] > 0, "row"].tolist() == ["CE", "Focal", "LDAM-DRW"]
    assert intervals(drawn, axis="accuracy (%)", scale=100).svg().startswith(b"<?xml")
