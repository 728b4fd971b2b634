"""The study of CNN fragility: its grids, what is measured on one network, its long frames, and its claims."""

import dataclasses
import json

import measured_runs
import numpy as np
import pandas as pd
import pytest
import torch
from fragility_records import records
from sklearn.metrics import recall_score

from imbal_book.grid import batch
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies import PROFILES, build_grid
from imbal_book.studies import cnn_fragility as study
from imbal_book.studies.fragility_scores import GAINS
from imbal_book.studies.grids import cnn_fragility as grids
from imbal_core.data.class_counts import counts_from_name
from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.training.schedules import epoch_indices, epoch_size

CPU = torch.device("cpu")
NAME = "cnn_fragility"
POOLS = {"mnist5k": [400] * 10, "cifar10": [5000] * 10, "scenes6": [500] * 6}


def train_counts(config):
    counts, _ = counts_from_name(config.imbalance, POOLS[config.dataset], scale=config.imbalance_scale)
    return counts


@pytest.mark.parametrize("profile", PROFILES)
def test_every_cell_has_all_its_arms_for_every_seed(profile):
    cells = {}
    for config in build_grid(NAME, profile):
        arm, imbalance = grids.cell(config)
        seeds = (config.split_seed, config.train_seed)
        cells.setdefault((config.dataset, config.model, imbalance, seeds), []).append(arm)
    for (_, _, imbalance, _), arms in cells.items():
        expected = grids.ARMS if imbalance.startswith("exponential") else grids.EXPERIMENT_ARMS
        assert sorted(arms) == sorted(expected)


def test_what_is_recorded_on_two_cores_is_the_first_draws_of_both_kinds_of_cell():
    for profile, draws in (("laptop", 3), ("paper", 9)):
        grid = build_grid(NAME, profile)
        seeds = {}
        for config in grid:
            place = (config.dataset, grids.cell(config)[1])
            seeds.setdefault(place, set()).add((config.split_seed, config.train_seed))
        assert {len(found) for found in seeds.values()} == {draws}
        kinds = {(dataset, imbalance.split()[0]) for dataset, imbalance in seeds}
        assert {("cifar10", "exponential"), ("cifar10", "step")} < kinds, "both, and other data"


def test_the_paper_profile_has_the_sibling_recipe_and_begins_with_three_draws_of_three_arms():
    grid = build_grid(NAME, "paper")
    assert [(grids.cell(c)[0], c.split_seed, c.train_seed) for c in grid[:9]] == [
        (arm, seed, seed) for seed in range(3) for arm in ("CE balanced", "CE imbalanced", "LDAM-DRW")
    ]
    first = grid[1]
    assert (first.dataset, first.imbalance, first.imbalance_scale) == ("cifar10", "exponential-100", 1.0)
    assert (first.epochs, first.learning_rate, first.warmup_epochs, first.batch_size) == (200, 0.1, 5, 128)
    assert (first.milestones, first.decay, first.weight_decay) == ((160, 180), 0.01, 2e-4)
    assert dict(grid[2].loss_options) == {"reweight_from": 160}
    seeds = {(c.split_seed, c.train_seed) for c in grid if c.dataset == "inaturalist"}
    assert seeds == {(split, train) for split in range(3) for train in range(3)}


@pytest.mark.parametrize("profile", ["smoke", "laptop"])
def test_balanced_and_imbalanced_training_have_as_many_images_in_all(profile):
    totals = {}
    for config in build_grid(NAME, profile):
        arm, imbalance = grids.cell(config)
        if arm in grids.ARMS:
            totals.setdefault((config.dataset, imbalance), {})[arm] = int(train_counts(config).sum())
    assert totals
    for by_arm in totals.values():
        assert len(by_arm) == len(grids.ARMS)
        assert max(by_arm.values()) - min(by_arm.values()) <= 5


#: Arm of the experiment -> images of a rare class in an epoch that shows each of its images equally often, and how many
#: of them are distinct, both as shares of a majority class's.
NUMBERS = {
    "Few": (0.1, 0.1),
    "Repeated": (1.0, 0.1),
    "Repeated, not augmented": (1.0, 0.1),
    "Distinct": (1.0, 1.0),
    "Half": (0.5, 0.5),
    "Half, copied": (1.0, 0.5),
    "Quarter, copied": (1.0, 0.25),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_experiment_varies_number_and_diversity_of_the_rare_classes_alone_at_equal_steps(profile):
    grid = [config for config in build_grid(NAME, profile) if config.train_seed == config.split_seed == 0]
    runs = {grids.cell(config)[0]: config for config in grid if grids.cell(config)[1] == "step 10"}
    assert set(runs) == set(NUMBERS) == set(grids.EXPERIMENT_ARMS)
    many = int(train_counts(runs["Distinct"])[0])
    for arm, (number, distinct) in NUMBERS.items():
        counts, config = torch.from_numpy(train_counts(runs[arm])), runs[arm]
        labels = torch.repeat_interleave(torch.arange(10), counts)
        assert epoch_size(counts, config) == 10 * many, arm
        one = dataclasses.replace(config, epoch_images=None)
        shown = epoch_indices(labels, one, torch.Generator().manual_seed(0))
        for label in range(10):
            of_class = shown[labels[shown] == label].bincount(minlength=len(labels))
            seen = of_class[of_class > 0]
            rare = label >= 5
            assert len(seen) == (int(distinct * many) if rare else many), arm
            assert int(seen.sum()) == (number * many if rare else many), arm
            assert seen.max() - seen.min() <= 1, "each image as often as any other"
    plain = {
        dataclasses.replace(
            config, sampler="shuffle", epoch_images=None, imbalance="step-10", augment="crop-flip"
        ).canonical()
        for config in runs.values()
    }
    assert len(plain) == 1 and runs["Repeated, not augmented"].augment == "none"


def test_halving_the_number_and_halving_the_distinct_images_start_from_the_same_arm():
    pairs = [GAINS[name] for name in ("twice the number", "twice the distinct images")]
    (start, fewer), (same, poorer) = ([NUMBERS[arm] for arm in pair] for pair in pairs)
    assert start == same
    assert fewer == (start[0] / 2, start[1]) and poorer == (start[0], start[1] / 2)


def test_the_new_arms_run_at_smoke_scale_and_enter_the_frame():
    """On the digits that come with the book, one epoch each."""
    rows = []
    for config in build_grid(NAME, "smoke"):
        if grids.cell(config)[0] in ("Half", "Half, copied", "Quarter, copied"):
            prepared = batch.prepare(config)
            short = dataclasses.replace(config, epochs=2)
            found = study.measure(dataclasses.replace(prepared, config=short), device=CPU, progress=False)
            assert found["train_counts"][5:] == [int(100 * NUMBERS[grids.cell(config)[0]][1])] * 5
            rows.append({"key": config.digest(), "config": config, **config.to_dict(), "measurements": found})
    gains = study.frame(pd.DataFrame(rows, dtype=object)).query("metric == 'gain_few'")
    assert set(gains["readout"]) == {"twice the number", "twice the distinct images"}


def test_the_true_scale_of_a_run_is_that_of_its_counts_and_an_arm_unlike_its_cell_says_none():
    for config in build_grid(NAME, "laptop"):
        counts, words = train_counts(config), grids.scale(config)
        if grids.cell(config)[0] in ("CE balanced", "Distinct", "Half", "Half, copied", "Quarter, copied"):
            assert words == ""
        else:
            share = f"{100 * config.imbalance_scale:g} % of the full counts"
            assert words == f"{share}, {counts.max():,} to {counts.min():,} of a class"


def test_a_run_of_no_grid_is_named():
    config = dataclasses.replace(build_grid(NAME, "smoke")[0], loss="focal", loss_options={"gamma": 1.0})
    with pytest.raises(ValueError, match="no arm of cnn_fragility is this run of profile smoke: mnist5k"):
        grids.cell(config)
    with pytest.raises(ValueError, match="profile other"):
        grids.cell(dataclasses.replace(config, profile="other"))


@pytest.fixture(scope="module")
def measured(tiny_config, tiny_data):
    """Return, for two losses: the trained run, and the measurements."""
    found = {}
    for loss in ("cross-entropy", "ldam"):
        config = tiny_config(imbalance="exponential-4", imbalance_scale=0.5, loss=loss)
        found[loss] = measured_runs.measured(study, batch.prepare(config, root=tiny_data[1]))
    return found


@pytest.mark.parametrize("loss", ["cross-entropy", "ldam"])
def test_predictions_and_history_are_those_of_the_network(measured, loss):
    run, found = measured[loss]
    for side, readout in (("test", "softmax"), ("train", "train")):
        labels, predicted = run.sides[side][1], run.predict(side)["logits"].argmax(1)
        recall = recall_score(labels, predicted, labels=range(10), average=None, zero_division=0)
        np.testing.assert_allclose(found["readouts"][readout]["recall"], recall)
        top = found["latent"]["top"]["CE"][side]["true positives"]["images"]
        assert top == [int(((labels == c) & (predicted == c)).sum()) for c in range(10)]
    labels, predicted = run.sides["test"][1], run.predict("test")["logits"].argmax(1)
    rare = recall_score(labels, predicted, average=None, labels=range(5, 10), zero_division=0)
    assert found["history"]["test_recall_few"][-1] == pytest.approx(rare.mean())
    assert found["history"]["test_accuracy"][-1] == pytest.approx((labels == predicted).mean())


@pytest.mark.parametrize("loss", ["cross-entropy", "ldam"])
def test_embeddings_of_a_record_add_up_to_what_the_softmax_reads(measured, loss):
    run, found = measured[loss]
    weights = unpack_rows(found["latent"]["weights"])
    bias = unpack_rows([found["latent"]["bias"]])[0]
    classifier = linear_classifier(run.network)
    out = run.predict("test", (classifier.tap,))
    features = classifier.inputs(out[classifier.tap])
    for c in range(10):
        embeddings = features * weights[c]
        total = embeddings.sum(1, dtype=float) + bias[c]
        # recorded weights have four digits: their sum is as exact as its absolute terms allow
        scale = np.abs(embeddings).sum(1, dtype=float) + abs(bias[c])
        assert (np.abs(total - out["logits"][:, c]) <= 1e-3 * scale).all()


def test_a_record_is_small_and_holds_no_vector_of_an_image(measured, tiny_data):
    run, found = measured["cross-entropy"]
    latent = found["latent"]
    assert len(json.dumps(found, indent=1, allow_nan=False)) < 100_000, "128 units; networks of 64 have less"
    assert len(latent["probe"]) == 4 * 10
    test_images = len(run.sides["test"][1])
    matrices = [value for value in latent.values() if isinstance(value, list)]
    assert all(len(rows) != test_images or rows is latent["probe"] for rows in matrices)


def test_the_same_run_measures_the_same_twice(measured, tiny_config, tiny_data):
    config = tiny_config(imbalance="exponential-4", imbalance_scale=0.5)
    again = study.measure(batch.prepare(config, root=tiny_data[1]), device=CPU, progress=False)
    assert again == measured["cross-entropy"][1]


def test_the_laptop_does_not_test_after_every_epoch(tiny_config, tiny_data):
    config = tiny_config(imbalance="exponential-4", imbalance_scale=0.5, profile="laptop")
    found = study.measure(batch.prepare(config, root=tiny_data[1]), device=CPU, progress=False)
    assert set(found["history"]) == {"learning_rate", "train_loss"}


@pytest.fixture(scope="module")
def plain():
    return records()


def test_frames_name_arms_cells_and_networks(plain):
    long = study.frame(plain)
    assert set(long["form"]) == {"ResNet-20"} and set(long["imbalance"]) == {"exponential 100", "step 10"}
    for imbalance, arms in (("exponential 100", grids.ARMS), ("step 10", grids.EXPERIMENT_ARMS)):
        rows = long[(long["imbalance"] == imbalance) & (long["metric"] == "accuracy")]
        assert set(rows["readout"]) == set(arms)
    assert not long.duplicated(["key", "readout", "metric"]).any()
    assert np.isfinite(long["value"]).all()
    change = long[long["metric"] == "magnitude_change"]
    assert set(change["readout"]) == {"imbalanced training", "another seed"} and len(change) == 2 * 3
    gains = long[long["metric"] == "gain_few"]
    assert set(gains["imbalance"]) == {"step 10"} and len(gains) == len(GAINS) * 3


def test_the_label_frame_has_a_row_for_each_class_of_each_run(plain):
    labels = study.label_frame(plain)
    assert len(labels) == 4 * len(plain)
    one = labels[(labels["key"] == plain["key"][0])]
    assert one["train_count"].tolist() == [60, 30, 12, 6]
    assert one["recall"].tolist() == [0.8, 0.9, 0.4, 0.2]
    assert {"magnitude_gap", "effective_rank_train", "class_overlap"} <= set(labels.columns)
