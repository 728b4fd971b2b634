"""What a record keeps of a network's feature embeddings: numbers per class and unit, never an image's own vector.

FE is what the classifier multiplies by its weights, CE the product with the weights of the image's true class; see
`imbal_core.embeddings.classification_embeddings`. Matrices are rows of text, see `run.packed_numbers`; what can be
computed from them, such as overlaps, is computed when they are read: `imbal_book.studies.latent_readings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imbal_book.run.packed_numbers import pack_rows
from imbal_core.embeddings.diversity import (
    class_means,
    effective_rank,
    equal_rows,
    mean_cosine_distance,
    neighbour_coverage,
    participation_ratio,
    range_gap,
)
from imbal_core.embeddings.top_k import TopK, class_top_k, magnitude_gap

__all__ = ["IN_USE_ABOVE", "NEEDED_FOR", "SHARES_AT", "TABLES", "TOP", "Side", "latent_summaries"]

#: K of identities, magnitudes and frequencies: that of the authors' sibling repositories.
TOP = 10
#: K at which shares are kept, those above the number of units aside.
SHARES_AT = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 64, 128)
#: K at which the classifier is cut.
CUT_AT = (1, 2, 5, 10, 20, 30)
#: A unit is in use for a class if it is among the top K of more than this fraction of its images.
IN_USE_ABOVE = (0.0, 0.1, 0.25)
#: Shares for which the number of units needed is kept.
NEEDED_FOR = (0.5, 0.9)
#: Embedding, side and images of the class whose top K are kept. "signed CE" ranks by CE, "CE" by its magnitude.
TABLES = (
    ("FE", "train", "all"),
    ("FE", "test", "all"),
    ("FE", "test", "true positives"),
    ("FE", "test", "false negatives"),
    ("CE", "train", "all"),
    ("CE", "train", "true positives"),
    ("CE", "test", "all"),
    ("CE", "test", "true positives"),
    ("CE", "test", "false negatives"),
    ("signed CE", "test", "true positives"),
)
#: Draws of equally many training images of each class, over which diversity is averaged.
DRAWS = 10
#: Groups of each class's test images, whose mean FE match the units of two networks.
PROBE_GROUPS = 4

_GAPS = ("all", "true positives", "false negatives")


@dataclass(frozen=True, eq=False)
class Side:
    """The images of one side, as the classifier reads them.

    Attributes
    ----------
    inputs : ndarray of shape (N, D), float
        FE, from `imbal_core.embeddings.classification_embeddings.LinearClassifier.inputs`.
    labels, predictions : ndarray of shape (N,), int64
    """

    inputs: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray


def latent_summaries(
    train: Side, test: Side, weights: np.ndarray, bias: np.ndarray, *, seed: int
) -> dict[str, Any]:
    """Return the summaries of one network.

    Parameters
    ----------
    train, test : Side
        Training images unchanged, without augmentation.
    weights, bias : ndarray of shape (C, D) and (C,)
        Of the classifier.
    seed : int
        Of the draws of equally many training images.

    Returns
    -------
    dict
        ``units``: D. ``top``: for each of `TABLES` the number of images, identities, magnitudes, shares at
        `SHARES_AT`, units in use and units needed. ``gaps``: for FE and CE `magnitude_gap` per class from all
        training images to test images: all, true positives, false negatives. ``cut``: recall per class and agreement
        with the whole network for K of `CUT_AT`, see `cut_scores`. ``diversity``: see `diversity`. ``train_means``,
        ``test_means``: mean FE of each class. ``weights``, ``bias``. ``probe``: mean FE of groups of test images,
        the same images in every network of a data set.
    """
    num_classes, units = weights.shape
    tops = _tops(train, test, weights)
    order = np.argsort(-tops["CE", "train", "all"].means, axis=1, kind="stable")
    top: dict[str, Any] = {}
    for embedding, side, instances in TABLES:
        of_side = top.setdefault(embedding, {}).setdefault(side, {})
        of_side[instances] = _table(tops[embedding, side, instances])
    return {
        "units": units,
        "top": top,
        "gaps": {
            embedding: pack_rows(
                [magnitude_gap(tops[embedding, "train", "all"], tops[embedding, "test", of]) for of in _GAPS]
            )
            for embedding in ("FE", "CE")
        },
        "cut": cut_scores(test, weights, bias, order),
        "diversity": diversity(train, test, num_classes, seed=seed),
        "train_means": pack_rows(class_means(train.inputs, train.labels, num_classes)),
        "test_means": pack_rows(class_means(test.inputs, test.labels, num_classes)),
        "weights": pack_rows(weights),
        "bias": pack_rows(bias[None])[0],
        "probe": pack_rows(_probe(test, num_classes), digits=3),
    }


def cut_scores(side: Side, weights: np.ndarray, bias: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """Return how well a classifier predicts that has only K weights of each class, or all but these.

    Parameters
    ----------
    side : Side
    weights, bias : ndarray of shape (C, D) and (C,)
    order : ndarray of shape (C, D), int
        The units of each class, those to be kept first.

    Returns
    -------
    dict
        ``k``: the K of `CUT_AT` that leave a unit on both sides. ``only`` and ``without``: for the K units and for
        the others, ``recall`` (a row per K, a column per class; NaN without images) and ``agreement`` (per K, the
        fraction of images of which the whole network predicts the same class).
    """
    num_classes, units = weights.shape
    ranks = np.argsort(order, axis=1)
    at = [k for k in CUT_AT if k < units]
    scores: dict[str, Any] = {"k": at}
    for name in ("only", "without"):
        recalls, agreements = [], []
        for k in at:
            kept = ranks < k if name == "only" else ranks >= k
            predicted = (side.inputs @ np.where(kept, weights, 0).T + bias).argmax(axis=1)
            right = np.bincount(side.labels[predicted == side.labels], minlength=num_classes)
            count = np.bincount(side.labels, minlength=num_classes)
            recalls.append(np.divide(right, count, out=np.full(num_classes, np.nan), where=count > 0))
            agreements.append(float((predicted == side.predictions).mean()))
        scores[name] = {"recall": pack_rows(recalls), "agreement": agreements}
    return scores


def diversity(train: Side, test: Side, num_classes: int, *, seed: int) -> dict[str, Any]:
    """Return how diverse the FE of each class are.

    Parameters
    ----------
    train, test : Side
    num_classes : int
        C.
    seed : int
        Of the draws.

    Returns
    -------
    dict
        Rows of text with a number per class. ``measures``: the names of the rows of ``train`` and ``test`` (all
        images) and ``equal`` (as many training images of each class as the smallest has, ``rows``; the mean over
        `DRAWS` draws): effective rank, participation ratio and mean cosine distance of two images. ``coverage``: of
        the test by all training images, and by one equal draw; ``range_gap``: to the test from all, and from equal
        draws, the mean; see `imbal_core.embeddings.diversity.range_gap`.
    """
    counts = np.bincount(train.labels, minlength=num_classes)
    rows = int(counts[counts > 0].min())
    generator = np.random.default_rng(seed)
    draws = [
        equal_rows(train.labels, generator=generator)
        for _ in range(DRAWS if (counts[counts > 0] > rows).any() else 1)
    ]
    drawn = [(train.inputs[draw], train.labels[draw]) for draw in draws]
    whole = (train.inputs, train.labels)
    gaps = [range_gap(x, y, test.inputs, test.labels, num_classes) for x, y in (whole, *drawn)]
    covered = [neighbour_coverage(x, y, test.inputs, test.labels, num_classes) for x, y in (whole, drawn[0])]
    return {
        "measures": ["effective rank", "participation ratio", "cosine distance"],
        "rows": rows,
        "train": pack_rows(_measures(train.inputs, train.labels, num_classes)),
        "equal": pack_rows(np.mean([_measures(*part, num_classes) for part in drawn], axis=0)),
        "test": pack_rows(_measures(test.inputs, test.labels, num_classes)),
        "coverage": pack_rows(covered),
        "range_gap": pack_rows([gaps[0], np.mean(gaps[1:], axis=0)]),
    }


def _measures(inputs: np.ndarray, labels: np.ndarray, num_classes: int) -> list[np.ndarray]:
    # an image without any active unit has no angle to another
    active = np.flatnonzero((inputs != 0).any(axis=1))
    distance = np.full(num_classes, np.nan)
    if len(active):
        distance = mean_cosine_distance(inputs[active], labels[active], num_classes)
    spread = (measure(inputs, labels, num_classes) for measure in (effective_rank, participation_ratio))
    return [*spread, distance]


def _tops(train: Side, test: Side, weights: np.ndarray) -> dict[tuple[str, str, str], TopK]:
    """Return the top K of each of `TABLES`; their shares are those of |CE| or FE."""
    sides = {"train": train, "test": test}
    options: Mapping[str, dict[str, Any]] = {
        "FE": {},
        "CE": {"weights": weights},
        "signed CE": {"weights": weights, "signed": True},
    }
    found = {}
    for embedding, name, instances in TABLES:
        side = sides[name]
        right = side.predictions == side.labels
        rows = {"all": slice(None), "true positives": right, "false negatives": ~right}[instances]
        found[embedding, name, instances] = class_top_k(
            side.inputs[rows], side.labels[rows], len(weights), k=TOP, **options[embedding]
        )
    return found


def _table(top: TopK) -> dict[str, Any]:
    at = [k for k in SHARES_AT if k <= top.shares.shape[1]]
    return {
        "images": top.counts.tolist(),
        "identities": pack_rows(top.identities),
        "magnitudes": pack_rows(top.magnitudes),
        "shares": pack_rows(top.shares[:, np.array(at) - 1]),
        "in_use": pack_rows(np.stack([top.units_in_use(rate) for rate in IN_USE_ABOVE], axis=1)),
        "needed": pack_rows(np.stack([top.units_for_share(share) for share in NEEDED_FOR], axis=1)),
    }


def _probe(side: Side, num_classes: int) -> np.ndarray:
    """Return the mean FE of every group of images, those of class 0 first: (groups, D)."""
    return np.stack([side.inputs[rows].mean(axis=0) for rows in _groups(side.labels, num_classes)])


def _groups(labels: np.ndarray, num_classes: int) -> Iterator[np.ndarray]:
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        yield from (members[first::PROBE_GROUPS] for first in range(min(PROBE_GROUPS, len(members))))
