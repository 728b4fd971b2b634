"""Scores of the claims on fragility: means over classes, and runs compared with each other."""

import copy

import numpy as np
import pandas as pd
import pytest
from latent_sides import summaries

from imbal_book.run.long_frames import IDENTITY
from imbal_book.run.packed_numbers import pack_rows, unpack_rows
from imbal_book.studies.fragility_scores import GAINS, scores
from imbal_book.studies.latent_readings import changes, class_readings

RECALL = [0.9, 0.7, 0.4, 0.2]


@pytest.fixture(scope="module")
def latent():
    found = summaries()
    # sixteen units have no cut at 20 or 30, and one at 10 is what the scores read
    assert 10 in found["cut"]["k"]
    return found


def measurements(latent, recall=RECALL, counts=(60, 30, 12, 6)):
    readout = {"accuracy": float(np.mean(recall)), "recall": list(recall), "precision": list(recall)}
    return {
        "train_counts": list(counts),
        "readouts": {"softmax": readout, "train": {**readout, "recall": [1.0, 1.0, 0.8, 0.6]}},
        "latent": latent,
    }


def scored(runs):
    """Return the long frame of runs of one cell, measurements by (arm, split seed, training seed)."""
    rows = [
        {
            **dict.fromkeys(IDENTITY, "here"),
            "key": f"{arm} {split} {train}",
            "split_seed": split,
            "train_seed": train,
            "readout": arm,
            "measurements": measured,
        }
        for (arm, split, train), measured in runs.items()
    ]
    frame = pd.DataFrame(rows)
    names = frame.drop(columns="measurements").to_dict("records")
    labels = [
        pd.DataFrame(class_readings(m)).assign(**n) for n, m in zip(names, frame["measurements"], strict=True)
    ]
    return scores(frame, pd.concat(labels, ignore_index=True))


def of(arm, measured):
    """Return value by (readout, metric) of one run."""
    return scored({(arm, 0, 0): measured}).set_index(["readout", "metric"])["value"].to_dict()


def test_scores_of_an_arm_are_means_over_classes_and_over_the_rarer_half(latent):
    found = of("ASL", measurements(latent))
    readings = pd.DataFrame(class_readings(measurements(latent)))
    assert found["ASL", "accuracy"] == pytest.approx(0.55)
    assert found["ASL", "recall_few"] == pytest.approx(0.3)
    assert found["ASL", "recall_many"] == pytest.approx(0.8)
    for name in ("magnitude_gap", "top_k_share", "units_in_use", "class_overlap"):
        assert found["ASL", name] == pytest.approx(readings[name].mean())
    few, many = readings[2:], readings[:2]
    assert found["ASL", "effective_rank_few"] == pytest.approx(few["effective_rank"].mean())
    assert found["ASL", "coverage_few"] == pytest.approx(few["coverage"].mean())
    assert found["ASL", "log_effective_rank_few"] == pytest.approx(np.log(few["effective_rank"]).mean())
    for part, rows, metric, column in (
        ("minority classes", few, "magnitude_gap", "magnitude_gap"),
        ("majority classes", many, "range_gap_equal", "range_gap_equal"),
        ("true positives", readings, "magnitude_gap", "magnitude_gap_tp"),
        ("top K only", few, "recall_few", "recall_only"),
    ):
        assert found[f"ASL, {part}", metric] == pytest.approx(rows[column].mean())
    cut = latent["cut"]
    recall = unpack_rows(cut["only"]["recall"])[cut["k"].index(10)]
    assert found["ASL, top K only", "recall_few"] == pytest.approx(recall[2:].mean())
    assert found["ASL, without top K", "agreement"] == cut["without"]["agreement"][cut["k"].index(10)]


def test_parts_of_the_plain_arm_have_no_name_before_them_and_a_mark_to_compare_with(latent):
    plain, other = (of(arm, measurements(latent)) for arm in ("CE imbalanced", "Focal"))
    assert plain["true positives", "magnitude_gap"] == other["Focal, true positives", "magnitude_gap"]
    assert plain["half of the logit", "top_k_share"] == 0.5
    assert not any(readout.startswith("half") for readout, _ in other)


def test_true_positives_and_false_negatives_are_compared_over_the_same_classes(latent):
    changed = copy.deepcopy(latent)
    gaps = unpack_rows(changed["gaps"]["CE"])
    gaps[1:] = [[0.1, 0.2, np.nan, 0.3], [0.5, np.nan, 0.9, 0.7]]
    changed["gaps"]["CE"] = pack_rows(gaps)
    found = of("CE imbalanced", measurements(changed))
    assert found["true positives", "magnitude_gap"] == pytest.approx(0.2)
    assert found["false negatives", "magnitude_gap"] == pytest.approx(0.6)


def test_what_no_class_has_is_left_out(latent):
    changed = copy.deepcopy(latent)
    changed["gaps"]["CE"] = pack_rows(np.full((3, 4), np.nan))
    found = of("CE imbalanced", measurements(changed))
    assert not {"true positives", "CE imbalanced"} & {
        name for name, metric in found if metric == "magnitude_gap"
    }
    assert ("minority classes", "range_gap_equal") in found
    assert np.isfinite(list(found.values())).all()


def test_of_each_uneven_arm_the_frame_holds_what_is_correlated_over_classes(latent):
    measured = measurements(latent, counts=(30, 60, 6, 12))
    readings = class_readings(measured)
    for arm, before in (("CE imbalanced", ""), ("Focal", "Focal, ")):
        found = of(arm, measured)
        for label in range(4):
            metric = f"class {label}"
            assert found[f"{before}diversity of a class", metric] == readings["effective_rank_train"][label]
            assert found[f"{before}size of a class", metric] == (30, 60, 6, 12)[label]
            assert found[f"{before}recall of a class", metric] == RECALL[label]
    assert not any("of a class" in readout for readout, _ in of("CE balanced", measured)), (
        "classes of one size"
    )


def test_imbalanced_training_is_compared_with_another_seed_of_balanced_training():
    latents = {
        ("CE balanced", 0, 0): summaries(seed=10),
        ("CE balanced", 1, 1): summaries(seed=20),
        ("CE imbalanced", 0, 0): summaries(seed=30),
        ("CE imbalanced", 1, 1): summaries(seed=40),
    }
    found = scored({place: measurements(latent) for place, latent in latents.items()})
    found = found[found["readout"].isin(["another seed", "imbalanced training"])]
    assert set(found["key"]) == {"CE balanced 0 0", "CE balanced 1 1"}
    first = found[found["split_seed"] == 0].set_index(["readout", "metric"])["value"]
    mine = latents["CE balanced", 0, 0]
    for name, arm in (("another seed", "CE balanced"), ("imbalanced training", "CE imbalanced")):
        expected = changes(mine, latents[arm, 1, 1]).mean()
        assert first[name].to_dict() == pytest.approx(expected.to_dict())


def test_a_change_is_over_the_classes_that_both_comparisons_have():
    blind = copy.deepcopy(summaries(seed=40))
    table = blind["top"]["CE"]["train"]["true positives"]
    table["magnitudes"] = pack_rows(unpack_rows(table["magnitudes"]) * [[1.0], [1.0], [1.0], [np.nan]])
    runs = {("CE balanced", seed, seed): measurements(summaries(seed=10 + seed)) for seed in (0, 1)}
    runs["CE imbalanced", 1, 1] = measurements(blind)
    found = scored(runs).query("metric == 'magnitude_change'").set_index("readout")["value"]
    mine, other = (run["latent"] for run in list(runs.values())[:2])
    assert found["another seed"] == pytest.approx(changes(mine, other)["magnitude_change"][:3].mean())


@pytest.mark.parametrize(
    "places",
    [
        [("CE balanced", 0, 0), ("CE imbalanced", 0, 0)],
        [(arm, 0, seed) for arm in ("CE balanced", "CE imbalanced") for seed in (0, 1)],
        [("CE balanced", 0, 0), ("CE balanced", 1, 1)],
    ],
)
def test_a_comparison_needs_another_split_and_both_arms(latent, places):
    found = scored(dict.fromkeys(places, measurements(latent)))
    assert not {"another seed", "imbalanced training"} & set(found["readout"])


def test_gains_are_differences_of_arms_of_the_same_seeds(latent):
    recalls = {
        "Few": [0.9, 0.9, 0.1, 0.3],
        "Repeated": [0.8, 0.8, 0.3, 0.4],
        "Distinct": [0.8, 0.8, 0.7, 0.7],
    }
    runs = {(arm, 0, 0): measurements(latent, recall) for arm, recall in recalls.items()}
    recalls = {"Half": 0.4, "Half, copied": 0.6, "Quarter, copied": 0.1}
    runs |= {(arm, 0, 0): measurements(latent, [0.8, 0.8, few, few]) for arm, few in recalls.items()}
    runs["Few", 1, 1] = runs["Few", 0, 0]
    found = scored(runs).query("metric == 'gain_few'")
    assert set(found["split_seed"]) == {0} and set(found["readout"]) == set(GAINS)
    gains = found.set_index("readout")["value"]
    assert gains["more copies"] == pytest.approx(0.15)
    assert gains["more diverse images"] == pytest.approx(0.35)
    assert gains["twice the number"] == pytest.approx(0.2)
    assert gains["twice the distinct images"] == pytest.approx(0.5)
