"""Partial rank correlation: its formula and laws; its interval over classes and draws, by hand and simulated."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbal_book.evidence.rank_correlation import bootstrap, partial_spearman, rank_contrast

drawn = st.tuples(st.integers(5, 12), st.integers(0, 10**6)).map(
    lambda size: np.random.default_rng(size[1]).integers(0, 9, (3, size[0])).astype(float)
)


def recursion(xy, xz, yz):
    return (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))


def formula(x, y, z):
    """The recursion of partial correlation, from three Spearman correlations of scipy."""
    return recursion(*(stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z))))


@settings(max_examples=60, deadline=None)
@given(drawn)
def test_it_is_the_recursion_from_three_spearman_correlations(values):
    x, y, z = values
    if min(map(np.ptp, values)) == 0 or max(abs(stats.spearmanr(a, z).statistic) for a in (x, y)) > 1 - 1e-9:
        return
    assert partial_spearman(x, y, z) == pytest.approx(formula(x, y, z), abs=1e-9)
    assert partial_spearman(y, x, z) == pytest.approx(float(partial_spearman(x, y, z)))
    assert partial_spearman(np.exp(x), y**3, -z) == pytest.approx(float(partial_spearman(x, y, z)))


def test_many_runs_are_correlated_at_once_and_a_constant_holds_nothing():
    x, y, z = np.random.default_rng(1).normal(size=(3, 4, 2, 9))
    found = partial_spearman(x, y, z)
    assert found.shape == (4, 2)
    assert found[3, 1] == pytest.approx(formula(x[3, 1], y[3, 1], z[3, 1]))
    plain = stats.spearmanr(x[0, 0], y[0, 0]).statistic
    assert partial_spearman(x, y)[0, 0] == pytest.approx(plain)
    assert partial_spearman(x[0, 0], y[0, 0], np.ones(9)) == pytest.approx(plain)


def test_a_correlation_that_comes_from_the_other_quantity_alone_vanishes():
    rng = np.random.default_rng(3)
    size = rng.normal(size=4000)
    x, y = size + rng.normal(size=4000), size + rng.normal(size=4000)
    assert partial_spearman(x, y) > 0.4
    assert abs(partial_spearman(x, y, size)) < 0.05


def test_what_is_explained_wholly_has_no_correlation_and_what_does_not_fit_is_named():
    y, z = np.random.default_rng(5).normal(size=(2, 8))
    assert np.isnan(partial_spearman(np.ones(8), y, z)) and np.isnan(partial_spearman(2 * z + 1, y, z))
    with pytest.raises(ValueError, match=r"one shape, \(\.\.\., n\), got \[\(3,\), \(4,\), \(3,\)\]"):
        partial_spearman([1, 2, 3], [1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(ValueError, match="must be finite"):
        partial_spearman([1, 2, np.nan], [1, 2, 3], [1, 2, 3])


def table(*arrays):
    """Return columns a, b, of from arrays of shape (draws, trainings, classes)."""
    index = pd.MultiIndex.from_product(
        [range(size) for size in np.shape(arrays[0])], names=["split_seed", "train_seed", "label"]
    )
    return pd.DataFrame(
        {name: np.ravel(array) for name, array in zip("abc", arrays, strict=False)}, index=index
    )


def test_the_contrast_is_the_difference_of_both_partial_correlations():
    a, b, of = np.random.default_rng(7).normal(size=(3, 10))
    assert rank_contrast(a, b, of) == pytest.approx(formula(a, of, b) - formula(b, of, a))


def test_resamples_by_hand_are_all_choices_of_classes_and_draws():
    """The mean of four classes, over two draws: every choice of both, those of four different classes alone."""
    values = np.array([[[1.0, 2, 4, 8]], [[10.0, 20, 40, 80]]])
    found = bootstrap(lambda a: a.mean(axis=-1), table(values), bounds=(0, 99), replicates=4000)
    assert found.mean == pytest.approx(values.mean())
    each = values.mean(axis=(1, 2))
    possible = sorted({np.mean([each[i] for i in pair]) for pair in itertools.product((0, 1), repeat=2)})
    np.testing.assert_allclose(np.unique(found.replicates.round(9)), possible)
    shares = [(found.replicates == value).mean() for value in possible]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.04)


def test_trainings_of_a_draw_stay_together_and_a_run_without_a_value_is_left_out():
    values = np.zeros((2, 2, 5))
    values[0] = 1.0
    found = bootstrap(lambda a: a.mean(axis=-1), table(values), bounds=(0, 1))
    assert set(found.replicates) == {0.0, 0.5, 1.0}, "runs by themselves would also give quarters"
    values[1, 1] = np.arange(5)
    some = bootstrap(lambda a: np.where(a.std(axis=-1) > 0, 7.0, np.nan), table(values))
    assert some.mean == 7.0 and set(some.replicates) == {7.0}


def test_an_interval_stays_within_what_a_correlation_can_be_and_is_the_same_twice():
    rng = np.random.default_rng(2)
    size = np.tile(np.arange(10.0), (3, 1, 1))
    recall, diverse = size + rng.normal(0, 1, size.shape), rng.normal(size=size.shape)
    found = bootstrap(rank_contrast, table(diverse, size, recall), bounds=(-2, 2))
    low, high = found.interval(0.95)
    assert -2 <= low < found.mean < high <= 2 and high < 0
    assert found.interval(0.95) == bootstrap(
        rank_contrast, table(diverse, size, recall), bounds=(-2, 2)
    ).interval(0.95)
    wider = found.interval(0.99)
    assert wider[0] <= low and wider[1] >= high
    assert found.interval(1 - 1e-6) == (-2, 2), "two thousand resamples cannot say as much"
    values = table(*rng.normal(size=(3, 2, 1, 5)))
    lacking = bootstrap(partial_spearman, values[:-1])
    kept = values.drop(4, level="label")
    assert lacking.interval(0.9) == bootstrap(partial_spearman, kept).interval(0.9), "a run lacks a class"
    with pytest.raises(ValueError, match="3 classes have a value in each of 2 runs: expected 4 or more"):
        bootstrap(partial_spearman, kept.drop(0, level="label"))


def spearman_of(pearson):
    """Return Spearman's correlation of normal quantities, 6 / pi asin(r / 2)."""
    return 6 / np.pi * np.arcsin(np.asarray(pearson) / 2)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    """Classes are drawn from a population whose partial rank correlations are known; runs add noise to recall."""
    correlations = {"a of": 0.5, "b of": 0.6, "a b": 0.3}
    a_of, b_of, a_b = spearman_of(list(correlations.values()))
    truth = recursion(a_of, a_b, b_of) - recursion(b_of, a_b, a_of)
    covariance = [[1, 0.3, 0.5], [0.3, 1, 0.6], [0.5, 0.6, 1]]
    inside = 0
    for trial in range(120):
        rng = np.random.default_rng(trial)
        a, b, of = rng.multivariate_normal(np.zeros(3), covariance, size=25).T
        runs = [np.tile(side, (3, 1, 1)) for side in (a, b, of)]
        low, high = bootstrap(
            rank_contrast, table(*runs), bounds=(-2, 2), replicates=200, seed=trial
        ).interval(0.9)
        inside += low <= truth <= high
    # a share of 120 that is 0.9 in truth lies in this range in 999 of 1,000 cases
    assert stats.binom.cdf(inside, 120, 0.9) > 0.001 and inside / 120 > 0.8
