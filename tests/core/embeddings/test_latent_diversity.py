"""Latent diversity: pairwise distances and coverage against loops over instances, and equal numbers of each class."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

import imbal_core.embeddings.latent_diversity
from imbal_core.embeddings.latent_diversity import equal_rows, mean_pairwise_distance, neighbour_coverage


def draw(seed=0, rows=40, units=3, shift=0.0):
    """Class 1 has a single instance and class 3 none."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[1], rng.choice([0, 2], rows - 1)])
    return rng.standard_normal((rows, units)) + shift, labels


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [1, 2**20])
def test_mean_distances_are_those_of_all_pairs(distance, block, monkeypatch):
    monkeypatch.setattr(imbal_core.embeddings.latent_diversity, "_BLOCK_VALUES", block)
    features, labels = draw(shift=5.0)
    kept = features.copy()
    found = mean_pairwise_distance(features, labels, 4, distance=distance)
    for c in (0, 2):
        assert found[c] == pytest.approx(pdist(features[labels == c], distance).mean(), rel=1e-10)
    assert np.isnan(found[[1, 3]]).all()
    assert_array_equal(features, kept)


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_distances_scale_and_do_not_see_rotation_or_offset(seed, scale, offset):
    features, labels = draw(seed)
    rotation = ortho_group.rvs(3, random_state=seed)
    plain = mean_pairwise_distance(features, labels, 4)
    moved = mean_pairwise_distance(scale * features @ rotation + offset, labels, 4)
    assert_allclose(moved, scale * plain, rtol=1e-6)
    turned = mean_pairwise_distance(scale * features @ rotation, labels, 4, distance="cosine")
    assert_allclose(turned, mean_pairwise_distance(features, labels, 4, distance="cosine"), rtol=1e-9)


def test_equal_instances_are_at_no_distance():
    features = torch.full((3, 2), 1e3) / 3
    assert mean_pairwise_distance(features, [0, 0, 0], 1).tolist() == [0]
    with pytest.raises(ValueError, match="class 0 has a row of zeros, which has no angle"):
        mean_pairwise_distance(np.zeros((2, 2)), [0, 0], 1, distance="cosine")


def test_copies_and_a_large_offset_cost_no_digits():
    features = np.random.default_rng(0).standard_normal((20, 50))
    twice = np.concatenate([features, features])
    expected = pdist(twice).mean()
    for offset in (0, 1e6):
        found = mean_pairwise_distance(twice + offset, np.zeros(40, int), 1)
        assert found == pytest.approx([expected], rel=1e-7)


def slow_coverage(train, test, neighbours, balls):
    """Return the covered fraction and the mean nearest distance, one pair at a time."""

    def distance(a, b):
        return np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    def radius(rows, index):
        return sorted(distance(rows[index], row) for i, row in enumerate(rows) if i != index)[neighbours - 1]

    nearest = np.mean([min(distance(a, b) for b in train) for a in test])
    if balls == "test":
        inside = [any(distance(a, b) <= radius(test, i) for b in train) for i, a in enumerate(test)]
    else:
        inside = [any(distance(a, b) <= radius(train, j) for j, b in enumerate(train)) for a in test]
    return np.mean(inside), nearest


@pytest.mark.parametrize("balls", ["test", "train"])
@pytest.mark.parametrize("block", [1, 2**20])
@pytest.mark.parametrize("neighbours", [1, 3])
def test_coverage_is_that_of_the_loop_over_pairs(balls, block, neighbours, monkeypatch):
    monkeypatch.setattr(imbal_core.embeddings.latent_diversity, "_BLOCK_VALUES", block)
    train, train_labels = draw(0)
    test, test_labels = draw(1, rows=30, shift=1.5)
    found = neighbour_coverage(
        train, train_labels, torch.from_numpy(test), test_labels, 4, neighbours=neighbours, balls=balls
    )
    for c in (0, 2):
        expected = slow_coverage(train[train_labels == c], test[test_labels == c], neighbours, balls)
        assert 0 < expected[0] < 1
        assert (found.covered[c], found.nearest_distance[c]) == pytest.approx(expected, rel=1e-12)
    # Class 1: one instance on each side has a distance but no ball; class 3 has neither.
    assert found.nearest_distance[1] == pytest.approx(np.linalg.norm(train[0] - test[0]))
    assert np.isnan(found.covered[[1, 3]]).all() and np.isnan(found.nearest_distance[3])
    assert_array_equal(found.train_counts, np.bincount(train_labels, minlength=4))
    assert_array_equal(found.test_counts, np.bincount(test_labels, minlength=4))


def test_the_training_set_covers_itself_even_where_instances_are_copies():
    features, labels = draw()
    features = np.concatenate([features, features, features])
    labels = np.tile(labels, 3)
    for balls in ("test", "train"):
        found = neighbour_coverage(features, labels, features, labels, 4, neighbours=2, balls=balls)
        assert_array_equal(found.covered, [1, 1, 1, np.nan])
        assert_array_equal(found.nearest_distance, [0, 0, 0, np.nan])


def test_a_class_on_one_side_only_has_no_coverage():
    found = neighbour_coverage(np.eye(2), [0, 1], np.eye(3)[:, :2], [1, 2, 2], 3, neighbours=1, balls="test")
    assert np.isnan(found.covered).all()
    assert np.isnan(found.nearest_distance[[0, 2]]).all() and found.nearest_distance[1] == np.sqrt(2)
    assert found.train_counts.tolist() == [1, 1, 0] and found.test_counts.tolist() == [0, 1, 2]


@given(st.integers(0, 10**6), st.sampled_from(["test", "train"]))
@settings(max_examples=20, deadline=None)
def test_coverage_does_not_see_scale_rotation_or_the_order_of_instances(seed, balls):
    rng = np.random.default_rng(seed)
    (train, a), (test, b) = draw(seed), draw(seed + 1)
    rotation, order = ortho_group.rvs(3, random_state=seed), rng.permutation(40)
    plain = neighbour_coverage(train, a, test, b, 4, neighbours=3, balls=balls)
    moved = neighbour_coverage(
        4 * train[order] @ rotation, a[order], 4 * test @ rotation, b, 4, neighbours=3, balls=balls
    )
    assert_allclose(moved.covered, plain.covered)
    assert_allclose(moved.nearest_distance, 4 * plain.nearest_distance, rtol=1e-10)


def test_more_training_instances_cover_more_with_balls_of_the_test():
    train, labels = draw(rows=200)
    test, test_labels = draw(1, rows=60)
    few = neighbour_coverage(train[:20], labels[:20], test, test_labels, 4)
    many = neighbour_coverage(train, labels, test, test_labels, 4)
    assert (many.covered[[0, 2]] > few.covered[[0, 2]]).all()
    assert (many.nearest_distance[[0, 2]] < few.nearest_distance[[0, 2]]).all()


@given(st.lists(st.sampled_from([0, 1, 3]), min_size=1, max_size=40), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_equal_rows_are_as_many_of_every_class(labels, seed):
    labels = np.array(labels)
    chosen = equal_rows(labels, 5, generator=np.random.default_rng(seed))
    counts = np.bincount(labels, minlength=5)
    assert len(set(chosen)) == len(chosen) and (np.diff(chosen) > 0).all()
    expected = np.where(counts > 0, counts[counts > 0].min(), 0)
    assert_array_equal(np.bincount(labels[chosen], minlength=5), expected)


def test_equal_rows_follow_the_generator_and_reach_every_instance():
    labels = np.repeat([0, 1], [6, 3])
    draws = [equal_rows(labels, 2, generator=np.random.default_rng(seed), rows=2) for seed in range(60)]
    assert all(len(each) == 4 for each in draws)
    assert set(np.concatenate(draws)) == set(range(9))
    assert_array_equal(draws[0], equal_rows(labels, 2, generator=np.random.default_rng(0), rows=2))
    for rows in (0, 4):
        with pytest.raises(ValueError, match=f"at most 3, the smallest class, got {rows}"):
            equal_rows(labels, 2, generator=np.random.default_rng(0), rows=rows)


def test_what_does_not_fit_is_named():
    x, y = np.ones((2, 3)), [0, 1]
    with pytest.raises(ValueError, match="unknown distance 'manhattan'"):
        mean_pairwise_distance(x, y, 2, distance="manhattan")
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\)"):
        mean_pairwise_distance(x, y, 1)
    with pytest.raises(ValueError, match="features hold NaN or infinity, first in row 0"):
        mean_pairwise_distance(x * np.nan, y, 2)
    with pytest.raises(ValueError, match="train features have 2 units, expected 3"):
        neighbour_coverage(x[:, :2], y, x, y, 2)
    with pytest.raises(ValueError, match="test features hold NaN or infinity"):
        neighbour_coverage(x, y, x * np.inf, y, 2)
    with pytest.raises(ValueError, match="test labels must be 2, one for each row"):
        neighbour_coverage(x, y, x, [0], 2)
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        neighbour_coverage(x, y, x, y, 2, neighbours=0)
    with pytest.raises(ValueError, match="unknown side of the balls 'both'"):
        neighbour_coverage(x, y, x, y, 2, balls="both")
