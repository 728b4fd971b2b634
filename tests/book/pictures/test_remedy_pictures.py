import pandas as pd
from matplotlib.text import Text

from imbal_book.pictures.remedy_pictures import forest, ranks, trade

METHODS = ["plain, logit adjusted", "class weights", "Focal", "COT"]


def test_a_forest_has_a_row_for_each_remedy_and_a_panel_for_each_cell():
    cells = pd.DataFrame(
        [
            {"panel": panel, "method": m, "mean": 0.01 * i, "low": 0.01 * i - 0.005, "high": 0.01 * i + 0.005, "n": 3}
            for panel in ("one\ncell", "another\ncell")
            for i, m in enumerate(METHODS)
        ]
    )  # fmt: skip
    drawing = forest(cells, axis="change", title="What changes")
    axes = drawing.figure.axes
    assert [ax.get_title() for ax in axes] == ["one\ncell", "another\ncell"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == METHODS
    assert axes[0].get_ylim()[0] > axes[0].get_ylim()[1], "the first remedy is on top"
    drawn = [
        line.get_xdata()[0] for line in axes[0].get_lines() if line.get_marker() not in ("None", "", None)
    ]
    assert drawn == [0.0, 1.0, 2.0, 3.0]
    assert (
        "one, cell: +0.0 (plain, logit adjusted) to +3.0 (COT)." in drawing.alt and b"<svg" in drawing.svg()
    )


def test_every_dot_of_a_trade_is_named_inside_the_frame():
    points = pd.DataFrame(
        {"method": METHODS, "across": [-0.02, -0.021, 0.0, 0.0], "up": [0.1, 0.101, 0.0, 0.001]}
    )
    drawing = trade(points, across="common", up="rare")
    (ax,) = drawing.figure.axes
    assert sorted(text.get_text() for text in ax.texts) == sorted(METHODS)
    drawing.figure.draw_without_rendering()
    frame = ax.get_window_extent()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the line that leads to the dot
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert "class weights: rare +10.1, common -2.1." in drawing.alt


def test_two_orders_are_drawn_with_both_intervals():
    row = {"x": 0.01, "x_low": 0.0, "x_high": 0.02, "y": 0.03, "y_low": 0.01, "y_high": 0.05}
    points = pd.DataFrame([{"panel": "a network", "method": m, **row} for m in METHODS[:2]])
    points.loc[1, "x"] = 0.015
    drawing = ranks(points, across="here", up="there")
    (ax,) = drawing.figure.axes
    assert ax.get_title() == "a network" and len(ax.texts) == 2
    assert "class weights: +1.5 and +3.0." in drawing.alt
