"""How diverse the latent features of a class are: directions, distances, ranges, and coverage of the test.

n instances span at most n - 1 directions about their mean, and how well they cover others grows with n: to compare
classes of different size, draw equally many of each with `equal_rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.special import entr
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from imbal_core._checks.arrays import on_host
from imbal_core.embeddings.features import labelled_features, rows_of_classes

__all__ = [
    "class_means",
    "effective_rank",
    "equal_rows",
    "mean_cosine_distance",
    "neighbour_coverage",
    "participation_ratio",
    "range_gap",
]

#: The n of `neighbour_coverage`.
NEIGHBOURS = 5


def equal_rows(labels: ArrayLike | Tensor, *, generator: np.random.Generator) -> np.ndarray:
    """Return indices of as many instances of every class as the smallest has, drawn without replacement.

    Parameters
    ----------
    labels : array-like or Tensor of shape (N,), integer
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of shape (classes * instances of the smallest,), int64
        In ascending order.
    """
    groups = [rows for _, rows in rows_of_classes(on_host(labels))]
    fewest = min(map(len, groups))
    return np.sort(np.concatenate([generator.choice(rows, fewest, replace=False) for rows in groups]))


def class_means(features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int) -> np.ndarray:
    """Return the mean of each class, (C, D) float64; NaN for a class without instances.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D)
        Feature or classification embeddings; here and below.
    labels : array-like or Tensor of shape (N,), integer
        Classes in [0, C).
    num_classes : int
        C.

    Raises
    ------
    ValueError
        If shapes disagree, a value is NaN or infinite, or a class is unknown.
    """
    return _by_class(features, labels, num_classes, lambda values: values.mean(axis=0), fewest=1)


def effective_rank(features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int) -> np.ndarray:
    r"""Return the exponential of the entropy of each class's normalised singular values, (C,) float64.

    :math:`\exp(-\sum_i p_i \log p_i)`, with :math:`p_i` the singular values of the centred features over their sum:
    from 1 (all on a line) to min(D, n - 1); NaN for a class whose instances are fewer than two or all the same.
    Parameters and errors are those of `class_means`.

    References
    ----------
    Roy, O., Vetterli, M. (2007). "The effective rank: a measure of effective dimensionality".
    """
    return np.exp(entr(_normalised(np.sqrt(_spectra(features, labels, num_classes)))).sum(axis=1))


def participation_ratio(
    features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int
) -> np.ndarray:
    r"""Return :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2` of each class's covariance eigenvalues, (C,) float64.

    From 1 to min(D, n - 1), as `effective_rank`; NaN where that is.
    """
    return 1 / (_normalised(_spectra(features, labels, num_classes)) ** 2).sum(axis=1)


def mean_cosine_distance(
    features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int
) -> np.ndarray:
    """Return the mean of 1 - cos over all pairs of different instances of each class, (C,) float64.

    NaN for fewer than two instances. Parameters and errors are those of `class_means`; a row of zeros has no angle and
    is refused.
    """

    def of(values: np.ndarray) -> np.ndarray:
        if not values.any(axis=1).all():
            raise ValueError("features hold a row of zeros, which has no angle: drop it.")
        n = len(values)
        # the mean over pairs is that over the whole matrix, less its diagonal of zeros
        return (1 - cosine_similarity(values).mean()) * n / (n - 1)

    return _by_class(features, labels, num_classes, of, fewest=2)[:, 0]


def range_gap(
    train: ArrayLike | Tensor,
    train_labels: ArrayLike | Tensor,
    test: ArrayLike | Tensor,
    test_labels: ArrayLike | Tensor,
    num_classes: int,
) -> np.ndarray:
    """Return how far the test values of each class lie outside the range of its training values.

    Per unit, what the largest test value exceeds the largest training value by, plus what the smallest falls short of
    the smallest by; summed over units and divided by the sum of the training ranges.

    Returns
    -------
    ndarray of shape (C,), float64
        0 where the training covers the test; NaN for a class without instances on either side, or whose training
        instances are all the same.

    Notes
    -----
    The range of few instances is narrower than that of many from the same distribution: compare classes at equal
    numbers (`equal_rows`), or the same class between networks.

    References
    ----------
    After the claim of Dablain et al. ("Efficient Augmentation for Imbalanced Deep Learning", abstract) that the gap
    between training and test feature embeddings is wider for minority classes; the formula is ours.
    """
    ends = (partial(np.min, axis=0), partial(np.max, axis=0))
    (low, high), (test_low, test_high) = (
        [_by_class(*side, num_classes, end, fewest=1) for end in ends]
        for side in ((train, train_labels), (test, test_labels))
    )
    gap = (np.maximum(test_high - high, 0) + np.maximum(low - test_low, 0)).sum(axis=1)
    whole = (high - low).sum(axis=1)
    return gap / np.where(whole > 0, whole, np.nan)


def neighbour_coverage(
    train: ArrayLike | Tensor,
    train_labels: ArrayLike | Tensor,
    test: ArrayLike | Tensor,
    test_labels: ArrayLike | Tensor,
    num_classes: int,
) -> np.ndarray:
    """Return which fraction of each class's test instances its training instances cover, (C,) float64.

    Around each test instance there is a ball that just reaches its n-th nearest neighbour among the test instances of
    its class, with n = `NEIGHBOURS`. It is covered if that ball holds a training instance of the class. The balls are
    as large for every class of a balanced test set.

    Returns
    -------
    ndarray of shape (C,), float64
        NaN for a class without instances on either side, or with no more than n in the test.

    Raises
    ------
    ValueError
        If shapes disagree, a value is NaN or infinite, or a class is unknown.

    References
    ----------
    Naeem, M. F. et al. (2020). "Reliable Fidelity and Diversity Metrics for Generative Models": coverage.
    """
    values, codes = labelled_features(test, test_labels, num_classes, side="test")
    known, labels = labelled_features(train, train_labels, num_classes, side="train", width=values.shape[1])
    covered = np.full(num_classes, np.nan)
    for label, rows in rows_of_classes(codes):
        own, others = values[rows].astype(np.float64), known[labels == label].astype(np.float64)
        if len(own) > NEIGHBOURS and len(others):
            # an instance is its own nearest neighbour, at distance 0
            radii = np.partition(cdist(own, own), NEIGHBOURS, axis=1)[:, NEIGHBOURS]
            covered[label] = (cdist(own, others).min(axis=1) <= radii).mean()
    return covered


def _by_class(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    num_classes: int,
    of: Callable[[np.ndarray], np.ndarray],
    *,
    fewest: int,
) -> np.ndarray:
    """Return what a function makes of each class's instances, (n, D) float64; NaN (C, D) where they are fewer."""
    values, codes = labelled_features(features, labels, num_classes)
    result = np.full((num_classes, values.shape[1]), np.nan)
    for label, rows in rows_of_classes(codes):
        if len(rows) >= fewest:
            result[label] = of(values[rows].astype(np.float64))
    return result


def _spectra(features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int) -> np.ndarray:
    """Return the eigenvalues of each class's covariance, descending, (C, D); 0 where they are rounding."""

    def of(values: np.ndarray) -> np.ndarray:
        values = values - values.mean(axis=0)
        found = np.linalg.eigvalsh(values.T @ values)[::-1] / len(values)
        rounding = max(values.shape) * np.finfo(np.float64).eps
        return np.where(found > rounding * found[0], found, 0.0)

    return _by_class(features, labels, num_classes, of, fewest=2)


def _normalised(values: np.ndarray) -> np.ndarray:
    """Return each row over its sum; NaN where that is 0 or NaN."""
    total = values.sum(axis=1, keepdims=True)
    return values / np.where(total > 0, total, np.nan)
