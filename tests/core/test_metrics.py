"""Metrics against scikit-learn, formulas written out, and cases computed by hand."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from imbal_core import metrics

cases = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40)
    )
)


@given(cases)
@settings(max_examples=80, deadline=None)
def test_agrees_with_scikit_learn(case):
    classes, pairs = case
    labels, predictions = np.array(pairs).T
    options = {"labels": range(classes), "average": None, "zero_division": 0}
    confusion = metrics.confusion_counts(labels, predictions, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_array_equal(confusion, confusion_matrix(labels, predictions, labels=range(classes)))
        assert_allclose(metrics.per_class_recall(confusion), recall_score(labels, predictions, **options))
        assert_allclose(
            metrics.per_class_precision(confusion), precision_score(labels, predictions, **options)
        )
        assert_allclose(metrics.f1_per_class(confusion), f1_score(labels, predictions, **options))
        assert_allclose(metrics.balanced_accuracy(confusion), balanced_accuracy_score(labels, predictions))
        assert_allclose(metrics.accuracy(confusion), accuracy_score(labels, predictions))
    assert confusion.dtype == np.int64


def test_a_hand_computed_confusion():
    confusion = metrics.confusion_counts(
        torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 2]), 4
    )
    assert_array_equal(confusion, [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert_array_equal(metrics.per_class_recall(confusion), [0.75, 0.5, 0, 0])
    assert_array_equal(metrics.per_class_precision(confusion), [1, 0.5, 0, 0])
    assert metrics.balanced_accuracy(confusion) == 0.625
    assert metrics.accuracy(confusion) == pytest.approx(4 / 6)


def slow_ece(probabilities, labels, bins):
    edges, total = np.linspace(0, 1, bins + 1), 0.0
    for low, high in zip(edges, edges[1:], strict=False):
        inside = [i for i, row in enumerate(probabilities) if low < max(row) <= high]
        if inside:
            right = sum(np.argmax(probabilities[i]) == labels[i] for i in inside) / len(inside)
            confidence = sum(max(probabilities[i]) for i in inside) / len(inside)
            total += len(inside) / len(labels) * abs(right - confidence)
    return total


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.sampled_from([1, 2, 5, 15]))
@settings(max_examples=60, deadline=None)
def test_calibration_error_equals_the_loop_over_bins(seed, rows, classes, bins):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.5), rows)
    labels = rng.integers(0, classes, rows)
    assert metrics.expected_calibration_error(probabilities, labels, bins) == pytest.approx(
        slow_ece(probabilities, labels, bins), abs=1e-12
    )


def test_calibration_error_by_hand():
    # Bin (0.5, 0.75]: confidences 0.6, 0.7, one right: |0.5 - 0.65| = 0.15.
    # Bin (0.75, 1]: confidences 0.9, 1.0, both right: |1 - 0.95| = 0.05.
    probabilities = torch.tensor([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 0, 1])
    expected = 0.5 * 0.15 + 0.5 * 0.05
    assert metrics.expected_calibration_error(probabilities, labels, bins=4) == pytest.approx(
        expected, abs=1e-7
    )


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # 0.5 with bins (0, 0.5] and (0.5, 1]: alone in its bin, wrong, so 0.5; the other is right at 1.0.
    probabilities = [[0.5, 0.5], [1.0, 0.0]]
    assert metrics.expected_calibration_error(probabilities, [1, 0], bins=2) == pytest.approx(0.25)


def case_of(seed, rows, classes):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.5), rows), rng.integers(0, classes, rows)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.sampled_from([1, 2, 5, 15]))
@settings(max_examples=60, deadline=None)
def test_reliability_bins_are_the_means_of_a_loop_and_add_up_to_the_calibration_error(
    seed, rows, classes, bins
):
    probabilities, labels = case_of(seed, rows, classes)
    table = metrics.reliability_bins(probabilities, labels, bins)
    assert {name: len(column) for name, column in table.items()} == dict.fromkeys(
        ("lower", "upper", "count", "confidence", "accuracy"), bins
    )
    for b in range(bins):
        low, high = table["lower"][b], table["upper"][b]
        inside = [i for i, row in enumerate(probabilities) if low < max(row) <= high]
        right = [float(np.argmax(probabilities[i]) == labels[i]) for i in inside]
        assert table["count"][b] == len(inside)
        assert table["accuracy"][b] == pytest.approx(np.mean(right) if inside else 0)
        assert table["confidence"][b] == pytest.approx(
            np.mean([max(probabilities[i]) for i in inside]) if inside else 0
        )
    gaps = table["count"] * np.abs(table["accuracy"] - table["confidence"])
    assert gaps.sum() / rows == pytest.approx(
        metrics.expected_calibration_error(probabilities, labels, bins), abs=1e-12
    )


def test_reliability_by_hand_with_an_empty_bin_of_zeros():
    # Bins (0, .25], (.25, .5], (.5, .75], (.75, 1]: 0.5 in the second, 0.625 and 0.6875 in the third.
    probabilities = torch.tensor([[0.5, 0.5], [0.625, 0.375], [0.3125, 0.6875]], dtype=torch.bfloat16)
    table = metrics.reliability_bins(probabilities, [1, 0, 0], bins=4)
    assert table["upper"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert table["count"].tolist() == [0, 1, 2, 0]
    assert table["accuracy"].tolist() == [0, 0, 0.5, 0]
    assert table["confidence"].tolist() == [0, 0.5, 0.65625, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.confusion_counts([0, 2], [0, 1], 2), r"labels must lie in \[0, 2\).*0 to 2"),
        (lambda: metrics.confusion_counts([0, 1], [0, -1], 2), "predictions must lie"),
        (
            lambda: metrics.confusion_counts([0, 1], [0], 2),
            "predictions must be 2, one for each row of labels, got 1",
        ),
        (lambda: metrics.confusion_counts([0.0], [0], 2), "labels must be integers"),
        (lambda: metrics.confusion_counts([], [], 2), "labels"),
        (lambda: metrics.accuracy([[1, 2]]), r"shape \(K, K\)"),
        (lambda: metrics.balanced_accuracy([[0, 0], [0, 0]]), "not all zero"),
        (lambda: metrics.expected_calibration_error([[2.0, -1.0]], [0]), "softmax"),
        (lambda: metrics.expected_calibration_error([[np.nan, 0.5]], [0]), "softmax"),
        (
            lambda: metrics.expected_calibration_error([[0.5, 0.5]], [0, 1]),
            "labels must be 1, one for each row of probabilities, got 2",
        ),
        (lambda: metrics.expected_calibration_error([[0.5, 0.5]], [0], bins=0), "bins"),
        (lambda: metrics.expected_calibration_error([0.5, 0.5], [0, 1]), r"shape \(N, K\)"),
        (lambda: metrics.reliability_bins([[5.0, 1.0]], [0]), "softmax"),
        (lambda: metrics.reliability_bins([[0.5, 0.5]], [2]), r"labels must lie in \[0, 2\)"),
    ],
)
def test_impossible_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
