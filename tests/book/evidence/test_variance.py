"""Variance components on simulated data with known shares, and what a number of pairs can show."""

import math

import numpy as np
import pandas as pd
import pytest

from imbal_book.chapters.readings import power_table
from imbal_book.evidence.statistics import seeds_for_power
from imbal_book.evidence.variance import detectable_difference, variance_components


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
    with pytest.raises(ValueError, match="expected sd > 0"):
        detectable_difference(0, pairs)


def test_the_page_says_what_its_pairs_could_have_shown():
    rng = np.random.default_rng(3)
    rows = [
        {"profile": "laptop", "form": "net", "dataset": "leaves", "imbalance": "1000:10", "readout": readout,
         "metric": "f1", "split_seed": draw, "train_seed": training, "value": shift + 0.02 * rng.normal()}
        for readout, shift in (("plain", 0.5), ("new", 0.6))
        for draw in range(4) for training in range(2)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    (found,) = power_table(frame, "new", "plain", "f1").to_dict("records")
    wide = frame.pivot(index=["split_seed", "train_seed"], columns="readout", values="value")
    sd = (wide["new"] - wide["plain"]).std()
    assert (found["pairs"], found["draws"]) == (8, 4) and found["standard deviation"] == f"{100 * sd:.1f}"
    assert found["pairs for 5 points"] == seeds_for_power(sd, 0.05) < found["pairs for 2 points"]
    assert float(found["seen with 80 % power"]) == pytest.approx(100 * detectable_difference(sd, 8), abs=0.05)
    assert power_table(frame[frame["readout"] == "new"], "new", "plain", "f1").empty
