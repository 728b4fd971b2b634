"""By what mechanism the final batch norm works: comparisons, sweeps, leaves, and what the layer itself has learnt."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from imbal_book.chapters import numbers
from imbal_book.chapters.final_batch_norm import ARMS, F1, FORMS, gains, levels, pick, plant_name, table_of
from imbal_book.chapters.readings import wide
from imbal_book.evidence.verbs import minus, summarise
from imbal_book.run.config import RunConfig
from imbal_book.studies.grids.final_batch_norm import BASE_BATCH_SIZE, BASE_IMBALANCE, OWN_START, describe

_REMOVED = "final BN, removed at inference"
#: What stands beside the plain network and the layer, in the order of the figure.
READOUTS = (
    "plain",
    "plain, logit adjusted",
    "plain, threshold moved",
    "plain, balanced threshold",
    "plain, temperature",
    "weighted loss",
    "logit adjustment",
    "label smoothing",
    "final BN",
    "final BN, removed at inference",
    "final BN, no affine",
    "final BN, momentum 0.1",
)
_GAIN = ("final BN", "plain", F1)
# Neither score can be changed by a shift of the threshold.
_RANKING, _AT_BEST = ("final BN", "plain", "auroc"), ("final BN", "plain", "f1_best")
#: Question, readout a, readout b, metric: the table holds a minus b.
QUESTIONS = (
    ("Does the layer rank leaves better, whatever the threshold? (AUROC)", *_RANKING),
    ("The same by precision and recall (AUPRC)", "final BN", "plain", "auprc"),
    ("And if both had their best threshold, in hindsight?", *_AT_BEST),
    ("Does the layer itself rank better, when the network is used?", "final BN", _REMOVED, "auroc"),
    ("Does it beat a shift by the known class counts?", "final BN", "plain, logit adjusted", F1),
    ("Does it beat a threshold from validation images?", "final BN", "plain, threshold moved", F1),
    ("The same, chosen for a balanced test?", "final BN", "plain, balanced threshold", F1),
    ("Does it beat the shift inside the loss?", "final BN", "logit adjustment", F1),
    ("Does it beat weights inside the loss?", "final BN", "weighted loss", F1),
    ("Are layer and weights better than the layer?", "final BN + weighted loss", "final BN", F1),
    ("Is it needed when the network is used?", "final BN", _REMOVED, F1),
    ("Does it need its scale and shift?", "final BN", "final BN, no affine", F1),
    ("Does it need its slow statistics?", "final BN", "final BN, momentum 0.1", F1),
    ("Do soft targets alone help?", "label smoothing", "plain", F1),
)
#: Readouts whose F1 says what a shift of the plain network's threshold is worth, as the table of shifts calls them.
_SHIFTS = {
    "plain": "F1, plain",
    "plain, logit adjusted": "shifted by the class counts",
    "plain, balanced threshold": "shifted by validation images",
    "final BN": "with the layer",
}
_SCORES = {"auroc": "AUROC", "f1_best": "F1 at its best threshold"}
_EPSILON = 1e-5  # what torch adds to the variance
_PARTS = ("running_mean", "running_var", "weight", "bias")  # of the layer, in a record
_BY_LEAF = ", leaf-grouped split"
_NEVER = "not attempted"


def head_of(form: str) -> str:
    """Return how the head of a form's network starts, for the words below a figure."""
    return f"The head starts as {'timm draws it' if OWN_START in form else 'nn.Linear does'}."


def readout_cells(part: pd.DataFrame) -> pd.DataFrame:
    """Return F1 and ranking of :data:`READOUTS`, of one data set, for `pictures.figures.intervals`."""
    named = {F1: "F1, with the threshold that it has", "auroc": "AUROC, with any threshold"}
    cells = levels(part, READOUTS, named)
    return cells.assign(panel=cells["metric"].map(named), row=cells["readout"], method=cells["readout"])


def questions(part: pd.DataFrame) -> pd.DataFrame:
    """Return every question with the paired difference that answers it, in percentage points, a column per plant.

    ``part`` is of one form and imbalance; a question without any pair is left out.
    """
    asked = pd.DataFrame(QUESTIONS, columns=["question", "a", "b", "metric"])
    cells = asked.merge(gains(part, *(question[1:] for question in QUESTIONS)))
    cells = cells.assign(difference=cells["a"] + " - " + cells["b"])
    row = ["question", "difference"]
    table = wide(cells, row, "dataset", "text").fillna(_NEVER).rename(columns=plant_name)
    seeds = cells.groupby(row)["n"].unique().map(lambda n: " or ".join(map(str, sorted(n))))
    return table.assign(seeds=seeds).rename_axis(columns=None).reset_index()


def shift_table(part: pd.DataFrame) -> pd.DataFrame:
    """Return whether the layer is more than a shift of the threshold, a row per plant, with the numbers that say so.

    "more" if the intervals of its gains in AUROC and in F1 at the best threshold, which no shift can change, both lie
    above 0; "no sign of more" if neither does; else "not decided".
    """
    cells, row = gains(part, _RANKING, _AT_BEST), ["dataset"]
    above = wide(cells.assign(above=cells["low"] > 0), row, "metric", "above").sum(axis=1)
    f1 = wide(levels(part, _SHIFTS), row, "readout", "mean")
    f1 = f1.reindex(columns=list(_SHIFTS)).rename(columns=_SHIFTS)
    f1["any threshold, at most"] = levels(part, ("plain",), ("f1_best",)).set_index("dataset")["mean"]
    said = above.map({0: "no sign of more", 1: "not decided", 2: "more"})
    columns = {"more than a shift?": said, **wide(cells, row, "metric", "text").rename(columns=_SCORES)}
    columns |= {**f1.map("{:.2f}".format, na_action="ignore").astype(object).fillna(_NEVER)}
    return table_of({**columns, "seeds": cells.groupby(row)["n"].max()}, "plant")


def sweep(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return F1 of plain and final BN along an axis, of each start of the head and plant with two places or more.

    ``frame`` is of :func:`imbal_book.studies.final_batch_norm.frame`, ``by`` is "imbalance" or "batch size". Long form:
    form is the network with its start, imbalance the place on the axis ("1:100", "64") and position its number, by
    which the rows are sorted. A place without a pair of both arms does not count.
    """
    rows = pick(frame, ARMS)
    parts = rows["form"].str.extract(r"^(?P<form>.*?)(?:, batch (?P<size>\d+))?$")
    if by == "imbalance":
        large, rare = (rows["imbalance"].str.extract(r"^(\d+):(\d+)$").astype(float)[i] for i in (0, 1))
        position, there = large / rare, parts["size"].isna()
        label = position.map("1:{:.0f}".format)
    else:
        position = parts["size"].astype(float).fillna(BASE_BATCH_SIZE)
        there, label = rows["imbalance"] == BASE_IMBALANCE, position.map("{:.0f}".format)
    rows = rows.assign(form=parts["form"], imbalance=label, position=position)
    rows = rows[there & rows["form"].isin(FORMS)]
    places = minus(rows, ARMS[0])[["form", "dataset", "position"]].drop_duplicates()
    several = places[places.duplicated(["form", "dataset"], keep=False)]
    return rows.merge(several).sort_values(["form", "dataset", "position"], kind="stable")


def sweep_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return levels and gain of the layer for `pictures.figures.intervals`, of one form and plant of `sweep`."""
    gain, ends = gains(rows, _GAIN).assign(readout=ARMS[1]), ["mean", "low", "high"]
    gain[ends] *= 100
    parts = {"F1 of the rare class": levels(rows, ARMS), "final BN minus plain (percentage points)": gain}
    cells = pd.concat(
        part[["imbalance", "readout", *ends, "n"]].assign(panel=name) for name, part in parts.items()
    )
    return cells.assign(row=cells["imbalance"], method=cells["readout"])


def sweep_table(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the layer's gain in F1 along an axis, and how it differs from that at the study's own place.

    Both in percentage points with 95 % intervals, paired. ``rows`` is of :func:`sweep`, for the same axis.
    """
    base, place = str(BASE_BATCH_SIZE) if by == "batch size" else "1:100", ["dataset", "form", "imbalance"]
    gain, pairs = gains(rows, _GAIN).set_index(place), minus(rows, ARMS[0])
    change = minus(pairs.assign(readout=pairs["imbalance"], imbalance=""), base)
    change = summarise(change.assign(imbalance=change["readout"]), place).set_index(place)
    columns = {
        "gain of the layer": gain["text"],
        f"minus the gain at {base}": pd.Series(numbers(change, sign=True), change.index),
    }
    return table_of({**columns, "seeds": gain["n"]}, "plant", "network", by)


def running_share_table(configs: Iterable[RunConfig]) -> pd.DataFrame:
    """Return how far the layer's running statistics get from their start, by batch size and momentum.

    ``configs`` is a grid of the study; those of the paper's own imbalance are taken.
    """
    rows = [
        (c.profile, c.batch_size, c.final_batch_norm_momentum, c.epochs)
        for c in configs
        if c.final_batch_norm and describe(c)["imbalance"] == BASE_IMBALANCE
    ]
    names = ["profile", "batch size", "momentum", "epochs"]
    table = pd.DataFrame(rows, columns=names).drop_duplicates().sort_values(names, ignore_index=True)
    images = sum(map(int, BASE_IMBALANCE.split(":")))
    steps = table["epochs"] * np.ceil(images / table["batch size"]).astype(int)
    share = (1 - table["momentum"]) ** steps
    left = share.map("{:.0%}".format).where(share >= 0.005, "under 1%")
    momentum = table["momentum"].map("{:g}".format)
    return table.assign(momentum=momentum, steps=steps).assign(**{"share of the start that is left": left})


def layer_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what the layer has learnt: means over the runs of each arm that has it, a row per class.

    ``runs`` is of :func:`imbal_book.chapters.final_batch_norm.runs`, of one form and imbalance.
    """
    rows = [
        (row["dataset"], row["arm"], label, *(row["measurements"]["layer"][part][k] for part in _PARTS))
        for row in runs.to_dict("records")
        for k, label in enumerate(("large", "rare"))
        if "layer" in row["measurements"]
    ]
    learnt = pd.DataFrame(rows, columns=["dataset", "arm", "label", *_PARTS])
    scale = learnt["weight"] / np.sqrt(learnt["running_var"] + _EPSILON)
    learnt = learnt.assign(deviation=np.sqrt(learnt["running_var"]), scale=scale)
    learnt = learnt.assign(shift=learnt["bias"] - scale * learnt["running_mean"])
    groups = learnt.groupby(["dataset", "arm", "label"], sort=False)
    shown = {"running_mean": "running mean", "deviation": "running deviation", "scale": "multiplied by"}
    columns = groups[list(shown)].mean().map("{:.2f}".format).rename(columns=shown)
    shift = groups["shift"].mean().map("{:+.2f}".format)
    named = {**columns, "then shifted by": shift, "runs": groups.size()}
    return table_of(named, "plant", "arm", "logit of the class")


def leakage_table(runs: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return how many test leaves are in training by plant, network and kind of split, and F1 of both arms.

    ``runs`` is of :func:`imbal_book.chapters.final_batch_norm.runs`; each draw of the split counts once.
    """
    kinds = ["", " healthy", " diseased"]
    shares = [
        (run["dataset"], run["form"], run["split_seed"], found["test"], *found["test_by_class"])
        for run in runs[runs["imbalance"] == BASE_IMBALANCE].to_dict("records")
        if (found := run["measurements"].get("shared_groups")) and run["form"].removesuffix(_BY_LEAF) in FORMS
    ]
    drawn = pd.DataFrame(shares, columns=["dataset", "form", "split_seed", *kinds])
    row = ["dataset", "form"]
    drawn = drawn.drop_duplicates([*row, "split_seed"]).groupby(row, sort=False)[kinds].mean()
    known = drawn.map("{:.0%}".format).rename(columns="test{} images whose leaf is in training".format)
    own = frame[frame["imbalance"] == BASE_IMBALANCE]
    f1 = wide(levels(own, ARMS), row, "readout", "text").reindex(known.index, columns=ARMS)
    gain = gains(own, _GAIN).set_index(row)
    columns = {
        **known,
        **f1.astype(object).fillna(_NEVER).add_prefix("F1, "),
        "gain of the layer": gain["text"],
        "seeds": gain["n"],
    }
    table = table_of(columns, "plant", "network")
    by_leaf = table["network"].str.endswith(_BY_LEAF)
    table.insert(2, "split", by_leaf.map({True: "leaf-grouped", False: "random"}))
    return table.assign(network=table["network"].str.removesuffix(_BY_LEAF))
