"""Figures of the chapters: each is drawn from a frame and carries its alternative text and its data table."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

__all__ = [
    "METHODS",
    "Drawing",
    "boundary_and_centers",
    "center_geometry",
    "gains",
    "paper_and_here",
    "recall_by_label",
    "redraws",
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
}

_THEME = {
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
        table = self.table.to_html(index=False, border=0, float_format=lambda value: f"{value:.3f}")
        return (
            '<figure class="drawing">'
            f'<img alt="{html.escape(self.alt)}" src="data:image/svg+xml;base64,{source}">'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
            f'<details class="drawing-data"><summary>Data of this figure</summary>{table}</details>'
        )


def _panels(columns: int, *, width: float, height: float, share_y: bool = True) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (not known to pyplot, so nothing keeps it alive) and its panels in one row."""
    with sns.axes_style("ticks"), sns.plotting_context("notebook"), matplotlib.rc_context(_THEME):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, sharey=share_y, squeeze=False)[0]
    return figure, list(axes)


def _legend(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    handles: dict[str, object] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False
    )


def gains(
    contrasts: pd.DataFrame, *, reference: Mapping[str, float] | None = None, title: str = "", caption: str = ""
) -> Drawing:
    """Return a forest plot of paired differences, the paper's own beside ours.

    Parameters
    ----------
    contrasts : DataFrame
        Columns panel (one panel each, in order of appearance), row (such as "type A"), contrast (such as
        "F - D"), method (a key of :data:`METHODS` that gives the colour), mean, low, high (fractions), n (pairs)
        and paper (the paper's difference, NaN where it has none).
    reference : mapping of row to float, optional
        A difference to draw as a dashed line in the row of every panel, such as a remedy nobody compared with;
        keys are ``"panel|row"``.
    title, caption : str
    """
    names = list(dict.fromkeys(contrasts["panel"]))
    rows = list(dict.fromkeys(contrasts["row"]))
    kinds = list(dict.fromkeys(zip(contrasts["contrast"], contrasts["method"], strict=True)))
    figure, axes = _panels(len(names), width=3.6 * len(names) + 1.2, height=1.1 + 0.32 * len(rows) * len(kinds))
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
            ax.scatter(
                100 * mine["paper"], heights, marker=marker, facecolors="white", edgecolors=color, s=52, zorder=3,
                label=f"{kind}, paper",
            )
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
    _legend(figure, axes, columns=3)
    alt = f"Forest plot, {title or 'gain in accuracy'}. " + " ".join(
        f"{r.panel}, {r.row}, {r.contrast}: {100 * r.mean:+.1f} points here ({100 * r.low:+.1f} to {100 * r.high:+.1f})"
        + (f", {100 * r.paper:+.1f} in the paper." if np.isfinite(r.paper) else ".")
        for r in contrasts.itertuples()
    )
    return Drawing(figure, alt, contrasts, caption)


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
    figure, axes = _panels(len(kinds), width=3.1 * len(kinds) + 1, height=1.6 + 0.36 * len(methods))
    for ax, kind in zip(axes, kinds, strict=True):
        part = cells[cells["imbalance"] == kind].set_index("method")
        for index, method in enumerate(methods):
            _, color, marker, _ = METHODS[method]
            row = part.loc[method]
            if np.isfinite(row["mean"]):
                error = 100 * np.array([[row["mean"] - row["low"]], [row["high"] - row["mean"]]])
                ax.errorbar(
                    100 * row["mean"], index, xerr=error, fmt=marker, color=color, capsize=3, markersize=7,
                    label="here, mean and 95 % interval" if method == methods[0] else None,
                )
            ax.scatter(
                100 * row["paper"], index, marker=marker, facecolors="white", edgecolors=color, s=60, zorder=3,
                label="paper, one number" if method == methods[0] else None,
            )
        ax.set_title(f"type {kind}")
        ax.set_xlabel("accuracy (%)")
        ax.set_yticks(range(len(methods)), methods)
        ax.set_ylim(len(methods) - 0.5, -0.5)
    figure.suptitle(title)
    _legend(figure, axes, columns=2)
    alt = f"Dot plot, {title or 'accuracy of every method'}. " + " ".join(
        f"Type {r.imbalance}, {r.method}: "
        + (f"{100 * r.mean:.1f} % here" if np.isfinite(r.mean) else "not run here")
        + (f", {100 * r.paper:.1f} % in the paper." if np.isfinite(r.paper) else ".")
        for r in cells.itertuples()
    )
    return Drawing(figure, alt, cells, caption)


def recall_by_label(recalls: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the recall of every label for every method, one panel for each imbalance type.

    Parameters
    ----------
    recalls : DataFrame
        Columns imbalance, label (as printed on the axis), train_count, method (a key of :data:`METHODS`), mean,
        low and high (fractions), in the order in which labels are drawn.
    title, caption : str
    """
    kinds = list(dict.fromkeys(recalls["imbalance"]))
    figure, axes = _panels(len(kinds), width=4.4 * len(kinds), height=4.3)
    for ax, kind in zip(axes, kinds, strict=True):
        part = recalls[recalls["imbalance"] == kind]
        labels = list(dict.fromkeys(part["label"]))
        counts = part.drop_duplicates("label")["train_count"].to_numpy()
        bars = ax.twinx()
        bars.bar(range(len(labels)), counts, color="#d9d9d9", width=0.8, zorder=0)
        bars.set_ylim(0, 4 * counts.max())
        bars.set_yticks([])
        bars.spines[:].set_visible(False)
        for index, count in enumerate(counts):
            bars.annotate(
                f"{count:,}", (index, count), ha="center", va="bottom", fontsize=7, color="#595959", rotation=90,
                xytext=(0, 2), textcoords="offset points",
            )
        ax.set_zorder(bars.get_zorder() + 1)
        ax.patch.set_visible(False)
        for method, rows in part.groupby("method", sort=False):
            name, color, marker, line = METHODS[str(method)]
            xs = [labels.index(label) for label in rows["label"]]
            ax.plot(
                xs, 100 * rows["mean"], linestyle=line, marker=marker, markersize=4.5, color=color,
                label=f"{method}: {name}",
            )
            ax.fill_between(xs, 100 * rows["low"], 100 * rows["high"], color=color, alpha=0.12, linewidth=0)
        ax.set_title(f"type {kind}")
        ax.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, map(str, labels))) > 2 else 0)
        ax.set_xlabel("label (grey bars: training images)")
        ax.set_ylim(0, 100)
    axes[0].set_ylabel("recall (%)")
    figure.suptitle(title)
    _legend(figure, axes, columns=2)
    extremes = []
    for (kind, method), rows in recalls.groupby(["imbalance", "method"], sort=False):
        low, high = rows.loc[rows["mean"].idxmin()], rows.loc[rows["mean"].idxmax()]
        extremes.append(
            f"Type {kind}, {method}: from {100 * low['mean']:.0f} % ({low['label']}) to "
            f"{100 * high['mean']:.0f} % ({high['label']})."
        )
    return Drawing(figure, f"Recall of each label, {title}. " + " ".join(extremes), recalls, caption)


def _boundary(points: np.ndarray, labels: np.ndarray, horizontal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a softmax layer (logistic regression) on points in a plane puts its boundary: (x, y) of a line."""
    scale = points.std()
    model = LogisticRegression(C=100.0).fit(points / scale, labels)
    (a, b), c = model.coef_[0], model.intercept_[0]
    return -(c * scale + b * horizontal) / a, horizontal


def _bisector(
    first: np.ndarray, second: np.ndarray, horizontal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the line of equal distance to two centers: (x, y)."""
    a, b = second - first
    middle = (first + second) / 2
    return middle[0] - (b / a) * (horizontal - middle[1]), horizontal


_PAIR = ("#E69F00", "#56B4E9")


def _scatter(ax: Axes, groups: Sequence[np.ndarray], names: Sequence[str]) -> None:
    for points, name, color in zip(groups, names, _PAIR, strict=True):
        ax.scatter(*points.T, s=9, color=color, alpha=0.55, linewidths=0, label=f"{name}: features", rasterized=True)


def _plain_axes(axes: Sequence[Axes], groups: Sequence[np.ndarray]) -> None:
    both = np.concatenate(groups)
    low, high = np.quantile(both, [0.005, 0.995], axis=0)
    margin = 0.08 * (high - low)
    for ax in axes:
        ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
        ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(visible=False)
    axes[0].set_ylabel("direction of largest spread")
    for ax in axes:
        ax.set_xlabel("direction between the two centers")


def center_geometry(points: Sequence[np.ndarray], names: Sequence[str], *, caption: str = "") -> Drawing:
    """Return how a category center labels a query, drawn on real features in a plane.

    Parameters
    ----------
    points : sequence of two ndarrays of shape (n, 2)
        Features of two classes.
    names : sequence of two str
    caption : str
    """
    figure, (ax,) = _panels(1, width=6.2, height=4.4)
    first, second = (np.asarray(group) for group in points)
    centers = first.mean(0), second.mean(0)
    _scatter(ax, (first, second), names)
    _plain_axes([ax], (first, second))
    heights = np.array(ax.get_ylim())
    ax.plot(*_bisector(*centers, heights), color="#0072B2", linewidth=1.8, label="equally far from both centers")
    query = 0.35 * centers[0] + 0.65 * centers[1] + np.array([0.0, 0.30 * np.ptp(heights)])
    for center, name, color in zip(centers, names, _PAIR, strict=True):
        ax.plot(*np.stack([query, center]).T, linestyle="--", color="#4d4d4d", linewidth=1.2)
        ax.annotate(
            f"{np.linalg.norm(query - center):.2f}", (query + center) / 2, fontsize=10, ha="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )
        ax.scatter(*center, marker="*", s=330, color=color, edgecolors="black", zorder=4, label=f"{name}: center")
    ax.scatter(*query, marker="X", s=110, color="black", zorder=5, label="query image")
    _legend(figure, [ax], columns=3)
    table = pd.DataFrame(
        {
            "class": list(names),
            "center_x": [c[0] for c in centers],
            "center_y": [c[1] for c in centers],
            "distance_to_query": [float(np.linalg.norm(query - c)) for c in centers],
        }
    )
    nearest = table.loc[table["distance_to_query"].idxmin(), "class"]
    alt = (
        f"Features of {names[0]} and {names[1]} images as two clouds with a star at each center. A query is joined to "
        f"both stars; {nearest} is nearer, so that is its label."
    )
    return Drawing(figure, alt, table, caption)


def _subsample(points: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return points[rng.choice(len(points), size, replace=False)]


def boundary_and_centers(
    points: Sequence[np.ndarray], names: Sequence[str], sizes: Sequence[int], *, seed: int = 0, caption: str = ""
) -> Drawing:
    """Return what happens to boundary and centers as one class shrinks, one panel for each size.

    Parameters
    ----------
    points : sequence of two ndarrays of shape (n, 2)
        Features of two classes; the first one is thinned out.
    names : sequence of two str
    sizes : sequence of int
        How many images of the first class are left.
    seed : int, default=0
        Of the draws.
    caption : str
    """
    rng = np.random.default_rng(seed)
    figure, axes = _panels(len(sizes), width=3.7 * len(sizes), height=4.4)
    first, second = (np.asarray(group) for group in points)
    _plain_axes(axes, (first, second))
    heights = np.array(axes[0].get_ylim())
    rows = []
    for ax, size in zip(axes, sizes, strict=True):
        few = first if size >= len(first) else _subsample(first, size, rng)
        _scatter(ax, (few, second), names)
        labels = np.repeat([0, 1], [len(few), len(second)])
        soft = _boundary(np.concatenate([few, second]), labels, heights)
        near = _bisector(few.mean(0), second.mean(0), heights)
        ax.plot(*soft, color=METHODS["D"][1], linewidth=2, label="boundary of the softmax layer")
        ax.plot(*near, color=METHODS["C"][1], linewidth=2, label="boundary between the centers")
        for center, color in zip((few.mean(0), second.mean(0)), _PAIR, strict=True):
            ax.scatter(*center, marker="*", s=260, color=color, edgecolors="black", zorder=4)
        ax.set_title(f"{len(few)} {names[0]} : {len(second)} {names[1]}")
        row: dict[str, object] = {f"{names[0]} images": len(few)}
        for name, (xs, _) in (("softmax", soft), ("centers", near)):
            row[f"{names[0]} found by {name}"] = _share_left(first, xs, heights)
            row[f"{names[1]} found by {name}"] = 1 - _share_left(second, xs, heights)
        rows.append(row)
    _legend(figure, axes, columns=2)
    table = pd.DataFrame(rows)
    start, end = table.iloc[0], table.iloc[-1]
    alt = (
        f"The same two clouds with {names[0]} thinned out from {start.iloc[0]} to {end.iloc[0]} images. The softmax "
        f"boundary moves into {names[0]}: its share on the right side goes from {start.iloc[1]:.0%} to {end.iloc[1]:.0%}. "
        f"For the boundary between the centers it goes from {start.iloc[3]:.0%} to {end.iloc[3]:.0%}."
    )
    return Drawing(figure, alt, table, caption)


def _share_left(points: np.ndarray, xs: np.ndarray, heights: np.ndarray) -> float:
    """Return the fraction of points left of the line through (xs, heights)."""
    slope = (xs[1] - xs[0]) / (heights[1] - heights[0])
    return float(np.mean(points[:, 0] < xs[0] + slope * (points[:, 1] - heights[0])))


def redraws(
    points: Sequence[np.ndarray], names: Sequence[str], size: int, *, draws: int = 40, seed: int = 0, caption: str = ""
) -> Drawing:
    """Return how much the boundary and the center move when the few images are drawn again.

    Parameters
    ----------
    points : sequence of two ndarrays of shape (n, 2)
        Features of two classes; ``size`` images of the first one are drawn, again and again.
    names : sequence of two str
    size : int
    draws : int, default=40
    seed : int, default=0
    caption : str
    """
    rng = np.random.default_rng(seed)
    figure, axes = _panels(2, width=8.6, height=4.4)
    first, second = (np.asarray(group) for group in points)
    _plain_axes(axes, (first, second))
    heights = np.array(axes[0].get_ylim())
    found: dict[str, list[float]] = {"softmax layer": [], "category centers": []}
    for ax in axes:
        _scatter(ax, (first, second), names)
    for _ in range(draws):
        few = _subsample(first, size, rng)
        labels = np.repeat([0, 1], [size, len(second)])
        soft = _boundary(np.concatenate([few, second]), labels, heights)
        near = _bisector(few.mean(0), second.mean(0), heights)
        axes[0].plot(*soft, color=METHODS["D"][1], linewidth=0.8, alpha=0.5)
        axes[1].plot(*near, color=METHODS["C"][1], linewidth=0.8, alpha=0.5)
        axes[1].scatter(*few.mean(0), marker="*", s=60, color="#D55E00", edgecolors="none", zorder=4)
        found["softmax layer"].append(_share_left(first, soft[0], heights))
        found["category centers"].append(_share_left(first, near[0], heights))
    for ax, name in zip(axes, found, strict=True):
        ax.set_title(f"{name}: {draws} draws of {size} {names[0]}")
    _legend(figure, axes, columns=2)
    table = pd.DataFrame(
        [
            {"method": name, f"{names[0]} found, mean": np.mean(values), "standard deviation": np.std(values, ddof=1)}
            for name, values in found.items()
        ]
    )
    alt = f"Boundaries for {draws} draws of {size} {names[0]} images. " + " ".join(
        f"{row.iloc[0]}: {row.iloc[1]:.0%} of all {names[0]} images on the right side on average, "
        f"standard deviation {row.iloc[2]:.1%}."
        for _, row in table.iterrows()
    )
    return Drawing(figure, alt, table, caption)
