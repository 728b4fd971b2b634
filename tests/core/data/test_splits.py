import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbal_core.data.class_counts import counts_from_name
from imbal_core.data.datasets import ImageDataset
from imbal_core.data.prepared import DatasetError
from imbal_core.data.splits import Split, dataset_groups, draw_split, shared_groups, split_counts


def cyclic_labels(num_images: int, num_classes: int) -> np.ndarray:
    return np.arange(num_images) % num_classes


def test_the_hash_order_of_a_split_is_the_documented_one():
    split = draw_split(np.zeros(20, np.int64), [5], [3], seed=7)
    ranked = sorted(range(20), key=lambda i: hashlib.blake2b(f"7:{i}".encode(), digest_size=16).digest())
    assert split.train.tolist() == sorted(ranked[:5])
    assert split.valid.tolist() == sorted(ranked[-3:])


FROZEN_SPLITS = {
    # (name, classes, seed): SHA-256 of the split of cyclic labels, 500 per class of 10, 40 per class of 100
    ("zhang-a", 10, 0): "636195a17a9bf405e5c6b6c78d96674211306cb91d06b8673cde01eaa432f8d1",
    ("zhang-b", 10, 0): "6e9024c60f2b0ca205c0526b06f3813b2bb7d5766b8d33ca3ced628811323743",
    ("zhang-c", 10, 1): "520626c9ab88dd262237a6b5d53954b8c93bb7a5386dd037c1f334e391b452ac",
    ("exponential-10", 100, 3): "d66af49d0fde2eb6579c65ee4241f193adeac3364fe7535b5ae087354c2a21a6",
    ("step-10", 10, 2): "7e8f3da4b2899b607ceec0a1024e5008483a87ca325b75d9a836de39e9cd493a",
    ("natural", 10, 0): "a1c2c5fbe69be1332ca1ed3ade104568dd4a69271aa4d9be17824d7b04cea157",
}


@pytest.mark.parametrize(("name", "num_classes", "seed"), list(FROZEN_SPLITS))
def test_splits_are_the_same_for_ever(name, num_classes, seed):
    labels = cyclic_labels(5000 if num_classes == 10 else 4000, num_classes)
    scale = 0.1 if name.startswith("zhang") else 1.0
    train, valid = counts_from_name(name, np.bincount(labels), scale=scale)
    split = draw_split(labels, train, valid, seed=seed, num_test=100)
    assert split.sha256 == FROZEN_SPLITS[name, num_classes, seed]


def test_a_grouped_split_is_the_same_for_ever():
    labels = cyclic_labels(1000, 4)
    split = draw_split(labels, [100] * 4, [20] * 4, seed=5, groups=np.arange(1000) // 12)
    assert split.sha256 == "36ce6b4950bbe28f9c4155bcad04137024fb08e352b3f231153d00c22f32ebc8"


def test_the_dtype_of_labels_and_the_type_of_groups_do_not_change_a_split():
    labels = cyclic_labels(200, 4)
    groups = np.arange(200) // 5
    first = draw_split(labels, [20] * 4, [5] * 4, seed=1, groups=groups)
    again = draw_split(labels.astype(np.uint8), [20] * 4, [5] * 4, seed=1, groups=[str(g) for g in groups])
    assert first.sha256 == again.sha256


def test_the_hash_of_a_split_tells_the_sides_apart():
    empty, full = np.array([], np.int64), np.array([1, 2], np.int64)
    hashes = {
        Split(*sides).sha256 for sides in ((full, empty, empty), (empty, full, empty), (empty, empty, full))
    }
    assert len(hashes) == 3


pools = st.lists(st.integers(0, 4), min_size=20, max_size=120).map(np.array)


@pytest.mark.parametrize("pooled", [False, True])
@settings(max_examples=50, deadline=None)
@given(labels=pools, seed=st.integers(0, 10**9), data=st.data())
def test_splits_of_one_seed_have_their_counts_share_their_test_images_and_are_nested(
    pooled, labels, seed, data
):
    pool = np.bincount(labels, minlength=5)
    test = [data.draw(st.integers(0, int(n))) if pooled else 0 for n in pool]
    large = [data.draw(st.integers(0, int(n) - t)) for n, t in zip(pool, test, strict=True)]
    large_valid = [int(n) - t - m for n, t, m in zip(pool, test, large, strict=True)]
    small = [data.draw(st.integers(0, n)) for n in large]
    small_valid = [data.draw(st.integers(0, n)) for n in large_valid]
    options = {"seed": seed, "num_classes": 5, **({"test_counts": test} if pooled else {"num_test": 9})}
    outer = draw_split(labels, large, large_valid, **options)
    inner = draw_split(labels, small, small_valid, **options)
    assert inner.test.tolist() == outer.test.tolist()
    assert pooled or outer.test.tolist() == list(range(9)), "a test set of its own is left whole"
    assert set(inner.train) <= set(outer.train)
    assert set(inner.valid) <= set(outer.valid)
    for split, counts in ((outer, (large, large_valid, test)), (inner, (small, small_valid, test))):
        sides = (split.train, split.valid, split.test) if pooled else (split.train, split.valid)
        assert len(set(np.concatenate(sides))) == sum(len(side) for side in sides)
        for side, wanted in zip(sides, counts, strict=False):
            assert np.bincount(labels[side], minlength=5).tolist() == wanted
            assert side.dtype == np.int64 and np.all(np.diff(side) > 0)


def test_another_seed_gives_another_split():
    labels = cyclic_labels(1000, 2)
    first, second = (draw_split(labels, [250, 250], seed=seed) for seed in (0, 1))
    # Half of the pool each: unrelated draws share about 250 images, the standard deviation is 8.
    assert 200 < len(set(first.train) & set(second.train)) < 300


@pytest.mark.parametrize("pooled", [False, True])
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    groups=st.lists(st.integers(0, 40), min_size=120, max_size=120),
    labels=st.lists(st.integers(0, 2), min_size=120, max_size=120),
)
def test_no_group_is_on_two_sides(pooled, seed, groups, labels):
    # The groups reach across classes, as a patient with two conditions does.
    pool = np.bincount(labels, minlength=3)
    counts = (pool // 5, pool // 10, pool // 10 if pooled else None)
    try:
        split = draw_split(
            labels, *counts[:2], seed=seed, test_counts=counts[2], groups=groups, num_classes=3
        )
    except ValueError as error:
        assert "share no group with a" in str(error)
        return
    sides = (split.train, split.valid, split.test)[: 3 if pooled else 2]
    seen = [{groups[i] for i in side} for side in sides]
    assert sum(map(len, seen)) == len(set().union(*seen))
    for side, wanted in zip(sides, counts, strict=False):
        assert np.bincount(np.array(labels)[side], minlength=3).tolist() == wanted.tolist()


@pytest.mark.parametrize("pooled", [False, True])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9), sizes=st.lists(st.integers(1, 6), min_size=30, max_size=40))
def test_grouped_splits_are_nested_when_groups_lie_in_one_class(pooled, seed, sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = groups % 2
    pool = np.bincount(labels)
    options = {"seed": seed, "groups": groups, "test_counts": pool // 10 if pooled else None}
    small = draw_split(labels, pool // 10, pool // 10, **options)
    large = draw_split(labels, pool // 5, pool // (10 if pooled else 5), **options)
    assert small.test.tolist() == large.test.tolist()
    assert set(small.train) <= set(large.train) and set(small.valid) <= set(large.valid)


def test_groups_that_leave_too_few_images_are_an_error_that_counts_them():
    labels = np.repeat([0, 1], 10)
    with pytest.raises(
        ValueError, match="class 0: 6 training images asked for, but only 5 of 10 share no group"
    ):
        draw_split(labels, [6, 1], [1, 1], seed=0, groups=np.arange(20) // 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_counts": [1, 2]}, r"train_counts must be 3 integers >= 0"),
        ({"train_counts": [1, 2, -1]}, r"train_counts must be 3 integers >= 0"),
        ({"train_counts": [1.0, 2.0, 1.0]}, "train_counts must be 3 integers"),
        ({"valid_counts": [1]}, "valid_counts must be 3 integers"),
        ({"train_counts": [8, 1, 1], "valid_counts": [3, 1, 1]}, r"class 0 needs 8 training \+ 3 validation"),
        ({"labels": np.zeros((3, 3), int)}, "labels must be integers >= 0 of shape"),
        ({"labels": np.zeros(0, int)}, "labels must be integers"),
        ({"num_classes": 2, "train_counts": [1, 1]}, "labels go up to 2, but num_classes=2"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"test_counts": [1, 1]}, "test_counts must be 3 integers"),
        ({"test_counts": [1, 1, 1], "num_test": 5}, "num_test=5 and test_counts exclude each other"),
        (
            {"valid_counts": [3, 1, 1], "test_counts": [3, 1, 1]},
            r"class 0 needs 5 training \+ 3 validation \+ 3 test images, the pool has 10",
        ),
        ({"groups": [1, 2]}, "expected 30, got 2"),
        ({"groups": [None] * 30}, r"groups\[0\] is missing"),
        ({"groups": [1.0, float("nan")] * 15}, r"groups\[1\] is missing"),
    ],
)
def test_a_split_that_cannot_be_drawn_is_an_error(change, message):
    arguments = {"labels": cyclic_labels(30, 3), "train_counts": [5, 5, 5], "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        draw_split(**arguments)


def test_test_images_drawn_from_the_pool_have_the_last_ranks():
    split = draw_split(np.zeros(20, np.int64), [5], [3], seed=7, test_counts=[4])
    ranked = sorted(range(20), key=lambda i: hashlib.blake2b(f"7:{i}".encode(), digest_size=16).digest())
    assert split.train.tolist() == sorted(ranked[:5])
    assert split.valid.tolist() == sorted(ranked[-7:-4])
    assert split.test.tolist() == sorted(ranked[-4:])


def test_a_split_with_test_images_from_the_pool_is_the_same_for_ever():
    labels = cyclic_labels(1000, 2)
    counts = {"train_counts": [300, 10], "valid_counts": [50, 5], "test_counts": [60, 60]}
    plain = draw_split(labels, **counts, seed=4)
    grouped = draw_split(labels, **counts, seed=4, groups=np.arange(1000) // 7)
    assert plain.sha256 == "e490057e1a41b0693dc686440cf545406ba34bc73a6bd5f2fd4e7db7f16f0e74"
    assert grouped.sha256 == "f721044f76f99e6b274a47b6479825a77e72ad414fa64cd966f313f339cc09ad"


def test_groups_that_leave_too_few_images_for_validation_or_training_name_the_other_sides():
    labels = np.repeat([0, 1], 10)
    options = {"seed": 0, "test_counts": [1, 1], "groups": np.arange(20) // 5}
    with pytest.raises(
        ValueError, match="class 0: 6 validation .* only 5 of 10 share no group with a test image"
    ):
        draw_split(labels, [1, 1], [6, 1], **options)
    with pytest.raises(
        ValueError, match="class 0: 1 training .* only 0 of 10 share no group with a test or validation image"
    ):
        draw_split(labels, [1, 1], [1, 1], **options)


def test_shared_groups_are_counted_as_shares_of_images():
    groups = ["a", "a", "a", "b", "b", "c", "d", "d"]
    split = Split(train=np.array([0, 3, 5]), valid=np.array([6]), test=np.array([1, 2, 4, 7]))
    assert shared_groups(split, groups) == {
        "test": 0.75,
        "valid": 0.0,
        "test_groups": 3,
        "test_groups_shared": 2,
    }
    nothing = shared_groups(Split(np.array([0]), np.array([], np.int64), np.array([], np.int64)), groups)
    assert math.isnan(nothing["test"]) and math.isnan(nothing["valid"])


def a_pool(per_class: int, test_per_class: int | None, groups: np.ndarray | None = None) -> ImageDataset:
    labels = np.repeat([0, 1], per_class)
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    return ImageDataset("leaves", "train", images, labels, ("a", "b"), "f" * 64, groups, test_per_class)


def test_test_images_are_put_aside_before_the_imbalance_is_applied():
    train, valid, test = split_counts(a_pool(100, 15), "natural")
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([85, 85], [0, 0], [15, 15])
    train, valid, test = split_counts(a_pool(100, None), "step-10", scale=0.5, valid_share=0.1)
    assert (train.tolist(), valid.tolist(), test) == ([50, 5], [5, 1], None)
    with pytest.raises(ValueError, match=r"leaves: class 0 needs 0 .* \+ 150 test images, the pool has 100"):
        split_counts(a_pool(100, 150), "natural")
    with pytest.raises(
        ValueError, match=r"class 0 needs 80 training \+ 8 validation images, the pool has 85"
    ):
        split_counts(a_pool(100, 15), "rare-80-10-8-1")


def test_a_data_set_without_groups_cannot_be_split_by_group():
    groups = np.array(["x"] * 20)
    assert dataset_groups(a_pool(10, None, groups)) is groups
    with pytest.raises(DatasetError, match="of no image of 'leaves' is it known what it shares with others"):
        dataset_groups(a_pool(10, None))
