"""Long frames of the final batch norm from values given by hand, and what a paired difference of them is, by SciPy."""

import leaf_runs
import numpy as np
import pandas as pd
from scipy import stats

from imbal_book.run.long_frames import IDENTITY
from imbal_book.studies.grids import final_batch_norm as study

LITE = leaf_runs.LITE
OWN = f"{LITE}{study.OWN_START}"
PLANTS = tuple(f"plantvillage-{plant}" for plant in study.PLANTS)
SEEDS = ["split_seed", "train_seed"]
EVERY = tuple(leaf_runs.KINDS)
FAULT = ("fair", "timm's start", "timm's imbalances", "timm's batch sizes", "timm's leaves", "SGD", "folded")


def rows(
    values, metric="f1_minority", *, dataset=PLANTS[0], form=LITE, profile="laptop", imbalance="1000:10"
):
    """Return rows in long form; ``values`` maps a readout to one value per seed."""
    found = [
        (f"{readout} {seed}", profile, form, "net", dataset, imbalance, seed, seed, readout, metric, value)
        for readout, series in values.items()
        for seed, value in enumerate(series)
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "metric", "value"])


def values(frame, readout, metric="f1_minority", dataset=PLANTS[0]):
    """Return the values of one form and imbalance by pair of seeds, by pandas' own selection."""
    own = frame.query("readout == @readout and metric == @metric and dataset == @dataset")
    return own.set_index(SEEDS)["value"].astype(float)


def t_text(a, b=None):
    """Return the mean of a, or of a - b, in points with its interval, by SciPy; series are aligned by seeds."""
    found = np.asarray(a if b is None else (a - b).dropna(), dtype=float)
    if not found.any():
        return "+0.0 (0.0 to 0.0)"
    low, high = stats.t.interval(0.95, len(found) - 1, found.mean(), stats.sem(found))
    return f"{100 * found.mean():+.1f} ({100 * low:.1f} to {100 * high:.1f})"
