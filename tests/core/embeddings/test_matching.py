"""Unit matching: a permuted network is found again, correlations against NumPy, errors."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from imbal_core.embeddings.matching import match_units, translate
from imbal_core.embeddings.top_k import class_top_k


def draw(rows=40, first=5, second=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, first)), rng.standard_normal((rows, second))


def best_total(gains):
    """Return the largest total over all one-to-one matchings, by trying every one of them."""
    gains = gains if len(gains) <= gains.shape[1] else gains.T
    return max(
        sum(max(gains[r, c], 0) for r, c in zip(range(len(gains)), p, strict=False))
        for p in itertools.permutations(range(gains.shape[1]))
    )


def pearson(x, y):
    """Return the correlations of NumPy, the units of x by those of y."""
    return np.corrcoef(x, y, rowvar=False)[: x.shape[1], x.shape[1] :]


@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(-1e3, 1e3))
@settings(max_examples=40, deadline=None)
def test_units_of_one_network_are_matched_by_the_largest_total(seed, units, offset):
    """Only pairs above 0 are kept, so the total over all of them can be short of the best by what is negative."""
    x = np.abs(draw(12, units, units, seed)[0])
    y = x @ np.abs(np.random.default_rng(seed).standard_normal((units, units))) + 0.1 * x + offset
    matrix = pearson(x, y)
    partners, correlations = match_units(x, y)
    found = np.flatnonzero(partners >= 0)
    assert len(set(partners[found])) == len(found)
    assert_allclose(correlations[found], matrix[found, partners[found]], atol=1e-9)
    if (matrix > 0).all():
        assert correlations.sum() == pytest.approx(best_total(matrix), abs=1e-9)


@given(st.integers(0, 10**6), st.permutations(range(8)))
@settings(max_examples=30, deadline=None)
def test_a_permuted_network_has_the_same_class_top_k_after_matching(seed, order):
    rng = np.random.default_rng(seed)
    order = np.array(order)
    features, labels, weights = rng.random((60, 8)), rng.integers(0, 3, 60), rng.standard_normal((3, 8))
    partners, correlations = match_units(features, 3 * features[:, order] + 1)
    assert_array_equal(order[partners], np.arange(8))
    assert_allclose(correlations, 1)
    balanced = class_top_k(features, labels, 3, weights=weights, k=3)
    imbalanced = class_top_k(features[:, order], labels, 3, weights=weights[:, order], k=3)
    assert_array_equal(translate(partners, imbalanced.identities), balanced.identities)


def test_constant_units_those_left_over_and_opposite_ones_have_no_partner():
    x = np.random.default_rng(0).standard_normal((30, 3))
    first = np.column_stack([np.full(30, 0.1), x])
    second = np.column_stack([x[:, 2], np.zeros(30), x[:, 0], np.full(30, 1e6) / 3])
    partners, correlations = match_units(first, second)
    assert partners.tolist() == [-1, 2, -1, 0]
    assert np.isnan(correlations[[0, 2]]).all()
    assert match_units(x[:, :1], -x[:, :1])[0].tolist() == [-1]


def test_identities_are_translated_by_the_pairs():
    assert translate(np.array([4, -1, 0]), [[0, 4, -1], [3, 2, 9]]).tolist() == [[2, 0, -1], [-1, -1, -1]]


def test_tensors_are_read_and_what_does_not_fit_is_named():
    x, y = (values.astype(np.float32) for values in draw(40, 3, 4))
    found = match_units(torch.from_numpy(x), torch.from_numpy(y).requires_grad_())
    assert_array_equal(found[0], match_units(x, y)[0])
    with pytest.raises(ValueError, match="of the same images, 2 or more, got 40 and 39 rows"):
        match_units(x, y[1:])
    with pytest.raises(ValueError, match="of the same images, 2 or more, got 1 and 1 rows"):
        match_units(x[:1], y[:1])
    with pytest.raises(ValueError, match="second hold NaN or infinity"):
        match_units(x, y * np.inf)
