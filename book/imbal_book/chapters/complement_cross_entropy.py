"""Tables of the chapter on complement cross entropy, and the frames of its figures, from its study's long frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from imbal_book.chapters import Chapter, numbers, readings
from imbal_book.chapters.readings import DATA, texts, wide
from imbal_book.evidence.judgement import gate_reason
from imbal_book.evidence.papers.reference import published_values, reference_numbers
from imbal_book.evidence.rules import load_rules
from imbal_book.evidence.verbs import PAIR, minus, summarise
from imbal_book.studies.complement_cross_entropy import POST_HOC, TAU
from imbal_book.studies.grids.complement_cross_entropy import ARMS, LITERATURE, NETWORKS, has_tau
from imbal_book.studies.grids.complement_cross_entropy import arm as arm_of

#: What the chapter's first picture compares.
FIRST = ("CE", "CCE (paper)", "CCE (released)")
#: Metric -> (what it is called, factor, digits, unit).
_METRICS = {
    "accuracy": ("accuracy", 100, 1, "%"),
    "recall_few": ("minority recall", 100, 1, "%"),
    "recall_many": ("majority recall", 100, 1, "%"),
    "p_true": ("p of the true class", 100, 1, "%"),
    "p_true_few": ("p of the true class, minority", 100, 1, "%"),
    "wrong_class_entropy": ("wrong-class entropy", 1, 2, "nats"),
}
_IMBALANCES = [f"{kind} {ratio}" for kind in ("exponential", "step") for ratio in (100, 50, 10)]
_NO_IMAGES = "no images for validation"
#: Why a readout that others published can have no number here.
_NEVER = {"": "no such arm"} | ({} if has_tau(LITERATURE) else {TAU: _NO_IMAGES})
#: Readout -> what the published numbers call it; a focal loss over sigmoids is no arm here.
_PUBLISHED = {
    "CE": "CE",
    "": "Focal, sigmoid",
    "Class-balanced": "Class-balanced",
    "LDAM-DRW": "LDAM-DRW",
    "Balanced softmax": "Balanced softmax",
    "Logit adjustment": "Logit adjustment",
    "CE, logit adjusted": "Logit adjustment, post-hoc",
    "CE, tau-normalised": "tau-normalisation",
    "CE, classifier re-trained": "cRT",
}


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of the page, with the column place: data, imbalance and network in words.

    The network nearest to the paper stands first, CIFAR-10 before CIFAR-100, the strongest imbalance before the weaker.
    """
    place = frame["dataset"].replace(DATA) + ", " + frame["imbalance"] + ", " + frame["form"]
    orders = {"form": [*reversed(NETWORKS.values())], "dataset": DATA, "imbalance": _IMBALANCES}
    return readings.in_order(frame.assign(place=place), **orders, readout=[*ARMS, *POST_HOC])


def with_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the networks with the pairs that a verdict needs in some place, or else of the first."""
    pairs = frame.drop_duplicates(["place", *PAIR]).groupby(["form", "place"]).size().groupby("form").max()
    forms = frame["form"].unique()
    enough = [form for form in forms if pairs[form] >= load_rules().pairs]
    return frame[frame["form"].isin(enough or forms[:1])]


def first_change(frame: pd.DataFrame, readout: str) -> pd.DataFrame:
    """Return a readout's paired difference to CE in accuracy, by place, on the first network that has run it."""
    rows = frame[(frame["metric"] == "accuracy") & frame["readout"].isin([readout, "CE"])]
    change = summarise(minus(rows, "CE"), ["form", "dataset", "place"])
    return change[change["form"].isin(change["form"].unique()[:1])]


def _panel(rows: pd.DataFrame, metric: str, *, gain: bool = False) -> pd.DataFrame:
    """Return one panel of an interval plot, in the unit of the metric: a row for each place, a dot for each readout."""
    name, scale, _, unit = _METRICS[metric]
    cells = summarise(rows[rows["metric"] == metric], ["place", "readout"])
    cells[["mean", "low", "high"]] *= scale
    title = f"{name} minus CE ({'points' if unit == '%' else unit})" if gain else f"{name} ({unit})"
    return cells.assign(panel=title, row=cells["place"], method=cells["readout"])


def levels(
    frame: pd.DataFrame,
    readouts: Collection[str] = FIRST,
    metrics: Sequence[str] = ("accuracy", "recall_few"),
) -> pd.DataFrame:
    """Return each readout's mean and paired difference to CE, a panel for each, for `pictures.figures.intervals`."""
    chosen = frame[frame["readout"].isin(readouts)]
    change = minus(chosen, "CE")
    both = [(_panel(chosen, metric), _panel(change, metric, gain=True)) for metric in metrics]
    return pd.concat([panel for pair in both for panel in pair], ignore_index=True)


def gains(
    frame: pd.DataFrame,
    metrics: Sequence[str] = ("accuracy", "recall_few", "recall_many"),
    *,
    row: str = "readout",
) -> pd.DataFrame:
    """Return every readout's paired difference to CE for `pictures.figures.intervals`: by readout, or by place."""
    change = minus(frame, "CE")
    cells = pd.concat([_panel(change, metric, gain=True) for metric in metrics], ignore_index=True)
    return cells.assign(row=cells[row])


def _texts(rows: pd.DataFrame, *, sign: bool = False) -> pd.DataFrame:
    """Return means with their intervals as text: a row for each place and readout, a column for each metric."""
    by = ["place", "readout"]
    table = wide(texts(rows, _METRICS, by, sign=sign), by, "metric", "text")
    return table.reindex(columns=[*_METRICS]).astype(object)


def arm_table(cell: pd.DataFrame, impossible: Collection[str] = ()) -> pd.DataFrame:
    """Return accuracy and recall of every arm and readout in one place, with the paired difference to CE.

    A row per arm of the grid, then per readout of the CE networks: percent with 95 % intervals, differences in
    percentage points, and the number of seeds; "not attempted" where there is no record. ``impossible`` readouts are
    those that no run of this place can have, for it has no images for validation.
    """
    level, gain = (texts.droplevel("place") for texts in (_texts(cell), _texts(minus(cell, "CE"), sign=True)))
    columns = {
        f"{_METRICS[name][0]} (%)": level[name] for name in ("accuracy", "recall_few", "recall_many")
    } | {f"{_METRICS[name][0]} minus CE": gain[name] for name in ("accuracy", "recall_few")}
    table = pd.DataFrame(columns, index=pd.Index([*ARMS, *POST_HOC], name="arm"))
    table.loc["CE", table.columns[3:]] = ""
    table.loc[table.index.isin(list(impossible))] = _NO_IMAGES
    seeds = cell.loc[cell["metric"] == "accuracy", "readout"].value_counts()
    return table.fillna("not attempted").assign(n=seeds.reindex(table.index, fill_value=0)).reset_index()


def selection_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the choice of the best test epoch would have bought, for every place and arm that was run.

    Accuracy of the last and of the best test epoch in percent, and the paired gap in points.
    """
    rows = frame[frame["metric"].isin(["accuracy", "best_test_accuracy"]) & frame["readout"].isin(ARMS)]
    by_epoch = rows.assign(arm=rows["readout"], readout=rows["metric"], metric="value")
    on, epochs = ["place", "arm"], ["accuracy", "best_test_accuracy"]
    gap = summarise(minus(by_epoch, "accuracy", keep=["arm"]), on).set_index(on)
    mean = 100 * by_epoch.groupby([*on, "readout"])["value"].mean().unstack().reindex(
        gap.index, columns=epochs
    )
    columns = {
        "last epoch (%)": mean["accuracy"].map("{:.1f}".format),
        "best test epoch (%)": mean["best_test_accuracy"].map("{:.1f}".format),
        "gap (points)": numbers(gap, sign=True),
        "n": gap["n"],
    }
    return pd.DataFrame(columns).reset_index()


def mechanism_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each loss did to the probabilities of the test images, with the paired difference to CE.

    A row per place and arm that was run; for the mean probability of the true class (percent, all images and those of
    the minority) and the entropy of the wrong classes (nats) the mean, and the difference with its 95 % interval.
    """
    chosen = frame[frame["readout"].isin(ARMS)]
    level, gain = _texts(chosen), _texts(minus(chosen, "CE"), sign=True)
    columns = {}
    for metric in ("p_true", "p_true_few", "wrong_class_entropy"):
        name, _, _, unit = _METRICS[metric]
        columns[f"{name} ({unit})"] = level[metric].str.split(" ").str[0]
        columns[f"{name}, minus CE"] = gain[metric].reindex(level.index, fill_value="")
    table = pd.DataFrame(columns).reset_index().rename(columns={"readout": "arm"})
    return table.dropna(subset=table.columns[2])


def recorded_times(opened: Chapter) -> pd.DataFrame:
    """Return how long a recorded run took with each loss, as a multiple of the paper's form, paired by seed.

    The median over pairs; CE is left out, for its runs include the remedies that are read from them.
    """
    rows = [
        {
            "readout": arm_of(record.run_config()),
            **{name: record.config[name] for name in ("model", "dataset", "imbalance", *PAIR)},
            "seconds": float(record.provenance["seconds"]),
        }
        for record in opened.records
    ]
    names, base = ["arm", "recorded run, × CCE (paper)", "pairs"], "CCE (paper)"
    if base not in {row["readout"] for row in rows}:
        return pd.DataFrame(columns=names)
    place = ["model", "dataset", "imbalance", *PAIR]
    times = pd.DataFrame(rows).pivot_table(index=place, columns="readout", values="seconds")
    shown = [name for name in ARMS if name in times and name != "CE"]
    ratios = times[shown].div(times[base], axis=0)
    found = pd.DataFrame({"text": ratios.median().map("{:.2f}".format), "pairs": ratios.count()})
    return found.reset_index().set_axis(names, axis=1)


def beside_published(frame: pd.DataFrame, cells: Sequence[tuple[str, int]]) -> pd.DataFrame:
    """Return the published accuracies of ResNet-32, and where ours of profile paper falls among them.

    ``cells`` are data sets with ratios of the exponential imbalance. A row per place and method with published numbers,
    for `pictures.figures.intervals`: values are the published ones, mean with low and high is our last epoch, paper the
    mean of our best test epoch; also lies, where the last epoch stands: "inside", "below", "above", "not run", or why
    there can be none.
    """
    reference, rows = reference_numbers(), []
    for dataset, ratio in cells:
        for readout, method in _PUBLISHED.items():
            if values := published_values(reference, method, dataset, ratio):
                rows.append((dataset, f"exponential {ratio}", readout, method, tuple(sorted(values))))
    on = ["dataset", "imbalance", "readout"]
    published = pd.DataFrame(rows, columns=[*on, "row", "values"])
    ours = summarise(frame[(frame["profile"] == "paper") & (frame["form"] == "ResNet-32")], [*on, "metric"])
    last = ours[ours["metric"] == "accuracy"].drop(columns="metric")
    best = ours.loc[ours["metric"] == "best_test_accuracy", [*on, "mean"]].rename(columns={"mean": "paper"})
    both = published.merge(last, how="left", on=on).merge(best, how="left", on=on)
    lies = [
        _NEVER.get(readout) or _side(mean, min(values), max(values))
        for readout, mean, values in both[["readout", "mean", "values"]].to_numpy()
    ]
    panel = both["dataset"].replace(DATA) + ", " + both["imbalance"]
    return both.assign(n=both["n"].fillna(0).astype(int), panel=panel, method="here", lies=lies)


def _side(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return "not run"
    return "below" if mean < low else "above" if mean > high else "inside"


def published_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of :func:`beside_published` as text, in percent."""
    ends = [f"{100 * min(values):.1f} to {100 * max(values):.1f}" for values in cells["values"]]
    here = pd.Series(numbers(cells), cells.index).where(cells["mean"].notna(), cells["lies"])
    best = ["" if np.isnan(value) else f"{100 * value:.1f}" for value in cells["paper"]]
    return pd.DataFrame(
        {
            "place": cells["panel"],
            "method": cells["row"],
            "published (%)": ends,
            "results": cells["values"].map(len),
            "here, last epoch (%)": here,
            "it lies": cells["lies"],
            "here, best test epoch (%)": best,
            "n": cells["n"],
        }
    )


def baseline(frame: pd.DataFrame) -> dict[str, str]:
    """Return how cross entropy at the paper's scale stands beside the published level, in words for the page.

    network, epochs, place, published and allowed (points), of the gate in ``rules.yml``; here, the mean of the last
    epoch with its interval; lies, where it stands; gate, what follows for the claims.
    """
    (gate,) = (gate for gate in load_rules().gates if gate.study == "complement_cross_entropy")
    where = {name: getattr(gate, name) for name in ("form", "dataset", "imbalance", "readout", "metric")}
    rows = frame[(frame[list(where)] == pd.Series(where)).all(axis=1) & (frame["profile"] == "paper")]
    low, high = float(gate.low), float(gate.high)
    words = {
        "network": gate.form,
        "epochs": str(LITERATURE.epochs),
        "place": f"{DATA[str(gate.dataset)]}, {gate.imbalance}",
        "published": f"{100 * low:.1f} to {100 * high:.1f} %",
        "allowed": f"{100 * gate.distance:g}",
    }
    said = ("not run", "no such run is recorded", "no claim is judged at that scale")
    if len(rows):
        found = summarise(rows, ["readout"])
        here, lies = f"{numbers(found)[0]} %, n = {found['n'][0]}", _side(found["mean"][0], low, high)
        closed = gate_reason(gate, rows, lambda dataset, imbalance: None)
        judged = (
            "every claim about that network stays undecided"
            if closed
            else "claims about that network are judged"
        )
        said = (here, f"{lies} the published span", judged)
    return words | dict(zip(("here", "lies", "gate"), said, strict=True))


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what stands beside the claims, a row for each place and difference, as text with 95 % intervals."""
    paper, released, counting = "CCE (paper)", "CCE (released)", "Balanced softmax"
    rows = [
        found[found["readout"] == a].assign(readout=f"{a} - {b}")
        for a, b in ((paper, "CE"), (released, "CE"), (paper, released), (counting, "CE"))
        for found in (minus(frame, b),)
    ]
    metrics = ["accuracy", "recall_few", "wrong_class_entropy"]
    names = [f"{_METRICS[name][0]} ({_METRICS[name][3].replace('%', 'points')})" for name in metrics]
    table = _texts(pd.concat(rows), sign=True)[metrics].set_axis(names, axis=1).fillna("not attempted")
    return table.reset_index(names=["place", "difference"])
