"""The chapter on CNN fragility: its tables and frames from records, and its pictures with their words."""

import numpy as np
import pandas as pd
import pytest
from fragility_records import LATENTS, records
from latent_sides import readings_of
from scipy.stats import spearmanr

from imbal_book.chapters import cnn_fragility as chapter
from imbal_book.chapters import cnn_fragility_answers as opening
from imbal_book.chapters.cnn_fragility import Place
from imbal_book.chapters.readings import judge_forms
from imbal_book.evidence.papers import load_paper
from imbal_book.evidence.verbs import minus
from imbal_book.pictures import fragility_pictures as pictures
from imbal_book.pictures.arms import METHODS
from imbal_book.run.long_frames import records_frame
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies import cnn_fragility as study
from imbal_book.studies.grids import cnn_fragility as grids
from imbal_book.studies.latent_readings import class_overlaps, share_curve

PLACE = Place("ResNet-20", "cifar10", "exponential 100")
STEP = Place("ResNet-20", "cifar10", "step 10")


@pytest.fixture(scope="module")
def made():
    return records(datasets=("cifar10", "scenes6"))


@pytest.fixture(scope="module")
def frame(made):
    return study.frame(made)


@pytest.fixture(scope="module")
def runs(made):
    return study.run_frame(made)


@pytest.fixture(scope="module")
def labels(made):
    return study.label_frame(made)


def test_places_are_those_with_records_by_kind_of_imbalance(frame):
    assert chapter.places(frame) == [PLACE, Place("ResNet-20", "scenes6", "exponential 20")]
    assert chapter.places(frame, "step") == [STEP]
    assert chapter.places(frame[:0]) == []


def test_classes_have_the_names_of_their_data_set_where_they_are_as_many():
    assert chapter.class_names(PLACE, 10)[0] == "plane"
    assert chapter.class_names(PLACE, 4) == ("0", "1", "2", "3")


def test_shares_are_means_over_seeds(runs):
    points = chapter.share_points(runs, PLACE)
    assert list(dict.fromkeys(points["panel"])) == list("0123")
    assert list(dict.fromkeys(points["method"])) == ["CE balanced", "CE imbalanced"]
    curves = [share_curve(latent).query("label == 2") for latent in LATENTS]
    one = points[(points["panel"] == "2") & (points["method"] == "CE imbalanced")]
    assert one["k"].tolist() == curves[0]["k"].tolist() and set(one["n"]) == {3}
    np.testing.assert_allclose(one["mean"], np.mean([curve["value"] for curve in curves], axis=0))
    assert chapter.share_points(runs[:0], PLACE).empty


def test_gaps_stand_at_the_size_of_the_class(labels):
    points = chapter.gap_points(labels, [PLACE])
    missed = points[points["method"] == "false negatives"].set_index("train_count")
    assert sorted(missed.index) == [6, 12, 30, 60]
    gaps = [readings_of(LATENTS[seed])["magnitude_gap_fn"][3] for seed in range(3)]
    assert missed.loc[6, "mean"] == pytest.approx(np.mean(gaps))
    features = chapter.gap_points(labels, [PLACE], suffix="_fe")
    assert features["mean"].tolist() != points["mean"].tolist()


def test_overlaps_and_embeddings_are_those_of_the_records(runs):
    found = chapter.mean_overlaps(runs, PLACE)
    assert list(found) == ["CE balanced", "CE imbalanced"]
    expected = np.mean([class_overlaps(latent) for latent in LATENTS], axis=0)
    np.testing.assert_allclose(found["CE imbalanced"], expected)
    features, weights = chapter.mean_embeddings(runs, PLACE, "Focal")
    np.testing.assert_allclose(features, unpack_rows(LATENTS[0]["test_means"]))
    np.testing.assert_allclose(weights, unpack_rows(LATENTS[0]["weights"]))


def test_diversity_is_drawn_for_every_class_and_arm(labels):
    points = chapter.diversity_points(labels, PLACE)
    assert len(points) == 8
    one = points[points["panel"].str.endswith("CE imbalanced")]
    assert one["rare"].tolist() == [False, False, True, True]
    assert one["recall"].tolist() == pytest.approx([0.8, 0.9, 0.4, 0.2])
    ranks = [readings_of(LATENTS[seed])["effective_rank_train"][1] for seed in range(3)]
    assert one["diversity"].iloc[1] == pytest.approx(np.mean(ranks))


def test_correlations_are_within_runs_and_say_where_nothing_is_left(labels):
    rng = np.random.default_rng(0)
    wide = pd.concat([labels.assign(label=labels["label"] + 4 * part) for part in range(3)])
    wide = wide.assign(recall=rng.random(len(wide)), effective_rank=rng.random(len(wide)))
    table = chapter.correlation_table(wide, [PLACE]).set_index("measure")
    mine = wide[(wide["readout"] == "CE imbalanced") & (wide["dataset"] == "cifar10")]
    each = [
        spearmanr(run["effective_rank"], run["recall"]).statistic for _, run in mine.groupby("split_seed")
    ]
    text = table.loc["effective rank, test FE", "correlation with recall"]
    assert text.startswith(f"{np.mean(each):+.2f} (")
    assert table.loc["effective rank, test FE", "the same, class size held"] != text
    assert set(table["classes"]) == {12}
    ordered = wide.assign(recall=wide["train_count"])
    left = chapter.correlation_table(ordered, [PLACE])["the same, class size held"]
    assert set(left) == {"undefined"}


def test_tables_name_what_was_not_attempted(frame):
    some = frame[frame["readout"] != "ASL"]
    table = chapter.arm_table(some, PLACE).set_index("arm")
    assert table.index.tolist() == list(grids.ARMS)
    assert table.loc["ASL", "accuracy (%)"] == "not attempted" and table.loc["ASL", "n"] == 0
    assert table.loc["Focal", "minority recall (%)"].startswith("30.0 (") and table.loc["Focal", "n"] == 3
    ranks = [readings_of(LATENTS[seed])["effective_rank"][2:].mean() for seed in range(3)]
    assert table.loc["Focal", "effective rank, minority"].startswith(f"{np.mean(ranks):.1f} (")


def test_the_experiment_is_compared_with_few_images(frame):
    changed = frame.copy()
    more = (changed["readout"] == "Distinct") & (changed["metric"] == "recall_few")
    changed.loc[more, "value"] += 0.25
    table = chapter.experiment_table(changed, STEP).set_index("arm")
    assert table.loc["Distinct", "minority recall (%)"].startswith("55.0 (")
    assert table.index.tolist() == list(grids.EXPERIMENT_ARMS)
    assert table["minority recall minus Few (points)"].tolist()[0] == ""
    assert table.loc["Distinct", "minority recall minus Few (points)"].startswith("+25.0 (")
    assert table.loc["Repeated", "minority recall minus Few (points)"].startswith("+0.0 (")


def test_changes_are_those_of_the_study(frame):
    changed = frame.copy()
    changed.loc[changed["readout"] == "imbalanced training", "value"] += 1.0
    table = chapter.change_table(changed, [PLACE])
    assert len(table) == 3
    assert table["difference"][0].startswith("+1.00 (")
    values = frame[(frame["imbalance"] == PLACE.imbalance) & (frame["dataset"] == "cifar10")]
    values = values[(values["readout"] == "another seed") & (values["metric"] == "magnitude_change")]["value"]
    assert table["balanced, two seeds"][0].startswith(f"{values.mean():.2f} (")
    assert chapter.change_table(frame, []).empty


def test_the_sibling_table_stands_beside_recalls_of_as_many_classes(labels):
    paper = load_paper("dablain_2023")
    alone = chapter.sibling_table(paper, labels, [PLACE])
    assert alone.columns.tolist() == ["class", "sibling: images", "sibling: accuracy (%)"], "four classes"
    assert alone.iloc[0].tolist() == ["plane", "5,000", "94.1"]
    some = labels[labels["label"] == 0]
    wide = pd.concat([some.assign(label=k, train_count=1000 + k, recall=k / 10) for k in range(10)])
    both = chapter.sibling_table(paper, wide, [PLACE, Place("ResNet-20", "scenes6", "exponential 20")])
    assert both.columns.tolist()[3:] == ["ResNet-20: images", "ResNet-20: recall (%)"]
    assert both["ResNet-20: images"][9] == "1,009"
    assert both["ResNet-20: recall (%)"][3] == "30.0 (30.0 to 30.0)"


def test_quantities_stand_beside_each_other_by_place_with_the_sign_of_a_change(frame):
    changed = frame.copy()
    one = (changed["readout"] == "LDAM-DRW") & (changed["metric"] == "recall_few")
    changed.loc[one, "value"] += 0.1
    quantities = {
        "share": ("CE imbalanced", "", "top_k_share", 100),
        "change": ("false negatives", "", "magnitude_gap", -100),
        "gain": ("LDAM-DRW", "CE imbalanced", "recall_few", 100),
    }
    table = chapter.beside_table(changed, [PLACE, STEP], quantities).set_index("")
    assert table.columns.tolist() == [PLACE.title(), STEP.title()]
    share, change, gain = table[PLACE.title()]
    mean = np.mean([readings_of(LATENTS[seed])["top_k_share"].mean() for seed in range(3)])
    assert share.startswith(f"{100 * mean:.1f} (")
    missed = frame[(frame["readout"] == "false negatives") & (frame["metric"] == "magnitude_gap")]
    missed = missed[missed["dataset"] == "cifar10"]["value"].mean()
    assert change.startswith(f"{-100 * missed:+.1f} (")
    low, high = map(float, change.split("(")[1].rstrip(")").split(" to "))
    assert low < -100 * missed < high
    assert gain.startswith("+10.0 (")
    assert set(table[STEP.title()]) == {"not attempted"}


# The first sentences


def test_the_first_sentences_hold_the_numbers_of_the_records(made, frame, labels):
    changed = frame.copy()
    recall = changed["metric"] == "recall_few"
    for arm, value in (
        ("Few", 0.04),
        ("Repeated", 0.2),
        ("Distinct", 0.6),
        ("Half", 0.1),
        ("Half, copied", 0.4),
    ):
        changed.loc[recall & (changed["readout"] == arm), "value"] = value
    rare = labels.assign(recall=labels["recall"].where(labels["label"] != 3, 0.001))
    words = opening.answers(load_paper("dablain_2023"), changed, rare, made["config"])
    assert [words[name] for name in ("few", "repeated", "distinct")] == ["4 %", "20 %", "60 %"]
    assert words["gain_copies"].startswith("+16.0 (") and words["gain_distinct"].startswith("+40.0 (")
    assert words["twice_number"].startswith("+30.0 (")
    assert words["unseen"] == "3" and words["pairs"] == "3"
    assert words["place"] == PLACE.title() and words["experiment"] == STEP.title()
    assert words["paper_images"] == "5,000 to 50"
    assert "CIFAR-10, step 10: 5 % of the full counts, 250 to 25 of a class" in words["scale"].split("; ")
    share = np.mean([readings_of(LATENTS[seed])["top_k_share"].mean() for seed in range(3)])
    assert words["share"].startswith(f"{100 * share:.1f} (")


def test_without_records_every_word_is_there_and_says_so():
    empty = records_frame([])
    some = opening.answers(load_paper("dablain_2023"), study.frame(empty), study.label_frame(empty), [])
    full = opening.answers(
        load_paper("dablain_2023"), *(make(records()) for make in (study.frame, study.label_frame)), []
    )
    assert set(some) == set(full)
    assert some["few"] == some["share"] == some["scale"] == "not run"


def test_number_and_diversity_are_named_by_the_images_of_each_class(frame, labels):
    sizes = {"Few": 6, "Repeated": 6, "Distinct": 60, "Half": 30, "Half, copied": 30, "Quarter, copied": 15}
    counted = labels.assign(
        train_count=[
            sizes.get(arm, count) for arm, count in zip(labels["readout"], labels["train_count"], strict=True)
        ]
    )
    cells = opening.number_and_diversity(frame, counted, STEP).set_index("method")
    assert list(cells.index) == list(sizes) and cells["images"].to_dict() == sizes
    assert cells["row"].tolist() == [
        "6 images", "6 images, as often as 60", "60 images", "30 images", "30 images, as often as 60",
        "15 images, as often as 60",
    ]  # fmt: skip
    assert cells["low"].between(0, 1).all() and cells["high"].between(0, 1).all()


def test_power_is_that_of_the_parts_of_the_rules_which_compare_means(frame):
    noisy = frame.assign(value=frame["value"] + np.random.default_rng(0).normal(0, 0.01, len(frame)))
    found = opening.power(noisy, ["C-3a", "C-3b", "C-4"])
    assert found["part"].str.startswith("C-3a, distinct images help more").sum() == 1
    assert not found["part"].str.startswith("C-3b").any(), "ranks have no such table"
    pairs = minus(noisy[noisy["metric"] == "magnitude_gap"], "true positives")
    pairs = pairs[(pairs["readout"] == "false negatives") & (pairs["dataset"] == "cifar10")]
    row = found[found["part"].str.startswith("C-4") & (found["data"] == "CIFAR-10")].iloc[0]
    assert row["standard deviation"].startswith(f"{100 * pairs['value'].std():.1f} (")


# Pictures


def drawings(runs, labels):
    features, weights = chapter.mean_embeddings(runs, PLACE)
    words = {"title": "T", "caption": "from here"}
    return {
        "embeddings": pictures.embeddings(features, weights, "abcd", **words),
        "shares": pictures.share_curves(chapter.share_points(runs, PLACE), **words),
        "gaps": pictures.gaps(chapter.gap_points(labels, [PLACE]), **words),
        "overlaps": pictures.overlaps(chapter.mean_overlaps(runs, PLACE), "abcd", **words),
        "diversity": pictures.diversity_and_recall(chapter.diversity_points(labels, PLACE), **words),
    }


@pytest.fixture(scope="module")
def drawn(runs, labels):
    return drawings(runs, labels)


def test_every_picture_is_the_same_bytes_for_the_same_data(drawn, runs, labels):
    again = drawings(runs, labels)
    for name, drawing in drawn.items():
        assert drawing.svg() == again[name].svg(), name
        assert drawing.caption == "from here" and len(drawing.table)


def test_units_stand_with_the_class_that_they_speak_for():
    rng = np.random.default_rng(3)
    features, weights = rng.random((4, 16)), rng.normal(size=(4, 16))
    drawing = pictures.embeddings(features, weights, "abcd")
    maps = [np.asarray(ax.images[0].get_array()) for ax in drawing.figure.axes[:3]]
    owners = maps[2].argmax(axis=0)
    assert owners.tolist() == sorted(owners.tolist())
    np.testing.assert_allclose(maps[0] * maps[1], maps[2])
    np.testing.assert_allclose(np.sort(maps[2], axis=1), np.sort(features * weights, axis=1))
    table = drawing.table
    np.testing.assert_allclose(table["logit less bias"], (features * weights).sum(1))
    carried = np.sort(np.abs(features * weights), axis=1)[0]
    assert f"a: the ten largest carry {100 * carried[-10:].sum() / carried.sum():.0f} %" in drawing.alt


def test_silent_units_stand_last_and_not_with_the_first_class():
    rng = np.random.default_rng(3)
    features, weights = 1 + rng.random((4, 16)), 1 + rng.random((4, 16))
    features[:, ::4] = 0
    drawing = pictures.embeddings(features, weights, "abcd")
    shown = np.asarray(drawing.figure.axes[2].images[0].get_array())
    assert (shown[:, :12] > 0).all() and (shown[:, 12:] == 0).all()


def test_of_one_seed_no_interval_is_drawn_or_printed(runs):
    one = runs[runs["train_seed"] == 0]
    drawing = pictures.share_curves(chapter.share_points(one, PLACE))
    assert "low" not in drawing.table and set(drawing.table["n"]) == {1}
    assert "inf" not in drawing.table.to_html()
    assert not any(ax.collections for ax in drawing.figure.axes)


def test_class_sizes_are_printed_as_numbers(drawn):
    ax = drawn["gaps"].figure.axes[0]
    drawn["gaps"].figure.canvas.draw()
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert {"10", "30"} <= set(names) and not any("mathdefault" in name for name in names)


def test_shares_and_gaps_are_drawn_in_percent_at_their_place(drawn):
    points = drawn["shares"].table
    ax = drawn["shares"].figure.axes[1]
    lines = {line.get_label().split(":")[0]: line for line in ax.lines}
    expected = points[(points["panel"] == "1") & (points["method"] == "CE balanced")]
    np.testing.assert_allclose(lines["CE balanced"].get_xdata(), expected["k"])
    np.testing.assert_allclose(lines["CE balanced"].get_ydata(), 100 * expected["mean"])
    gaps = drawn["gaps"].table.sort_values("train_count")
    right = gaps[gaps["method"] == "true positives"]
    (line,) = [x for x in drawn["gaps"].figure.axes[0].lines if x.get_label() == "true positives: recognised"]
    np.testing.assert_allclose(line.get_ydata(), 100 * right["mean"])
    assert f"true positives: {100 * right['mean'].iloc[0]:.0f} % for the rarest class" in drawn["gaps"].alt


def test_overlaps_leave_the_diagonal_empty_and_name_the_closest_pair(drawn, runs):
    matrix = chapter.mean_overlaps(runs, PLACE)["CE imbalanced"]
    ax = drawn["overlaps"].figure.axes[1]
    assert len(ax.texts) == 12
    shown = np.ma.filled(ax.collections[0].get_array(), np.nan).reshape(4, 4)
    assert np.isnan(np.diag(shown)).all()
    pairs = matrix[np.triu_indices(4, 1)]
    assert f"CE imbalanced: {100 * pairs.mean():.0f} % on average, most, {100 * pairs.max():.0f} %" in (
        drawn["overlaps"].alt
    )


def test_rare_classes_have_a_mark_of_their_own(drawn):
    ax = drawn["diversity"].figure.axes[1]
    common, rare = ax.collections
    table = drawn["diversity"].table[4:]
    np.testing.assert_allclose(rare.get_offsets()[:, 1], 100 * table[table["rare"]]["recall"])
    assert rare.get_sizes().max() < common.get_sizes().min()
    assert "3 (6 images)" in drawn["diversity"].alt


def test_arms_and_kinds_of_images_can_be_told_apart():
    for names in (grids.ARMS, ["all test images", "true positives", "false negatives"]):
        assert len({METHODS[name][2:] for name in names}) == len(names)


def test_a_claim_without_any_record_stands_once_and_others_with_every_network(frame):
    def verdicts(*pairs):
        claims = load_paper("dablain_2023").claims
        found = [judge_forms(claims[name], rows, claims[name].forms) for name, rows in pairs]
        return [verdict.claim for verdict in chapter.condensed([*found[0], *found[1]])]

    assert verdicts(("C-1", frame[:0]), ("C-4", frame[:0])) == ["C-1", "C-4"]
    assert verdicts(("C-1", frame[:0]), ("C-4", frame)) == ["C-1", "C-4", "C-4", "C-4"]
