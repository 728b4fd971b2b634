"""Sides of hand-made networks, which the tests of latent summaries share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from imbal_book.studies.latent_readings import class_readings
from imbal_book.studies.latent_summaries import Side, latent_summaries

CLASSES, UNITS = 4, 16


def network(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (C, D) and bias (C,): each class has four units of its own, and all some of the others."""
    rng = np.random.default_rng(seed)
    weights = np.kron(np.eye(CLASSES), np.ones(4)) + rng.normal(0, 0.2, (CLASSES, UNITS))
    return weights.astype(np.float32), rng.normal(0, 0.1, CLASSES).astype(np.float32)


def side(counts: tuple[int, ...], seed: int, strength: float = 1.0) -> Side:
    """Return features as a ReLU gives them; the images of a class excite its four units, by that strength."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), counts))
    means = strength * np.kron(np.eye(CLASSES), np.ones(4))[labels]
    inputs = np.maximum(means + rng.normal(0, 0.9, (len(labels), UNITS)), 0).astype(np.float32)
    weights, bias = network()
    return Side(inputs, labels, (inputs @ weights.T + bias).argmax(1))


def summaries(strength: float = 0.6, seed: int = 0, **changes: Side) -> dict:
    """Return summaries of a network with few images of the last classes in training."""
    sides = {"train": side((60, 30, 12, 6), seed + 1), "test": side((25,) * 4, seed + 2, strength)} | changes
    return latent_summaries(sides["train"], sides["test"], *network(), seed=0)


def readings_of(latent: dict, recall: tuple[float, ...] = (0.8, 0.9, 0.4, 0.2)) -> pd.DataFrame:
    """Return the readings of every class of a network with these summaries, a row per class."""
    readouts = dict.fromkeys(("softmax", "train"), {"recall": [*recall]})
    return pd.DataFrame(
        class_readings({"latent": latent, "train_counts": [60, 30, 12, 6], "readouts": readouts})
    )
