"""Two sets of class top-K units compared: how many they share, and how far their magnitudes are apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from imbal_core._checks.names import unknown_name
from imbal_core.embeddings.class_top_k import TopK

__all__ = ["OVERLAPS", "frequency_ratio", "magnitude_gap", "overlap_matrix", "paired_overlap"]

OVERLAPS = ("intersection", "jaccard")


def overlap_matrix(
    first: TopK | ArrayLike, second: TopK | ArrayLike | None = None, *, measure: str = "intersection"
) -> np.ndarray:
    r"""Return the overlap of the top-K units of every class with those of every class.

    Parameters
    ----------
    first, second : TopK or array-like of shape (A, K) and (B, K), integer
        Results of the same network, or identities brought into one numbering by
        `imbal_core.embeddings.unit_matching.UnitMatching.translate`; -1 stands for no unit. `second` is `first` by
        default: the overlap between the classes of one result.
    measure : {"intersection", "jaccard"}, default="intersection"
        \|S ∩ T\| / K, which punishes a set with fewer than K units, or \|S ∩ T\| / \|S ∪ T\|.

    Returns
    -------
    ndarray of shape (A, B), float64
        Fractions; NaN where a class has no unit, as without instances. Two random sets of K out of D units
        have an intersection of K / D on average.

    Raises
    ------
    ValueError
        If the measure is unknown, the identities have no shape (classes, K) or differ in K, or a class holds
        a unit twice.

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
    _check_same_k(mine, theirs, measure)
    width = max(mine.max(initial=0), theirs.max(initial=0)) + 1
    members, others = _membership(mine, width), _membership(theirs, width)
    return _overlap(members @ others.T, members.sum(1)[:, None], others.sum(1), mine.shape[1], measure)


def paired_overlap(
    first: TopK | ArrayLike, second: TopK | ArrayLike, *, measure: str = "intersection"
) -> np.ndarray:
    """Return the overlap of each class's top-K units with those of the same class, (C,) float64.

    Train against test, true positives against false negatives, one training against another. Parameters and
    errors are those of `overlap_matrix`, of which this is the diagonal; both have the same classes.
    """
    mine, theirs = _identities(first), _identities(second)
    _check_same_k(mine, theirs, measure)
    if len(mine) != len(theirs):
        raise ValueError(f"pairs need the same classes on both sides, got {len(mine)} and {len(theirs)}.")
    width = max(mine.max(initial=0), theirs.max(initial=0)) + 1
    members, others = _membership(mine, width), _membership(theirs, width)
    return _overlap((members * others).sum(1), members.sum(1), others.sum(1), mine.shape[1], measure)


def frequency_ratio(top: TopK, reference: int) -> np.ndarray:
    """Return how often a reference class's top-K units are in the top K of each class's instances.

    Parameters
    ----------
    top : TopK
    reference : int
        The class r whose identities are followed.

    Returns
    -------
    ndarray of shape (C, K), float64
        Instances of class c that have the unit among their own top K, over those of class r; column j is the
        j-th identity of class r. Counts, not fractions, are divided, so a large class has a large ratio. NaN
        for no unit, or one that is in no instance's top K.

    Raises
    ------
    ValueError
        If the class is unknown.

    References
    ----------
    The "FE density ratio" in ``FE_idx_density.py`` of dd1github/IML_for_Imbalanced_Learning, without the
    halving of some bars there.
    """
    if not 0 <= reference < len(top.counts):
        raise ValueError(f"reference must be a class in [0, {len(top.counts)}), got {reference}.")
    units = top.identities[reference]
    counts = np.where(units >= 0, top.frequencies[:, units], 0)
    own = counts[reference]
    return np.divide(counts, own, out=np.full(counts.shape, np.nan), where=own > 0)


def magnitude_gap(
    train: TopK, test: TopK, *, units: str = "train", absolute: bool = False, relative: bool = True
) -> np.ndarray:
    """Return by how much the top-K magnitudes of each class fall from train to test.

    Parameters
    ----------
    train, test : TopK
        Of the same network, with the same options but for the instances. True positives for `train` and false
        negatives for `test` give the gap between these.
    units : {"train", "own"}, default="train"
        "train" follows the units that are the class's top K in training: their mean values there and in the
        test. "own" compares the r-th magnitude of one side with the r-th of the other, whichever the units.
    absolute : bool, default=False
        Add up |train - test|; else train - test, where a unit that gains makes up for one that falls.
    relative : bool, default=True
        Divide the sum by that of the train values; else by K, for a gap in the units of the embedding.

    Returns
    -------
    ndarray of shape (C,), float64
        Positive where test magnitudes are smaller. NaN for a class without instances on either side or, where
        relative, without a unit that carries anything in training.

    Raises
    ------
    ValueError
        If the option is unknown, or the two results differ in shape, embedding, ranking or `units_of`.

    Notes
    -----
    The abstract speaks of top-K magnitudes that "do not match the training set" and gives no formula. All four
    forms are ours.
    """
    if units not in ("train", "own"):
        raise unknown_name("units", units, ("train", "own"))
    for name in ("embedding", "ranking", "units_of"):
        if getattr(train, name) != getattr(test, name):
            raise ValueError(
                f"train and test differ in {name}: {getattr(train, name)!r} and {getattr(test, name)!r}."
            )
    if train.identities.shape != test.identities.shape or train.means.shape != test.means.shape:
        raise ValueError(
            f"train and test differ in shape: (C, K) = {train.identities.shape} and {test.identities.shape}, "
            f"(C, D) = {train.means.shape} and {test.means.shape}."
        )
    if units == "own":
        before, after = train.magnitudes, test.magnitudes
    else:
        found = train.identities >= 0
        before, after = (
            np.where(found, np.take_along_axis(side.means, train.identities, axis=1), 0.0)
            for side in (train, test)
        )
    falls = before - after
    gap = (np.abs(falls) if absolute else falls).sum(axis=1)
    whole = before.sum(axis=1) if relative else np.full(len(gap), float(train.k))
    seen = (train.counts > 0) & (test.counts > 0)
    return np.divide(gap, whole, out=np.full(len(gap), np.nan), where=seen & (whole > 0))


def _identities(top: TopK | ArrayLike) -> np.ndarray:
    units = top.identities if isinstance(top, TopK) else np.asarray(top)
    if units.ndim != 2 or units.dtype.kind not in "iu" or units.shape[1] == 0:
        raise ValueError(
            f"identities must be integers of shape (classes, K), got {units.dtype} of shape {units.shape}."
        )
    return units


def _check_same_k(first: np.ndarray, second: np.ndarray, measure: str) -> None:
    if measure not in OVERLAPS:
        raise unknown_name("measure of overlap", measure, OVERLAPS)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"overlap needs the same K on both sides, got {first.shape[1]} and {second.shape[1]}."
        )


def _membership(identities: np.ndarray, width: int) -> np.ndarray:
    """Return (classes, width) float64: 1 where the class holds the unit."""
    rows, columns = np.nonzero(identities >= 0)
    members = np.zeros((len(identities), width))
    np.add.at(members, (rows, identities[rows, columns]), 1.0)
    if (members > 1).any():
        raise ValueError(f"class {int((members > 1).any(1).argmax())} holds a unit twice in its top K.")
    return members


def _overlap(shared: np.ndarray, mine: np.ndarray, theirs: np.ndarray, k: int, measure: str) -> np.ndarray:
    whole = mine + theirs - shared if measure == "jaccard" else np.full(shared.shape, float(k))
    return np.divide(shared, whole, out=np.full(shared.shape, np.nan), where=(mine > 0) & (theirs > 0))
