"""Complement cross entropy (Kim, Lee and Jeon, 2021) beside the losses that the field compares it with.

Every arm trains the same network on the same images in the same order, with another loss. The network trained
with cross entropy is also read by the remedies that need no other training: logit adjustment, a tau-normalised
classifier, a classifier that is trained anew, and category centers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import TrainedRun, train_run
from imbal_book.studies.grids.complement_cross_entropy import ARMS, arm, network
from imbal_core import metrics
from imbal_core.centers import CategoryCenters
from imbal_core.losses.complement import complement_entropy
from imbal_core.losses.functional import adjust_logits
from imbal_core.post_hoc import choose_tau, retrain_classifier, tau_normalized_logits

#: The readout that needs images for validation.
TAU = "CE, tau-normalised"
#: Readouts of the network trained with cross entropy.
POST_HOC = ("CE, logit adjusted", TAU, "CE, classifier re-trained", "CE, category centers")
_SOFTMAX = "softmax"


def minority(num_classes: int) -> np.ndarray:
    """Return which labels are the minority, bool of shape (K,): the rarer half, the later labels.

    For a step imbalance these are the classes with few images; for an exponential one it is our choice.
    """
    return np.arange(num_classes) >= num_classes // 2


def measure(prepared: PreparedRun, **options: Any) -> dict[str, Any]:
    """Return the measurements of one run, see `imbal_book.studies.Study.measure`.

    ``train_counts``, ``valid_counts``, ``test_counts``; ``history`` per epoch, with ``test_accuracy`` and
    ``test_recall_few``, which choose nothing; ``readouts``: "softmax" and, of a run with cross entropy, the remedies of
    `POST_HOC`, each with accuracy and recall and precision per class; ``p_true`` and ``wrong_class_entropy``, per
    class, the mean over test images of the true class's softmax probability and of the entropy (nats) of the wrong
    classes; ``tau``, chosen on validation images.
    """
    run = train_run(prepared, score=epoch_scores, **options)
    labels, num_classes = run.sides["test"][1], prepared.train.num_classes
    plain = prepared.config.loss == "cross-entropy"
    found = run.predict("test", run.network.taps[-1:] if plain else ())
    logits, measurements = found["logits"], run.measurements()
    readouts = {_SOFTMAX: logits.argmax(1)}
    if plain:
        measurements["tau"], post_hoc = _post_hoc(run, found)
        readouts |= post_hoc
    measurements["readouts"] = {
        name: metrics.class_scores(labels, predicted, num_classes) for name, predicted in readouts.items()
    }
    targets, wide = torch.from_numpy(labels), torch.from_numpy(logits).double()
    by_image = {
        "p_true": wide.softmax(1).gather(1, targets[:, None]).squeeze(1).numpy(),
        "wrong_class_entropy": complement_entropy(wide, targets, reduction="none").numpy(),
    }
    for name, values in by_image.items():
        measurements[name] = [float(values[labels == label].mean()) for label in range(num_classes)]
    return measurements


def epoch_scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return accuracy and the mean recall of the minority; the same for all studies that share networks."""
    recall = metrics.per_class_recall(metrics.confusion_counts(labels, logits.argmax(1), logits.shape[1]))
    return {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "recall_few": float(np.nanmean(recall[minority(len(recall))])),
    }


def _post_hoc(run: TrainedRun, test: Mapping[str, np.ndarray]) -> tuple[float | None, dict[str, np.ndarray]]:
    """Return the tau that was chosen, and the labels that each remedy of `POST_HOC` predicts, int64 (N,)."""
    predicted = {POST_HOC[0]: adjust_logits(test["logits"], run.prepared.train_counts).argmax(1)}
    tap, tau = run.network.taps[-1], None
    weight = run.network.classifier().get_parameter("weight").detach().cpu().numpy()
    if len(run.sides["valid"][1]):
        tau = choose_tau(run.predict("valid", (tap,))[tap], weight, run.sides["valid"][1])
        predicted[TAU] = tau_normalized_logits(test[tap], weight, tau).argmax(1)
    features, labels = run.predict("train", (tap,))[tap], run.sides["train"][1]
    seed, num_classes = run.prepared.config.train_seed, run.network.num_classes
    classifier = retrain_classifier(features, labels, num_classes, seed=seed, device=run.device)
    with torch.no_grad():
        inputs = torch.from_numpy(test[tap]).to(run.device)
        predicted[POST_HOC[2]] = classifier(inputs).argmax(1).cpu().numpy()
    predicted[POST_HOC[3]] = np.asarray(CategoryCenters().fit(features, labels).predict(test[tap]))
    return tau, predicted


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all arms and readouts in long form, see `imbal_book.run.long_frames.score_frame`.

    Readouts are arms and those of `POST_HOC`. Metrics of each: accuracy; recall_few and recall_many, the mean recall of
    the minority and of the other classes; precision. Of an arm's own softmax also p_true, p_true_few,
    wrong_class_entropy (nats) and best_test_accuracy, the largest of any epoch.
    """
    return long_frames.score_frame(records, _describe, _readouts, _scores)


def _readouts(
    identity: Mapping[str, Any], arm_name: str, measured: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, scores in measured["readouts"].items():
        yield arm_name if name == _SOFTMAX else name, scores


def _scores(readout: str, scores: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, float]:
    recall, few = np.asarray(scores["recall"]), minority(len(measured["train_counts"]))
    values = {
        "accuracy": scores["accuracy"],
        "recall_few": recall[few].mean(),
        "recall_many": recall[~few].mean(),
        "precision": np.mean(scores["precision"]),
    }
    if readout in ARMS:
        p_true = np.asarray(measured["p_true"])
        values |= {
            "p_true": p_true.mean(),
            "p_true_few": p_true[few].mean(),
            "wrong_class_entropy": np.mean(measured["wrong_class_entropy"]),
            "best_test_accuracy": max(measured["history"]["test_accuracy"]),
        }
    return values


def label_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of every label, see `imbal_book.run.long_frames.label_frame`."""
    return long_frames.label_frame(records, _describe, _readouts)


def epoch_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the history of every run, see `imbal_book.run.long_frames.epoch_frame`."""
    return long_frames.epoch_frame(records, _describe)


def _describe(config: RunConfig) -> dict[str, str]:
    return {"arm": arm(config), "form": network(config), "imbalance": config.imbalance.replace("-", " ")}
