"""Figures of the arms of a study: levels and paired differences, learning curves, and what others published."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from imbal_book.pictures.figures import METHODS, Drawing, legend_below, panels

__all__ = ["curves", "dots", "published_and_here"]

_GREY = "#8c8c8c"
_OURS = "#1a1a1a"  # no remedy's colour, for the rows are the remedies


def dots(cells: pd.DataFrame, *, title: str = "", caption: str = "", legend: bool = True) -> Drawing:
    """Return means with their intervals, a panel for each quantity and a row for each place.

    Parameters
    ----------
    cells : DataFrame
        Columns panel (what is printed below the axis, with its unit; a panel whose name says "minus" gets a
        line at 0), row, method (a key of `pictures.figures.METHODS`), mean, low, high (in that unit; infinite
        where there is one seed) and n. Methods of one row stand below one another.
    title, caption : str
    legend : bool, default=True
        False where the rows are the methods.
    """
    names, rows, methods = (list(dict.fromkeys(cells[column])) for column in ("panel", "row", "method"))
    spread = methods if legend else methods[:1]
    figure, axes = panels(
        len(names), width=1.6 + 2.7 * len(names), height=1.75 + 0.27 * len(rows) * max(len(spread), 1.2)
    )
    for ax, name in zip(axes, names, strict=True):
        part = cells[cells["panel"] == name]
        if " minus " in name:
            ax.axvline(0, color="#4d4d4d", linewidth=1)
        for row in part.to_dict("records"):
            height = rows.index(row["row"]) + _offset(
                spread.index(row["method"]) if legend else 0, len(spread)
            )
            _dot(ax, row, height)
        ax.set_xlabel(name.replace(" minus ", "\nminus "))
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
    figure.suptitle(title)
    if legend:
        legend_below(figure, axes, columns=len(methods))
    alt = f"Dot plot, {title or 'arms compared'}. " + " ".join(
        f"{row['row']}, {row['method']}, {row['panel']}: {_words(row)}." for row in cells.to_dict("records")
    )
    return Drawing(figure, alt, cells, caption)


def _dot(ax: Axes, row: dict, height: float) -> None:
    _, color, marker, _ = METHODS[row["method"]]
    if np.isfinite(row["low"] + row["high"]):
        ax.plot([row["low"], row["high"]], [height] * 2, color=color, linewidth=1.8)
    ax.plot(
        row["mean"], height, marker=marker, color=color, linestyle="", markersize=6.5, label=row["method"]
    )


def _words(row: dict) -> str:
    if not np.isfinite(row["low"] + row["high"]):
        return f"{row['mean']:.2f}, one seed"
    return f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f}), n = {row['n']}"


def _offset(position: int, count: int, spread: float = 0.5) -> float:
    return 0.0 if count == 1 else spread * (position / (count - 1) - 0.5)


def curves(history: pd.DataFrame, *, quantity: str, title: str = "", caption: str = "") -> Drawing:
    """Return a quantity after every epoch, mean over seeds, one panel for each place.

    Parameters
    ----------
    history : DataFrame
        Columns place, method (a key of `pictures.figures.METHODS`), epoch, mean, low, high (fractions) and n.
    quantity : str
        What is printed beside the axis, in percent.
    title, caption : str
    """
    places = list(dict.fromkeys(history["place"]))
    figure, axes = panels(len(places), width=max(6.4, 4.8 * len(places)), height=4.3)
    for ax, place in zip(axes, places, strict=True):
        for method, rows in history[history["place"] == place].groupby("method", sort=False):
            _, color, marker, line = METHODS[str(method)]
            ax.plot(
                rows["epoch"], 100 * rows["mean"], linestyle=line, color=color, marker=marker,
                markevery=max(1, len(rows) // 10), markersize=5, label=method,
            )  # fmt: skip
            if rows["n"].min() >= 3:  # of two runs an interval says nothing and hides everything
                ax.fill_between(
                    rows["epoch"], 100 * rows["low"], 100 * rows["high"], color=color, alpha=0.12, linewidth=0
                )
        ax.set_title(place)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel(f"{quantity} (%)")
    figure.suptitle(title)
    legend_below(figure, axes, columns=5)
    last = history.groupby(["place", "method"], sort=False).tail(1)
    alt = f"Lines, {title or quantity} after every epoch. " + " ".join(
        f"{row['place']}, {row['method']}, epoch {row['epoch']}: {100 * row['mean']:.1f} %."
        for row in last.to_dict("records")
    )
    return Drawing(figure, alt, history, caption)


def published_and_here(
    published: pd.DataFrame, here: pd.DataFrame, *, title: str = "", caption: str = ""
) -> Drawing:
    """Return every published accuracy as a point, with ours among them, one panel for each place.

    Parameters
    ----------
    published : DataFrame
        Columns place, method, value (a fraction).
    here : DataFrame
        Columns place, method, last, low, high (mean of the last epoch with its interval) and best (mean of the best
        test epoch, NaN where there is none), fractions; empty where nothing was run.
    title, caption : str
    """
    places = list(dict.fromkeys(published["place"]))
    methods = list(dict.fromkeys(published["method"]))
    figure, axes = panels(len(places), width=1.8 + 3.0 * len(places), height=1.7 + 0.36 * len(methods))
    for ax, place in zip(axes, places, strict=True):
        for method, rows in published[published["place"] == place].groupby("method", sort=False):
            height = [methods.index(method)] * len(rows)
            ax.plot(
                100 * rows["value"], height, color="#d9d9d9", linewidth=6, solid_capstyle="round", zorder=0
            )
            ax.plot(
                100 * rows["value"],
                height,
                linestyle="",
                marker="|",
                markersize=11,
                color=_GREY,
                label="published",
            )
        for row in here[here["place"] == place].to_dict("records"):
            level, color = methods.index(row["method"]) + 0.22, _OURS
            ax.plot([100 * row["low"], 100 * row["high"]], [level] * 2, color=color, linewidth=1.8)
            ax.plot(
                100 * row["last"],
                level,
                "o",
                color=color,
                markersize=6,
                label="here, last epoch (95 % interval)",
            )
            ax.plot(
                100 * row["best"], level, "o", markerfacecolor="white", markeredgecolor=color, markersize=6,
                label="here, best test epoch",
            )  # fmt: skip
        ax.set_title(place)
        ax.set_xlabel("accuracy (%)")
        ax.set_yticks(range(len(methods)), methods)
        ax.set_ylim(len(methods) - 0.5, -0.5)
    figure.suptitle(title)
    legend_below(figure, axes, columns=3)
    return Drawing(figure, _published_words(published, here, title), published, caption)


def _published_words(published: pd.DataFrame, here: pd.DataFrame, title: str) -> str:
    ours = {(row["place"], row["method"]): row for row in here.to_dict("records")}
    parts = []
    for (place, method), rows in published.groupby(["place", "method"], sort=False):
        text = f"{place}, {method}: published {100 * rows['value'].min():.1f} to {100 * rows['value'].max():.1f} %"
        text += f" ({len(rows)} result{'s' * (len(rows) > 1)})"
        if (place, method) in ours:
            text += f", here {100 * ours[place, method]['last']:.1f} %"
        parts.append(f"{text}.")
    return f"Ticks and dots, {title or 'published accuracies'}. {' '.join(parts)}"
