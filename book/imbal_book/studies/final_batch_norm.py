"""A batch-normalisation layer after the last layer, for a rare class (Kocaman, Shir and Bäck, 2020).

Every run trains one network on healthy and diseased leaves, 1,000 to 10, and tests it on as many of each. The
layer, a weighted loss and both together are the paper's arms; more arms and readouts ask by what mechanism the
layer works: is it more than a shift of the threshold, and does it matter at inference?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
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

if TYPE_CHECKING:
    from imbal_book.run.prepared import PreparedRun

__all__ = [
    "ARMS",
    "BASE_BATCH_SIZE",
    "BASE_IMBALANCE",
    "MECHANISM_ARMS",
    "NETWORKS",
    "OWN_START",
    "PAIRS",
    "PLANTS",
    "always_rare",
    "arm",
    "describe",
    "epoch_frame",
    "epochs_to",
    "form",
    "frame",
    "grid",
    "leaf_leakage",
    "measure",
]

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
_FOLDED: dict[str, Any] = {"learning_rate": 3e-4}
#: The optimizer of profile paper.
_SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 3e-2, "weight_decay": 5e-4}
_SOFTMAX, _REMOVED = "softmax", "removed at inference"


#: (split seed, training seed): four draws with two trainings each. Every beginning of the list has as many of the
#: one kind and of the other as it can, so that a grid that stops early still tells the two variances apart.
PAIRS = ((0, 0), (1, 1), (2, 0), (3, 1), (0, 1), (1, 0), (2, 1), (3, 0))


def _runs(
    base: RunConfig, arms: Iterable[Mapping[str, Any]], pairs: Iterable[tuple[int, int]]
) -> list[RunConfig]:
    return [
        dataclasses.replace(base, split_seed=split_seed, train_seed=train_seed, **changes)
        for split_seed, train_seed in pairs
        for changes in arms
    ]


def _smoke() -> list[RunConfig]:
    base = RunConfig(
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
    return _runs(base, ARMS.values(), PAIRS[:2])


def _laptop() -> list[RunConfig]:
    """Return the runs that two CPU cores finish: the paper's arms first, then what explains them.

    The runs with timm's own start of the head come last: they show what that start does to the plain arm.
    """
    base = RunConfig(
        study="final_batch_norm",
        profile="laptop",
        dataset="plantvillage-apple",
        imbalance=_PAPER_RATIO,
        model="timm:tf_efficientnet_lite0",
        pretrained=True,
        image_size=128,
        epochs=6,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        schedule="one-cycle",
        batch_size=BASE_BATCH_SIZE,
        augment="flip",
        head_start="linear",
    )
    both = (ARMS["plain"], ARMS["final BN"])
    of_plant = [dataclasses.replace(base, dataset=f"plantvillage-{plant}") for plant in PLANTS]
    folded = [dataclasses.replace(one, fold_batch_norm=True, **_FOLDED) for one in of_plant]
    runs = [run for pair in PAIRS for one in of_plant for run in _runs(one, ARMS.values(), [pair])]
    runs += [run for one in of_plant for run in _runs(one, both, [(2, 2)])]  # timm's start has this pair
    runs += _runs(base, MECHANISM_ARMS.values(), PAIRS[:5])
    runs += [run for pair in PAIRS[:5] for one in folded for run in _runs(one, both, [pair])]
    runs += _runs(dataclasses.replace(base, **_SGD), both, PAIRS[:5])
    own = dataclasses.replace(base, head_start="own")
    return runs + _side_questions(base, PAIRS[:3]) + _own_start(own)


def _side_questions(base: RunConfig, pairs: Iterable[tuple[int, int]]) -> list[RunConfig]:
    """Return plain and final BN under a split by leaf, other imbalances and other batch sizes."""
    both = (ARMS["plain"], ARMS["final BN"])
    changes: list[dict[str, Any]] = [{"split_groups": True}]
    changes += [{"imbalance": f"rare-1000-{rare}-150-7"} for rare in (100, 33, 3)]
    changes += [{"batch_size": size} for size in (16, 256)]
    pairs = list(pairs)
    return [run for change in changes for run in _runs(dataclasses.replace(base, **change), both, pairs)]


def _own_start(base: RunConfig) -> list[RunConfig]:
    """Return the runs whose head starts as timm draws it; split and training share their seed."""
    pairs = [(seed, seed) for seed in range(3)]
    of_plant = [dataclasses.replace(base, dataset=f"plantvillage-{plant}") for plant in PLANTS]
    runs = [run for pair in pairs for one in of_plant for run in _runs(one, ARMS.values(), [pair])]
    return runs + _runs(base, MECHANISM_ARMS.values(), pairs) + _side_questions(base, pairs)


def _paper() -> list[RunConfig]:
    """Return the paper's networks at 224 pixels; optimiser, rate, batch and augmentation are our choice."""
    base = RunConfig(
        study="final_batch_norm",
        profile="paper",
        dataset="plantvillage-apple",
        imbalance=_PAPER_RATIO,
        model="vgg19",
        pretrained=True,
        image_size=224,
        epochs=10,
        learning_rate=1e-3,
        schedule="one-cycle",
        batch_size=BASE_BATCH_SIZE,
        augment="flip",
        precision="bf16",
        head_start="linear",
        float32_head=True,
    )
    pairs = [(split_seed, train_seed) for train_seed in range(2) for split_seed in range(5)]
    both = (ARMS["plain"], ARMS["final BN"])
    bases = [
        dataclasses.replace(base, model=model, dataset=f"plantvillage-{plant}")
        for model in ("vgg19", "resnet34")
        for plant in PLANTS
    ]
    runs = [run for one in bases for run in _runs(one, ARMS.values(), pairs)]
    runs += [run for one in bases for run in _runs(dataclasses.replace(one, split_groups=True), both, pairs)]
    return runs + [run for one in bases for run in _runs(one, MECHANISM_ARMS.values(), pairs)]


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale, in the order in which they are worth having.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
    """
    return {"smoke": _smoke, "laptop": _laptop, "paper": _paper}[profile]()


def arm(config: RunConfig) -> str:
    """Return the arm that a run belongs to.

    Raises
    ------
    ValueError
        If no arm has this loss and this final layer.
    """
    names = ("loss", "final_batch_norm", "final_batch_norm_affine", "final_batch_norm_momentum")
    defaults = {field.name: field.default for field in dataclasses.fields(RunConfig) if field.name in names}
    found = {name: getattr(config, name) for name in names}
    for name, changes in {**ARMS, **MECHANISM_ARMS}.items():
        if not config.loss_options and found == {**defaults, **changes}:
            return name
    raise ValueError(f"no arm of final_batch_norm has {found} with {dict(config.loss_options)}")


def form(config: RunConfig) -> str:
    """Return the network, and what else differs from the paper's arms: the batch size, a grouped split."""
    network = NETWORKS.get(config.model, config.model)
    parts = [
        f"{network}{OWN_START}"
        if config.model.startswith("timm:") and config.head_start == "own"
        else network
    ]
    if config.batch_size != BASE_BATCH_SIZE:
        parts.append(f"batch {config.batch_size}")
    if config.split_groups:
        parts.append("leaf-grouped split")
    if config.fold_batch_norm:
        parts.append("batch norms folded")
    if config.optimizer == "sgd" and config.profile == "laptop":
        parts.append("SGD")
    return ", ".join(parts)


def measure(
    prepared: PreparedRun,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the measurements of one run.

    Parameters
    ----------
    prepared : PreparedRun
        Two classes, the second rare.
    device : torch.device
    checkpoint : Path, optional
        Where training leaves its state after each epoch.
    progress : bool, default=True
        Show a bar over the epochs.

    Returns
    -------
    dict
        ``train_counts``, ``valid_counts``, ``test_counts``; ``history`` per epoch, with F1, precision and recall
        of the rare class, mean confidence and cross entropy on validation and test images; ``readouts``:
        "softmax"; with the layer "removed at inference", the logits before it; without it "logit adjusted" by
        the training counts; and with either what validation images choose: "temperature"; "threshold moved" to
        their best F1; "balanced threshold", that to their best F1 if both classes were equally frequent, as they
        are in the test. Each is that of `imbal_book.studies.rare_class_scores.readout_scores`. ``thresholds`` and
        ``temperature`` are what was chosen. ``margins``: of "softmax" and "removed at inference" and of each
        side, "test" and "valid", see `studies.rare_class_scores.class_margins`. ``layer``: what the final layer
        has learnt, a number per class.
        ``shared_groups``: see `leaf_leakage`; of a data set that knows which leaf an image shows.
    """
    run = train_run(
        prepared,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        score=epoch_scores,
        score_on=("valid", "test"),
    )
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
        held_out = (run.sides["valid"][1], found["valid"][_SOFTMAX])
        measurements |= _chosen_on_validation(held_out, labels, logits, readouts)
    measurements["readouts"] = readouts
    if prepared.train.groups is not None:
        measurements["shared_groups"] = leaf_leakage(
            prepared.split, prepared.train.labels, prepared.train.groups
        )
    return measurements


def leaf_leakage(split: Split, labels: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return how many test images show a leaf that is also in training.

    Parameters
    ----------
    split : Split
        One whose test images are drawn from the pool.
    labels : ndarray of int, shape (N,)
        Of the pool.
    groups : ndarray of str, shape (N,)
        The leaf of each image of the pool.

    Returns
    -------
    dict
        As `imbal_core.data.splits.shared_groups`, less what is undefined without validation images; and
        ``test_by_class``, the share among the test images of each class.
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
    """Return running mean and variance, scale and shift of the final layer."""
    norm = run.network.final_batch_norm
    assert isinstance(norm, FinalBatchNorm) and norm.running_mean is not None and norm.running_var is not None
    count = norm.num_features
    weight = torch.ones(count) if norm.weight is None else norm.weight
    bias = torch.zeros(count) if norm.bias is None else norm.bias
    parts = {
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
        "weight": weight,
        "bias": bias,
    }
    return {name: values.detach().double().tolist() for name, values in parts.items()}


def _chosen_on_validation(
    held_out: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    logits: np.ndarray,
    readouts: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Add the readouts that validation images, labels and logits, set; return thresholds and temperature."""
    targets, chosen_on = held_out
    thresholds = {
        name: shifted_threshold(rare_margin(chosen_on), targets == RARE, balanced=balanced)
        for name, balanced in (("threshold moved", False), ("balanced threshold", True))
    }
    for name, threshold in thresholds.items():
        shift = np.zeros(2)
        shift[RARE] = threshold
        readouts[name] = readout_scores(labels, logits - shift)
    temperature = fit_temperature(chosen_on, targets)
    readouts["temperature"] = readout_scores(labels, logits / temperature)
    return {"thresholds": thresholds, "temperature": temperature}


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all arms and readouts in long form.

    Parameters
    ----------
    records : DataFrame
        As `imbal_book.chapters.Chapter.frame` returns it.

    Returns
    -------
    DataFrame
        Columns key, profile, form (see `form`), model, dataset, imbalance ("1000:10"), split_seed, train_seed,
        readout (an arm, or "ARM, READOUT"), metric and value. Metrics: f1_minority, f1_majority, recall_minority,
        recall_majority, precision_minority, accuracy, auroc, auprc, f1_best, ece, confidence (fractions); of an arm
        itself also epochs_to_f1, the first epoch with a test F1 of the rare class of `F1_LEVEL` or more, one more
        than all epochs if it was never reached. Two more readouts of an arm have f1_minority only: "epoch of best
        F1" and "epoch of lowest loss", both chosen on validation images, the first such epoch of several.
    """
    rows = []
    for identity, name, measured in long_frames.identified(records, describe):
        for readout, scores in measured["readouts"].items():
            values = long_scores(scores)
            if readout == _SOFTMAX:
                values["epochs_to_f1"] = epochs_to(measured["history"]["test_f1_minority"])
            full = name if readout == _SOFTMAX else f"{name}, {readout}"
            rows += [{**identity, "readout": full, "metric": m, "value": float(v)} for m, v in values.items()]
        for readout, epoch in _chosen_epochs(measured["history"]).items():
            value = measured["history"]["test_f1_minority"][epoch]
            rows.append(
                {**identity, "readout": f"{name}, {readout}", "metric": "f1_minority", "value": value}
            )
    return pd.DataFrame(rows, columns=[*long_frames.IDENTITY, "readout", "metric", "value"])


def always_rare(test_counts: Sequence[int]) -> float:
    """Return the F1 of the rare class for a network that calls every test image rare: 2/3 on a balanced test.

    Parameters
    ----------
    test_counts : sequence of int
        Images of the large and of the rare class.
    """
    others, rare = test_counts
    return 2 * rare / (2 * rare + others)


def epochs_to(f1: Sequence[float], level: float = F1_LEVEL) -> int:
    """Return the first epoch, from 1, with at least that F1; one more than all where there is none."""
    return next((epoch for epoch, value in enumerate(f1, 1) if value >= level), len(f1) + 1)


def _chosen_epochs(history: Mapping[str, list[float]]) -> dict[str, int]:
    """Return the epochs, from 0, that validation images choose; none without them."""
    if "valid_f1_minority" not in history:
        return {}
    return {
        "epoch of best F1": int(np.argmax(history["valid_f1_minority"])),
        "epoch of lowest loss": int(np.argmin(history["valid_loss"])),
    }


def epoch_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the history of every run, see `imbal_book.run.long_frames.epoch_frame`."""
    return long_frames.epoch_frame(records, describe)


def describe(config: RunConfig) -> dict[str, str]:
    """Return what the book calls a run: its arm, its form, and its imbalance, such as "1000:10"."""
    majority, rare = config.imbalance.split("-")[1:3]
    return {"arm": arm(config), "form": form(config), "imbalance": f"{majority}:{rare}"}
