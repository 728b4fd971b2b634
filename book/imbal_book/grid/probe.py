"""How long a run of a kind that was never recorded may take, from training a part of its images for some seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun, prepare
from imbal_book.run.trained import frozen_features
from imbal_core.training.fit import FitResult, fit
from imbal_core.training.prediction import default_device
from imbal_core.training.start import build_network


class _Enough(Exception):
    """An epoch of the part has ended."""


def probe(config: RunConfig, *, seconds: float = 20.0, root: Path | str | None = None) -> float:
    """Return the seconds that the training of a run may take on this machine, scoring left out.

    Ever larger parts of the training images, of every class the same share, are trained for one epoch, until one takes
    a third of the ``seconds`` that the probe itself may take: then start-up no longer counts. Features of a frozen
    network that are not at hand take longer. DatasetError when the images are missing or damaged.
    """
    prepared, device = prepare(config, root=root), default_device()
    inputs, width = prepared.train.images, None
    if config.frozen:
        inputs, _ = frozen_features(prepared, device, progress=False)
        width = inputs.shape[1]
    taken: list[float] = []

    def note(result: FitResult, images: int) -> None:
        taken.append(result.seconds[-1])
        raise _Enough

    for part in _parts(prepared):
        network = build_network(config, prepared.train.num_classes, root=prepared.root, in_features=width)
        images = inputs[part], prepared.train.labels[part]
        with contextlib.suppress(_Enough):
            # what a schedule would follow is the part itself: here its numbers mean nothing
            fit(network, *images, config, valid=images, device=device, progress=note)
        if taken[-1] > seconds / 3:
            break
    return config.epochs * taken[-1] * len(prepared.split.train) / len(part)


def _parts(prepared: PreparedRun) -> Iterator[np.ndarray]:
    """Yield parts of the training images, from about 256 on by fours, the last of which is all of them."""
    train = prepared.split.train
    labels = prepared.train.labels[train]
    share = 0.0
    while share < 1:
        share = min(1.0, 4 * share or 256 / len(train))
        kept = [train[labels == label] for label in np.unique(labels)]
        yield np.concatenate([one[: max(1, round(share * len(one)))] for one in kept])
