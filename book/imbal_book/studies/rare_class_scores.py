"""Scores of a classifier of two classes, the second one rare: what a record keeps, and what is read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from imbal_core import metrics
from imbal_core.post_hoc import shifted_threshold

RARE = 1  # the label of the rare class


def rare_margin(logits: np.ndarray) -> np.ndarray:
    """Return the logit of the rare class minus that of the other, (N,), of logits (N, 2)."""
    return logits[:, RARE] - logits[:, 1 - RARE]


def class_margins(labels: np.ndarray, logits: np.ndarray) -> list[list[float]]:
    """Return for each class the margin of the rare class of its images (N, 2), in their order, with four digits.

    All that two probabilities say is in their margin, so that a score which nobody thought of can be had from a
    record without training again.
    """
    margin = rare_margin(logits.astype(np.float64))
    return [[float(f"{value:.4g}") for value in margin[labels == k]] for k in range(2)]


def epoch_scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return what is kept of every epoch, of labels (N,) and logits (N, 2).

    F1, precision and recall of the rare class and confidence, the mean of the largest probability, are fractions;
    cross_entropy is in nats.
    """
    wide = logits.astype(np.float64)
    probabilities = softmax(wide, axis=1)
    true = np.clip(probabilities[np.arange(len(labels)), labels], np.finfo(float).tiny, None)
    scores = _of_confusion(metrics.confusion_counts(labels, wide.argmax(1), 2))
    return {
        **{name: scores[name] for name in ("f1_minority", "precision_minority", "recall_minority")},
        "confidence": float(probabilities.max(1).mean()),
        "cross_entropy": float(-np.log(true).mean()),
    }


def _of_confusion(confusion: np.ndarray) -> dict[str, float]:
    f1, recall = metrics.f1_per_class(confusion), metrics.per_class_recall(confusion)
    return {
        "f1_minority": float(f1[RARE]),
        "f1_majority": float(f1[1 - RARE]),
        "recall_minority": float(recall[RARE]),
        "recall_majority": float(recall[1 - RARE]),
        "precision_minority": float(metrics.per_class_precision(confusion)[RARE]),
        "accuracy": metrics.accuracy(confusion),
    }


def readout_scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    """Return what is recorded of one readout of the test images, of labels (N,) and float64 logits (N, 2).

    ``confusion``, 2 x 2 counts, true class by row; ``auroc``, ``auprc``; ``f1_best``, the highest F1 of the rare class
    at any threshold, chosen on these very images and so an upper bound; ``ece``, ``confidence``;
    ``confidence_histogram``, images per bin; ``reliability``, see `imbal_core.metrics.reliability_bins`. All in JSON's
    types.
    """
    probabilities = softmax(logits, axis=1)
    bins = metrics.reliability_bins(probabilities, labels)
    rare, margin = labels == RARE, rare_margin(logits)
    cut = (margin > shifted_threshold(margin, rare)).astype(np.int64)
    return {
        "confusion": metrics.confusion_counts(labels, logits.argmax(1), 2).tolist(),
        "auroc": float(roc_auc_score(rare, margin)),
        "auprc": float(average_precision_score(rare, margin)),
        "f1_best": float(metrics.f1_per_class(metrics.confusion_counts(labels, cut, 2))[RARE]),
        "ece": float(metrics.expected_calibration_error(probabilities, labels)),
        "confidence": float(probabilities.max(1).mean()),
        "confidence_histogram": metrics.reliability_bins(probabilities, labels, 20)["count"].tolist(),
        "reliability": {name: np.asarray(values).tolist() for name, values in bins.items()},
    }


def long_scores(recorded: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of a readout of `readout_scores` by metric: fractions, those of the confusion first."""
    names = ("auroc", "auprc", "f1_best", "ece", "confidence")
    return _of_confusion(np.asarray(recorded["confusion"])) | {name: float(recorded[name]) for name in names}
