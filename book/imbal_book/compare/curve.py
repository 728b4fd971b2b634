"""What more images of a class would buy: its recall when it has only a quarter or half of the images that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imbal_book.heads.linear import Heads, Rows, train_heads
from imbal_book.heads.parts import Parts
from imbal_book.heads.remedies import OBJECTIVES, Remedy, after_training, class_counts
from imbal_book.heads.scores import Change, corrected_interval

__all__ = ["Curve", "SHARES", "learning_curves"]

#: Shares of a class's training images at which its recall is measured.
SHARES = (0.25, 0.5, 1.0)
_CLASSES = 3


@dataclass(frozen=True)
class Curve:
    """How the recall of one class grows with its images.

    Attributes
    ----------
    label : int
        The class.
    images : list of int
        Its training images at each of `SHARES`, means over the splits.
    recall : list of float
        Its mean recall there, the other classes as they are.
    doubling : Change
        What the last doubling brought, in fractions; what another one brings no image here can show.
    remedy : str
        Name of the remedy that all of this is measured with.
    """

    label: int
    images: list[int]
    recall: list[float]
    doubling: Change
    remedy: str


def learning_curves(
    remedy: Remedy,
    settings: Sequence[tuple[float, int]],
    features: Tensor,
    labels: Tensor,
    groups: np.ndarray,
    parts: Parts,
    recalls: np.ndarray,
    *,
    shares: np.ndarray,
    seed: int,
) -> list[Curve]:
    """Return the curves of the measured classes with the lowest recall, from the repeated splits.

    Parameters
    ----------
    remedy : Remedy
        With an objective.
    settings : sequence of tuple
        Learning rate and steps that each split chose.
    features, labels : Tensor of shape (N, D) and (N,)
    groups : ndarray of shape (N,), int64
        Images of one group are left out together: more images of a group that is there would buy less.
    parts : Parts
    recalls : ndarray of shape (K,)
        With the remedy.
    shares : ndarray of shape (K,)
        Class shares that adjustments after training aim at.
    seed : int
    """
    repeats, rng = len(parts.train) - 1, np.random.default_rng(seed)
    worst = [
        int(c) for c in np.argsort(np.where(parts.measured, recalls, 2.0))[:_CLASSES] if parts.measured[c]
    ]
    cuts: list[np.ndarray] = []
    numbers: dict[tuple[int, float], list[int]] = {}
    for c in worst:
        for share in SHARES:
            for rows in parts.train[:repeats]:
                own = rows[labels[rows].numpy() == c]
                own = own[np.argsort(rng.permutation(groups.max() + 1)[groups[own]], kind="stable")]
                kept = own[: max(1, round(share * len(own)))]
                cuts.append(np.concatenate([rows[labels[rows].numpy() != c], kept]))
                numbers.setdefault((c, share), []).append(len(kept))
    chosen = list(settings[:repeats]) * (len(worst) * len(SHARES))
    heads = _heads(remedy, chosen, features, labels, cuts, shares, seed)
    got = np.empty((len(worst), len(SHARES), repeats))
    for i, (a, b, r) in enumerate(np.ndindex(got.shape)):
        rows = parts.measure[r][labels[parts.measure[r]].numpy() == worst[a]]
        logits = features[rows] @ heads.weight[i] + heads.bias[i]
        got[a, b, r] = float((logits.argmax(1) == worst[a]).float().mean())
    return [
        Curve(
            c,
            [round(float(np.mean(numbers[c, share]))) for share in SHARES],
            got[a].mean(1).tolist(),
            corrected_interval(got[a, -1] - got[a, -2], parts.test_over_train),
            remedy.name,
        )
        for a, c in enumerate(worst)
    ]


def _heads(
    remedy: Remedy,
    chosen: Sequence[tuple[float, int]],
    features: Tensor,
    labels: Tensor,
    cuts: Sequence[np.ndarray],
    shares: np.ndarray,
    seed: int,
) -> Heads:
    """Return a head for each set of training rows, with its learning rate and number of steps."""
    steps = sorted({length for _, length in chosen})
    rates = torch.tensor([[rate] for rate, _ in chosen])
    objective, classes = OBJECTIVES[remedy.objective], len(shares)
    found = train_heads(
        objective, features, labels, Rows.of(cuts), rates, num_classes=classes, lengths=steps, seed=seed
    )
    heads = found.picked([steps.index(length) for _, length in chosen])
    counts = class_counts(labels, cuts, classes)
    return after_training(remedy.after, heads, counts, shares)
