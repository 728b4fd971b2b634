"""Measures of a classifier from its confusion matrix or its probabilities.

A fraction of nothing, such as the precision of a class that was never predicted, is 0, not NaN. All fractions are
float64 in [0, 1]. A confusion matrix that is not square, holds a negative count or no image at all is a ValueError.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.arrays import checked_classes, on_host
from imbal_core._checks.fields import whole_number


def confusion_counts(
    labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, num_classes: int
) -> np.ndarray:
    """Return how many images of each class were given each label.

    Parameters
    ----------
    labels, predictions : array-like or Tensor of shape (N,), integer
        True and predicted classes, each in [0, K), else a ValueError.
    num_classes : int
        K.

    Returns
    -------
    ndarray of shape (K, K), int64
        Rows are true classes, columns predicted ones.

    Examples
    --------
    >>> confusion_counts([0, 0, 1], [0, 1, 1], 2)
    array([[1, 1],
           [0, 1]])
    """
    true = checked_classes("labels", labels, num_classes)
    predicted = checked_classes("predictions", predictions, num_classes, rows=(len(true), "labels"))
    cells = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def accuracy(confusion: ArrayLike) -> float:
    """Return the fraction of all images that are classified correctly, of a confusion matrix (K, K)."""
    counts = _confusion(confusion)
    return float(np.trace(counts) / counts.sum())


def per_class_recall(confusion: ArrayLike) -> np.ndarray:
    """Return the fraction of each class's images that were found, (K,), of a confusion matrix (K, K).

    Examples
    --------
    >>> per_class_recall([[90, 10], [5, 5]])
    array([0.9, 0.5])
    """
    counts = _confusion(confusion)
    return _fraction(np.diag(counts), counts.sum(axis=1))


def per_class_precision(confusion: ArrayLike) -> np.ndarray:
    """Return the fraction of each class's predictions that were right, (K,), of a confusion matrix (K, K)."""
    return per_class_recall(_confusion(confusion).T)


def f1_per_class(confusion: ArrayLike) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN) of each class, the harmonic mean of precision and recall, (K,)."""
    counts = _confusion(confusion)
    return _fraction(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def class_scores(
    labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, num_classes: int
) -> dict[str, Any]:
    """Return what a record holds of one readout: ``accuracy``, and lists ``recall`` and ``precision`` by class."""
    confusion = confusion_counts(labels, predictions, num_classes)
    return {
        "accuracy": accuracy(confusion),
        "recall": per_class_recall(confusion).tolist(),
        "precision": per_class_precision(confusion).tolist(),
    }


def balanced_accuracy(confusion: ArrayLike) -> float:
    """Return the mean recall of the classes that have images, of a confusion matrix (K, K).

    Examples
    --------
    >>> balanced_accuracy([[90, 10], [5, 5]])
    0.7
    """
    counts = _confusion(confusion)
    return float(per_class_recall(counts)[counts.sum(axis=1) > 0].mean())


def expected_calibration_error(
    probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor, bins: int = 15
) -> float:
    r"""Return how far confidence is from accuracy, ``sum_b n_b / N |accuracy_b - confidence_b|``.

    An image's confidence is its largest probability; bin b holds confidences in ((b - 1) / B, b / B]. Guo, C. et al.
    (2017), "On Calibration of Modern Neural Networks", equation 3.

    Parameters
    ----------
    probabilities : array-like or Tensor of shape (N, K)
        Each row sums to 1, within 0.001.
    labels : array-like or Tensor of shape (N,), integer
        True classes in [0, K).
    bins : int, default=15
        B, the number of bins of equal width.

    Returns
    -------
    float
        Fraction in [0, 1]. Rows that are no probabilities (logits, percent) are a ValueError.

    Examples
    --------
    >>> round(expected_calibration_error([[0.75, 0.25], [0.75, 0.25]], [0, 1]), 3)
    0.25
    """
    counts, confidence, right = _binned(probabilities, labels, bins)
    return float(np.abs(right - confidence).sum() / counts.sum())


def reliability_bins(
    probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor, bins: int = 15
) -> dict[str, np.ndarray]:
    """Return what a reliability diagram shows (Niculescu-Mizil and Caruana 2005): B bins of equal width.

    Arguments, bins and errors are those of `expected_calibration_error`. ``lower`` and ``upper`` are the edges of a
    bin, of which the upper belongs to it; ``count``, int64, its images; ``confidence`` and ``accuracy`` their means.

    Examples
    --------
    >>> reliability_bins([[0.7, 0.3], [0.1, 0.9], [0.8, 0.2]], [0, 1, 1], bins=2)["accuracy"].round(3)
    array([0.   , 0.667])
    """
    counts, confidence, right = _binned(probabilities, labels, bins)
    edges = np.linspace(0, 1, bins + 1)
    return {
        "lower": edges[:-1],
        "upper": edges[1:],
        "count": counts,
        "confidence": _fraction(confidence, counts),
        "accuracy": _fraction(right, counts),
    }


def _binned(
    probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each bin of confidence, its images, the sum of their confidences, and how many are right."""
    p = on_host(probabilities).astype(np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"probabilities must have shape (N, K), neither of them 0, got {p.shape}.")
    if not ((p >= 0).all() and (np.abs(p.sum(axis=1) - 1) <= 1e-3).all()):
        raise ValueError("probabilities must be non-negative rows that sum to 1: apply softmax first.")
    true = checked_classes("labels", labels, p.shape[1], rows=(len(p), "probabilities"))
    whole_number("bins", bins, 1)
    confidence = p.max(axis=1)
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    weights = (None, confidence, (p.argmax(axis=1) == true).astype(np.float64))
    counts, confidences, right = (np.bincount(place, weights=w, minlength=bins) for w in weights)
    return counts, confidences, right


def _fraction(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _confusion(confusion: ArrayLike) -> np.ndarray:
    """Return a valid confusion matrix as an array."""
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a confusion matrix has shape (K, K), got {counts.shape}: see confusion_counts.")
    if (counts < 0).any() or counts.sum() == 0:
        raise ValueError("a confusion matrix holds counts, none negative and not all zero.")
    return counts
