"""Spread of a class: moments and ranges against NumPy, any batching, and the gap from train to test."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist

from imbal_core.embeddings.class_spread import ClassSpread, range_gap

NAMES = ("counts", "means", "variances", "lows", "highs")


def draw(seed=0, rows=40, units=5):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.choice([0, 2], rows - 2)])
    return rng.standard_normal((rows, units)) + 100, labels


def test_moments_and_ranges_are_those_of_each_class():
    features, labels = draw()
    spread = ClassSpread(4).update(features, labels)
    assert_array_equal(spread.counts, [(labels == c).sum() for c in range(4)])
    for c in (0, 1, 2):
        rows = features[labels == c]
        assert_allclose(spread.means[c], rows.mean(0), rtol=1e-13)
        assert_array_equal(spread.lows[c], rows.min(0))
        assert_array_equal(spread.highs[c], rows.max(0))
        if len(rows) > 1:
            assert_allclose(spread.variances[c], rows.var(0, ddof=1), rtol=1e-10)
            assert spread.mean_squared_distance()[c] == pytest.approx((pdist(rows) ** 2).mean(), rel=1e-10)
    assert spread.counts[1] == 1 and np.isnan(spread.variances[1]).all()
    assert np.isnan(spread.mean_squared_distance()[[1, 3]]).all()
    for name in NAMES[1:]:
        assert np.isnan(getattr(spread, name)[3]).all()


@given(st.integers(0, 10**6), st.lists(st.integers(1, 39)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_split_into_batches_gives_the_same(seed, cuts, merged):
    features, labels = draw(seed)
    parts = ClassSpread(3)
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), 40]):
        batch = (torch.from_numpy(features[start:stop]), labels[start:stop])
        parts = parts.merge(ClassSpread(3).update(*batch)) if merged else parts.update(*batch)
    whole = ClassSpread(3).update(features, labels)
    for name in NAMES:
        assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10)


def test_the_range_gap_is_what_lies_outside():
    train = ClassSpread(3).update([[0.0, 0], [2, 1], [5, 5]], [0, 0, 1])
    test = ClassSpread(3).update([[-1.0, 0.5], [5, 0.7], [5, 6], [1, 1]], [0, 0, 1, 2])
    # Class 0, unit 0: 1 below and 3 above the range [0, 2]; unit 1: inside [0, 1].
    assert_allclose(range_gap(train, test), [4 / 3, np.nan, np.nan])
    assert_allclose(range_gap(train, test, relative=False), [4 / 2, 1 / 2, np.nan])
    assert_array_equal(range_gap(train, train), [0, np.nan, np.nan])


@given(st.integers(0, 10**6), st.permutations(range(5)), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_the_relative_gap_does_not_see_order_or_scale_of_units(seed, order, scale):
    features, labels = draw(seed)
    plain, moved = (
        range_gap(ClassSpread(3).update(x[:20], labels[:20]), ClassSpread(3).update(x[20:], labels[20:]))
        for x in (features, scale * features[:, order] - 7)
    )
    assert_allclose(moved, plain, rtol=1e-9)


def test_what_does_not_fit_is_named():
    seen = ClassSpread(2).update(np.eye(2), [0, 1])
    before = seen.means
    for batch, message in (
        ((np.ones((1, 3)), [0]), "features have 3 units, expected 2"),
        ((np.array([[1, 1], [np.nan, 1]]), [0, 1]), "NaN or infinity, first in row 1"),
        ((np.ones((1, 2)), [2]), r"labels must lie in \[0, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            seen.update(*batch)
    assert_array_equal(seen.means, before)
    with pytest.raises(ValueError, match="cannot merge: 2 and 3 classes"):
        seen.merge(ClassSpread(3))
    with pytest.raises(ValueError, match="cannot merge: 2 and 3 units"):
        seen.merge(ClassSpread(2).update(np.eye(3), [0, 1, 1]))
    with pytest.raises(ValueError, match="no instance was seen yet"):
        ClassSpread(2).lows  # noqa: B018
    with pytest.raises(ValueError, match=r"differ in \(C, D\): \(2, 2\) and \(2, 3\)"):
        range_gap(seen, ClassSpread(2).update(np.eye(3), [0, 1, 1]))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ClassSpread(0)
