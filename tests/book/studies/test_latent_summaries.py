"""Latent summaries: every number is that of the loop over images, and none is an image's own."""

import json

import numpy as np
import pytest
from latent_sides import CLASSES, UNITS, network, side, summaries

from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.latent_summaries import CUT_AT, SHARES_AT, TABLES, Side, latent_summaries
from imbal_core.embeddings.diversity import neighbour_coverage, split_by_class
from imbal_core.embeddings.top_k import class_top_k, magnitude_gap

TRAIN, TEST = side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)


@pytest.fixture(scope="module")
def found():
    return summaries()


def images(which, instances, label):
    """Return the rows of a side that a table speaks of."""
    chosen = which.labels == label
    right = which.predictions == which.labels
    return chosen & {"all": True, "true positives": right, "false negatives": ~right}[instances]


@pytest.mark.parametrize(("embedding", "place", "instances"), TABLES)
def test_tables_are_those_of_the_loop_over_images(found, embedding, place, instances):
    which = {"train": TRAIN, "test": TEST}[place]
    weights = network()[0]
    table = found["top"][embedding][place][instances]
    for label in range(CLASSES):
        rows = which.inputs[images(which, instances, label)].astype(float)
        assert table["images"][label] == len(rows)
        values = rows if embedding == "FE" else rows * weights[label]
        ranked = values if embedding == "signed CE" else np.abs(values)
        means = ranked.mean(0)
        order = sorted(range(UNITS), key=lambda unit: -means[unit])
        top = [unit for unit in order[:10] if means[unit] > 0]
        assert unpack_rows(table["identities"])[label].tolist() == top + [-1] * (10 - len(top))
        np.testing.assert_allclose(unpack_rows(table["magnitudes"])[label][: len(top)], means[top], rtol=1e-3)
        shares = np.cumsum((values if embedding == "signed CE" else np.abs(values)).mean(0)[order])
        at = [k - 1 for k in SHARES_AT if k <= UNITS]
        np.testing.assert_allclose(unpack_rows(table["shares"])[label], shares[at] / shares[-1], rtol=1e-3)
        in_own = np.zeros(UNITS)
        for row in ranked:
            own = sorted(range(UNITS), key=lambda unit, row=row: -row[unit])[:10]
            in_own[[unit for unit in own if row[unit] > 0]] += 1 / len(rows)
        expected = [(in_own > rate).sum() for rate in (0.0, 0.1, 0.25)]
        assert unpack_rows(table["in_use"])[label].tolist() == expected
        needed = [next(k + 1 for k in range(UNITS) if shares[k] / shares[-1] >= s) for s in (0.5, 0.9)]
        assert unpack_rows(table["needed"])[label].tolist() == needed


def test_gaps_are_from_all_training_images_to_the_test_images_of_a_kind(found):
    weights = network()[0]
    for embedding, of in (("FE", None), ("CE", weights)):
        train = class_top_k(TRAIN.inputs, TRAIN.labels, CLASSES, weights=of)
        right = TEST.predictions == TEST.labels
        for row, rows in enumerate((right | True, right, ~right)):
            test = class_top_k(TEST.inputs[rows], TEST.labels[rows], CLASSES, weights=of)
            expected = magnitude_gap(train, test)
            np.testing.assert_allclose(unpack_rows(found["gaps"][embedding])[row], expected, rtol=1e-3)


def test_the_classifier_is_cut_to_the_units_that_carry_most_in_training(found):
    weights, bias = network()
    assert found["cut"]["k"] == [k for k in CUT_AT if k < UNITS]
    ranked = [np.argsort(-np.abs(TRAIN.inputs[TRAIN.labels == c] * weights[c]).mean(0)) for c in range(4)]
    for place, k in enumerate(found["cut"]["k"]):
        for name in ("only", "without"):
            logits = np.empty((len(TEST.labels), CLASSES))
            for c in range(CLASSES):
                units = ranked[c][:k] if name == "only" else ranked[c][k:]
                logits[:, c] = TEST.inputs[:, units] @ weights[c, units] + bias[c]
            predicted = logits.argmax(1)
            agreement = found["cut"][name]["agreement"][place]
            assert agreement == pytest.approx((predicted == TEST.predictions).mean())
            recall = [(predicted[TEST.labels == c] == c).mean() for c in range(CLASSES)]
            np.testing.assert_allclose(unpack_rows(found["cut"][name]["recall"])[place], recall, rtol=1e-3)


def test_diversity_is_measured_on_all_images_and_on_equally_many(found):
    spread = found["diversity"]
    assert spread["rows"] == 6
    test = TEST.inputs[TEST.labels == 2].astype(float)
    singular = np.linalg.svd(test - test.mean(0), compute_uv=False)
    p = singular / singular.sum()
    assert unpack_rows(spread["test"])[0][2] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-3)
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    pairs = (1 - unit @ unit.T)[np.triu_indices(len(unit), 1)]
    assert unpack_rows(spread["test"])[2][2] == pytest.approx(pairs.mean(), rel=1e-3)
    equal, whole = unpack_rows(spread["equal"]), unpack_rows(spread["train"])
    assert (equal[0] <= 5).all(), "six images span at most five directions"
    assert whole[0][0] > 10 and whole[:, 3] == pytest.approx(equal[:, 3], rel=2e-3)
    parts = (split_by_class(side.inputs, side.labels, CLASSES) for side in (TRAIN, TEST))
    covered = [neighbour_coverage(*rows) for rows in zip(*parts, strict=True)]
    np.testing.assert_allclose(unpack_rows(spread["coverage"])[0], covered, rtol=1e-3)
    gaps = unpack_rows(spread["range_gap"])
    assert (gaps[1] >= gaps[0] - 1e-6).all(), "fewer images have a narrower range"


def test_means_and_probe_are_those_of_the_test_images(found):
    means = unpack_rows(found["test_means"])
    probe = unpack_rows(found["probe"])
    assert probe.shape == (4 * CLASSES, UNITS)
    for label in range(CLASSES):
        members = TEST.inputs[TEST.labels == label]
        np.testing.assert_allclose(means[label], members.mean(0), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(probe[4 * label + 1], members[1::4].mean(0), rtol=6e-3, atol=1e-6)
    np.testing.assert_allclose(unpack_rows(found["weights"]), network()[0], rtol=1e-3)
    np.testing.assert_allclose(unpack_rows([found["bias"]])[0], network()[1], rtol=1e-3)


def test_permuting_units_changes_identities_and_columns_and_nothing_else(found):
    order = np.random.default_rng(9).permutation(UNITS)
    weights, bias = network()
    sides = [Side(s.inputs[:, order], s.labels, s.predictions) for s in (TRAIN, TEST)]
    permuted = latent_summaries(*sides, weights[:, order], bias, seed=0)
    for embedding, place, instances in TABLES:
        mine, theirs = (x["top"][embedding][place][instances] for x in (found, permuted))
        renamed = unpack_rows(theirs.pop("identities"))
        renamed = np.where(renamed >= 0, order[renamed], -1)
        assert renamed.tolist() == unpack_rows(mine["identities"]).tolist()
        for name in theirs:
            if name != "images":
                np.testing.assert_allclose(unpack_rows(theirs[name]), unpack_rows(mine[name]), rtol=1e-3)
    for name in ("train_means", "test_means", "weights", "probe"):
        assert unpack_rows(permuted[name]).tolist() == unpack_rows(found[name])[:, order].tolist()
    assert permuted["cut"] == found["cut"]
    for name in ("train", "equal", "test", "coverage", "range_gap"):
        np.testing.assert_allclose(
            unpack_rows(permuted["diversity"][name]), unpack_rows(found["diversity"][name]), rtol=2e-3
        )


def test_a_class_without_true_positives_or_without_an_active_unit_is_undefined_and_stored():
    wrong = Side(TEST.inputs, TEST.labels, np.where(TEST.labels == 3, 0, TEST.predictions))
    silent = TRAIN.inputs.copy()
    silent[TRAIN.labels == 2] = 0
    found = summaries(test=wrong, train=Side(silent, TRAIN.labels, TRAIN.predictions))
    json.dumps(found, allow_nan=False)
    table = found["top"]["CE"]["test"]["true positives"]
    assert table["images"][3] == 0 and set(table["identities"][3].split()) == {"-1"}
    assert np.isnan(unpack_rows(found["gaps"]["CE"])[1, 3])
    assert np.isnan(unpack_rows(found["diversity"]["train"])[:, 2]).all()


def test_the_same_images_give_the_same_summaries_and_another_seed_other_draws(found):
    assert summaries() == found
    other = latent_summaries(TRAIN, TEST, *network(), seed=1)
    assert other["diversity"]["equal"] != found["diversity"]["equal"]
    assert other["top"] == found["top"]
