"""Figures of arms: what is drawn is what the frame holds, and the words say the same."""

import numpy as np
import pandas as pd
import pytest

from imbal_book.pictures.arm_figures import curves, dots, published_and_here
from imbal_book.pictures.figures import METHODS

CELLS = pd.DataFrame(
    [
        ("accuracy (%)", "here", "CE", 70.0, 69.0, 71.0, 5),
        ("accuracy (%)", "here", "COT", 72.0, 70.5, 73.5, 5),
        ("accuracy (%)", "there", "CE", 60.0, -np.inf, np.inf, 1),
        ("accuracy minus CE (points)", "here", "COT", 2.0, -0.5, 4.5, 5),
    ],
    columns=["panel", "row", "method", "mean", "low", "high", "n"],
)


def marks(ax, color):
    """Return the drawn points of a colour as (x, y)."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in ax.lines
        if line.get_color() == color and line.get_marker() not in ("None", None, "")
    ]


def test_dots_stand_at_their_means_each_method_in_its_own_line_of_the_row():
    drawing = dots(CELLS, title="Arms", caption="source")
    left, right = drawing.figure.axes
    (here, there), (cot,) = (marks(left, METHODS[name][1]) for name in ("CE", "COT"))
    assert (here[0], there[0], cot[0]) == (70.0, 60.0, 72.0)
    assert here[1] < cot[1] < there[1], "CE above COT, the second row below both"
    assert [text.get_text() for text in left.get_yticklabels()] == ["here", "there"]
    bars = [tuple(line.get_xdata()) for line in left.lines if line.get_linewidth() == 1.8]
    assert bars == [(69.0, 71.0), (70.5, 73.5)], "one seed has no interval"
    assert drawing.caption == "source"


def test_only_a_difference_has_a_line_at_zero():
    left, right = dots(CELLS).figure.axes
    assert [any(list(line.get_xdata()) == [0, 0] for line in ax.lines) for ax in (left, right)] == [
        False,
        True,
    ]
    assert right.get_xlabel() == "accuracy\nminus CE (points)"


def test_the_words_of_dots_hold_every_number():
    alt = dots(CELLS, title="Arms").alt
    assert "here, COT, accuracy minus CE (points): 2.00 (-0.50 to 4.50), n = 5." in alt
    assert "there, CE, accuracy (%): 60.00, one seed." in alt


def test_rows_that_are_the_methods_need_no_legend():
    cells = CELLS.assign(row=CELLS["method"])
    assert dots(cells).figure.legends and not dots(cells, legend=False).figure.legends
    ax = dots(cells, legend=False).figure.axes[0]
    assert [y for _, y in marks(ax, METHODS["CE"][1])] == [0, 0]


def history(seeds):
    rows = [
        ("here", method, epoch, level + epoch / 100, level, level + 0.1, seeds)
        for method, level in (("CE", 0.5), ("COT", 0.6))
        for epoch in (1, 2, 3)
    ]
    return pd.DataFrame(rows, columns=["place", "method", "epoch", "mean", "low", "high", "n"])


@pytest.mark.parametrize(("seeds", "bands"), [(2, 0), (3, 2)])
def test_curves_are_in_percent_with_bands_from_three_seeds_on(seeds, bands):
    drawing = curves(history(seeds), quantity="test accuracy")
    (ax,) = drawing.figure.axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [51, 52, 53])
    assert len(ax.collections) == bands
    assert (ax.get_title(), ax.get_ylabel()) == ("here", "test accuracy (%)")
    assert drawing.alt.startswith("Lines, test accuracy after every epoch. here, CE, epoch 3: 53.0 %.")


def test_published_numbers_are_ticks_and_ours_stands_among_them_with_both_epochs():
    published = pd.DataFrame(
        [("C10", "CE", 0.70), ("C10", "CE", 0.73), ("C10", "cRT", 0.75)], columns=["place", "method", "value"]
    )
    here = pd.DataFrame(
        [("C10", "CE", 0.71, 0.70, 0.72, 0.715)], columns=["place", "method", "last", "low", "high", "best"]
    )
    drawing = published_and_here(published, here, title="spread")
    (ax,) = drawing.figure.axes
    ticks = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "|"]
    assert ticks == [pytest.approx([70, 73]), [75.0]]
    ours = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert ours == pytest.approx([71, 71.5])
    assert "C10, CE: published 70.0 to 73.0 % (2 results), here 71.0 %." in drawing.alt
    alone = published_and_here(published, here.iloc[:0])
    assert "here" not in alone.alt and len(alone.figure.axes[0].lines) == 4
