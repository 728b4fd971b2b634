"""Epochs, loss and confidence in the chapter on the final batch norm, from hand-made records."""

import numpy as np
import pandas as pd
import pytest
from leaf_frames import LITE, PLANTS, values
from long_rows import t_text
from scipy import stats

from imbal_book.chapters import final_batch_norm as tables
from imbal_book.chapters import final_batch_norm_training as training
from imbal_book.run.long_frames import IDENTITY
from imbal_book.studies.grids import final_batch_norm as study


def histories(plain, layer, metric="test_f1_minority", imbalance="1000:10"):
    """Return rows per epoch; each arm has one list of values per seed."""
    found = [
        (f"{arm} {seed}", "laptop", LITE, "net", PLANTS[0], imbalance, seed, seed, arm, epoch, metric, value)
        for arm, runs in (("plain", plain), ("final BN", layer))
        for seed, values in enumerate(runs)
        for epoch, value in enumerate(values, 1)
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "epoch", "metric", "value"])


def test_a_run_that_never_gets_there_is_later_than_one_that_does_and_ties_with_another_like_it():
    epochs = histories(
        plain=[[0.1, 0.2, 0.7], [0.0, 0.1, 0.2], [0.8, 0.1, 0.7]],
        layer=[[0.7, 0.8, 0.7], [0.2, 0.8, 0.6], [0.9, 0.9, 0.9]],
    )
    easier = epochs.assign(imbalance="1000:100", value=1.0)
    found = training.epochs_table(pd.concat([epochs, easier]).sample(frac=1, random_state=1))
    assert found["imbalance"].value_counts().to_dict() == {"1000:10": 3, "1000:100": 3}, "every imbalance"
    found = found[found["imbalance"] == "1000:10"].set_index("F1")
    # 0.7: plain in epochs 3, never and 1, the layer in 1, 2 and 1
    row, order = found.loc["0.7"], "sooner : as soon : later"
    assert (row["plain, got there"], row["final BN, got there"]) == ("2 of 3", "3 of 3")
    assert (row["plain, half by epoch"], row["final BN, half by epoch"]) == ("3", "1")
    assert row[order] == "2 : 1 : 0"
    low = 100 * stats.beta.ppf(0.025, 2.5, 1.5)  # two and a half of three
    high = 100 * stats.beta.ppf(0.975, 3.5, 0.5)
    assert row["share sooner (%)"] == f"{250 / 3:.0f} ({low:.0f} to {high:.0f})"
    # 0.9: plain never, never, never; the layer never, never and in 1
    assert (found.loc["0.9", order], found.loc["0.9", "plain, half by epoch"]) == ("1 : 2 : 0", "> 3")
    # 0.8: plain never, never and 1; the layer in 2, 2 and 1
    assert found.loc["0.8", order] == "2 : 1 : 0" and found.loc["0.8", "plain, got there"] == "1 of 3"


def test_an_arm_alone_has_no_orderings(epochs):
    assert training.epochs_table(epochs[epochs["readout"] == "plain"]).empty


def test_the_baseline_is_that_of_the_test_images_and_of_one_kind_of_test_only(runs):
    assert training.baseline(runs) == pytest.approx(2 / 3)
    other = [{**m, "test_counts": [90, 10 + i % 2]} for i, m in enumerate(runs["measurements"])]
    assert training.baseline(runs.assign(measurements=other)) is None


def test_the_two_epochs_of_the_loss_table_are_those_that_validation_chooses(runs, part, epochs):
    found = training.loss_table(part, tables.select(epochs, LITE)).set_index(["plant", "arm"])
    differences, best_epochs = [], []
    for row in tables.select(runs, LITE).to_dict("records"):
        if row["dataset"] == PLANTS[2] and row["arm"] == "final BN":
            history = {name: np.array(values) for name, values in row["measurements"]["history"].items()}
            best, lowest = history["valid_f1_minority"].argmax(), history["valid_loss"].argmin()
            differences.append(history["test_f1_minority"][best] - history["test_f1_minority"][lowest])
            best_epochs.append(best + 1)
    row = found.loc[("tomato", "final BN")]
    assert row["difference in F1"] == t_text(differences) and row["seeds"] == 3
    assert row["epoch of best F1"] == f"{np.mean(best_epochs):.1f}"
    assert row["epoch of lowest loss"] == "3.0", "so the records are drawn"
    assert list(found.index) == [(plant, arm) for plant in study.PLANTS for arm in tables.ARMS]


def test_curves_hold_f1_and_loss_of_every_epoch_and_run(runs, epochs):
    cells = training.curve_cells(tables.select(epochs, LITE))
    assert len(cells) == 3 * 2 * 3 * 6 and list(dict.fromkeys(cells["dataset"])) == list(study.PLANTS)
    assert list(dict.fromkeys(cells["method"])) == ["plain", "final BN"]
    one = runs.set_index("key").loc[cells["key"].iloc[0], "measurements"]["history"]
    own = cells[cells["key"] == cells["key"].iloc[0]]
    assert own["f1"].tolist() == one["test_f1_minority"] and own["loss"].tolist() == one["valid_loss"]


def test_bins_of_confidence_add_up_the_images_of_all_runs(runs):
    own = tables.select(runs, LITE)
    chosen = own[(own["dataset"] == PLANTS[0]) & (own["arm"] == "final BN")]
    margins = np.concatenate(
        [np.concatenate(m["margins"]["softmax"]["test"]) for m in chosen["measurements"]]
    )
    labels = np.tile(np.repeat([0, 1], 150), 3)
    sure = 1 / (1 + np.exp(-np.abs(margins)))
    for kind in ("histogram", "reliability"):
        bins = training.confidence_bins(own, kind)
        cell = bins[(bins["dataset"] == "apple") & (bins["method"] == "final BN")]
        assert cell["count"].sum() == 3 * 300 and cell["share"].sum() == pytest.approx(1)
        for row in cell[cell["count"] > 0].to_dict("records"):
            inside = (sure > row["lower"]) & (sure <= row["upper"])
            assert abs(row["count"] - inside.sum()) <= 2, "four digits of a margin may cross an edge"
            if kind == "reliability":
                assert row["confidence"] == pytest.approx(sure[inside].mean(), abs=3e-3)
                assert row["accuracy"] == pytest.approx(((margins > 0) == labels)[inside].mean(), abs=0.05)


def test_the_table_of_confidence_holds_paired_differences(part):
    found = training.confidence_table(part).set_index(["plant", ""])
    expected = t_text(values(part, "final BN", "confidence"), values(part, "plain", "confidence"))
    assert found.loc[("apple", "mean confidence"), "difference"] == expected
    assert list(found.index)[:3] == [
        ("apple", name) for name in ("accuracy", "mean confidence", "calibration error (ECE)")
    ]


def test_margins_are_those_of_one_run_by_plant_and_arm_the_first_pair_of_seeds(runs):
    own = tables.select(runs, LITE)
    again = own[own["split_seed"] == 0].assign(train_seed=1)  # the same draw, trained once more
    found = training.margins(pd.concat([again, own]))
    assert list(dict.fromkeys(zip(found["dataset"], found["method"], strict=True))) == [
        (plant, arm) for plant in study.PLANTS for arm in ("plain", "final BN")
    ]
    assert len(found) == 3 * 2 * 300 and set(found["balanced"]) == {-3.0}
    first = own[(own["dataset"] == PLANTS[2]) & (own["arm"] == "plain") & (own["split_seed"] == 0)]
    cell = found[(found["dataset"] == "tomato") & (found["method"] == "plain") & (found["label"] == 1)]
    assert cell["margin"].tolist() == first["measurements"].iloc[0]["margins"]["softmax"]["test"][1]
