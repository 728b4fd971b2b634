"""Tables and frames of the chapter of all remedies, from the long frame of its study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.chapters import number, readings
from imbal_book.chapters.readings import ends
from imbal_book.evidence.verbs import minus
from imbal_book.heads.remedies import PLAIN
from imbal_book.heads.scores import LEVEL, corrected_interval, holm
from imbal_book.heads.words import listed
from imbal_book.studies.remedies import TEST_PRIORS
from imbal_core.data.datasets import has_test_side

#: Key of a remedy -> its name on this page, which has its colour in `pictures.arms`.
NAMES = {
    PLAIN: "plain",
    "weights": "class weights",
    "class-balanced": "Class-balanced",
    "focal": "Focal",
    "cce": "CCE (paper)",
    "cce-released": "CCE (released)",
    "cot": "COT",
    "ldam": "LDAM",
    "ldam-drw": "LDAM-DRW",
    "cosine": "cosine classifier",
    "balanced-softmax": "Balanced softmax",
    "adjust-after": "plain, logit adjusted",
    "tau": "plain, tau-normalised",
    "final-bn": "final BN",
    "final-bn-adjust": "final BN, logit adjusted",
    "centers": "category centers",
    "weight-decay": "tuned weight decay",
    "weight-balancing": "weight balancing",
    "weights-adjust": "class weights, logit adjusted",
    "cce-adjust": "CCE (paper), logit adjusted",
    "focal-adjust": "Focal, logit adjusted",
    "logistic": "scikit-learn, balanced",
    "smote": "SMOTE",
    "forest": "balanced forest",
}
#: Remedies that leave a trained classifier as it is and cost no training.
AFTER = ("plain, logit adjusted", "plain, tau-normalised", "category centers")
#: Two remedies and what they are together; the second is common to all.
STACKS = {
    "class weights": "class weights, logit adjusted",
    "CCE (paper)": "CCE (paper), logit adjusted",
    "Focal": "Focal, logit adjusted",
    "final BN": "final BN, logit adjusted",
}
ADJUSTED = "plain, logit adjusted"
DATA = {
    "scenes6": "six scenes",
    "plantvillage-tomato:by-disease": "tomato leaves",
    **readings.DATA,
}
_CELL = ["dataset", "imbalance"]
#: What a remedy may cost the common classes in `guide`, in the mean over cells.
CHEAP = 0.03


def in_words(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of the study with readouts by their names on this page, and a column panel: data, imbalance."""
    known = frame.assign(readout=frame["readout"].map(lambda name: NAMES.get(name, name)))
    data = known["dataset"].map(lambda name: DATA.get(name, name))
    return in_order(known.assign(panel=data + "\n" + known["imbalance"].astype(str)))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, of a long frame or of records, by data set as in `DATA` and by imbalance ratio."""
    ratios = sorted(frame["imbalance"].unique(), key=_ratio)
    return readings.in_order(frame, dataset=DATA, imbalance=ratios)


def heads(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of heads on frozen features; without any, those of heads on the features of trained networks."""
    form = "frozen features" if (frame["form"] == "frozen features").any() else "trained network"
    return frame[(frame["form"] == form) & frame["readout"].isin(list(NAMES.values()))]


def overlaps(records: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return, for each data set and imbalance, how far the test images of two draws are the same training images.

    0 where the test side is the data set's own; else the largest ratio of a class's test to its training images, by
    which `imbal_book.heads.scores.corrected_interval` widens an interval over draws of one pool.
    """
    found = {}
    for row in records.to_dict("records"):
        train, test = (np.array(row["measurements"][f"{side}_counts"]) for side in ("train", "test"))
        place = (row["dataset"], str(row["imbalance"]).replace("-", " "))
        found[place] = 0.0 if has_test_side(row["dataset"]) else float((test / train).max())
    return found


def changes(
    frame: pd.DataFrame, metric: str, overlap: Mapping[tuple[str, str], float], against: str = "plain"
) -> pd.DataFrame:
    """Return what each readout changes against another in each cell, paired over draws.

    Parameters
    ----------
    frame : DataFrame
        Of `in_words`, of one form.
    metric : str
    overlap : mapping
        Of `overlaps`.
    against : str, default="plain"

    Returns
    -------
    DataFrame
        Columns panel, dataset, imbalance, method, mean, low, high (95 %), n and p (Holm's over the remedies of a cell).
    """
    rows = []
    pairs = minus(frame[frame["metric"] == metric], against)
    for (panel, dataset, imbalance, method), part in pairs.groupby(["panel", *_CELL, "readout"], sort=False):
        ratio = overlap.get((str(dataset), str(imbalance)), 0.0)
        values = part["value"].to_numpy(float)
        if len(values) > 1:
            mean, low, high, p = corrected_interval(values, ratio)
            rows.append((panel, dataset, imbalance, method, mean, low, high, len(values), p))
    names = ["panel", *_CELL, "method", "mean", "low", "high", "n", "p"]
    found = pd.DataFrame(rows, columns=names)
    return found.assign(p=found.groupby("panel", sort=False)["p"].transform(lambda p: holm(p.to_numpy())))


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    """Return the changes with a column rank, the mean over cells of the rank in each (1 is best), the best on top."""
    place = found.groupby("panel", sort=False)["mean"].rank(ascending=False)
    rank = place.groupby(found["method"]).mean()
    ordered = found.assign(rank=found["method"].map(rank))
    return readings.in_order(ordered, rank=(), panel=found["panel"].unique())


def _beyond(found: pd.DataFrame) -> pd.DataFrame:
    """Return, for each of the `changes`, whether it is beyond noise upwards and downwards; and 1, to be summed."""
    sure = found["p"] < LEVEL
    return pd.DataFrame({"up": sure & (found["mean"] > 0), "down": sure & (found["mean"] < 0), "cells": 1})


def opening(found: pd.DataFrame) -> dict[str, str]:
    """Return the words and numbers of the page's first sentences, from `ranked` changes of balanced accuracy."""
    order = list(dict.fromkeys(found["method"]))
    counts = _beyond(found).groupby(found["method"], sort=False).sum()
    leaders = order[:3]
    told = counts["up"] + counts["down"]
    idle = [name for name in order if 2 * told[name] <= counts.loc[name, "cells"]]
    worse = [name for name in order if 2 * counts.loc[name, "down"] > counts.loc[name, "cells"]]
    best = found[found["method"] == order[0]] if order else found
    told_apart = found.groupby("panel", sort=False)["p"].min()
    by_cell = found.loc[found.groupby("panel", sort=False)["mean"].idxmax()] if len(found) else found
    return {
        "best": listed(order[:1]),
        "best_gain": ends(100 * best["mean"], "+.1f") if order else "no",
        "cells": str(found["panel"].nunique()),
        "remedies": str(len(order)),
        "leaders": listed(leaders),
        "most": str(int(counts["up"].max())) if order else "no",
        "reach": str(int((counts["up"] == counts["up"].max()).sum())),
        "silent": listed([str(name).replace("\n", ", ") for name, p in told_apart.items() if p >= LEVEL]),
        "winners": str(by_cell["method"].nunique()),
        "idle_number": str(len(idle)),
        "idle": listed(idle),
        "worse": listed(worse),
        "draws": " or ".join(map(str, sorted(set(found["n"])))) or "no",
    }


def trade_points(frame: pd.DataFrame, overlap: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Return what common and rare classes change, for `pictures.remedy_pictures.trade`: means over equal cells."""
    sides = {
        name: changes(frame, metric, overlap).groupby("method", sort=False)["mean"].mean()
        for name, metric in (("across", "recall_many"), ("up", "recall_few"))
    }
    return pd.DataFrame(sides).rename_axis("method").reset_index()


def stacks(frame: pd.DataFrame, overlap: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Return what stacking a remedy with logit adjustment adds to each of the two, balanced accuracy in points.

    A row for each pair: the mean change over cells of equal weight against each part alone, from lowest to highest, and
    in how many cells it is beyond noise.
    """
    rows = []
    for part, together in STACKS.items():
        row = {"together": f"{part} + logit adjustment"}
        for other in (part, ADJUSTED):
            mine = frame[frame["readout"].isin([together, other])]
            found = changes(mine, "balanced", overlap, other)
            up, down, count = _beyond(found).sum()
            said = "not attempted"
            if count:
                said = f"{100 * found['mean'].mean():+.1f} ({ends(100 * found['mean'], '+.1f')}); "
                said += f"above 0 in {up}, below in {down} of {count} cells"
            row["minus " + ("adjustment alone" if other == ADJUSTED else "the other alone")] = said
        rows.append(row)
    return pd.DataFrame(rows)


def priors_table(frame: pd.DataFrame, overlap: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Return, for each cell and test prior, plain's accuracy and the remedy that changes it most, with its change."""
    rows = []
    for prior, metric in zip(TEST_PRIORS, ("balanced", *TEST_PRIORS[1:]), strict=True):
        found = changes(frame, metric, overlap)
        plain = frame[(frame["metric"] == metric) & (frame["readout"] == "plain")]
        for panel, part in found.groupby("panel", sort=False):
            best = part.iloc[int(part["mean"].argmax())]
            up, down, count = _beyond(part).sum()
            level = plain.loc[plain["panel"] == panel, "value"].mean()
            rows.append(
                {
                    "cell": str(panel).replace("\n", ", "),
                    "classes in use": prior,
                    "plain (%)": f"{100 * level:.1f}",
                    "largest change": best["method"],
                    "points": number(best["mean"], best["low"], best["high"], sign=True),
                    "raise it beyond noise": f"{up} of {count}",
                    "lower it beyond noise": f"{down} of {count}",
                }
            )
    columns = ["cell", "classes in use", "plain (%)", "largest change", "points"]
    table = pd.DataFrame(rows, columns=[*columns, "raise it beyond noise", "lower it beyond noise"])
    return readings.in_order(table, cell=table["cell"].unique())


def lengths(settings: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return how the length of training moves remedies on validation images: a row for each, a column for each length.

    The mean gain over plain training of the same length, over cells of equal weight, in points of mean recall; and the
    share of runs that chose each length.
    """
    named = settings.assign(readout=settings["readout"].map(lambda name: NAMES.get(name, name)))
    gains = minus(named, "plain", keep=["steps"]).rename(columns={"value": "gain"})
    cell = gains.groupby(["readout", "steps", *_CELL])[["gain", "chosen"]].mean()
    mean = cell.groupby(["readout", "steps"]).mean().unstack()
    rows = [
        {
            "remedy": method,
            **{f"{steps} steps": f"{100 * mean.loc[method, ('gain', steps)]:+.1f}" for steps in mean["gain"]},
            **{
                f"chose {steps}": f"{100 * mean.loc[method, ('chosen', steps)]:.0f} %"
                for steps in mean["chosen"]
            },
        }
        for method in methods
        if method in mean.index
    ]
    return pd.DataFrame(rows)


def longest(settings: pd.DataFrame) -> str:
    """Return the share of runs in which plain training chose the longest of all lengths, as text."""
    last = settings[(settings["readout"] == PLAIN) & (settings["steps"] == settings["steps"].max())]
    return f"{100 * last['chosen'].mean():.0f} %" if len(last) else "none"


def guide(frame: pd.DataFrame, overlap: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Return what to do in which situation: a row for each, its advice picked by mean rank over the cells it names.

    Columns: situation, do, what it changes (smallest to largest over the cells, points), beyond noise, and cells.
    """
    counts = {metric: changes(frame, metric, overlap) for metric in _METRICS}

    def row(situation: str, metric: str, **only: Any) -> dict[str, str]:
        found = counts[metric]
        for column, allowed in only.items():
            found = found[found[column].isin(allowed)]
        if found.empty:
            return {"situation": situation, "do": "not attempted"}
        order = ranked(found)
        best = order[order["method"] == order["method"].iloc[0]]
        sure = _beyond(best)["up"].sum()
        name = str(best["method"].iloc[0])
        said = f"{_METRICS[metric]} {ends(100 * best['mean'], '+.1f')}"
        return {
            "situation": situation,
            "do": name if sure else "train as usual",
            "what it changes": said if sure else f"{name}, the first: {said}",
            "beyond noise": f"{sure} of {len(best)}",
            "cells": "; ".join(str(name).replace("\n", ", ") for name in dict.fromkeys(found["panel"])),
        }

    price = counts["recall_many"].groupby("method")["mean"].mean()
    cheap = set(price.index[price >= -CHEAP])
    mild, strong = (
        [name for name in frame["imbalance"].unique() if test(_ratio(name))]
        for test in (lambda ratio: ratio <= 10, lambda ratio: ratio > 10)
    )
    return pd.DataFrame(
        [
            row("every class counts the same", "balanced"),
            row("the same, largest class at most 10 times the smallest", "balanced", imbalance=mild),
            row("the same, more than 10 times", "balanced", imbalance=strong),
            row("the rare classes count", "recall_few"),
            row("the worst class counts", "worst"),
            row(
                f"common classes may lose {100 * CHEAP:g} points at most, in the mean of the cells",
                "recall_few",
                method=cheap,
            ),
            row("a trained network is given and nothing may be trained", "balanced", method=AFTER),
            row("classes stay as frequent as in training", "as trained"),
            row("rare classes become the common ones", "reversed"),
        ]
    ).fillna("")


_METRICS = {
    "balanced": "balanced accuracy",
    "recall_few": "recall of rare classes",
    "recall_many": "recall of common classes",
    "worst": "lowest recall",
    "as trained": "accuracy, classes as in training",
    "reversed": "accuracy, classes reversed",
}


def _ratio(imbalance: str) -> float:
    """Return the imbalance ratio that a name tells; natural ones here are larger than any of these."""
    _, _, ratio = str(imbalance).replace("-", " ").rpartition(" ")
    return float(ratio) if ratio.replace(".", "").isdigit() else np.inf
