"""Scores of the claims on fragility: means over classes, and runs compared with each other."""

import copy
import math

import numpy as np
import pytest
from latent_sides import summaries
from scipy.stats import spearmanr

from imbal_book.evidence.rank_correlation import partial_spearman
from imbal_book.run.packed_numbers import pack_rows, unpack_rows
from imbal_book.studies.fragility_scores import compared_scores, run_scores
from imbal_book.studies.latent_readings import (
    class_readings,
    magnitude_change,
    matched_overlap,
    number_change,
)

RECALL = [0.9, 0.7, 0.4, 0.2]


@pytest.fixture(scope="module")
def latent():
    found = summaries()
    # sixteen units have no cut at 20 or 30, and one at 10 is what the scores read
    assert 10 in found["cut"]["k"]
    return found


def measurements(latent, recall=RECALL, counts=(60, 30, 12, 6), **history):
    readout = {"accuracy": float(np.mean(recall)), "recall": list(recall), "precision": list(recall)}
    return {
        "train_counts": list(counts),
        "history": {"train_loss": [1.0, 0.5], **history},
        "readouts": {"softmax": readout, "train": {**readout, "recall": [1.0, 1.0, 0.8, 0.6]}},
        "latent": latent,
    }


def scores(arm, measured):
    return {(readout, metric): value for readout, metric, value in run_scores(arm, measured)}


def test_scores_of_an_arm_are_means_over_classes_and_over_the_rarer_half(latent):
    found = scores("ASL", measurements(latent, test_accuracy=[0.3, 0.6, 0.5]))
    readings = class_readings(latent)
    assert found["ASL", "accuracy"] == pytest.approx(0.55)
    assert found["ASL", "recall_few"] == pytest.approx(0.3)
    assert found["ASL", "recall_gap"] == pytest.approx(-0.5)
    assert found["ASL", "train_recall_few"] == pytest.approx(0.7)
    assert found["ASL", "best_test_accuracy"] == 0.6
    for name in ("magnitude_gap", "top_k_share", "units_in_use", "class_overlap", "effective_rank_train"):
        assert found["ASL", name] == pytest.approx(readings[name].mean())
    few = readings["effective_rank"][2:]
    assert found["ASL", "effective_rank_few"] == pytest.approx(few.mean())
    assert found["ASL", "log_effective_rank_few"] == pytest.approx(np.log(few).mean())
    assert found["ASL, minority classes", "magnitude_gap"] == pytest.approx(
        readings["magnitude_gap"][2:].mean()
    )
    assert found["ASL, majority classes", "range_gap_equal"] == pytest.approx(
        readings["range_gap_equal"][:2].mean()
    )
    assert found["ASL, true positives", "magnitude_gap"] == pytest.approx(readings["magnitude_gap_tp"].mean())
    assert found["ASL, false negatives", "magnitude_gap_fe"] == pytest.approx(
        readings["magnitude_gap_fn_fe"].mean()
    )
    cut, place = latent["cut"], latent["cut"]["k"].index(10)
    recall = unpack_rows(cut["only"]["recall"])[place]
    assert found["ASL, top K only", "recall_few"] == pytest.approx(recall[2:].mean())
    assert found["ASL, without top K", "agreement"] == cut["without"]["agreement"][place]
    assert ("ASL", "best_test_accuracy") not in scores("CE", measurements(latent))


def test_parts_of_the_plain_arm_have_no_name_before_them_and_marks_to_compare_with(latent):
    plain, other = (scores(arm, measurements(latent)) for arm in ("CE imbalanced", "Focal"))
    assert plain["true positives", "magnitude_gap"] == other["Focal, true positives", "magnitude_gap"]
    assert plain["half of the logit", "top_k_share"] == 0.5
    assert plain["half of the units", "units_in_use"] == 0.5
    assert not any(readout.startswith("half") for readout, _ in other)


def test_true_positives_and_false_negatives_are_compared_over_the_same_classes(latent):
    changed = copy.deepcopy(latent)
    gaps = unpack_rows(changed["gaps"]["CE"])
    gaps[1:] = [[0.1, 0.2, np.nan, 0.3], [0.5, np.nan, 0.9, 0.7]]
    changed["gaps"]["CE"] = pack_rows(gaps)
    found = scores("CE imbalanced", measurements(changed))
    assert found["true positives", "magnitude_gap"] == pytest.approx(0.2)
    assert found["false negatives", "magnitude_gap"] == pytest.approx(0.6)


def test_what_no_class_has_is_left_out(latent):
    changed = copy.deepcopy(latent)
    changed["gaps"]["CE"] = pack_rows(np.full((3, 4), np.nan))
    found = scores("CE imbalanced", measurements(changed))
    assert ("true positives", "magnitude_gap") not in found and (
        "CE imbalanced",
        "magnitude_gap",
    ) not in found
    assert ("true positives", "magnitude_gap_fe") in found
    assert all(math.isfinite(value) for value in found.values())


def test_diversity_and_size_are_correlated_with_recall_each_with_the_other_held(latent):
    counts = (30, 60, 6, 12)
    found = scores("CE imbalanced", measurements(latent, counts=counts))
    diverse = class_readings(latent)["effective_rank_train"]
    assert found["diversity, size held", "partial_correlation"] == pytest.approx(
        partial_spearman(diverse, RECALL, counts)
    )
    assert found["size, diversity held", "partial_correlation"] == pytest.approx(
        partial_spearman(counts, RECALL, diverse)
    )
    balanced = scores("CE balanced", measurements(latent, counts=(27,) * 4))
    plain = spearmanr(diverse, RECALL).statistic
    assert balanced["CE balanced, diversity, size held", "partial_correlation"] == pytest.approx(plain)
    assert not any("size, diversity held" in readout for readout, _ in balanced), "classes of one size"


def test_imbalanced_training_is_compared_with_another_seed_of_balanced_training():
    latents = {
        ("CE balanced", 0, 0): summaries(seed=10),
        ("CE balanced", 1, 1): summaries(seed=20),
        ("CE imbalanced", 0, 0): summaries(seed=30),
        ("CE imbalanced", 1, 1): summaries(seed=40),
    }
    found = compared_scores({place: measurements(latent) for place, latent in latents.items()})
    places = {place for place, _, _ in found}
    assert places == {("CE balanced", 0, 0), ("CE balanced", 1, 1)}
    first, second = latents["CE balanced", 0, 0], latents["CE balanced", 1, 1]
    other = latents["CE imbalanced", 1, 1]
    for name, change in (
        ("magnitude_change", magnitude_change),
        ("number_change", number_change),
        ("unit_overlap", matched_overlap),
    ):
        place = ("CE balanced", 0, 0)
        assert found[place, "another seed", name] == pytest.approx(change(first, second).mean())
        assert found[place, "imbalanced training", name] == pytest.approx(change(first, other).mean())


def test_a_comparison_needs_another_split_and_both_arms(latent):
    one = measurements(latent)
    assert compared_scores({("CE balanced", 0, 0): one, ("CE imbalanced", 0, 0): one}) == {}
    same_split = [(arm, 0, seed) for arm in ("CE balanced", "CE imbalanced") for seed in (0, 1)]
    assert compared_scores(dict.fromkeys(same_split, one)) == {}
    assert compared_scores({("CE balanced", 0, 0): one, ("CE balanced", 1, 1): one}) == {}


def test_gains_are_differences_of_arms_of_the_same_seeds(latent):
    recalls = {
        "Few": [0.9, 0.9, 0.1, 0.3],
        "Repeated": [0.8, 0.8, 0.3, 0.4],
        "Distinct": [0.8, 0.8, 0.7, 0.7],
    }
    runs = {(arm, 0, 0): measurements(latent, recall) for arm, recall in recalls.items()}
    runs["Few", 1, 1] = runs["Few", 0, 0]
    found = compared_scores(runs)
    place = ("Distinct", 0, 0)
    assert found == {
        (place, "more copies", "gain_few"): pytest.approx(0.15),
        (place, "more diverse images", "gain_few"): pytest.approx(0.35),
    }
