"""Measures of a classifier from its confusion matrix, its probabilities, or its scores of the rare class.

A fraction of nothing, such as the precision of a class that was never predicted, is 0, not NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from imbal_core._checks.arrays import checked_classes, checked_scores, on_host

__all__ = [
    "accuracy",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "class_scores",
    "confidence_histogram",
    "confusion_counts",
    "expected_calibration_error",
    "f1_per_class",
    "per_class_precision",
    "per_class_recall",
    "reliability_bins",
]


def confusion_counts(
    labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, num_classes: int
) -> np.ndarray:
    """Return how many images of each class were given each label.

    Parameters
    ----------
    labels, predictions : array-like or Tensor of shape (N,), integer
        True and predicted classes, each in [0, K).
    num_classes : int
        K.

    Returns
    -------
    ndarray of shape (K, K), int64
        Rows are true classes, columns predicted ones.

    Raises
    ------
    ValueError
        If lengths differ, a value is no integer, or a class is outside [0, K).

    Examples
    --------
    >>> confusion_counts([0, 0, 1], [0, 1, 1], 2)
    array([[1, 1],
           [0, 1]])
    """
    true = checked_classes("labels", labels, num_classes)
    predicted = checked_classes("predictions", predictions, num_classes)
    if len(true) != len(predicted):
        raise ValueError(
            f"labels and predictions must be equally many, got {len(true)} and {len(predicted)}."
        )
    cells = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def accuracy(confusion: ArrayLike) -> float:
    """Return the fraction of all images that are classified correctly.

    Parameters
    ----------
    confusion : array-like of shape (K, K)
        As `confusion_counts` returns it.

    Returns
    -------
    float
        Fraction in [0, 1].

    Raises
    ------
    ValueError
        If the matrix is not square, holds a negative count, or no image at all.
    """
    counts = _confusion(confusion)
    return float(np.trace(counts) / counts.sum())


def per_class_recall(confusion: ArrayLike) -> np.ndarray:
    """Return the fraction of each class's images that were found.

    Of a confusion matrix, see `accuracy`. float64 (K,), fractions; 0 for a class without images.

    Examples
    --------
    >>> per_class_recall([[90, 10], [5, 5]])
    array([0.9, 0.5])
    """
    counts = _confusion(confusion)
    return _fraction(np.diag(counts), counts.sum(axis=1))


def per_class_precision(confusion: ArrayLike) -> np.ndarray:
    """Return the fraction of each class's predictions that were right.

    Of a confusion matrix, see `accuracy`. float64 (K,), fractions; 0 for a class that was never predicted.
    """
    counts = _confusion(confusion)
    return _fraction(np.diag(counts), counts.sum(axis=0))


def f1_per_class(confusion: ArrayLike) -> np.ndarray:
    """Return the harmonic mean of precision and recall of each class, 2 TP / (2 TP + FP + FN).

    Of a confusion matrix, see `accuracy`. float64 (K,), fractions; 0 for a class neither present nor predicted.
    """
    counts = _confusion(confusion)
    return _fraction(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def class_scores(
    labels: ArrayLike | Tensor, predictions: ArrayLike | Tensor, num_classes: int
) -> dict[str, Any]:
    """Return what a record holds of one readout: accuracy, and recall and precision of each class.

    Parameters
    ----------
    labels, predictions, num_classes
        As for `confusion_counts`.

    Returns
    -------
    dict
        ``accuracy``, a float; ``recall`` and ``precision``, lists of K floats. Fractions.
    """
    confusion = confusion_counts(labels, predictions, num_classes)
    return {
        "accuracy": float(accuracy(confusion)),
        "recall": per_class_recall(confusion).tolist(),
        "precision": per_class_precision(confusion).tolist(),
    }


def balanced_accuracy(confusion: ArrayLike) -> float:
    """Return the mean recall of the classes that have images.

    Of a confusion matrix, see `accuracy`. A fraction; equal to `accuracy` where all classes have equally many images.

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
    r"""Return how far confidence is from accuracy, sum_b n_b / N |accuracy_b - confidence_b|.

    An image's confidence is its largest probability; bin b holds confidences in ((b - 1) / B, b / B].

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
        Fraction in [0, 1].

    Raises
    ------
    ValueError
        If rows are no probabilities (logits, percent), shapes disagree, or `bins` is below 1.

    References
    ----------
    Guo, C. et al. (2017). "On Calibration of Modern Neural Networks", equation 3.

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
    """Return what a reliability diagram shows: confidence and accuracy in bins of equal width.

    Parameters
    ----------
    probabilities, labels, bins
        As for `expected_calibration_error`, which uses the same bins.

    Returns
    -------
    dict of str to ndarray of shape (B,)
        Columns of a table with a row per bin: ``lower`` and ``upper``, its edges, of which the upper belongs
        to it; ``count``, its images, int64; ``confidence`` and ``accuracy``, their means, fractions, both 0
        in a bin without images.

    Raises
    ------
    ValueError
        As `expected_calibration_error`.

    References
    ----------
    Niculescu-Mizil, A., Caruana, R. (2005). "Predicting good probabilities with supervised learning".

    Examples
    --------
    >>> reliability_bins([[0.7, 0.3], [0.1, 0.9], [0.8, 0.2]], [0, 1, 1], bins=2)["accuracy"].round(3)
    array([0.   , 0.667])
    """
    counts, confidence, right = _binned(probabilities, labels, bins)
    edges = _bin_edges(bins)
    return {
        "lower": edges[:-1],
        "upper": edges[1:],
        "count": counts,
        "confidence": _fraction(confidence, counts),
        "accuracy": _fraction(right, counts),
    }


def confidence_histogram(probabilities: ArrayLike | Tensor, bins: int = 20) -> np.ndarray:
    """Return how many images have a confidence, their largest probability, in each bin of equal width.

    Parameters
    ----------
    probabilities : array-like or Tensor of shape (N, K)
        Each row sums to 1, within 0.001.
    bins : int, default=20
        B; bin b holds confidences in ((b - 1) / B, b / B]. None is below 1 / K, so the first bins are empty.

    Returns
    -------
    ndarray of shape (B,), int64

    Raises
    ------
    ValueError
        If rows are no probabilities (logits, percent), or `bins` is below 1.
    """
    return np.bincount(_bin_of(_probabilities(probabilities).max(axis=1), bins), minlength=bins)


def auroc(labels: ArrayLike | Tensor, scores: ArrayLike | Tensor) -> float:
    """Return the area under the ROC curve: how often a rare image outscores another one, ties counted half.

    Parameters
    ----------
    labels : array-like or Tensor of shape (N,), bool or integer
        True or 1 for an image of the rare class, False or 0 for any other.
    scores : array-like or Tensor of shape (N,), floating
        Probability of the rare class, or its logit less the other's: only the order counts.

    Returns
    -------
    float
        Fraction in [0, 1]; 0.5 for scores that say nothing, whatever the numbers of images.

    Raises
    ------
    ValueError
        If a class is absent, a score is NaN or infinite, or shapes and types are not those above.

    See Also
    --------
    auprc : Depends on how rare the class is among the images measured.
    """
    return float(roc_auc_score(*checked_scores(labels, scores)))


def auprc(labels: ArrayLike | Tensor, scores: ArrayLike | Tensor) -> float:
    """Return the area under the precision-recall curve of the rare class, as average precision.

    It is the sum over thresholds, from the highest score down, of the gain in recall times the precision
    there: no interpolation, which would flatter.

    Parameters
    ----------
    labels, scores
        As for `auroc`.

    Returns
    -------
    float
        Fraction in (0, 1]; the share of rare images for scores that are all equal.

    Raises
    ------
    ValueError
        As `auroc`.

    References
    ----------
    Davis, J., Goadrich, M. (2006). "The relationship between Precision-Recall and ROC curves".
    """
    return float(average_precision_score(*checked_scores(labels, scores)))


def _binned(
    probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each bin of confidence, its images, the sum of their confidences, and how many are right."""
    p = _probabilities(probabilities)
    true = checked_classes("labels", labels, p.shape[1])
    if len(true) != len(p):
        raise ValueError(f"labels must be {len(p)}, as many as rows of probabilities, got {len(true)}.")
    confidence = p.max(axis=1)
    place = _bin_of(confidence, bins)
    weights = (None, confidence, (p.argmax(axis=1) == true).astype(np.float64))
    counts, confidences, right = (np.bincount(place, weights=w, minlength=bins) for w in weights)
    return counts, confidences, right


def _bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the index of the bin that holds each confidence."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    return np.clip(np.searchsorted(_bin_edges(bins), confidence, side="left") - 1, 0, bins - 1)


def _bin_edges(bins: int) -> np.ndarray:
    return np.linspace(0, 1, bins + 1)


def _probabilities(probabilities: ArrayLike | Tensor) -> np.ndarray:
    """Return probabilities (N, K) as float64, each row known to sum to 1."""
    p = on_host(probabilities).astype(np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"probabilities must have shape (N, K), neither of them 0, got {p.shape}.")
    if not ((p >= 0).all() and (np.abs(p.sum(axis=1) - 1) <= 1e-3).all()):
        raise ValueError(
            "each row of probabilities must be non-negative and sum to 1: apply softmax to logits first."
        )
    return p


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
