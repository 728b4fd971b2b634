"""The units that carry a class: its top K, and two sets of them compared.

Dablain et al. 2022 ("Understanding CNN Fragility When Learning With Imbalanced Data", arXiv 2210.09465) and the
authors' code for sibling papers leave choices open: which instances (give only those), the ranking, the share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.names import unknown_name
from imbal_core.embeddings.features import checked_features, labelled_features, rows_of_classes

__all__ = ["RANKINGS", "SHARES", "TopK", "class_top_k", "magnitude_gap", "overlap_matrix", "paired_overlap"]

RANKINGS = ("absolute", "signed")
SHARES = ("absolute", "net")

# Values in a piece: 1 MiB in float32, so that all readings of it but the first come from the CPU's cache.
_PIECE_VALUES = 2**18


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

    def units_in_use(self, rate: float = 0.0) -> np.ndarray:
        """Return how many units are in the top K of more than that fraction of the instances, (C,) float64."""
        used = (_divide(self.frequencies, self.counts[:, None]) > rate).sum(axis=1)
        return np.where(self.counts > 0, used, np.nan)


def class_top_k(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    num_classes: int,
    *,
    weights: ArrayLike | Tensor | None = None,
    k: int = 10,
    ranking: str = "absolute",
    share: str = "absolute",
) -> TopK:
    r"""Return the top K units of every class.

    With f_j the feature embedding (FE) of an instance x of class c, its value v_j at unit j is

    .. math:: v_j = f_j \quad (FE) \qquad or \qquad v_j = f_j W_{cj} \quad (CE, with\ weights),

    so that the CE of an instance sum to its logit for its class, less the bias.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D)
        Feature embeddings: what the classifier multiplies by its weights
        (`imbal_core.embeddings.classification_embeddings.LinearClassifier.inputs`). Of all instances, or of those
        that were predicted right, or wrong.
    labels : array-like or Tensor of shape (N,), integer
        Classes in [0, C): the true ones, or the predicted ones.
    num_classes : int
        C.
    weights : array-like or Tensor of shape (C, D), optional
        The classifier's weights, for classification embeddings. Without them: feature embeddings.
    k : int, default=10
        K of identities, magnitudes and frequencies. Shares come for every K.
    ranking : {"absolute", "signed"}, default="absolute"
        Units are ranked by the mean of \|v\| or of v. What ranks at 0 or below is in no top K, even where that leaves
        fewer than K units: a dead unit carries nothing, and with "signed" a negative one speaks against the class.
        Equal values rank by the lower index.
    share : {"absolute", "net"}, default="absolute"
        The share of K units ranked first is the sum of their values over that of all units, both summed over the
        instances before they are divided, so that no instance's small logit divides alone. "absolute" sums \|v\|.
        "net" sums v, the share of the logit less its bias: it can exceed 1 before units that speak against the class
        pull it back, and is NaN where that logit is not positive.

    Raises
    ------
    ValueError
        If an option is unknown, shapes disagree, a value is NaN or infinite, or a class is unknown.

    Notes
    -----
    Features of at most 32 bits meet 32-bit weights in float32 products; all sums are float64.

    References
    ----------
    Dablain, D. et al. (2022), arXiv 2210.09465. The sibling repositories dd1github/How_DA_Works (mean \|CE\| of true
    positives, K = 10) and dd1github/IML_for_Imbalanced_Learning (mean FE of all instances, and how many instances
    have a unit among their own ten largest).

    Examples
    --------
    >>> top = class_top_k([[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]], [0, 1], 2, k=2)
    >>> top.identities
    array([[0, 1],
           [2, 0]])
    >>> top.shares
    array([[0.75, 1.  , 1.  ],
           [0.5 , 0.75, 1.  ]])
    """
    for kind, got, valid in (("ranking", ranking, RANKINGS), ("share", share, SHARES)):
        if got not in valid:
            raise unknown_name(kind, got, valid)
    factors = None if weights is None else checked_features(weights, name="weights")
    if factors is not None and len(factors) != num_classes:
        raise ValueError(f"weights must have shape ({num_classes}, D), got {factors.shape}.")
    values, codes = labelled_features(
        features, labels, num_classes, width=None if factors is None else factors.shape[1]
    )
    units = values.shape[1]
    if not 1 <= k <= units:
        raise ValueError(f"k={k} is more than the {units} units of the features, or less than 1.")
    net, magnitude = np.zeros((2, num_classes, units))
    frequencies = np.zeros((num_classes, units), dtype=np.int64)
    for label, rows in rows_of_classes(codes):
        for part in np.array_split(rows, -(-len(rows) * units // _PIECE_VALUES)):
            piece = values[part] if factors is None else values[part] * factors[label]
            size = np.abs(piece)
            net[label] += piece.sum(axis=0, dtype=np.float64)
            magnitude[label] += size.sum(axis=0, dtype=np.float64)
            frequencies[label] += _in_top(size if ranking == "absolute" else piece, k).sum(axis=0)
    counts = np.bincount(codes, minlength=num_classes)
    net, magnitude = (_divide(sums, counts[:, None]) for sums in (net, magnitude))
    means = magnitude if ranking == "absolute" else net
    order = np.argsort(-means, axis=1, kind="stable")
    ordered = np.take_along_axis(means, order, axis=1)
    carries = ordered > 0
    running = np.cumsum(np.take_along_axis(magnitude if share == "absolute" else net, order, axis=1), axis=1)
    # A net sum of 0 comes out as its rounding, which is no whole to take a share of.
    rounding = units * np.finfo(np.float64).eps * magnitude.sum(axis=1, keepdims=True)
    whole = np.where(running[:, -1:] > rounding, running[:, -1:], 0.0)
    return TopK(
        identities=np.where(carries, order, -1)[:, :k],
        magnitudes=np.where(counts[:, None] > 0, np.where(carries, ordered, 0.0), np.nan)[:, :k],
        frequencies=frequencies,
        shares=_divide(running, whole),
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


def overlap_matrix(first: TopK | ArrayLike, second: TopK | ArrayLike | None = None) -> np.ndarray:
    r"""Return the overlap, \|S ∩ T\| / K, of the top-K units of every class with those of every class.

    Parameters
    ----------
    first, second : TopK or array-like of shape (A, K) and (B, K), integer
        Results of the same network, or identities brought into one numbering by
        `imbal_core.embeddings.matching.UnitMatching.translate`; -1 stands for no unit. `second` is `first` by
        default: the overlap between the classes of one result.

    Returns
    -------
    ndarray of shape (A, B), float64
        Fractions; NaN where a class has no unit, as without instances. Two random sets of K out of D units have an
        overlap of K / D on average.

    Raises
    ------
    ValueError
        If the identities have no shape (classes, K) or differ in K, or a class holds a unit twice.

    References
    ----------
    Intersection over K = 10: ``topk_LG.py`` of the repository dd1github/How_DA_Works.

    Examples
    --------
    >>> overlap_matrix([[4, 1]], [[1, 4], [1, 3], [0, 2]])
    array([[1. , 0.5, 0. ]])
    """
    mine = _identities(first)
    theirs = mine if second is None else _identities(second)
    if mine.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"overlap needs the same K on both sides, got {mine.shape[1]} and {theirs.shape[1]}."
        )
    width = max(mine.max(initial=0), theirs.max(initial=0)) + 1
    members, others = _membership(mine, width), _membership(theirs, width)
    some = np.outer(members.any(axis=1), others.any(axis=1))
    return np.where(some, members @ others.T / mine.shape[1], np.nan)


def paired_overlap(first: TopK | ArrayLike, second: TopK | ArrayLike) -> np.ndarray:
    """Return the overlap of each class's top-K units with those of the same class, (C,) float64: see `overlap_matrix`.

    Train against test, true positives against false negatives, one training against another.
    """
    matrix = overlap_matrix(first, second)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"pairs need the same classes on both sides, got {matrix.shape[0]} and {matrix.shape[1]}."
        )
    return np.diag(matrix).copy()


def magnitude_gap(train: TopK, test: TopK) -> np.ndarray:
    """Return by how much the top-K magnitudes of each class fall from train to test, as a share of those in training.

    It follows the units that are the class's top K in training: their mean values there and in the test.

    Parameters
    ----------
    train, test : TopK
        Of the same network, with the same options. True positives for `train` and false negatives for `test` give the
        gap between these.

    Returns
    -------
    ndarray of shape (C,), float64
        Positive where test magnitudes are smaller. NaN for a class without instances on either side, or without a
        unit that carries anything in training.

    Raises
    ------
    ValueError
        If the two differ in shape.

    Notes
    -----
    The abstract speaks of top-K magnitudes that "do not match the training set" and gives no formula. This one is
    ours.
    """
    if train.identities.shape != test.identities.shape or train.means.shape != test.means.shape:
        raise ValueError(
            f"train and test differ in shape: (C, K) = {train.identities.shape} and {test.identities.shape}, "
            f"(C, D) = {train.means.shape} and {test.means.shape}."
        )
    found = train.identities >= 0
    before, after = (
        np.where(found, np.take_along_axis(side.means, train.identities, axis=1), 0.0).sum(axis=1)
        for side in (train, test)
    )
    gap = _divide(before - after, before)
    return np.where((train.counts > 0) & (test.counts > 0), gap, np.nan)


def _identities(top: TopK | ArrayLike) -> np.ndarray:
    units = top.identities if isinstance(top, TopK) else np.asarray(top)
    if units.ndim != 2 or units.dtype.kind not in "iu" or units.shape[1] == 0:
        raise ValueError(
            f"identities must be integers of shape (classes, K), got {units.dtype} of shape {units.shape}."
        )
    return units


def _membership(identities: np.ndarray, width: int) -> np.ndarray:
    """Return (classes, width) float64: 1 where the class holds the unit."""
    rows, columns = np.nonzero(identities >= 0)
    members = np.zeros((len(identities), width))
    np.add.at(members, (rows, identities[rows, columns]), 1.0)
    if (members > 1).any():
        raise ValueError(f"class {int((members > 1).any(1).argmax())} holds a unit twice in its top K.")
    return members


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is not positive."""
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)
