"""The study of complement cross entropy: its grids, what is measured on one network, and its long frames."""

import dataclasses

import measured_runs
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score

from imbal_book.grid import batch
from imbal_book.studies import PROFILES, build_grid
from imbal_book.studies import complement_cross_entropy as study
from imbal_book.studies.grids import complement_cross_entropy as grids
from imbal_core import metrics
from imbal_core.data.class_counts import counts_from_name

CPU = torch.device("cpu")
NAME = "complement_cross_entropy"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_arm_of_a_pair_of_seeds_shares_all_but_its_loss(profile):
    plain = dict(loss="cross-entropy", loss_options=())
    cells = {}
    for config in build_grid(NAME, profile):
        cells.setdefault(dataclasses.replace(config, **plain), []).append(grids.arm(config))
    assert all(sorted(arms) == sorted(grids.ARMS) for arms in cells.values())


def test_the_paper_profile_has_the_recipe_of_the_literature():
    grid = build_grid(NAME, "paper")
    assert {c.model for c in grid} == {"resnet32", "resnet34_small"}
    recipe = {
        (
            c.epochs,
            c.learning_rate,
            c.warmup_epochs,
            c.milestones,
            c.decay,
            c.weight_decay,
            c.batch_size,
            c.augment,
        )
        for c in grid
    }
    assert recipe == {(200, 0.1, 5, (160, 180), 0.01, 2e-4, 128, "crop-flip")}
    assert {(c.float32_head, c.score_every) for c in grid} == {(True, 5)}
    deferred = {dict(c.loss_options)["reweight_from"] for c in grid if grids.arm(c) == "LDAM-DRW"}
    assert deferred == {160}


def test_every_cell_of_the_paper_profile_has_independent_pairs_and_a_square_of_draws_and_trainings():
    cells = {}
    for config in build_grid(NAME, "paper"):
        cell = cells.setdefault((config.model, config.dataset, config.imbalance, grids.arm(config)), [])
        cell.append((config.split_seed, config.train_seed))
    for pairs in cells.values():
        assert len(set(pairs)) == len(pairs)
        free = [pair for pair in pairs if pair[0] == pair[1]]
        assert len(free) >= 3, "three pairs share nothing"
        assert {(0, 0), (0, 1), (1, 0), (1, 1)} <= set(pairs), "the two variances can be told apart"


def test_the_paper_profile_begins_with_what_the_claims_and_the_published_numbers_need():
    grid = build_grid(NAME, "paper")
    places = list(dict.fromkeys((c.model, c.dataset, c.imbalance) for c in grid))
    assert places[0] == ("resnet32", "cifar10", "exponential-100")
    blocks = list(dict.fromkeys(grids.arm(c) for c in grid if (c.model, c.dataset, c.imbalance) == places[0]))
    assert blocks[:5] == ["CE", "CCE (paper)", "CCE (released)", "Balanced softmax", "LDAM-DRW"]
    first = grid[: 3 * 3]
    assert {grids.arm(c) for c in first} == set(blocks[:3])
    assert len({(c.split_seed, c.train_seed) for c in first}) == 3 and all(
        c.split_seed == c.train_seed for c in first
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_a_grid_without_validation_images_is_known_to_have_no_tau(profile):
    for config in build_grid(NAME, profile):
        assert grids.has_tau(config) is (profile != "paper")


def test_the_laptop_profile_gives_both_kinds_of_imbalance_as_many_images_and_five_seeds():
    grid = build_grid(NAME, "laptop")
    totals = {}
    for config in grid:
        train, valid = counts_from_name(
            config.imbalance, [5000] * 10, scale=config.imbalance_scale, valid_share=config.valid_share
        )
        totals[config.imbalance] = int(train.sum())
        assert (train + valid <= 5000).all()
        assert (valid > 0).all()
    assert totals["exponential-100"] == pytest.approx(totals["step-10"], rel=0.05)
    assert {c.train_seed for c in grid} == set(range(5))
    assert {grids.arm(c) for c in grid[: len(grid) // 3]} == {"CE", "CCE (paper)", "CCE (released)"}


def test_a_loss_of_no_arm_is_named():
    config = dataclasses.replace(build_grid(NAME, "smoke")[0], loss="focal", loss_options={"gamma": 1.0})
    with pytest.raises(ValueError, match="no arm of complement_cross_entropy has loss='focal'"):
        grids.arm(config)


@pytest.fixture(scope="module")
def measured(tiny_config, tiny_data):
    """Return, for two losses: the trained run, and the measurements."""
    found = {}
    for loss in ("cross-entropy", "cce"):
        config = tiny_config(imbalance="exponential-4", imbalance_scale=0.5, valid_share=0.25, loss=loss)
        found[loss] = measured_runs.measured(study, batch.prepare(config, root=tiny_data[1]))
    return found


@pytest.mark.parametrize("loss", ["cross-entropy", "cce"])
def test_the_softmax_is_measured_on_the_test_images(measured, loss):
    run, found = measured[loss]
    labels = run.sides["test"][1]
    logits = run.predict("test")["logits"].astype(np.float64)
    predicted = logits.argmax(1)
    scores = found["readouts"]["softmax"]
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    recall = recall_score(labels, predicted, labels=range(10), average=None, zero_division=0)
    np.testing.assert_allclose(scores["recall"], recall)
    assert found["history"]["test_accuracy"][-1] == pytest.approx(scores["accuracy"])
    assert found["history"]["test_recall_few"][-1] == pytest.approx(np.mean(recall[5:]))
    for label in range(10):
        p_true, entropy = [], []
        for row in logits[labels == label]:
            p = np.exp(row - row.max())
            p /= p.sum()
            wrong = np.delete(p, label) / np.delete(p, label).sum()
            p_true.append(p[label])
            entropy.append(-(wrong * np.log(wrong)).sum())
        assert found["p_true"][label] == pytest.approx(np.mean(p_true))
        assert found["wrong_class_entropy"][label] == pytest.approx(np.mean(entropy))


def test_only_the_network_of_cross_entropy_is_read_by_other_remedies(measured):
    assert set(measured["cce"][1]["readouts"]) == {"softmax"}
    assert set(measured["cross-entropy"][1]["readouts"]) == {"softmax", *study.POST_HOC}


def test_other_remedies_never_see_test_labels(measured):
    """Each remedy's prediction, from its formula on the trained network's own features."""
    run, found = measured["cross-entropy"]
    labels = run.sides["test"][1]
    tap = run.network.embedding_tap
    test, valid, train = (run.predict(side, (tap,)) for side in ("test", "valid", "train"))
    weight = run.network.classifier().weight.detach().numpy()
    expected = {"CE, logit adjusted": (test["logits"] - np.log(run.prepared.train_counts)).argmax(1)}
    lengths = np.linalg.norm(weight, axis=1)
    scores = {
        tau / 10: metrics.balanced_accuracy(
            metrics.confusion_counts(
                run.sides["valid"][1], (valid[tap] @ weight.T / lengths ** (tau / 10)).argmax(1), 10
            )
        )
        for tau in range(21)
    }
    assert scores[found["tau"]] == pytest.approx(max(scores.values()))
    expected["CE, tau-normalised"] = (test[tap] @ weight.T / lengths ** found["tau"]).argmax(1)
    unit = train[tap] / np.linalg.norm(train[tap], axis=1, keepdims=True)
    centers = np.stack([unit[run.sides["train"][1] == k].mean(0) for k in range(10)])
    query = test[tap] / np.linalg.norm(test[tap], axis=1, keepdims=True)
    distances = ((query[:, None] - centers[None]) ** 2).sum(2)
    expected["CE, category centers"] = distances.argmin(1)
    for name, predicted in expected.items():
        assert found["readouts"][name]["accuracy"] == pytest.approx(accuracy_score(labels, predicted)), name


def row(key, counts, readouts, loss="cross-entropy", **options):
    config = dataclasses.replace(
        build_grid(NAME, "laptop")[0], loss=loss, loss_options=tuple(options.items())
    )
    values = [0.25] * len(counts)
    measurements = {
        "train_counts": counts,
        "readouts": {n: {"accuracy": np.mean(r), "recall": r, "precision": r} for n, r in readouts.items()},
        "p_true": values,
        "wrong_class_entropy": values,
        "history": {"test_accuracy": [0.1, 0.75, 0.5]},
    }
    return {"key": key, "config": config, **config.to_dict(), "measurements": measurements}


def test_frames_name_arms_and_readouts_and_average_over_the_rarer_half():
    records = pd.DataFrame(
        [
            row(
                "a",
                [40, 30, 20, 10],
                {"softmax": [0.9, 0.7, 0.4, 0.2], "CE, logit adjusted": [0.8, 0.6, 0.6, 0.4]},
            ),
            row("b", [40, 30, 20, 10], {"softmax": [1.0, 1.0, 0.0, 0.0]}, "cce", form="released"),
        ],
        dtype=object,
    )
    long = study.frame(records).set_index(["readout", "metric"])["value"]
    assert long["CE"].round(9).to_dict() == {
        "accuracy": 0.55,
        "recall_few": 0.3,
        "recall_many": 0.8,
        "precision": 0.55,
        "p_true": 0.25,
        "p_true_few": 0.25,
        "wrong_class_entropy": 0.25,
        "best_test_accuracy": 0.75,
    }
    assert long["CE, logit adjusted"].round(9).to_dict() == {
        "accuracy": 0.6,
        "recall_few": 0.5,
        "recall_many": 0.7,
        "precision": 0.6,
    }
    assert (long["CCE (released)", "recall_few"], long["CCE (released)", "recall_many"]) == (0.0, 1.0)
    first = study.frame(records).iloc[0]
    assert (first["form"], first["imbalance"]) == ("small network", "exponential 100")
    labels = study.label_frame(records)
    assert labels[labels["readout"] == "CE"]["recall"].tolist() == [0.9, 0.7, 0.4, 0.2]
    assert labels["train_count"].tolist()[:4] == [40, 30, 20, 10]
    epochs = study.epoch_frame(records)
    assert epochs[epochs["readout"] == "CE"][["epoch", "value"]].values.tolist() == [
        [1, 0.1],
        [2, 0.75],
        [3, 0.5],
    ]
