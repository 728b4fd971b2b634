"""The same figure for a phone: its panels below one another, no wider than the screen."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecBase
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

#: Inches; a phone shows such a figure at about four fifths of its size.
NARROW = 4.4
#: A single panel wider than this many times `NARROW` keeps its width: what is written in it needs the room.
_MOST = 1.75
#: The mean width of a letter, as a share of the size of the font.
_LETTER = 0.55


def legend_below(figure: Figure, columns: int) -> None:
    """Write one legend below all panels, each entry once."""
    handles: dict[str, Artist] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False
    )


def narrowed(figure: Figure) -> Figure | None:
    """Return a copy of a figure for a narrow screen; None of one that is narrow already or cannot be made so.

    Panels keep their height and stand in as many columns as fit, mostly one: row after row, or column after column
    where each row has a vertical axis of its own.
    """
    (width, height), grid = figure.get_size_inches(), _grid(figure)
    if grid is None or width <= NARROW or (grid.ncols == 1 and width > _MOST * NARROW):
        return None
    copy: Figure = pickle.loads(pickle.dumps(figure))
    panels = [ax for ax in copy.axes if ax.get_subplotspec()]
    old, columns = grid.ncols, max(1, round(NARROW * grid.ncols / width))
    together = _pairs(panels, old)
    for place, ax in enumerate(panels):
        ax.set_title(ax.get_title() or ("" if together else panels[place % old].get_title()))
        ax.set_ylabel(ax.get_ylabel() or panels[place - place % old].get_ylabel())
    order = list(range(len(panels)))
    if together and columns == 1:
        order.sort(key=lambda place: (place % old, place))
    ratios = np.array(grid.get_height_ratios(), dtype=np.float64)
    heights = height * (ratios / ratios.sum())[[place // old for place in order]][::columns]
    _place(copy, [panels[place] for place in order], columns, heights)
    copy.set_size_inches(NARROW, heights.sum())
    _fit_writing(copy, panels, NARROW / columns)
    copy.set_layout_engine("constrained")
    return copy


def _grid(figure: Figure) -> GridSpecBase | None:
    """Return the grid of a figure's panels, if there is one."""
    found = (ax.get_subplotspec() for ax in figure.axes)
    return next((place.get_gridspec() for place in found if place is not None), None)


def _pairs(panels: Sequence[Axes], columns: int) -> bool:
    """Return whether panels share their vertical axis with their row alone, so that a column belongs together."""
    shared = panels[0].get_shared_y_axes()
    below = panels[columns : columns + 1]
    return (
        columns > 1
        and shared.joined(panels[0], panels[1])
        and not all(shared.joined(panels[0], ax) for ax in below)
    )


def _place(figure: Figure, panels: Sequence[Axes], columns: int, heights: np.ndarray) -> None:
    """Move panels to a grid of so many columns; what is the same along a row or a column is written once."""
    grid = GridSpec(len(heights), columns, figure=figure, height_ratios=list(heights))
    below = {ax.get_xlabel() for ax in panels} - {""}
    for place, ax in enumerate(panels):
        ax.set_subplotspec(grid[place // columns, place % columns])
        beside = place % columns > 0 and ax.get_shared_y_axes().joined(ax, panels[place - 1])
        ax.tick_params(labelleft=not beside)
        if beside:
            ax.set_ylabel("")
        if len(below) == 1:
            ax.set_xlabel(next(iter(below)) if place + columns >= len(panels) else "")


def _fit_writing(figure: Figure, panels: Sequence[Axes], each: float) -> None:
    """Break titles and labels that are wider than the figure or their panel, inches, and the legend likewise."""
    for text, room in [(text, figure.get_figwidth()) for text in figure.texts] + [
        (text, each) for ax in panels for text in (ax.title, ax.xaxis.label)
    ]:
        text.set_text(_broken(text.get_text(), text, room))
    for ax in panels:
        names = ax.get_yticklabels()
        if isinstance(
            ax.yaxis.get_major_formatter(), FuncFormatter
        ):  # rows with names, which would take all room
            lines = [_broken(name.get_text(), name, NARROW / 2) for name in names]
            ax.set_yticks(ax.get_yticks(), lines)
    for legend in figure.legends[:]:
        legend.remove()
        longest = max((_inches(text, len(text.get_text())) for text in legend.get_texts()), default=NARROW)
        legend_below(figure, max(1, int(NARROW / (0.5 + longest))))


def _inches(text: Text, letters: int) -> float:
    return _LETTER * float(text.get_fontsize()) / 72 * letters


def _broken(words: str, look: Text, room: float) -> str:
    """Return words in lines that are no wider than so many inches, in the size that a text has."""
    return "\n".join(textwrap.fill(line, int(room / _inches(look, 1))) for line in words.split("\n"))
