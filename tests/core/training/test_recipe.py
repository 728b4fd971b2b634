"""The recipe: its digest never changes, and what it would ignore is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
from tiny_training import BASE, config

from imbal_book.run.config import RunConfig


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "ef5c381fc3560189"),
        ({"train_seed": 2, "sampler": "over-sample", "precision": "bf16"}, "d85fdabd642f0a18"),
        (
            {"schedule": "step", "milestones": (1, 2), "optimizer": "adamw", "learning_rate": 1e-3},
            "5afdd1bea35644a9",
        ),
        ({"loss": "cce", "loss_options": {"form": "released"}}, "517d4c9b8a756d47"),
    ],
)
def test_digests_never_change(options, digest):
    assert RunConfig(**{**BASE, **options}).digest() == digest


def test_defaults_never_change():
    assert RunConfig(**BASE).to_dict() == {
        **BASE,
        "imbalance_scale": 1.0,
        "split_seed": 0,
        "train_seed": 0,
        "pretrained": False,
        "frozen": False,
        "image_size": None,
        "dropout": None,
        "loss": "cross-entropy",
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "milestones": [],
        "decay": 0.1,
        "warmup_epochs": 0,
        "batch_size": 128,
        "sampler": "shuffle",
        "epoch_images": None,
        "augment": "none",
        "precision": "fp32",
        "channels_last": True,
        "compile": False,
        "loss_options": {},
        "final_batch_norm": False,
        "final_batch_norm_momentum": 0.01,
        "final_batch_norm_affine": True,
        "split_groups": False,
        "valid_share": 0.0,
        "head_start": "own",
        "float32_head": False,
        "score_every": 1,
        "fold_batch_norm": False,
    }


def test_loss_options_at_the_default_of_the_loss_are_no_options():
    plain = config(loss="cce")
    assert config(loss="cce", loss_options={"gamma": -1, "form": "paper"}) == plain
    other = config(loss="cce", loss_options={"gamma": np.float64(-2), "form": "released"})
    assert other == config(loss="cce", loss_options=(("form", "released"), ("gamma", -2)))
    assert other.digest() == RunConfig.from_dict(json.loads(json.dumps(other.to_dict()))).digest()
    assert "cce form released gamma -2.0" in other.label()


def test_config_survives_json_and_equal_values_share_a_digest():
    made = config(schedule="step", milestones=[1, np.int64(2)], learning_rate=1, dropout=np.float64(0))
    again = RunConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert hash(again) == hash(made)
    assert (
        made.digest() == config(schedule="step", milestones=(1, 2), learning_rate=1.0, dropout=0.0).digest()
    )
    assert made.digest() != dataclasses.replace(made, train_seed=1).digest()


def test_a_mistyped_field_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        RunConfig.from_dict({**BASE, "learnin_rate": 0.1})
    with pytest.raises(ValueError, match="needs model"):
        RunConfig.from_dict({k: v for k, v in BASE.items() if k != "model"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "focall"}, "unknown loss"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"sampler": "oversample"}, "did you mean 'over-sample'"),
        ({"augment": "crop"}, "unknown augment"),
        ({"precision": "fp16"}, "unknown precision"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0}, r"learning_rate must lie in \(0, inf\)"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"imbalance_scale": 0}, "imbalance_scale"),
        ({"train_seed": -1}, "train_seed"),
        ({"study": "a/b"}, "names a folder"),
        ({"profile": "../x"}, "names a folder"),
        ({"dataset": " "}, "dataset must not be empty"),
        ({"milestones": (1,)}, "milestones"),
        ({"schedule": "step"}, "never steps"),
        ({"schedule": "step", "milestones": (2, 1)}, "increase"),
        ({"schedule": "step", "milestones": (3,)}, "never reached"),
        ({"decay": 0.5}, "decay"),
        ({"warmup_epochs": 3}, "fills all"),
        ({"schedule": "one-cycle", "warmup_epochs": 1}, "warms up by itself"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov"),
        ({"nesterov": True, "momentum": 0}, "nesterov"),
        ({"frozen": True}, "pretrained"),
        ({"frozen": True, "pretrained": True, "augment": "flip"}, "frozen"),
        ({"frozen": True, "pretrained": True, "dropout": 0.5}, "dropout"),
        ({"loss": "complement-entropy"}, "unknown loss"),
        ({"loss_options": {"gamma": 1.0}}, "unknown option of loss 'cross-entropy'"),
        ({"loss": "cce", "loss_options": {"form": "realised"}}, "did you mean 'released'"),
        ({"loss": "focal", "loss_options": {"gamma": -1}}, "gamma"),
        ({"loss": "cce", "loss_options": {"reduction": "sum"}}, "always the mean"),
        ({"loss": "ldam", "loss_options": {"reweight_from": 3}}, "before 'reweight_from'"),
        ({"final_batch_norm_momentum": 0.1}, "only final_batch_norm=True"),
        ({"final_batch_norm_affine": False}, "only final_batch_norm=True"),
        ({"final_batch_norm": True, "final_batch_norm_momentum": 0}, "final_batch_norm_momentum"),
        ({"valid_share": 1.0}, "valid_share"),
        ({"head_start": "lineer"}, "did you mean 'linear'"),
        ({"head_start": "linear", "pretrained": True, "frozen": True}, "head_start"),
        ({"head_start": "linear", "loss": "ldam"}, "cosine classifier"),
        ({"float32_head": True}, "float32_head"),
        ({"score_every": 0}, "score_every must be at least 1"),
        ({"score_every": 4}, "more than all 3 epochs"),
        ({"fold_batch_norm": True}, "without pretrained=True"),
        ({"fold_batch_norm": True, "pretrained": True, "frozen": True}, "frozen features are the same"),
    ],
)
def test_wrong_and_idle_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": True},
        {"epochs": 2.0},
        {"split_seed": "1"},
        {"frozen": 1},
        {"learning_rate": "0.1"},
        {"model": 3},
        {"milestones": 2},
        {"milestones": "12"},
    ],
)
def test_wrong_types_are_refused(options):
    with pytest.raises(TypeError):
        config(**options)


def test_label_names_the_run():
    text = config(sampler="over-sample", pretrained=True, train_seed=4).label()
    assert text == "mnist5k step-10, tiny fine-tuned, over-sample, seeds 0/4"
