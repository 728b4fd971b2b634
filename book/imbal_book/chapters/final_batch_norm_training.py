"""Training and confidence in the chapter on the final batch norm, each a table from the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.chapters import number
from imbal_book.chapters.final_batch_norm import PAIR, levels, plant_name, plants, points, runs
from imbal_book.chapters.readings import contrast
from imbal_book.evidence.statistics import mean_interval
from imbal_book.studies.final_batch_norm import always_rare, epochs_to

__all__ = [
    "LEVELS",
    "baseline",
    "confidence_bins",
    "confidence_table",
    "curve_cells",
    "epochs_table",
    "loss_table",
    "margins",
]

#: Values of F1 whose first epoch is counted.
LEVELS = (0.7, 0.8, 0.9)


def curve_cells(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return test F1 and validation loss of every epoch, for :func:`imbal_book.pictures.batch_norm_pictures.curves`.

    Parameters
    ----------
    epochs : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.epoch_frame`, of one form and one imbalance.

    Returns
    -------
    DataFrame
        Columns dataset, method ("plain" and "final BN"), key, epoch, f1, loss.
    """
    names = {"test_f1_minority": "f1", "valid_loss": "loss"}
    rows = epochs[epochs["metric"].isin(names) & epochs["readout"].isin(PAIR)]
    rows = rows.assign(dataset=rows["dataset"].map(plant_name), metric=rows["metric"].map(names))
    order = rows.drop_duplicates(["dataset", "readout", "key", "epoch"])[
        ["dataset", "readout", "key", "epoch"]
    ]
    wide = rows.pivot(index=["dataset", "readout", "key", "epoch"], columns="metric", values="value")
    found = order.merge(wide.reindex(columns=["f1", "loss"]).reset_index(), how="left")
    return found.rename(columns={"readout": "method"}).dropna()


def baseline(records: pd.DataFrame, part: pd.DataFrame) -> float | None:
    """Return the test F1 of calling every image rare; None without runs or where they have different tests.

    Parameters
    ----------
    records : DataFrame
        As `imbal_book.chapters.Chapter.frame` returns it.
    part : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`.
    """
    own = runs(records, part)
    counts = {tuple(measured["test_counts"]) for measured in own.get("measurements", ())}
    return always_rare(counts.pop()) if len(counts) == 1 else None


def epochs_table(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return how many epochs the test F1 of the rare class takes to reach each of :data:`LEVELS`.

    Parameters
    ----------
    epochs : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.epoch_frame`, of one form and one imbalance.

    Returns
    -------
    DataFrame
        A row per data set and level: mean first epoch without and with the layer, where a run that never gets
        there counts one epoch more than it has, the paired difference with its 95 % interval, how many runs got
        there, and the number of pairs.
    """
    rows = []
    f1 = epochs[(epochs["metric"] == "test_f1_minority") & epochs["readout"].isin(PAIR)]
    for plant, part in plants(f1):
        for level in LEVELS:
            first = _first_epochs(part, level)
            if not set(PAIR) <= set(first.columns) or len(first := first.dropna()) == 0:
                continue
            last = part["epoch"].max()
            gain = mean_interval(first["final BN"] - first["plain"])
            rows.append(
                {
                    "plant": plant,
                    "F1 of at least": f"{level:.1f}",
                    **{f"{arm}, epochs": f"{first[arm].mean():.1f}" for arm in PAIR},
                    "difference": number(gain.mean, gain.low, gain.high, scale=1, sign=True),
                    **{f"{arm}, got there": f"{(first[arm] <= last).sum()} of {len(first)}" for arm in PAIR},
                    "seeds": gain.n,
                }
            )
    return pd.DataFrame(rows)


def _first_epochs(f1: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the first epoch with that F1: a row per pair of seeds, a column per arm."""
    runs = f1.sort_values("epoch").groupby(["split_seed", "train_seed", "readout"])["value"]
    return pd.Series({run: epochs_to(list(values), level) for run, values in runs}).unstack()


def loss_table(part: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return what the epoch of the lowest loss costs in F1, both epochs chosen on validation images.

    Parameters
    ----------
    part : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`, of one form and one imbalance.
    epochs : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.epoch_frame`, of the same.
    """
    chosen = {"best F1": ("valid_f1_minority", "idxmax"), "lowest loss": ("valid_loss", "idxmin")}
    rows = []
    for plant, own in plants(part):
        history = epochs[epochs["dataset"].map(plant_name) == plant]
        for arm in PAIR:
            a, b = (f"{arm}, epoch of {choice}" for choice in chosen)
            gain = contrast(own, a, b, "f1_minority")
            if not gain.n:
                continue
            row: dict[str, object] = {"plant": plant, "arm": arm}
            for choice, (metric, pick) in chosen.items():
                values = history[(history["readout"] == arm) & (history["metric"] == metric)]
                best = values.groupby("key")["value"].agg(pick)
                there = own[
                    (own["readout"] == f"{arm}, epoch of {choice}") & (own["metric"] == "f1_minority")
                ]
                row[f"epoch of {choice}"] = f"{values.loc[best, 'epoch'].mean():.1f}"
                row[f"test F1 at {choice}"] = f"{there['value'].mean():.3f}"
            rows.append(row | {"difference in F1": points(gain), "seeds": gain.n})
    return pd.DataFrame(rows)


def confidence_table(part: pd.DataFrame) -> pd.DataFrame:
    """Return how right and how confident the network is without and with the layer, with paired differences."""
    rows = []
    for plant, own in plants(part):
        for metric, name in (
            ("accuracy", "accuracy"),
            ("confidence", "mean confidence"),
            ("ece", "calibration error (ECE)"),
        ):
            change = contrast(own, "final BN", "plain", metric)
            if not change.n:
                continue
            mean = levels(own, PAIR, (metric,)).set_index("method")["mean"]
            rows.append(
                {
                    "plant": plant,
                    "": name,
                    **{arm: f"{mean[arm]:.3f}" for arm in PAIR},
                    "difference": points(change),
                    "seeds": change.n,
                }
            )
    return pd.DataFrame(rows)


def confidence_bins(records: pd.DataFrame, readouts: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return confidence histograms and reliability bins, the test images of all seeds together.

    Parameters
    ----------
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`, of one form and imbalance, with a column ``arm``.
    readouts : sequence of (arm, recorded readout)
        Such as ``("plain", "softmax")``.

    Returns
    -------
    DataFrame
        Columns dataset, method (the arm), kind ("histogram" or "reliability"), lower, upper, count, share (of all
        images of that data set and method), confidence and accuracy (NaN for a histogram and for empty bins).
    """
    rows = []
    for dataset in dict.fromkeys(records["dataset"]):
        for arm, readout in readouts:
            cell = records[(records["dataset"] == dataset) & (records["arm"] == arm)]
            scores = [m["readouts"][readout] for m in cell["measurements"] if readout in m["readouts"]]
            if scores:
                place = (plant_name(dataset), arm)
                rows += [(*place, *row) for row in _histogram(scores) + _reliability(scores)]
    names = ["dataset", "method", "kind", "lower", "upper", "count", "share", "confidence", "accuracy"]
    return pd.DataFrame(rows, columns=names)


def _histogram(scores: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    counts = np.sum([s["confidence_histogram"] for s in scores], axis=0)
    edges = np.linspace(0, 1, len(counts) + 1)
    return [
        ("histogram", lower, upper, int(count), count / counts.sum(), np.nan, np.nan)
        for lower, upper, count in zip(edges, edges[1:], counts, strict=False)
    ]


def _reliability(scores: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    tables = [{name: np.asarray(values) for name, values in s["reliability"].items()} for s in scores]
    counts = np.sum([t["count"] for t in tables], axis=0)
    sums = {n: np.sum([t[n] * t["count"] for t in tables], axis=0) for n in ("confidence", "accuracy")}
    return [
        (
            "reliability",
            tables[0]["lower"][b],
            tables[0]["upper"][b],
            int(count),
            count / counts.sum(),
            *(sums[name][b] / count if count else np.nan for name in ("confidence", "accuracy")),
        )
        for b, count in enumerate(counts)
    ]


def margins(records: pd.DataFrame) -> pd.DataFrame:
    """Return how far every test image of the first seed lies on the rare side, without and with the layer.

    Parameters
    ----------
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`, of one form and imbalance, with a column ``arm``.

    Returns
    -------
    DataFrame
        Columns dataset, method ("plain", "final BN"), label (0 large class, 1 rare class), margin (logit of the
        rare class minus the other's; above 0 it is predicted), and balanced, the threshold on the margin that is
        best on validation images for a balanced test; NaN without them.
    """
    rows = []
    first = records[records["split_seed"] == records["split_seed"].min()]
    for row in first[first["arm"].isin(PAIR)].to_dict("records"):
        found = row["measurements"]
        balanced = found.get("thresholds", {}).get("balanced threshold", np.nan)
        place = (plant_name(row["dataset"]), row["arm"])
        for label, values in enumerate(found["margins"]["softmax"]["test"]):
            rows += [(*place, label, value, balanced) for value in values]
    names = ["dataset", "method", "label", "margin", "balanced"]
    return pd.DataFrame(rows, columns=names).sort_values(
        ["dataset", "method"], key=lambda c: c if c.name == "dataset" else c.map(PAIR.index), kind="stable"
    )
