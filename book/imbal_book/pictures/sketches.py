"""Explanatory drawings of boundaries and category centers, made from real features in a plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.linear_model import LogisticRegression

from imbal_book.pictures.figures import METHODS, Drawing, legend_below, panels

__all__ = ["boundary_and_centers", "center_geometry", "redraws"]

_PAIR = ("#E69F00", "#56B4E9")


def _boundary(
    points: np.ndarray, labels: np.ndarray, horizontal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a softmax layer (logistic regression) on points in a plane puts its boundary: (x, y) of a line."""
    scale = points.std()
    model = LogisticRegression(C=100.0).fit(points / scale, labels)
    (a, b), c = model.coef_[0], model.intercept_[0]
    return -(c * scale + b * horizontal) / a, horizontal


def _bisector(first: np.ndarray, second: np.ndarray, horizontal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the line of equal distance to two centers: (x, y)."""
    a, b = second - first
    middle = (first + second) / 2
    return middle[0] - (b / a) * (horizontal - middle[1]), horizontal


def _scatter(ax: Axes, groups: Sequence[np.ndarray], names: Sequence[str]) -> None:
    for points, name, color in zip(groups, names, _PAIR, strict=True):
        ax.scatter(
            points[:, 0],
            points[:, 1],
            s=9,
            color=color,
            alpha=0.55,
            linewidths=0,
            label=f"{name}: features",
            rasterized=True,
        )


def _star(ax: Axes, center: np.ndarray, name: str, color: str, *, size: float) -> None:
    ax.scatter(
        center[0],
        center[1],
        marker="*",
        s=size,
        color=color,
        edgecolors="black",
        zorder=4,
        label=f"{name}: center",
    )


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
    figure, (ax,) = panels(1, width=6.2, height=4.4)
    first, second = (np.asarray(group) for group in points)
    centers = first.mean(0), second.mean(0)
    _scatter(ax, (first, second), names)
    _plain_axes([ax], (first, second))
    heights = np.array(ax.get_ylim())
    ax.plot(
        *_bisector(*centers, heights), color="#0072B2", linewidth=1.8, label="equally far from both centers"
    )
    query = (
        0.25 * centers[0]
        + 0.75 * centers[1]
        + np.array([0.1 * np.ptp(ax.get_xlim()), 0.28 * np.ptp(heights)])
    )
    for center, name, color in zip(centers, names, _PAIR, strict=True):
        ax.plot(*np.stack([query, center]).T, linestyle="--", color="#4d4d4d", linewidth=1.2)
        ax.annotate(
            f"{np.linalg.norm(query - center):.2f}",
            (query + center) / 2,
            fontsize=10,
            ha="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )
        _star(ax, center, name, color, size=330)
    ax.scatter(query[0], query[1], marker="X", s=110, color="black", zorder=5, label="query image")
    legend_below(figure, [ax], columns=3)
    table = pd.DataFrame(
        {
            "class": list(names),
            "center_x": [c[0] for c in centers],
            "center_y": [c[1] for c in centers],
            "distance_to_query": [float(np.linalg.norm(query - c)) for c in centers],
        }
    )
    nearest = table["class"].iloc[table["distance_to_query"].argmin()]
    alt = (
        f"Features of {names[0]} and {names[1]} images as two clouds with a star at each center. A query is joined to "
        f"both stars; {nearest} is nearer, so that is its label."
    )
    return Drawing(figure, alt, table, caption)


def _subsample(points: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return points[rng.choice(len(points), size, replace=False)]


def boundary_and_centers(
    points: Sequence[np.ndarray],
    names: Sequence[str],
    sizes: Sequence[int],
    *,
    seed: int = 0,
    caption: str = "",
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
    figure, axes = panels(len(sizes), width=3.0 * len(sizes), height=3.9)
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
        for name, center, color in zip(names, (few.mean(0), second.mean(0)), _PAIR, strict=True):
            _star(ax, center, name, color, size=260)
        ax.set_title(f"{len(few)} {names[0]} : {len(second)} {names[1]}")
        row: dict[str, object] = {f"{names[0]} images": len(few)}
        for name, (xs, _) in (("softmax", soft), ("centers", near)):
            row[f"{names[0]} found by {name}"] = _share_left(first, xs, heights)
            row[f"{names[1]} found by {name}"] = 1 - _share_left(second, xs, heights)
        rows.append(row)
    legend_below(figure, axes, columns=2)
    table = pd.DataFrame(rows)
    start, end = table.iloc[0], table.iloc[-1]
    alt = (
        f"The same two clouds with {names[0]} thinned out from {start.iloc[0]} to {end.iloc[0]} images. The softmax "
        f"boundary moves into {names[0]}: its share on the right side goes from {start.iloc[1]:.0%} to "
        f"{end.iloc[1]:.0%}. "
        f"For the boundary between the centers it goes from {start.iloc[3]:.0%} to {end.iloc[3]:.0%}."
    )
    return Drawing(figure, alt, table, caption)


def _share_left(points: np.ndarray, xs: np.ndarray, heights: np.ndarray) -> float:
    """Return the fraction of points left of the line through (xs, heights)."""
    slope = (xs[1] - xs[0]) / (heights[1] - heights[0])
    return float(np.mean(points[:, 0] < xs[0] + slope * (points[:, 1] - heights[0])))


def redraws(
    points: Sequence[np.ndarray],
    names: Sequence[str],
    size: int,
    *,
    draws: int = 40,
    seed: int = 0,
    caption: str = "",
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
    figure, axes = panels(2, width=8.6, height=4.4)
    first, second = (np.asarray(group) for group in points)
    _plain_axes(axes, (first, second))
    heights = np.array(axes[0].get_ylim())
    found: dict[str, list[float]] = {"softmax layer": [], "category centers": []}
    for ax in axes:
        _scatter(ax, (first, second), names)
    labelled: dict[str, str | None] = {
        "soft": "boundary of the softmax layer",
        "near": "boundary between the centers",
        "center": f"center of {size} {names[0]}",
    }
    for _ in range(draws):
        few = _subsample(first, size, rng)
        labels = np.repeat([0, 1], [size, len(second)])
        soft = _boundary(np.concatenate([few, second]), labels, heights)
        near = _bisector(few.mean(0), second.mean(0), heights)
        axes[0].plot(*soft, color=METHODS["D"][1], linewidth=0.8, alpha=0.5, label=labelled["soft"])
        axes[1].plot(*near, color=METHODS["C"][1], linewidth=0.8, alpha=0.5, label=labelled["near"])
        axes[1].scatter(
            few[:, 0].mean(),
            few[:, 1].mean(),
            marker="*",
            s=60,
            color="#D55E00",
            edgecolors="none",
            zorder=4,
            label=labelled["center"],
        )
        labelled = dict.fromkeys(labelled)  # the legend names each kind once
        found["softmax layer"].append(_share_left(first, soft[0], heights))
        found["category centers"].append(_share_left(first, near[0], heights))
    for ax, name in zip(axes, found, strict=True):
        ax.set_title(f"{name}: {draws} draws of {size} {names[0]}")
    legend_below(figure, axes, columns=3)
    table = pd.DataFrame(
        [
            {
                "method": name,
                f"{names[0]} found, mean": np.mean(values),
                "standard deviation": np.std(values, ddof=1),
            }
            for name, values in found.items()
        ]
    )
    alt = f"Boundaries for {draws} draws of {size} {names[0]} images. " + " ".join(
        f"{row.iloc[0]}: {row.iloc[1]:.0%} of all {names[0]} images on the right side on average, "
        f"standard deviation {row.iloc[2]:.1%}."
        for _, row in table.iterrows()
    )
    return Drawing(figure, alt, table, caption)
