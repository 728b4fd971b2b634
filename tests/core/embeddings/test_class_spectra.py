"""Spectra of classes: effective rank and participation ratio against the SVD, their laws, any batching."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ortho_group

from imbal_core.embeddings.class_spectra import RANKS_OF, ClassScatter


def draw(seed=0, rows=30, units=4):
    """Class 1 has a single instance, class 3 none, and class 2 fewer than units."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[1], np.full(3, 2), np.zeros(rows - 4, int)])
    return rng.standard_normal((rows, units)) * np.arange(1, units + 1) + 10, labels


def slow_measures(rows, of, centred):
    """From the singular values of the rows, in the words of Roy and Vetterli and of the participation ratio."""
    matrix = rows - rows.mean(0) if centred else rows
    singular = np.linalg.svd(matrix, compute_uv=False)
    singular = singular[singular > 1e-9 * singular.max()]
    p = singular / singular.sum() if of == "singular values" else singular**2 / (singular**2).sum()
    entropy = -sum(value * np.log(value) for value in p)
    return np.exp(entropy), (singular**2).sum() ** 2 / (singular**4).sum()


@pytest.mark.parametrize("of", RANKS_OF)
@pytest.mark.parametrize("centred", [True, False])
def test_measures_are_those_of_the_singular_values(of, centred):
    features, labels = draw()
    spectra = ClassScatter(4).update(features, labels).compute(centred=centred)
    assert_array_equal(spectra.counts, [26, 1, 3, 0])
    ranks, ratios = spectra.effective_rank(of=of), spectra.participation_ratio()
    for c in (0, 2) if centred else (0, 1, 2):
        rank, ratio = slow_measures(features[labels == c], of, centred)
        assert ranks[c] == pytest.approx(rank, rel=1e-7)
        assert ratios[c] == pytest.approx(ratio, rel=1e-7)
    undefined = [1, 3] if centred else [3]
    assert np.isnan(ranks[undefined]).all() and np.isnan(ratios[undefined]).all()


def test_eigenvalues_are_those_of_the_covariance():
    features, labels = draw()
    found = ClassScatter(4).update(features, labels).compute().eigenvalues
    covariance = np.cov(features[labels == 0], rowvar=False, bias=True)
    assert_allclose(found[0], np.linalg.eigvalsh(covariance)[::-1], rtol=1e-10)
    assert (found[2, 2:] == 0).all() and (found[2, :2] > 0).all()
    assert np.isnan(found[[1, 3]]).all()


@given(st.integers(0, 10**6), st.lists(st.integers(1, 29)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_split_into_batches_gives_the_same(seed, cuts, merged):
    features, labels = draw(seed)
    parts = ClassScatter(4)
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), 30]):
        batch = (torch.from_numpy(features[start:stop]), labels[start:stop])
        parts = parts.merge(ClassScatter(4).update(*batch)) if merged else parts.update(*batch)
    whole = ClassScatter(4).update(features, labels)
    for centred in (True, False):
        found, expected = parts.compute(centred=centred), whole.compute(centred=centred)
        assert_array_equal(found.counts, expected.counts)
        scale = np.nanmax(expected.eigenvalues)
        assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-10, atol=1e-12 * scale)
        assert_allclose(found.participation_ratio(), expected.participation_ratio(), rtol=1e-10)


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-100, 100), st.sampled_from(RANKS_OF))
@settings(max_examples=40, deadline=None)
def test_scale_rotation_offset_and_order_change_nothing(seed, scale, offset, of):
    features, labels = draw(seed)
    rotation = ortho_group.rvs(4, random_state=seed)
    order = np.random.default_rng(seed).permutation(4)
    plain, turned, permuted = (
        ClassScatter(3).update(x, labels).compute()
        for x in (features, scale * features @ rotation + offset, features[:, order])
    )
    for other in (turned, permuted):
        assert_allclose(other.effective_rank(of=of), plain.effective_rank(of=of), rtol=1e-6)
        assert_allclose(other.participation_ratio(), plain.participation_ratio(), rtol=1e-7)


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_ranks_lie_between_one_and_the_directions_there_are(seed, rows, units):
    features = np.random.default_rng(seed).standard_normal((rows, units))
    spectra = ClassScatter(1).update(features, np.zeros(rows, int)).compute()
    by_singular, by_eigen = (spectra.effective_rank(of=of)[0] for of in RANKS_OF)
    ratio = spectra.participation_ratio()[0]
    assert 1 - 1e-9 <= ratio <= by_eigen + 1e-9 and by_eigen <= by_singular + 1e-9
    assert by_singular <= min(units, rows - 1) + 1e-9


def test_known_shapes_have_known_ranks():
    line = np.outer(np.arange(5.0), [1, 2, 3])
    cross = np.vstack([np.eye(3), -np.eye(3)])
    same = np.ones((4, 3)) / 3
    features = np.vstack([line, cross, same])
    spectra = ClassScatter(3).update(features, np.repeat([0, 1, 2], [5, 6, 4])).compute()
    assert_allclose(spectra.participation_ratio(), [1, 3, np.nan])
    for of in RANKS_OF:
        assert_allclose(spectra.effective_rank(of=of), [1, 3, np.nan], rtol=1e-9)


def test_few_rows_of_large_offset_have_no_spurious_direction():
    features = np.random.default_rng(0).standard_normal((3, 50)) + 1e7
    whole, one_by_one = ClassScatter(1).update(features, [0, 0, 0]), ClassScatter(1)
    for row in features:
        one_by_one.update(row[None], [0])
    for scatter in (whole, one_by_one):
        assert (scatter.compute().eigenvalues[0] > 0).sum() == 2


def test_what_does_not_fit_is_named():
    seen = ClassScatter(2).update(np.eye(2), [0, 0])
    before = seen.compute().eigenvalues
    for batch, message in (
        ((np.ones((1, 3)), [0]), "features have 3 units, expected 2"),
        ((np.array([[1, 1], [np.nan, 1]]), [0, 1]), "NaN or infinity, first in row 1"),
        ((np.ones((1, 2)), [2]), r"labels must lie in \[0, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            seen.update(*batch)
    assert_array_equal(seen.compute().eigenvalues, before)
    with pytest.raises(ValueError, match=r"\(classes, units\) are \(2, 2\) and \(3, 2\)"):
        seen.merge(ClassScatter(3))
    with pytest.raises(ValueError, match=r"\(classes, units\) are \(2, 2\) and \(2, 3\)"):
        seen.merge(ClassScatter(2).update(np.eye(3), [0, 1, 1]))
    with pytest.raises(ValueError, match="no instance was seen yet"):
        ClassScatter(2).compute()
    with pytest.raises(ValueError, match="unknown spectrum 'squares'"):
        seen.compute().effective_rank(of="squares")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ClassScatter(0)
