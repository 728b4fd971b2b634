import pytest

from imbal_book.grid.selection import select_runs
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
