"""Training and confidence in the chapter on the final batch norm, each a table from the records."""

from __future__ import annotations

import numpy as np
import pandas as pd

from imbal_book.chapters import number
from imbal_book.chapters.final_batch_norm import (
    ARMS,
    BY,
    F1,
    FORMS,
    gains,
    in_order,
    levels,
    pick,
    plant_name,
    table_of,
)
from imbal_book.chapters.readings import wide
from imbal_book.evidence.statistics import sign_interval
from imbal_book.evidence.verbs import PAIR
from imbal_book.studies.final_batch_norm import always_rare

#: Values of F1 whose first epoch is counted.
LEVELS = (0.7, 0.8, 0.9)
_KINDS = {"histogram": "confidence_histogram", "reliability": "reliability"}  # as a record calls them


def curve_cells(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return test F1 and validation loss of every epoch, for `pictures.batch_norm_pictures.curves`.

    ``epochs`` is of the study's ``epoch_frame``, of one form and imbalance.
    """
    names = {"test_f1_minority": "f1", "valid_loss": "loss"}
    rows, place = pick(epochs, ARMS, names), ["dataset", "readout", "key", "epoch"]
    table = wide(rows, place, "metric", "value").rename(columns=names).astype(float)
    found = table.reindex(columns=["f1", "loss"]).rename_axis(columns=None).dropna().reset_index()
    return found.assign(dataset=found["dataset"].map(plant_name)).rename(columns={"readout": "method"})


def baseline(runs: pd.DataFrame) -> float | None:
    """Return the test F1 of calling every image rare; None without runs or where they have different tests.

    ``runs`` is of :func:`imbal_book.chapters.final_batch_norm.runs`.
    """
    counts = {tuple(measured["test_counts"]) for measured in runs["measurements"]}
    return always_rare(counts.pop()) if len(counts) == 1 else None


def epochs_table(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return how soon the test F1 of the rare class reaches each of :data:`LEVELS`, in every cell of ``epoch_frame``.

    A run that never gets there is censored at its last epoch: of a pair of runs the one that gets there is the sooner,
    and two that do not are a tie. A row per plant, network, imbalance and level: of each arm how many runs got there
    and the epoch by which half of them had; in how many pairs the layer is sooner, as soon, later; and the share in
    which it is sooner (ties half each, percent) with the 95 % interval of Clopper and Pearson, in which 50 is no
    difference.
    """
    table = []
    rows = pick(epochs[epochs["form"].isin(FORMS)], ARMS, ("test_f1_minority",))
    for (form, dataset, imbalance), own in rows.groupby(BY, sort=False):
        for level in LEVELS:
            epoch = own["epoch"].astype(float).where(own["value"] >= level, np.inf)
            first = epoch.groupby([own[name] for name in (*PAIR, "readout")]).min().unstack()
            first = first.reindex(columns=ARMS).dropna()
            if first.empty:
                continue
            place = (plant_name(str(dataset)), form, imbalance, f"{level:.1f}")
            row = dict(zip(("plant", "network", "imbalance", "F1"), place, strict=True))
            for arm, values in first.items():
                half = np.sort(values)[(len(values) - 1) // 2]
                row[f"{arm}, got there"] = f"{np.isfinite(values).sum()} of {len(values)}"
                row[f"{arm}, half by epoch"] = (
                    f"{half:.0f}" if np.isfinite(half) else f"> {own['epoch'].max()}"
                )
            signs = np.array(first["final BN"] < first["plain"], int) - (first["final BN"] > first["plain"])
            counts = [int((signs == sign).sum()) for sign in (1, 0, -1)]
            row["sooner : as soon : later"] = " : ".join(map(str, counts))
            share, *ends = ((end + 1) / 2 for end in (signs.mean(), *sign_interval(signs)))
            table.append(row | {"share sooner (%)": number(share, *ends, digits=0)})
    return pd.DataFrame(table)


def loss_table(part: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return what the epoch of the lowest loss costs in F1, both epochs chosen on validation images.

    ``part`` and ``epochs`` are of the study's ``frame`` and ``epoch_frame``, of one form and imbalance.
    """
    row, best, lowest = ["dataset", "readout"], ", epoch of best F1", ", epoch of lowest loss"
    gain = gains(part, *((f"{arm}{best}", f"{arm}{lowest}", F1) for arm in ARMS))
    gain = gain.assign(readout=gain["a"].str.removesuffix(best)).set_index(row)
    columns: dict[str, pd.Series] = {}
    for ending, metric, extreme in ((best, "valid_f1_minority", "idxmax"), (lowest, "valid_loss", "idxmin")):
        rows, what = pick(epochs, ARMS, (metric,)), ending.removeprefix(", epoch of ")
        chosen = rows.loc[rows.groupby("key")["value"].agg(extreme)].groupby(row)["epoch"].mean()
        f1 = levels(part, [f"{arm}{ending}" for arm in ARMS])
        there = f1.assign(readout=f1["readout"].str.removesuffix(ending)).set_index(row)["text"]
        columns |= {f"epoch of {what}": chosen.map("{:.1f}".format), f"test F1 at {what}": there}
    columns = {name: own.reindex(gain.index) for name, own in columns.items()}
    return table_of({**columns, "difference in F1": gain["text"], "seeds": gain["n"]}, "plant", "arm")


def confidence_table(part: pd.DataFrame) -> pd.DataFrame:
    """Return how right and how confident the network is without and with the layer, with paired differences."""
    names = {"accuracy": "accuracy", "confidence": "mean confidence", "ece": "calibration error (ECE)"}
    gain = gains(part, *((*ARMS[::-1], metric) for metric in names)).set_index(row := ["dataset", "metric"])
    mean = wide(levels(part, ARMS, names), row, "readout", "text").reindex(gain.index, columns=ARMS)
    table = table_of({**mean, "difference": gain["text"], "seeds": gain["n"]}, "plant", "")
    return table.replace({"": names})


def _of_arms(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs without and with the layer, the first pair of seeds first, data sets as the book calls them."""
    own = in_order(runs[runs["arm"].isin(ARMS)], arm=ARMS)
    return own.assign(dataset=own["dataset"].map(plant_name))


def confidence_bins(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return how sure (kind "histogram") or how right ("reliability") both arms are, all runs' test images together.

    ``runs`` is of :func:`imbal_book.chapters.final_batch_norm.runs`, of one form and imbalance. Columns dataset,
    method, lower, upper, count, confidence and accuracy (means over a bin's images, NaN in a histogram and in empty
    bins) and share (of the images of that data set and method).
    """
    place, edges, means = ["dataset", "method"], ["lower", "upper"], ["confidence", "accuracy"]
    tables = [pd.DataFrame(columns=[*place, *edges, "count", *means])]
    for run in _of_arms(runs).to_dict("records"):
        found = run["measurements"]["readouts"]["softmax"][_KINDS[kind]]
        if kind == "histogram":
            ends = np.linspace(0, 1, len(found) + 1)
            found = {"lower": ends[:-1], "upper": ends[1:], "count": found}
        tables.append(pd.DataFrame(found).assign(dataset=run["dataset"], method=run["arm"]))
    bins = pd.concat(tables[1:] or tables).reindex(columns=tables[0].columns)
    bins[means] = bins[means].mul(bins["count"], axis=0)
    bins = bins.groupby([*place, *edges], sort=False).sum().reset_index()
    bins[means] = bins[means].div(bins["count"].where(bins["count"] > 0), axis=0)
    return bins.assign(share=bins["count"] / bins.groupby(place)["count"].transform("sum"))


def margins(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how far every test image of the first pair of seeds lies on the rare side, without and with the layer.

    ``runs`` as for :func:`confidence_bins`. Columns dataset, method, label (0 large class, 1 rare class), margin (logit
    of the rare class minus the other's; above 0 it is predicted) and balanced, the threshold on the margin that is best
    on validation images for a balanced test; NaN without them.
    """
    rows = []
    for run in _of_arms(runs).drop_duplicates(["dataset", "arm"]).to_dict("records"):
        found = run["measurements"]
        balanced = found.get("thresholds", {}).get("balanced threshold", np.nan)
        for label, values in enumerate(found["margins"]["softmax"]["test"]):
            rows += [(run["dataset"], run["arm"], label, value, balanced) for value in values]
    return pd.DataFrame(rows, columns=["dataset", "method", "label", "margin", "balanced"])
