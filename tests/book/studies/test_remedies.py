import dataclasses
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from imbal_book.heads import LENGTHS
from imbal_book.heads.remedies import FURTHER, REMEDIES
from imbal_book.run.long_frames import records_frame
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.run.prepared import prepare
from imbal_book.run.record_format import Record
from imbal_book.run.trained import train_run
from imbal_book.studies import PROFILES, build_grid, remedies
from imbal_book.studies.grids import remedies as grids

CPU = torch.device("cpu")


def test_every_cell_has_every_draw_and_whole_draws_come_first():
    runs = build_grid("remedies", "laptop")
    cells = Counter((c.dataset, c.imbalance) for c in runs)
    assert cells.pop(("cifar100", "exponential-100")) == grids.FEW_DRAWS
    assert len(cells) == 5 and set(cells.values()) == {grids.DRAWS}
    assert [c.split_seed for c in runs[:50]] == sorted(c.split_seed for c in runs[:50])
    assert all(c.frozen and c.split_seed == c.train_seed for c in runs)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_run_has_an_arm_and_the_trained_ones_pair_with_cross_entropy(profile):
    runs = build_grid("remedies", profile)
    arms = Counter((c.dataset, c.split_seed, grids.arm(c)) for c in runs if not c.frozen)
    pairs = {key[:2] for key in arms}
    assert all(arms[(*pair, "cross entropy")] == 1 for pair in pairs)
    assert {grids.arm(c) for c in runs} <= set(grids.ARMS)
    if profile == "paper":
        assert {key[2] for key in arms} == set(grids.ARMS) and len(pairs) == 10


def features_of(*sizes):
    return [(np.random.default_rng(size).normal(size=(size, 3)), np.arange(size) % 2) for size in sizes]


def test_what_measures_never_chooses_and_heads_choose_on_images_that_they_did_not_see():
    train, none, test = features_of(40, 0, 12)
    table, labels, parts = remedies.inner_parts({"train": train, "valid": none, "test": test}, 2, seed=3)
    assert np.array_equal(parts.train[0], np.arange(40)) and np.array_equal(
        parts.measure[0], np.arange(40, 52)
    )
    np.testing.assert_array_equal(table[40:], test[0])
    assert len(parts.fit[0]) == 2
    for fit, held in zip(parts.fit[0], parts.validation[0], strict=True):
        assert sorted([*fit, *held]) == list(range(40))
        assert np.bincount(labels[held]).tolist() == [5, 5]
    many, _, _ = features_of(4100, 0, 12)
    assert len(remedies.inner_parts({"train": many, "valid": none, "test": test}, 2, 0)[2].fit[0]) == 1


def test_validation_images_of_the_split_choose_where_there_are_any():
    train, valid, test = features_of(40, 10, 12)
    _, labels, parts = remedies.inner_parts({"train": train, "valid": valid, "test": test}, 2, seed=0)
    assert np.array_equal(parts.fit[0][0], np.arange(40))
    assert np.array_equal(parts.validation[0][0], np.arange(40, 50))
    assert np.array_equal(labels[parts.measure[0]], test[1])


@pytest.fixture(scope="module")
def measured():
    """Return one run on the digits, prepared and measured."""
    prepared = prepare(dataclasses.replace(build_grid("remedies", "smoke")[0], epochs=1))
    return prepared, remedies.measure(prepared, device=CPU, progress=False)


def test_every_remedy_is_measured_on_every_test_image(measured):
    prepared, found = measured
    assert set(found["readouts"]) >= {*REMEDIES, *FURTHER, "logistic", "network"}
    for packed in found["readouts"].values():
        hits, taken = unpack_rows(packed)
        assert taken.sum() == sum(found["test_counts"]) == len(prepared.split.test)
        assert (hits <= found["test_counts"]).all() and (hits <= taken).all()


def test_the_networks_own_readout_is_that_of_a_second_training(measured):
    prepared, found = measured
    run = train_run(prepared, device=CPU, progress=False)
    predicted, labels = run.predict("test")["logits"].argmax(1), run.sides["test"][1]
    hits, taken = unpack_rows(found["readouts"]["network"])
    assert hits.tolist() == [int(((predicted == k) & (labels == k)).sum()) for k in range(10)]
    assert taken.tolist() == [int((predicted == k).sum()) for k in range(10)]


def test_what_was_chosen_is_the_best_on_validation_images(measured):
    _, found = measured
    assert set(found["chosen"]) == set(found["validation"])
    for name, (_, steps) in found["chosen"].items():
        scores = unpack_rows(found["validation"][name])
        assert scores.shape == (3, 3)
        assert scores[:, LENGTHS.index(steps)].max() == scores.max(), name


def record(measured, **fields):
    config = dataclasses.replace(build_grid("remedies", "laptop")[0], **fields)
    return Record("0" * 16, config.to_dict(), {}, "0" * 64, measured, {})


def test_scores_are_those_of_the_recalls_and_the_priors():
    measured = {
        "train_counts": [90, 9, 1],
        "test_counts": [10, 10, 10],
        "readouts": {"plain": ["10 5 1", "20 8 2"]},
    }
    frame = remedies.frame(records_frame([record(measured)]))
    found = frame.set_index("metric")["value"].to_dict()
    expected = {
        "balanced": 1.6 / 3,
        "recall_few": 0.3,
        "recall_many": 1.0,
        "worst": 0.1,
        "as trained": 0.9 + 0.09 * 0.5 + 0.01 * 0.1,
        "reversed": 0.01 + 0.09 * 0.5 + 0.9 * 0.1,
    }
    assert found == pytest.approx(expected)
    assert set(frame["readout"]) == {"plain"} and set(frame["form"]) == {"frozen features"}
    labels = remedies.label_frame(records_frame([record(measured)]))
    assert labels["recall"].tolist() == [1.0, 0.5, 0.1]


def test_a_trained_network_is_named_by_what_it_was_trained_with():
    measured = {"train_counts": [9, 1], "test_counts": [2, 2], "readouts": {"network": ["2 1", "3 1"]}}
    frame = remedies.frame(records_frame([record(measured, frozen=False, loss="balanced-softmax")]))
    assert set(frame["readout"]) == {"network, balanced softmax"}
    assert set(frame["form"]) == {"trained network"}


def test_each_length_of_training_has_its_validation_score():
    measured = {
        "readouts": {}, "chosen": {"plain": [6.0, 20]},
        "validation": {"plain": ["0.5 0.6 0.7", "0.6 0.8 0.7", "0.1 0.1 0.1"]},
    }  # fmt: skip
    frame = remedies.setting_frame(records_frame([record(measured)]))
    assert frame["value"].tolist() == [0.6, 0.8, 0.7]
    assert frame["chosen"].tolist() == [False, True, False]
    assert isinstance(frame, pd.DataFrame)
