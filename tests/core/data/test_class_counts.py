import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbal_book.evidence.papers import load_paper
from imbal_core.data.class_counts import (
    counts_from_name,
    exponential_counts,
    step_counts,
    zhang_counts,
)

ZHANG_TOTALS = {"A": (22_000, 5_500), "B": (11_800, 2_950), "C": (20_300, 5_070)}


@pytest.mark.parametrize(
    ("n_max", "num_classes", "totals"),
    [(5000, 10, (20_431, 13_996, 12_406)), (500, 100, (19_573, 12_608, 10_847))],
)
def test_exponential_counts_have_the_totals_of_long_tailed_cifar(n_max, num_classes, totals):
    for ratio, total in zip((10, 50, 100), totals, strict=True):
        counts = exponential_counts(n_max, num_classes, ratio)
        assert counts.sum() == total
        assert counts.dtype == np.int64
        assert counts[0] == n_max and counts[-1] == n_max // ratio
        assert np.all(np.diff(counts) <= 0)


def test_exponential_counts_are_those_published_for_cifar10_at_ratio_100():
    expected = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert exponential_counts(5000, 10, 100).tolist() == expected


def test_exponential_counts_do_not_lose_an_image_to_rounding():
    # 320 * 32 ** (-2/5) is 80 in real numbers and 79.99999999999999 in floating point.
    assert exponential_counts(320, 6, 32).tolist() == [320, 160, 80, 40, 20, 10]


def test_step_counts_have_two_levels():
    assert step_counts(5000, 10, 100).tolist() == [5000] * 5 + [50] * 5
    assert step_counts(500, 5, 10).tolist() == [500] * 2 + [50] * 3
    assert step_counts(500, 10, 10, minority_fraction=0.9).tolist() == [500] + [50] * 9


@pytest.mark.parametrize("kind", ["A", "B", "C"])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_zhang_counts_are_those_of_the_paper(num_classes, kind):
    """Tables I and II are those of the file of the paper, which its own test compares with what was typed twice."""
    train, valid = zhang_counts(num_classes, kind)
    printed = load_paper("zhang_2018").tables["I" if num_classes == 10 else "II"].frame()
    labels = printed["last_label"] - printed["first_label"] + 1
    for side, counts in (("train", train), ("valid", valid)):
        assert counts.tolist() == np.repeat(printed[f"{kind}_{side}"], labels).tolist()
    assert (train.sum(), valid.sum()) == ZHANG_TOTALS[kind]


def test_zhang_counts_scale_by_rounding_with_a_floor():
    train, valid = zhang_counts(10, "C", scale=0.01)
    assert train.tolist() == [2, 6, 10, 14, 18, 22, 26, 30, 35, 40]
    assert valid.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    train, valid = zhang_counts(100, "B", scale=0.01)
    assert train.tolist() == [2] * 90 + [4] * 10
    assert valid.tolist() == [1] * 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exponential_counts(5000, 1, 10), "num_classes must be at least 2, got 1"),
        (lambda: exponential_counts(0, 10, 10), "n_max must be at least 1"),
        (lambda: exponential_counts(5000, 10, 0.5), r"ratio must lie in \[1, inf\)"),
        (lambda: exponential_counts(50, 10, 100), "class 8 would have no images"),
        (lambda: step_counts(50, 10, 100), "class 5 would have no images"),
        (lambda: step_counts(500, 10, 10, minority_fraction=0), "minority_fraction=0 of 10 classes"),
        (lambda: zhang_counts(7, "A"), "for 10 or 100 classes, got 7"),
        (lambda: zhang_counts(10, "D"), "unknown imbalance type of Zhang 2018 'D'"),
        (lambda: zhang_counts(10, "A", scale=0), r"scale must lie in \(0, inf\)"),
        (lambda: counts_from_name("rare-10-11", [50, 50]), "n_majority >= n_minority >= 1, got 10 and 11"),
        (lambda: counts_from_name("rare-10-1-5-0", [50, 50]), "n_majority >= n_minority >= 1, got 5 and 0"),
        (lambda: counts_from_name("zhang-d", [500] * 10), "unknown imbalance 'zhang-d'.*'zhang-a'"),
        (lambda: counts_from_name("exponential", [500] * 10), "did you mean 'exponential-RATIO'"),
        (lambda: counts_from_name("rare-10-1", [500] * 10), "for 2 classes, the pool has 10"),
        (lambda: counts_from_name("rare-10-1-5-1", [500] * 10), "for 2 classes, the pool has 10"),
        (lambda: counts_from_name("rare-10-1-5", [500] * 2), "unknown imbalance 'rare-10-1-5'"),
        (
            lambda: counts_from_name("rare-10-1-5-1", [14, 9]),
            r"class 0 needs 10 training \+ 5 validation images, the pool has 14",
        ),
        (
            lambda: counts_from_name("rare-10-1-5-1", [50, 9], valid_share=0.1),
            "valid_share=0.1: imbalance 'rare-10-1-5-1' sets its own validation images aside",
        ),
        (lambda: counts_from_name("zhang-a", [5000] * 10, valid_share=0.1), "sets its own validation images"),
        (
            lambda: counts_from_name("exponential-2", [20, 20], valid_share=0.1),
            r"class 0 needs 20 training \+ 2 validation images, the pool has 20 .*lower the scale",
        ),
        (
            lambda: counts_from_name("natural", [20, 1], valid_share=0.1),
            r"class 1 needs 1 training \+ 1 validation images, the pool has 1 ",
        ),
        (
            lambda: counts_from_name("natural", [20, 20], valid_share=-0.1),
            r"valid_share must lie in \[0, 1\), got -0.1",
        ),
        (
            lambda: counts_from_name("zhang-a", [400] * 10, scale=0.1),
            r"'zhang-a' at scale 0.1: class 5 needs 400 training \+ 100 validation images, the pool has 400 "
            r"\(5 of 10 classes are short\)",
        ),
    ],
)
def test_impossible_counts_are_refused_with_the_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_counts_from_name_reads_every_kind_of_name():
    pool = [500] * 10
    train, valid = counts_from_name("zhang-b", pool, scale=0.1)
    assert train.tolist() == [20] * 3 + [40] * 3 + [200] * 3 + [400]
    assert valid.tolist() == [5] * 3 + [10] * 3 + [50] * 3 + [100]
    assert counts_from_name("exponential-100", [5000] * 10)[0].sum() == 12_406
    assert counts_from_name("step-2.5", pool, scale=0.5)[0].tolist() == [250] * 5 + [100] * 5
    assert counts_from_name("rare-300-4", [300, 200])[0].tolist() == [300, 4]
    train, valid = counts_from_name("natural", [7, 3, 9])
    assert train.tolist() == [7, 3, 9] and valid.tolist() == [0, 0, 0]
    assert counts_from_name("balanced", [7, 3, 9])[0].tolist() == [3, 3, 3]


def test_a_rare_class_may_have_validation_images_of_its_own():
    train, valid = counts_from_name("rare-1000-10-150-7", [1645, 1526])
    assert (train.tolist(), valid.tolist()) == ([1000, 10], [150, 7])
    train, valid = counts_from_name("rare-1000-10-150-7", [1645, 1526], scale=0.02)
    assert (train.tolist(), valid.tolist()) == ([20, 1], [3, 1])
    assert valid.dtype == np.int64


def test_a_share_of_validation_images_is_rounded_half_up_to_at_least_one():
    train, valid = counts_from_name("exponential-100", [5000] * 10, scale=0.8, valid_share=0.1)
    assert train.tolist() == exponential_counts(4000, 10, 100).tolist()
    assert valid.tolist() == [max(1, int(0.1 * n + 0.5)) for n in train]
    assert counts_from_name("rare-15-4", [40, 40], valid_share=0.1)[1].tolist() == [2, 1]


def test_all_images_as_they_are_train_and_validate():
    train, valid = counts_from_name("natural", [500, 60, 2], valid_share=0.2)
    assert (train.tolist(), valid.tolist()) == ([417, 50, 1], [83, 10, 1])
    train, valid = counts_from_name("balanced", [500, 60], valid_share=0.2)
    assert (train.tolist(), valid.tolist()) == ([50, 50], [10, 10])
    # where there is room for both, nothing changes
    train, valid = counts_from_name("natural", [500, 60], scale=0.5, valid_share=0.2)
    assert (train.tolist(), valid.tolist()) == ([250, 30], [50, 6])


@settings(max_examples=200, deadline=None)
@given(
    pool=st.lists(st.integers(2, 10**6), min_size=2, max_size=6),
    share=st.one_of(st.sampled_from([0.1, 0.25, 0.5, 1 / 3]), st.floats(1e-6, 0.999)),
)
def test_natural_counts_leave_no_image_out_that_fits(pool, share):
    train, valid = counts_from_name("natural", pool, valid_share=share)
    assert np.all(train + valid <= pool) and valid.tolist() == [max(1, int(share * n + 0.5)) for n in train]
    more = train + 1
    fits = more + np.maximum(1, np.floor(share * more + 0.5 + 1e-6)) <= pool
    assert not fits.any()
