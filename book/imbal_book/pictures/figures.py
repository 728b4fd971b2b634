"""Figures of the chapters: each is drawn from a frame and carries its alternative text and its data table."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "METHODS",
    "Drawing",
    "gains",
    "imbalance_name",
    "legend_below",
    "panels",
    "paper_and_here",
    "recall_by_label",
]

#: Method letter to (what it is, colour, marker, line style): the same everywhere in the book. Colours: Okabe and Ito.
METHODS: dict[str, tuple[str, str, str, str]] = {
    "D": ("softmax layer", "#4d4d4d", "o", "-"),
    "C": ("centers, last convolution", "#0072B2", "s", "-"),
    "F": ("centers, fully connected", "#009E73", "^", "-"),
    "OD": ("over-sampling, softmax layer", "#4d4d4d", "o", ":"),
    "OC": ("over-sampling, centers, last convolution", "#0072B2", "s", ":"),
    "OF": ("over-sampling, centers, fully connected", "#009E73", "^", ":"),
    "LA": ("softmax layer, logits adjusted", "#D55E00", "D", "--"),
    "CE": ("cross entropy", "#4d4d4d", "o", "-"),
    "CCE (paper)": ("levels the wrong classes", "#AA4499", "s", "-"),
    "CCE (released)": ("sharpens the wrong classes", "#E69F00", "^", "-"),
    "COT": ("two updates per batch", "#56B4E9", "v", "-"),
    "Focal": ("hard images count more", "#7A5C1E", "P", ":"),
    "Class-balanced": ("rare classes count more", "#7A5C1E", "X", "-."),
    "LDAM-DRW": ("margins, late weights", "#7A5C1E", "p", "-"),
    "Balanced softmax": ("class counts in the loss", "#D55E00", "h", "-"),
    "Logit adjustment": ("class shares in the loss", "#D55E00", "d", "-."),
    "CE, logit adjusted": ("after training", "#D55E00", "D", "--"),
    "CE, tau-normalised": ("after training", "#332288", "<", ":"),
    "CE, classifier re-trained": ("after training", "#332288", ">", "--"),
    "CE, category centers": ("after training", "#009E73", "^", "-"),
    "plain": ("cross entropy", "#4d4d4d", "o", "-"),
    "final BN": ("batch norm on the logits", "#882255", "s", "-"),
    "weighted loss": ("rare class counts more", "#7A5C1E", "^", "--"),
    "final BN + weighted loss": ("both", "#882255", "P", "--"),
    "final BN, removed at inference": ("trained with the layer", "#882255", "v", ":"),
    "final BN, no affine": ("without scale and shift", "#882255", "<", "-."),
    "final BN, momentum 0.1": ("faster running statistics", "#882255", ">", "-."),
    "plain, logit adjusted": ("after training", "#D55E00", "D", "--"),
    "plain, threshold moved": ("after training", "#D55E00", "X", ":"),
    "plain, balanced threshold": ("after training", "#D55E00", "*", "-."),
    "logit adjustment": ("class shares in the loss", "#D55E00", "d", "-."),
    "plain, temperature": ("after training", "#999933", "p", "--"),
    "label smoothing": ("soft targets", "#999933", "h", "-"),
}

_THEME: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titleweight": "semibold",
    "figure.facecolor": "white",
    "grid.alpha": 0.35,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "imbal",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with the words and the numbers that say the same.

    Shown by a notebook as the picture, its caption, and the data table folded below it.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What a reader who does not see the picture needs, made from the data.
    table : DataFrame
        The numbers that are drawn.
    caption : str
        What the picture shows, and where its records come from.
    """

    figure: Figure
    alt: str
    table: pd.DataFrame
    caption: str = ""

    def svg(self) -> bytes:
        """Return the picture as SVG, the same bytes for the same data."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(_THEME):
            self.figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        source = base64.b64encode(self.svg()).decode()
        # an interval of one run has no bounds, a method without a printed number no paper's
        finite = self.table.replace([math.inf, -math.inf], math.nan)
        table = finite.to_html(index=False, border=0, na_rep="", float_format=lambda value: f"{value:.3f}")
        return (
            '<figure class="drawing">'
            f'<img alt="{html.escape(self.alt)}" src="data:image/svg+xml;base64,{source}">'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
            f'<details class="drawing-data"><summary>Data of this figure</summary>{table}</details>'
        )


def panels(
    columns: int,
    *,
    width: float,
    height: float,
    share_y: bool | Literal["row"] = True,
    rows: int = 1,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (not known to pyplot, so nothing keeps it alive) and its panels, row by row."""
    with sns.axes_style("ticks"), sns.plotting_context("notebook"), matplotlib.rc_context(_THEME):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False, height_ratios=height_ratios)
    return figure, list(axes.flat)


def imbalance_name(imbalance: str) -> str:
    """Return how an imbalance is called above a panel: Zhang's letters are types."""
    return f"type {imbalance}" if len(imbalance) == 1 else imbalance


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """Draw one legend for all panels below them, each entry once."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False
    )


def gains(
    contrasts: pd.DataFrame,
    *,
    reference: Mapping[str, float] | None = None,
    title: str = "",
    caption: str = "",
) -> Drawing:
    """Return a forest plot of paired differences, the paper's own beside ours.

    Parameters
    ----------
    contrasts : DataFrame
        Columns panel (one panel each, in order of appearance), row (such as "type A"; sorted), contrast (such as
        "F - D"), method (a key of :data:`METHODS` that gives the colour), mean, low, high (fractions), n (pairs)
        and paper (the paper's difference, NaN where it has none).
    reference : mapping of row to float, optional
        A difference to draw as a dashed line in the row of every panel, such as a remedy nobody compared with;
        keys are ``"panel|row"``.
    title, caption : str
    """
    names = list(dict.fromkeys(contrasts["panel"]))
    rows = sorted(set(contrasts["row"]))
    kinds = list(dict.fromkeys(zip(contrasts["contrast"], contrasts["method"], strict=True)))
    figure, axes = panels(
        len(names), width=max(7.5, 3.0 * len(names) + 1.2), height=1.9 + 0.3 * len(rows) * max(2, len(kinds))
    )
    for ax, name in zip(axes, names, strict=True):
        ax.axvline(0, color="#4d4d4d", linewidth=1)
        part = contrasts[contrasts["panel"] == name]
        for position, (kind, method) in enumerate(kinds):
            mine = part[part["contrast"] == kind]
            heights = np.array([rows.index(row) for row in mine["row"]]) + _offset(position, len(kinds))
            color, marker = METHODS[method][1], METHODS[method][2]
            errors = [mine["mean"] - mine["low"], mine["high"] - mine["mean"]]
            ax.errorbar(
                100 * mine["mean"],
                heights,
                xerr=100 * np.array(errors),
                fmt=marker,
                color=color,
                capsize=3,
                markersize=6,
                label=f"{kind}, here with 95 % interval",
            )
            if mine["paper"].notna().any():
                _as_printed(ax, mine["paper"], heights, color, marker, size=52, label=f"{kind}, paper")
        for index, row in enumerate(rows):
            if reference and f"{name}|{row}" in reference:
                ax.plot(
                    [100 * reference[f"{name}|{row}"]] * 2,
                    [index - 0.42, index + 0.42],
                    linestyle="--",
                    color=METHODS["LA"][1],
                    linewidth=2,
                    label="LA - D: softmax, logits adjusted",
                )
        ax.set_title(name)
        ax.set_xlabel("gain in accuracy (percentage points)")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
    figure.suptitle(title)
    legend_below(figure, axes, columns=3 if len(names) > 1 else 2)
    alt = f"Forest plot, {title or 'gain in accuracy'}. " + " ".join(
        f"{r['panel']}, {r['row']}, {r['contrast']}: {100 * r['mean']:+.1f} points here "
        f"({100 * r['low']:+.1f} to {100 * r['high']:+.1f})"
        + (f", {100 * r['paper']:+.1f} in the paper." if np.isfinite(r["paper"]) else ".")
        for r in contrasts.to_dict("records")
    )
    return Drawing(figure, alt, contrasts, caption)


def _as_printed(
    ax: Axes,
    fractions: pd.Series | float,
    heights: np.ndarray | int,
    color: str,
    marker: str,
    *,
    size: float,
    label: str | None,
) -> None:
    """Draw what a paper prints: hollow marks, at percent."""
    ax.scatter(
        100 * fractions,
        heights,
        marker=marker,
        facecolors="white",
        edgecolors=color,
        s=size,
        zorder=3,
        label=label,
    )


def _offset(position: int, count: int, spread: float = 0.56) -> float:
    return 0.0 if count == 1 else spread * (position / (count - 1) - 0.5)


def paper_and_here(cells: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the mean accuracy of every method, the paper's table beside ours.

    Parameters
    ----------
    cells : DataFrame
        Columns imbalance ("A", "B", "C"), method (a key of :data:`METHODS`), mean, low, high (fractions; NaN
        where not run), n and paper (NaN where the paper has none).
    title, caption : str
    """
    kinds = list(dict.fromkeys(cells["imbalance"]))
    methods = list(dict.fromkeys(cells["method"]))
    figure, axes = panels(len(kinds), width=3.1 * len(kinds) + 1, height=1.6 + 0.36 * len(methods))
    for ax, kind in zip(axes, kinds, strict=True):
        part = cells[cells["imbalance"] == kind].set_index("method")
        for index, method in enumerate(methods):
            _, color, marker, _ = METHODS[method]
            row = part.loc[method]
            if np.isfinite(row["mean"]):
                error = 100 * np.array([[row["mean"] - row["low"]], [row["high"] - row["mean"]]])
                ax.errorbar(
                    100 * row["mean"],
                    index,
                    xerr=error,
                    fmt=marker,
                    color=color,
                    capsize=3,
                    markersize=7,
                    label="here, mean and 95 % interval" if method == methods[0] else None,
                )
            if np.isfinite(row["paper"]):
                label = "paper, one number" if method == methods[0] else None
                _as_printed(ax, row["paper"], index, color, marker, size=60, label=label)
        ax.set_title(f"type {kind}")
        ax.set_xlabel("accuracy (%)")
        ax.set_yticks(range(len(methods)), methods)
        ax.set_ylim(len(methods) - 0.5, -0.5)
    figure.suptitle(title)
    legend_below(figure, axes, columns=2)
    alt = f"Dot plot, {title or 'accuracy of every method'}. " + " ".join(
        f"Type {r['imbalance']}, {r['method']}: "
        + (f"{100 * r['mean']:.1f} % here" if np.isfinite(r["mean"]) else "not attempted here")
        + (f", {100 * r['paper']:.1f} % in the paper." if np.isfinite(r["paper"]) else ".")
        for r in cells.to_dict("records")
    )
    return Drawing(figure, alt, cells, caption)


def recall_by_label(recalls: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the recall of every label for every method, one panel for each imbalance type.

    Parameters
    ----------
    recalls : DataFrame
        Columns imbalance ("A" is called type A), label (as printed on the axis), train_count, method (a key of
        :data:`METHODS`), mean, low and high (fractions), in the order in which labels are drawn.
    title, caption : str
    """
    kinds = list(dict.fromkeys(recalls["imbalance"]))
    figure, axes = panels(
        len(kinds), width=4.4 * len(kinds), height=4.9, rows=2, share_y="row", height_ratios=(3, 1)
    )
    above, below = axes[: len(kinds)], axes[len(kinds) :]
    for ax, bars, kind in zip(above, below, kinds, strict=True):
        part = recalls[recalls["imbalance"] == kind]
        labels = list(dict.fromkeys(part["label"]))
        counts = part.drop_duplicates("label")["train_count"].to_numpy()
        drawn = bars.bar(range(len(labels)), counts, color="#d9d9d9", width=0.8)
        bars.bar_label(drawn, [f"{count:,}" for count in counts], fontsize=7, color="#595959", padding=1)
        for method, rows in part.groupby("method", sort=False):
            name, color, marker, line = METHODS[str(method)]
            xs = [labels.index(label) for label in rows["label"]]
            ax.plot(
                xs,
                100 * rows["mean"],
                linestyle=line,
                marker=marker,
                markersize=4.5,
                color=color,
                label=f"{method}: {name}",
            )
            if rows["n"].min() >= 3:  # of two runs an interval says nothing and hides everything
                ax.fill_between(
                    xs, 100 * rows["low"], 100 * rows["high"], color=color, alpha=0.12, linewidth=0
                )
        ax.set_title(imbalance_name(kind))
        ax.set_xticks(range(len(labels)), [])
        ax.set_xlim(-0.6, len(labels) - 0.4)
        ax.set_ylim(0, 100)
        bars.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, map(str, labels))) > 2 else 0)
        bars.set_xlim(ax.get_xlim())
        bars.set_yticks([])
        bars.spines["left"].set_visible(False)
        bars.set_xlabel("label")
    for bars in below:
        bars.margins(y=0.25)
        bars.grid(visible=False)
    above[0].set_ylabel("recall (%)")
    below[0].set_ylabel("training\nimages")
    figure.suptitle(title)
    legend_below(figure, above, columns=2)
    extremes = []
    for (kind, method), rows in recalls.groupby(["imbalance", "method"], sort=False):
        low, high = rows.iloc[rows["mean"].argmin()], rows.iloc[rows["mean"].argmax()]
        name = imbalance_name(str(kind))
        extremes.append(
            f"{name[0].upper()}{name[1:]}, {method}: from {100 * low['mean']:.0f} % ({low['label']}) to "
            f"{100 * high['mean']:.0f} % ({high['label']})."
        )
    return Drawing(figure, f"Recall of each label, {title}. " + " ".join(extremes), recalls, caption)
