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
from imbal_book.chapters import final_batch_norm_mechanism as mechanism
from imbal_book.chapters import final_batch_norm_training as training
from imbal_book.chapters.readings import headline, verdicts
from imbal_book.evidence.papers import load_paper
from imbal_book.pictures.figures import Drawing
from imbal_book.run.long_frames import IDENTITY
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies import final_batch_norm as study

NAME, LITE = leaf_runs.NAME, leaf_runs.LITE
OWN = f"{LITE}{study.OWN_START}"
PLANTS = tuple(f"plantvillage-{plant}" for plant in study.PLANTS)
SEEDS = ["split_seed", "train_seed"]


@pytest.fixture(scope="module")
def paper():
    return load_paper("kocaman_2020")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """Return a store with records of every kind, drawn instead of trained."""
    store = RecordStore(tmp_path_factory.mktemp("records") / "results")
    return leaf_runs.fill(store, keep=leaf_runs.kinds(*leaf_runs.KINDS))


@pytest.fixture(scope="module")
def runs(laptop):
    return tables.runs(open_chapter(NAME, store=laptop).frame())


@pytest.fixture(scope="module")
def frame(laptop):
    return tables.in_order(study.frame(open_chapter(NAME, store=laptop).frame()))


@pytest.fixture(scope="module")
def epochs(laptop):
    return study.epoch_frame(open_chapter(NAME, store=laptop).frame())


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


def values(frame, readout, metric="f1_minority", dataset=PLANTS[0]):
    """Return the values of one form and imbalance by pair of seeds, by pandas' own selection."""
    own = frame.query("readout == @readout and metric == @metric and dataset == @dataset")
    return own.set_index(SEEDS)["value"].astype(float)


def t_text(a, b=None):
    """Return the mean of a, or of a - b, in points with its interval, by SciPy; series are aligned by seeds."""
    found = np.asarray(a if b is None else (a - b).dropna(), dtype=float)
    if not found.any():
        return "+0.0 (0.0 to 0.0)"
    low, high = stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
    return f"{100 * found.mean():+.1f} ({100 * low:.1f} to {100 * high:.1f})"


# What is recorded, and in which order


def test_runs_stand_in_the_order_of_the_page_with_the_words_of_the_book(laptop):
    shuffled = tables.runs(open_chapter(NAME, store=laptop).frame().sample(frac=1, random_state=0))
    own = tables.select(shuffled, LITE)
    assert list(dict.fromkeys(own["dataset"])) == list(PLANTS)
    assert own["arm"].head(8).tolist() == ["plain"] * 3 + ["final BN"] * 3 + ["weighted loss"] * 2
    assert own[SEEDS].head(3).to_numpy().tolist() == [[0, 0], [1, 1], [2, 0]]
    assert set(shuffled["imbalance"]) == {"1000:10", "1000:100", "1000:33", "1000:3"}


def places_of(keep):
    """Return (imbalances, batch sizes) that plain and final BN share, by network, counted config by config."""
    found = {}
    for config in filter(keep, build_grid(NAME, "laptop")):
        plain = config.fold_batch_norm or config.optimizer == "sgd" or config.split_groups
        if not plain and study.arm(config) in tables.ARMS:
            start = LITE if config.head_start == "linear" else OWN
            rare = config.imbalance.split("-")[2]
            if config.batch_size == 64:
                found.setdefault((start, "imbalance", config.dataset), {}).setdefault(rare, set()).add(
                    study.arm(config)
                )
            if rare == "10":
                by = found.setdefault((start, "batch size", config.dataset), {})
                by.setdefault(config.batch_size, set()).add(study.arm(config))
    places = {key: sum(len(arms) == 2 for arms in by.values()) for key, by in found.items()}
    return {key: n for key, n in places.items() if n > 1}


ALONE = [(kind,) for kind in leaf_runs.KINDS]
EVERY = tuple(leaf_runs.KINDS)
FAULT = ("fair", "timm's start", "timm's imbalances", "timm's batch sizes", "timm's leaves", "SGD", "folded")


@pytest.mark.parametrize("names", [(), *ALONE, FAULT, EVERY], ids=" + ".join)
def test_sweeps_show_every_start_that_has_them_whatever_else_is_recorded(names, laptop, runs, frame, epochs):
    """An SGD or folded run of the fair head once hid the sweeps, and the leaves, of the only start that had them."""
    keep = leaf_runs.kinds(*names) if names else lambda config: False
    keys = {record.key for record in open_chapter(NAME, store=laptop).records if keep(record.run_config())}
    own, own_runs = frame[frame["key"].isin(keys)], runs[runs["key"].isin(keys)]
    expected, found = places_of(keep), {}
    for by in ("imbalance", "batch size"):
        swept = mechanism.sweep(own, by)
        for (name, dataset), cell in swept.groupby(["form", "dataset"]):
            found[name, by, dataset] = cell["imbalance"].nunique()
            assert len(mechanism.sweep_cells(cell)) == 3 * cell["imbalance"].nunique()
        assert len(mechanism.sweep_table(swept, by)) == sum(n for key, n in expected.items() if key[1] == by)
    assert found == expected
    leaves = mechanism.leakage_table(own_runs, own)
    grouped = {LITE: "leaves" in names, OWN: "timm's leaves" in names}
    assert set(leaves.loc[leaves["split"] == "leaf-grouped", "network"]) == {
        n for n, is_in in grouped.items() if is_in
    }
    two = tables.two_starts(own, epochs[epochs["key"].isin(keys)])
    assert {start for _, start in two} == {
        start for start, kind in (("nn.Linear's", "fair"), ("timm's own", "timm's start")) if kind in names
    }


@pytest.mark.parametrize("names", [("fair",), FAULT, ("SGD",)], ids=" + ".join)
def test_the_page_says_of_every_kind_of_run_how_many_are_recorded(names, tmp_path):
    store = leaf_runs.fill(RecordStore(tmp_path), keep=leaf_runs.kinds(*names))
    opened = open_chapter(NAME, store=store)
    found = tables.recorded_table(opened)
    done = found["recorded"].str.extract(r"^(\d+) of (\d+)$").astype(int)
    assert done[0].sum() == len(opened.records) and done[1].sum() == sum(opened.planned.values())
    by = found.set_index(["network", "imbalance"])
    assert by.loc[("VGG19", "1000:10"), "arms without a run"].startswith("plain, final BN, weighted loss")
    assert by.loc[(LITE, "1000:10"), "arms without a run"].endswith("logit adjustment, label smoothing")
    sgd = by.loc[(f"{LITE}, SGD", "1000:10")]
    assert sgd["recorded"] == f"{6 if 'SGD' in names else 0} of 10"
    assert (sgd["arms without a run"] == "") == ("SGD" in names)


# Levels and gains


def test_a_level_is_the_mean_with_its_interval_inside_0_to_1():
    (cell,) = tables.levels(rows({"final BN": [0.9, 0.99, 1.0]}), ["plain", "final BN"]).to_dict("records")
    fractions = np.array([0.9, 0.99, 1.0])
    low, high = stats.t.interval(0.95, 2, fractions.mean(), stats.sem(fractions))
    assert high > 1 and (cell["mean"], cell["low"], cell["high"]) == pytest.approx(
        (fractions.mean(), low, 1.0)
    )
    assert (cell["dataset"], cell["n"], cell["values"]) == (PLANTS[0], 3, (0.9, 0.99, 1.0))


def test_the_table_of_f1_pairs_every_arm_with_the_plain_one(part):
    found = tables.f1_table(part).set_index(["plant", "arm"])
    assert list(found.index) == [(plant, arm) for plant in study.PLANTS for arm in study.ARMS]
    row, layer = found.loc[("pepper", "final BN")], values(part, "final BN", dataset=PLANTS[1])
    assert row["gain over plain"] == t_text(layer, values(part, "plain", dataset=PLANTS[1]))
    assert row["recall"] == f"{values(part, 'final BN', 'recall_minority', PLANTS[1]).mean():.3f}"
    assert row["F1, rare"].startswith(f"{layer.mean():.3f} (")
    assert found.loc[("pepper", "plain"), "gain over plain"] == "" and set(found["seeds"]) == {3}


def test_arms_that_lack_pairs_are_paired_where_both_have_one(part):
    few = part[~((part["readout"] == "plain") & (part["split_seed"] == 0))]
    few = few[~((few["readout"] == "weighted loss") & (few["split_seed"] > 0))]
    found = tables.f1_table(few).set_index(["plant", "arm"])
    row = found.loc[("apple", "final BN")]
    assert row["seeds"] == 3 and row["gain over plain"] == t_text(
        values(few, "final BN"), values(few, "plain")
    )
    alone = found.loc[("apple", "weighted loss")]
    assert alone["gain over plain"] == "" and "(" not in alone["F1, rare"], "one run, and no pair with plain"
    found = mechanism.questions(few).set_index("question")
    assert found.loc["The same by precision and recall (AUPRC)", "seeds"] == "2"
    assert found.loc["Does it beat weights inside the loss?", "apple"].endswith("(one seed, no interval)")


@pytest.mark.parametrize("lacking", [*study.ARMS, "plain, of one plant", "nothing"])
def test_every_table_says_what_it_can_when_an_arm_was_not_run(lacking, frame, runs, epochs):
    """No table fails, and none prints a number that is not there."""
    arm, _, one_plant = lacking.partition(", of ")

    def left(rows, name):
        gone = (rows[name] == arm) | rows[name].str.startswith(f"{arm}, ")
        return rows[~(gone & (rows["dataset"].isin(PLANTS[:1] if one_plant else PLANTS)))]

    frame, epochs, runs = left(frame, "readout"), left(epochs, "readout"), left(runs, "arm")
    part, own, history = (tables.select(rows, LITE) for rows in (frame, runs, epochs))
    starts = tables.two_starts(frame, epochs)
    made = [
        starts,
        pd.DataFrame([tables.answers(starts)]),
        tables.f1_table(part),
        training.epochs_table(epochs),
    ]
    made += [mechanism.questions(part), mechanism.shift_table(part), mechanism.layer_table(own)]
    made += [mechanism.leakage_table(runs, frame), training.loss_table(part, history)]
    made += [training.confidence_table(part), tables.arm_cells(frame, LITE)[["row", "mean"]]]
    for by in ("imbalance", "batch size"):
        made.append(mechanism.sweep_table(mechanism.sweep(frame, by), by))
    for table in made:
        assert not table.astype(str).map(lambda text: "nan" in text.lower().split()).any(axis=None)
    for kind in ("histogram", "reliability"):
        assert set(training.confidence_bins(own, kind)["method"]) == {*tables.ARMS} - {lacking}
    assert set(training.margins(own)["method"]) == {*tables.ARMS} - {lacking}
    assert len(made[2]) == {"nothing": 12, "plain, of one plant": 11}.get(lacking, 9)


def test_only_the_two_numbers_of_the_abstract_are_reported(paper):
    found = tables.reported(paper)
    assert dict(zip(found["method"], found["value"], strict=True)) == {"plain": 0.29, "final BN": 0.95}
    assert found["label"].iloc[1] == "abstract: 0.95, final BN"


def test_the_two_starts_of_the_head_stand_beside_each_other(frame, epochs):
    found = tables.two_starts(frame, epochs)
    assert list(found.columns) == [(plant, start) for plant in study.PLANTS for start in tables.STARTS]
    for start, form in tables.STARTS.items():
        own, cell = tables.select(frame, form), found["apple", start]
        assert cell["final BN - plain"] == t_text(values(own, "final BN"), values(own, "plain"))
        shift = t_text(values(own, "final BN"), values(own, "plain, logit adjusted"))
        assert cell["final BN - plain, logit adjusted"] == shift and cell["pairs"] == "3"
        assert cell["F1, weighted loss"] == f"{values(own, 'weighted loss').mean():.3f}"
        first = tables.select(epochs, form).query(
            "epoch == 1 and metric == 'train_loss' and readout == 'plain' and dataset == @PLANTS[0]"
        )
        assert cell["first-epoch loss of plain (nats)"] == f"{first['value'].mean():.2f}"
    fair, own = (values(tables.select(frame, form), "plain") for form in (LITE, OWN))
    head = found.loc["this start - timm's own, of plain", "apple"]
    assert head["nn.Linear's"] == f"{t_text(fair, own)[:-1]}; n = 2)" and head["timm's own"] == ""


def test_the_first_sentences_take_every_number_from_the_table_of_starts(frame, epochs):
    starts = tables.two_starts(frame, epochs)
    told, start = tables.answers(starts), "timm's own"
    cells = [f"{starts.loc['final BN - plain', (plant, start)]} on {plant}" for plant in study.PLANTS]
    assert told["own_layer"] == ", ".join(cells)
    assert [name for name, text in told.items() if text == "(not attempted)"] == ["own_head"]
    nothing = tables.answers(tables.two_starts(frame.iloc[:0], epochs.iloc[:0]))
    assert set(nothing) == set(told) and set(nothing.values()) == {"(not attempted)"}
    handicapped = frame[frame["form"] == OWN], epochs[epochs["form"] == OWN]
    told = tables.answers(tables.two_starts(*handicapped))
    assert told["fair_layer"] == "(not attempted)" != told["own_layer"], (
        "timm's start never passes for the fair one"
    )


def test_the_first_figure_sets_timms_start_beside_each_arm_of_the_same_network(frame):
    cells = tables.arm_cells(frame, LITE).set_index(["panel", "row"])
    own = tables.select(frame, OWN)
    for plant, arm in (("apple", "plain"), ("tomato", "plain, logit adjusted")):
        expected = values(own, arm, dataset=f"plantvillage-{plant}").mean()
        assert cells.loc[(plant, arm), "paper"] == pytest.approx(expected)
    assert tables.arm_cells(frame, OWN)["paper"].isna().all()


# Epochs, loss and confidence


def histories(plain, layer, metric="test_f1_minority", imbalance="1000:10"):
    """Return rows per epoch; each arm has one list of values per seed."""
    found = [
        (f"{arm} {seed}", "laptop", LITE, "net", PLANTS[0], imbalance, seed, seed, arm, epoch, metric, value)
        for arm, runs in (("plain", plain), ("final BN", layer))
        for seed, values in enumerate(runs)
        for epoch, value in enumerate(values, 1)
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "epoch", "metric", "value"])


def test_a_run_that_never_gets_there_is_later_than_one_that_does_and_ties_with_another_like_it():
    epochs = histories(
        plain=[[0.1, 0.2, 0.7], [0.0, 0.1, 0.2], [0.8, 0.1, 0.7]],
        layer=[[0.7, 0.8, 0.7], [0.2, 0.8, 0.6], [0.9, 0.9, 0.9]],
    )
    easier = epochs.assign(imbalance="1000:100", value=1.0)
    found = training.epochs_table(pd.concat([epochs, easier]).sample(frac=1, random_state=1))
    assert found["imbalance"].value_counts().to_dict() == {"1000:10": 3, "1000:100": 3}, "every imbalance"
    found = found[found["imbalance"] == "1000:10"].set_index("F1")
    # 0.7: plain in epochs 3, never and 1, the layer in 1, 2 and 1
    row, order = found.loc["0.7"], "sooner : as soon : later"
    assert (row["plain, got there"], row["final BN, got there"]) == ("2 of 3", "3 of 3")
    assert (row["plain, half by epoch"], row["final BN, half by epoch"]) == ("3", "1")
    assert row[order] == "2 : 1 : 0"
    low = 100 * stats.beta.ppf(0.025, 2.5, 1.5)  # two and a half of three
    high = 100 * stats.beta.ppf(0.975, 3.5, 0.5)
    assert row["share sooner (%)"] == f"{250 / 3:.0f} ({low:.0f} to {high:.0f})"
    # 0.9: plain never, never, never; the layer never, never and in 1
    assert (found.loc["0.9", order], found.loc["0.9", "plain, half by epoch"]) == ("1 : 2 : 0", "> 3")
    # 0.8: plain never, never and 1; the layer in 2, 2 and 1
    assert found.loc["0.8", order] == "2 : 1 : 0" and found.loc["0.8", "plain, got there"] == "1 of 3"


def test_an_arm_alone_has_no_orderings(epochs):
    assert training.epochs_table(epochs[epochs["readout"] == "plain"]).empty


def test_the_baseline_is_that_of_the_test_images_and_of_one_kind_of_test_only(runs):
    assert training.baseline(runs) == pytest.approx(2 / 3)
    other = [{**m, "test_counts": [90, 10 + i % 2]} for i, m in enumerate(runs["measurements"])]
    assert training.baseline(runs.assign(measurements=other)) is None


def test_the_two_epochs_of_the_loss_table_are_those_that_validation_chooses(runs, part, epochs):
    found = training.loss_table(part, tables.select(epochs, LITE)).set_index(["plant", "arm"])
    differences, best_epochs = [], []
    for row in tables.select(runs, LITE).to_dict("records"):
        if row["dataset"] == PLANTS[2] and row["arm"] == "final BN":
            history = {name: np.array(values) for name, values in row["measurements"]["history"].items()}
            best, lowest = history["valid_f1_minority"].argmax(), history["valid_loss"].argmin()
            differences.append(history["test_f1_minority"][best] - history["test_f1_minority"][lowest])
            best_epochs.append(best + 1)
    row = found.loc[("tomato", "final BN")]
    assert row["difference in F1"] == t_text(differences) and row["seeds"] == 3
    assert row["epoch of best F1"] == f"{np.mean(best_epochs):.1f}"
    assert row["epoch of lowest loss"] == "3.0", "so the records are drawn"
    assert list(found.index) == [(plant, arm) for plant in study.PLANTS for arm in tables.ARMS]


def test_curves_hold_f1_and_loss_of_every_epoch_and_run(runs, epochs):
    cells = training.curve_cells(tables.select(epochs, LITE))
    assert len(cells) == 3 * 2 * 3 * 6 and list(dict.fromkeys(cells["dataset"])) == list(study.PLANTS)
    assert list(dict.fromkeys(cells["method"])) == ["plain", "final BN"]
    one = runs.set_index("key").loc[cells["key"].iloc[0], "measurements"]["history"]
    own = cells[cells["key"] == cells["key"].iloc[0]]
    assert own["f1"].tolist() == one["test_f1_minority"] and own["loss"].tolist() == one["valid_loss"]


def test_bins_of_confidence_add_up_the_images_of_all_runs(runs):
    own = tables.select(runs, LITE)
    chosen = own[(own["dataset"] == PLANTS[0]) & (own["arm"] == "final BN")]
    margins = np.concatenate(
        [np.concatenate(m["margins"]["softmax"]["test"]) for m in chosen["measurements"]]
    )
    labels = np.tile(np.repeat([0, 1], 150), 3)
    sure = 1 / (1 + np.exp(-np.abs(margins)))
    for kind in ("histogram", "reliability"):
        bins = training.confidence_bins(own, kind)
        cell = bins[(bins["dataset"] == "apple") & (bins["method"] == "final BN")]
        assert cell["count"].sum() == 3 * 300 and cell["share"].sum() == pytest.approx(1)
        for row in cell[cell["count"] > 0].to_dict("records"):
            inside = (sure > row["lower"]) & (sure <= row["upper"])
            assert abs(row["count"] - inside.sum()) <= 2, "four digits of a margin may cross an edge"
            if kind == "reliability":
                assert row["confidence"] == pytest.approx(sure[inside].mean(), abs=3e-3)
                assert row["accuracy"] == pytest.approx(((margins > 0) == labels)[inside].mean(), abs=0.05)


def test_the_table_of_confidence_holds_paired_differences(part):
    found = training.confidence_table(part).set_index(["plant", ""])
    expected = t_text(values(part, "final BN", "confidence"), values(part, "plain", "confidence"))
    assert found.loc[("apple", "mean confidence"), "difference"] == expected
    assert list(found.index)[:3] == [
        ("apple", name) for name in ("accuracy", "mean confidence", "calibration error (ECE)")
    ]


def test_margins_are_those_of_one_run_by_plant_and_arm_the_first_pair_of_seeds(runs):
    own = tables.select(runs, LITE)
    again = own[own["split_seed"] == 0].assign(train_seed=1)  # the same draw, trained once more
    found = training.margins(pd.concat([again, own]))
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
    [
        (0.05, 0.06, "more"),
        (0.05, -0.02, "not decided"),
        (-0.05, 0.02, "not decided"),
        (0, 0, "no sign of more"),
    ],
)
def test_more_than_a_shift_needs_both_measures_that_no_shift_can_change(ranking, at_best, answer):
    noise = 0.001 * np.array([-1, 1, 0])
    gains = {"auroc": ranking, "f1_best": at_best, "f1_minority": 0.3}
    frame = pd.concat(
        rows({"plain": [0.5] * 3, "final BN": 0.5 + gain + noise}, metric) for metric, gain in gains.items()
    )
    (row,) = mechanism.shift_table(frame).to_dict("records")
    assert row["more than a shift?"] == answer and row["shifted by the class counts"] == "not attempted"


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
    (gain,) = tables.gains(found, ("final BN", "plain", "f1_minority")).itertuples()
    assert gain.low > 0.3, "F1 gains all the same"
    (row,) = mechanism.shift_table(found).to_dict("records")
    assert (row["more than a shift?"], row["AUROC"]) == ("no sign of more", "+0.0 (0.0 to 0.0)")


def test_the_table_of_shifts_takes_its_numbers_from_the_records(part):
    found = mechanism.shift_table(part).set_index("plant")
    assert list(found.index) == list(study.PLANTS)
    row = found.loc["apple"]
    assert row["F1, plain"] == f"{values(part, 'plain').mean():.2f}"
    assert row["shifted by validation images"] == f"{values(part, 'plain, balanced threshold').mean():.2f}"
    assert row["any threshold, at most"] == f"{values(part, 'plain', 'f1_best').mean():.2f}"
    assert row["with the layer"] == f"{values(part, 'final BN').mean():.2f}"


def test_every_question_is_a_paired_difference_of_readouts_that_exist(part):
    found = mechanism.questions(part)
    assert found["question"].tolist() == [question for question, *_ in mechanism.QUESTIONS]
    for row, (_, a, b, metric) in zip(found.to_dict("records"), mechanism.QUESTIONS, strict=True):
        assert row["apple"] == t_text(values(part, a, metric), values(part, b, metric))
        assert row["difference"] == f"{a} - {b}"
    adjusted = found.set_index("question").loc["Does it beat the shift inside the loss?"]
    assert adjusted["pepper"] == "not attempted", "one plant has the arms of the mechanism"


def test_the_figure_of_the_mechanism_holds_every_readout_twice(part):
    cells = mechanism.readout_cells(part[part["dataset"] == PLANTS[0]])
    assert cells["readout"].tolist() == 2 * list(mechanism.READOUTS)
    assert cells["panel"].nunique() == 2


def test_a_sweep_holds_paired_gains_and_their_change_from_the_studys_own_place(frame):
    swept = mechanism.sweep(frame, "imbalance")
    own = swept[swept["form"] == LITE]
    assert own["imbalance"].unique().tolist() == ["1:10", "1:30", "1:100", "1:333"]
    gain = {}
    for rare, label in ((100, "1:10"), (10, "1:100")):
        cell = frame[(frame["form"] == LITE) & (frame["imbalance"] == f"1000:{rare}")]
        gain[label] = (values(cell, "final BN") - values(cell, "plain")).dropna()
    found = mechanism.sweep_table(own, "imbalance").set_index("imbalance")
    assert found.loc["1:10", "gain of the layer"] == t_text(gain["1:10"])
    assert found.loc["1:10", "minus the gain at 1:100"] == t_text(gain["1:10"], gain["1:100"])
    assert found.loc["1:100", "minus the gain at 1:100"] == ""
    cells = mechanism.sweep_cells(own)
    drawn = cells[cells["panel"].str.contains("minus")].set_index("row")["mean"]
    assert drawn["1:10"] == pytest.approx(100 * gain["1:10"].mean())
    assert set(mechanism.sweep(frame, "batch size")["imbalance"]) == {"16", "64", "256"}


@pytest.mark.parametrize(("form", "word"), [(LITE, "nn.Linear"), (OWN, "timm"), ("VGG19", "nn.Linear")])
def test_words_below_a_sweep_say_how_the_head_starts(form, word):
    assert word in mechanism.head_of(form)


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


def test_the_layers_table_says_what_is_done_to_a_logit(runs):
    found = mechanism.layer_table(tables.select(runs, LITE))
    with_layer = {arm for arm in {**study.ARMS, **study.MECHANISM_ARMS} if arm.startswith("final BN")}
    assert set(found["arm"]) == with_layer
    row = found.iloc[0]
    layer = torch.nn.BatchNorm1d(2).eval()
    with torch.no_grad():
        for name, value in (("running_mean", 3.0), ("running_var", 1.5), ("weight", 1.1), ("bias", 0.2)):
            getattr(layer, name).fill_(value)
        low, high = layer(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))[:, 0].tolist()
    assert (row["logit of the class"], row["runs"]) == ("large", 3)
    assert (row["multiplied by"], row["then shifted by"]) == (f"{high - low:.2f}", f"{low:+.2f}")


def test_the_table_of_leaves_sets_both_splits_beside_each_other(runs, frame):
    found = mechanism.leakage_table(runs, frame).set_index(["network", "plant", "split"])
    assert "pepper" not in found.index.get_level_values("plant"), "its leaves are unknown"
    column = "test healthy images whose leaf is in training"
    assert found.loc[(LITE, "apple", "random"), column] == "93%"
    assert found.loc[(LITE, "apple", "leaf-grouped"), column] == "0%"
    grouped = tables.select(frame, f"{LITE}, leaf-grouped split")
    gain = t_text(values(grouped, "final BN"), values(grouped, "plain"))
    assert found.loc[(LITE, "apple", "leaf-grouped"), "gain of the layer"] == gain


# Verdicts


def gains(values, metric="f1_minority", a="final BN", b="plain", datasets=PLANTS, **options):
    """Return rows in which a is above b by these gains, one for each plant, with a spread of 0.1 points."""
    noise = 0.001 * np.array([-1, 1, 0, 1, -1])
    return pd.concat(
        rows({b: [0.3] * 5, a: 0.3 + gain + noise}, metric, dataset=dataset, **options)
        for gain, dataset in zip(values, datasets, strict=True)
    )


def verdict_of(paper, claim, frame):
    return headline(verdicts(paper, frame))[claim]


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


@pytest.mark.parametrize("sooner", [1.0, -1.0])
def test_training_time_counts_signs_and_five_of_five_are_few_for_three_plants(paper, sooner):
    found = verdict_of(paper, "A-2a", gains([-sooner] * 3, "epochs_to_f1"))
    assert set(found.parts["mean"]) == {-sooner} and found.label == "undecided"


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
    assert verdict_of(paper, "A2-i", pd.concat([frame, layer])).label == label


@pytest.mark.parametrize(("at", "label"), [((0.1, 0.4, 0.2), "holds"), ((0.1, 0.4, 0.6), "fails")])
def test_a2ii_wants_the_gain_to_be_largest_at_the_papers_imbalance(paper, at, label):
    places = zip(at, ("1000:100", "1000:10", "1000:3"), strict=True)
    frame = pd.concat(gains([gain], datasets=PLANTS[:1], imbalance=place) for gain, place in places)
    assert verdict_of(paper, "A2-ii", frame).label == label


def test_claims_without_a_comparison_are_not_attempted_whatever_was_run(paper, frame):
    found = verdicts(paper, frame)
    for claim in ("A2-iv", "A2-v", "A2-vi"):
        assert [verdict.label for verdict in found if verdict.claim == claim] == ["not attempted"] * 3


def test_digits_enter_no_verdict_and_the_larger_profile_counts(paper):
    smoke = gains((0.4, 0.5, 0.6), profile="smoke")
    assert {verdict.label for verdict in verdicts(paper, smoke)} == {"not attempted"}
    both = pd.concat([gains((0.4, 0.5, 0.6)), gains((-0.4, -0.5, -0.6), profile="paper")])
    found = verdict_of(paper, "A-1", both)
    assert (found.label, found.profile) == ("fails", "paper")


# The notebook


def outputs_of(notebook, monkeypatch, **parameters):
    """Execute the cells of a notebook here but for those that train; return what they show, and what was glued."""
    shown, glued = [], {}
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display=False: glued.update({name: value}))
    names: dict[str, object] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or {"colab", "live"} & set(tags):
            continue
        given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        tree = ast.parse(f"{cell.source}\n{given}" if "parameters" in tags else cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(notebook), "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(notebook), "eval"), names))
    return shown, glued


@pytest.mark.parametrize(
    ("recorded", "drawings"),
    [((), 2), (FAULT, 10), ("smoke", 8)],
    ids=["nothing", "every start", "smoke"],
)
def test_the_notebook_runs_on_every_kind_of_record_and_glues_what_its_prose_names(
    tmp_path, monkeypatch, recorded, drawings
):
    store, smoke = RecordStore(tmp_path / "results"), recorded == "smoke"
    if recorded:
        profile, keep = ("smoke", lambda config: True) if smoke else ("laptop", leaf_runs.kinds(*recorded))
        leaf_runs.fill(store, profile, keep)
    monkeypatch.setattr(imbal_book.chapters, "RecordStore", lambda *_: store)
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path))
    notebook = find_notebook(NAME)
    shown, glued = outputs_of(notebook, monkeypatch, PROFILE="smoke" if smoke else "best", LIVE=False)
    assert sum(isinstance(output, Drawing) for output in shown) == drawings
    texts = [str(getattr(output, "data", output)) for output in shown]
    assert any("leaves are not on the machine" in text for text in texts)
    missing = [output for output in shown if isinstance(output, Html) and output == tables.MISSING]
    assert (
        bool(missing) == (recorded not in (tuple(leaf_runs.KINDS), FAULT))
        and tables.COMMAND in tables.MISSING
    )
    prose = "\n".join(c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "markdown")
    named = {piece.split("`")[1] for piece in prose.split("{glue:text}")[1:]}
    assert named and named <= glued.keys()
    assert (glued["fair_layer"] == "(not attempted)") == ("fair" not in recorded and not smoke)
