from itertools import zip_longest

import pytest

from imbal_book.grid.selection import select_runs, shard
from imbal_book.studies import build_grid


@pytest.fixture(scope="module")
def grid():
    return build_grid("category_centers", "laptop")


def test_fields_narrow_the_grid_and_a_field_given_twice_accepts_both_values(grid):
    found = select_runs(grid, "sampler=OVER-sample, split_seed=0,split_seed=1,")
    wanted = [c for c in grid if c.sampler == "over-sample" and c.split_seed in (0, 1)]
    assert 0 < len(found) < len(grid) and found == wanted


def test_nothing_asked_keeps_every_run(grid):
    assert select_runs(grid, " ") == grid
    assert select_runs([], "sampler=over-sample") == []


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("smapler=x", "unknown field of a run 'smapler': did you mean 'sampler'"),
        ("sampler=oversample", "unknown sampler in this grid 'oversample': did you mean 'over-sample'"),
        ("sampler", "'sampler' is not FIELD=VALUE"),
        ("frozen=true,pretrained=false", "each value occurs in the grid, but no run has all of them"),
    ],
)
def test_what_no_run_has_is_refused_by_name(grid, only, message):
    with pytest.raises(ValueError, match=message):
        select_runs(grid, only)


def test_shards_hold_every_run_once_and_runs_of_every_kind(grid):
    shards = [shard(grid, f"{number}/3") for number in (1, 2, 3)]
    assert [len(one) for one in shards] == [len(range(start, len(grid), 3)) for start in range(3)]
    assert [run for together in zip_longest(*shards) for run in together if run] == grid
    assert shard([], "1/1") == []


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/", "-1/3", "1/0", "²/3"])
def test_a_shard_that_does_not_exist_is_refused(grid, part):
    with pytest.raises(ValueError, match="expected I/N with I from 1 to N"):
        shard(grid, part)
