"""Partial rank correlation: the closed formula, its laws, and the interval over runs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbal_book.evidence.rank_correlation import mean_partial_spearman, partial_spearman

draws = st.tuples(st.integers(5, 12), st.integers(0, 10**6)).map(
    lambda size: np.random.default_rng(size[1]).integers(0, 9, (3, size[0])).astype(float)
)


def formula(x, y, z):
    """The recursion of partial correlation, from three Spearman correlations of scipy."""
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    return (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))


@settings(max_examples=60, deadline=None)
@given(draws)
def test_it_is_the_recursion_from_three_spearman_correlations(values):
    x, y, z = values
    pairs = [
        abs(stats.spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 1 for a, b in ((x, z), (y, z))
    ]
    if max(pairs) > 1 - 1e-9:
        assert math.isnan(partial_spearman(x, y, z))
        return
    assert partial_spearman(x, y, z) == pytest.approx(formula(x, y, z), abs=1e-9)
    assert partial_spearman(y, x, z) == pytest.approx(partial_spearman(x, y, z))
    assert partial_spearman(np.exp(x), y**3, -z) == pytest.approx(partial_spearman(x, y, z))


def test_two_others_are_the_recursion_twice():
    x, y, z, w = np.random.default_rng(1).normal(size=(4, 30))
    xy, xw, yw = formula(x, y, z), formula(x, w, z), formula(y, w, z)
    expected = (xy - xw * yw) / math.sqrt((1 - xw**2) * (1 - yw**2))
    assert partial_spearman(x, y, np.column_stack([z, w])) == pytest.approx(expected)


def test_a_correlation_that_comes_from_the_other_quantity_alone_vanishes():
    rng = np.random.default_rng(3)
    size = rng.normal(size=4000)
    x, y = size + rng.normal(size=4000), size + rng.normal(size=4000)
    assert stats.spearmanr(x, y).statistic > 0.4
    assert abs(partial_spearman(x, y, size)) < 0.05


def test_rows_with_nan_are_left_out_and_too_few_have_no_correlation():
    x, y, z = np.random.default_rng(5).normal(size=(3, 8))
    holes = x.copy()
    holes[2] = np.nan
    without = partial_spearman(*(np.delete(v, 2) for v in (x, y, z)))
    assert partial_spearman(holes, y, z) == pytest.approx(without)
    assert math.isnan(partial_spearman(x[:3], y[:3], z[:3]))
    assert math.isnan(partial_spearman(np.ones(8), y, z))
    assert math.isnan(partial_spearman(2 * z + 1, y, z))


def test_the_interval_is_that_of_student_over_runs_that_have_a_correlation():
    x, y, z = np.random.default_rng(6).normal(size=(3, 4, 9))
    each = [formula(*row) for row in zip(x, y, z, strict=True)]
    low, high = stats.t.interval(0.95, 3, np.mean(each), stats.sem(each))
    found = mean_partial_spearman(x, y, z)
    assert (found.mean, found.n) == (pytest.approx(np.mean(each)), 4)
    assert (found.low, found.high) == (pytest.approx(max(low, -1)), pytest.approx(min(high, 1)))
    x[1] = 7.0
    assert mean_partial_spearman(x, y, z).n == 3
    assert mean_partial_spearman(x[:1], y[:1], z[:1]).high == math.inf


def test_an_interval_stays_within_what_a_correlation_can_be():
    x = np.arange(6.0) + np.zeros((2, 1))
    y = np.array([[0, 1, 2, 3, 5, 4], [5, 3, 4, 1, 2, 0.0]])
    z = np.array([[2, 0, 5, 1, 4, 3], [2, 0, 5, 1, 4, 3.0]])
    found = mean_partial_spearman(x, y, z)
    assert (found.low, found.high) == (-1, 1)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"one length.*\(3,\), \(4,\) and \(3,\)"):
        partial_spearman([1, 2, 3], [1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(ValueError, match=r"one shape, \(R, n\)"):
        mean_partial_spearman(np.ones((2, 3)), np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="no run has a correlation"):
        mean_partial_spearman(np.ones((2, 5)), np.ones((2, 5)), np.ones((2, 5)))
