"""Sampling for a training loop of one's own: the samplers of `Recipe` as a `torch.utils.data.Sampler`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Sampler

from imbal_core._checks.arrays import checked_classes, on_host
from imbal_core.training.recipe import Recipe
from imbal_core.training.schedules import epoch_indices, epoch_size
from imbal_core.training.start import stream_seed


class ClassBalancedSampler(Sampler[int]):
    """Indices of training images for a `torch.utils.data.DataLoader`, rare classes as often as common ones.

    Each pass is another epoch with an order of its own; the same seed and epoch give the same order, whatever was drawn
    before. The global random state is neither read nor changed.

    Parameters
    ----------
    labels : array-like or Tensor of shape (N,), integer
        Class of each image of the data set, from 0.
    how : {"over-sample", "class-balanced", "shuffle"}, default="over-sample"
        ``over-sample``: every class as often as the largest, no image left out. ``class-balanced``: N draws with
        replacement, first a class, then one of its images. See `imbal_core.training.schedules.epoch_indices`.
    seed : int, default=0
    num_samples : int, optional
        Images of an epoch, at least 2; None is the whole epoch of that kind.

    Attributes
    ----------
    epoch : int
        The next pass, counted from 0. Set it by `set_epoch` to resume.

    Raises
    ------
    ValueError
        If labels are not integers of shape (N,), or an option is unknown or out of range.

    Examples
    --------
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    >>> loader = DataLoader(TensorDataset(labels), batch_size=4, sampler=ClassBalancedSampler(labels, seed=1))
    >>> torch.cat([batch for (batch,) in loader]).bincount()
    tensor([6, 6])
    """

    def __init__(
        self,
        labels: ArrayLike | Tensor,
        how: str = "over-sample",
        *,
        seed: int = 0,
        num_samples: int | None = None,
    ) -> None:
        given = on_host(labels)
        largest = int(given.max()) if given.size and given.dtype.kind in "iu" else 0
        self.labels = torch.from_numpy(checked_classes("labels", given, max(largest + 1, 1)))
        self.recipe = Recipe(epochs=1, train_seed=seed, sampler=how, epoch_images=num_samples)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of an epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return epoch_size(torch.bincount(self.labels), self.recipe)

    def __iter__(self) -> Iterator[int]:
        seed = stream_seed(self.recipe.train_seed, f"sampler, epoch {self.epoch}")
        self.epoch += 1
        order = epoch_indices(self.labels, self.recipe, torch.Generator().manual_seed(seed))
        return iter(order.tolist())
