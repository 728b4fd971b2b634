"""The study of the final batch norm: what is measured on one network, and its long frames."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from measured_runs import measured
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from imbal_book.chapters import final_batch_norm_training as training
from imbal_book.grid import batch
from imbal_book.run.config import RunConfig
from imbal_book.run.long_frames import records_frame
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies import final_batch_norm as study
from imbal_book.studies.grids import final_batch_norm as grids
from imbal_core.data.splits import Split

NAME = "final_batch_norm"
BOTH = ("plain", "final BN")
EVERY_ARM = grids.EVERY_ARM


def write_classes(folder, tints, counts, rng):
    """Write images of two classes, which their colour tells apart."""
    for side, numbers in counts.items():
        for label, (tint, count) in enumerate(zip(tints, numbers, strict=True)):
            place = folder / side / f"class{label}"
            place.mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(tint + rng.normal(0, 50, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{index:03d}.png")


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """Return a function from changes to a prepared run: 60 to 9 training images, 20 to 8 validation images."""
    folder = tmp_path_factory.mktemp("two classes")
    write_classes(folder, (105, 150), {"train": (80, 20), "test": (40, 40)}, np.random.default_rng(3))
    root = tmp_path_factory.mktemp("data")
    base = dict(
        study=NAME, profile="smoke", dataset=f"folder:{folder}", imbalance="rare-60-9-20-8", model="small_cnn",
        epochs=3, image_size=8, learning_rate=0.05, batch_size=16,
    )  # fmt: skip
    return lambda **changes: batch.prepare(RunConfig(**{**base, **changes}), root=root)


@pytest.fixture(scope="module")
def arms(two_classes):
    return {name: measured(study, two_classes(**changes)) for name, changes in EVERY_ARM.items()}


def check_readout(scores, labels, logits):
    """Compare the recorded scores with scikit-learn's on these logits."""
    margin = logits[:, 1] - logits[:, 0]
    f1 = f1_score(labels, logits.argmax(1), zero_division=0)
    (_, fp), (fn, tp) = scores["confusion"]
    assert 2 * tp / max(1, 2 * tp + fp + fn) == pytest.approx(f1)
    assert np.sum(scores["confusion"]) == len(labels)
    assert scores["auroc"] == pytest.approx(roc_auc_score(labels, margin))
    assert scores["auprc"] == pytest.approx(average_precision_score(labels, margin))
    assert scores["confidence"] == pytest.approx(softmax(logits, axis=1).max(1).mean())
    assert sum(scores["confidence_histogram"]) == len(labels)


@pytest.mark.parametrize("arm", EVERY_ARM)
def test_the_softmax_is_measured_on_the_test_images(arms, arm):
    run, found = arms[arm]
    labels = run.sides["test"][1]
    check_readout(found["readouts"]["softmax"], labels, run.predict("test")["logits"].astype(np.float64))
    assert (found["train_counts"], found["valid_counts"], found["test_counts"]) == (
        [60, 9],
        [20, 8],
        [40, 40],
    )
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("arm", ["plain", "final BN"])
def test_the_history_is_scored_after_every_epoch_on_both_sides(arms, arm):
    run, found = arms[arm]
    history = found["history"]
    assert {len(values) for values in history.values()} == {3}
    for side in ("valid", "test"):
        labels, logits = run.sides[side][1], run.predict(side)["logits"].astype(np.float64)
        assert history[f"{side}_f1_minority"][-1] == pytest.approx(f1_score(labels, logits.argmax(1)))
        probabilities = softmax(logits, axis=1)
        nats = -np.log(probabilities[np.arange(len(labels)), labels])
        assert history[f"{side}_cross_entropy"][-1] == pytest.approx(nats.mean())
    assert history["valid_loss"][-1] == pytest.approx(history["valid_cross_entropy"][-1], rel=1e-4)


@pytest.mark.parametrize("arm", EVERY_ARM)
def test_the_layer_normalises_the_logits_of_the_arms_that_have_it(arms, arm):
    """The readouts follow from the logits before the layer and its recorded numbers, by the formula."""
    run, found = arms[arm]
    assert ("layer" in found) == ("removed at inference" in found["readouts"]) == arm.startswith("final BN")
    if "layer" not in found:
        assert run.network.final_batch_norm is None
        return
    tap = "logits before final batch norm"
    before = run.predict("test", (tap,))[tap].astype(np.float64)
    layer = {name: np.array(values) for name, values in found["layer"].items()}
    scaled = (before - layer["running_mean"]) / np.sqrt(layer["running_var"] + 1e-5)
    after = scaled * layer["weight"] + layer["bias"]
    np.testing.assert_allclose(run.predict("test")["logits"], after, rtol=1e-4, atol=1e-4)
    assert np.abs(after - before).max() > 0.1, "the layer does something"
    labels = run.sides["test"][1]
    check_readout(found["readouts"]["removed at inference"], labels, before)
    assert (layer["weight"] != 1).any() == ("affine" not in arm)


def test_what_changes_by_rule_follows_from_the_logits(arms):
    run, found = arms["plain"]
    labels, logits = run.sides["test"][1], run.predict("test")["logits"].astype(np.float64)
    adjusted = logits - np.log([60 / 69, 9 / 69])
    check_readout(found["readouts"]["logit adjusted"], labels, adjusted)
    for arm in EVERY_ARM:
        assert ("logit adjusted" in arms[arm][1]["readouts"]) == (not arm.startswith("final BN"))


@pytest.mark.parametrize("arm", ["plain", "final BN"])
def test_threshold_and_temperature_are_chosen_on_validation_images(arms, arm):
    run, found = arms[arm]
    valid, true = run.predict("valid")["logits"].astype(np.float64), run.sides["valid"][1]
    margin = valid[:, 1] - valid[:, 0]
    equal = np.where(true, 1 / true.sum(), 1 / (1 - true).sum())
    test_labels, test_logits = run.sides["test"][1], run.predict("test")["logits"].astype(np.float64)
    for name, weights in (("threshold moved", None), ("balanced threshold", equal)):
        cuts = np.append(margin, margin.min() - 1)
        best = max(f1_score(true, margin > cut, sample_weight=weights) for cut in cuts)
        chosen = found["thresholds"][name]
        assert f1_score(true, margin > chosen, sample_weight=weights) == pytest.approx(best)
        check_readout(found["readouts"][name], test_labels, test_logits - [0, chosen])

    def cross_entropy(temperature):
        probabilities = softmax(valid / temperature, axis=1)
        return -np.log(probabilities[np.arange(len(true)), true]).mean()

    others = found["temperature"] * np.array([0.98, 1.02])
    assert cross_entropy(found["temperature"]) <= min(map(cross_entropy, others)) + 1e-9
    check_readout(found["readouts"]["temperature"], test_labels, test_logits / found["temperature"])


@pytest.mark.parametrize("arm", ["plain", "final BN"])
def test_every_score_can_be_had_again_from_the_margins(arms, arm):
    """Two probabilities are a function of their margin: so are confusion, ranking and confidence."""
    run, found = arms[arm]
    recorded = {"softmax": found["readouts"]["softmax"]}
    if arm == "final BN":
        recorded["removed at inference"] = found["readouts"]["removed at inference"]
    assert set(found["margins"]) == set(recorded)
    for readout, scores in recorded.items():
        sides = found["margins"][readout]
        assert [len(values) for values in sides["valid"]] == [20, 8]
        healthy, diseased = (np.array(values) for values in sides["test"])
        assert scores["confusion"] == [
            [(healthy <= 0).sum(), (healthy > 0).sum()],
            [(diseased <= 0).sum(), (diseased > 0).sum()],
        ]
        pairs = diseased[:, None] - healthy[None]
        assert scores["auroc"] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-3)
        sure = 1 / (1 + np.exp(-np.abs(np.concatenate([healthy, diseased]))))
        assert scores["confidence"] == pytest.approx(sure.mean(), abs=1e-4)


def test_without_validation_images_nothing_is_chosen(two_classes):
    _, found = measured(study, two_classes(imbalance="rare-60-9", epochs=1))
    assert set(found["readouts"]) == {"softmax", "logit adjusted"}
    assert set(found["margins"]["softmax"]) == {"test"}
    assert "thresholds" not in found and not any(name.startswith("valid") for name in found["history"])
    json.dumps(found, allow_nan=False)


def relabelled(prepared, rng):
    """Return the run with the labels of its training pool shuffled, which leaves the counts as they are."""
    order = rng.permutation(prepared.split.train)
    labels = prepared.train.labels.copy()
    labels[prepared.split.train] = prepared.train.labels[order]
    return dataclasses.replace(prepared, train=dataclasses.replace(prepared.train, labels=labels))


def test_both_networks_rank_the_rare_class_and_shuffled_labels_end_that(two_classes, arms):
    rng = np.random.default_rng(0)
    for arm in BOTH:
        learnt = arms[arm][1]["readouts"]["softmax"]["auroc"]
        shuffled = [
            measured(study, relabelled(two_classes(**grids.ARMS[arm], train_seed=seed), rng))[1]
            for seed in range(3)
        ]
        chance = np.mean([found["readouts"]["softmax"]["auroc"] for found in shuffled])
        assert learnt > 0.95 and chance < 0.85, (arm, learnt, chance)


def test_the_leakage_is_counted_image_by_image():
    rng = np.random.default_rng(1)
    labels, leaves = np.repeat([0, 1], [60, 30]), rng.integers(0, 25, 90).astype(str)
    order = rng.permutation(90)
    split = Split(train=np.sort(order[:40]), valid=np.sort(order[40:55]), test=np.sort(order[55:]))
    found = study.leaf_leakage(split, labels, leaves)
    seen = {leaves[i] for i in split.train}
    for label in range(2):
        images = [leaves[i] in seen for i in split.test if labels[i] == label]
        assert found["test_by_class"][label] == pytest.approx(sum(images) / len(images))
    assert found["test"] == pytest.approx(np.mean([leaves[i] in seen for i in split.test]))
    assert found["test_groups"] == len({leaves[i] for i in split.test})


def test_a_data_set_that_knows_its_leaves_records_the_leakage(two_classes):
    prepared = two_classes(epochs=1)
    assert "shared_groups" not in measured(study, prepared)[1]
    pool = prepared.train
    leaves = np.array([str(i // 4) for i in range(len(pool.labels))])
    drawn = np.concatenate([np.flatnonzero(pool.labels == k)[-5:] for k in range(2)])
    split = Split(prepared.split.train, prepared.split.valid, drawn)
    with_leaves = dataclasses.replace(pool, groups=leaves)
    found = measured(study, dataclasses.replace(prepared, train=with_leaves, test=with_leaves, split=split))[
        1
    ]
    assert found["shared_groups"] == study.leaf_leakage(split, pool.labels, leaves)
    json.dumps(found, allow_nan=False)


SCORES = {"auroc": 0.9, "auprc": 0.8, "f1_best": 0.75, "ece": 0.1, "confidence": 0.7}


def row(key, confusions, f1=(0.0, 0.9, 0.4), **changes):
    """Return a row of records; ``confusions`` maps readouts to their counts."""
    config = dataclasses.replace(build_grid(NAME, "laptop")[0], head_start="own", **changes)
    history = {
        "test_f1_minority": list(f1),
        "valid_f1_minority": [0.1, 0.3, 0.3],
        "valid_loss": [0.9, 0.5, 0.2],
    }
    readouts = {name: {"confusion": counts, **SCORES} for name, counts in confusions.items()}
    measured = {"readouts": readouts, "history": history}
    return {"key": key, "config": config, **config.to_dict(), "measurements": measured}


def test_the_level_of_f1_is_above_that_of_calling_every_image_rare():
    assert (
        study.always_rare([150, 150])
        == pytest.approx(f1_score([0] * 150 + [1] * 150, [1] * 300))
        == pytest.approx(2 / 3)
    )
    assert study.always_rare([30, 10]) == pytest.approx(f1_score([0] * 30 + [1] * 10, [1] * 40))
    assert min(study.F1_LEVEL, *training.LEVELS) > study.always_rare([150, 150])


def test_frames_name_arms_readouts_and_the_epochs_that_validation_chooses():
    rows = [
        row("a", {"softmax": [[150, 0], [120, 30]], "logit adjusted": [[100, 50], [0, 150]]}),
        row("b", {"softmax": [[140, 10], [10, 140]]}, f1=(0.1, 0.2, 0.3), final_batch_norm=True),
    ]
    long = study.frame(pd.DataFrame(rows, dtype=object))
    assert set(long["form"]) == {"EfficientNet-Lite0 (timm's start)"} and set(long["imbalance"]) == {
        "1000:10"
    }
    value = long.set_index(["readout", "metric"])["value"]
    assert value["plain", "f1_minority"] == pytest.approx(2 * 30 / (2 * 30 + 120))
    assert value["plain, logit adjusted", "f1_minority"] == pytest.approx(2 * 150 / (2 * 150 + 50))
    assert value["final BN", "recall_minority"] == pytest.approx(140 / 150)
    assert value["plain", "f1_best"] == 0.75 and value["plain", "confidence"] == 0.7
    assert value["plain", "epochs_to_f1"] == 2, "the first epoch with 0.9 or more"
    assert value["final BN", "epochs_to_f1"] == 4, "never reached: one more than all three"
    assert ("plain, logit adjusted", "epochs_to_f1") not in value.index
    # best validation F1 at the second epoch, the first of two that are equal; lowest loss at the third
    assert value["plain, epoch of best F1", "f1_minority"] == 0.9
    assert value["plain, epoch of lowest loss", "f1_minority"] == 0.4


def test_the_form_says_what_else_differs():
    rows = [
        row("a", {"softmax": [[1, 0], [0, 1]]}, batch_size=16),
        row("b", {"softmax": [[1, 0], [0, 1]]}, split_groups=True, imbalance="rare-1000-3-150-7"),
    ]
    long = study.frame(pd.DataFrame(rows, dtype=object)).drop_duplicates("key")
    own = "EfficientNet-Lite0 (timm's start)"
    assert long["form"].tolist() == [f"{own}, batch 16", f"{own}, leaf-grouped split"]
    assert long["imbalance"].tolist() == ["1000:10", "1000:3"]
    lite = {grids.form(config) for config in build_grid(NAME, "laptop") if config.head_start == "linear"}
    assert lite == {
        "EfficientNet-Lite0",
        "EfficientNet-Lite0, batch norms folded",
        "EfficientNet-Lite0, SGD",
        "EfficientNet-Lite0, leaf-grouped split",
        "EfficientNet-Lite0, batch 16",
        "EfficientNet-Lite0, batch 256",
    }


def test_epochs_are_counted_from_1():
    long = study.epoch_frame(pd.DataFrame([row("a", {"softmax": [[1, 0], [0, 1]]})], dtype=object))
    loss = long[long["metric"] == "valid_loss"]
    assert loss[["epoch", "value"]].values.tolist() == [[1, 0.9], [2, 0.5], [3, 0.2]]
    assert set(long["readout"]) == {"plain"}


def test_no_plain_run_with_the_fair_start_begins_far_from_a_coin():
    """Read off the committed records: with timm's start the first epoch costs 1.4 nats and more, a coin 0.69."""
    found = records_frame(RecordStore(Path(__file__).parents[3] / "results").read(NAME, "laptop"))
    plain = found[found["config"].map(grids.arm) == "plain"]
    first = plain["measurements"].map(lambda measured: measured["history"]["train_loss"][0]).astype(float)
    fair = plain["head_start"] == "linear"
    usual = plain["batch_size"] == grids.BASE_BATCH_SIZE
    assert fair.sum() >= 7 and first[fair].max() < 1
    assert first[~fair & usual].min() > 1.4
