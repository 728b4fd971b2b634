"""The remedies that are compared, and the training of all of them on the same splits with the same budget.

Each remedy chooses a learning rate and a length of training on validation images inside the training part of a split,
out of the same number of pairs, and is then trained on the whole training part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbal_book.heads import LENGTHS
from imbal_book.heads.linear import Heads, Objective, Rows, Setting, train_heads
from imbal_book.heads.parts import Parts
from imbal_book.heads.scores import Metric, confusions
from imbal_core.centers import CategoryCenters
from imbal_core.losses import functional
from imbal_core.losses.class_weights import effective_number_weights, inverse_frequency_weights, ldam_margins
from imbal_core.losses.complement import complement_cross_entropy, complement_objective

__all__ = [
    "FURTHER",
    "OBJECTIVES",
    "PLAIN",
    "REMEDIES",
    "Fitted",
    "Remedy",
    "after_training",
    "center_heads",
    "class_counts",
    "fit_remedy",
]

PLAIN = "plain"


@dataclass(frozen=True)
class Remedy:
    """A way to a linear head.

    Attributes
    ----------
    name : str
        For tables.
    advice : str
        What a reader should do, in the imperative.
    objective : str, optional
        Key of `OBJECTIVES`; without one the head is not trained by gradient steps.
    after : {"", "adjust", "normalise"}
        What is done to the trained head.
    """

    name: str
    advice: str
    objective: str = ""
    after: str = ""


@dataclass(frozen=True)
class Fitted:
    """The heads of one remedy, one for each of the R repeated splits and the final one.

    Attributes
    ----------
    heads : Heads
        Weights (S, D, K), biases (S, K).
    settings : list of tuple
        Learning rate and steps that each split chose; empty where there is nothing to choose.
    inner : ndarray of shape (S,), optional
        Score of the chosen setting on the validation images of each split.
    by_setting : ndarray of shape (rates, lengths), optional
        Mean score on validation images.
    out_of_fit : tuple of Tensor, optional
        Logits of the final split's validation images, from heads that did not see them, and their classes.
    """

    heads: Heads
    settings: list[tuple[float, int]]
    inner: np.ndarray | None = None
    by_setting: np.ndarray | None = None
    out_of_fit: tuple[Tensor, Tensor] | None = None


def _weighted(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, class_weights=weights, reduction="none")


def _late_ldam(logits: Tensor, targets: Tensor, per_class: Tensor) -> Tensor:
    return functional.ldam(logits, targets, per_class[:, 0], class_weights=per_class[:, 1], reduction="none")


def _margins_and_weights(counts: Tensor) -> Tensor:
    return torch.stack([ldam_margins(counts), effective_number_weights(counts)], 1)


_EACH: dict[str, Any] = {"reduction": "none"}
#: The learning rate where something else is tuned, and the penalty where the length of the weights is.
_RATE, _DECAY = 6.0, 1e-4
OBJECTIVES = {
    "cross entropy": Objective(partial(functional.cross_entropy, **_EACH)),
    "class weights": Objective(_weighted, inverse_frequency_weights),
    "class-balanced": Objective(_weighted, partial(effective_number_weights, beta=0.99)),
    "focal": Objective(partial(functional.focal, alpha=1.0, **_EACH)),
    "cce": Objective(partial(complement_cross_entropy, **_EACH)),
    "ldam": Objective(partial(functional.ldam, **_EACH), ldam_margins, "cosine"),
    "cosine": Objective(lambda z, y: functional.cross_entropy(30 * z, y, **_EACH), form="cosine"),
    "balanced softmax": Objective(partial(functional.balanced_softmax, **_EACH), lambda counts: counts),
    "final bn": Objective(partial(functional.cross_entropy, **_EACH), form="normalised"),
    "cce released": Objective(partial(complement_cross_entropy, form="released", **_EACH)),
    "cot": Objective(
        partial(functional.cross_entropy, **_EACH), second=partial(complement_objective, **_EACH)
    ),
    "ldam-drw": Objective(
        partial(functional.ldam, **_EACH),
        ldam_margins,
        "cosine",
        late=Objective(_late_ldam, _margins_and_weights, "cosine"),
    ),
    "weight decay": Objective(
        partial(functional.cross_entropy, **_EACH),
        settings=tuple(Setting(_RATE, decay) for decay in (1e-5, 1e-4, 1e-3)),
    ),
    "weight balancing": Objective(
        _weighted,
        effective_number_weights,
        settings=tuple(Setting(_RATE, _DECAY, radius) for radius in (3.0, 10.0, 30.0)),
    ),
}

REMEDIES: Mapping[str, Remedy] = {
    PLAIN: Remedy("plain softmax", "Train as usual", "cross entropy"),
    "weights": Remedy(
        "class weights",
        "Weight each class in the loss by one over its number of images (or draw the classes equally often)",
        "class weights",
    ),
    "class-balanced": Remedy(
        "class-balanced weights",
        "Weight each class by its effective number of images, beta 0.99",
        "class-balanced",
    ),
    "focal": Remedy("focal loss", "Use the focal loss with gamma 2", "focal"),
    "cce": Remedy("complement cross entropy", "Use complement cross entropy", "cce"),
    "ldam": Remedy("LDAM", "Use the LDAM loss on cosines, with larger margins for rarer classes", "ldam"),
    "cosine": Remedy("cosine classifier", "Use a cosine classifier with scale 30", "cosine"),
    "balanced-softmax": Remedy(
        "balanced softmax (logit adjustment in the loss)",
        "Add the logarithm of the class counts to the logits inside the loss (balanced softmax)",
        "balanced softmax",
    ),
    "adjust-after": Remedy(
        "logit adjustment after training",
        "Subtract the logarithm of the class shares from the logits of the trained network",
        "cross entropy",
        "adjust",
    ),
    "tau": Remedy(
        "tau-normalisation",
        "Divide the class weights of the trained classifier by their length, and drop its bias",
        "cross entropy",
        "normalise",
    ),
    "final-bn": Remedy(
        "final batch norm", "Put a batch normalisation on the logits before the softmax", "final bn"
    ),
    "final-bn-adjust": Remedy(
        "final batch norm, logit adjustment",
        "Put a batch normalisation on the logits, and subtract the logarithm of the class shares after training",
        "final bn",
        "adjust",
    ),
    "centers": Remedy(
        "category centers", "Give an image the class whose mean of unit-length features is nearest"
    ),
}
#: What the chapter of all remedies adds: other forms of the same losses, and remedies that are stacked.
FURTHER: Mapping[str, Remedy] = {
    "cce-released": Remedy(
        "complement cross entropy, as released", "Use the released complement cross entropy", "cce released"
    ),
    "cot": Remedy(
        "complement objective training",
        "After every step take one that levels the wrong classes (complement objective training)",
        "cot",
    ),
    "ldam-drw": Remedy(
        "LDAM, deferred weights", "Use the LDAM loss, with class weights in the last fifth", "ldam-drw"
    ),
    "weight-decay": Remedy("tuned weight decay", "Tune the weight decay of the classifier", "weight decay"),
    "weight-balancing": Remedy(
        "weight balancing",
        "Weight the classes in the loss, and tune the largest length of a class's weights",
        "weight balancing",
    ),
    "weights-adjust": Remedy(
        "class weights, logit adjustment",
        "Weight each class in the loss, and subtract the logarithm of the class shares after training",
        "class weights",
        "adjust",
    ),
    "cce-adjust": Remedy(
        "complement cross entropy, logit adjustment",
        "Use complement cross entropy, and subtract the logarithm of the class shares after training",
        "cce",
        "adjust",
    ),
    "focal-adjust": Remedy(
        "focal loss, logit adjustment",
        "Use the focal loss, and subtract the logarithm of the class shares after training",
        "focal",
        "adjust",
    ),
}


def fit_remedy(
    remedy: Remedy,
    features: Tensor,
    labels: Tensor,
    parts: Parts,
    metric: Metric,
    trained: dict[str, Heads],
    *,
    shares: np.ndarray,
    seed: int,
) -> Fitted:
    """Return the heads of a remedy on every split.

    Parameters
    ----------
    remedy : Remedy
        With an objective.
    features, labels : Tensor of shape (N, D), float32, and (N,), int64
    parts : Parts
    metric : callable
        From a confusion matrix to the score that the settings are chosen by.
    trained : dict
        Inner heads by objective: what is there is used, what is missing is added.
    shares : ndarray of shape (K,)
        Class shares where the model will be used; adjustments aim at them.
    seed : int
    """
    objective, classes = OBJECTIVES[remedy.objective], len(shares)
    settings = torch.tensor(objective.settings)

    def train(rows: list[np.ndarray], given: Tensor) -> Heads:
        rates, limits = given[..., 0], given[..., 1:]
        options: dict[str, Any] = {"num_classes": classes, "limits": limits, "seed": seed}
        return train_heads(objective, features, labels, Rows.of(rows), rates, **options)

    fits = [fit for row in parts.fit for fit in row]
    if remedy.objective not in trained:
        trained[remedy.objective] = train(fits, settings.expand(len(fits), -1, -1))
    counts = class_counts(labels, fits, classes)[:, None]
    inner = after_training(remedy.after, trained[remedy.objective], counts, shares)
    score, logits = _inner_scores(inner, features, labels, parts, metric)
    chosen = [
        divmod(int(row.argmax()), len(settings))
        for row in score.transpose(1, 0, 2).reshape(len(parts.train), -1)
    ]
    outer = train(parts.train, torch.stack([settings[g : g + 1] for _, g in chosen]))
    picked = outer.picked([length for length, _ in chosen])
    length, rate = chosen[-1]
    held = torch.cat([labels[rows] for rows in parts.validation[-1]])
    return Fitted(
        after_training(remedy.after, picked, class_counts(labels, parts.train, classes), shares),
        [(objective.settings[g].rate, LENGTHS[step]) for step, g in chosen],
        score.max(axis=(0, 2)),
        score.mean(1).T,
        (torch.cat([z[length, rate] for z in logits]), held),
    )


def _inner_scores(
    heads: Heads, features: Tensor, labels: Tensor, parts: Parts, metric: Metric
) -> tuple[np.ndarray, list[Tensor]]:
    """Return scores (lengths, splits, rates), means over validations, and the last split's logits (L, G, n, K)."""
    classes, number = heads.bias.shape[-1], 0
    scores = np.zeros((heads.bias.shape[0], len(parts.train), heads.bias.shape[2]))
    kept = []
    for s, validations in enumerate(parts.validation):
        for rows in validations:
            z = features[rows] @ heads.weight[:, number] + heads.bias[:, number, :, None]
            tables = confusions(labels[rows].numpy(), z.argmax(-1).numpy(), classes)
            found = [metric(table) for table in tables.reshape(-1, classes, classes)]
            scores[:, s] += np.reshape(found, tables.shape[:2]) / len(validations)
            number += 1
            if s == len(parts.train) - 1:
                kept.append(z)
    return scores, kept


def class_counts(labels: Tensor, parts: Sequence[np.ndarray], classes: int) -> Tensor:
    """Return the images of each class in each of T parts, int64 (T, K)."""
    return torch.stack([torch.bincount(labels[rows], minlength=classes) for rows in parts])


def after_training(kind: str, heads: Heads, counts: Tensor, shares: np.ndarray) -> Heads:
    """Return heads (..., D, K) adjusted after training on class counts (..., K)."""
    if kind == "adjust":
        present = counts.clamp(min=1).double()
        prior = (present / present.sum(-1, keepdim=True)).log() - torch.from_numpy(shares).log()
        return Heads(heads.weight, heads.bias - prior.float())
    if kind == "normalise":
        return Heads(heads.weight / heads.weight.norm(dim=-2, keepdim=True), torch.zeros_like(heads.bias))
    return heads


def center_heads(units: np.ndarray, labels: np.ndarray, parts: Parts) -> Fitted:
    """Return category centers as linear heads: the nearest center has the largest f . C - |C|^2 / 2."""
    weights, biases = [], []
    for rows in parts.train:
        centers = CategoryCenters().fit(units[rows], labels[rows]).centers_
        weights.append(torch.tensor(centers.T, dtype=torch.float32))
        biases.append(torch.tensor(-(centers**2).sum(1) / 2, dtype=torch.float32))
    return Fitted(Heads(torch.stack(weights), torch.stack(biases)), [])
