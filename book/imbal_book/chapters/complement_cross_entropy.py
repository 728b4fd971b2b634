"""Tables and figures of the chapter on complement cross entropy, each from the long frames of its study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from imbal_book.chapters import Chapter, Html
from imbal_book.chapters.complement_places import FIRST, METRICS, Place, at
from imbal_book.chapters.readings import contrast, interval_text, level
from imbal_book.evidence.statistics import Interval, mean_interval
from imbal_book.studies.complement_cross_entropy import ARMS, POST_HOC
from imbal_book.studies.complement_cross_entropy import arm as arm_of

__all__ = [
    "arm_table",
    "contrasts",
    "label_recalls",
    "learning_curves",
    "levels",
    "mechanism_table",
    "not_run",
    "recorded_times",
    "selection_table",
]


def not_run(profile: str) -> Html:
    """Return what stands in place of a figure or table that has no records."""
    scale = "laptop" if profile == "best" else profile
    return Html(
        "<p><i>Not attempted: there is no such record yet.</i> "
        f"<code>imbal run complement_cross_entropy --profile {scale}</code> trains the runs.</p>"
    )


def levels(
    frame: pd.DataFrame,
    where: Sequence[Place],
    readouts: Sequence[str] = FIRST,
    metrics: Sequence[str] = ("accuracy", "recall_few"),
) -> pd.DataFrame:
    """Return every readout's mean and its paired difference to CE, ready for `imbal_book.pictures.figures.intervals`.

    Returns
    -------
    DataFrame
        Columns panel, row, method, mean, low, high (in the panel's unit, 95 % intervals) and n.
    """
    rows = []
    for metric in metrics:
        name, scale, unit = METRICS[metric]
        for place in where:
            for readout in readouts:
                here = level(at(frame, place), readout, metric)
                rows.append((f"{name} ({unit})", place.title(), readout, here, scale))
        points = "points" if unit == "%" else unit
        for place in where:
            for readout in readouts:
                gain = contrast(at(frame, place), readout, "CE", metric)
                if readout != "CE":
                    rows.append((f"{name} minus CE ({points})", place.title(), readout, gain, scale))
    return _dots(rows)


def contrasts(
    frame: pd.DataFrame, place: Place, metrics: Sequence[str] = ("accuracy", "recall_few", "recall_many")
) -> pd.DataFrame:
    """Return every readout's paired difference to CE in one place, a row each, for `pictures.figures.intervals`."""
    cell = at(frame, place)
    rows = []
    for metric in metrics:
        panel = f"{METRICS[metric][0]} minus CE (points)"
        for readout in (*ARMS, *POST_HOC):
            if readout != "CE":
                rows.append((panel, readout, readout, contrast(cell, readout, "CE", metric), 100))
    return _dots(rows)


def _dots(rows: Iterable[tuple[str, str, str, Interval, float]]) -> pd.DataFrame:
    names = ["panel", "row", "method", "mean", "low", "high", "n"]
    shown = [
        (panel, row, method, scale * here.mean, scale * here.low, scale * here.high, here.n)
        for panel, row, method, here, scale in rows
        if here.n
    ]
    return pd.DataFrame(shown, columns=names)


def arm_table(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return accuracy and recall of every arm and readout in one place, with the paired difference to CE.

    Returns
    -------
    DataFrame
        A row per arm of the grid, then per readout of the CE networks: percent with 95 % intervals, differences
        in percentage points, and the number of seeds; "not attempted" where there is no record.
    """
    cell = at(frame, place)
    rows = []
    for readout in (*ARMS, *POST_HOC):
        row: dict[str, object] = {"arm": readout}
        for metric in ("accuracy", "recall_few", "recall_many"):
            row[f"{METRICS[metric][0]} (%)"] = interval_text(level(cell, readout, metric))
        for metric in ("accuracy", "recall_few"):
            gain = contrast(cell, readout, "CE", metric)
            row[f"{METRICS[metric][0]} minus CE"] = "" if readout == "CE" else interval_text(gain, sign=True)
        row["n"] = level(cell, readout, "accuracy").n
        rows.append(row)
    return pd.DataFrame(rows)


def selection_table(frame: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return what the choice of the best test epoch would have bought, for every arm and place that was run.

    Returns
    -------
    DataFrame
        Accuracy of the last and of the best test epoch in percent, and the paired gap in points.
    """
    rows = []
    for place in where:
        cell = at(frame, place)
        for arm in ARMS:
            gap = _selection(cell, arm)
            if gap.n:
                last, best = (level(cell, arm, metric).mean for metric in ("accuracy", "best_test_accuracy"))
                rows.append(
                    {
                        "place": place.title(),
                        "arm": arm,
                        "last epoch (%)": f"{100 * last:.1f}",
                        "best test epoch (%)": f"{100 * best:.1f}",
                        "gap (points)": interval_text(gap, sign=True),
                        "n": gap.n,
                    }
                )
    return pd.DataFrame(rows)


def _selection(cell: pd.DataFrame, arm: str) -> Interval:
    """Return the accuracy of the best test epoch minus that of the last, paired by seed."""
    own = cell[cell["readout"] == arm]
    # the two metrics of one arm stand beside each other as two readouts of one metric would
    return contrast(
        own.assign(readout=own["metric"], metric="value"), "best_test_accuracy", "accuracy", "value"
    )


def mechanism_table(frame: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return what each loss did to the probabilities of the test images, with the paired difference to CE.

    Returns
    -------
    DataFrame
        A row per place and arm that was run; for the mean probability of the true class (percent, all images and
        those of the minority) and the entropy of the wrong classes (nats) the mean, and the difference to CE with
        its 95 % interval.
    """
    rows = []
    for place in where:
        cell = at(frame, place)
        for arm in ARMS:
            if not level(cell, arm, "p_true").n:
                continue
            row: dict[str, object] = {"place": place.title(), "arm": arm}
            for metric in ("p_true", "p_true_few", "wrong_class_entropy"):
                name, scale, unit = METRICS[metric]
                digits = 1 if unit == "%" else 2
                row[f"{name} ({unit})"] = f"{scale * level(cell, arm, metric).mean:.{digits}f}"
                gain = contrast(cell, arm, "CE", metric)
                text = interval_text(gain, scale=scale, digits=digits, sign=True)
                row[f"{name}, minus CE"] = "" if arm == "CE" else text
            rows.append(row)
    return pd.DataFrame(rows)


def label_recalls(
    labels: pd.DataFrame, where: Sequence[Place], readouts: Sequence[str], *, tens: int = 20
) -> pd.DataFrame:
    """Return the recall of each label, ready for `imbal_book.pictures.figures.recall_by_label`.

    Parameters
    ----------
    labels : DataFrame
        Of `imbal_book.studies.complement_cross_entropy.label_frame`.
    where : sequence of Place
        Of one network and data set.
    readouts : sequence of str
    tens : int, default=20
        From how many labels on they are averaged in tens.
    """
    rows = []
    for place in where:
        cell = at(labels, place)
        width = 10 if cell["label"].max() >= tens else 1
        cell = cell.assign(group=cell["label"] // width * width)
        for readout in readouts:
            part = cell[cell["readout"] == readout]
            by_seed = part.groupby(["group", "split_seed", "train_seed"])[["recall", "train_count"]].mean()
            for group in sorted(cell["group"].unique()) if len(part) else ():
                values = by_seed.loc[group]
                here = mean_interval(values["recall"])
                label = str(group) if width == 1 else f"{group}-{group + width - 1}"
                low, high = np.clip([here.low, here.high], 0, 1)
                count = int(values["train_count"].iloc[0])
                rows.append((place.imbalance, label, count, readout, here.mean, low, high, here.n))
    names = ["imbalance", "label", "train_count", "method", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=names)


def learning_curves(
    epochs: pd.DataFrame, where: Sequence[Place], arms: Sequence[str], metric: str = "test_accuracy"
) -> pd.DataFrame:
    """Return a metric after every epoch, ready for `imbal_book.pictures.figures.curves`.

    Parameters
    ----------
    epochs : DataFrame
        Of `imbal_book.studies.complement_cross_entropy.epoch_frame`.
    where : sequence of Place
    arms : sequence of str
    metric : str, default="test_accuracy"
    """
    rows = []
    for place in where:
        cell = at(epochs, place)
        for arm in arms:
            part = cell[(cell["readout"] == arm) & (cell["metric"] == metric)]
            for epoch, values in part.groupby("epoch"):
                here = mean_interval(values["value"])
                rows.append((place.title(), arm, epoch, here.mean, here.low, here.high, here.n))
    return pd.DataFrame(rows, columns=["place", "method", "epoch", "mean", "low", "high", "n"])


def recorded_times(opened: Chapter) -> pd.DataFrame:
    """Return how long a recorded run took with each loss, as a multiple of the paper's form, paired by seed.

    The median over pairs; CE is left out, for its runs include the remedies that are read from them.

    Parameters
    ----------
    opened : Chapter
    """
    rows = [
        {
            "arm": arm_of(record.run_config()),
            "place": (record.config["model"], record.config["dataset"], record.config["imbalance"]),
            "seeds": (record.config["split_seed"], record.config["train_seed"]),
            "seconds": float(record.provenance["seconds"]),
        }
        for record in opened.records
    ]
    frame = pd.DataFrame(rows, columns=["arm", "place", "seeds", "seconds"])
    wide = frame.pivot_table(index=["place", "seeds"], columns="arm", values="seconds")
    shown = [name for name in ARMS if name in wide and name != "CE"]
    if "CCE (paper)" not in shown:
        return pd.DataFrame(columns=["arm", "recorded run, × CCE (paper)", "pairs"])
    ratios = wide[shown].div(wide["CCE (paper)"], axis=0)
    return pd.DataFrame(
        {
            "arm": shown,
            "recorded run, × CCE (paper)": [f"{ratios[name].median():.2f}" for name in shown],
            "pairs": [int(ratios[name].notna().sum()) for name in shown],
        }
    )
