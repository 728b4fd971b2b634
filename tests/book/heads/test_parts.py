import numpy as np
import pytest

from imbal_book.heads.parts import draw_parts


def labels_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def all_pairs(parts):
    yield from zip(parts.train, parts.measure, strict=True)
    for fits, validations in zip(parts.fit, parts.validation, strict=True):
        yield from zip(fits, validations, strict=True)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_two_sides_and_the_test_part_is_nowhere_else(seed):
    rng = np.random.default_rng(seed)
    labels = labels_of(200, 60, 24, 9)
    groups = rng.integers(0, 150, len(labels))
    parts = draw_parts(labels, groups, None, repeats=5, validations=2, seed=seed)
    for one, other in all_pairs(parts):
        assert not set(groups[one]) & set(groups[other])
        assert not set(one) & set(other)
    test = set(parts.measure[-1])
    for train, measure in zip(parts.train[:-1], parts.measure[:-1], strict=True):
        assert not test & {*train, *measure}
        assert {*train, *measure} == set(parts.train[-1])
    assert {*test, *parts.train[-1]} == set(range(len(labels)))
    for train, fits, held in zip(parts.train, parts.fit, parts.validation, strict=True):
        for fit, validation in zip(fits, held, strict=True):
            assert {*fit, *validation} == set(train)


def test_every_class_has_its_share_on_every_side():
    labels = labels_of(200, 40, 6)
    parts = draw_parts(labels, np.arange(len(labels)), None, repeats=5, validations=2, seed=0)
    assert np.bincount(labels[parts.measure[-1]]).tolist() == [40, 8, 2]
    for train, measure in zip(parts.train[:-1], parts.measure[:-1], strict=True):
        assert np.bincount(labels[measure]).tolist() == [32, 6, 2]
        assert np.bincount(labels[train]).tolist() == [128, 26, 2]
    for fits in parts.fit:
        for fit in fits:
            assert (np.bincount(labels[fit], minlength=3) >= 1).all()
    assert parts.measured.all()
    assert parts.test_over_train == pytest.approx(40 / 156)


def test_a_class_that_is_too_small_only_trains():
    labels = labels_of(50, 5, 30)
    parts = draw_parts(labels, np.arange(len(labels)), None, repeats=3, validations=1, seed=0)
    assert parts.measured.tolist() == [True, False, True]
    small = set(np.flatnonzero(labels == 1))
    assert all(small <= set(train) for train in parts.train)
    assert all(small <= set(fit) for fits in parts.fit for fit in fits)


def test_a_class_in_too_few_groups_cannot_be_measured():
    labels = labels_of(50, 12)
    groups = np.concatenate([np.arange(50), np.repeat([100, 101, 102], 4)])
    assert draw_parts(labels, groups, None, repeats=3, validations=1, seed=0).measured.tolist() == [
        True,
        False,
    ]


def test_a_given_test_side_is_kept_and_seeds_repeat_themselves():
    labels = labels_of(40, 20)
    test = np.zeros(60, bool)
    test[[0, 1, 2, 40, 41]] = True
    draw = {"repeats": 3, "validations": 1}
    parts = draw_parts(labels, np.arange(60), test, seed=1, **draw)
    assert parts.measure[-1].tolist() == [0, 1, 2, 40, 41]
    again = draw_parts(labels, np.arange(60), test, seed=1, **draw)
    other = draw_parts(labels, np.arange(60), test, seed=2, **draw)
    assert all(np.array_equal(a, b) for a, b in zip(parts.measure, again.measure, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(parts.measure, other.measure, strict=True))
