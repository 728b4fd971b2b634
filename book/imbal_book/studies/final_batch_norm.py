"""A batch-normalisation layer after the last layer, for a rare class (Kocaman, Shir and Bäck, 2020).

Every run trains one network on healthy and diseased leaves, 1,000 to 10, and tests it on as many of each. The
layer, a weighted loss and both together are the paper's arms; more arms and readouts ask by what mechanism the
layer works: is it more than a shift of the threshold, and does it matter at inference?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbal_book.run import long_frames
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import TrainedRun, train_run
from imbal_book.studies.grids.final_batch_norm import EVERY_ARM, describe
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

F1_LEVEL = 0.9  # the F1 whose first epoch counts as reached; see `always_rare` for what it must exceed
_SOFTMAX, _REMOVED = "softmax", "removed at inference"


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
