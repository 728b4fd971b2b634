"""Figures of the chapter on the final batch norm: levels, epochs, confidence and sweeps, from tables of records."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from imbal_book.pictures.figures import METHODS, Drawing, legend_below, panels

__all__ = ["CLASSES", "confidence", "curves", "dots", "margins", "reliability", "sweep"]

#: The two classes and their colours, the large one first.
CLASSES = {"large class": "#0072B2", "rare class": "#E69F00"}
_AXES = {
    "f1_minority": "F1 of the rare class",
    "auroc": "area under the ROC curve",
    "auprc": "area under precision-recall",
}


def dots(
    cells: pd.DataFrame,
    *,
    references: Mapping[str, tuple[str, float]] | None = None,
    title: str = "",
    caption: str = "",
) -> Drawing:
    """Return levels as dots with intervals, every run as a small tick, a panel for each value of ``panel``.

    Parameters
    ----------
    cells : DataFrame
        Columns panel, row (both drawn in order of appearance), metric, method (a key of
        :data:`imbal_book.pictures.figures.METHODS`), mean, low, high (fractions), n and values (one for each run).
    references : mapping of str to (method, value), optional
        What stands beside a dashed line in every panel -> whose colour it has, and where it stands.
    title, caption : str
    """
    names, rows = (list(dict.fromkeys(cells[column])) for column in ("panel", "row"))
    methods = list(dict.fromkeys(cells["method"]))
    one_each = (cells.groupby("row")["method"].nunique() == 1).all()
    figure, axes = panels(
        len(names),
        width=max(7.0, 3.5 * len(names) + 1.4),
        height=1.7 + len(rows) * (0.34 if one_each else 0.32 * max(2, len(methods))),
    )
    for ax, name in zip(axes, names, strict=True):
        part = cells[cells["panel"] == name]
        for cell in part.to_dict("records"):
            color, marker = METHODS[cell["method"]][1:3]
            place = (
                0.0 if one_each else 0.5 * (methods.index(cell["method"]) / max(1, len(methods) - 1) - 0.5)
            )
            height = rows.index(cell["row"]) + place
            ax.plot(cell["values"], [height] * cell["n"], "|", color=color, markersize=9, alpha=0.5)
            ends = [[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]] if cell["n"] > 1 else None
            ax.errorbar(
                cell["mean"],
                height,
                xerr=ends,
                fmt=marker,
                color=color,
                capsize=3,
                markersize=7,
                label=None if one_each else cell["method"],
            )
        for text, (method, value) in (references or {}).items():
            ax.axvline(value, color=METHODS[method][1], linestyle=(0, (4, 3)), linewidth=1.6, label=text)
        drawn = [*part["low"], *(v for _, v in (references or {}).values())]
        ax.set_xlim(0.44 if min(drawn) >= 0.5 else -0.03, 1.03)
        ax.set_xlabel(_AXES.get(part["metric"].iloc[0], part["metric"].iloc[0]))
        ax.set_title(name)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.45, -0.55)
        ax.grid(axis="y", visible=False)
    figure.suptitle(title)
    if references or not one_each:
        legend_below(figure, axes, columns=4)
    alt = f"Dot plot, {title or 'levels'}. " + " ".join(
        f"{c['panel']}, {c['row']}{'' if c['row'] == c['method'] else ', ' + c['method']}: {_level(c)}."
        for c in cells.to_dict("records")
    )
    if references:
        alt += f" Dashed: {', '.join(references)}."
    table = cells.drop(columns="values").assign(runs=[_runs(values) for values in cells["values"]])
    return Drawing(figure, alt, table, caption)


def _level(cell: Mapping[Hashable, Any]) -> str:
    text = f"{cell['mean']:.2f}"
    return f"{text} ({cell['low']:.2f} to {cell['high']:.2f})" if cell["n"] > 1 else f"{text} (one run)"


def _runs(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def curves(
    epochs: pd.DataFrame, *, baseline: float | None = None, title: str = "", caption: str = ""
) -> Drawing:
    """Return test F1 and validation loss by epoch, a column for each data set, a thin line for each run.

    A ring marks the epoch of a run's lowest validation loss, on both of its lines.

    Parameters
    ----------
    epochs : DataFrame
        Columns dataset, method, key (of the run), epoch (from 1), f1 and loss.
    baseline : float, optional
        The F1 of calling every image rare, drawn as a dotted line.
    title, caption : str
    """
    names = list(dict.fromkeys(epochs["dataset"]))
    figure, axes = panels(
        len(names), rows=2, width=max(6.0, 3.5 * len(names) + 0.6), height=6.0, share_y=False
    )
    ceiling = {"f1": 1.0, "loss": float(epochs["loss"].max())}
    for column, name in enumerate(names):
        part = epochs[epochs["dataset"] == name]
        for row, (what, label) in enumerate(
            (("f1", "test F1 of the rare class"), ("loss", "validation loss (nats)"))
        ):
            ax = axes[row * len(names) + column]
            for method, runs in part.groupby("method", sort=False):
                _curve(ax, runs, what, str(method))
            ax.set_ylim(-0.03 * ceiling[what], 1.05 * ceiling[what])
            ax.set_xticks(sorted(set(part["epoch"])))
            if row == 0:
                ax.set_title(name)
                if baseline is not None:
                    ax.axhline(baseline, color="#808080", linestyle=":", label="every image called rare")
            else:
                ax.set_xlabel("epoch")
            if column == 0:
                ax.set_ylabel(label)
    figure.suptitle(title)
    legend_below(figure, axes, columns=2)
    means = epochs.groupby(["dataset", "method", "epoch"], sort=False)[["f1", "loss"]].mean().reset_index()
    last = means[means["epoch"] == means["epoch"].max()]
    alt = f"Lines by epoch, {title or 'F1 and loss'}. " + " ".join(
        f"{r['dataset']}, {r['method']}: after epoch {r['epoch']} F1 {r['f1']:.2f}, loss {r['loss']:.2f}; lowest mean "
        f"loss after epoch {_lowest(means, r['dataset'], r['method'])}."
        for r in last.to_dict("records")
    )
    if baseline is not None:
        alt += f" A dotted line at {baseline:.2f}: the F1 of calling every image rare."
    return Drawing(figure, alt, means, caption)


def _curve(ax: Axes, runs: pd.DataFrame, what: str, method: str) -> None:
    _, color, marker, line = METHODS[method]
    mean = runs.groupby("epoch")[what].mean()
    ax.plot(mean.index, mean, line, color=color, marker=marker, markersize=4.5, linewidth=2.2, label=method)
    for _, run in runs.groupby("key"):
        ax.plot(run["epoch"], run[what], color=color, linewidth=0.9, alpha=0.4)
        lowest = int(run["loss"].argmin())
        ax.plot(
            run["epoch"].iloc[lowest], run[what].iloc[lowest], "o", markersize=10, fillstyle="none", color=color,
            label=f"{method}: lowest loss of a run",
        )  # fmt: skip


def _lowest(means: pd.DataFrame, dataset: str, method: str) -> int:
    own = means[(means["dataset"] == dataset) & (means["method"] == method)]
    return int(own["epoch"].iloc[int(own["loss"].argmin())])


def confidence(bins: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return histograms of confidence, the share of the test images by their largest probability.

    Parameters
    ----------
    bins : DataFrame
        Of :func:`imbal_book.chapters.final_batch_norm_training.confidence_bins`; the rows of kind "histogram".
    title, caption : str
    """
    rows = bins[(bins["kind"] == "histogram") & (bins["lower"] >= 0.5 - 1e-9)]
    names = list(dict.fromkeys(rows["dataset"]))
    figure, axes = panels(len(names), width=max(6.0, 3.4 * len(names) + 0.8), height=3.7)
    sure = []
    for ax, name in zip(axes, names, strict=True):
        for method, part in rows[rows["dataset"] == name].groupby("method", sort=False):
            color, line = METHODS[str(method)][1], METHODS[str(method)][3]
            edges = [*part["lower"], part["upper"].iloc[-1]]
            ax.stairs(100 * part["share"], edges, color=color, alpha=0.25, fill=True)
            ax.stairs(
                100 * part["share"], edges, color=color, linewidth=1.8, linestyle=line, label=str(method)
            )
            sure.append((name, str(method), float(part.loc[part["lower"] >= 0.9 - 1e-9, "share"].sum())))
        ax.set_title(name)
        ax.set_xlabel("confidence: the largest probability")
        ax.set_xlim(0.5, 1)
    axes[0].set_ylabel("share of test images (%)")
    figure.suptitle(title)
    legend_below(figure, axes, columns=4)
    alt = f"Histograms, {title or 'confidence'}. " + " ".join(
        f"{name}, {method}: {share:.0%} of the test images have a confidence above 0.9."
        for name, method, share in sure
    )
    return Drawing(figure, alt, rows[["dataset", "method", "lower", "upper", "count", "share"]], caption)


def reliability(bins: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return reliability diagrams: how often a prediction of a given confidence is right.

    Parameters
    ----------
    bins : DataFrame
        Of :func:`imbal_book.chapters.final_batch_norm_training.confidence_bins`; the rows of kind "reliability".
    title, caption : str
    """
    rows = bins[(bins["kind"] == "reliability") & (bins["count"] > 0)]
    names = list(dict.fromkeys(rows["dataset"]))
    figure, axes = panels(len(names), width=max(5.0, 3.4 * len(names) + 0.8), height=4.0)
    for ax, name in zip(axes, names, strict=True):
        ax.plot(
            [0.5, 1], [0.5, 1], color="#8c8c8c", linewidth=1.2, linestyle="--", label="as right as confident"
        )
        for method, part in rows[rows["dataset"] == name].groupby("method", sort=False):
            _, color, marker, line = METHODS[str(method)]
            ax.plot(part["confidence"], part["accuracy"], line, color=color, linewidth=1.6, label=str(method))
            ax.scatter(
                part["confidence"], part["accuracy"], s=12 + 260 * part["share"], marker=marker, color=color
            )
        ax.set_title(name)
        ax.set_xlabel("mean confidence of the bin")
        ax.set_xlim(0.48, 1.02)
        ax.set_ylim(-0.03, 1.05)
    axes[0].set_ylabel("accuracy of the bin")
    figure.suptitle(title)
    legend_below(figure, axes, columns=4)
    rows = rows.assign(gap=rows["share"] * (rows["accuracy"] - rows["confidence"]))
    gaps = rows.groupby(["dataset", "method"], sort=False)["gap"].sum().reset_index().to_dict("records")
    alt = f"Reliability diagrams, {title or 'accuracy by confidence'}. " + " ".join(
        f"{r['dataset']}, {r['method']}: on average {abs(r['gap']):.2f} {'less' if r['gap'] < 0 else 'more'} accurate "
        "than confident."
        for r in gaps
    )
    columns = ["dataset", "method", "lower", "upper", "count", "confidence", "accuracy"]
    return Drawing(figure, alt, rows[columns], caption)


def margins(images: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return on which side of the decision the test images lie, a row for each data set, a column for each method.

    Parameters
    ----------
    images : DataFrame
        Of :func:`imbal_book.chapters.final_batch_norm_training.margins`.
    title, caption : str
    """
    names, methods = (list(dict.fromkeys(images[column])) for column in ("dataset", "method"))
    figure, axes = panels(
        len(methods), rows=len(names), width=4.7 * len(methods), height=1.1 + 2.0 * len(names), share_y=False
    )
    rows = []
    for ax, (name, method) in zip(axes, [(n, m) for n in names for m in methods], strict=True):
        part = images[(images["dataset"] == name) & (images["method"] == method)]
        if part.empty:
            ax.axis("off")
            continue
        edges = np.histogram_bin_edges(part["margin"], 36)
        for label, (kind, color) in enumerate(CLASSES.items()):
            values = part.loc[part["label"] == label, "margin"]
            counts = np.histogram(values, edges)[0]
            ax.stairs(counts, edges, fill=True, color=color, alpha=0.35)
            ax.stairs(counts, edges, color=color, linewidth=1.5, label=kind)
            above = (values > 0).mean(), (values > part["balanced"].iloc[0]).mean()
            rows.append((name, method, kind, len(values), values.median(), *above))
        ax.axvline(0, color="#1a1a1a", linewidth=1.6, label="the network's decision")
        ax.axvline(
            part["balanced"].iloc[0], color="#D55E00", linestyle="--", linewidth=1.6,
            label="threshold from validation images, for a balanced test",
        )  # fmt: skip
        ax.set_title(f"{name}: {method}")
        ax.set_ylabel("images")
    for ax in axes[-len(methods) :]:
        ax.set_xlabel("logit of the rare class minus the other")
    figure.suptitle(title)
    legend_below(figure, axes, columns=2)
    names = [
        "dataset",
        "method",
        "class",
        "images",
        "median margin",
        "share above 0",
        "share above threshold",
    ]
    table = pd.DataFrame(rows, columns=names)
    alt = f"Histograms, {title or 'margins of test images'}. " + " ".join(
        f"{r['dataset']}, {r['method']}: {r['share above 0']:.0%} of the images of the {r['class']} lie above 0."
        for r in table.to_dict("records")
    )
    return Drawing(figure, alt, table, caption)


def sweep(cells: pd.DataFrame, *, axis: str, title: str = "", caption: str = "") -> Drawing:
    """Return F1 without and with the layer along one axis, and beside it what the layer gains.

    Parameters
    ----------
    cells : DataFrame
        Of :func:`imbal_book.chapters.final_batch_norm_mechanism.sweep`, of one data set.
    axis : str
        What the axis says.
    title, caption : str
    """
    figure, axes = panels(2, width=9.2, height=3.9, share_y=False)
    positions = sorted(set(cells["position"]))
    names = cells.drop_duplicates("position").set_index("position")["label"]
    methods = [method for method in dict.fromkeys(cells["method"]) if method != "gain"]
    for method in [*methods, "gain"]:
        part = cells[cells["method"] == method].sort_values("position")
        ax = axes[method == "gain"]
        _, color, marker, line = METHODS["final BN" if method == "gain" else method]
        scale = 100 if method == "gain" else 1
        shift = 0.03 * (methods.index(method) - 0.5) if method in methods else 0.0
        ends = np.array([part["mean"] - part["low"], part["high"] - part["mean"]])
        ax.errorbar(
            [positions.index(p) + shift for p in part["position"]],
            scale * part["mean"],
            yerr=scale * np.where(np.isfinite(ends), ends, 0),
            fmt=marker,
            linestyle=line,
            color=color,
            capsize=3,
            label=None if method == "gain" else method,
        )
    axes[1].axhline(0, color="#4d4d4d", linewidth=1)
    axes[0].set_ylim(-0.03, 1.05)
    axes[0].set_ylabel("F1 of the rare class")
    axes[1].set_ylabel("gain in F1 (percentage points)")
    for ax, name in zip(axes, ("without and with the layer", "what the layer gains, paired"), strict=True):
        ax.set_title(name)
        ax.set_xlabel(axis)
        ax.set_xticks(range(len(positions)), [names[p] for p in positions])
    figure.suptitle(title)
    legend_below(figure, axes, columns=2)
    alt = f"Lines along the {axis}, {title or 'gain of the layer'}. " + " ".join(
        f"{r['label']}: gain {100 * r['mean']:+.1f} points"
        + (f" ({100 * r['low']:+.1f} to {100 * r['high']:+.1f})." if r["n"] > 1 else " (one seed).")
        for r in cells[cells["method"] == "gain"].to_dict("records")
    )
    return Drawing(figure, alt, cells.drop(columns="position"), caption)
