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


@given(cases)
@settings(max_examples=60, deadline=None)
def test_g_mean_is_the_root_of_the_product_of_the_recalls(case):
    classes, pairs = case
    labels, predictions = np.array(pairs).T
    product, present = 1.0, 0
    for label in set(labels.tolist()):
        product *= np.mean(predictions[labels == label] == label)
        present += 1
    confusion = metrics.confusion_counts(labels, predictions, classes)
    assert metrics.g_mean(confusion) == pytest.approx(product ** (1 / present), abs=1e-12)


def test_g_mean_of_a_thousand_small_recalls_does_not_vanish():
    confusion = np.eye(1000, dtype=np.int64) + 99 * np.roll(np.eye(1000, dtype=np.int64), 1, axis=1)
    assert metrics.g_mean(confusion) == pytest.approx(0.01)


def test_a_hand_computed_confusion():
    confusion = metrics.confusion_counts(
        torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 2]), 4
    )
    assert_array_equal(confusion, [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert_array_equal(metrics.per_class_recall(confusion), [0.75, 0.5, 0, 0])
    assert_array_equal(metrics.per_class_precision(confusion), [1, 0.5, 0, 0])
    assert metrics.balanced_accuracy(confusion) == 0.625
    assert metrics.g_mean(confusion) == pytest.approx(np.sqrt(0.375))
    assert metrics.accuracy(confusion) == pytest.approx(4 / 6)


def test_many_medium_few_puts_both_thresholds_into_medium():
    recall, counts = [0.9, 0.7, 0.5, 0.3, 0.1], [500, 101, 100, 20, 19]
    assert metrics.many_medium_few(recall, counts) == pytest.approx({"many": 0.8, "medium": 0.4, "few": 0.1})
    assert metrics.many_medium_few([0.5], [50]) == {"many": None, "medium": 0.5, "few": None}
    assert metrics.many_medium_few([0.5, 1.0], [5, 4], thresholds=(4, 2)) == {
        "many": 0.5,
        "medium": 1.0,
        "few": None,
    }


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.confusion_counts([0, 2], [0, 1], 2), r"labels must lie in \[0, 2\).*0 to 2"),
        (lambda: metrics.confusion_counts([0, 1], [0, -1], 2), "predictions must lie"),
        (lambda: metrics.confusion_counts([0, 1], [0], 2), "got 2 and 1"),
        (lambda: metrics.confusion_counts([0.0], [0], 2), "labels must be integers"),
        (lambda: metrics.confusion_counts([], [], 2), "labels"),
        (lambda: metrics.accuracy([[1, 2]]), r"shape \(K, K\)"),
        (lambda: metrics.g_mean([[0, 0], [0, 0]]), "not all zero"),
        (lambda: metrics.many_medium_few([0.5], [1, 2]), "train_counts"),
        (lambda: metrics.many_medium_few([0.5], [1], (20, 100)), r"\(upper, lower\)"),
        (lambda: metrics.expected_calibration_error([[2.0, -1.0]], [0]), "softmax"),
        (lambda: metrics.expected_calibration_error([[np.nan, 0.5]], [0]), "softmax"),
        (lambda: metrics.expected_calibration_error([[0.5, 0.5]], [0, 1]), "as many as rows"),
        (lambda: metrics.expected_calibration_error([[0.5, 0.5]], [0], bins=0), "bins"),
        (lambda: metrics.expected_calibration_error([0.5, 0.5], [0, 1]), r"shape \(N, K\)"),
    ],
)
def test_impossible_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
