"""What a run starts from: its network, its loss, and a random stream for each purpose."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core.losses.modules import Loss, build_loss
from imbal_core.models.build import build_model
from imbal_core.models.folding import fold_batch_norms
from imbal_core.models.heads import add_final_batch_norm, restart_head, use_float32_head, use_normed_head
from imbal_core.models.networks import Network
from imbal_core.training.recipe import Recipe


def stream_seed(seed: int, stream: str) -> int:
    """Return a seed for one purpose, so that no two purposes share their random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{stream}".encode(), digest_size=7).digest(), "big")


@contextlib.contextmanager
def seeded_init(seed: int, *, stream: str = "weights", device: torch.device | None = None) -> Iterator[None]:
    """Seed what is drawn inside the block, weights as a rule; the global state is put back after it.

    With a GPU as ``device`` its state is seeded and put back as well.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(stream_seed(seed, stream))
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(stream_seed(seed, stream))
        yield


def build_network(
    recipe: Recipe, num_classes: int, *, root: Path | str | None = None, in_features: int | None = None
) -> Network:
    """Return the untrained network of a run: its model, the head that its loss needs, the final batch norm.

    Weights that are not pretrained, which are looked for in the data root, come from torch's global generator: call
    this inside ``seeded_init(recipe.train_seed)``. With ``in_features``, the width D of given features, it is a linear
    classifier of them in place of the recipe's model, which has computed them.
    ValueError for an option that does not fit the network, WeightsError for pretrained weights that cannot be had.
    """
    if in_features is not None:
        network = build_model("linear", num_classes, in_features=in_features)
    elif recipe.model is None:
        raise ValueError("the recipe names no model: give one, or in_features for a classifier of features")
    else:
        network = build_model(
            recipe.model,
            num_classes,
            pretrained=recipe.pretrained,
            image_size=recipe.image_size,
            root=root,
            dropout=recipe.dropout,
        )
    if recipe.fold_batch_norm:
        network = fold_batch_norms(network)
    if loss_of(recipe, [1] * num_classes).needs_normed_head:
        network = use_normed_head(network)
    elif recipe.head_start == "linear":
        network = restart_head(network)
    if recipe.float32_head:
        network = use_float32_head(network)
    if recipe.final_batch_norm:
        momentum, affine = recipe.final_batch_norm_momentum, recipe.final_batch_norm_affine
        network = add_final_batch_norm(network, momentum=momentum, affine=affine)
    return network


def loss_of(recipe: Recipe, class_counts: ArrayLike | Tensor) -> Loss:
    """Return the loss of a run, for the class counts of its training images, shape (K,)."""
    return build_loss(recipe.loss, class_counts=class_counts, **dict(recipe.loss_options))
