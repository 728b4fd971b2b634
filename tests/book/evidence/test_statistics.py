"""Statistics: cases worked by hand, scipy, simulated data with known shares, and printed tables."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imbal_book.evidence.statistics import (
    detectable_difference,
    deviation_interval,
    ratio_of_deviations,
    seeds_for_power,
    sign_interval,
    variance_components,
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ratio_of_deviations([1.0, 2.0], [1.0]), "2 values and b has 1"),
        (lambda: ratio_of_deviations([], []), "n at least 1"),
        (lambda: ratio_of_deviations([1.0, math.nan, 2.0], [1.0, 2.0, 3.0]), "not finite"),
        (lambda: deviation_interval(1.0, 5, 95), "between 0 and 1"),
        (lambda: ratio_of_deviations([1.0, 2.0], [1.0, 3.0]), "at least 3"),
        (lambda: detectable_difference(0, 5), "expected sd > 0"),
        (lambda: seeds_for_power(1.0, 0.0), "the second above 0"),
        (lambda: seeds_for_power(math.nan, 1.0), "expected finite numbers"),
        (lambda: seeds_for_power(1.0, 1.0, power=80), "power is 80"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


A = [0.62, 0.55, 0.71, 0.40, 0.66, 0.49]
B = [0.58, 0.57, 0.60, 0.52, 0.61, 0.55]


def p_value(a, b):
    """Return the p of Pitman and Morgan: that of the correlation of sum and difference, by scipy."""
    return stats.pearsonr(np.add(a, b), np.subtract(a, b)).pvalue


def test_the_interval_of_a_ratio_of_deviations_inverts_the_test_of_pitman_and_morgan():
    ratio, low, high = ratio_of_deviations(A, B, 0.9)
    assert ratio == pytest.approx(np.std(A) / np.std(B)) and p_value(A, B) < 0.05
    for bound in (low, high):
        # scaling b by a bound makes the deviations differ by exactly the significance that was asked for
        assert p_value(A, np.multiply(B, bound)) == pytest.approx(0.1)
    _, low, high = ratio_of_deviations(A, B, 1 - p_value(A, B))
    assert min(abs(low - 1), abs(high - 1)) < 1e-9


def test_a_ratio_of_deviations_turned_around_is_its_inverse():
    ratio, low, high = ratio_of_deviations(A, B)
    assert ratio_of_deviations(B, A) == pytest.approx((1 / ratio, 1 / high, 1 / low))


def test_without_spread_the_ratio_of_deviations_says_nothing():
    assert ratio_of_deviations([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == (0.0, 0.0, math.inf)
    assert ratio_of_deviations([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) == (math.inf, 0.0, math.inf)
    assert math.isnan(ratio_of_deviations([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])[0])
    assert ratio_of_deviations([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])[0] == 1


@pytest.mark.parametrize(
    ("effect", "pairs"),
    # power.t.test(delta, sd = 1, power = 0.8, type = "paired") of R prints n = 198.15, 33.37, 14.30 and 9.94
    [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)],
)
def test_seeds_for_power_agree_with_published_tables(effect, pairs):
    assert seeds_for_power(1.0, effect) == pairs
    assert seeds_for_power(0.02, 0.02 * effect) == pairs, "only the ratio counts"


@pytest.mark.parametrize(("effect", "power"), [(1.0, 0.8), (2.0, 0.9), (1.0, 0.5), (0.3, 0.1)])
def test_that_many_seeds_reject_as_often_as_asked_and_one_fewer_does_not(effect, power):
    pairs = seeds_for_power(1.0, effect, power=power)
    rng = np.random.default_rng(0)

    def rejected(n):
        tests = stats.ttest_1samp(rng.normal(effect, 1.0, (60_000, n)), 0.0, axis=1)
        return np.mean(tests.pvalue < 0.05)

    assert rejected(pairs) > power - 0.006
    assert rejected(pairs - 1) < power


def test_seeds_for_power_are_two_without_noise_and_follow_the_normal_law_for_many():
    assert seeds_for_power(0.0, 0.01) == seeds_for_power(1e-9, 0.01) == 2
    # (1.959964 + 0.841621)^2 = 7.848880 per squared ratio, from tables of the normal distribution
    assert seeds_for_power(1.0, 0.01) == pytest.approx(7.848880e4, rel=1e-3)


def test_a_difference_of_several_deviations_needs_three_seeds():
    # the statistic of three pairs is centred at twice the quantile: far in the other tail scipy gives NaN
    assert seeds_for_power(1.0, 2 * stats.t.ppf(0.975, 2) / math.sqrt(3)) == 3


def test_the_interval_of_a_deviation_has_the_factors_of_printed_tables():
    # for n = 5 and 95 %: 0.599 and 2.874 times s
    assert deviation_interval(2.0, 5) == pytest.approx((2 * 0.5991, 2 * 2.8736), abs=1e-3)
    assert deviation_interval(math.nan, 1) == (0.0, math.inf)


def series(values):
    """Return values of shape (draws, trainings) by both seeds."""
    index = pd.MultiIndex.from_product(map(range, values.shape), names=["split_seed", "train_seed"])
    return pd.Series(values.ravel(), index)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_known_shares_are_found(share):
    rng = np.random.default_rng(1)
    values = 2 * math.sqrt(share) * rng.normal(size=(3000, 1)) + 2 * math.sqrt(1 - share) * rng.normal(
        size=(3000, 3)
    )
    found = variance_components(series(values))
    assert found.share == pytest.approx(share, abs=0.03)
    assert found.draw + found.training == pytest.approx(4, rel=0.05) and (found.draws, found.pairs) == (
        3000,
        9000,
    )


def test_by_hand_with_draws_of_unequal_size():
    values = series(np.array([[1.0, 3.0], [5.0, 7.0]])).iloc[:3]
    # means 2 and 5; within: (1 + 1) / 1 = 2; between: (2 * 1 + 1 * 4) / 1 = 6; n0 = (3 - 5/3) / 1 = 4/3
    found = variance_components(values)
    assert (found.training, found.draw) == (2.0, pytest.approx(3.0))


def test_one_draw_or_one_training_each_tells_nothing():
    for shape in ((1, 4), (4, 1)):
        assert math.isnan(variance_components(series(np.arange(4.0).reshape(shape))).share)


@pytest.mark.parametrize("pairs", [2, 3, 5, 8, 20])
def test_the_detectable_difference_is_the_inverse_of_the_pairs_that_are_needed(pairs):
    difference = detectable_difference(0.02, pairs)
    assert seeds_for_power(0.02, difference * 1.001) == pairs
    assert seeds_for_power(0.02, difference * 0.999) == pairs + 1


def test_an_interval_of_signs_is_that_of_a_share_with_ties_half_each():
    assert sign_interval([1, 1, 1]) == pytest.approx((2 * 0.025 ** (1 / 3) - 1, 1.0))
    assert sign_interval([-1, -1, -1]) == pytest.approx((-1.0, 1 - 2 * 0.025 ** (1 / 3)))
    low, high = sign_interval([0, 0])  # one of two: 1 - (1 - p)^2 = 0.025 and 1 - p^2 = 0.025
    assert (low, high) == pytest.approx((1 - 2 * 0.975**0.5, 2 * 0.975**0.5 - 1))
    with pytest.raises(ValueError, match="signs"):
        sign_interval([])
