"""Results of the chapter on category centers, each a table from the long frame of its study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from imbal_book.chapters import number
from imbal_book.chapters.readings import contrast, judge_forms, level, verdict_line
from imbal_book.evidence.claims import Verdict
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.statistics import Interval, mean_interval, paired

__all__ = [
    "ablations",
    "available",
    "best_remedy",
    "comparison",
    "comparison_table",
    "gain_cells",
    "glance",
    "label_groups",
    "panel_name",
    "reference_gains",
    "verdicts",
]

#: From the nearest to the paper's protocol to the farthest.
FORMS = ("fine-tuned", "from scratch", "frozen")
_KINDS = ("A", "B", "C")
_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist5k": "digits"}
_METHODS = ("D", "C", "F", "OD", "OC", "OF", "LA")


def _cell(frame: pd.DataFrame, name: str, dataset: str, kind: str) -> pd.DataFrame:
    return frame[(frame["form"] == name) & (frame["dataset"] == dataset) & (frame["imbalance"] == kind)]


def _reported(paper: Paper, form: str, dataset: str, kind: str, method: str) -> float:
    """Return the accuracy that the paper prints, NaN where it prints none or the form is not its own."""
    if form == "frozen":
        return np.nan
    claim = next(iter(paper.claims.values()))
    return claim.reported.get((paper.forms[form].network, dataset, kind, method), np.nan)


def comparison(frame: pd.DataFrame, paper: Paper, form: str, dataset: str) -> pd.DataFrame:
    """Return the accuracy of every method and imbalance type, the paper's beside ours.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`imbal_book.studies.category_centers.frame`.
    paper : Paper
    form, dataset : str

    Returns
    -------
    DataFrame
        Columns imbalance, method, mean, low, high (95 % interval over seeds; NaN where not run), n, paper.
    """
    rows = []
    for kind in _KINDS:
        cell = _cell(frame, form, dataset, kind)
        for method in _METHODS:
            printed = _reported(paper, form, dataset, kind, method)
            here = level(cell, method, "accuracy")
            rows.append((kind, method, here.mean, here.low, here.high, here.n, printed))
    table = pd.DataFrame(rows, columns=["imbalance", "method", "mean", "low", "high", "n", "paper"])
    known = table.groupby("method")[["n", "paper"]].transform("max")
    return table[(known["n"] > 0) | known["paper"].notna()].reset_index(drop=True)


def comparison_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of :func:`comparison` as printed text: a row per method, paper and here per type.

    Ours as mean, half the width of the 95 % interval where there are several seeds, and in the last column the
    number of seeds. "not attempted" where there is no record; the paper's columns are left out where it prints
    nothing.
    """
    columns: dict[tuple[str, str], dict[str, str]] = {}
    seeds: dict[str, set[int]] = {}
    printed = cells["paper"].notna().any()
    for row in cells.to_dict("records"):
        kind, method = f"type {row['imbalance']}", row["method"]
        here = "not attempted"
        if row["n"]:
            here = f"{row['mean']:.3f}"
            if row["n"] > 1:
                here += f" ± {row['high'] - row['mean']:.3f}"
            seeds.setdefault(method, set()).add(row["n"])
        if printed:
            paper = f"{row['paper']:.3f}" if np.isfinite(row["paper"]) else ""
            columns.setdefault((kind, "paper"), {})[method] = paper
        columns.setdefault((kind, "here"), {})[method] = here
    columns["seeds", ""] = {
        method: " or ".join(map(str, sorted(seeds.get(method, {0})))) for method in cells["method"]
    }
    table = pd.DataFrame(columns)
    table.columns.names = ["method", None]
    return table


def gain_cells(frame: pd.DataFrame, paper: Paper, panels: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the paired gains of the centers over the softmax layer, ready for `pictures.figures.gains`.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`imbal_book.studies.category_centers.frame`.
    paper : Paper
    panels : sequence of (form, dataset)
    """
    rows = []
    for form, dataset in panels:
        for kind in _KINDS:
            cell = _cell(frame, form, dataset, kind)
            for method in ("C", "F"):
                gain = contrast(cell, method, "D", "accuracy")
                if not gain.n:
                    continue
                printed = _reported(paper, form, dataset, kind, method) - _reported(
                    paper, form, dataset, kind, "D"
                )
                rows.append(
                    (
                        panel_name(form, dataset),
                        f"type {kind}",
                        f"{method} - D",
                        method,
                        gain.mean,
                        gain.low,
                        gain.high,
                        gain.n,
                        printed,
                    )
                )
    names = ["panel", "row", "contrast", "method", "mean", "low", "high", "n", "paper"]
    return pd.DataFrame(rows, columns=names)


def panel_name(form: str, dataset: str) -> str:
    """Return how a form and a data set are called above a panel."""
    return f"{_NAMES.get(dataset, dataset)}, {form}"


def reference_gains(frame: pd.DataFrame, panels: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the mean paired gain of post-hoc logit adjustment over the softmax layer, by "panel|row"."""
    found = {}
    for form, dataset in panels:
        for kind in _KINDS:
            gain = contrast(_cell(frame, form, dataset, kind), "LA", "D", "accuracy")
            if gain.n:
                found[f"{panel_name(form, dataset)}|type {kind}"] = gain.mean
    return found


def available(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs (form, data set) that have records, the nearest to the paper first."""
    found = set(zip(frame["form"], frame["dataset"], strict=True))
    return sorted(found, key=lambda pair: (FORMS.index(pair[0]), len(pair[1])))


def label_groups(labels: pd.DataFrame, form: str, dataset: str, methods: Sequence[str]) -> pd.DataFrame:
    """Return the recall of each label with its interval; the labels of CIFAR-100 in tens, as in Table II.

    Parameters
    ----------
    labels : DataFrame
        Of :func:`imbal_book.studies.category_centers.label_frame`.
    form, dataset : str
    methods : sequence of str

    Returns
    -------
    DataFrame
        Columns imbalance, label, train_count, method, mean, low, high, n.
    """
    rows = labels[(labels["form"] == form) & (labels["dataset"] == dataset)]
    rows = rows[rows["readout"].isin(methods)]
    width = 10 if rows["label"].max() > 9 else 1
    start = rows["label"] // width * width
    rows = rows.assign(group=start)
    seeds = (
        rows.groupby(["imbalance", "readout", "group", "split_seed", "train_seed"])[["recall", "train_count"]]
        .mean()
        .reset_index()
    )
    table = []
    for kind in _KINDS:
        for method in methods:
            part = seeds[(seeds["imbalance"] == kind) & (seeds["readout"] == method)]
            for group in sorted(part["group"].unique()):
                cell = part[part["group"] == group]
                here = mean_interval(cell["recall"])
                label = str(group) if width == 1 else f"{group}-{group + width - 1}"
                count = int(cell["train_count"].iloc[0])
                low, high = np.clip([here.low, here.high], 0, 1)
                table.append((kind, label, count, method, here.mean, low, high, here.n))
    names = ["imbalance", "label", "train_count", "method", "mean", "low", "high", "n"]
    return pd.DataFrame(table, columns=names)


def ablations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the two open choices change in accuracy, in percentage points.

    Returns
    -------
    DataFrame
        A row per form, data set and readout; a column per choice, the paired difference to the method as
        printed with its 95 % interval over seeds and types, and the number of pairs.
    """
    choices = {
        "centers scaled to length 1": "renormalized",
        "without the validation images": "training images only",
    }
    rows = []
    for form, dataset in available(frame):
        part = frame[(frame["form"] == form) & (frame["dataset"] == dataset)]
        for method in ("C", "F"):
            row: dict[str, object] = {"form": form, "data": _NAMES.get(dataset, dataset), "method": method}
            for choice, suffix in choices.items():
                pairs = paired(
                    part,
                    "accuracy",
                    f"{method}, {suffix}",
                    method,
                    on=["imbalance", "split_seed", "train_seed"],
                )
                if len(pairs):
                    # types of one seed share nothing but the seed; the seed is the unit that is drawn
                    by_seed = (pairs["a"] - pairs["b"]).groupby(level="split_seed").mean()
                    gain = mean_interval(by_seed)
                    row[choice] = number(gain.mean, gain.low, gain.high, digits=2, sign=True)
                    row["seeds"] = row.pop("seeds", gain.n)  # stays the last column
            if len(row) > 3:
                rows.append(row)
    return pd.DataFrame(rows)


def verdicts(paper: Paper, frame: pd.DataFrame) -> list[Verdict]:
    """Return the verdict on every claim in every form, the form nearest to the paper first.

    Parameters
    ----------
    paper : Paper
    frame : DataFrame
        Smoke records are left out, for digits decide no claim; of two profiles of a form the larger one counts.
    """
    return [verdict for claim in paper.claims.values() for verdict in judge_forms(claim, frame, FORMS)]


def best_remedy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how the centers compare with the same network's adjusted logits, paired over seeds.

    Returns
    -------
    DataFrame
        A row per form, data set and type: LA - D, the better of C and F minus LA, in percentage points with
        95 % intervals, and the number of pairs.
    """
    rows = []
    for name, dataset in available(frame):
        for kind in _KINDS:
            cell = _cell(frame, name, dataset, kind)
            against = {m: contrast(cell, m, "LA", "accuracy") for m in ("C", "F")}
            against = {m: gain for m, gain in against.items() if gain.n}
            adjusted = contrast(cell, "LA", "D", "accuracy")
            if not against or not adjusted.n:
                continue
            method = max(against, key=lambda m: against[m].mean)
            gain = against[method]
            rows.append(
                {
                    "form": name,
                    "data": _NAMES.get(dataset, dataset),
                    "type": kind,
                    "LA - D": number(adjusted.mean, adjusted.low, adjusted.high, sign=True),
                    "best center": method,
                    "center - LA": number(gain.mean, gain.low, gain.high, sign=True),
                    "n": gain.n,
                }
            )
    return pd.DataFrame(rows)


def glance(found: Sequence[Verdict], frame: pd.DataFrame) -> str:
    """Return the answer of the chapter in a few sentences of Markdown, every number from the records."""
    sentences = []
    for name, dataset in available(frame):
        gains = [
            (kind, method, contrast(_cell(frame, name, dataset, kind), method, "D", "accuracy"))
            for kind in _KINDS
            for method in ("C", "F")
        ]
        gains = [entry for entry in gains if entry[2].n]
        if not gains:
            continue
        low = min(gains, key=lambda entry: entry[2].mean)
        high = max(gains, key=lambda entry: entry[2].mean)
        sure = sum(gain.low > 0 for _, _, gain in gains)
        sentences.append(
            f"- **{panel_name(name, dataset)}** ({_seeds(gains)}): centers minus softmax layer from "
            f"{100 * low[2].mean:+.1f} (type {low[0]}, {low[1]}) to {100 * high[2].mean:+.1f} points "
            f"(type {high[0]}, {high[1]}); above zero with its whole 95 % interval in {sure} of {len(gains)} cells."
        )
    return "\n".join([*sentences, "", verdict_line(found)])


def _seeds(gains: Sequence[tuple[str, str, Interval]]) -> str:
    """Return how many seeds stand behind the cells, as text."""
    counts = sorted({gain.n for _, _, gain in gains})
    return " or ".join(map(str, counts)) + (" seed" if counts == [1] else " seeds")
