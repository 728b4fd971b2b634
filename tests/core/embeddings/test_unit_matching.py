"""Unit matching: a permuted network is found again, correlations against NumPy, any batching, errors."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import imbal_core.embeddings.feature_arrays
from imbal_core.embeddings.class_top_k import ClassTopK
from imbal_core.embeddings.top_k_comparison import paired_overlap
from imbal_core.embeddings.unit_matching import UnitCorrelation, UnitMatching


def draw(rows=40, first=5, second=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, first)), rng.standard_normal((rows, second))


def best_total(gains):
    """Return the largest total over all one-to-one matchings, by trying every one of them."""
    gains = gains if len(gains) <= gains.shape[1] else gains.T
    rows = range(len(gains))
    return max(
        sum(gains[r, c] for r, c in zip(rows, p, strict=False))
        for p in itertools.permutations(range(gains.shape[1]))
    )


@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6), st.floats(-1e4, 1e4))
@settings(max_examples=60, deadline=None)
def test_correlations_are_those_of_numpy(rows, first, second, seed, offset):
    x, y = draw(rows, first, second, seed)
    x += offset
    expected = np.corrcoef(x, y, rowvar=False).reshape(first + second, -1)[:first, first:]
    assert_allclose(UnitCorrelation().update(x, y).correlations(), expected, atol=1e-9)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 39)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_split_into_batches_gives_the_same(seed, cuts, merged):
    x, y = draw(40, 4, 6, seed)
    x += 1000
    parts = UnitCorrelation()
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), 40]):
        batch = (x[start:stop], y[start:stop])
        parts = parts.merge(UnitCorrelation().update(*batch)) if merged else parts.update(*batch)
    whole = UnitCorrelation().update(x, y)
    assert_allclose(parts.correlations(), whole.correlations(), atol=1e-10)
    assert_array_equal(parts.match().partners, whole.match().partners)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_matching_has_the_largest_total_correlation(seed, first, second, absolute):
    correlation = UnitCorrelation().update(*draw(12, first, second, seed))
    matrix = correlation.correlations()
    gains = np.abs(matrix) if absolute else matrix
    matching = correlation.match(absolute=absolute, minimum=-1)
    found = np.flatnonzero(matching.partners >= 0)
    assert len(found) == min(first, second) == len(set(matching.partners[found]))
    assert gains[found, matching.partners[found]].sum() == pytest.approx(best_total(gains), abs=1e-9)
    assert_allclose(matching.correlations[found], matrix[found, matching.partners[found]])


@given(st.integers(0, 10**6), st.permutations(range(8)))
@settings(max_examples=30, deadline=None)
def test_a_permuted_network_has_the_same_class_top_k_after_matching(seed, order):
    rng = np.random.default_rng(seed)
    order = np.array(order)
    features, labels, weights = rng.random((60, 8)), rng.integers(0, 3, 60), rng.standard_normal((3, 8))
    other = 3 * features[:, order] + 1
    matching = UnitCorrelation().update(features, other).match()
    assert_array_equal(order[matching.partners], np.arange(8))
    assert_allclose(matching.correlations, 1)
    balanced = ClassTopK(3, weights=weights, k=3).update(features, labels).compute()
    imbalanced = ClassTopK(3, weights=weights[:, order], k=3).update(features[:, order], labels).compute()
    assert_array_equal(matching.translate(imbalanced.identities), balanced.identities)
    assert_array_equal(paired_overlap(balanced, matching.translate(imbalanced.identities)), np.ones(3))


def test_constant_units_and_those_left_over_have_no_partner():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3))
    first = np.column_stack([np.full(30, 0.1), x])
    second = np.column_stack([x[:, 2], np.zeros(30), x[:, 0], np.full(30, 1e6) / 3])
    correlation = UnitCorrelation().update(first, second)
    for minimum in (-1, 0, 0.9):
        matching = correlation.match(minimum=minimum)
        assert matching.partners[[1, 3]].tolist() == [2, 0] and matching.partners[0] == -1
        assert matching.partners[2] == -1 and np.isnan(matching.correlations[[0, 2]]).all()
    assert np.isnan(correlation.correlations()[0]).all()
    assert np.isnan(correlation.correlations()[:, [1, 3]]).all()


def test_pairs_that_respond_unlike_are_taken_apart():
    x = np.random.default_rng(0).standard_normal((50, 1))
    opposite = UnitCorrelation().update(x, -x)
    assert opposite.match().partners.tolist() == [-1]
    assert opposite.match(absolute=True, minimum=0.99).partners.tolist() == [0]
    assert opposite.match(absolute=True).correlations == pytest.approx([-1])


def test_identities_are_translated_by_the_pairs():
    matching = UnitMatching(np.array([4, -1, 0]), np.array([0.9, np.nan, 0.8]))
    assert matching.translate([[0, 4, -1], [3, 2, 9]]).tolist() == [[2, 0, -1], [-1, -1, -1]]
    assert matching.translate([4, -1, 0]).tolist() == [0, -1, 2]
    with pytest.raises(ValueError, match="identities must be integers, -1 for no unit"):
        matching.translate([0.5])


def test_tensors_and_small_pieces_give_the_same(monkeypatch):
    x, y = (values.astype(np.float32) for values in draw(40, 3, 4))
    expected = UnitCorrelation().update(x, y).correlations()
    monkeypatch.setattr(imbal_core.embeddings.feature_arrays, "_PIECE_VALUES", 21)
    found = UnitCorrelation().update(torch.from_numpy(x), torch.from_numpy(y).requires_grad_())
    assert_allclose(found.correlations(), expected, atol=1e-12)


def test_what_does_not_fit_is_named():
    seen = UnitCorrelation().update(np.eye(3), np.eye(3))
    before = seen.correlations()
    for pair, message in (
        ((np.ones((2, 4)), np.ones((2, 3))), "first have 4 units, expected 3"),
        ((np.ones((2, 3)), np.ones((2, 4))), "second have 4 units, expected 3"),
        ((np.ones((2, 3)), np.ones((1, 3))), "of the same images, got 2 and 1 rows"),
        ((np.ones((2, 3)), np.full((2, 3), np.nan)), "second hold NaN or infinity, first in row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            seen.update(*pair)
    assert_array_equal(seen.correlations(), before)
    with pytest.raises(ValueError, match=r"units are \(3, 3\) and \(2, 3\) in number"):
        seen.merge(UnitCorrelation().update(np.eye(3)[:, :2], np.eye(3)))
    with pytest.raises(ValueError, match="at least 2 images, got 0"):
        UnitCorrelation().correlations()
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        UnitCorrelation().update([[1.0]], [[1.0]]).match()
    with pytest.raises(ValueError, match=r"minimum must lie in \[-1, 1\), got 1"):
        seen.match(minimum=1)
    assert_array_equal(seen.merge(UnitCorrelation()).correlations(), before)
