"""Figures on a phone: panels below one another, and nothing that they shared is lost."""

import re

import numpy as np
import pandas as pd
import pytest

from imbal_book.pictures.figures import Drawing, finish, panels
from imbal_book.pictures.narrow import NARROW, narrowed


def draw(columns, *, rows=1, width=9.0, share_y=True, **options):
    figure, axes = panels(columns, rows=rows, width=width, height=3.0 * rows, share_y=share_y, **options)
    for place, ax in enumerate(axes):
        ax.plot([0, 1], [place, 1], label="a remedy with a long name in the legend")
        ax.plot([1, 0], [place, 1], label="another one")
        ax.set(title=f"panel {place}", xlabel="epoch")
    axes[0].set_ylabel("recall (%)")
    finish(figure, "A title that is much too long for a screen as narrow as that of a phone is", 2)
    return figure


def places(figure):
    """Return the panels of a settled figure, by title, as (left, top) in inches."""
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    boxes = {ax.get_title(): ax.get_position() for ax in figure.axes}
    return {
        title: (round(box.x0 * width, 1), round((1 - box.y1) * height, 1)) for title, box in boxes.items()
    }


def test_panels_of_a_wide_figure_stand_below_one_another_and_none_is_lost():
    wide = draw(3)
    narrow = narrowed(wide)
    found = places(narrow)
    assert list(found) == ["panel 0", "panel 1", "panel 2"] and len({left for left, _ in found.values()}) == 1
    tops = [top for _, top in found.values()]
    assert tops == sorted(tops) and narrow.get_figwidth() == NARROW and narrow.get_figheight() == 9
    assert [ax.get_ylabel() for ax in narrow.axes] == ["recall (%)"] * 3
    assert all(ax.yaxis.get_tick_params()["labelleft"] for ax in narrow.axes)
    assert [ax.get_xlabel() for ax in narrow.axes] == ["", "", "epoch"]
    assert len({left for left, _ in places(wide).values()}) == 3, "the wide one stays as it is"


def test_the_title_and_the_legend_fit_into_the_narrow_figure():
    narrow = narrowed(draw(2))
    narrow.draw_without_rendering()
    for artist in (narrow.texts[0], narrow.legends[0]):
        assert artist.get_window_extent().width <= narrow.bbox.width
    assert len(narrow.legends) == 1 and len(narrow.legends[0].get_texts()) == 2


def test_a_column_stays_together_where_each_row_has_an_axis_of_its_own():
    figure = draw(2, rows=2, share_y="row", height_ratios=(3, 1))
    found = sorted(places(narrowed(figure)).items(), key=lambda item: item[1][1])
    assert [title for title, _ in found] == ["panel 0", "panel 2", "panel 1", "panel 3"]


def test_narrow_panels_stay_in_as_many_columns_as_fit():
    found = places(narrowed(draw(4, rows=2)))
    assert len({left for left, _ in found.values()}) == 2 and len({top for _, top in found.values()}) == 4


@pytest.mark.parametrize(("columns", "width"), [(1, 9.0), (1, 4.0), (2, 4.0)])
def test_a_figure_without_a_narrow_form_has_none(columns, width):
    figure = draw(columns, width=width)
    assert narrowed(figure) is None
    assert "<source" not in Drawing(figure, "lines", pd.DataFrame())._repr_html_()


def test_a_page_gets_both_pictures_the_same_each_time():
    drawing = Drawing(draw(2), "lines", pd.DataFrame({"x": np.arange(2)}))
    page = drawing._repr_html_()
    assert page == drawing._repr_html_()
    narrow, wide = re.findall(r'(?:srcset|src)="(data:image/svg\+xml;base64,[^"]+)"', page)
    assert narrow != wide and page.index("<source media=") < page.index("<img ")
    drawn = {name: int(px) for name, px in re.findall(r"--(\w+): (\d+)px", page)}
    assert drawn["narrow"] <= 1.1 * 96 * NARROW < drawn["drawn"]


def test_long_names_of_rows_leave_a_third_of_the_width_to_what_is_drawn():
    figure, axes = panels(2, width=8.0, height=2.0)
    for ax in axes:
        ax.set_yticks([0, 1], ["CIFAR-10, exponential 100, small network", "CIFAR-10, step 10"])
    narrow = narrowed(figure)
    narrow.draw_without_rendering()
    assert all(ax.get_position().width > 1 / 3 for ax in narrow.axes)
    names = [label.get_text() for label in narrow.axes[1].get_yticklabels()]
    assert " ".join(names[0].split()) == "CIFAR-10, exponential 100, small network" and "\n" in names[0]
