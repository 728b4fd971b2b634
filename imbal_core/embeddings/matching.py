"""Units of two networks matched by how alike they respond to the same images.

Two trainings have no common order of units, so a class's top-K identities are compared only after a matching.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from imbal_core._checks.arrays import checked_features

# A unit that varies by less than its own rounding has no correlation.
_CONSTANT = 1e-12


def match_units(first: ArrayLike | Tensor, second: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the one-to-one matching of the units of two networks with the largest total Pearson correlation.

    From activations (N, D1) and (N, D2), of which row i belongs to the same image, N at least 2: for each unit of the
    first network the index of its unit in the second, (D1,) int64, and their correlation, (D1,) float64. Pairs whose
    correlation is not above 0 are taken apart again. Constant units, and those left over where one network has fewer,
    have no partner: -1 and NaN. Look at the correlations before reading anything into the identities: units that
    respond unlike are paired too. ValueError if the numbers of rows differ or are below 2, or a value is not finite.

    Li, Y. et al. (2016), "Convergent Learning: Do different neural networks learn the same representations?"

    Examples
    --------
    >>> first = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 4.0], [2.0, 3.0, 9.0]])
    >>> partners, _ = match_units(first, 2 * first[:, [2, 0, 1]] + 1)
    >>> partners
    array([1, 2, 0])
    >>> translate(partners, [[0, 1]])
    array([[2, 0]])
    """
    x, y = (
        checked_features(values, name=name).astype(np.float64).T
        for values, name in ((first, "first"), (second, "second"))
    )
    if x.shape[1] != y.shape[1] or x.shape[1] < 2:
        raise ValueError(
            f"first and second must be of the same images, 2 or more, got {x.shape[1]} and {y.shape[1]} rows."
        )
    vary = [units.std(axis=1) > _CONSTANT * np.abs(units.mean(axis=1)) for units in (x, y)]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = 1 - cdist(x, y, "correlation")
    # Below any correlation: a constant unit takes no partner that another could use.
    gains = np.where(np.outer(*vary), correlations, -2.0)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    kept = gains[rows, columns] > 0
    rows, columns = rows[kept], columns[kept]
    partners = np.full(len(gains), -1, dtype=np.int64)
    found = np.full(len(gains), np.nan)
    partners[rows], found[rows] = columns, np.clip(correlations[rows, columns], -1.0, 1.0)
    return partners, found


def translate(partners: np.ndarray, identities: ArrayLike) -> np.ndarray:
    """Return unit indices of the second network as those of their partners in the first, int64.

    Partners (D1,) are those of `match_units`, identities, of any shape, those of
    `imbal_core.embeddings.top_k.TopK`: -1, no unit, stays -1, and so becomes a unit without a partner.
    """
    units = np.asarray(identities)
    firsts = np.flatnonzero(partners >= 0)
    table = np.full(max(units.max(initial=-1), partners.max(initial=-1)) + 2, -1, dtype=np.int64)
    table[partners[firsts]] = firsts
    return table[units]
