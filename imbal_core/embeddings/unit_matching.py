"""Units of two networks matched by how alike they respond to the same images.

Two trainings have no common order of units, so a class's top-K identities are compared only after a matching.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from imbal_core.embeddings.feature_arrays import check_features, pieces_by_group, read_rows

__all__ = ["UnitCorrelation", "UnitMatching"]

# A unit that varies by less than its own rounding has no correlation.
_CONSTANT = 1e-12


@dataclass(frozen=True, eq=False)
class UnitMatching:
    """One-to-one pairs of units of a first and a second network.

    Attributes
    ----------
    partners : ndarray of shape (D1,), int64
        For each unit of the first network the index of its unit in the second; -1 for none.
    correlations : ndarray of shape (D1,), float64
        Pearson correlation of each pair; NaN where there is none. Look at it before reading anything into the
        identities: units that respond unlike are paired too.
    """

    partners: np.ndarray
    correlations: np.ndarray

    def translate(self, identities: ArrayLike) -> np.ndarray:
        """Return unit indices of the second network as those of their partners in the first.

        Parameters
        ----------
        identities : array-like of any shape, integer
            Of the second network, as in `imbal_core.embeddings.class_top_k.TopK.identities`; -1 stays -1.

        Returns
        -------
        ndarray of the same shape, int64
            -1 for a unit without a partner, which overlaps with nothing.

        Raises
        ------
        ValueError
            If one is no integer or below -1.
        """
        units = np.asarray(identities)
        if units.dtype.kind not in "iu" or (units < -1).any():
            raise ValueError(f"identities must be integers, -1 for no unit, got {units.dtype}.")
        firsts = np.flatnonzero(self.partners >= 0)
        table = np.full(max(units.max(initial=-1), self.partners.max(initial=-1)) + 2, -1, dtype=np.int64)
        table[self.partners[firsts]] = firsts
        return table[units]


class UnitCorrelation:
    """Accumulator of the correlation of every unit of one network with every unit of another.

    Batches may come in any order and size; memory is O(D1 D2). Sums are float64 and are taken about the mean,
    so that large, nearly constant activations lose no digits.

    References
    ----------
    Li, Y. et al. (2016). "Convergent Learning: Do different neural networks learn the same representations?",
    which pairs the units of two networks by the bipartite matching of largest total correlation.

    Examples
    --------
    >>> import numpy as np
    >>> first = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 4.0], [2.0, 3.0, 9.0]])
    >>> matching = UnitCorrelation().update(first, 2 * first[:, [2, 0, 1]] + 1).match()
    >>> matching.partners
    array([1, 2, 0])
    >>> matching.translate([[0, 1]])
    array([[2, 0]])
    """

    def __init__(self) -> None:
        self._count = 0
        self._means: tuple[np.ndarray, np.ndarray] | None = None

    def update(self, first: ArrayLike | Tensor, second: ArrayLike | Tensor) -> UnitCorrelation:
        """Add the activations of both networks on the same images.

        Parameters
        ----------
        first, second : array-like or Tensor of shape (N, D1) and (N, D2)
            Row i of both belongs to the same image.

        Returns
        -------
        UnitCorrelation
            The accumulator itself.

        Raises
        ------
        ValueError
            If shapes disagree or a value is NaN or infinite. The batch is then left out as a whole.
        """
        widths: tuple[int | None, ...] = (None, None)
        if self._means is not None:
            widths = tuple(map(len, self._means))
        pair = [
            check_features(values, name=name, width=width)
            for values, name, width in zip((first, second), ("first", "second"), widths, strict=True)
        ]
        if len(pair[0]) != len(pair[1]):
            raise ValueError(
                f"first and second must be of the same images, got {len(pair[0])} and {len(pair[1])} rows."
            )
        batch = UnitCorrelation()
        for _, rows in pieces_by_group(np.zeros(len(pair[0]), dtype=np.int64), sum(p.shape[1] for p in pair)):
            x, y = (
                read_rows(values, rows, name=name).astype(np.float64)
                for values, name in zip(pair, ("first", "second"), strict=True)
            )
            means = x.mean(axis=0), y.mean(axis=0)
            x -= means[0]
            y -= means[1]
            batch._add(len(rows), means, ((x**2).sum(0), (y**2).sum(0)), x.T @ y)
        return self.merge(batch)

    def merge(self, other: UnitCorrelation) -> UnitCorrelation:
        """Add what another accumulator of the same two networks has seen, and return the accumulator itself.

        Raises
        ------
        ValueError
            If the numbers of units differ.
        """
        if other._means is None:
            return self
        if self._means is not None and self._products.shape != other._products.shape:
            raise ValueError(
                f"cannot merge: units are {self._products.shape} and {other._products.shape} in number."
            )
        return self._add(other._count, other._means, other._squares, other._products)

    def correlations(self) -> np.ndarray:
        """Return the Pearson correlations, (D1, D2) float64; NaN for a unit that is constant.

        Raises
        ------
        ValueError
            If fewer than two images were seen.
        """
        if self._means is None or self._count < 2:
            raise ValueError(f"a correlation needs at least 2 images, got {self._count}: call update first.")
        spreads = []
        for mean, squares in zip(self._means, self._squares, strict=True):
            constant = squares <= self._count * (_CONSTANT * np.abs(mean)) ** 2
            spreads.append(np.sqrt(np.where(constant, np.nan, squares)))
        return np.clip(self._products / np.outer(*spreads), -1.0, 1.0)

    def match(self, *, absolute: bool = False, minimum: float = 0.0) -> UnitMatching:
        """Return the one-to-one matching of largest total correlation (Hungarian method).

        Parameters
        ----------
        absolute : bool, default=False
            Let a unit be matched to one that responds in the opposite way. After a ReLU there is no use for it.
        minimum : float, default=0.0
            Pairs whose correlation (its size, where `absolute`) is not above it are taken apart again.

        Returns
        -------
        UnitMatching
            Constant units, and those left over where one network has fewer, have no partner.

        Raises
        ------
        ValueError
            As `correlations`; also if `minimum` is not in [-1, 1).
        """
        if not -1 <= minimum < 1:
            raise ValueError(f"minimum must lie in [-1, 1), got {minimum}.")
        correlations = self.correlations()
        gains = np.abs(correlations) if absolute else correlations
        # Below any correlation: a constant unit takes no partner that another could use.
        rows, columns = linear_sum_assignment(np.nan_to_num(gains, nan=-2.0), maximize=True)
        kept = np.nan_to_num(gains[rows, columns], nan=-2.0) > minimum
        partners = np.full(len(gains), -1, dtype=np.int64)
        found = np.full(len(gains), np.nan)
        partners[rows[kept]] = columns[kept]
        found[rows[kept]] = correlations[rows[kept], columns[kept]]
        return UnitMatching(partners, found)

    def _add(
        self,
        count: int,
        means: tuple[np.ndarray, np.ndarray],
        squares: tuple[np.ndarray, np.ndarray],
        products: np.ndarray,
    ) -> UnitCorrelation:
        """Add the moments of other images, each about their own means (Chan et al. 1979)."""
        if self._means is None:
            self._count, self._means = count, (means[0].copy(), means[1].copy())
            self._squares, self._products = (squares[0].copy(), squares[1].copy()), products.copy()
            return self
        total = self._count + count
        shifts = tuple(new - old for new, old in zip(means, self._means, strict=True))
        factor = self._count * count / total
        for old, new, shift in zip(self._squares, squares, shifts, strict=True):
            old += new + factor * shift**2
        self._products += products + factor * np.outer(*shifts)
        for mean, shift in zip(self._means, shifts, strict=True):
            mean += shift * (count / total)
        self._count = total
        return self
