"""From what a caller holds (list, array, tensor on any device) to a NumPy array whose content is checked."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["checked_classes", "checked_scores", "on_host"]


def on_host(values: ArrayLike | Tensor) -> np.ndarray:
    """Return the values as a NumPy array of their own type; bfloat16, which NumPy lacks, becomes float32.

    It shares its memory with `values` where it can: do not write to it.

    Examples
    --------
    >>> on_host(torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True))
    array([1.5], dtype=float32)
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def checked_classes(name: str, values: ArrayLike | Tensor, num_classes: int) -> np.ndarray:
    """Return class indices, integers of shape (N,), as int64; `name` is what an error calls them.

    Raises
    ------
    ValueError
        If there is none, one is no integer, or one is outside [0, K).
    """
    indices = on_host(values)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape (N,), got {indices.dtype} of shape {indices.shape}."
        )
    if len(indices) == 0:
        raise ValueError(f"{name} is empty: nothing to measure.")
    if indices.min() < 0 or indices.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in [0, {num_classes}), got values from {indices.min()} to {indices.max()}."
        )
    return indices.astype(np.int64)


def checked_scores(labels: ArrayLike | Tensor, scores: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are of the rare class, and their scores, for a task of two classes.

    Parameters
    ----------
    labels : array-like or Tensor of shape (N,), bool or integer
        True or 1 for an image of the rare class, False or 0 for any other. Returned as bool.
    scores : array-like or Tensor of shape (N,), floating
        Larger for images that are more likely of the rare class.

    Raises
    ------
    ValueError
        If shapes or types differ from these, a score is NaN or infinite, or one of the classes is absent.
    """
    rare, values = on_host(labels), on_host(scores)
    if rare.ndim != 1 or rare.dtype.kind not in "biu" or not np.isin(rare, (0, 1)).all():
        raise ValueError(
            f"labels must be 0 or 1, 1 for the rare class, of shape (N,), got {rare.dtype} of shape "
            f"{rare.shape}: pass labels == rare_class."
        )
    if values.shape != rare.shape or values.dtype.kind != "f":
        raise ValueError(
            f"scores must be floating-point of shape {rare.shape}, one for each label, got {values.dtype} "
            f"of shape {values.shape}: pass the column of the rare class."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores must be finite, got {int((~np.isfinite(values)).sum())} of {len(values)} that are not: "
            "a network that diverged has no scores, and the logarithm of a probability of 0 is no score."
        )
    rare = rare.astype(bool)
    if rare.all() or not rare.any():
        raise ValueError(
            f"both classes are needed, got {int(rare.sum())} images of the rare class and "
            f"{int((~rare).sum())} others."
        )
    return rare, values
