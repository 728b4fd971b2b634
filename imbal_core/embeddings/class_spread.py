"""How far the instances of a class spread, unit by unit, and how far the test goes beyond the training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core.embeddings.feature_arrays import check_features, class_indices, pieces_by_group, read_rows

__all__ = ["ClassSpread", "range_gap"]


class ClassSpread:
    """Accumulator of each class's mean, variance, smallest and largest value of every unit, in O(C D) memory.

    Parameters
    ----------
    num_classes : int
        C.

    Attributes
    ----------
    counts : ndarray of shape (C,), int64
        Instances seen of each class.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        self.num_classes = num_classes
        self.counts = np.zeros(num_classes, dtype=np.int64)
        # Mean, sum of squared deviations from it, smallest, largest: (4, C, D).
        self._state: np.ndarray | None = None

    def update(self, features: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> ClassSpread:
        """Add a batch; any batching gives the same result.

        Parameters
        ----------
        features : array-like or Tensor of shape (N, D)
            Feature or classification embeddings.
        labels : array-like or Tensor of shape (N,), integer
            Classes in [0, C).

        Returns
        -------
        ClassSpread
            The accumulator itself.

        Raises
        ------
        ValueError
            If shapes disagree, a value is NaN or infinite, or a class is unknown. The batch is then left out
            as a whole.
        """
        features = check_features(features, width=None if self._state is None else self._state.shape[-1])
        codes = class_indices(labels, name="labels", count=len(features), num_classes=self.num_classes)
        present, places = np.unique(codes, return_inverse=True)
        width = features.shape[1]
        counts, state = np.zeros(len(present), dtype=np.int64), _empty(len(present), width)
        for place, rows in pieces_by_group(places, width):
            values = read_rows(features, rows).astype(np.float64)
            mean = values.mean(axis=0)
            squares = ((values - mean) ** 2).sum(axis=0)
            piece = np.stack([mean, squares, values.min(axis=0), values.max(axis=0)])
            _join(counts, state, np.array([place]), np.array([len(rows)]), piece[:, None])
        self._add(present, counts, state)
        return self

    def merge(self, other: ClassSpread) -> ClassSpread:
        """Add what another accumulator has seen, and return the accumulator itself.

        Raises
        ------
        ValueError
            If the numbers of classes or units differ.
        """
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot merge: {self.num_classes} and {other.num_classes} classes.")
        if other._state is None:
            return self
        if self._state is not None and self._state.shape != other._state.shape:
            raise ValueError(f"cannot merge: {self._state.shape[-1]} and {other._state.shape[-1]} units.")
        present = np.flatnonzero(other.counts)
        self._add(present, other.counts[present], other._state[:, present])
        return self

    @property
    def means(self) -> np.ndarray:
        """Class means, (C, D) float64; NaN for a class without instances."""
        return self._where_seen(0, 1)

    @property
    def variances(self) -> np.ndarray:
        """Sample variances (divided by n - 1), (C, D) float64; NaN for fewer than two instances."""
        return self._where_seen(1, 2) / np.maximum(self.counts - 1, 1)[:, None]

    @property
    def lows(self) -> np.ndarray:
        """Smallest values, (C, D) float64; NaN for a class without instances."""
        return self._where_seen(2, 1)

    @property
    def highs(self) -> np.ndarray:
        """Largest values, (C, D) float64; NaN for a class without instances."""
        return self._where_seen(3, 1)

    def mean_squared_distance(self) -> np.ndarray:
        """Return the mean squared Euclidean distance of two different instances of a class, (C,) float64.

        It is twice the sum of the sample variances, so no pair is formed; NaN for fewer than two instances.
        """
        return 2 * self.variances.sum(axis=1)

    def _where_seen(self, place: int, fewest: int) -> np.ndarray:
        if self._state is None:
            raise ValueError("no instance was seen yet: call update first.")
        return np.where(self.counts[:, None] >= fewest, self._state[place], np.nan)

    def _add(self, classes: np.ndarray, counts: np.ndarray, state: np.ndarray) -> None:
        if self._state is None:
            self._state = _empty(self.num_classes, state.shape[-1])
        _join(self.counts, self._state, classes, counts, state)


def range_gap(train: ClassSpread, test: ClassSpread, *, relative: bool = True) -> np.ndarray:
    """Return how far the test values of each class lie outside the range of its training values.

    Per unit, what the largest test value exceeds the largest training value by, plus what the smallest falls
    short of the smallest by; summed over units.

    Parameters
    ----------
    train, test : ClassSpread
        Of the same network and classes.
    relative : bool, default=True
        Divide by the sum of the training ranges; else by D, for a gap in the units of the features.

    Returns
    -------
    ndarray of shape (C,), float64
        0 where the training covers the test; NaN for a class without instances on either side or, where
        relative, whose training instances are all the same.

    Raises
    ------
    ValueError
        If the shapes differ, or one has seen nothing.

    Notes
    -----
    The range of few instances is narrower than that of many from the same distribution: compare classes at
    equal numbers (`imbal_core.embeddings.latent_diversity.equal_rows`), or the same class between networks.

    References
    ----------
    After the claim of Dablain et al. ("Efficient Augmentation for Imbalanced Deep Learning", abstract) that
    the gap between training and test feature embeddings is wider for minority classes; the formula is ours.
    """
    before, after = (train.lows, train.highs), (test.lows, test.highs)
    if before[0].shape != after[0].shape:
        raise ValueError(f"train and test differ in (C, D): {before[0].shape} and {after[0].shape}.")
    outside = np.maximum(after[1] - before[1], 0) + np.maximum(before[0] - after[0], 0)
    gap = outside.sum(axis=1)
    whole = (before[1] - before[0]).sum(axis=1) if relative else np.full(len(gap), outside.shape[1])
    return np.divide(gap, whole, out=np.full(len(gap), np.nan), where=whole > 0)


def _empty(classes: int, width: int) -> np.ndarray:
    state = np.zeros((4, classes, width))
    state[2], state[3] = np.inf, -np.inf
    return state


def _join(
    counts: np.ndarray, state: np.ndarray, classes: np.ndarray, others: np.ndarray, other: np.ndarray
) -> None:
    """Add to the counts and state of `classes` those of other instances (Chan et al. 1979)."""
    old, new = counts[classes].astype(float)[:, None], others.astype(float)[:, None]
    total = old + new
    mean, squares, low, high = state[:, classes]
    shift = other[0] - mean
    state[0, classes] = mean + shift * (new / total)
    state[1, classes] = squares + other[1] + shift**2 * (old * new / total)
    state[2, classes] = np.minimum(low, other[2])
    state[3, classes] = np.maximum(high, other[3])
    counts[classes] += others
