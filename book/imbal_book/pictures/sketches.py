"""Explanatory drawings of boundaries and category centers, made from real features in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.linear_model import LogisticRegression

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import SMALL, Drawing, finish, panels, told

_PAIR = ("#E69F00", "#56B4E9")
#: A way to separate two clouds -> what the legend calls its line, and the arm whose colour it has.
_LINES = {
    "softmax layer": ("boundary of the softmax layer", "D"),
    "category centers": ("boundary between the centers", "C"),
}


def _boundary(first: np.ndarray, second: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return where a softmax layer (logistic regression) of two clouds has its boundary: x at each height."""
    points = np.concatenate([first, second])
    scale = points.std()
    model = LogisticRegression(C=100.0).fit(points / scale, np.repeat([0, 1], [len(first), len(second)]))
    (a, b), c = model.coef_[0], model.intercept_[0]
    return -(c * scale + b * heights) / a


def _bisector(first: np.ndarray, second: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return the line of equal distance to the centers of two clouds: x at each height."""
    (a, b), middle = second.mean(0) - first.mean(0), (first.mean(0) + second.mean(0)) / 2
    return middle[0] - (b / a) * (heights - middle[1])


def _lines(first: np.ndarray, second: np.ndarray, heights: np.ndarray) -> dict[str, np.ndarray]:
    found = _boundary(first, second, heights), _bisector(first, second, heights)
    return dict(zip(_LINES, found, strict=True))


def _share_left(points: np.ndarray, xs: np.ndarray, heights: np.ndarray) -> float:
    """Return the fraction of points left of the line through (xs, heights)."""
    slope = (xs[1] - xs[0]) / (heights[1] - heights[0])
    return float(np.mean(points[:, 0] < xs[0] + slope * (points[:, 1] - heights[0])))


def _draw(name: str, ax: Axes, xs: np.ndarray, heights: np.ndarray, **look: Any) -> None:
    label, arm = _LINES[name]
    ax.plot(xs, heights, color=METHODS[arm].color, **{"label": label, **look})


def _scatter(ax: Axes, groups: Sequence[np.ndarray], names: Sequence[str]) -> None:
    look: dict[str, Any] = {"s": 9, "alpha": 0.55, "linewidths": 0, "rasterized": True}
    for points, name, color in zip(groups, names, _PAIR, strict=True):
        ax.scatter(*points.T, color=color, label=f"{name}: features", **look)


def _stars(ax: Axes, groups: Sequence[np.ndarray], names: Sequence[str], *, size: float) -> None:
    look: dict[str, Any] = {"marker": "*", "s": size, "edgecolors": "black", "zorder": 4}
    for points, name, color in zip(groups, names, _PAIR, strict=True):
        ax.scatter(*points.mean(0), color=color, label=f"{name}: center", **look)


def _plain_axes(axes: Sequence[Axes], groups: Sequence[np.ndarray]) -> np.ndarray:
    """Give all panels the same frame around both clouds, without numbers, and return its lower and upper end."""
    low, high = np.quantile(np.concatenate(groups), [0.005, 0.995], axis=0)
    margin = 0.08 * (high - low)
    (left, bottom), (right, top) = low - margin, high + margin
    for ax in axes:
        ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        ax.set_xlabel("direction between the two centers")
        ax.grid(visible=False)
    axes[0].set_ylabel("direction of largest spread")
    return np.array(axes[0].get_ylim())


def center_geometry(points: Sequence[np.ndarray], names: Sequence[str], *, caption: str = "") -> Drawing:
    """Return how a category center labels a query, drawn on features of two classes, each of shape (n, 2)."""
    figure, (ax,) = panels(1, width=6.2, height=4.4)
    first, second = (np.asarray(group) for group in points)
    centers = np.stack([first.mean(0), second.mean(0)])
    _scatter(ax, (first, second), names)
    heights = _plain_axes([ax], (first, second))
    ax.plot(
        _bisector(first, second, heights), heights, color="#0072B2", linewidth=1.8,
        label="equally far from both centers",
    )  # fmt: skip
    shift = np.array([0.1 * np.ptp(ax.get_xlim()), 0.28 * np.ptp(heights)])
    query = 0.25 * centers[0] + 0.75 * centers[1] + shift
    distances = np.linalg.norm(query - centers, axis=1)
    for center, distance in zip(centers, distances, strict=True):
        ax.plot(*np.stack([query, center]).T, linestyle="--", color="#4d4d4d", linewidth=1.2)
        ax.annotate(
            f"{distance:.2f}", (query + center) / 2, fontsize=SMALL, ha="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )  # fmt: skip
    _stars(ax, (first, second), names, size=330)
    ax.scatter(query[0], query[1], marker="X", s=110, color="black", zorder=5, label="query image")
    finish(figure, "", 3)
    table = pd.DataFrame({"class": list(names), "center_x": centers[:, 0], "center_y": centers[:, 1]})
    table["distance_to_query"] = distances
    alt = (
        f"Features of {names[0]} and {names[1]} images as two clouds with a star at each center. A query is joined to "
        f"both stars; {names[distances.argmin()]} is nearer, so that is its label."
    )
    return Drawing(figure, alt, table, caption)


def boundary_and_centers(
    points: Sequence[np.ndarray], names: Sequence[str], sizes: Sequence[int], *, caption: str = ""
) -> Drawing:
    """Return what happens to boundary and centers as one class shrinks, one panel for each size.

    ``points`` (n, 2) are the features of two classes, of which the first one is thinned out: ``sizes`` says how many
    images of it are left.
    """
    rng = np.random.default_rng(0)
    figure, axes = panels(len(sizes), width=3.0 * len(sizes), height=3.9)
    first, second = (np.asarray(group) for group in points)
    heights = _plain_axes(axes, (first, second))
    rows = []
    for ax, size in zip(axes, sizes, strict=True):
        few = first if size >= len(first) else rng.choice(first, size, replace=False)
        _scatter(ax, (few, second), names)
        row: dict[str, object] = {f"{names[0]} images": len(few)}
        for (name, xs), short in zip(
            _lines(few, second, heights).items(), ("softmax", "centers"), strict=True
        ):
            _draw(name, ax, xs, heights, linewidth=2)
            row[f"{names[0]} found by {short}"] = _share_left(first, xs, heights)
            row[f"{names[1]} found by {short}"] = 1 - _share_left(second, xs, heights)
        rows.append(row)
        _stars(ax, (few, second), names, size=260)
        ax.set_title(f"{len(few)} {names[0]} : {len(second)} {names[1]}")
    finish(figure, "", 2)
    table = pd.DataFrame(rows)
    start, end = table.iloc[0], table.iloc[-1]
    alt = (
        f"The same two clouds with {names[0]} thinned out from {start.iloc[0]} to {end.iloc[0]} images. The softmax "
        f"boundary moves into {names[0]}: its share on the right side goes from {start.iloc[1]:.0%} to "
        f"{end.iloc[1]:.0%}. "
        f"For the boundary between the centers it goes from {start.iloc[3]:.0%} to {end.iloc[3]:.0%}."
    )
    return Drawing(figure, alt, table, caption)


def redraws(
    points: Sequence[np.ndarray], names: Sequence[str], size: int, *, draws: int = 40, caption: str = ""
) -> Drawing:
    """Return how much the boundary and the center move when ``size`` images of the first class are drawn again.

    See `boundary_and_centers` for the parameters.
    """
    rng = np.random.default_rng(0)
    figure, axes = panels(2, width=8.6, height=4.4)
    first, second = (np.asarray(group) for group in points)
    heights = _plain_axes(axes, (first, second))
    found: dict[str, list[float]] = {name: [] for name in _LINES}
    for ax, name in zip(axes, found, strict=True):
        _scatter(ax, (first, second), names)
        ax.set_title(f"{name}: {draws} draws of {size} {names[0]}")
    centers = []
    for draw in range(draws):
        few = rng.choice(first, size, replace=False)
        centers.append(few.mean(0))
        look = {"label": None} if draw else {}  # the legend names each kind once
        for ax, (name, xs) in zip(axes, _lines(few, second, heights).items(), strict=True):
            _draw(name, ax, xs, heights, linewidth=0.8, alpha=0.5, **look)
            found[name].append(_share_left(first, xs, heights))
    star: dict[str, Any] = {"marker": "*", "s": 60, "color": "#D55E00", "edgecolors": "none", "zorder": 4}
    axes[1].scatter(*np.transpose(centers), label=f"center of {size} {names[0]}", **star)
    finish(figure, "", 3)
    shares = pd.DataFrame(found)
    table = pd.DataFrame({f"{names[0]} found, mean": shares.mean(), "standard deviation": shares.std()})
    table = table.rename_axis("method").reset_index()
    said = " images on the right side on average, standard deviation {standard deviation:.1%}."
    said = told(f"{{method}}: {{{names[0]} found, mean:.0%}} of all {names[0]}{said}", table)
    alt = f"Boundaries for {draws} draws of {size} {names[0]} images. {said}"
    return Drawing(figure, alt, table, caption)
