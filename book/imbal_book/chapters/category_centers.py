"""Tables of the chapter on category centers, and the frames of its figures, from the long frame of its study."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from imbal_book.chapters import numbers, readings
from imbal_book.chapters.readings import DATA
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.verbs import minus, summarise

#: From the nearest to the paper's protocol to the farthest.
FORMS = ("fine-tuned, fair head", "fine-tuned", "from scratch", "frozen")
#: Shown and not judged: the features never saw the task, which is another method than the paper's.
EXTENSION = FORMS[-1]
_METHODS = ("D", "C", "F", "OD", "OC", "OF", "LA")
_ORDERS = {"form": FORMS, "dataset": tuple(DATA), "readout": _METHODS, "method": _METHODS}
_CELL = ["form", "dataset", "imbalance", "readout"]
#: The two open choices that are tested, by the end of the readout's name.
_CHOICES = {
    "renormalized": "centers scaled to length 1",
    "training images only": "without the validation images",
}


def in_order(frame: pd.DataFrame, by: Sequence[str] = _CELL) -> pd.DataFrame:
    """Return the rows in the order of the page; the letters of the types stand in their own."""
    return readings.in_order(frame, **{name: _ORDERS.get(name, ()) for name in by})


def _accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    return in_order(frame[frame["metric"] == "accuracy"])


def _printed(paper: Paper) -> pd.DataFrame:
    """Return the accuracies that the paper prints as a long frame; it has no frozen features."""
    reported = next(iter(paper.claims.values())).reported
    rows = [
        (name, *cell, value)
        for name, form in paper.forms.items()
        for (network, *cell), value in reported.items()
        if network == form.network and cell[0] in form.datasets
    ]
    return pd.DataFrame(rows, columns=[*_CELL, "value"])


def available(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what has records, the nearest to the paper first: columns form, dataset and title (both in words)."""
    found = in_order(frame[["form", "dataset"]].drop_duplicates(), ["form", "dataset"])
    called = found["form"].replace(EXTENSION, f"{EXTENSION} (extension)")
    return found.assign(title=found["dataset"].replace(DATA) + ", " + called)


def comparison(frame: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """Return the accuracy of every method, the paper's beside ours, for `pictures.figures.intervals`.

    Columns form, dataset, imbalance, readout, mean, low, high, sd (NaN where not run), n, paper (NaN where it prints
    none), panel (the type), row and method.
    """
    here, there = summarise(_accuracies(frame), _CELL), _printed(paper).rename(columns={"value": "paper"})
    cells = in_order(here[here["readout"].isin(_METHODS)].merge(there, how="outer", on=_CELL))
    method, panel = cells["readout"], "type " + cells["imbalance"]
    return cells.assign(n=cells["n"].fillna(0).astype(int), panel=panel, row=method, method=method)


def comparison_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of :func:`comparison`, of one form and data set, as text: paper and here by type, and seeds.

    Ours as mean and, of several seeds, half the width of the 95 % interval, or "not attempted". The paper's columns are
    left out where it prints nothing.
    """
    half = (cells["high"] - cells["mean"]).map(" ± {:.3f}".format).where(cells["n"] > 1, "")
    here, paper = (cells[name].map("{:.3f}".format, na_action="ignore") for name in ("mean", "paper"))
    shown = ["paper", "here"] if paper.notna().any() else ["here"]
    text = cells.assign(here=here + half, paper=paper).pivot(index="method", columns="panel", values=shown)
    places = [(panel, name) for panel in cells["panel"].unique() for name in shown]
    table = text.swaplevel(axis=1).loc[cells["method"].unique(), places]
    table = table.fillna({place: "not attempted" if place[1] == "here" else "" for place in places})
    seeds = cells[cells["n"] > 0].groupby("method")["n"].unique()
    table["seeds", ""] = [" or ".join(map(str, sorted(seeds.get(method, [0])))) for method in table.index]
    table.columns.names = ["method", None]
    return table.rename_axis(index=None)


def gains(frame: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """Return what C, F and LA gain over D, paired over seeds, for `pictures.figures.intervals`.

    Columns as of :func:`comparison`, with a panel for each row of :func:`available` and a row for each type.
    """
    here, there = (minus(rows, "D") for rows in (_accuracies(frame), _printed(paper)))
    cells = summarise(here[here["readout"].isin(["C", "F", "LA"])], _CELL)
    cells = cells.merge(there.rename(columns={"value": "paper"}), how="left", on=_CELL)
    cells = cells.merge(available(frame), on=["form", "dataset"])
    return cells.assign(panel=cells["title"], row="type " + cells["imbalance"], method=cells["readout"])


def best_remedy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how the centers compare with the same network's adjusted logits, paired over seeds.

    A row per form, data set and type: LA - D, the better of C and F minus LA, in percentage points with 95 %
    intervals, and the number of pairs.
    """
    place = _CELL[:3]
    to_softmax, to_adjusted = (summarise(minus(_accuracies(frame), other), _CELL) for other in ("D", "LA"))
    adjusted = to_softmax[to_softmax["readout"] == "LA"]
    centers = to_adjusted[to_adjusted["readout"].isin(["C", "F"])]
    best = centers.loc[centers.groupby(place, sort=False)["mean"].idxmax()]
    best = best.merge(adjusted.assign(adjusted=numbers(adjusted, sign=True))[[*place, "adjusted"]], on=place)
    best = best.assign(center=numbers(best, sign=True)).replace({"dataset": DATA})
    names = ["form", "data", "type", "LA - D", "best center", "center - LA", "n"]
    return best[[*place, "adjusted", "readout", "center", "n"]].set_axis(names, axis=1)


def ablations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the two open choices change in accuracy, in percentage points.

    A row per form, data set and method; a column per choice, the paired difference to the method as printed with its
    95 % interval over the draws of the split, and the number of draws.
    """
    accuracies, row = _accuracies(frame), ["form", "dataset", "method"]
    letter = accuracies["readout"].str[0]
    changed = pd.concat(
        [minus(accuracies[letter == method], method).assign(method=method) for method in "CF"]
    )
    # types of one seed share nothing but the seed; the seed is the unit that is drawn
    by_seed = changed.groupby([*row, "readout", "split_seed"], sort=False)["value"].mean().reset_index()
    found = summarise(by_seed, [*row, "readout"])
    found = found.assign(
        text=numbers(found, digits=2, sign=True), choice=found["readout"].str[3:].map(_CHOICES)
    )
    table = found.pivot(index=row, columns="choice", values="text").rename_axis(columns=None)
    table = table.assign(seeds=found.groupby(row)["n"].first()).reset_index()
    return in_order(table, row).replace({"dataset": DATA}).rename(columns={"dataset": "data"})
