"""Class weights and margins from the numbers of training images, and the check of such numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.arrays import on_host
from imbal_core._checks.fields import checked_number

#: Training images of each class: see `checked_counts`.
Counts: TypeAlias = ArrayLike | Tensor | Mapping[Any, int]


def inverse_frequency_weights(class_counts: Counts) -> Tensor:
    """Return weights proportional to 1 / n_c that sum to K, shape (K,), float64: 1 for equal counts."""
    return _sum_to_classes(1.0 / checked_counts(class_counts).double())


def effective_number_weights(class_counts: Counts, *, beta: float = 0.9999) -> Tensor:
    """Return the class-balanced weights (1 - beta) / (1 - beta^n_c), scaled to sum to K, shape (K,), float64.

    1 for equal counts, and for beta 0. beta is in [0, 1); (1 - beta^n) / (1 - beta) is the effective number of images.
    Cui, Y. et al. (2019), "Class-Balanced Loss Based on Effective Number of Samples".
    """
    beta = checked_number("beta", beta, "[0, 1)")
    counts = checked_counts(class_counts).double()
    # expm1 keeps the digits that 1 - beta^n loses when beta is close to 1.
    effective = -torch.expm1(counts * math.log(beta)) if beta > 0 else torch.ones_like(counts)
    return _sum_to_classes(1.0 / effective)


def deferred_weights(class_counts: Counts, epoch: int, *, start: int | None, beta: float = 0.9999) -> Tensor:
    """Return the class weights of an epoch under deferred re-weighting, shape (K,), float64.

    All 1 before the epoch `start` (epochs count from 0), and for ever if it is None; those of
    `effective_number_weights` from then on. The published schedule of 200 epochs has start 160, where its rate drops.
    """
    weights = effective_number_weights(class_counts, beta=beta)
    return weights if start is not None and epoch >= start else torch.ones_like(weights)


def ldam_margins(class_counts: Counts, *, max_margin: float = 0.5) -> Tensor:
    """Return margins proportional to n_c^(-1/4), the largest `max_margin`, shape (K,), float64."""
    raw = checked_counts(class_counts).double() ** -0.25
    return raw * (checked_number("max_margin", max_margin, "(0, inf)") / raw.max())


def checked_counts(class_counts: Counts) -> Tensor:
    """Return class counts, integers of shape (K,) or a mapping of class to int, as int64 of shape (K,) on the CPU.

    A mapping (a dict, a `collections.Counter`) has the classes 0 to K - 1 as its keys, or names, which are taken in
    alphabetical order, as class folders and scikit-learn's encoders number them. ValueError if a count is not whole, or
    a class has no image: that class is named.

    Examples
    --------
    >>> checked_counts({"dog": 3, "cat": 40})
    tensor([40,  3])
    """
    names: Sequence[Any] | None = None
    if isinstance(class_counts, Mapping):
        names = sorted(class_counts, key=lambda name: (isinstance(name, str), name))
        if names and all(isinstance(name, Integral) for name in names):
            names = range(max(int(names[-1]) + 1, 2)) if names[0] >= 0 else names
        class_counts = [class_counts.get(name, 0) for name in names]
    counts = on_host(class_counts)
    if counts.ndim != 1 or len(counts) < 2 or counts.dtype.kind not in "iu":
        raise ValueError(
            f"class_counts must be whole numbers of shape (K,) with K at least 2, got {counts.dtype} "
            f"of shape {counts.shape}."
        )
    if counts.min() < 1:
        empty = [int(k) if names is None else names[k] for k in np.flatnonzero(counts < 1)[:5]]
        raise ValueError(f"class_counts must be at least 1: classes {empty} have no training image.")
    return torch.from_numpy(counts.astype(np.int64))


def _sum_to_classes(weights: Tensor) -> Tensor:
    return weights * (len(weights) / weights.sum())
