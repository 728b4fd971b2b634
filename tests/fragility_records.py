"""Hand-made records of the study of fragility, which its tests and those of its chapter share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from latent_sides import summaries

from imbal_book.studies import build_grid
from imbal_book.studies.grids import cnn_fragility as study

NAME = "cnn_fragility"
LATENTS = [summaries(seed=7 * seed) for seed in range(3)]


def records(latent_of=None, recall_of=None, profile="laptop", datasets=("cifar10",)):
    """Return hand-made records of a grid: four classes, whatever the data set.

    ``latent_of`` and ``recall_of`` give summaries and recall for (arm, seed).
    """
    rows = []
    for config in build_grid(NAME, profile):
        arm = study.cell(config)[0]
        if config.dataset not in datasets:
            continue
        recall = [0.8, 0.9, 0.4, 0.2] if recall_of is None else recall_of(arm, config.train_seed)
        readout = {"accuracy": float(np.mean(recall)), "recall": recall, "precision": recall}
        latent = (
            summaries(seed=7 * config.train_seed) if latent_of is None else latent_of(arm, config.train_seed)
        )
        measurements = {
            "train_counts": [60, 30, 12, 6],
            "history": {"train_loss": [2.0, 1.0]},
            "readouts": {"softmax": readout, "train": readout},
            "latent": latent,
        }
        rows.append(
            {"key": config.digest(), "config": config, **config.to_dict(), "measurements": measurements}
        )
    return pd.DataFrame(rows, dtype=object)
