"""Long frames from values given by hand, and what a mean or a paired difference of them is, by SciPy."""

import numpy as np
import pandas as pd
from scipy import stats

from imbal_book.run.long_frames import IDENTITY


def rows(
    values,
    metric="accuracy",
    *,
    form="net",
    dataset="cifar10",
    imbalance="step 10",
    profile="laptop",
    model="net",
    draws=None,
):
    """Return rows from readout -> its values, one draw each unless ``draws`` says which."""
    found = [
        (f"{readout} {seed}", profile, form, model, dataset, imbalance, draw, seed, readout, metric, value)
        for readout, series in values.items()
        for seed, (draw, value) in enumerate(zip(draws or range(len(series)), series, strict=True))
    ]
    return pd.DataFrame(found, columns=[*IDENTITY, "readout", "metric", "value"])


def t_interval(values):
    """Return the 95 % interval of a mean."""
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))


def t_text(a, b=None, *, scale=100, digits=1, sign="+"):
    """Return the mean of a, or of a - b, with its interval; series are aligned by their seeds."""
    found = np.asarray(a if b is None else (pd.Series(a) - pd.Series(b)).dropna(), dtype=float)
    low, high = t_interval(found) if found.any() else (0.0, 0.0)
    mean = f"{scale * found.mean():{sign}.{digits}f}"
    return f"{mean} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"
