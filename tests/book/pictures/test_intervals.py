"""The interval plot: what is drawn is what the frame holds, in the arm's colour, and the words say the same."""

import math

import numpy as np
import pandas as pd
import pytest

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import intervals

NAN, INF = math.nan, math.inf
CELLS = pd.DataFrame(
    [
        ("accuracy (%)", "here", "CE", 70.0, 69.0, 71.0, 5),
        ("accuracy (%)", "here", "COT", 72.0, 70.5, 73.5, 5),
        ("accuracy (%)", "there", "CE", 60.0, -INF, INF, 1),
        ("accuracy minus CE (points)", "here", "COT", 2.0, -0.5, 4.5, 5),
    ],
    columns=["panel", "row", "method", "mean", "low", "high", "n"],
)
ALONE = pd.DataFrame(
    [
        ("type A", "D", "D", 0.74, 0.73, 0.75, 3, 0.779, (0.735, 0.745, 0.74)),
        ("type A", "C", "C", NAN, NAN, NAN, 0, 0.824, ()),
    ],
    columns=["panel", "row", "method", "mean", "low", "high", "n", "paper", "values"],
)


def drawn(ax, method, face=None):
    """Return the points of an arm as (x, y); ``face`` is what its marks are filled with."""
    arm = METHODS[method]
    return [
        (float(x), float(y))
        for line in ax.lines
        if line.get_marker() == arm.marker and line.get_color() == arm.color
        and line.get_markerfacecolor() == (face or arm.color)
        for x, y in zip(*line.get_data(), strict=True)
        if np.isfinite(x)
    ]  # fmt: skip


def bars(ax):
    return [segment[:, 0].tolist() for bar in ax.collections for segment in bar.get_segments()]


def legend(drawing):
    return [text.get_text() for each in drawing.figure.legends for text in each.get_texts()]


def test_means_stand_in_their_panel_and_row_each_method_in_its_own_lane():
    drawing = intervals(CELLS, title="Arms", caption="source")
    left, right = drawing.figure.axes
    (here, there), (cot,) = drawn(left, "CE"), drawn(left, "COT")
    assert (here[0], there[0], cot[0]) == (70.0, 60.0, 72.0)
    assert here[1] < cot[1] < there[1] and left.get_ylim()[0] > left.get_ylim()[1], "the first row is on top"
    assert bars(left) == [[69.0, 71.0], [70.5, 73.5]], "one run has no interval"
    assert [text.get_text() for text in left.get_yticklabels()] == ["here", "there"]
    assert drawing.caption == "source" and legend(drawing) == [
        "CE: cross entropy",
        "COT: two updates per batch",
    ]
    pd.testing.assert_frame_equal(drawing.table, CELLS)


def test_a_panel_is_named_by_its_axis_or_else_above_it_and_only_a_difference_has_a_line_at_zero():
    axes = intervals(CELLS).figure.axes
    assert [ax.get_xlabel() for ax in axes] == ["accuracy (%)", "accuracy\nminus CE (points)"]
    zero = [any(list(line.get_xdata()) == [0, 0] for line in ax.lines) for ax in axes]
    assert zero == [False, True] and not any(ax.get_title() for ax in axes)
    (ax,) = intervals(ALONE, axis="accuracy (%)", limits=(-3, 103), scale=100).figure.axes
    assert (ax.get_title(), ax.get_xlabel(), ax.get_xlim()) == ("type A", "accuracy (%)", (-3, 103))


def test_the_words_hold_every_number_and_what_was_not_run():
    alt = intervals(CELLS, title="Arms").alt
    assert "accuracy minus CE (points), here, COT: 2.00 (-0.50 to 4.50), n = 5." in alt
    assert "accuracy (%), there, CE: 60.00, one run." in alt
    alt = intervals(ALONE, axis="accuracy", scale=100, form=".1f").alt
    assert "type A, D: 74.0 (73.0 to 75.0), n = 3; the paper 77.9; single runs (3) from 73.5 to 74.5." in alt
    assert "type A, C: not run; the paper 82.4." in alt and "nan" not in alt


def test_rows_that_are_the_methods_need_no_legend_and_stand_in_the_middle():
    drawing = intervals(CELLS.assign(row=CELLS["method"]))
    assert legend(drawing) == []
    assert [y for _, y in drawn(drawing.figure.axes[0], "CE")] == [0, 0]


def test_the_papers_number_is_hollow_runs_are_ticks_and_the_legend_says_so():
    drawing = intervals(ALONE, axis="accuracy (%)", scale=100, key={"values": "each run"})
    (ax,) = drawing.figure.axes
    for method, printed in (("D", 77.9), ("C", 82.4)):
        assert [x for x, _ in drawn(ax, method, "white")] == [pytest.approx(printed)]
    (ticks,) = [line for line in ax.lines if line.get_marker() == "|" and len(line.get_xdata()) == 3]
    assert ticks.get_xdata() == pytest.approx([73.5, 74.5, 74])
    assert legend(drawing) == ["here, with 95 % interval", "the paper", "each run"]
    assert drawing.table["values"].tolist() == ["0.735, 0.745, 0.740", ""]
    other = intervals(ALONE, axis="accuracy", key={"paper": "others"}).table
    assert "paper" not in other and other["others"].tolist() == [0.779, 0.824]


@pytest.mark.parametrize(
    ("place", "reach"), [({}, (-0.5, 1.5)), ({"panel": "type A", "row": "C"}, (0.58, 1.42))]
)
def test_a_dashed_mark_stands_in_its_row_or_in_all(place, reach):
    marks = pd.DataFrame([{"method": "LA", "value": 0.8, **place}])
    drawing = intervals(ALONE, axis="accuracy", scale=100, marks=marks)
    (line,) = [line for line in drawing.figure.axes[0].lines if line.get_color() == METHODS["LA"].color]
    np.testing.assert_allclose(line.get_xdata(), [80, 80])
    assert tuple(line.get_ydata()) == pytest.approx(reach)
    assert drawing.alt.endswith(f" Dashed: {legend(drawing)[-1]}.")
    assert legend(drawing)[-1] == "LA: softmax layer, logits adjusted"
    named = intervals(ALONE, axis="accuracy", marks=marks.assign(label="adjusted"))
    assert legend(named)[-1] == "adjusted"
    elsewhere = intervals(ALONE, axis="accuracy", marks=marks.assign(panel="type B"))
    assert not [line for line in elsewhere.figure.axes[0].lines if line.get_color() == METHODS["LA"].color]
