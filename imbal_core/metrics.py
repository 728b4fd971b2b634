"""Measures of a classifier that treat every class alike, from the confusion matrix or the probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "confusion_counts",
    "expected_calibration_error",
    "f1_per_class",
    "g_mean",
    "many_medium_few",
    "per_class_precision",
    "per_class_recall",
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
    true = _classes("labels", labels, num_classes)
    predicted = _classes("predictions", predictions, num_classes)
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

    Parameters
    ----------
    confusion : array-like of shape (K, K)
        As `confusion_counts` returns it.

    Returns
    -------
    ndarray of shape (K,), float64
        Fractions in [0, 1]; 0 for a class without images, where recall is undefined.

    Raises
    ------
    ValueError
        As `accuracy`.
    """
    counts = _confusion(confusion)
    return _fraction(np.diag(counts), counts.sum(axis=1))


def per_class_precision(confusion: ArrayLike) -> np.ndarray:
    """Return the fraction of each class's predictions that were right.

    Parameters
    ----------
    confusion : array-like of shape (K, K)
        As `confusion_counts` returns it.

    Returns
    -------
    ndarray of shape (K,), float64
        Fractions in [0, 1]; 0 for a class that was never predicted, where precision is undefined.

    Raises
    ------
    ValueError
        As `accuracy`.
    """
    counts = _confusion(confusion)
    return _fraction(np.diag(counts), counts.sum(axis=0))


def f1_per_class(confusion: ArrayLike) -> np.ndarray:
    """Return the harmonic mean of precision and recall of each class, 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    confusion : array-like of shape (K, K)
        As `confusion_counts` returns it.

    Returns
    -------
    ndarray of shape (K,), float64
        Fractions in [0, 1]; 0 for a class neither present nor predicted.

    Raises
    ------
    ValueError
        As `accuracy`.
    """
    counts = _confusion(confusion)
    return _fraction(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def balanced_accuracy(confusion: ArrayLike) -> float:
    """Return the mean recall of the classes that have images.

    Parameters
    ----------
    confusion : array-like of shape (K, K)
        As `confusion_counts` returns it.

    Returns
    -------
    float
        Fraction in [0, 1]; equal to `accuracy` where all classes have equally many images.

    Raises
    ------
    ValueError
        As `accuracy`.
    """
    return float(_recall_of_present(confusion).mean())


def g_mean(confusion: ArrayLike) -> float:
    r"""Return the geometric mean of the recalls R_k of the K' classes that have images, (prod R_k)^(1/K').

    Parameters
    ----------
    confusion : array-like of shape (K, K)
        As `confusion_counts` returns it.

    Returns
    -------
    float
        Fraction in [0, 1]; 0 as soon as one class is never found.

    Raises
    ------
    ValueError
        As `accuracy`.

    References
    ----------
    Kubat, M., Matwin, S. (1997). "Addressing the curse of imbalanced training sets", for two classes.
    Sun, Y. et al. (2006). "Boosting for learning multiple classes with imbalanced class distribution".
    """
    recall = _recall_of_present(confusion)
    # Logarithms keep the product of a thousand small recalls from underflowing.
    return float(np.exp(np.log(recall).mean())) if recall.all() else 0.0


def many_medium_few(
    recall: ArrayLike, train_counts: ArrayLike, thresholds: tuple[int, int] = (100, 20)
) -> Mapping[str, float | None]:
    """Return the mean recall of classes with many, a medium number of, and few training images.

    Parameters
    ----------
    recall : array-like of shape (K,)
        Recall of each class, fractions.
    train_counts : array-like of shape (K,)
        Training images of each class.
    thresholds : tuple of int, default=(100, 20)
        (upper, lower): many is more than upper, few is fewer than lower, medium is from lower to upper.

    Returns
    -------
    dict
        Keys "many", "medium", "few"; None for a group without classes.

    Raises
    ------
    ValueError
        If the shapes differ or the thresholds are out of order.

    References
    ----------
    Liu, Z. et al. (2019). "Large-Scale Long-Tailed Recognition in an Open World".

    Examples
    --------
    >>> many_medium_few([0.75, 0.5, 0.25], [101, 100, 20])
    {'many': 0.75, 'medium': 0.375, 'few': None}
    """
    values, counts = np.asarray(recall, dtype=np.float64), np.asarray(train_counts)
    if values.ndim != 1 or values.shape != counts.shape:
        raise ValueError(
            f"recall and train_counts must both have shape (K,), got {values.shape} and {counts.shape}."
        )
    upper, lower = thresholds
    if upper < lower:
        raise ValueError(f"thresholds must be (upper, lower), got {thresholds}.")
    groups = {"many": counts > upper, "medium": (counts >= lower) & (counts <= upper), "few": counts < lower}
    return {name: float(values[chosen].mean()) if chosen.any() else None for name, chosen in groups.items()}


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
    """
    p = np.asarray(_on_host(probabilities), dtype=np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"probabilities must have shape (N, K), neither of them 0, got {p.shape}.")
    if not ((p >= 0).all() and (np.abs(p.sum(axis=1) - 1) <= 1e-3).all()):
        raise ValueError(
            "each row of probabilities must be non-negative and sum to 1: apply softmax to logits first."
        )
    true = _classes("labels", labels, p.shape[1])
    if len(true) != len(p):
        raise ValueError(f"labels must be {len(p)}, as many as rows of probabilities, got {len(true)}.")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    confidence, right = p.max(axis=1), p.argmax(axis=1) == true
    place = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def _recall_of_present(confusion: ArrayLike) -> np.ndarray:
    """Return the recall of the classes that have images, all in [0, 1]."""
    counts = _confusion(confusion)
    return per_class_recall(counts)[counts.sum(axis=1) > 0]


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


def _classes(name: str, values: ArrayLike | Tensor, num_classes: int) -> np.ndarray:
    """Return class indices as int64, each in [0, num_classes)."""
    indices = np.asarray(_on_host(values))
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape (N,), got {indices.dtype} of shape {indices.shape}."
        )
    if len(indices) == 0:
        raise ValueError(f"{name} is empty: nothing to measure.")
    if indices.min() < 0 or indices.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in [0, {num_classes}), got values from {indices.min()} to {indices.max()}."
        )
    return indices.astype(np.int64)


def _on_host(values: ArrayLike | Tensor) -> ArrayLike:
    """Return a tensor as a NumPy array, anything else as it is."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    return values
