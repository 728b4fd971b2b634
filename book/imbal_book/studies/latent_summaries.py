"""What a record keeps of a network's feature embeddings: numbers per class and unit, never an image's own vector.

FE is what the classifier multiplies by its weights, CE the product with the weights of the image's true class; see
`imbal_core.embeddings.classification_embeddings`. Matrices are rows of text, see `run.packed_numbers`; what can be
computed from them, such as overlaps, is computed when they are read: `imbal_book.studies.latent_readings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import recall_score

from imbal_book.run.packed_numbers import pack_rows
from imbal_core.embeddings.diversity import (
    effective_rank,
    equal_rows,
    mean_cosine_distance,
    neighbour_coverage,
    participation_ratio,
    range_gap,
    split_by_class,
)
from imbal_core.embeddings.top_k import TopK, class_top_k, magnitude_gap

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


@dataclass(frozen=True, eq=False)
class Side:
    """The images of one side, as the classifier reads them.

    ``inputs`` (N, D): FE, of `imbal_core.embeddings.classification_embeddings.LinearClassifier.inputs`; ``labels`` and
    ``predictions`` (N,), int64.
    """

    inputs: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray


def latent_summaries(
    train: Side, test: Side, weights: np.ndarray, bias: np.ndarray, *, seed: int
) -> dict[str, Any]:
    """Return the summaries of one network, whose classifier has weights (C, D) and bias (C,).

    The training images are unchanged, without augmentation; the seed is of the draws of equally many of them.

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
    gaps: dict[str, list[np.ndarray]] = {"FE": [], "CE": []}
    for (embedding, side, instances), found in tops.items():
        top.setdefault(embedding, {}).setdefault(side, {})[instances] = _table(found)
        if embedding in gaps and side == "test":
            gaps[embedding].append(magnitude_gap(tops[embedding, "train", "all"], found))
    by_class = {
        name: split_by_class(s.inputs, s.labels, num_classes)
        for name, s in (("train", train), ("test", test))
    }
    groups = [rows[first::PROBE_GROUPS] for rows in by_class["test"] for first in range(PROBE_GROUPS)]
    return {
        "units": units,
        "top": top,
        "gaps": {embedding: pack_rows(rows) for embedding, rows in gaps.items()},
        "cut": cut_scores(test, weights, bias, order),
        "diversity": diversity(train, by_class["test"], seed=seed),
        **{f"{name}_means": pack_rows([_mean(rows) for rows in parts]) for name, parts in by_class.items()},
        "weights": pack_rows(weights),
        "bias": pack_rows(bias[None])[0],
        "probe": pack_rows([_mean(rows) for rows in groups if len(rows)], digits=3),
    }


def cut_scores(side: Side, weights: np.ndarray, bias: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """Return how well a classifier predicts that has only K weights of each class, or all but these.

    ``order`` (C, D) has the units of each class, those to be kept first.

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
    for name, kept in (("only", np.less), ("without", np.greater_equal)):
        predicted = [(side.inputs @ np.where(kept(ranks, k), weights, 0).T + bias).argmax(axis=1) for k in at]
        recalls = [
            recall_score(side.labels, found, labels=range(num_classes), average=None, zero_division=np.nan)
            for found in predicted
        ]
        agreements = [float((found == side.predictions).mean()) for found in predicted]
        scores[name] = {"recall": pack_rows(recalls), "agreement": agreements}
    return scores


def diversity(train: Side, test: list[np.ndarray], *, seed: int) -> dict[str, Any]:
    """Return how diverse the FE of each class are; ``test`` has the FE of each class, ``seed`` is of the draws.

    Returns
    -------
    dict
        Rows of text with a number per class. ``measures``: the names of the rows of ``train`` and ``test`` (all
        images) and ``equal`` (as many training images of each class as the smallest has, ``rows``; the mean over
        `DRAWS` draws). ``coverage``: of the test by all training images, and by one equal draw; ``range_gap``: to the
        test from all, and from equal draws, the mean. See `imbal_core.embeddings.diversity`.
    """
    counts = np.bincount(train.labels)
    counts = counts[counts > 0]
    generator = np.random.default_rng(seed)
    chosen = [
        equal_rows(train.labels, generator=generator) for _ in range(DRAWS if np.ptp(counts) > 0 else 1)
    ]
    whole = split_by_class(train.inputs, train.labels, len(test))
    drawn = [split_by_class(train.inputs[rows], train.labels[rows], len(test)) for rows in chosen]
    gaps = [_each(range_gap, part, test) for part in (whole, *drawn)]
    return {
        "measures": ["effective rank", "participation ratio", "cosine distance"],
        "rows": int(counts.min()),
        "train": pack_rows(_measures(whole)),
        "equal": pack_rows(np.mean([_measures(part) for part in drawn], axis=0)),
        "test": pack_rows(_measures(test)),
        "coverage": pack_rows([_each(neighbour_coverage, part, test) for part in (whole, drawn[0])]),
        "range_gap": pack_rows([gaps[0], np.mean(gaps[1:], axis=0)]),
    }


def _measures(parts: list[np.ndarray]) -> list[list[float]]:
    # an image without any active unit has no angle to another
    active = [rows[rows.any(axis=1)] for rows in parts]
    spread = (_each(measure, parts) for measure in (effective_rank, participation_ratio))
    return [*spread, _each(mean_cosine_distance, active)]


def _each(measure: Callable[..., float], *parts: list[np.ndarray]) -> list[float]:
    return [measure(*rows) for rows in zip(*parts, strict=True)]


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1], np.nan)


def _tops(train: Side, test: Side, weights: np.ndarray) -> dict[tuple[str, str, str], TopK]:
    """Return the top K of each of `TABLES`; their shares are those of |CE| or FE."""
    sides = {"train": train, "test": test}
    options: dict[str, dict[str, Any]] = {
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
