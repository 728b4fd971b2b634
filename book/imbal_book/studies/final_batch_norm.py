"""A batch-normalisation layer after the last layer, for a rare class (Kocaman, Shir and Bäck, 2020).

Every run trains one network on healthy and diseased leaves, 1,000 to 10, and tests it on as many of each. The
layer, a weighted loss and both together are the paper's arms; more arms and readouts ask by what mechanism the
layer works: is it more than a shift of the threshold, and does it matter at inference?
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import TrainedRun, train_run
from imbal_book.studies.rare_class_scores import (
    RARE,
    class_margins,
    epoch_scores,
    long_scores,
    rare_margin,
    readout_scores,
)
from imbal_core.data.splits import Split, shared_groups
from imbal_core.losses.functional import adjust_logits
from imbal_core.models.heads import FinalBatchNorm
from imbal_core.models.networks import LOGITS_BEFORE_FINAL_BATCH_NORM
from imbal_core.post_hoc import fit_temperature, shifted_threshold

PLANTS = ("apple", "pepper", "tomato")
#: The paper's arms -> what they change in a plain run.
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "final BN": {"final_batch_norm": True},
    "weighted loss": {"loss": "inverse-frequency"},
    "final BN + weighted loss": {"final_batch_norm": True, "loss": "inverse-frequency"},
}
#: Arms that take the layer apart, or do without it what it may do.
MECHANISM_ARMS: dict[str, dict[str, Any]] = {
    "final BN, no affine": {"final_batch_norm": True, "final_batch_norm_affine": False},
    "final BN, momentum 0.1": {"final_batch_norm": True, "final_batch_norm_momentum": 0.1},
    "logit adjustment": {"loss": "logit-adjustment"},
    "label smoothing": {"loss": "label-smoothing"},
}
EVERY_ARM = ARMS | MECHANISM_ARMS
#: What the book calls the networks.
NETWORKS = {
    "small_cnn": "small network",
    "timm:tf_efficientnet_lite0": "EfficientNet-Lite0",
    "vgg19": "VGG19",
    "resnet34": "ResNet34",
}
BASE_BATCH_SIZE = 64
BASE_IMBALANCE = "1000:10"  # as `frame` calls it
F1_LEVEL = 0.9  # the F1 whose first epoch counts as reached; see `always_rare` for what it must exceed
#: What follows the name of a network whose head starts as timm draws it.
OWN_START = " (timm's start)"
_PAPER_RATIO = "rare-1000-10-150-7"
#: Without batch norm inside a network bears less. Of 1e-4 and 3e-4, and for SGD of 1e-2 and 3e-2, the rate with the
#: lower validation loss of the plain arm (apple, the first pair of seeds).
_FOLDED: dict[str, Any] = {"fold_batch_norm": True, "learning_rate": 3e-4}
#: The optimizer of profile paper.
_SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 3e-2, "weight_decay": 5e-4}
_SOFTMAX, _REMOVED = "softmax", "removed at inference"


#: (split seed, training seed): four draws with two trainings each. Every beginning of the list has as many of the
#: one kind and of the other as it can, so that a grid that stops early still tells the two variances apart.
PAIRS = ((0, 0), (1, 1), (2, 0), (3, 1), (0, 1), (1, 0), (2, 1), (3, 0))
#: Timm's own start has runs of these pairs, for a split and its training shared their seed.
_OWN_PAIRS = ((0, 0), (1, 1), (2, 2))
_BOTH = ("plain", "final BN")
_BASE = RunConfig(
    study="final_batch_norm",
    profile="smoke",
    dataset="mnist5k-8",
    imbalance=_PAPER_RATIO,
    model="small_cnn",
    epochs=5,
    optimizer="adamw",
    learning_rate=0.006,
    schedule="one-cycle",
    batch_size=BASE_BATCH_SIZE,
    head_start="linear",
)
_LAPTOP: dict[str, Any] = {
    "profile": "laptop",
    "model": "timm:tf_efficientnet_lite0",
    "pretrained": True,
    "image_size": 128,
    "epochs": 6,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "augment": "flip",
}
#: The paper's networks at 224 pixels; optimiser, rate, batch and augmentation are our choice.
_PAPER: dict[str, Any] = {
    "profile": "paper",
    "pretrained": True,
    "image_size": 224,
    "epochs": 10,
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "augment": "flip",
    "precision": "bf16",
    "float32_head": True,
}
#: Questions beside the paper's arms: a split by leaf, other imbalances, other batch sizes.
_SIDE_QUESTIONS: tuple[dict[str, Any], ...] = (
    {"split_groups": True},
    *({"imbalance": f"rare-1000-{rare}-150-7"} for rare in (100, 33, 3)),
    *({"batch_size": size} for size in (16, 256)),
)


def _of_plants(**changes: Any) -> list[RunConfig]:
    return [dataclasses.replace(_BASE, dataset=f"plantvillage-{plant}", **changes) for plant in PLANTS]


def _runs(
    bases: Iterable[RunConfig], arms: Iterable[str], pairs: Iterable[tuple[int, int]]
) -> list[RunConfig]:
    """Return every base with every arm, pair by pair."""
    return [
        dataclasses.replace(base, split_seed=split_seed, train_seed=train_seed, **EVERY_ARM[arm])
        for split_seed, train_seed in pairs
        for base, arm in itertools.product(bases, arms)
    ]


def _laptop() -> list[RunConfig]:
    """Return the runs that two CPU cores finish: the paper's arms first, then what explains them.

    The runs with timm's own start of the head come last: they show what that start does to the plain arm.
    """
    plants, few = _of_plants(**_LAPTOP), PAIRS[:5]
    runs = _runs(plants, ARMS, PAIRS) + _runs(plants, _BOTH, _OWN_PAIRS[2:])
    runs += _runs(plants[:1], MECHANISM_ARMS, few)
    runs += _runs(_of_plants(**_LAPTOP | _FOLDED), _BOTH, few)
    runs += _runs(_of_plants(**_LAPTOP | _SGD)[:1], _BOTH, few)
    runs += _side_questions(plants[0], PAIRS[:3])
    own = _of_plants(**_LAPTOP, head_start="own")
    runs += _runs(own, ARMS, _OWN_PAIRS) + _runs(own[:1], MECHANISM_ARMS, _OWN_PAIRS)
    return runs + _side_questions(own[0], _OWN_PAIRS)


def _side_questions(base: RunConfig, pairs: Iterable[tuple[int, int]]) -> list[RunConfig]:
    return [
        run
        for changes in _SIDE_QUESTIONS
        for run in _runs([dataclasses.replace(base, **changes)], _BOTH, pairs)
    ]


def _paper() -> list[RunConfig]:
    pairs = [(split_seed, train_seed) for train_seed in range(2) for split_seed in range(5)]
    bases = [base for model in ("vgg19", "resnet34") for base in _of_plants(**_PAPER, model=model)]
    by_leaf = [dataclasses.replace(base, split_groups=True) for base in bases]
    parts = ((bases, ARMS), (by_leaf, _BOTH), (bases, MECHANISM_ARMS))
    return [run for group, arms in parts for base in group for run in _runs([base], arms, pairs)]


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study in profile "smoke", "laptop" or "paper", those most worth having first."""
    return {"smoke": lambda: _runs([_BASE], ARMS, PAIRS[:2]), "laptop": _laptop, "paper": _paper}[profile]()


def arm(config: RunConfig) -> str:
    """Return the arm that a run belongs to; a ValueError says that none has its loss and its final layer."""
    names = ("loss", "final_batch_norm", "final_batch_norm_affine", "final_batch_norm_momentum")
    found = {name: getattr(config, name) for name in names}
    for name, changes in EVERY_ARM.items():
        if not config.loss_options and found == {key: getattr(_BASE, key) for key in names} | changes:
            return name
    raise ValueError(f"no arm of final_batch_norm has {found} with {dict(config.loss_options)}")


def form(config: RunConfig) -> str:
    """Return the network, and what else differs from the paper's arms: the batch size, a grouped split."""
    own = config.model.startswith("timm:") and config.head_start == "own"
    parts = {
        NETWORKS.get(config.model, config.model) + (OWN_START if own else ""): True,
        f"batch {config.batch_size}": config.batch_size != BASE_BATCH_SIZE,
        "leaf-grouped split": config.split_groups,
        "batch norms folded": config.fold_batch_norm,
        "SGD": config.optimizer == "sgd" and config.profile == "laptop",
    }
    return ", ".join(part for part, there in parts.items() if there)


def measure(prepared: PreparedRun, **options: Any) -> dict[str, Any]:
    """Return the measurements of one run of two classes, the second rare.

    ``train_counts``, ``valid_counts``, ``test_counts``; ``history``, `rare_class_scores.epoch_scores` of validation and
    test images after every epoch; ``readouts``, `rare_class_scores.readout_scores` of "softmax"; with the layer of
    "removed at inference", the logits before it; without it of "logit adjusted" by the training counts; and of what
    validation images choose: "temperature", "threshold moved" to their best F1, and "balanced threshold", to their best
    F1 if both classes were equally frequent, as they are in the test. ``thresholds`` and ``temperature`` are what was
    chosen; ``margins``, `rare_class_scores.class_margins` of "softmax" and "removed at inference", of "test" and
    "valid"; ``layer``, what the final layer has learnt, a number per class; ``shared_groups``, see `leaf_leakage`, of a
    data set that knows which leaf an image shows.
    """
    run = train_run(prepared, score=epoch_scores, score_on=("valid", "test"), **options)
    taps = {_SOFTMAX: "logits"}
    if prepared.config.final_batch_norm:
        taps[_REMOVED] = LOGITS_BEFORE_FINAL_BATCH_NORM
    found = {side: _logits(run, side, taps) for side in ("test", "valid") if len(run.sides[side][1])}
    labels, logits = run.sides["test"][1], found["test"][_SOFTMAX]
    measurements = run.measurements()
    measurements["margins"] = {
        name: {side: class_margins(run.sides[side][1], found[side][name]) for side in found} for name in taps
    }
    readouts = {name: readout_scores(labels, found["test"][name]) for name in taps}
    if _REMOVED in taps:
        measurements["layer"] = _layer(run)
    else:
        readouts["logit adjusted"] = readout_scores(labels, adjust_logits(logits, prepared.train_counts))
    if "valid" in found:
        measurements |= (chosen := _chosen_on_validation(run.sides["valid"][1], found["valid"][_SOFTMAX]))
        for name, threshold in chosen["thresholds"].items():
            readouts[name] = readout_scores(labels, logits - np.where(np.arange(2) == RARE, threshold, 0))
        readouts["temperature"] = readout_scores(labels, logits / chosen["temperature"])
    measurements["readouts"] = readouts
    if (groups := prepared.train.groups) is not None:
        measurements["shared_groups"] = leaf_leakage(prepared.split, prepared.train.labels, groups)
    return measurements


def leaf_leakage(split: Split, labels: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return how many test images show a leaf that is also in training.

    Of a split whose test images are drawn from the pool, with the classes and the leaves (N,) of the pool:
    `imbal_core.data.splits.shared_groups`, less what is undefined without validation images, and ``test_by_class``, the
    share among the test images of each class.
    """
    shares: dict[str, Any] = {k: v for k, v in shared_groups(split, groups).items() if np.isfinite(v)}
    of_class = [split.test[labels[split.test] == k] for k in range(2)]
    shares["test_by_class"] = [
        shared_groups(Split(split.train, split.valid, test), groups)["test"] for test in of_class
    ]
    return shares


def _logits(run: TrainedRun, side: str, taps: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return float64 logits (N, 2) of one side for each readout, by what the network calls them."""
    found = run.predict(side, [tap for tap in taps.values() if tap != "logits"])
    return {name: found[tap].astype(np.float64) for name, tap in taps.items()}


def _layer(run: TrainedRun) -> dict[str, list[float]]:
    """Return running mean and variance, scale and shift of the final layer; 1 and 0 where it has none to learn."""
    norm = run.network.final_batch_norm
    assert isinstance(norm, FinalBatchNorm)
    parts: dict[str, Tensor | None] = {name: getattr(norm, name) for name in ("running_mean", "running_var")}
    parts["weight"] = torch.ones(norm.num_features) if norm.weight is None else norm.weight
    parts["bias"] = torch.zeros(norm.num_features) if norm.bias is None else norm.bias
    return {name: values.detach().double().tolist() for name, values in parts.items() if values is not None}


def _chosen_on_validation(targets: np.ndarray, chosen_on: np.ndarray) -> dict[str, Any]:
    """Return the thresholds and the temperature that labels (N,) and logits (N, 2) of validation images set."""
    margin, rare = rare_margin(chosen_on), targets == RARE
    moved = {"threshold moved": False, "balanced threshold": True}
    thresholds = {name: shifted_threshold(margin, rare, balanced=own) for name, own in moved.items()}
    return {"thresholds": thresholds, "temperature": fit_temperature(chosen_on, targets)}


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all arms and readouts in long form, see `imbal_book.run.long_frames.score_frame`.

    A readout is an arm, or "ARM, READOUT". Metrics are those of `rare_class_scores.long_scores`; of an arm itself also
    epochs_to_f1, see `epochs_to`. Two more readouts of an arm have f1_minority only: "epoch of best F1" and "epoch of
    lowest loss", both chosen on validation images, the first such epoch of several.
    """
    return long_frames.score_frame(records, describe, _readouts, _values)


def _readouts(
    _: Mapping[str, Any], arm: str, measured: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for readout, scores in measured["readouts"].items():
        yield arm if readout == _SOFTMAX else f"{arm}, {readout}", scores
    history = measured["history"]
    if "valid_f1_minority" in history:
        epochs = {"best F1": np.argmax(history["valid_f1_minority"])}
        epochs["lowest loss"] = np.argmin(history["valid_loss"])
        for choice, epoch in epochs.items():
            yield f"{arm}, epoch of {choice}", {"f1_minority": history["test_f1_minority"][epoch]}


def _values(readout: str, scores: Mapping[str, Any], measured: Mapping[str, Any]) -> Mapping[str, float]:
    if "confusion" not in scores:
        return scores
    own = {"epochs_to_f1": epochs_to(measured["history"]["test_f1_minority"])} if readout in EVERY_ARM else {}
    return {**long_scores(scores), **own}


def always_rare(test_counts: Sequence[int]) -> float:
    """Return the F1 of calling every test image rare, of (large, rare) test counts: 2/3 on a balanced test."""
    others, rare = test_counts
    return 2 * rare / (2 * rare + others)


def epochs_to(f1: Sequence[float], level: float = F1_LEVEL) -> int:
    """Return the first epoch, from 1, with at least that F1; one more than all where there is none."""
    return next((epoch for epoch, value in enumerate(f1, 1) if value >= level), len(f1) + 1)


def epoch_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the history of every run, see `imbal_book.run.long_frames.epoch_frame`."""
    return long_frames.epoch_frame(records, describe)


def describe(config: RunConfig) -> dict[str, str]:
    """Return what the book calls a run: its arm, its form, and its imbalance, such as "1000:10"."""
    majority, rare = config.imbalance.split("-")[1:3]
    return {"arm": arm(config), "form": form(config), "imbalance": f"{majority}:{rare}"}
