"""Latent diversity: ranks, distances, ranges and coverage against loops over instances, and their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from imbal_core.embeddings.diversity import (
    class_means,
    effective_rank,
    equal_rows,
    mean_cosine_distance,
    neighbour_coverage,
    participation_ratio,
    range_gap,
)


def draw(seed=0, rows=40, units=3, shift=0.0):
    """Class 1 has a single instance and class 3 none."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[1], rng.choice([0, 2], rows - 1)])
    return rng.standard_normal((rows, units)) + shift, labels


def slow_measures(rows):
    """From the singular values of the rows, in the words of Roy and Vetterli and of the participation ratio."""
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    singular = singular[singular > 1e-9 * singular.max()]
    p = singular / singular.sum()
    return np.exp(-sum(value * np.log(value) for value in p)), (singular**2).sum() ** 2 / (singular**4).sum()


def test_measures_are_those_of_the_rows_of_each_class():
    features, labels = draw(units=5, shift=5.0)
    kept = features.copy()
    ranks, ratios = (measure(features, labels, 4) for measure in (effective_rank, participation_ratio))
    distances, means = mean_cosine_distance(features, labels, 4), class_means(features, labels, 4)
    for c in (0, 2):
        rows = features[labels == c]
        assert (ranks[c], ratios[c]) == pytest.approx(slow_measures(rows), rel=1e-7)
        assert distances[c] == pytest.approx(pdist(rows, "cosine").mean(), rel=1e-8)
        assert_allclose(means[c], rows.mean(0), rtol=1e-12)
    assert np.isnan([ranks[[1, 3]], ratios[[1, 3]], distances[[1, 3]]]).all()
    assert_array_equal(means[1], features[0]) and np.isnan(means[3]).all()
    assert_array_equal(features, kept)


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_scale_rotation_and_offset_change_no_rank(seed, scale, offset):
    features, labels = draw(seed, units=4)
    turned = scale * features @ ortho_group.rvs(4, random_state=seed) + offset
    for measure in (effective_rank, participation_ratio):
        assert_allclose(measure(turned, labels, 4), measure(features, labels, 4), rtol=1e-6)
    rotated = scale * features @ ortho_group.rvs(4, random_state=seed)
    assert_allclose(
        mean_cosine_distance(rotated, labels, 4), mean_cosine_distance(features, labels, 4), rtol=1e-8
    )


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_ranks_lie_between_one_and_the_directions_there_are(seed, rows, units):
    features = np.random.default_rng(seed).standard_normal((rows, units))
    rank, ratio = (m(features, np.zeros(rows, int), 1)[0] for m in (effective_rank, participation_ratio))
    assert 1 - 1e-9 <= ratio <= rank + 1e-9 and rank <= min(units, rows - 1) + 1e-9


def test_known_shapes_have_known_ranks():
    line = np.outer(np.arange(5.0), [1, 2, 3])
    cross = np.vstack([np.eye(3), -np.eye(3)])
    features = np.vstack([line, cross, np.ones((4, 3)) / 3])
    labels = np.repeat([0, 1, 2], [5, 6, 4])
    for measure in (effective_rank, participation_ratio):
        assert_allclose(measure(features, labels, 3), [1, 3, np.nan], rtol=1e-9)
    few = np.random.default_rng(0).standard_normal((3, 50)) + 1e7
    assert effective_rank(few, [0, 0, 0], 1)[0] <= 2 + 1e-9, "a large offset makes no direction"


def test_range_gaps_by_hand():
    train, test = [[0.0, 0], [2, 4], [1, 1]], [[3.0, 2], [1, -1], [1, 1]]
    # class 0: 1 beyond in the first unit, 1 short in the second; ranges 2 and 4. Class 1: one training instance.
    assert_allclose(range_gap(train, [0, 0, 1], test, [0, 0, 1], 3), [2 / 6, np.nan, np.nan])
    assert range_gap(train, [0, 0, 1], train, [0, 0, 1], 2)[0] == 0


def slow_coverage(train, test, neighbours):
    """Return the covered fraction, one pair at a time."""

    def distance(a, b):
        return np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    def radius(index):
        return sorted(distance(test[index], row) for i, row in enumerate(test) if i != index)[neighbours - 1]

    return np.mean([any(distance(a, b) <= radius(i) for b in train) for i, a in enumerate(test)])


def test_coverage_is_that_of_the_loop_over_pairs():
    train, train_labels = draw(0)
    test, test_labels = draw(1, rows=30, shift=1.5)
    found = neighbour_coverage(train, train_labels, torch.from_numpy(test), test_labels, 4)
    for c in (0, 2):
        expected = slow_coverage(train[train_labels == c], test[test_labels == c], 5)
        assert 0 < expected < 1 and found[c] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(found[[1, 3]]).all()


def test_the_training_set_covers_itself_even_where_instances_are_copies():
    features, labels = draw()
    features, labels = np.tile(features, (6, 1)), np.tile(labels, 6)
    assert_array_equal(neighbour_coverage(features, labels, features, labels, 4), [1, 1, 1, np.nan])


def test_more_training_instances_cover_more():
    train, labels = draw(rows=200)
    test, test_labels = draw(1, rows=60)
    few = neighbour_coverage(train[:20], labels[:20], test, test_labels, 4)
    assert (neighbour_coverage(train, labels, test, test_labels, 4)[[0, 2]] > few[[0, 2]]).all()


@given(st.lists(st.sampled_from([0, 1, 3]), min_size=1, max_size=40), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_equal_rows_are_as_many_of_every_class(labels, seed):
    labels = np.array(labels)
    chosen = equal_rows(labels, generator=np.random.default_rng(seed))
    counts = np.bincount(labels, minlength=5)
    assert len(set(chosen)) == len(chosen) and (np.diff(chosen) > 0).all()
    expected = np.where(counts > 0, counts[counts > 0].min(), 0)
    assert_array_equal(np.bincount(labels[chosen], minlength=5), expected)


def test_equal_rows_follow_the_generator_and_reach_every_instance():
    labels = np.repeat([0, 1], [6, 3])
    draws = [equal_rows(labels, generator=np.random.default_rng(seed)) for seed in range(60)]
    assert set(np.concatenate(draws)) == set(range(9))
    assert_array_equal(draws[0], equal_rows(labels, generator=np.random.default_rng(0)))


def test_what_does_not_fit_is_named():
    x, y = np.ones((2, 3)), [0, 1]
    with pytest.raises(ValueError, match="row of zeros, which has no angle"):
        mean_cosine_distance(np.zeros((2, 2)), [0, 0], 1)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\)"):
        effective_rank(x, y, 1)
    with pytest.raises(ValueError, match="features hold NaN or infinity, first in row 0"):
        class_means(x * np.nan, y, 2)
    with pytest.raises(ValueError, match="train features have 2 units, expected 3"):
        neighbour_coverage(x[:, :2], y, x, y, 2)
    with pytest.raises(ValueError, match="test features hold NaN or infinity"):
        neighbour_coverage(x, y, x * np.inf, y, 2)
    with pytest.raises(ValueError, match="test labels must be 2, one for each row"):
        neighbour_coverage(x, y, x, [0], 2)
