r"""The units that carry a class: its top K, and two sets of them compared.

With f_j the feature embedding (FE) of an instance x of class c, its value v_j at unit j is

.. math:: v_j = f_j \quad (FE) \qquad or \qquad v_j = f_j W_{cj} \quad (CE, with\ weights),

so that the CE of an instance sum to its logit for its class, less the bias.

References
----------
Dablain, D. et al. (2022). "Understanding CNN Fragility When Learning With Imbalanced Data", arXiv 2210.09465. It and
the authors' code for sibling papers leave choices open: which instances, the ranking, the share. dd1github/How_DA_Works
takes the mean |CE| of true positives, K = 10, and the intersection over K (``topk_LG.py``);
dd1github/IML_for_Imbalanced_Learning the mean FE of all instances, and how many have a unit among their ten largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.arrays import checked_features, labelled_features


@dataclass(frozen=True, eq=False)
class TopK:
    r"""The top K units of every class.

    Attributes
    ----------
    identities : ndarray of shape (C, K), int64
        Indices of the units, the first carrying most; -1 where fewer than K units carry anything.
    magnitudes : ndarray of shape (C, K), float64
        The mean of each rank's unit, in the units of the embedding; 0 beside an identity of -1.
    frequencies : ndarray of shape (C, D), int64
        In how many instances of the class a unit is among that instance's own top K.
    shares : ndarray of shape (C, D), float64
        Column j is the share that the top j + 1 units carry, a fraction.
    means : ndarray of shape (C, D), float64
        Mean over the class's instances of the value by which units are ranked: \|v\|, or v where signed.
    counts : ndarray of shape (C,), int64
        Instances of each class. Where it is 0, identities are -1 and the other fractions and means NaN.
    """

    identities: np.ndarray
    magnitudes: np.ndarray
    frequencies: np.ndarray
    shares: np.ndarray
    means: np.ndarray
    counts: np.ndarray

    def units_for_share(self, share: float) -> np.ndarray:
        """Return the fewest units whose share reaches a fraction in (0, 1], (C,) float64; NaN where undefined."""
        reached = self.shares >= share
        return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.nan)

    def units_in_use(self, rate: float) -> np.ndarray:
        """Return how many units are in the top K of more than that fraction of the instances, (C,) float64."""
        counts = np.where(self.counts > 0, self.counts, np.nan)
        return np.where(self.counts > 0, (self.frequencies / counts[:, None] > rate).sum(axis=1), np.nan)


def class_top_k(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    num_classes: int,
    *,
    weights: ArrayLike | Tensor | None = None,
    k: int = 10,
    signed: bool = False,
) -> TopK:
    r"""Return the top K units of every class, of FE, or of CE where weights are given.

    What ranks at 0 or below is in no top K, even where that leaves fewer than K units: a dead unit carries nothing.
    Equal values rank by the lower index. Values are summed over the instances before they are shared out, so that no
    instance's small logit divides alone. Products of 32 bits stay in float32; all sums are float64.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D)
        FE: `imbal_core.embeddings.classification_embeddings.LinearClassifier.inputs`.
    labels : array-like or Tensor of shape (N,), integer
        Classes in [0, num_classes): the true ones, or the predicted ones.
    weights : array-like or Tensor of shape (num_classes, D), optional
    k : int, default=10
        K of identities, magnitudes and frequencies. Shares come for every K.
    signed : bool, default=False
        Rank units by the mean of v instead of \|v\|, and share out the sum of v: the logit less its bias. Such a share
        can exceed 1 before units that speak against the class pull it back, and is NaN where the sum is not positive.
        ValueError if shapes disagree, k exceeds D, a value is NaN or infinite, or a class is unknown.

    Examples
    --------
    >>> class_top_k([[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]], [0, 1], 2, k=2).identities
    array([[0, 1],
           [2, 0]])
    """
    factors = None if weights is None else checked_features(weights, name="weights")
    if factors is not None and len(factors) != num_classes:
        raise ValueError(f"weights must have shape ({num_classes}, D), got {factors.shape}.")
    width = None if factors is None else factors.shape[1]
    values, codes = labelled_features(features, labels, num_classes, width=width)
    units = values.shape[1]
    if not 1 <= k <= units:
        raise ValueError(f"k={k} is more than the {units} units of the features, or less than 1.")
    means = np.full((num_classes, units), np.nan)
    whole = np.full((num_classes, 1), np.nan)
    frequencies = np.zeros((num_classes, units), dtype=np.int64)
    for label in np.unique(codes):
        rows = np.flatnonzero(codes == label)
        own = values[rows] if factors is None else values[rows] * factors[label]
        sizes = np.abs(own)
        keys = own if signed else sizes
        means[label] = keys.mean(axis=0, dtype=np.float64)
        whole[label] = sizes.sum(dtype=np.float64) / len(rows)
        frequencies[label] = _in_top(keys, k).sum(axis=0)
    return _rank(means, whole, frequencies, np.bincount(codes, minlength=num_classes), k)


def _rank(means: np.ndarray, whole: np.ndarray, frequencies: np.ndarray, counts: np.ndarray, k: int) -> TopK:
    """Return the top K by the means; ``whole`` (C, 1) is the size of what they sum, of which rounding is a part."""
    order = np.argsort(-means, axis=1, kind="stable")
    ordered = np.take_along_axis(means, order, axis=1)
    running = np.cumsum(ordered, axis=1)
    # A signed sum of 0 comes out as its rounding, which is no whole to take a share of.
    some = running[:, -1:] > means.shape[1] * np.finfo(np.float64).eps * whole
    return TopK(
        identities=np.where(ordered > 0, order, -1)[:, :k],
        magnitudes=np.where(ordered <= 0, 0.0, ordered)[:, :k],
        frequencies=frequencies,
        shares=running / np.where(some, running[:, -1:], np.nan),
        means=means,
        counts=counts,
    )


def _in_top(keys: np.ndarray, k: int) -> np.ndarray:
    """Return which units are among the k largest positive of each row, equal ones by the lower index; bool (n, D)."""
    least = np.partition(keys, -k, axis=1)[:, -k]
    inside = (keys >= least[:, None]) & (keys > 0)
    crowded = np.flatnonzero((inside.sum(axis=1) > k) & (least > 0))
    first = np.argsort(-keys[crowded], axis=1, kind="stable")[:, :k]
    inside[crowded] = False
    inside[crowded[:, None], first] = True
    return inside


def overlap_matrix(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    r"""Return the overlap, \|S ∩ T\| / K, of the top-K units of every class with those of every class.

    From identities (A, K) and (B, K), those of `TopK` of the same network or brought into one numbering by
    `imbal_core.embeddings.matching.translate`: fractions (A, B), float64; NaN where a class has no unit (-1), as
    without instances. Two random sets of K out of D units have an overlap of K / D on average. The diagonal compares
    each class with itself: train against test, true positives against false negatives, one training against another.
    Identities of another shape or K are a ValueError.

    Examples
    --------
    >>> overlap_matrix([[4, 1]], [[1, 4], [1, 3], [0, 2]])
    array([[1. , 0.5, 0. ]])
    """
    mine, theirs = np.asarray(first), np.asarray(second)
    if not (mine.ndim == theirs.ndim == 2 and mine.shape[1] == theirs.shape[1] > 0):
        raise ValueError(
            f"identities must have shape (classes, K), of the same K, got {mine.shape} and {theirs.shape}."
        )
    numbers = np.arange(max(mine.max(initial=-1), theirs.max(initial=-1)) + 1)
    members, others = ((side[:, :, None] == numbers).any(axis=1).astype(float) for side in (mine, theirs))
    some = np.outer(members.any(axis=1), others.any(axis=1))
    return np.where(some, members @ others.T / mine.shape[1], np.nan)


def magnitude_gap(train: TopK, test: TopK) -> np.ndarray:
    """Return by how much the top-K magnitudes of each class fall from train to test, as a share of the former, (C,).

    It follows the units that are the class's top K in training: their mean values there and in the test. Positive
    where test magnitudes are smaller; NaN for a class without instances on either side, or without a unit that carries
    anything in training. The abstract speaks of top-K magnitudes that "do not match the training set" and gives no
    formula; this one is ours. Both sides are of the same network, with the same options; ValueError if they differ in
    classes or units.
    """
    if train.means.shape != test.means.shape:
        raise ValueError(f"(C, D) is {train.means.shape} in train and {test.means.shape} in test.")
    found = train.identities >= 0
    before, after = (
        np.where(found, np.take_along_axis(side.means, train.identities, axis=1), 0.0).sum(axis=1)
        for side in (train, test)
    )
    defined = (train.counts > 0) & (test.counts > 0) & (before > 0)
    return (before - after) / np.where(defined, before, np.nan)
