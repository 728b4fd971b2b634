"""Figures of the chapter on the final batch norm: epochs, confidence and margins, from tables of records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import SMALL, Drawing, facets, finish, panels, told

#: The two classes and their colours, the large one first.
CLASSES = {"large class": "#0072B2", "rare class": "#E69F00"}


def curves(
    epochs: pd.DataFrame, *, baseline: float | None = None, title: str = "", caption: str = ""
) -> Drawing:
    """Return test F1 and validation loss by epoch, a column for each data set, a thin line for each run.

    A ring marks the epoch of a run's lowest validation loss, on both of its lines. ``epochs`` is of
    :func:`imbal_book.chapters.final_batch_norm_training.curve_cells`; ``baseline``, a dotted line, is the F1 of calling
    every image rare.
    """
    names = epochs["dataset"].unique()
    width = max(6.0, 3.5 * len(names) + 0.6)
    figure, axes = panels(len(names), rows=2, width=width, height=6.0, share_y="row")
    for name, above, below in zip(names, axes, axes[len(names) :], strict=False):
        for ax, what in ((above, "f1"), (below, "loss")):
            _curves(ax, epochs[epochs["dataset"] == name], what)
        above.set(title=name, xlabel="", ylim=(-0.03, 1.05), ylabel="test F1 of the rare class")
        below.set(xlabel="epoch", ylim=(0, 1.05 * epochs["loss"].max()), ylabel="validation loss (nats)")
        if baseline is not None:
            above.axhline(baseline, color="#808080", linestyle=":", label="every image called rare")
    finish(figure, title, 2)
    means = epochs.groupby(["dataset", "method", "epoch"], sort=False)[["f1", "loss"]].mean().reset_index()
    place = means.groupby(["dataset", "method"], sort=False)
    lowest = means.loc[place["loss"].idxmin(), "epoch"]
    last = means.loc[place["epoch"].idxmax()].assign(lowest=lowest.to_numpy())
    said = (
        "{dataset}, {method}: after epoch {epoch} F1 {f1:.2f}, loss {loss:.2f}; lowest mean loss after epoch "
    )
    alt = f"Lines by epoch, {title or 'F1 and loss'}. {told(said + '{lowest}.', last)}"
    if baseline is not None:
        alt += f" A dotted line at {baseline:.2f}: the F1 of calling every image rare."
    return Drawing(figure, alt, means, caption)


def _curves(ax: Axes, part: pd.DataFrame, what: str) -> None:
    """Draw every run thin, their mean thick, and a ring where a run's loss is lowest."""
    for method, runs in part.groupby("method", sort=False):
        _, color, marker, line = METHODS[str(method)]
        thin: dict[str, Any] = {"estimator": None, "linewidth": 0.9, "alpha": 0.4, "legend": False}
        sns.lineplot(runs, x="epoch", y=what, units="key", color=color, ax=ax, **thin)
        mean = runs.groupby("epoch")[what].mean()
        ax.plot(mean, line, color=color, marker=marker, markersize=4.5, linewidth=2.2, label=method)
        lowest = runs.loc[runs.groupby("key")["loss"].idxmin()]
        ax.plot(
            lowest["epoch"], lowest[what], "o", markersize=10, fillstyle="none", color=color,
            label=f"{method}: lowest loss of a run",
        )  # fmt: skip
    ax.set_xticks(sorted(set(part["epoch"])))


def confidence(bins: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return histograms of confidence, the share of the test images by their largest probability.

    ``bins`` is of :func:`imbal_book.chapters.final_batch_norm_training.confidence_bins`, kind "histogram".
    """
    rows = bins[bins["lower"] >= 0.5 - 1e-9].assign(percent=100 * bins["share"])
    figure, parts = facets(rows, "dataset", each=3.4, margin=0.8, least=6.0, height=3.7)
    for ax, name, here in parts:
        for method, part in here.groupby("method", sort=False):
            _, color, _, line = METHODS[str(method)]
            edges = [*part["lower"], part["upper"].iloc[-1]]
            sns.histplot(
                part, x="lower", weights="percent", bins=edges, element="step", color=color, alpha=0.25,
                linewidth=1.8, linestyle=line, label=str(method), ax=ax,
            )  # fmt: skip
        ax.set(title=name, xlabel="confidence: the largest probability", xlim=(0.5, 1))
        ax.set_ylabel("share of test images (%)")
    finish(figure, title, 4)
    place = ["dataset", "method"]
    sure = rows[rows["lower"] >= 0.9 - 1e-9].groupby(place, sort=False)["share"].sum().reset_index()
    said = told("{dataset}, {method}: {share:.0%} of the test images have a confidence above 0.9.", sure)
    alt = f"Histograms, {title or 'confidence'}. {said}"
    return Drawing(figure, alt, rows[["dataset", "method", "lower", "upper", "count", "share"]], caption)


def reliability(bins: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return reliability diagrams: how often a prediction of a given confidence is right.

    ``bins`` is of :func:`imbal_book.chapters.final_batch_norm_training.confidence_bins`, kind "reliability".
    """
    bins = bins[bins["count"] > 0]
    figure, parts = facets(bins, "dataset", each=3.4, margin=0.8, least=5.0, height=4.0)
    for ax, name, here in parts:
        ax.plot([0.5, 1], [0.5, 1], "--", color="#8c8c8c", linewidth=1.2, label="as right as confident")
        for method, part in here.groupby("method", sort=False):
            _, color, marker, line = METHODS[str(method)]
            points, size = (part["confidence"], part["accuracy"]), 12 + 260 * part["share"]
            ax.plot(*points, line, color=color, linewidth=1.6, label=method)
            ax.scatter(*points, s=size, marker=marker, color=color)
        ax.set(title=name, xlabel="mean confidence of the bin", xlim=(0.48, 1.02), ylim=(-0.03, 1.05))
        ax.text(0.98, 0.04, "below the line: too sure", ha="right", fontsize=SMALL, color="#595959")
    figure.axes[0].set_ylabel("accuracy of the bin")
    finish(figure, title, 4)
    gaps = bins.assign(gap=bins["share"] * (bins["accuracy"] - bins["confidence"]))
    gaps = gaps.groupby(["dataset", "method"], sort=False)["gap"].sum().reset_index()
    gaps = gaps.assign(gap=gaps["gap"].abs(), side=np.where(gaps["gap"] < 0, "less", "more"))
    said = told("{dataset}, {method}: on average {gap:.2f} {side} accurate than confident.", gaps)
    alt = f"Reliability diagrams, {title or 'accuracy by confidence'}. {said}"
    columns = ["dataset", "method", "lower", "upper", "count", "confidence", "accuracy"]
    return Drawing(figure, alt, bins[columns], caption)


def margins(images: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return on which side of the decision the test images lie, a row for each data set, a column for each method.

    ``images`` is of :func:`imbal_book.chapters.final_batch_norm_training.margins`.
    """
    names, methods = (list(dict.fromkeys(images[column])) for column in ("dataset", "method"))
    images = images.assign(kind=images["label"].map(dict(enumerate(CLASSES))))
    figure, axes = panels(
        len(methods), rows=len(names), width=4.7 * len(methods), height=1.1 + 2.0 * len(names), share_y=False
    )
    for ax, (name, method) in zip(axes, [(n, m) for n in names for m in methods], strict=True):
        part = images[(images["dataset"] == name) & (images["method"] == method)]
        if part.empty:
            ax.axis("off")
            continue
        for kind, color in CLASSES.items():
            sns.histplot(
                part[part["kind"] == kind], x="margin", bins=36, binrange=(part["margin"].min(), part["margin"].max()),
                element="step", color=color, alpha=0.35, label=kind, ax=ax,
            )  # fmt: skip
        ax.axvline(0, color="#1a1a1a", linewidth=1.6, label="the network's decision")
        ax.axvline(
            part["balanced"].iloc[0], color="#D55E00", linestyle="--", linewidth=1.6,
            label="threshold from validation images, for a balanced test",
        )  # fmt: skip
        ax.set(title=f"{name}: {method}", ylabel="images", xlabel="")
    for ax in axes[-len(methods) :]:
        ax.set_xlabel("logit of the rare class minus the other;\nright of the black line it is called rare")
    finish(figure, title, 2)
    above = images.assign(above=images["margin"] > 0, beyond=images["margin"] > images["balanced"])
    groups = above.rename(columns={"kind": "class"}).groupby(["dataset", "method", "class"], sort=False)
    columns = {
        "images": groups.size(),
        "median margin": groups["margin"].median(),
        "share above 0": groups["above"].mean(),
        "share above threshold": groups["beyond"].mean(),
    }
    table = pd.DataFrame(columns).reset_index()
    said = told("{dataset}, {method}: {share above 0:.0%} of the images of the {class} lie above 0.", table)
    return Drawing(figure, f"Histograms, {title or 'margins of test images'}. {said}", table, caption)
