"""Pictures of many remedies at once: what each changes in every cell, and what the common classes pay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import SMALL, Drawing, panels
from imbal_book.pictures.labels import name_points

__all__ = ["forest", "ranks", "trade"]

_ZERO: Any = {"color": "#4d4d4d", "linewidth": 1, "zorder": 1}


def forest(cells: pd.DataFrame, *, axis: str, title: str = "", caption: str = "") -> Drawing:
    """Return changes with their intervals: a row for each remedy, a narrow panel for each cell, one zero line in each.

    Parameters
    ----------
    cells : DataFrame
        Columns panel, method (a key of `pictures.arms.METHODS`; both in the order in which they are drawn), mean, low
        and high (fractions) and n.
    axis : str
        What stands below the panels, with its unit; drawn in percentage points.
    title, caption : str
    """
    names, rows = (list(dict.fromkeys(cells[column])) for column in ("panel", "method"))
    figure, axes = panels(len(names), width=2.6 + 1.55 * len(names), height=1.5 + 0.27 * len(rows))
    for ax, name in zip(axes, names, strict=True):
        part = cells[cells["panel"] == name]
        ax.axvline(0, **_ZERO)
        for cell in part.to_dict("records"):
            arm, mean = METHODS[cell["method"]], 100 * cell["mean"]
            ends = [[mean - 100 * cell["low"]], [100 * cell["high"] - mean]]
            ax.errorbar(
                mean, rows.index(cell["method"]), xerr=ends if np.isfinite(ends).all() else None,
                fmt=arm.marker, color=arm.color, markersize=5, elinewidth=1.4,
            )  # fmt: skip
        ax.set_title(str(name), fontsize=SMALL)
        ax.tick_params(labelsize=SMALL)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        for row in range(0, len(rows), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="#8c8c8c", alpha=0.08, linewidth=0)
        ax.grid(axis="y", visible=False)
    figure.supxlabel(axis, fontsize=SMALL)
    figure.suptitle(title)
    said = [_extremes(str(name).replace("\n", ", "), cells[cells["panel"] == name]) for name in names]
    table = cells[["panel", "method", "mean", "low", "high", "n"]]
    return Drawing(figure, f"Dot plot, {title or axis}. {' '.join(said)}", table, caption)


def _extremes(name: str, part: pd.DataFrame) -> str:
    low, high = (part.iloc[int(place)] for place in (part["mean"].argmin(), part["mean"].argmax()))
    return (
        f"{name}: {100 * low['mean']:+.1f} ({low['method']}) to {100 * high['mean']:+.1f} ({high['method']})."
    )


def trade(points: pd.DataFrame, *, across: str, up: str, title: str = "", caption: str = "") -> Drawing:
    """Return one dot for each remedy, named beside it: what the rare classes gain against what the common ones lose.

    Parameters
    ----------
    points : DataFrame
        Columns method (a key of `pictures.arms.METHODS`), across and up (fractions, drawn in percentage points).
    across, up : str
        Names of the axes.
    title, caption : str
    """
    figure, (ax,) = panels(1, width=9.2, height=6.4)
    ax.axhline(0, **_ZERO)
    ax.axvline(0, **_ZERO)
    xs, ys = 100 * points["across"].to_numpy(), 100 * points["up"].to_numpy()
    for method, x, y in zip(points["method"], xs, ys, strict=True):
        arm = METHODS[method]
        ax.plot(x, y, arm.marker, color=arm.color, markersize=7)
    ax.margins(0.12)
    ax.set(xlabel=f"{across} (points)", ylabel=f"{up} (points)")
    figure.suptitle(title)
    figure.draw_without_rendering()
    name_points(ax, list(points["method"]), xs, ys, _colors(points))
    said = " ".join(
        f"{method}: {up} {y:+.1f}, {across} {x:+.1f}."
        for method, x, y in zip(points["method"], xs, ys, strict=True)
    )
    return Drawing(figure, f"Scatter plot, {title}. {said}", points, caption)


def _colors(points: pd.DataFrame) -> list[str]:
    return [METHODS[method].color for method in points["method"]]


def ranks(points: pd.DataFrame, *, across: str, up: str, title: str = "", caption: str = "") -> Drawing:
    """Return a panel for each comparison of two orders: a dot for each remedy, its two changes with their intervals.

    Parameters
    ----------
    points : DataFrame
        Columns panel, method (a key of `pictures.arms.METHODS`) and, for ``x`` and ``y``, the mean and the ends of its
        interval: x, x_low, x_high, y, y_low, y_high (fractions).
    across, up : str
        Names of the axes.
    title, caption : str
    """
    names = list(dict.fromkeys(points["panel"]))
    figure, axes = panels(1, rows=len(names), width=7.8, height=5.4 * len(names), share_y=False)
    for ax, name in zip(axes, names, strict=True):
        part = points[points["panel"] == name]
        ax.axhline(0, **_ZERO)
        ax.axvline(0, **_ZERO)
        for row in part.to_dict("records"):
            arm = METHODS[row["method"]]
            low = [[100 * (row[k] - row[f"{k}_low"])] for k in "xy"]
            high = [[100 * (row[f"{k}_high"] - row[k])] for k in "xy"]
            ax.errorbar(
                100 * row["x"], 100 * row["y"], xerr=[low[0], high[0]], yerr=[low[1], high[1]],
                fmt=arm.marker, color=arm.color, markersize=6, elinewidth=0.9, alpha=0.9,
            )  # fmt: skip
        ax.margins(0.1)
        ax.set(title=name, xlabel=f"{across} (points)", ylabel=f"{up} (points)")
    figure.suptitle(title)
    figure.draw_without_rendering()
    for ax, name in zip(axes, names, strict=True):
        part = points[points["panel"] == name]
        xs, ys = 100 * part["x"].to_numpy(), 100 * part["y"].to_numpy()
        name_points(ax, list(part["method"]), xs, ys, _colors(part))
    said = " ".join(
        f"{row['panel']}, {row['method']}: {100 * row['x']:+.1f} and {100 * row['y']:+.1f}."
        for row in points.to_dict("records")
    )
    return Drawing(figure, f"Scatter plot, {title}: {across} and {up}. {said}", points, caption)
