"""What holds for every study: a grid of different runs, frames of nothing, names that are nearly right."""

import pytest

from imbal_book.run.long_frames import IDENTITY, records_frame
from imbal_book.studies import PROFILES, STUDIES, build_grid, get_study
from imbal_book.studies import category_centers as study


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_a_grid_is_another_one_of_its_study_and_profile(name, profile):
    grid = build_grid(name, profile)
    assert len({config.digest() for config in grid}) == len(grid)
    assert {(config.study, config.profile) for config in grid} == {(name, profile)}


@pytest.mark.parametrize("make", ["frame", "label_frame", "epoch_frame", "run_frame", "setting_frame"])
@pytest.mark.parametrize("name", STUDIES)
def test_frames_of_nothing_keep_their_columns(name, make):
    if hasattr(get_study(name), make):
        found = getattr(get_study(name), make)(records_frame([]))
        assert found.empty and {*IDENTITY, "readout"} <= set(found.columns)


def test_unknown_names_get_the_nearest_valid_ones():
    assert list(STUDIES) == sorted(STUDIES)
    assert get_study("category_centers") is study
    with pytest.raises(ValueError, match="did you mean 'category_centers'"):
        build_grid("categry_centers", "smoke")
    with pytest.raises(ValueError, match="did you mean 'laptop'"):
        build_grid("category_centers", "labtop")
