"""One run, trained: the network with its images, from which a study reads everything it measures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from imbal_core.embeddings.cache import cached_embeddings
from imbal_core.models.build import build_model
from imbal_core.models.networks import FULLY_CONNECTED, Network
from imbal_core.training.fit import FitResult, Progress, fit
from imbal_core.training.prediction import iter_predict
from imbal_core.training.start import build_network, loss_of, seeded_init

if TYPE_CHECKING:
    from imbal_book.run.prepared import PreparedRun

SIDES = ("train", "valid", "test")
#: Inputs, images (N, H, W, 3) or features (N, D), and their labels (N,).
Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained network and the images of its split.

    Attributes
    ----------
    network : Network
        In evaluation mode; a linear classifier where the configuration asks for frozen features.
    sides : dict of str to (inputs, labels)
        By `SIDES`. Inputs are images, or frozen features.
    pool : ndarray
        The inputs of the whole training pool; ``sides["train"]`` is a part of it.
    """

    prepared: PreparedRun
    network: Network
    result: FitResult
    sides: dict[str, Labelled]
    pool: np.ndarray
    device: torch.device

    def predict(self, side: str, taps: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return "logits", float32 (N, K), and the taps, float32 (N, D), of all images of one side.

        Logits are scaled so that their softmax is what the loss takes for probabilities.
        """
        parts = list(_batches(self.prepared, self.network, self.sides[side][0], taps, self.device))
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def measurements(self) -> dict[str, object]:
        """Return what every record holds: the images per class of each side, and the history."""
        counts = {
            f"{side}_counts": np.bincount(labels, minlength=self.network.num_classes).tolist()
            for side, (_, labels) in self.sides.items()
        }
        return {**counts, "history": self.result.history}


def train_run(
    prepared: PreparedRun,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress = True,
    score: Callable[[np.ndarray, np.ndarray], Mapping[str, float]] | None = None,
    score_on: Sequence[str] = ("test",),
) -> TrainedRun:
    """Return the network of a run after training, with its images.

    Parameters
    ----------
    prepared, device
    checkpoint, progress
        As `imbal_core.training.fit.fit` takes them.
    score : callable, optional
        From labels (N,) and logits (N, K) to numbers by name, called after each epoch for each side of
        ``score_on``; the history then holds them as ``SIDE_NAME``. They decide nothing.
    score_on : sequence of str, default=("test",)
        Out of `SIDES`. A side without images is left out.
    """
    config, split = prepared.config, prepared.split
    pool: np.ndarray = prepared.train.images
    test: np.ndarray = prepared.test.images
    with seeded_init(config.train_seed):
        if config.frozen:
            pool, test = frozen_features(prepared, device, progress is True)
        width = pool.shape[1] if config.frozen else None
        network = build_network(config, prepared.train.num_classes, root=prepared.root, in_features=width)
    sides = split_sides(prepared, pool, test)

    def score_epoch(network: nn.Module) -> dict[str, float]:
        values = {}
        for side in score_on:
            inputs, labels = sides[side]
            if score is not None and len(labels):
                parts = [batch["logits"] for batch in _batches(prepared, network, inputs, (), device)]
                scores = score(labels, torch.cat(parts).numpy())
                values.update({f"{side}_{name}": float(value) for name, value in scores.items()})
        return values

    result = fit(
        network,
        *sides["train"],
        config,
        valid=sides["valid"] if len(split.valid) else None,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        score_epoch=None if score is None else score_epoch,
    )
    return TrainedRun(prepared, network, result, sides, pool, device)


def _batches(
    prepared: PreparedRun, network: nn.Module, inputs: np.ndarray, taps: Sequence[str], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    config = prepared.config
    scale = loss_of(config, prepared.train_counts).logit_scale
    precision = "fp32" if config.frozen else config.precision
    for batch in iter_predict(network, inputs, taps=taps, precision=precision, device=device):
        yield batch if scale == 1 else {**batch, "logits": batch["logits"] * scale}


def split_sides(prepared: PreparedRun, pool: np.ndarray, test: np.ndarray) -> dict[str, Labelled]:
    """Return the inputs and labels of each of `SIDES`, from the inputs of the training pool and of the test images."""
    split, labels = prepared.split, prepared.train.labels
    return {
        "train": (pool[split.train], labels[split.train]),
        "valid": (pool[split.valid], labels[split.valid]),
        "test": (test[split.test], prepared.test.labels[split.test]),
    }


def frozen_features(
    prepared: PreparedRun, device: torch.device, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the classifier of the pretrained network would read, for the pool and the test images."""
    config = prepared.config
    network = build_model(
        config.model,
        prepared.train.num_classes,
        pretrained=True,
        image_size=config.image_size,
        root=prepared.root,
        dropout=config.dropout,
    )
    # the classifier is new and random, and not part of what the features depend on
    for parameter in network.classifier().parameters():
        torch.nn.init.zeros_(parameter)
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    features = functools.partial(
        cached_embeddings,
        network,
        tap=FULLY_CONNECTED,
        cache=prepared.root / "features",
        precision=config.precision,
        device=device,
        progress=progress,
    )
    return features(prepared.train).astype(np.float32), features(prepared.test).astype(np.float32)
