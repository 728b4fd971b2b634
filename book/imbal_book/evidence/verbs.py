"""The two verbs of every table and figure: what a readout minus another is, and what a group's mean and interval are.

Frames are long: a row per run, readout and metric, with the columns of `CELL`, split_seed, train_seed, readout, metric
and value. ``summarise(minus(frame, "plain"), ["dataset", "readout"])`` is a table of paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from imbal_book.evidence.statistics import CONFIDENCE

#: What says which runs may be compared, and what makes two of them a pair.
CELL = ("profile", "form", "dataset", "imbalance")
PAIR = ("split_seed", "train_seed")


def minus(frame: pd.DataFrame, readout: str, *, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Return every other readout's value minus that of one readout of the same cell, metric and pair of seeds.

    The columns of ``frame``, which is long; value is the difference, in the metric's unit. Rows without a partner are
    left out, and so are those of ``readout``. ``keep`` are further columns that both rows of a pair share.

    Raises
    ------
    ValueError
        If a readout has two values for one pair, as when two models are mixed.
    """
    on = [name for name in (*CELL, "metric", *PAIR, *keep) if name in frame]
    if (twice := frame.duplicated([*on, "readout"])).any():
        row = frame[twice].iloc[0]
        place = ", ".join(f"{name} {value}" for name, value in row[on].items())
        raise ValueError(
            f"readout {row['readout']!r} has two values for {place}: select one model and one cell first"
        )
    theirs = frame.loc[frame["readout"] == readout, [*on, "value"]]
    pairs = frame[frame["readout"] != readout].merge(theirs, on=on, suffixes=("", "_subtracted"))
    pairs["value"] = pairs["value"].astype(float) - pairs.pop("value_subtracted").astype(float)
    return pairs.dropna(subset="value")


def summarise(frame: pd.DataFrame, by: Sequence[str], *, confidence: float = CONFIDENCE) -> pd.DataFrame:
    r"""Return mean, Student-t interval, number and standard deviation of the values of each group.

    .. math:: \bar x \pm t_{n-1,\,(1+c)/2}\; s / \sqrt n

    Columns ``by``, which make a group, mean, low, high, n and sd, the groups in the order in which they appear. The
    interval of one value is infinite and its deviation NaN.
    """
    grouped = frame.assign(value=frame["value"].astype(float)).groupby(list(by), sort=False, dropna=False)
    table = grouped["value"].agg(mean=_mean, n="count", sd="std").reset_index()
    with np.errstate(invalid="ignore"):
        half = stats.t.ppf((1 + confidence) / 2, table["n"] - 1) * table["sd"] / np.sqrt(table["n"])
    half = half.where(table["n"] > 1, np.inf)
    table = table.assign(low=table["mean"] - half, high=table["mean"] + half)
    return table[[*by, "mean", "low", "high", "n", "sd"]]


def _mean(group: pd.Series) -> float:
    # numpy's sum, since a mean on the edge of a printed digit goes the way of its last bit
    return group.mean() if group.hasnans else float(group.to_numpy().mean())
