"""Class top-K: definitions against loops, permuted units, sets against sets, gaps by hand, errors."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.embeddings.top_k import class_top_k, magnitude_gap, overlap_matrix
from imbal_core.models.build import build_model
from imbal_core.training.prediction import predict


def draw(rows=60, units=9, classes=4, seed=0, dtype=np.float64):
    """Return features after a ReLU with a dead unit, labels and weights; the last class has no instance."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((rows, units)), 0)
    features[:, -1] = 0
    labels = rng.integers(0, max(classes - 1, 1), rows)
    return features.astype(dtype), labels, rng.standard_normal((classes, units)).astype(dtype)


def draw_whole(rows, units, classes, seed):
    """As `draw`, with small integers: sums are exact, and many values tie."""
    rng = np.random.default_rng(seed)
    features = rng.integers(-2, 4, (rows, units)).astype(np.float64)
    weights = rng.integers(-2, 3, (classes, units)).astype(np.float64)
    return features, rng.integers(0, classes, rows), weights


def ranked(keys):
    """Return unit indices, the largest key first, equal ones by index."""
    return sorted(range(len(keys)), key=lambda unit: (-keys[unit], unit))


def slow_top_k(data, k, signed, classified=True):
    """The definitions, one instance and one unit at a time in float64."""
    features, labels, weights = data
    units = features.shape[1]
    key_of = float if signed else abs
    results = []
    for c in range(len(weights)):
        rows = [
            [float(feature[j]) * (float(weights[c, j]) if classified else 1.0) for j in range(units)]
            for feature, label in zip(features, labels, strict=True)
            if label == c
        ]
        n = len(rows)
        frequencies = [0] * units
        for row in rows:
            for unit in ranked([key_of(v) for v in row])[:k]:
                frequencies[unit] += key_of(row[unit]) > 0
        if not n:
            nan = np.full(units, np.nan)
            results.append(([-1] * k, nan[:k], frequencies, nan, nan, 0))
            continue
        means = [sum(key_of(row[j]) for row in rows) / n for j in range(units)]
        order = ranked(means)
        identities = [unit if means[unit] > 0 else -1 for unit in order]
        magnitudes = [max(means[unit], 0.0) for unit in order]
        parts = [[key_of(row[unit]) for unit in order] for row in rows]
        total = sum(map(sum, parts))
        shares = [
            sum(sum(part[: many + 1]) for part in parts) / total if total > 0 else np.nan
            for many in range(units)
        ]
        results.append((identities[:k], magnitudes[:k], frequencies, shares, means, n))
    return [np.array(column) for column in zip(*results, strict=True)]


def assert_same(found, expected, rtol=1e-10):
    identities, magnitudes, frequencies, shares, means, counts = expected
    assert_array_equal(found.identities, identities)
    assert_allclose(found.magnitudes, magnitudes, rtol=rtol, atol=1e-12)
    assert_array_equal(found.frequencies, frequencies)
    assert_allclose(found.shares, shares, rtol=rtol, atol=1e-10)
    assert_allclose(found.means, means, rtol=rtol, atol=1e-12)
    assert_array_equal(found.counts, counts)


def of(data, k, signed=False, classified=True):
    features, labels, weights = data
    chosen = weights if classified else None
    return class_top_k(features, labels, len(weights), weights=chosen, k=k, signed=signed)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("classified", [True, False])
def test_every_combination_of_options_is_the_loop_over_instances(signed, classified):
    data = draw()
    assert_same(of(data, 4, signed, classified), slow_top_k(data, 4, signed, classified))


@given(st.booleans(), st.integers(1, 25), st.integers(1, 7), st.integers(1, 4), st.data())
@settings(max_examples=100, deadline=None)
def test_values_that_tie_rank_by_the_lower_index(signed, rows, units, classes, source):
    k = source.draw(st.integers(1, units))
    data = draw_whole(rows, units, classes, source.draw(st.integers(0, 10**6)))
    assert_same(of(data, k, signed), slow_top_k(data, k, signed))


@given(st.booleans(), st.integers(0, 10**6), st.permutations(range(9)))
@settings(max_examples=40, deadline=None)
def test_permuting_hidden_units_permutes_identities_and_nothing_else(signed, seed, order):
    features, labels, weights = data = draw(seed=seed)
    plain, order = of(data, 3, signed), np.array(order)
    other = of((features[:, order], labels, weights[:, order]), 3, signed)
    assert_array_equal(np.where(other.identities >= 0, order[other.identities], -1), plain.identities)
    assert_allclose(other.magnitudes, plain.magnitudes, rtol=1e-12)
    assert_allclose(other.shares, plain.shares, rtol=1e-9, atol=1e-12)
    assert_array_equal(other.frequencies, plain.frequencies[:, order])
    assert_array_equal(other.units_for_share(0.7), plain.units_for_share(0.7))


def test_embeddings_of_a_network_have_the_shares_of_its_logits():
    """Signed shares end at 1: all units together carry the logit, less the bias, of the network itself."""
    torch.manual_seed(0)
    network = build_model("small_cnn", 3, image_size=8).eval()
    images = torch.randint(0, 256, (40, 8, 8, 3), dtype=torch.uint8)
    classifier = linear_classifier(network)
    out = predict(network, images, taps=(classifier.tap,))
    labels = out["logits"].argmax(1)
    found = class_top_k(
        classifier.inputs(out[classifier.tap]), labels, 3, weights=classifier.weights, signed=True
    )
    for c in labels.unique().tolist():
        logit = (out["logits"][labels == c, c].double() - float(classifier.bias[c])).mean().item()
        net = found.shares[c, 0] * logit if logit > 0 else np.nan
        assert np.isnan(net) == np.isnan(found.shares[c, -1]) and (np.isnan(net) or found.shares[c, -1] == 1)


def test_counts_of_units_by_hand():
    top = class_top_k([[3.0, 1, 0], [0, 1, 2], [4, 0, 0]], [0, 0, 0], 2, k=2)
    assert top.identities.tolist() == [[0, 1], [-1, -1]]
    assert top.frequencies.tolist() == [[2, 2, 1], [0, 0, 0]]
    assert_allclose(top.units_in_use(0.5), [2, np.nan])
    assert_allclose(top.units_for_share(0.8), [2, np.nan])
    assert_allclose(top.magnitudes, [[7 / 3, 2 / 3], [np.nan, np.nan]])


def test_no_instance_at_all_is_no_error():
    empty = class_top_k(np.zeros((0, 4)), np.zeros(0, int), 2, k=2)
    assert (empty.identities == -1).all() and np.isnan(empty.means).all() and not empty.counts.any()


def test_tensors_of_any_precision_are_read():
    features, labels, weights = draw(dtype=np.float32)
    expected = of((features, labels, weights), 3)
    tensor = torch.from_numpy(features).requires_grad_()
    found = class_top_k(tensor, torch.from_numpy(labels), 4, weights=torch.from_numpy(weights), k=3)
    assert_array_equal(found.identities, expected.identities)


def slow_overlap(first, second):
    mine, theirs = ({unit for unit in units if unit >= 0} for units in (first, second))
    return len(mine & theirs) / len(first) if mine and theirs else np.nan


def draw_identities(classes, k, units, rng):
    """Return distinct units for every class, some of them -1."""
    drawn = np.array([rng.permutation(units)[:k] for _ in range(classes)])
    return np.where(rng.random((classes, k)) < 0.3, -1, drawn)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9)),
    st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_overlaps_are_those_of_sets(sizes, seed):
    rng = np.random.default_rng(seed)
    first, second = (draw_identities(classes, sizes[2], sizes[2] + sizes[3], rng) for classes in sizes[:2])
    expected = [[slow_overlap(mine, theirs) for theirs in second] for mine in first]
    assert_allclose(overlap_matrix(first, second), expected)


def results():
    """Return class top-2 of a training and a test set of three units; class 2 is missing from the test."""
    train = np.array([[4.0, 2, 0], [2, 4, 0], [0, 1, 2], [1, 0, 0]])
    test = np.array([[1.0, 2, 3], [0, 0, 6]])
    return class_top_k(train, [0, 0, 1, 2], 3, k=2), class_top_k(test, [0, 1], 3, k=2)


def test_overlap_of_results_is_that_of_their_identities():
    train, test = results()
    assert train.identities.tolist() == [[0, 1], [2, 1], [0, -1]]
    assert test.identities.tolist() == [[2, 1], [2, -1], [-1, -1]]
    assert_allclose(
        overlap_matrix(train.identities, train.identities), [[1, 0.5, 0.5], [0.5, 1, 0], [0.5, 0, 0.5]]
    )
    assert_allclose(np.diag(overlap_matrix(train.identities, test.identities)), [0.5, 0.5, np.nan])


def test_magnitude_gaps_are_as_computed_by_hand():
    """Class 0: train means (3, 3, 0), test (1, 2, 3), its units 0 and 1. Class 1: (0, 1, 2), (0, 0, 6), 2 and 1."""
    train, test = results()
    assert_allclose(magnitude_gap(train, test), [(2 + 1) / 6, (-4 + 1) / 3, np.nan])
    later = dataclasses.replace(
        test, counts=np.array([1, 1, 1]), means=np.array([[1, 2, 3], [0, 0, 6], [3, 5, 5]])
    )
    assert magnitude_gap(train, later)[2] == (1 - 3) / 1, "a unit that is missing counts as nothing"
    dead = class_top_k([[0.0, 0], [0, 0]], [0, 1], 2, k=1)
    assert np.isnan(magnitude_gap(dead, dead)).all()


def test_what_does_not_fit_is_named():
    x, y = np.ones((2, 3)), [0, 1]
    for options, message in (
        ({"k": 4}, "k=4 is more than the 3 units"),
        ({"weights": np.ones((3, 3)), "k": 1}, r"weights must have shape \(2, D\)"),
        ({"weights": np.ones((2, 4)), "k": 1}, "have 3 units, expected 4"),
    ):
        with pytest.raises(ValueError, match=message):
            class_top_k(x, y, 2, **options)
    for features, labels, message in (
        (x[0], y, r"shape \(N, D\), got float64 of shape \(3,\)"),
        (x > 0, y, "real numbers .* got bool"),
        (x * np.nan, y, "NaN or infinity, first in row 0"),
        (x, [0], "labels must be 2, one for each row"),
        (x, [0, 2], r"labels must lie in \[0, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            class_top_k(features, labels, 2, k=1)
    for first, second in (([[1, 2]], [[1]]), ([1, 2], [1, 2])):
        with pytest.raises(ValueError, match=r"shape \(classes, K\), of the same K, got"):
            overlap_matrix(first, second)
    with pytest.raises(ValueError, match=r"\(C, D\) is \(3, 3\) in train and \(3, 4\) in test"):
        magnitude_gap(results()[0], class_top_k(np.ones((1, 4)), [0], 3, k=2))
