"""How diverse the latent features of a class are: distances, and coverage of the test by the training.

How well n instances cover others grows with n, and so does the rank that they can have
(`imbal_core.embeddings.class_spectra`). To compare classes of different size, draw equally many of each: `equal_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from torch import Tensor

from imbal_core._checks.arrays import checked_classes
from imbal_core._checks.names import unknown_name
from imbal_core.embeddings.feature_arrays import Features, check_features, class_indices, read_rows

__all__ = [
    "DISTANCES",
    "Coverage",
    "equal_rows",
    "mean_pairwise_distance",
    "neighbour_coverage",
]

DISTANCES = ("euclidean", "cosine")

# Distances at a time: 8 MiB in float64.
_BLOCK_VALUES = 2**20


@dataclass(frozen=True, eq=False)
class Coverage:
    """How near the training instances of a class come to its test instances.

    Attributes
    ----------
    covered : ndarray of shape (C,), float64
        Fraction of test instances that are covered, see `neighbour_coverage`.
    nearest_distance : ndarray of shape (C,), float64
        Mean Euclidean distance of a test instance to the nearest training instance of its class.
    train_counts, test_counts : ndarray of shape (C,), int64
    """

    covered: np.ndarray
    nearest_distance: np.ndarray
    train_counts: np.ndarray
    test_counts: np.ndarray


def equal_rows(
    labels: ArrayLike | Tensor, num_classes: int, *, generator: np.random.Generator, rows: int | None = None
) -> np.ndarray:
    """Return indices of equally many instances of every class that has any, drawn without replacement.

    Parameters
    ----------
    labels : array-like or Tensor of shape (N,), integer
        Classes in [0, C).
    num_classes : int
        C.
    generator : numpy.random.Generator
    rows : int, optional
        Instances of each class; by default as many as the smallest class has.

    Returns
    -------
    ndarray of shape (rows * classes present,), int64
        In ascending order.

    Raises
    ------
    ValueError
        If a class has fewer than `rows` instances, or labels are no classes.
    """
    codes = checked_classes("labels", labels, num_classes)
    counts = np.bincount(codes, minlength=num_classes)
    smallest = int(counts[counts > 0].min())
    rows = smallest if rows is None else rows
    if not 1 <= rows <= smallest:
        raise ValueError(f"rows must be at least 1 and at most {smallest}, the smallest class, got {rows}.")
    chosen = [
        generator.choice(np.flatnonzero(codes == label), rows, replace=False)
        for label in np.flatnonzero(counts)
    ]
    return np.sort(np.concatenate(chosen))


def mean_pairwise_distance(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    num_classes: int,
    *,
    distance: str = "euclidean",
) -> np.ndarray:
    """Return the mean distance of two different instances of each class, over all pairs.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D)
        Feature or classification embeddings.
    labels : array-like or Tensor of shape (N,), integer
        Classes in [0, C).
    num_classes : int
        C.
    distance : {"euclidean", "cosine"}, default="euclidean"
        Cosine is 1 - cos of the angle, which does not see the length of the embeddings.

    Returns
    -------
    ndarray of shape (C,), float64
        NaN for a class of fewer than two instances.

    Raises
    ------
    ValueError
        If the distance is unknown, shapes disagree, a value is NaN or infinite, a class is unknown, or a row
        is all zeros and has no angle.

    See Also
    --------
    imbal_core.embeddings.class_spread.ClassSpread.mean_squared_distance : From streamed sums, without pairs.

    Notes
    -----
    Time grows with the square of a class's instances; memory is a float64 copy of one class and 16 MiB.
    """
    if distance not in DISTANCES:
        raise unknown_name("distance", distance, DISTANCES)
    result = np.full(num_classes, np.nan)
    for label, values in _classes_of(features, labels, num_classes):
        if len(values) < 2:
            continue
        if distance == "cosine":
            lengths = np.linalg.norm(values, axis=1, keepdims=True)
            if not lengths.all():
                raise ValueError(f"class {label} has a row of zeros, which has no angle: drop it.")
            values /= lengths
        pairs = len(values) * (len(values) - 1)
        # About their mean, so that a common offset costs no digits.
        values -= values.mean(axis=0)
        squares = (values**2).sum(axis=1)
        total = 0.0
        for rows in _blocks(len(values), len(values)):
            between = squares[rows, None] + squares - 2 * (values[rows] @ values.T)
            between[np.arange(len(between)), np.arange(rows.start, rows.stop)] = 0.0
            np.maximum(between, 0.0, out=between)
            total += float((between / 2 if distance == "cosine" else np.sqrt(between)).sum())
        result[label] = total / pairs
    return result


def neighbour_coverage(
    train_features: ArrayLike | Tensor,
    train_labels: ArrayLike | Tensor,
    test_features: ArrayLike | Tensor,
    test_labels: ArrayLike | Tensor,
    num_classes: int,
    *,
    neighbours: int = 5,
    balls: str = "test",
) -> Coverage:
    """Return which fraction of each class's test instances its training instances cover.

    Around each instance of one side there is a ball that just reaches its n-th nearest neighbour among the
    instances of the same side and class. A test instance is covered if

    - ``balls="test"``: its own ball holds a training instance (coverage of Naeem et al.);
    - ``balls="train"``: it lies in the ball of a training instance (recall of Kynkäänniemi et al.).

    Balls of the test are as large for every class of a balanced test set. Balls of the training grow as the
    training instances become few, so that a small class seems well covered.

    Parameters
    ----------
    train_features, test_features : array-like or Tensor of shape (N, D) and (M, D)
        Feature embeddings from the same network.
    train_labels, test_labels : array-like or Tensor of shape (N,) and (M,), integer
        Classes in [0, C).
    num_classes : int
        C.
    neighbours : int, default=5
        n.
    balls : {"test", "train"}, default="test"

    Returns
    -------
    Coverage
        NaN for a class without instances on either side; `covered` also for one that has no more than n
        instances on the side of the balls.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, shapes disagree, a value is NaN or infinite, or a class is
        unknown.

    References
    ----------
    Naeem, M. F. et al. (2020). "Reliable Fidelity and Diversity Metrics for Generative Models".
    Kynkäänniemi, T. et al. (2019). "Improved Precision and Recall Metric for Assessing Generative Models".
    """
    if balls not in ("test", "train"):
        raise unknown_name("side of the balls", balls, ("test", "train"))
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, got {neighbours}.")
    tests = dict(_classes_of(test_features, test_labels, num_classes, side="test"))
    width = next(iter(tests.values())).shape[1]
    covered, nearest = np.full((2, num_classes), np.nan)
    train_counts, test_counts = np.zeros((2, num_classes), dtype=np.int64)
    for label, test in tests.items():
        test_counts[label] = len(test)
    for label, train in _classes_of(train_features, train_labels, num_classes, side="train", width=width):
        train_counts[label] = len(train)
        if label not in tests:
            continue
        test = tests[label]
        owners = test if balls == "test" else train
        radii = _radii(owners, neighbours) if len(owners) > neighbours else None
        inside, distances = 0, 0.0
        for rows in _blocks(len(test), len(train)):
            between = cdist(test[rows], train)
            distances += float(between.min(axis=1).sum())
            if radii is not None:
                reach = radii[rows, None] if balls == "test" else radii
                inside += int((between <= reach).any(axis=1).sum())
        nearest[label] = distances / len(test)
        if radii is not None:
            covered[label] = inside / len(test)
    return Coverage(covered, nearest, train_counts, test_counts)


def _classes_of(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    num_classes: int,
    *,
    side: str = "",
    width: int | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (class, its instances as float64, a copy) for each class present."""
    prefix = f"{side} " if side else ""
    rows_of: Features = check_features(features, name=f"{prefix}features", width=width)
    codes = class_indices(labels, name=f"{prefix}labels", count=len(rows_of), num_classes=num_classes)
    for label in np.unique(codes):
        values = read_rows(rows_of, np.flatnonzero(codes == label), name=f"{prefix}features")
        yield int(label), values.astype(np.float64)


def _radii(values: np.ndarray, neighbours: int) -> np.ndarray:
    """Return each instance's distance to its n-th nearest other instance."""
    radii = np.empty(len(values))
    for rows in _blocks(len(values), len(values)):
        # The instance itself is nearest, at distance 0.
        radii[rows] = np.partition(cdist(values[rows], values), neighbours, axis=1)[:, neighbours]
    return radii


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
