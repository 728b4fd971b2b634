"""The verbs `minus` and `summarise`, against scipy and by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from imbal_book.evidence.verbs import minus, summarise


def long(rows):
    """Return a long frame from (dataset, split seed, training seed, readout, metric, value)."""
    names = ["dataset", "split_seed", "train_seed", "readout", "metric", "value"]
    return pd.DataFrame(rows, columns=names).assign(profile="laptop", form="net", imbalance="10:1")


def test_a_difference_is_taken_inside_a_cell_a_metric_and_a_pair_of_seeds():
    frame = long(
        [
            ("a", 0, 0, "plain", "f1", 0.5),
            ("a", 0, 1, "plain", "f1", 0.25),
            ("b", 0, 0, "plain", "f1", 0.125),
            ("a", 0, 0, "plain", "recall", 1.0),
            ("a", 0, 0, "new", "f1", 0.75),
            ("a", 0, 1, "new", "f1", 0.75),
            ("b", 0, 0, "new", "f1", 0.75),
            ("b", 1, 0, "new", "f1", 0.75),
            ("a", 0, 0, "new", "recall", 0.5),
        ]
    )
    found = minus(frame, "plain")
    place = ["dataset", "split_seed", "train_seed", "metric", "readout", "value"]
    assert found[place].values.tolist() == [
        ["a", 0, 0, "f1", "new", 0.25],
        ["a", 0, 1, "f1", "new", 0.5],
        ["b", 0, 0, "f1", "new", 0.625],
        ["a", 0, 0, "recall", "new", -0.5],
    ]


def test_columns_that_both_share_can_be_kept_apart():
    frame = long(
        [("a", 0, 0, r, "recall", v) for r, v in (("plain", 1), ("plain", 2), ("new", 5), ("new", 7))]
    )
    frame["label"] = [0, 1, 0, 1]
    assert minus(frame, "plain", keep=["label"])["value"].tolist() == [4, 5]
    for readout in ("plain", "new"):
        twice = frame[(frame["label"] == 0) | (frame["readout"] == readout)]
        message = f"{readout!r} has two values for profile laptop, form net, dataset a"
        with pytest.raises(ValueError, match=message):
            minus(twice, "plain")


def test_pairs_are_aligned_by_both_seeds_whatever_the_order():
    rows = [("a", s, s, "D", "f1", v) for s, v in ((0, 0.1), (1, 0.2), (3, 0.4))]
    rows += [("a", s, s, "C", "f1", v) for s, v in ((0, 0.5), (2, 0.7), (3, 0.8))]
    found = minus(long(rows).sample(frac=1, random_state=1), "D").sort_values("split_seed")
    assert found["split_seed"].tolist() == [0, 3] and found["value"].tolist() == pytest.approx([0.4, 0.4])
    assert minus(long(rows), "X").empty


def test_a_mean_and_its_interval_by_hand():
    values = long([("a", 0, seed, "new", "f1", value) for seed, value in enumerate((0.1, 0.2, 0.0, 0.3))])
    row = summarise(values, ["dataset"]).iloc[0]
    # mean .15, deviation sqrt(.05 / 3) = .129099, t(0.975; 3) = 3.182446 from a printed table
    assert (row["mean"], row["sd"]) == pytest.approx((0.15, 0.129099), abs=1e-6)
    assert row["high"] - row["mean"] == pytest.approx(3.182446 * 0.129099 / 2, abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.sampled_from([0.9, 0.95]))
def test_an_interval_is_that_of_scipy(values, confidence):
    frame = long([("a", seed, 0, "new", "f1", value) for seed, value in enumerate(values)])
    row = summarise(frame, ["dataset", "readout"], confidence=confidence).iloc[0]
    spread = np.std(values, ddof=1)
    low = high = np.mean(values)
    if spread > 1e-9:
        low, high = stats.t.interval(confidence, len(values) - 1, low, spread / np.sqrt(len(values)))
    assert row["n"] == len(values)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((np.mean(values), low, high), abs=1e-8)


def test_groups_keep_their_order_and_one_value_has_an_infinite_interval():
    frame = long(
        [("b", 0, 0, "new", "f1", 2.0), ("a", 0, 0, "new", "f1", 1.0), ("a", 1, 0, "new", "f1", 3.0)]
    )
    found = summarise(frame, ["dataset"])
    assert found["dataset"].tolist() == ["b", "a"] and found["n"].tolist() == [1, 2]
    assert (
        found["low"].tolist()[0] == -np.inf
        and found["high"].tolist()[0] == np.inf
        and np.isnan(found["sd"][0])
    )
    assert summarise(frame.iloc[:0], ["dataset"]).columns.tolist() == [
        "dataset",
        "mean",
        "low",
        "high",
        "n",
        "sd",
    ]
