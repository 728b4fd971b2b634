"""The parts of a recipe that are pure functions: the learning rate, an epoch's order, the augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from imbal_core.training.recipe import Recipe

_CROP_PADDING = 4


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, recessions: int = 0) -> float:
    r"""Return the learning rate of one step :math:`t`, counted from 0 over the whole run of :math:`T` steps.

    ``constant``: the recipe's :math:`\eta`. ``cosine``: :math:`\eta (1 + \cos(\pi t / T)) / 2`, with :math:`t` and
    :math:`T` counted from the end of the warm-up. ``step``: :math:`\eta` times ``decay`` for each milestone passed.
    ``one-cycle`` (Smith and Topin 2018): along cosines from :math:`\eta / 25` to :math:`\eta` in the first 30 % of the
    steps, then to :math:`\eta / 250000`; momentum stays. ``plateau-zhang``: :math:`\eta` while :math:`s = 0`, then
    :math:`0.5\,\eta\,e^{-0.1 s}`, where :math:`s`, the recessions, is the number of earlier epochs whose validation
    accuracy was below the best so far; Zhang (2018) prints :math:`0.5\,e^{0.1 s}`, says that it goes down, and leaves
    "recession" undefined. In the warm-up the value is multiplied by the share of it that is done, this step included.
    """
    epoch, total = step // steps_per_epoch, recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch
    factor = 1.0
    if recipe.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * max(step - warmup, 0) / (total - warmup)))
    elif recipe.schedule == "step":
        factor = recipe.decay ** sum(epoch >= milestone for milestone in recipe.milestones)
    elif recipe.schedule == "one-cycle":
        factor = _one_cycle(step, total)
    elif recipe.schedule == "plateau-zhang" and recessions:
        factor = 0.5 * math.exp(-0.1 * recessions)
    if step < warmup:
        factor *= (step + 1) / warmup
    return recipe.learning_rate * factor


def _one_cycle(step: int, total: int) -> float:
    """Return the factor of `torch.optim.lr_scheduler.OneCycleLR` with its default options."""
    first, last, peak = 1 / 25, 1 / 250_000, 0.3 * total - 1
    start, end, share = first, 1.0, step / peak
    if step > peak:
        start, end, share = 1.0, last, (step - peak) / (total - 1 - peak)
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def count_recessions(accuracies: Sequence[float]) -> int:
    """Return how many epochs ended below the best validation accuracy before them."""
    return sum(a < max(accuracies[:i]) for i, a in enumerate(accuracies) if i)


def epoch_indices(labels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Return one epoch's order by the recipe's sampler: M indices into the N training images, int64.

    ``shuffle``: each image once; more ``epoch_images`` than that begin another permutation. ``over-sample``: every
    class as often as the largest; each image appears ``max // n`` times, a random choice without replacement fills the
    rest, so no image is left out. ``class-balanced``: with replacement, first a class, then one of its images, both
    uniformly; as many draws as there are images. Labels, int64 of shape (N,), generator and result are on the CPU.
    """
    counts = torch.bincount(labels)
    size = epoch_size(counts, recipe)
    by_class = labels.argsort(stable=True).split(counts.tolist())
    if recipe.sampler != "class-balanced":
        drawn = torch.arange(len(labels))
        if recipe.sampler == "over-sample":
            drawn = torch.cat([_fill(m, int(counts.max()), generator) for m in by_class if len(m)])
        rounds = range(-(-size // len(drawn)))
        return torch.cat([drawn[torch.randperm(len(drawn), generator=generator)] for _ in rounds])[:size]
    present = counts.nonzero().flatten()
    classes = present[torch.randint(len(present), (size,), generator=generator)]
    first = counts.cumsum(0) - counts
    # float64 keeps the product below the count for every class smaller than 2**53 images.
    within = (torch.rand(size, generator=generator, dtype=torch.float64) * counts[classes]).long()
    return torch.cat(by_class)[first[classes] + within]


def epoch_size(counts: Tensor, recipe: Recipe) -> int:
    """Return how many images one epoch draws, given the class counts, int64 of shape (K,)."""
    if recipe.epoch_images is not None:
        return recipe.epoch_images
    if recipe.sampler == "over-sample":
        return int(counts.max() * counts.count_nonzero())
    return int(counts.sum())


def _fill(members: Tensor, size: int, generator: torch.Generator) -> Tensor:
    extra = torch.randperm(len(members), generator=generator)[: size % len(members)]
    return torch.cat([members.repeat(size // len(members)), members[extra]])


def augment_batch(images: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Return the images shifted and mirrored at random, each by its own draw.

    The distribution is that of torchvision's ``RandomCrop(side, padding=4)`` followed by
    ``RandomHorizontalFlip()``: 81 shifts with black borders and 2 directions, all equally likely.

    Images are uint8 (N, C, H, W), in any memory format, the generator is on their device. ``how`` is "none", "flip",
    which mirrors only, or "crop-flip"; the result is channels-last unless it is "none".
    """
    if how == "none":
        return images
    (n, _, height, width), device = images.shape, images.device
    columns = torch.arange(width, device=device).expand(n, width)
    mirrored = torch.randint(2, (n, 1), generator=generator, device=device, dtype=torch.bool)
    columns = torch.where(mirrored, width - 1 - columns, columns)
    rows = torch.arange(height, device=device).expand(n, height)
    if how == "crop-flip":
        images = F.pad(images, (_CROP_PADDING,) * 4)
        shifts = torch.randint(2 * _CROP_PADDING + 1, (2, n, 1), generator=generator, device=device)
        rows, columns = rows + shifts[0], columns + shifts[1]
    # A pixel's channels lie together in this layout, so one index fetches them all.
    pixels = images.permute(0, 2, 3, 1)
    each = torch.arange(n, device=device)[:, None, None]
    return pixels[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
