"""The spectrum of each class's latent features, and in how many directions it spreads.

n instances span at most n - 1 directions about their mean: to compare classes of different size, draw equally many
of each with `imbal_core.embeddings.latent_diversity.equal_rows`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.names import unknown_name
from imbal_core.embeddings.feature_arrays import check_features, class_indices, pieces_by_group, read_rows

__all__ = ["RANKS_OF", "ClassScatter", "ClassSpectra"]

RANKS_OF = ("singular values", "eigenvalues")


@dataclass(frozen=True, eq=False)
class ClassSpectra:
    """The eigenvalues of each class's covariance, and what they say about its dimension.

    Attributes
    ----------
    counts : ndarray of shape (C,), int64
        Instances of each class.
    eigenvalues : ndarray of shape (C, D), float64
        In descending order; 0 where they are below their rounding; NaN for fewer than two instances, or none
        where not centred.
    """

    counts: np.ndarray
    eigenvalues: np.ndarray

    def effective_rank(self, *, of: str = "singular values") -> np.ndarray:
        r"""Return the exponential of the entropy of each class's normalised spectrum, (C,) float64.

        Parameters
        ----------
        of : {"singular values", "eigenvalues"}, default="singular values"
            Of the centred feature matrix, as the paper has it, or their squares, which weigh the large ones
            more.

        Returns
        -------
        ndarray of shape (C,), float64
            :math:`\exp(-\sum_i p_i \log p_i)`, from 1 (all on a line) to min(D, n - 1); NaN for a class whose
            instances are fewer than two or all the same.

        References
        ----------
        Roy, O., Vetterli, M. (2007). "The effective rank: a measure of effective dimensionality".
        """
        if of not in RANKS_OF:
            raise unknown_name("spectrum", of, RANKS_OF)
        values = self.eigenvalues if of == "eigenvalues" else np.sqrt(self.eigenvalues)
        p = _normalised(values)
        logs = np.log(p, out=np.zeros_like(p), where=p > 0)
        return np.exp(-(p * logs).sum(axis=1))

    def participation_ratio(self) -> np.ndarray:
        r"""Return :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2` of each class, (C,) float64.

        From 1 to min(D, n - 1), as the effective rank; NaN where that is.
        """
        return 1 / (_normalised(self.eigenvalues) ** 2).sum(axis=1)


class ClassScatter:
    """Accumulator of each class's scatter matrix, D x D float64 for each class that was seen.

    Parameters
    ----------
    num_classes : int
        C. At 100 classes of 512 units the matrices take 210 MB.

    Notes
    -----
    A batch costs a matrix of D x D for each class in it: make batches large, such as a whole side of a split.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        self.num_classes = num_classes
        self._width: int | None = None
        # By class: number, mean (D,), scatter about the mean (D, D).
        self._moments: dict[int, _Moments] = {}

    def update(self, features: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> ClassScatter:
        """Add a batch; any batching gives the same result.

        Parameters
        ----------
        features : array-like or Tensor of shape (N, D)
            Feature or classification embeddings.
        labels : array-like or Tensor of shape (N,), integer
            Classes in [0, C).

        Returns
        -------
        ClassScatter
            The accumulator itself.

        Raises
        ------
        ValueError
            If shapes disagree, a value is NaN or infinite, or a class is unknown. Values are checked before
            any is added.
        """
        features = check_features(features, width=self._width)
        codes = class_indices(labels, name="labels", count=len(features), num_classes=self.num_classes)
        pieces = list(pieces_by_group(codes, features.shape[1]))
        for _, rows in pieces:
            read_rows(features, rows)
        self._width = features.shape[1]
        for label, rows in pieces:
            self._add(label, _Moments.of(read_rows(features, rows).astype(np.float64)))
        return self

    def merge(self, other: ClassScatter) -> ClassScatter:
        """Add what another accumulator has seen, and return the accumulator itself.

        Raises
        ------
        ValueError
            If the numbers of classes or units differ.
        """
        mine = (self.num_classes, self._width or other._width)
        theirs = (other.num_classes, other._width or self._width)
        if mine != theirs:
            raise ValueError(f"cannot merge: (classes, units) are {mine} and {theirs}.")
        self._width = other._width or self._width
        for label, moments in other._moments.items():
            self._add(label, moments)
        return self

    def compute(self, *, centred: bool = True) -> ClassSpectra:
        """Return the spectrum of each class.

        Parameters
        ----------
        centred : bool, default=True
            Of the covariance: how the instances differ from their mean. Else of the second moment, in which
            the mean itself is a direction, and the largest by far for features after a ReLU.

        Raises
        ------
        ValueError
            If nothing was seen.
        """
        if self._width is None:
            raise ValueError("no instance was seen yet: call update first.")
        counts = np.zeros(self.num_classes, dtype=np.int64)
        eigenvalues = np.full((self.num_classes, self._width), np.nan)
        for label, moments in self._moments.items():
            counts[label] = moments.count
            if moments.count > 1 or not centred:
                matrix = moments.scatter
                if not centred:
                    matrix = matrix + moments.count * np.outer(moments.mean, moments.mean)
                eigenvalues[label] = _spectrum(matrix, moments.count)
        return ClassSpectra(counts, eigenvalues)

    def _add(self, label: int, moments: _Moments) -> None:
        known = self._moments.get(label)
        self._moments[label] = moments if known is None else known.joined(moments)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Number, mean and scatter about the mean of some instances."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> _Moments:
        mean = values.mean(axis=0)
        values = values - mean
        return cls(len(values), mean, values.T @ values)

    def joined(self, other: _Moments) -> _Moments:
        """Return the moments of both sets of instances (Chan et al. 1979)."""
        total = self.count + other.count
        shift = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter += np.outer(shift, shift * (self.count * other.count / total))
        return _Moments(total, self.mean + shift * (other.count / total), scatter)


def _spectrum(matrix: np.ndarray, count: int) -> np.ndarray:
    """Return the eigenvalues of a scatter matrix over the count, descending, without those that are rounding."""
    values = np.linalg.eigvalsh(matrix)[::-1] / count
    rounding = max(count, len(values)) * np.finfo(np.float64).eps
    return np.where(values > rounding * values[0], values, 0.0)


def _normalised(values: np.ndarray) -> np.ndarray:
    """Return each row over its sum; NaN where that is 0 or NaN."""
    total = values.sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)
