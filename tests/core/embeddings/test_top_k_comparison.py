"""Overlap and gap of class top-K units: sets against sets, hand-computed gaps, classes without instances."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from imbal_core.embeddings.class_top_k import ClassTopK
from imbal_core.embeddings.top_k_comparison import (
    frequency_ratio,
    magnitude_gap,
    overlap_matrix,
    paired_overlap,
)


def slow_overlap(first, second, measure):
    mine, theirs = ({unit for unit in units if unit >= 0} for units in (first, second))
    if not mine or not theirs:
        return np.nan
    return len(mine & theirs) / (len(first) if measure == "intersection" else len(mine | theirs))


def draw_identities(classes, k, units, rng):
    """Return distinct units for every class, some of them -1."""
    drawn = np.array([rng.permutation(units)[:k] for _ in range(classes)])
    return np.where(rng.random((classes, k)) < 0.3, -1, drawn)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9)),
    st.sampled_from(["intersection", "jaccard"]),
    st.integers(0, 10**6),
)
@settings(max_examples=80, deadline=None)
def test_overlaps_are_those_of_sets(sizes, measure, seed):
    rng = np.random.default_rng(seed)
    first, second = (draw_identities(classes, sizes[2], sizes[2] + sizes[3], rng) for classes in sizes[:2])
    expected = [[slow_overlap(mine, theirs, measure) for theirs in second] for mine in first]
    assert_allclose(overlap_matrix(first, second, measure=measure), expected)
    assert_allclose(overlap_matrix(second, first, measure=measure).T, expected)
    same = min(len(first), len(second))
    pairs = paired_overlap(first[:same], second[:same], measure=measure)
    assert_allclose(pairs, np.diag(expected))


def results():
    """Return class top-2 of a training and a test set of three units; class 2 is missing from the test."""
    train = np.array([[4.0, 2, 0], [2, 4, 0], [0, 1, 2], [1, 0, 0]])
    test = np.array([[1.0, 2, 3], [0, 0, 6]])
    seen = ClassTopK(3, k=2).update(train, [0, 0, 1, 2], [0, 1, 1, 2])
    return seen.compute(), ClassTopK(3, k=2).update(test, [0, 1], [0, 1]).compute(), seen


def test_overlap_of_results_is_that_of_their_identities():
    train, test, seen = results()
    assert train.identities.tolist() == [[0, 1], [2, 1], [0, -1]]
    assert test.identities.tolist() == [[2, 1], [2, -1], [-1, -1]]
    assert_allclose(overlap_matrix(train), [[1, 0.5, 0.5], [0.5, 1, 0], [0.5, 0, 0.5]])
    assert_allclose(paired_overlap(train, test), [0.5, 0.5, np.nan])
    assert_allclose(paired_overlap(train, test, measure="jaccard"), [1 / 3, 0.5, np.nan])
    right, wrong = (seen.compute(instances=name) for name in ("true positives", "false negatives"))
    assert_allclose(paired_overlap(right, wrong), [1, np.nan, np.nan])


def test_overlap_does_not_change_when_the_units_of_both_are_permuted():
    rng = np.random.default_rng(0)
    features, labels, order = rng.random((50, 8)), rng.integers(0, 3, 50), rng.permutation(8)
    plain, moved = (ClassTopK(3, k=3).update(x, labels).compute() for x in (features, features[:, order]))
    assert_array_equal(overlap_matrix(plain), overlap_matrix(moved))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Class 0: train means (3, 3, 0), test (1, 2, 3), its units 0 and 1. Class 1: (0, 1, 2), (0, 0, 6), 2 and 1.
        ({}, [(2 + 1) / 6, (-4 + 1) / 3]),
        ({"absolute": True}, [3 / 6, (4 + 1) / 3]),
        ({"relative": False}, [3 / 2, -3 / 2]),
        ({"absolute": True, "relative": False}, [3 / 2, 5 / 2]),
        # Own magnitudes: class 0 (3, 3) and (3, 2); class 1 (2, 1) and (6, 0).
        ({"units": "own"}, [1 / 6, (-4 + 1) / 3]),
        ({"units": "own", "absolute": True, "relative": False}, [1 / 2, 5 / 2]),
    ],
)
def test_magnitude_gaps_are_as_computed_by_hand(options, expected):
    train, test, _ = results()
    assert_allclose(magnitude_gap(train, test, **options), [*expected, np.nan])


def test_a_unit_that_is_missing_counts_as_nothing():
    train, test, _ = results()
    later = dataclasses.replace(
        test, counts=np.array([1, 1, 1]), means=np.array([[1, 2, 3], [0, 0, 6], [3, 5, 5]])
    )
    assert magnitude_gap(train, later)[2] == (1 - 3) / 1
    assert magnitude_gap(train, later, relative=False)[2] == (1 - 3) / 2


def test_a_class_without_instances_has_no_gap_even_where_no_unit_carries_anything():
    dead = ClassTopK(2, k=1).update([[0.0, 0], [0, 0]], [0, 1]).compute()
    one = ClassTopK(2, k=1).update([[0.0, 1]], [0]).compute()
    assert_allclose(magnitude_gap(dead, one, relative=False), [0, np.nan])
    assert_allclose(magnitude_gap(one, dead, relative=False), [1, np.nan])
    assert_allclose(magnitude_gap(dead, one), [np.nan, np.nan])


@given(st.integers(0, 10**6), st.sampled_from(["train", "own"]), st.floats(0, 3))
@settings(max_examples=30, deadline=None)
def test_the_gap_of_a_scaled_copy_is_what_the_scale_takes_away(seed, units, scale):
    rng = np.random.default_rng(seed)
    features, labels = rng.random((40, 6)), rng.integers(0, 3, 40)
    train, test = (ClassTopK(3, k=4).update(x, labels).compute() for x in (features, scale * features))
    assert_allclose(magnitude_gap(train, test, units=units), (1 - scale) * np.ones(3), atol=1e-12)
    assert_allclose(magnitude_gap(train, test, units=units, absolute=True), abs(1 - scale), atol=1e-12)


def test_frequency_ratio_counts_the_units_of_the_reference_in_every_class():
    train, _, _ = results()
    assert train.frequencies.tolist() == [[2, 2, 0], [0, 1, 1], [1, 0, 0]]
    assert_allclose(frequency_ratio(train, 1), [[0, 2], [1, 1], [0, 0]])
    assert_allclose(frequency_ratio(train, 2), [[2, np.nan], [0, np.nan], [1, np.nan]])
    last = ClassTopK(2, k=2).update([[0.0, 0, 1], [2, 0, 1]], [0, 1]).compute()
    assert_allclose(frequency_ratio(last, 0), [[1, np.nan], [1, np.nan]])
    with pytest.raises(ValueError, match=r"reference must be a class in \[0, 3\), got 3"):
        frequency_ratio(train, 3)


def test_what_does_not_fit_is_named():
    train, test, seen = results()
    with pytest.raises(ValueError, match="unknown measure of overlap 'dice'"):
        overlap_matrix(train, measure="dice")
    with pytest.raises(ValueError, match="same K on both sides, got 2 and 1"):
        paired_overlap(train, [[1], [2], [0]])
    with pytest.raises(ValueError, match="same classes on both sides, got 3 and 1"):
        paired_overlap(train, [[1, 2]])
    with pytest.raises(ValueError, match="class 1 holds a unit twice"):
        overlap_matrix([[1, 2], [3, 3]])
    with pytest.raises(ValueError, match=r"integers of shape \(classes, K\), got float64 of shape \(1, 2\)"):
        overlap_matrix([[0.5, 1]])
    with pytest.raises(ValueError, match="unknown units 'test'"):
        magnitude_gap(train, test, units="test")
    with pytest.raises(ValueError, match="differ in units_of: 'class mean' and 'instance'"):
        magnitude_gap(train, seen.compute(units_of="instance"))
    wider = ClassTopK(3, k=2).update(np.ones((1, 4)), [0]).compute()
    with pytest.raises(
        ValueError, match=r"differ in shape: \(C, K\) = \(3, 2\) and \(3, 2\), \(C, D\) = \(3, 3\)"
    ):
        magnitude_gap(train, wider)
