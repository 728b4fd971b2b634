"""The mechanism of the final batch norm: shifts, questions, sweeps, leaves and the layer, from hand-made records."""

import leaf_runs
import numpy as np
import pandas as pd
import pytest
import torch
from leaf_frames import LITE, OWN, PLANTS, rows, values
from long_rows import t_text

from imbal_book.chapters import final_batch_norm as tables
from imbal_book.chapters import final_batch_norm_mechanism as mechanism
from imbal_book.studies import build_grid
from imbal_book.studies import final_batch_norm as study
from imbal_book.studies.grids import final_batch_norm as grids

NAME = leaf_runs.NAME


@pytest.mark.parametrize(
    ("ranking", "at_best", "answer"),
    [
        (0.05, 0.06, "more"),
        (0.05, -0.02, "not decided"),
        (-0.05, 0.02, "not decided"),
        (0, 0, "no sign of more"),
    ],
)
def test_more_than_a_shift_needs_both_measures_that_no_shift_can_change(ranking, at_best, answer):
    noise = 0.001 * np.array([-1, 1, 0])
    gains = {"auroc": ranking, "f1_best": at_best, "f1_minority": 0.3}
    frame = pd.concat(
        rows({"plain": [0.5] * 3, "final BN": 0.5 + gain + noise}, metric=metric)
        for metric, gain in gains.items()
    )
    (row,) = mechanism.shift_table(frame).to_dict("records")
    assert row["more than a shift?"] == answer and row["shifted by the class counts"] == "not attempted"


def test_a_plain_network_that_is_only_shifted_shows_no_sign_of_more():
    """The layer's images lie as the plain network's do, with another threshold."""
    rng = np.random.default_rng(0)
    made = []
    for seed in range(3):
        labels = np.repeat([0, 1], 150)
        margin = rng.normal(0, 1, 300) + 2.5 * labels - 4
        for arm, shift in (("plain", 0.0), ("final BN", 2.8)):
            scores = leaf_runs.readout_scores(labels, np.stack([0 * margin, margin + shift], axis=1))
            for metric, value in study.long_scores(scores).items():
                made.append(rows({arm: [value]}, metric=metric).assign(split_seed=seed, train_seed=seed))
    found = pd.concat(made)
    (gain,) = tables.gains(found, ("final BN", "plain", "f1_minority")).itertuples()
    assert gain.low > 0.3, "F1 gains all the same"
    (row,) = mechanism.shift_table(found).to_dict("records")
    assert (row["more than a shift?"], row["AUROC"]) == ("no sign of more", "+0.0 (0.0 to 0.0)")


def test_the_table_of_shifts_takes_its_numbers_from_the_records(part):
    found = mechanism.shift_table(part).set_index("plant")
    assert list(found.index) == list(grids.PLANTS)
    row = found.loc["apple"]
    assert row["F1, plain"] == f"{values(part, 'plain').mean():.2f}"
    assert row["shifted by validation images"] == f"{values(part, 'plain, balanced threshold').mean():.2f}"
    assert row["any threshold, at most"] == f"{values(part, 'plain', 'f1_best').mean():.2f}"
    assert row["with the layer"] == f"{values(part, 'final BN').mean():.2f}"


def test_every_question_is_a_paired_difference_of_readouts_that_exist(part):
    found = mechanism.questions(part)
    assert found["question"].tolist() == [question for question, *_ in mechanism.QUESTIONS]
    for row, (_, a, b, metric) in zip(found.to_dict("records"), mechanism.QUESTIONS, strict=True):
        assert row["apple"] == t_text(values(part, a, metric), values(part, b, metric))
        assert row["difference"] == f"{a} - {b}"
    adjusted = found.set_index("question").loc["Does it beat the shift inside the loss?"]
    assert adjusted["pepper"] == "not attempted", "one plant has the arms of the mechanism"


def test_the_figure_of_the_mechanism_holds_every_readout_twice(part):
    cells = mechanism.readout_cells(part[part["dataset"] == PLANTS[0]])
    assert cells["readout"].tolist() == 2 * list(mechanism.READOUTS)
    assert cells["panel"].nunique() == 2


def test_a_sweep_holds_paired_gains_and_their_change_from_the_studys_own_place(frame):
    swept = mechanism.sweep(frame, "imbalance")
    own = swept[swept["form"] == LITE]
    assert own["imbalance"].unique().tolist() == ["1:10", "1:30", "1:100", "1:333"]
    gain = {}
    for rare, label in ((100, "1:10"), (10, "1:100")):
        cell = frame[(frame["form"] == LITE) & (frame["imbalance"] == f"1000:{rare}")]
        gain[label] = (values(cell, "final BN") - values(cell, "plain")).dropna()
    found = mechanism.sweep_table(own, "imbalance").set_index("imbalance")
    assert found.loc["1:10", "gain of the layer"] == t_text(gain["1:10"])
    assert found.loc["1:10", "minus the gain at 1:100"] == t_text(gain["1:10"], gain["1:100"])
    assert found.loc["1:100", "minus the gain at 1:100"] == ""
    cells = mechanism.sweep_cells(own)
    drawn = cells[cells["panel"].str.contains("minus")].set_index("row")["mean"]
    assert drawn["1:10"] == pytest.approx(100 * gain["1:10"].mean())
    assert set(mechanism.sweep(frame, "batch size")["imbalance"]) == {"16", "64", "256"}


@pytest.mark.parametrize(("form", "word"), [(LITE, "nn.Linear"), (OWN, "timm"), ("VGG19", "nn.Linear")])
def test_words_below_a_sweep_say_how_the_head_starts(form, word):
    assert word in mechanism.head_of(form)


def test_what_is_left_of_the_start_is_what_a_layer_of_torch_has_left():
    found = mechanism.running_share_table(build_grid(NAME, "laptop")).set_index(["batch size", "momentum"])
    assert found.loc[(64, "0.01"), "steps"] == 6 * 16, "the last batch of an epoch is smaller"
    layer = torch.nn.BatchNorm1d(2, momentum=0.01)
    layer.running_mean += 1.0
    for _ in range(6 * 16):
        layer(torch.zeros(8, 2))
    column = "share of the start that is left"
    assert found.loc[(64, "0.01"), column] == f"{layer.running_mean[0].item():.0%}" == "38%"
    assert found.loc[(64, "0.1"), column] == "under 1%"


def test_the_layers_table_says_what_is_done_to_a_logit(runs):
    found = mechanism.layer_table(tables.select(runs, LITE))
    with_layer = {arm for arm in {**grids.ARMS, **grids.MECHANISM_ARMS} if arm.startswith("final BN")}
    assert set(found["arm"]) == with_layer
    row = found.iloc[0]
    layer = torch.nn.BatchNorm1d(2).eval()
    with torch.no_grad():
        for name, value in (("running_mean", 3.0), ("running_var", 1.5), ("weight", 1.1), ("bias", 0.2)):
            getattr(layer, name).fill_(value)
        low, high = layer(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))[:, 0].tolist()
    assert (row["logit of the class"], row["runs"]) == ("large", 3)
    assert (row["multiplied by"], row["then shifted by"]) == (f"{high - low:.2f}", f"{low:+.2f}")


def test_the_table_of_leaves_sets_both_splits_beside_each_other(runs, frame):
    found = mechanism.leakage_table(runs, frame).set_index(["network", "plant", "split"])
    assert "pepper" not in found.index.get_level_values("plant"), "its leaves are unknown"
    column = "test healthy images whose leaf is in training"
    assert found.loc[(LITE, "apple", "random"), column] == "93%"
    assert found.loc[(LITE, "apple", "leaf-grouped"), column] == "0%"
    grouped = tables.select(frame, f"{LITE}, leaf-grouped split")
    gain = t_text(values(grouped, "final BN"), values(grouped, "plain"))
    assert found.loc[(LITE, "apple", "leaf-grouped"), "gain of the layer"] == gain
