"""Figures of the chapters: each is drawn from a frame and carries its alternative text and its data table."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from imbal_book.pictures.arms import METHODS, OTHER, legend_name
from imbal_book.pictures.narrow import legend_below, narrowed

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


#: Inches. A page shows a picture about 7.8 inches wide, so that in one this wide `SMALL` is 11 px and more.
WIDEST = 9.8
#: Points, of what is written smaller than the labels of the axes; nothing is smaller.
SMALL = 10.5
#: What an interval plot draws, and what it lists below.
_CELL = ("panel", "row", "method", "mean", "low", "high", "n")


@dataclass(frozen=True)
class Drawing:
    """A figure with the words and the numbers that say the same.

    Shown by a notebook as the picture (on a narrow screen its panels stand below one another), its ``caption``, which
    says what it shows and where its records come from, and the ``table`` of the numbers that are drawn folded below it.
    ``alt`` is what a reader who does not see the picture needs, made from the data, what matters first; a page shows
    its first 60 words, for the table has the rest.
    """

    figure: Figure
    alt: str
    table: pd.DataFrame
    caption: str = ""

    def svg(self) -> bytes:
        """Return the picture as SVG, the same bytes for the same data."""
        return _svg(self.figure)

    def smallest_text(self) -> float:
        """Return the size of the smallest writing in the picture, in points."""
        texts = (text for text in self.figure.findobj(Text) if text.get_visible() and text.get_text().strip())
        return min((float(text.get_fontsize()) for text in texts), default=SMALL)

    def _repr_html_(self) -> str:
        source, width = _embedded(self.figure)
        look, small = f"--drawn: {width:.0f}px", ""
        if (narrow := narrowed(self.figure)) is not None:
            stacked, width = _embedded(narrow)
            look += f"; --narrow: {width:.0f}px"
            small = f'<source media="(max-width: 48rem)" srcset="{stacked}">'
        # an interval of one run has no bounds, a method without a printed number no paper's
        finite = self.table.replace([math.inf, -math.inf], math.nan)
        table = finite.to_html(index=False, border=0, na_rep="", float_format=lambda value: f"{value:.3f}")
        return (
            f'<figure class="drawing" tabindex="0" style="{look}" data-text="{self.smallest_text():g}pt">'
            f'<picture>{small}<img alt="{html.escape(_shortened(self.alt))}" src="{source}"></picture>'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
            f'<details class="drawing-data"><summary>Data of this figure</summary>{table}</details>'
        )


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(_THEME):
        # a second layout would move what the first one settled
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def _embedded(figure: Figure) -> tuple[str, float]:
    """Return a figure as an address that holds it, and its width in pixels: it ends where what is drawn ends."""
    svg = _svg(figure)
    size = re.search(rb'<svg[^>]* width="([\d.]+)pt"', svg)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}", float(
        size[1]
    ) * 96 / 72 if size else 0


def _shortened(alt: str, most: int = 60) -> str:
    """Return as many whole sentences as fit into so many words, and that the table has the rest."""
    if len(alt.split()) <= most:
        return alt
    rest = "The table below has the rest."
    kept, left = [], most - len(rest.split())
    for sentence in re.split(r"(?<=\.) (?=\S)", alt):
        left -= len(sentence.split())
        if left < 0:
            break
        kept.append(sentence)
    return " ".join([*(kept or alt.split()[: most - 6]), rest])


def panels(
    columns: int,
    *,
    width: float,
    height: float,
    share_y: bool | Literal["row"] = True,
    rows: int = 1,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (not known to pyplot, so nothing keeps it alive) and its panels, row by row.

    ``width`` and ``height`` are inches; a figure is at most `WIDEST`, and its panels narrower then.
    """
    with sns.axes_style("ticks"), sns.plotting_context("notebook"), matplotlib.rc_context(_THEME):
        figure = Figure(figsize=(min(width, WIDEST), height), layout="constrained")
        axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False, height_ratios=height_ratios)
    return figure, list(axes.flat)


def imbalance_name(imbalance: str) -> str:
    """Return how an imbalance is called above a panel: Zhang's letters are types."""
    return f"type {imbalance}" if len(imbalance) == 1 else imbalance


def facets(
    frame: pd.DataFrame, by: str, *, each: float, least: float, height: float, margin: float = 0.0
) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]]]:
    """Return a figure with a panel for each value of a column, and (panel, value, its rows), in order of appearance."""
    parts = [(str(name), part) for name, part in frame.groupby(by, sort=False)]
    columns = min(len(parts), max(1, round(WIDEST / each)))
    figure, axes = wrapped(len(parts), columns, width=max(least, each * columns + margin), height=height)
    return figure, [(ax, *part) for ax, part in zip(axes, parts, strict=True)]


def wrapped(
    number: int, columns: int, *, width: float, height: float, margin: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels, in rows of ``columns``, each ``height`` inches high, and a margin for all."""
    rows = -(-number // columns)
    figure, axes = panels(columns, rows=rows, width=width, height=rows * height + margin)
    for ax in axes[number:]:
        ax.remove()
    return figure, axes[:number]


def told(sentence: str, rows: pd.DataFrame) -> str:
    """Return the sentence once for each row, the row's columns in the place of the words in braces."""
    return " ".join(sentence.format_map(row) for row in rows.to_dict("records"))


def finish(figure: Figure, title: str, columns: int) -> None:
    """Write the title above all panels and one legend below them, each entry once."""
    if title:
        figure.suptitle(title)
    legend_below(figure, columns)


def intervals(
    cells: pd.DataFrame,
    *,
    axis: str = "",
    scale: float = 1.0,
    form: str = ".2f",
    marks: pd.DataFrame | None = None,
    limits: tuple[float, float] | None = None,
    key: Mapping[str, str] | None = None,
    title: str = "",
    caption: str = "",
) -> Drawing:
    """Return means with their intervals as dots and bars: a panel for each quantity or place, a row for each case.

    Parameters
    ----------
    cells : DataFrame
        Columns panel, row (both in order of appearance), method (a key of `pictures.arms.METHODS`, or another name),
        mean, low, high (infinite where there is one run) and n. Methods that share a row stand below one another and in
        a legend. Optional columns: paper (a single number to draw hollow, NaN where there is none) and values (tuples
        of the single numbers to draw as ticks on a band). A row with neither mean nor these stays empty.
    axis : str, default=""
        What stands below every panel, with its unit; without it the panel's name stands there and not above. Where it
        says "minus" there is a line at 0.
    scale : float, default=1.0
        What is drawn and said is multiplied by this; 100 draws fractions in percent. The table keeps its numbers.
    form : str, default=".2f"
        Of numbers in the alternative text.
    marks : DataFrame, optional
        Dashed lines: columns method and value; panel and row for those that stand only there; label, by default that
        of the method.
    limits : (float, float), optional
        Of every panel's axis, as drawn; by default each panel has its own.
    key : mapping of str to str, optional
        What the legend calls a method, or the kinds of marks "mean", "paper" and "values" where there are several.
    title, caption : str
    """
    cells = cells[[name for name in (*_CELL, "paper", "values") if name in cells]]
    words = {"mean": "here, with 95 % interval", "paper": "the paper", "values": "single runs", **(key or {})}
    names, rows, methods = (list(dict.fromkeys(cells[column])) for column in ("panel", "row", "method"))
    lines = [] if marks is None else marks.to_dict("records")
    dashed = [{"label": legend_name(mark["method"]), **mark} for mark in lines]
    shared = bool((cells.groupby("row")["method"].nunique() > 1).any())
    # closer to one another than to those of the next row
    lanes = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.6 / len(methods) * shared
    height = 1.8 + len(rows) * (0.29 * len(methods) if shared else 0.36)
    columns = len(names) if len(names) < 4 else 2
    figure, axes = wrapped(len(names), columns, width=max(6.4, 1.8 + 2.9 * columns), height=height)
    _name_marks(axes[0], cells, methods if shared else [], words)
    for ax, name in zip(axes, names, strict=True):
        for cell in cells[cells["panel"] == name].to_dict("records"):
            _interval(ax, cell, rows.index(cell["row"]) + lanes[methods.index(cell["method"])], scale)
        for mark in (mark for mark in dashed if mark.get("panel", name) == name):
            _dashed(ax, mark, rows, scale)
        _label_rows(ax, axis or str(name), rows)
        ax.set(title=name if axis else "", xlim=limits)
    finish(figure, title, 1 + columns)
    said = [_sentence(cell, scale, form, words) for cell in cells.to_dict("records")]
    said += [f"Dashed: {', '.join(dict.fromkeys(mark['label'] for mark in dashed))}."] * bool(dashed)
    if "values" in cells:
        texts = [", ".join(f"{value:.3f}" for value in values) for values in cells["values"]]
        cells = cells.assign(values=texts)
    table = cells.rename(columns={"paper": key["paper"]} if key and "paper" in key else {})
    return Drawing(figure, f"Dot plot, {title or axis}. {' '.join(said)}", table, caption)


def _label_rows(ax: Axes, below: str, rows: Sequence[str]) -> None:
    """Name the rows, the first on top, and the axis; a difference gets a line at 0."""
    if " minus " in below:
        ax.axvline(0, color="#4d4d4d", linewidth=1, zorder=1)
    ax.set_xlabel(below.replace(" minus ", "\nminus "))
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.45, -0.55)
    ax.grid(axis="y", visible=False)


def _dashed(ax: Axes, mark: Mapping[Hashable, Any], rows: Sequence[str], scale: float) -> None:
    """Draw a dashed line, in its row or over all."""
    in_row = "row" in mark
    middle, reach = (rows.index(mark["row"]), 0.42) if in_row else (len(rows) / 2 - 0.5, len(rows) / 2)
    ax.plot(
        [scale * mark["value"]] * 2, [middle - reach, middle + reach], linestyle=(0, (4, 3)), linewidth=1.8,
        color=METHODS.get(mark["method"], OTHER).color, zorder=1, label=mark["label"],
    )  # fmt: skip


def _name_marks(ax: Axes, cells: pd.DataFrame, methods: Sequence[str], words: Mapping[str, str]) -> None:
    """Put the methods into the legend, and what each kind of mark is where there is more than one kind."""
    for method in methods:
        arm = METHODS.get(method, OTHER)
        ax.plot([], [], arm.marker, color=arm.color, label=words.get(method, legend_name(method)))
    looks = {"mean": ("o-", "#8c8c8c"), "paper": ("o", "white"), "values": ("|", "#8c8c8c")}
    drawn = [kind for kind in looks if kind in cells and cells[kind].notna().any()]
    for kind in drawn if drawn != ["mean"] else []:
        shape, face = looks[kind]
        ax.plot([], [], shape, color="#8c8c8c", markerfacecolor=face, label=words[kind])


def _interval(ax: Axes, cell: Mapping[Hashable, Any], height: float, scale: float) -> None:
    """Draw one mean with its interval, the single numbers behind it, and what a paper prints."""
    arm = METHODS.get(cell["method"], OTHER)
    singles = scale * np.array(cell.get("values", ()), dtype=np.float64)
    lane = np.full(len(singles), height)
    ax.plot(singles, lane, color=arm.color, alpha=0.2, linewidth=6, solid_capstyle="round", zorder=1)
    ax.plot(singles, lane, "|", color=arm.color, alpha=0.6, markersize=9)
    low, mean, high = (scale * cell[name] for name in ("low", "mean", "high"))
    ends = [[mean - low], [high - mean]] if np.isfinite(high - low) else None
    ax.errorbar(mean, height, xerr=ends, fmt=arm.marker, color=arm.color, capsize=3, markersize=6.5)
    printed = scale * cell.get("paper", math.nan)
    ax.plot(printed, height, arm.marker, color=arm.color, markerfacecolor="white", markersize=7)


def _sentence(cell: Mapping[Hashable, Any], scale: float, form: str, words: Mapping[str, str]) -> str:
    low, mean, high, printed = (
        f"{scale * cell.get(name, math.nan):{form}}" for name in ("low", "mean", "high", "paper")
    )
    interval = (
        f" ({low} to {high}), n = {cell['n']}" if np.isfinite(cell["high"] - cell["low"]) else ", one run"
    )
    parts = [mean + interval if np.isfinite(cell["mean"]) else "not run"]
    if np.isfinite(cell.get("paper", math.nan)):
        parts.append(f"{words['paper']} {printed}")
    if singles := cell.get("values", ()):
        ends = (f"{scale * end:{form}}" for end in (min(singles), max(singles)))
        parts.append(f"{words['values']} ({len(singles)}) from {' to '.join(ends)}")
    method = "" if cell["row"] == cell["method"] else f", {cell['method']}"
    return f"{cell['panel']}, {cell['row']}{method}: {'; '.join(parts)}."


def curve(ax: Axes, xs: Sequence[float] | pd.Series, rows: pd.DataFrame, method: str, **look: Any) -> None:
    """Draw the means of a method in percent as a line, with a band from three runs on: of two it hides everything."""
    arm = METHODS[method]
    ax.plot(xs, 100 * rows["mean"], linestyle=arm.line, marker=arm.marker, color=arm.color, **look)
    if rows["n"].min() >= 3:
        ax.fill_between(xs, 100 * rows["low"], 100 * rows["high"], color=arm.color, alpha=0.12, linewidth=0)


def curves(history: pd.DataFrame, *, quantity: str, caption: str = "") -> Drawing:
    """Return a quantity in percent after every epoch, mean over seeds, one panel for each place.

    ``history`` has the columns place, method (a key of :data:`METHODS`), epoch, mean, low, high (fractions) and n.
    """
    figure, parts = facets(history, "place", each=4.8, least=6.4, height=4.3)
    for ax, place, part in parts:
        for method, rows in part.groupby("method", sort=False):
            marked = max(1, len(rows) // 10)
            curve(ax, rows["epoch"], rows, str(method), markevery=marked, markersize=5, label=method)
        ax.set(title=place, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[0].set_ylabel(f"{quantity} (%)")
    finish(figure, "", 5)
    last = history.groupby(["place", "method"], sort=False).tail(1)
    said = told("{place}, {method}, epoch {epoch}: {percent:.1f} %.", last.assign(percent=100 * last["mean"]))
    return Drawing(figure, f"Lines, {quantity} after every epoch. {said}", history, caption)


def recall_by_label(recalls: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the recall of every label for every method, one panel for each imbalance type.

    ``recalls`` has the columns imbalance ("A" is called type A), label (as printed on the axis), train_count, method (a
    key of :data:`METHODS`), mean, low and high (fractions), in the order in which labels are drawn.
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
        upright: dict[str, Any] = {"fontsize": SMALL, "color": "#595959", "padding": 2, "rotation": 90}
        bars.bar_label(drawn, [f"{count:,}" for count in counts], **upright)
        for method, rows in part.groupby("method", sort=False):
            xs = [labels.index(label) for label in rows["label"]]
            curve(ax, xs, rows, str(method), markersize=4.5, label=legend_name(str(method)))
        ax.set(title=imbalance_name(kind), ylim=(0, 100), xlim=(-0.6, len(labels) - 0.4))
        ax.set_xticks(range(len(labels)), [])
        bars.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, map(str, labels))) > 2 else 0)
        bars.set(xlim=ax.get_xlim(), yticks=[], xlabel="label")
        bars.spines["left"].set_visible(False)
    for bars in below:
        bars.margins(y=0.7)
        bars.grid(visible=False)
    above[0].set_ylabel("recall (%)")
    below[0].set_ylabel("training\nimages")
    finish(figure, title, 2)
    extremes = []
    for (kind, method), rows in recalls.groupby(["imbalance", "method"], sort=False):
        ends = (rows.iloc[rows["mean"].argmin()], rows.iloc[rows["mean"].argmax()])
        said = " to ".join(f"{100 * end['mean']:.0f} % ({end['label']})" for end in ends)
        name = imbalance_name(str(kind))
        extremes.append(f"{name[0].upper()}{name[1:]}, {method}: from {said}.")
    shown = recalls[["imbalance", "label", "train_count", "method", "mean", "low", "high", "n"]]
    return Drawing(figure, f"Recall of each label, {title}. " + " ".join(extremes), shown, caption)
