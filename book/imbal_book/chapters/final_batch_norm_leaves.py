"""Leaves that stand in training and test in the chapter on the final batch norm: how many, and what it changes."""

from __future__ import annotations

import pandas as pd

from imbal_book.chapters.final_batch_norm import PAIR, levels, own_imbalance, plant_name, points, select
from imbal_book.chapters.readings import contrast

__all__ = ["SPLITS", "leakage", "leakage_table"]

#: Whether a split keeps the photographs of a leaf on one side -> what the book calls it, and its form's ending.
SPLITS = {False: ("random", ""), True: ("leaf-grouped", ", leaf-grouped split")}
_COLUMNS = ["dataset", "split", "seed", "all", "healthy", "diseased"]


def leakage(records: pd.DataFrame) -> pd.DataFrame:
    """Return the share of test images whose leaf is in training, each recorded split once.

    Parameters
    ----------
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`.

    Returns
    -------
    DataFrame
        Columns dataset, split, seed, and the shares of all, healthy and diseased test images; of the paper's own
        imbalance.
    """
    rows = []
    for config, measured in records[["config", "measurements"]].itertuples(index=False):
        shares = measured.get("shared_groups")
        if shares and own_imbalance(config):
            split = SPLITS[config.split_groups][0]
            place = (plant_name(config.dataset), split, config.split_seed)
            rows.append((*place, shares["test"], *shares["test_by_class"]))
    return pd.DataFrame(rows, columns=_COLUMNS).drop_duplicates(ignore_index=True)


def leakage_table(shares: pd.DataFrame, frame: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return how many test leaves are in training by plant and kind of split, and F1 without and with the layer.

    Parameters
    ----------
    shares : DataFrame
        Of :func:`leakage`.
    frame : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`.
    form : str
        That of the random split.
    """
    rows = []
    for name in dict.fromkeys(shares["dataset"]):
        for split, ending in SPLITS.values():
            own = shares[(shares["dataset"] == name) & (shares["split"] == split)]
            if own.empty:
                continue
            part = select(frame, f"{form}{ending}")
            part = part[part["dataset"].map(plant_name) == name]
            row = {"plant": name, "split": split}
            for label in ("all", "healthy", "diseased"):
                of = "" if label == "all" else f" {label}"
                row[f"test{of} images whose leaf is in training"] = f"{own[label].mean():.0%}"
            f1 = levels(part, PAIR).set_index("method")["mean"]
            row |= {f"F1, {arm}": f"{f1[arm]:.3f}" if arm in f1 else "not attempted" for arm in PAIR}
            gain = contrast(part, PAIR[1], PAIR[0], "f1_minority")
            rows.append(row | {"gain of the layer": points(gain), "seeds": str(gain.n or "")})
    return pd.DataFrame(rows)
