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
    effective_rank,
    equal_rows,
    mean_cosine_distance,
    neighbour_coverage,
    participation_ratio,
    range_gap,
    split_by_class,
)


def draw(seed=0, rows=20, units=3, shift=0.0):
    return np.random.default_rng(seed).standard_normal((rows, units)) + shift


def slow_measures(rows):
    """From the singular values of the rows, in the words of Roy and Vetterli and of the participation ratio."""
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    singular = singular[singular > 1e-9 * singular.max()]
    p = singular / singular.sum()
    return np.exp(-sum(value * np.log(value) for value in p)), (singular**2).sum() ** 2 / (singular**4).sum()


def test_measures_are_those_of_the_rows_of_the_class():
    features = draw(units=5, shift=5.0)
    kept = features.copy()
    found = effective_rank(features), participation_ratio(torch.from_numpy(features))
    assert found == pytest.approx(slow_measures(features), rel=1e-7)
    assert mean_cosine_distance(features) == pytest.approx(pdist(features, "cosine").mean(), rel=1e-8)
    assert_array_equal(features, kept)


@pytest.mark.parametrize("rows", [0, 1])
def test_one_instance_or_none_has_no_diversity(rows):
    measures = (effective_rank, participation_ratio, mean_cosine_distance)
    assert np.isnan([measure(draw(rows=rows)) for measure in measures]).all()
    assert np.isnan(range_gap(draw(rows=rows), draw())) and np.isnan(range_gap(draw(), draw(rows=0)))
    assert np.isnan(neighbour_coverage(draw(rows=0), draw())) and np.isnan(
        neighbour_coverage(draw(), draw(rows=5))
    )


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_scale_rotation_and_offset_change_no_rank(seed, scale, offset):
    features = draw(seed, units=4)
    rotated = scale * features @ ortho_group.rvs(4, random_state=seed)
    for measure in (effective_rank, participation_ratio):
        assert measure(rotated + offset) == pytest.approx(measure(features), rel=1e-6)
    assert mean_cosine_distance(rotated) == pytest.approx(mean_cosine_distance(features), rel=1e-8)


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_ranks_lie_between_one_and_the_directions_there_are(seed, rows, units):
    rank, ratio = (measure(draw(seed, rows, units)) for measure in (effective_rank, participation_ratio))
    assert 1 - 1e-9 <= ratio <= rank + 1e-9 and rank <= min(units, rows - 1) + 1e-9


@pytest.mark.parametrize(
    ("features", "rank"),
    [
        (np.outer(np.arange(5.0), [1, 2, 3]), 1),
        (np.vstack([np.eye(3), -np.eye(3)]), 3),
        (np.ones((4, 3)) / 3, np.nan),
    ],
)
def test_known_shapes_have_known_ranks(features, rank):
    assert_allclose([effective_rank(features), participation_ratio(features)], rank, rtol=1e-9)


def test_a_large_offset_makes_no_direction():
    assert effective_rank(draw(rows=3, units=50) + 1e7) <= 2 + 1e-9


def test_range_gaps_by_hand():
    train, test = [[0.0, 0], [2, 4]], [[3.0, 2], [1, -1]]
    # 1 beyond in the first unit, 1 short in the second; ranges 2 and 4
    assert range_gap(train, test) == pytest.approx(2 / 6)
    assert range_gap(train, train) == 0


def slow_coverage(train, test, neighbours):
    """Return the covered fraction, one pair at a time."""

    def distance(a, b):
        return np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    def radius(index):
        return sorted(distance(test[index], row) for i, row in enumerate(test) if i != index)[neighbours - 1]

    return np.mean([any(distance(a, b) <= radius(i) for b in train) for i, a in enumerate(test)])


def test_coverage_is_that_of_the_loop_over_pairs():
    train, test = draw(0), draw(1, rows=15, shift=1.5)
    expected = slow_coverage(train, test, 5)
    assert 0 < expected < 1
    assert neighbour_coverage(train, torch.from_numpy(test)) == pytest.approx(expected, rel=1e-12)


def test_the_training_set_covers_itself_even_where_instances_are_copies():
    features = np.tile(draw(), (6, 1))
    assert neighbour_coverage(features, features) == 1


def test_more_training_instances_cover_more():
    train, test = draw(rows=100), draw(1, rows=30)
    assert neighbour_coverage(train, test) > neighbour_coverage(train[:10], test)


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
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="row of zeros, which has no angle"):
        mean_cosine_distance(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="features hold NaN or infinity, first in row 0"):
        effective_rank(x * np.nan)
    with pytest.raises(ValueError, match=r"shape \(N, D\), got float64 of shape \(3,\)"):
        participation_ratio(x[0])
    for measure in (range_gap, neighbour_coverage):
        with pytest.raises(ValueError, match="test have 3 units, expected 2"):
            measure(x[:, :2], x)


def test_a_data_set_is_taken_apart_by_class():
    features = draw(rows=5).astype(np.float32)
    parts = split_by_class(features, torch.tensor([0, 2, 0, 2, 2]), 4)
    assert [part.shape for part in parts] == [(2, 3), (0, 3), (3, 3), (0, 3)]
    assert_array_equal(parts[2], features[[1, 3, 4]])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\)"):
        split_by_class(features, [0, 0, 0, 0, 1], 1)
    with pytest.raises(ValueError, match="labels must be 5, one for each row"):
        split_by_class(features, [0], 2)
