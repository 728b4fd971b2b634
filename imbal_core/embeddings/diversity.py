"""How diverse the features of one class are: directions, distances, ranges, and coverage of the test.

Every measure takes the features of one class, real numbers of shape (n, D), and raises a ValueError where the shape is
another or a value is NaN or infinite. `split_by_class` takes a data set apart.
n instances span at most n - 1 directions about their mean, and how well they cover others grows with n: to compare
classes of different size, draw equally many of each with `equal_rows`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.special import entr
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from imbal_core._checks.arrays import checked_features, labelled_features, on_host

#: The n of `neighbour_coverage`.
NEIGHBOURS = 5


def split_by_class(
    features: ArrayLike | Tensor, labels: ArrayLike | Tensor, num_classes: int
) -> list[np.ndarray]:
    """Return the features (N, D) of each class by the labels (N,), num_classes arrays (n, D) float64.

    ValueError also if there are not as many labels as rows, or one is outside [0, num_classes).
    """
    values, codes = labelled_features(features, labels, num_classes)
    return [values[codes == label].astype(np.float64) for label in range(num_classes)]


def equal_rows(labels: ArrayLike | Tensor, *, generator: np.random.Generator) -> np.ndarray:
    """Return indices of as many instances of every class as the smallest has, drawn without replacement, ascending.

    Labels are integers of shape (N,).
    """
    codes = on_host(labels)
    groups = [np.flatnonzero(codes == label) for label in np.unique(codes)]
    fewest = min(map(len, groups))
    return np.sort(np.concatenate([generator.choice(rows, fewest, replace=False) for rows in groups]))


def effective_rank(features: ArrayLike | Tensor) -> float:
    r"""Return the exponential of the entropy of the normalised singular values of a class.

    :math:`\exp(-\sum_i p_i \log p_i)`, with :math:`p_i` the singular values of the centred features over their sum:
    from 1 (all on a line) to min(D, n - 1); NaN for instances that are fewer than two or all the same. Roy, O.,
    Vetterli, M. (2007), "The effective rank: a measure of effective dimensionality".

    Examples
    --------
    >>> round(effective_rank([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 6)
    2.0
    """
    singular = np.sqrt(_spectrum(features))
    return float(np.exp(entr(singular / singular.sum()).sum()))


def participation_ratio(features: ArrayLike | Tensor) -> float:
    r"""Return :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2` of the eigenvalues of a class's covariance.

    From 1 to min(D, n - 1), as `effective_rank`; NaN where that is.
    """
    found = _spectrum(features)
    return float(1 / ((found / found.sum()) ** 2).sum())


def mean_cosine_distance(features: ArrayLike | Tensor) -> float:
    """Return the mean of 1 - cos over all pairs of different instances of a class; NaN for fewer than two.

    ValueError also if a row is zero, which has no angle.
    """
    values = checked_features(features).astype(np.float64, copy=False)
    if not values.any(axis=1).all():
        raise ValueError("features hold a row of zeros, which has no angle: drop it.")
    if (n := len(values)) < 2:
        return np.nan
    # the mean over pairs is that over the whole matrix, less its diagonal of zeros
    return float((1 - cosine_similarity(values).mean()) * n / (n - 1))


def range_gap(train: ArrayLike | Tensor, test: ArrayLike | Tensor) -> float:
    """Return how far the test values of a class lie outside the range of its training values.

    Per unit, what the largest test value exceeds the largest training value by, plus what the smallest falls short of
    the smallest by; summed over units and divided by the sum of the training ranges. 0 where the training covers the
    test; NaN without instances on either side, or where all of the training are the same. The range of few instances is
    narrower than that of many: compare classes at equal numbers (`equal_rows`), or the same class between networks.

    After the claim of Dablain et al. ("Efficient Augmentation for Imbalanced Deep Learning", abstract) that the gap
    between training and test feature embeddings is wider for minority classes; the formula is ours.
    """
    known, new = _sides(train, test)
    if not len(known) or not len(new) or not (whole := np.ptp(known, axis=0).sum()):
        return np.nan
    above = np.maximum(new.max(axis=0) - known.max(axis=0), 0)
    below = np.maximum(known.min(axis=0) - new.min(axis=0), 0)
    return float((above + below).sum() / whole)


def neighbour_coverage(train: ArrayLike | Tensor, test: ArrayLike | Tensor) -> float:
    """Return which fraction of a class's test instances its training instances cover.

    Around each test instance there is a ball that just reaches its n-th nearest neighbour among the others, with
    n = `NEIGHBOURS`. It is covered if that ball holds a training instance. The balls are as large for every class of a
    balanced test set. NaN without training instances, or with no more than n in the test. Naeem, M. F. et al. (2020),
    "Reliable Fidelity and Diversity Metrics for Generative Models": coverage.
    """
    known, new = _sides(train, test)
    if len(new) <= NEIGHBOURS or not len(known):
        return np.nan
    # an instance is its own nearest neighbour, at distance 0
    radii = np.partition(cdist(new, new), NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    return float((cdist(new, known).min(axis=1) <= radii).mean())


def _sides(train: ArrayLike | Tensor, test: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides of a class, checked; they must be of the same layer."""
    known = checked_features(train, name="train")
    new = checked_features(test, name="test", width=known.shape[1])
    return known.astype(np.float64, copy=False), new.astype(np.float64, copy=False)


def _spectrum(features: ArrayLike | Tensor) -> np.ndarray:
    """Return the eigenvalues of the covariance, descending, (D,); 0 where they are rounding, NaN where all are 0."""
    values = checked_features(features).astype(np.float64, copy=False)
    if len(values) < 2:
        return np.full(1, np.nan)
    values = values - values.mean(axis=0)
    found = np.linalg.eigvalsh(values.T @ values)[::-1] / len(values)
    rounding = max(values.shape) * np.finfo(np.float64).eps
    found = np.where(found > rounding * found[0], found, 0.0)
    return found if found[0] > 0 else np.full(1, np.nan)
