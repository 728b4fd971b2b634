"""Statistics: cases worked by hand, scipy, and formulas that the code does not use."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imbal_book.evidence.statistics import (
    bonferroni,
    deviation_interval,
    holm,
    mean_interval,
    paired,
    paired_difference,
    pitman_morgan,
    seeds_for_power,
)


def test_interval_of_a_mean_by_hand():
    # mean 2, deviation 1, t(0.975; 2) = 4.302653 from a printed table; 4.302653 / sqrt(3) = 2.484138
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n, interval.sd) == (2.0, 3, 1.0)
    assert interval.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert interval.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_paired_difference_by_hand_and_against_scipy():
    a, b = [0.5, 0.7, 0.6, 0.9], [0.4, 0.5, 0.6, 0.6]
    interval = paired_difference(a, b)
    # differences .1 .2 .0 .3: mean .15, deviation sqrt(.05 / 3) = .129099, t(0.975; 3) = 3.182446
    assert interval.mean == pytest.approx(0.15)
    assert interval.sd == pytest.approx(0.129099, abs=1e-6)
    assert interval.high - interval.mean == pytest.approx(3.182446 * 0.129099 / 2, abs=1e-6)
    reference = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert paired_difference(a, b, 0.9).low == pytest.approx(reference.low)


def test_one_value_has_an_infinite_interval():
    interval = paired_difference([0.5], [0.4])
    assert (interval.low, interval.high, interval.n) == (-math.inf, math.inf, 1)
    assert math.isnan(interval.sd)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "expected"),
        (lambda: mean_interval([1.0, math.nan]), "not finite"),
        (lambda: mean_interval([1.0, 2.0], 95), "between 0 and 1"),
        (lambda: paired_difference([1.0, 2.0], [1.0]), "2 values and b has 1"),
        (lambda: pitman_morgan([1.0, 2.0], [1.0, 3.0]), "at least 3"),
        (lambda: bonferroni(0), "at least 1"),
        (lambda: holm([0.5, 1.5]), r"\[0, 1\]"),
        (lambda: seeds_for_power(1.0, 0.0), "the second above 0"),
        (lambda: seeds_for_power(math.nan, 1.0), "expected finite numbers"),
        (lambda: seeds_for_power(1.0, 1.0, power=80), "power is 80"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_family_levels_by_hand():
    assert bonferroni(1) == pytest.approx(0.95)
    assert bonferroni(10) == pytest.approx(0.995)
    # sorted .01 .03 .04 times 3 2 1 = .03 .06 .04, made monotone: .03 .06 .06
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])


A = [0.62, 0.55, 0.71, 0.40, 0.66, 0.49]
B = [0.58, 0.57, 0.60, 0.52, 0.61, 0.55]


def test_pitman_morgan_agrees_with_the_formula_in_the_variances():
    n = len(A)
    mean_a, mean_b = sum(A) / n, sum(B) / n
    var_a = sum((x - mean_a) ** 2 for x in A) / (n - 1)
    var_b = sum((x - mean_b) ** 2 for x in B) / (n - 1)
    cov = sum((x - mean_a) * (y - mean_b) for x, y in zip(A, B, strict=True)) / (n - 1)
    # Correlation of sum and difference, from the variances: no sum or difference is formed.
    r = (var_a - var_b) / math.sqrt((var_a + var_b) ** 2 - 4 * cov**2)
    test = pitman_morgan(A, B)
    assert test.ratio == pytest.approx(math.sqrt(var_a / var_b))
    assert test.t == pytest.approx(r * math.sqrt((n - 2) / (1 - r**2)))
    assert test.p == pytest.approx(stats.pearsonr(np.add(A, B), np.subtract(A, B)).pvalue)
    assert test.correlation == pytest.approx(cov / math.sqrt(var_a * var_b))
    assert test.p < 0.05


def test_pitman_morgan_s_interval_inverts_its_test():
    test = pitman_morgan(A, B)
    for bound in test.interval(0.9):
        # Scaling b by a bound makes the deviations differ by exactly the significance that was asked for.
        assert pitman_morgan(A, np.multiply(B, bound)).p == pytest.approx(0.1)
    low, high = test.interval(1 - test.p)
    assert min(abs(low - 1), abs(high - 1)) < 1e-9


def test_pitman_morgan_turned_around():
    one, other = pitman_morgan(A, B), pitman_morgan(B, A)
    assert (one.t, one.p) == pytest.approx((-other.t, other.p))
    low, high = one.interval()
    assert other.interval() == pytest.approx((1 / high, 1 / low))


def test_pitman_morgan_without_spread_says_nothing():
    assert pitman_morgan([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).interval() == (0.0, math.inf)
    assert pitman_morgan([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).t == 0


def long_rows(values, imbalance="A"):
    """Return long rows of accuracies; ``values`` maps a readout to its values for split seeds 0, 1, ..."""
    return [
        {
            "dataset": "cifar10", "imbalance": imbalance, "split_seed": seed, "train_seed": seed,
            "readout": readout, "metric": "accuracy", "value": value,
        }
        for readout, series in values.items()
        for seed, value in enumerate(series)
        if value is not None
    ]  # fmt: skip


def test_pairs_are_aligned_by_both_seeds_and_shuffling_changes_nothing():
    frame = pd.DataFrame(long_rows({"D": [0.1, 0.2, None, 0.4], "C": [0.5, None, 0.7, 0.8]}))
    frame = frame.sample(frac=1, random_state=1)
    pairs = paired(frame, "accuracy", "C", "D")
    assert list(pairs.index) == [(0, 0), (3, 3)]
    assert pairs["a"].tolist() == [0.5, 0.8] and pairs["b"].tolist() == [0.1, 0.4]
    assert paired(frame, "accuracy", "C", "X").empty
    assert paired(frame, "recall_few", "C", "D").empty


def test_two_values_for_one_pair_are_refused():
    frame = pd.DataFrame(long_rows({"D": [0.1], "C": [0.5]}) + long_rows({"D": [0.2]}, imbalance="B"))
    with pytest.raises(ValueError, match="'D' has two values of 'accuracy' for split_seed 0"):
        paired(frame, "accuracy", "C", "D")


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
