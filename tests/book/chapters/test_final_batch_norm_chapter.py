"""The chapter on the final batch norm: every table, verdict and sentence from hand-made records."""

import ast

import leaf_runs
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import imbal_book.chapters
from imbal_book.build.book import find_notebook
from imbal_book.chapters import Html, open_chapter
from imbal_book.chapters import final_batch_norm as tables
from imbal_book.chapters import final_batch_norm_leaves as leaves
from imbal_book.chapters import final_batch_norm_mechanism as mechanism
from imbal_book.chapters import final_batch_norm_training as training
from imbal_book.chapters.readings import contrast, headline
from imbal_book.evidence.papers import load_paper
from imbal_book.evidence.statistics import Interval
from imbal_book.pictures.figures import Drawing
from imbal_book.run.long_frames import IDENTITY, records_frame
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies import final_batch_norm as study

NAME = leaf_runs.NAME
LITE = "EfficientNet-Lite0"
PLANTS = tuple(f"plantvillage-{plant}" for plant in study.PLANTS)


@pytest.fixture(scope="module")
def paper():
    return load_paper("kocaman_2020")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """Return a store with the records of a whole laptop grid, drawn instead of trained."""
    return leaf_runs.fill(RecordStore(tmp_path_factory.mktemp("records") / "results"))


@pytest.fixture(scope="module")
def records(laptop):
    return tables.in_order(open_chapter(NAME, store=laptop).frame())


@pytest.fixture(scope="module")
def frame(records):
    return study.frame(records)


@pytest.fixture(scope="module")
def part(frame):
    return tables.select(frame, LITE)


def rows(
    values, metric="f1_minority", *, dataset=PLANTS[0], form=LITE, profile="laptop", imbalance="1000:10"
):
    """Return rows in long form; ``values`` maps a readout to one value per seed."""
    found = [
        (f"{readout} {seed}", profile, form, "net", dataset, imbalance, seed, seed, readout, metric, value)
        for readout, series in values.items()
        for seed, value in enumerate(series)
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "metric", "value"])


PLAIN, LAYER = [0.30, 0.45, 0.38], [0.90, 0.93, 0.95]


def t_text(a, b=None, digits=1):
    """Return the mean of a, or of a - b, in points with its interval, by SciPy."""
    values = np.asarray(a) - (0 if b is None else np.asarray(b))
    if not values.any():
        return "+0.0 (0.0 to 0.0)"
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{100 * values.mean():+.{digits}f} ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


# Levels and gains


def test_records_stand_in_the_order_of_the_grid(records):
    shuffled = tables.in_order(records.sample(frac=1, random_state=0))
    place = {config: index for index, config in enumerate(build_grid(NAME, "laptop"))}
    known = shuffled[[config in place for config in shuffled["config"]]]
    ranks = [place[config] for config in known["config"]]
    assert ranks == sorted(ranks) and len(ranks) > 40
    assert shuffled["key"].tolist()[: len(known)] == known["key"].tolist(), "others stand behind"
    assert list(dict.fromkeys(shuffled["dataset"])) == list(PLANTS)
    first = tables.runs(shuffled.iloc[:4], shuffled)
    assert first["arm"].tolist() == ["plain", "final BN", "weighted loss", "final BN + weighted loss"]


def test_a_level_is_the_mean_with_its_interval_inside_0_to_1():
    (cell,) = tables.levels(rows({"final BN": [0.9, 0.99, 1.0]}), ["plain", "final BN"]).to_dict("records")
    values = np.array([0.9, 0.99, 1.0])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert high > 1 and (cell["mean"], cell["low"], cell["high"]) == pytest.approx((values.mean(), low, 1.0))
    assert (cell["dataset"], cell["n"], cell["values"]) == ("apple", 3, (0.9, 0.99, 1.0))


def test_the_table_of_f1_pairs_every_arm_with_the_plain_one(part):
    found = tables.f1_table(part).set_index(["plant", "arm"])
    assert list(found.index) == [(plant, arm) for plant in study.PLANTS for arm in study.ARMS]

    def values(arm, metric="f1_minority"):
        own = part[(part["dataset"] == PLANTS[1]) & (part["readout"] == arm) & (part["metric"] == metric)]
        return own.sort_values("split_seed")["value"].to_numpy()

    row = found.loc[("pepper", "final BN")]
    assert row["gain over plain"] == t_text(values("final BN"), values("plain"))
    assert row["recall"] == f"{values('final BN', 'recall_minority').mean():.3f}"
    assert row["F1, rare"].startswith(f"{values('final BN').mean():.3f} (")
    assert found.loc[("pepper", "plain"), "gain over plain"] == ""
    assert set(found["seeds"]) == {3}


def test_only_the_two_numbers_of_the_abstract_are_reported(paper):
    assert tables.reported(paper) == {"plain": 0.29, "final BN": 0.95}
    assert tables.references(paper)["abstract: 0.95, final BN"] == ("final BN", 0.95)


# Epochs, loss and confidence


def histories(plain, layer, metric="test_f1_minority"):
    """Return rows per epoch; each arm has one list of values per seed."""
    found = [
        (f"{arm} {seed}", "laptop", LITE, "net", PLANTS[0], "1000:10", seed, seed, arm, epoch, metric, value)
        for arm, runs in (("plain", plain), ("final BN", layer))
        for seed, values in enumerate(runs)
        for epoch, value in enumerate(values, 1)
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "epoch", "metric", "value"])


def test_epochs_to_a_level_count_one_more_where_it_is_never_reached():
    epochs = histories(
        plain=[[0.1, 0.2, 0.7], [0.0, 0.1, 0.2], [0.8, 0.1, 0.7]],
        layer=[[0.7, 0.8, 0.7], [0.2, 0.8, 0.6], [0.9, 0.9, 0.9]],
    )
    found = training.epochs_table(epochs.sample(frac=1, random_state=1)).set_index("F1 of at least")
    # at 0.7 plain reaches it in epochs 3, never (4) and 1, the layer in 1, 2 and 1
    assert (found.loc["0.7", "plain, epochs"], found.loc["0.7", "final BN, epochs"]) == ("2.7", "1.3")
    low, high = stats.t.interval(0.95, 2, -4 / 3, stats.sem([-2, -2, 0]))
    assert found.loc["0.7", "difference"] == f"-1.3 ({low:.1f} to {high:.1f})"
    assert (found.loc["0.7", "plain, got there"], found.loc["0.7", "final BN, got there"]) == (
        "2 of 3",
        "3 of 3",
    )
    assert found.loc["0.9", "plain, epochs"] == "4.0" and found.loc["0.9", "plain, got there"] == "0 of 3"


def test_the_baseline_is_that_of_the_test_images_and_of_one_kind_of_test_only(records, part):
    assert training.baseline(records, part) == pytest.approx(2 / 3)
    other = records.assign(
        measurements=[{**m, "test_counts": [90, 10 + i % 2]} for i, m in enumerate(records["measurements"])]
    )
    assert training.baseline(other, part) is None


def test_the_two_epochs_of_the_loss_table_are_those_that_validation_chooses(records, part):
    epochs = tables.select(study.epoch_frame(records), LITE)
    found = training.loss_table(part, epochs).set_index(["plant", "arm"])
    differences, best_epochs = [], []
    for row in tables.runs(records, part).to_dict("records"):
        if row["dataset"] == PLANTS[2] and row["arm"] == "final BN":
            history = {name: np.array(values) for name, values in row["measurements"]["history"].items()}
            best, lowest = history["valid_f1_minority"].argmax(), history["valid_loss"].argmin()
            differences.append(history["test_f1_minority"][best] - history["test_f1_minority"][lowest])
            best_epochs.append(best + 1)
    row = found.loc[("tomato", "final BN")]
    assert row["difference in F1"] == t_text(differences) and row["seeds"] == 3
    assert row["epoch of best F1"] == f"{np.mean(best_epochs):.1f}"
    assert row["epoch of lowest loss"] == "3.0", "so the records are drawn"


def test_curves_hold_f1_and_loss_of_every_epoch_and_run(records):
    cells = training.curve_cells(tables.select(study.epoch_frame(records), LITE))
    assert len(cells) == 3 * 2 * 3 * 6 and list(dict.fromkeys(cells["dataset"])) == list(study.PLANTS)
    assert list(dict.fromkeys(cells["method"])) == ["plain", "final BN"]
    one = records.set_index("key").loc[cells["key"].iloc[0], "measurements"]["history"]
    own = cells[cells["key"] == cells["key"].iloc[0]]
    assert own["f1"].tolist() == one["test_f1_minority"] and own["loss"].tolist() == one["valid_loss"]


def test_bins_of_confidence_add_up_the_images_of_all_seeds(records, part):
    own = tables.runs(records, part)
    bins = training.confidence_bins(own, [("plain", "softmax"), ("final BN", "softmax")])
    cell = bins[(bins["dataset"] == "apple") & (bins["method"] == "final BN")]
    for kind in ("histogram", "reliability"):
        assert cell.loc[cell["kind"] == kind, "count"].sum() == 3 * 300
    chosen = own[(own["dataset"] == PLANTS[0]) & (own["arm"] == "final BN")]
    margins = np.concatenate(
        [np.concatenate(m["margins"]["softmax"]["test"]) for m in chosen["measurements"]]
    )
    labels = np.tile(np.repeat([0, 1], 150), 3)
    sure = 1 / (1 + np.exp(-np.abs(margins)))
    filled = cell[(cell["kind"] == "reliability") & (cell["count"] > 0)]
    for row in filled.to_dict("records"):
        inside = (sure > row["lower"]) & (sure <= row["upper"])
        assert abs(row["count"] - inside.sum()) <= 2, "four digits of a margin may cross an edge"
        assert row["confidence"] == pytest.approx(sure[inside].mean(), abs=3e-3)
        assert row["accuracy"] == pytest.approx(((margins > 0) == labels)[inside].mean(), abs=0.05)


def test_the_table_of_confidence_holds_paired_differences(part):
    found = training.confidence_table(part).set_index(["plant", ""])
    own = part[(part["dataset"] == PLANTS[0]) & (part["metric"] == "confidence")]
    wide = own.pivot(index="split_seed", columns="readout", values="value")
    assert found.loc[("apple", "mean confidence"), "difference"] == t_text(wide["final BN"], wide["plain"])


def test_margins_are_those_of_the_first_seed_by_plant_and_arm(records, part):
    own = tables.runs(records, part)
    found = training.margins(own)
    assert list(dict.fromkeys(zip(found["dataset"], found["method"], strict=True))) == [
        (plant, arm) for plant in study.PLANTS for arm in ("plain", "final BN")
    ]
    assert len(found) == 3 * 2 * 300 and set(found["balanced"]) == {-3.0}
    first = own[(own["dataset"] == PLANTS[2]) & (own["arm"] == "plain") & (own["split_seed"] == 0)]
    cell = found[(found["dataset"] == "tomato") & (found["method"] == "plain") & (found["label"] == 1)]
    assert cell["margin"].tolist() == first["measurements"].iloc[0]["margins"]["softmax"]["test"][1]


# The mechanism


@pytest.mark.parametrize(
    ("ranking", "at_best", "answer"),
    [(0.01, 0.02, "more"), (0.01, -0.02, "mixed"), (-0.01, 0.02, "mixed"), (-0.01, -0.01, "no sign of more")],
)
def test_more_than_a_shift_needs_both_measures_that_no_shift_can_change(ranking, at_best, answer):
    made = [Interval(low + 0.05, low, low + 0.1, 3, 0.02) for low in (ranking, at_best)]
    assert mechanism.judged_shift(*made) == answer


def test_a_plain_network_that_is_only_shifted_shows_no_sign_of_more():
    """The layer's images lie as the plain network's do, with another threshold."""
    rng = np.random.default_rng(0)
    made = []
    for seed in range(3):
        labels = np.repeat([0, 1], 150)
        margin = rng.normal(0, 1, 300) + 2.5 * labels - 4
        for arm, shift in (("plain", 0.0), ("final BN", 2.8)):
            scores = leaf_runs.readout_scores(labels, np.stack([0 * margin, margin + shift], axis=1))
            for metric, value in study.long_scores(scores).items():
                made.append(rows({arm: [value]}, metric).assign(split_seed=seed, train_seed=seed))
    found = pd.concat(made)
    assert contrast(found, "final BN", "plain", "f1_minority").low > 0.3, "F1 gains all the same"
    text = mechanism.answer(found)
    assert text.startswith("- apple: **no sign that it is more than a shift of the threshold.**")
    assert "+0.0 (0.0 to 0.0) points of AUROC" in text and text.endswith("3 seeds.")


def test_the_answer_takes_its_numbers_from_the_records(part):
    lines = mechanism.answer(part).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"- {plant}" for plant in study.PLANTS]
    own = part[part["dataset"] == PLANTS[0]]
    mean = own.groupby(["readout", "metric"])["value"].mean()
    assert f"F1 is {mean['plain', 'f1_minority']:.2f} plain" in lines[0]
    assert f"{mean['plain, balanced threshold', 'f1_minority']:.2f} shifted by validation images" in lines[0]
    assert f"at most {mean['plain', 'f1_best']:.2f} with any threshold" in lines[0]
    assert f"and {mean['final BN', 'f1_minority']:.2f} with the layer" in lines[0]


def test_every_question_is_a_paired_difference_of_readouts_that_exist(part):
    found = mechanism.questions(part)
    assert found["question"].tolist() == [question for question, *_ in mechanism.QUESTIONS]
    own = part[part["dataset"] == PLANTS[0]]
    for row, (_, a, b, metric) in zip(found.to_dict("records"), mechanism.QUESTIONS, strict=True):
        wide = own[own["metric"] == metric].pivot(index="split_seed", columns="readout", values="value")
        assert row["apple"] == t_text(wide[a], wide[b])
    adjusted = found.set_index("question").loc["Does it beat the shift inside the loss?"]
    assert adjusted["pepper"] == "not attempted", "one plant has the arms of the mechanism"


def test_the_figure_of_the_mechanism_holds_every_readout_twice(part):
    cells = mechanism.readout_cells(part[part["dataset"] == PLANTS[0]])
    assert list(dict.fromkeys(cells["row"])) == list(mechanism.READOUTS)
    assert cells["panel"].nunique() == 2 and len(cells) == 2 * len(mechanism.READOUTS)


def test_a_sweep_pairs_the_gain_at_every_place_and_its_change(frame):
    for by, labels in (
        ("imbalance", ["1:10", "1:30", "1:100", "1:333"]),
        ("batch size", ["16", "64", "256"]),
    ):
        cells = mechanism.sweep(frame, LITE, by)
        assert set(cells["dataset"]) == {"apple"} and list(dict.fromkeys(cells["label"])) == labels
        table = mechanism.sweep_table(frame, LITE, by)
        assert table[by].tolist() == labels and set(table["plant"]) == {"apple"}

    def gains(imbalance):
        own = frame[
            (frame["form"] == LITE) & (frame["dataset"] == PLANTS[0]) & (frame["imbalance"] == imbalance)
        ]
        wide = own[own["metric"] == "f1_minority"].pivot(
            index="split_seed", columns="readout", values="value"
        )
        return wide["final BN"] - wide["plain"]

    table = mechanism.sweep_table(frame, LITE, "imbalance").set_index("imbalance")
    assert table.loc["1:10", "gain of the layer"] == t_text(gains("1000:100"))
    assert table.loc["1:10", "minus the gain at 1:100"] == t_text(gains("1000:100"), gains("1000:10"))
    assert table.loc["1:100", "minus the gain at 1:100"] == ""
    gain = mechanism.sweep(frame, LITE, "imbalance").set_index(["label", "method"]).loc[("1:10", "gain")]
    assert gain["mean"] == pytest.approx(gains("1000:100").mean()) and gain["n"] == 3


def test_what_is_left_of_the_start_is_what_a_layer_of_torch_has_left():
    config = next(c for c in build_grid(NAME, "laptop") if c.final_batch_norm)
    steps, share = mechanism.running_share(config, 1010)
    assert steps == 6 * 16, "the last batch of an epoch is smaller"
    layer = torch.nn.BatchNorm1d(2, momentum=config.final_batch_norm_momentum)
    layer.running_mean += 1.0
    for _ in range(steps):
        layer(torch.zeros(8, 2))
    assert share == pytest.approx(layer.running_mean[0].item(), rel=1e-4)
    found = mechanism.running_share_table(build_grid(NAME, "laptop")).set_index(["batch size", "momentum"])
    column = "share of the start that is left"
    assert found.loc[(64, "0.01"), column] == f"{share:.0%}" == "38%"
    assert found.loc[(64, "0.1"), column] == "under 1%"


def test_the_layers_table_says_what_is_done_to_a_logit(records, part):
    found = mechanism.layer_table(tables.runs(records, part))
    assert set(found["arm"]) == {
        arm for arm in {**study.ARMS, **study.MECHANISM_ARMS} if arm.startswith("final BN")
    }
    row = found.iloc[0]
    layer = torch.nn.BatchNorm1d(2).eval()
    with torch.no_grad():
        for name, value in (("running_mean", 3.0), ("running_var", 1.5), ("weight", 1.1), ("bias", 0.2)):
            getattr(layer, name).fill_(value)
        low, high = layer(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))[:, 0].tolist()
    assert (row["logit of the class"], row["runs"]) == ("large", 3)
    assert (row["multiplied by"], row["then shifted by"]) == (f"{high - low:.2f}", f"{low:+.2f}")


# Leaves


def test_the_table_of_leaves_sets_both_splits_beside_each_other(records, frame):
    shares = leaves.leakage(records)
    assert len(shares) == 3 * 2 + 3, (
        "three seeds; both splits of apple, one of tomato, leaves of pepper unknown"
    )
    found = leaves.leakage_table(shares, frame, LITE).set_index(["plant", "split"])
    assert list(found.index) == [("apple", "random"), ("apple", "leaf-grouped"), ("tomato", "random")]
    column = "test healthy images whose leaf is in training"
    assert found.loc[("apple", "random"), column] == "93%"
    assert found.loc[("apple", "leaf-grouped"), column] == "0%"
    grouped = tables.select(frame, f"{LITE}, leaf-grouped split")
    gain = contrast(grouped, "final BN", "plain", "f1_minority")
    assert found.loc[("apple", "leaf-grouped"), "gain of the layer"] == tables.points(gain)


# Verdicts


def gains(values, metric="f1_minority", a="final BN", b="plain", datasets=PLANTS, **options):
    """Return rows in which a is above b by these gains, one for each plant, with a spread of 0.1 points."""
    noise = 0.001 * np.array([-1, 1, 0, 1, -1])
    return pd.concat(
        rows({b: [0.3] * 5, a: 0.3 + gain + noise}, metric, dataset=dataset, **options)
        for gain, dataset in zip(values, datasets, strict=True)
    )


def verdict_of(paper, claim, frame):
    return headline(tables.verdicts(paper, frame))[claim]


EACH = [
    ((0.4, 0.5, 0.6), "holds"),
    ((0.4, 0.5, -0.1), "fails"),
    ((0.4, 0.5, 0.0), "undecided"),
    ((0.0002, -0.0002, 0.0), "undecided"),
]
BEST, LOWEST = "final BN, epoch of best F1", "final BN, epoch of lowest loss"


@pytest.mark.parametrize(("values", "label"), EACH)
@pytest.mark.parametrize(
    ("claim", "metrics", "a", "b"),
    [
        ("A-1", ["f1_minority"], "final BN", "plain"),
        ("A-2b", ["recall_minority", "accuracy"], "final BN", "plain"),
        ("A-3", ["f1_minority"], BEST, LOWEST),
    ],
)
def test_the_papers_claims_get_each_verdict(paper, claim, metrics, a, b, values, label):
    found = verdict_of(paper, claim, pd.concat([gains(values, metric, a, b) for metric in metrics]))
    assert (found.label, found.form, found.n, found.grade) == (label, LITE, 5, "stand-in")


def test_recall_alone_does_not_lower_the_error(paper):
    """To call every leaf diseased would win it, at the price of accuracy."""
    frame = pd.concat([gains([0.5] * 3, "recall_minority"), gains([-0.2] * 3, "accuracy")])
    assert verdict_of(paper, "A-2b", frame).label == "fails"


@pytest.mark.parametrize(("sooner", "label"), [(1.0, "undecided"), (-1.0, "fails")])
def test_training_time_counts_signs_and_five_of_five_are_few_for_three_plants(paper, sooner, label):
    frame = pd.concat([gains([-sooner] * 3, "epochs_to_f1")])
    found = verdict_of(paper, "A-2a", frame)
    assert set(found.parts["mean"]) == {-sooner} and found.label == ("undecided" if label else "")


def test_half_of_the_papers_gain_stands_beside_the_label(paper):
    short = verdict_of(paper, "A-1", gains((0.31, 0.32, 0.30)))
    assert short.label == "holds" and "falls short of half of what the paper prints, +66.0" in short.size
    assert "reaches half" in verdict_of(paper, "A-1", gains((0.4, 0.5, 0.6))).size


@pytest.mark.parametrize(
    ("f1", "confidence", "label"),
    [(0.4, -0.2, "holds"), (0.4, 0.2, "fails"), (-0.4, -0.2, "fails")],
)
def test_a4_needs_better_and_less_sure_at_once(paper, f1, confidence, label):
    frame = pd.concat([gains([f1] * 3), gains([confidence] * 3, "confidence")])
    assert verdict_of(paper, "A-4", frame).label == label


@pytest.mark.parametrize(("gain", "label"), [(0.4, "holds"), (-0.4, "fails"), (0.0, "undecided")])
def test_a2i_asks_the_network_without_its_layer(paper, gain, label):
    frame = gains([gain], a="final BN, removed at inference", datasets=PLANTS[:1])
    layer = frame[frame["readout"] == "final BN, removed at inference"].assign(readout="final BN")
    frame = pd.concat([frame, layer])
    assert verdict_of(paper, "A2-i", frame).label == label


@pytest.mark.parametrize(("at", "label"), [((0.1, 0.4, 0.2), "holds"), ((0.1, 0.4, 0.6), "fails")])
def test_a2ii_wants_the_gain_to_be_largest_at_the_papers_imbalance(paper, at, label):
    places = zip(at, ("1000:100", "1000:10", "1000:3"), strict=True)
    frame = pd.concat(gains([gain], datasets=PLANTS[:1], imbalance=place) for gain, place in places)
    assert verdict_of(paper, "A2-ii", frame).label == label


def test_claims_without_a_comparison_are_not_attempted_whatever_was_run(paper, frame):
    found = tables.verdicts(paper, frame)
    for claim in ("A2-iv", "A2-v", "A2-vi"):
        assert [verdict.label for verdict in found if verdict.claim == claim] == ["not attempted"] * 3


def test_digits_enter_no_verdict_and_the_larger_profile_counts(paper):
    smoke = gains((0.4, 0.5, 0.6), profile="smoke")
    assert {verdict.label for verdict in tables.verdicts(paper, smoke)} == {"not attempted"}
    both = pd.concat([gains((0.4, 0.5, 0.6)), gains((-0.4, -0.5, -0.6), profile="paper")])
    assert (verdict_of(paper, "A-1", both).label, verdict_of(paper, "A-1", both).profile) == (
        "fails",
        "paper",
    )


def test_the_first_lines_take_every_number_from_the_records(paper):
    frame = rows({"plain": PLAIN, "final BN": LAYER})
    text = tables.glance(paper, tables.verdicts(paper, frame), frame)
    first, second = np.mean(PLAIN), np.mean(LAYER)
    assert f"apple from {first:.2f} to {second:.2f}, {t_text(LAYER, PLAIN)} points, 3 pairs" in text
    assert "weights in the loss" not in text, "these runs have no such arm"
    assert "from 0.29 to 0.95" in text and "A-1 *undecided* (stand-in, n = 3)" in text, (
        "two of three plants were not run"
    )


def test_the_first_lines_compare_the_layer_with_a_weighted_loss(paper, frame):
    text = tables.glance(paper, [], frame)
    for plant, own in tables.plants(tables.select(frame, LITE)):
        wide = own[own["metric"] == "f1_minority"].pivot_table(
            index="train_seed", columns="readout", values="value"
        )
        assert f"{t_text(wide['final BN'], wide['weighted loss'])} points for {plant}" in text


def test_a_chapter_without_records_is_empty_and_says_how_to_run_them(paper, tmp_path):
    records = tables.in_order(open_chapter(NAME, store=RecordStore(tmp_path)).frame())
    frame = study.frame(records)
    assert tables.available(frame) == [] and tables.runs(records, frame).empty
    assert tables.select(frame, "").empty and mechanism.answer(frame) == ""
    assert mechanism.sweep(frame, "", "imbalance").empty and leaves.leakage(records).empty
    text = tables.glance(paper, tables.verdicts(paper, frame), frame)
    assert tables.COMMAND in text and tables.COMMAND in tables.MISSING
    assert tables.shown(frame, len) is tables.MISSING


# The notebook


def outputs_of(notebook, monkeypatch, **parameters):
    """Execute the cells of a notebook here and return what each shows."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    names: dict[str, object] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type != "code" or "colab" in cell.metadata.get("tags", []):
            continue
        given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        tags = cell.metadata.get("tags", [])
        tree = ast.parse(f"{cell.source}\n{given}" if "parameters" in tags else cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(notebook), "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(notebook), "eval"), names))
    return shown


@pytest.mark.parametrize(("recorded", "drawings"), [("nothing", 2), ("laptop", 10), ("smoke", 8)])
def test_the_notebook_runs_without_records_with_records_and_on_digits(
    laptop, tmp_path, monkeypatch, recorded, drawings
):
    store = laptop if recorded == "laptop" else RecordStore(tmp_path / "results")
    if recorded == "smoke":
        leaf_runs.fill(store, recorded)
    profile = "smoke" if recorded == "smoke" else "best"
    monkeypatch.setattr(imbal_book.chapters, "RecordStore", lambda *_: store)
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path))
    shown = outputs_of(find_notebook(NAME), monkeypatch, PROFILE=profile, LIVE=False)
    assert sum(isinstance(output, Drawing) for output in shown) == drawings
    texts = [str(getattr(output, "data", output)) for output in shown]
    assert any("leaves are not on the machine" in text for text in texts)
    assert any("switched off" in text for text in texts)
    missing = [output for output in shown if isinstance(output, Html) and output == tables.MISSING]
    assert bool(missing) == (recorded != "laptop")


def test_the_two_starts_of_the_head_stand_beside_each_other(store_of_both):
    records = records_frame(store_of_both.read(NAME, "laptop"))
    frame, epochs = study.frame(records), study.epoch_frame(records)
    found = tables.two_starts(frame, epochs, LITE)
    apple = found[found["plant"] == "apple"]
    assert apple["start of the head"].tolist() == ["nn.Linear's", "timm's own"]
    for name, row in zip((LITE, f"{LITE} (timm's start)"), apple.to_dict("records"), strict=True):
        part = tables.select(frame, name)
        own = part[part["dataset"] == "plantvillage-apple"]
        assert row["layer - plain"] == tables.points(contrast(own, "final BN", "plain", "f1_minority"))
        gain = contrast(own, "final BN", "plain, logit adjusted", "f1_minority")
        assert row["layer - logit adjusted"] == tables.points(gain) and row["pairs"] == 3
    assert tables.two_starts(frame.iloc[:0], epochs.iloc[:0], LITE).empty


def test_side_questions_are_shown_for_the_start_that_has_them(store_of_both):
    frame = study.frame(records_frame(store_of_both.read(NAME, "laptop")))
    assert tables.with_side_questions(frame, LITE) == LITE
    main = frame[~frame["form"].str.startswith(f"{LITE}, ")]
    assert tables.with_side_questions(main, LITE) == f"{LITE} (timm's start)"
    assert tables.with_side_questions(main, "VGG19") == "VGG19"


@pytest.fixture(scope="module")
def store_of_both(tmp_path_factory):
    """Records of both starts; the drawn logits of a run with timm's are those of its twin."""
    store = leaf_runs.fill(RecordStore(tmp_path_factory.mktemp("both") / "results"))
    for config in build_grid(NAME, "laptop"):
        if config.head_start == "own":
            store.write(leaf_runs.record_of(config))
    return store
