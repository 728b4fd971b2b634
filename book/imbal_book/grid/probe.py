"""How long a run of a kind that was never recorded may take, from training a part of its images for some seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun, prepare
from imbal_book.run.trained import frozen_features
from imbal_core.training.fit import FitResult, fit
from imbal_core.training.prediction import default_device
from imbal_core.training.start import build_network

__all__ = ["probe"]


class _Enough(Exception):
    """An epoch of the part has ended."""


def probe(config: RunConfig, *, seconds: float = 20.0, root: Path | str | None = None) -> float:
    """Return the seconds that the training of a run may take on this machine, scoring left out.

    Ever larger parts of the training images, of every class the same share, are trained for one epoch, until one takes
    a third of the time: then start-up no longer counts.

    Parameters
    ----------
    config : RunConfig
    seconds : float, default=20
        About how long the probe itself may take. Features of a frozen network that are not at hand take longer.
    root : path, optional
        The data root.

    Raises
    ------
    imbal_core.data.prepared.DatasetError
        When the images are missing or damaged.
    """
    prepared, device = prepare(config, root=root), default_device()
    inputs, width = prepared.train.images, None
    if config.frozen:
        inputs, _ = frozen_features(prepared, device, progress=False)
        width = inputs.shape[1]
    per_run = 0.0
    for part in _parts(prepared):
        network = build_network(config, prepared.train.num_classes, root=prepared.root, in_features=width)
        labels = prepared.train.labels[part]
        taken: list[float] = []

        def note(result: FitResult, images: int, taken: list[float] = taken) -> None:
            taken.append(result.seconds[-1])
            raise _Enough

        try:
            # what a schedule would follow is the part itself: here its numbers mean nothing
            fit(
                network,
                inputs[part],
                labels,
                config,
                valid=(inputs[part], labels),
                device=device,
                progress=note,
            )
        except _Enough:
            pass
        per_run = config.epochs * taken[0] * len(prepared.split.train) / len(part)
        if taken[0] > seconds / 3:
            break
    return per_run


def _parts(prepared: PreparedRun) -> Iterator[np.ndarray]:
    """Yield parts of the training images, from about 256 on by fours, the last of which is all of them."""
    train = prepared.split.train
    labels = prepared.train.labels[train]
    share = min(1.0, 256 / len(train))
    while True:
        kept = [train[labels == label] for label in np.unique(labels)]
        yield np.concatenate([one[: max(1, round(share * len(one)))] for one in kept])
        if share == 1:
            return
        share = min(1.0, 4 * share)
