"""Figures: words and table beside every picture, the same bytes for the same data, no state left behind."""

import html
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import WIDEST, Drawing, curves, intervals, panels, recall_by_label
from imbal_book.studies.complement_cross_entropy import POST_HOC
from imbal_book.studies.grids import final_batch_norm
from imbal_book.studies.grids.complement_cross_entropy import ARMS

#: What moves the boundary of a plain network, before or after training.
SHIFTS = {"plain, logit adjusted", "plain, threshold moved", "plain, balanced threshold", "logit adjustment"}


def recalls():
    rows = [
        (kind, str(label), 100 * (label + 1), method, mean, mean - 0.02, mean + 0.02, 3)
        for kind in "AB"
        for method, shift in (("D", 0.0), ("F", 0.1))
        for label, mean in enumerate([0.31 + shift, 0.52 + shift, 0.73 + shift])
    ]
    return pd.DataFrame(
        rows, columns=["imbalance", "label", "train_count", "method", "mean", "low", "high", "n"]
    )


def draw_intervals(**options):
    rows = [("A", "D", "D", 0.7431, 0.7312, 0.7553, 10), ("B", "C", "C", 0.6604, 0.6501, 0.6707, 10)]
    columns = ["panel", "row", "method", "mean", "low", "high", "n"]
    return intervals(pd.DataFrame(rows, columns=columns), **options)


def draw_recalls(**options):
    return recall_by_label(recalls(), **options)


DRAWINGS = [draw_intervals, draw_recalls]


def test_alt_text_of_recalls_names_the_worst_and_the_best_label():
    alt = draw_recalls().alt
    for kind in "AB":
        assert f"Type {kind}, D: from 31 % (0) to 73 % (2)." in alt
        assert f"Type {kind}, F: from 41 % (0) to 83 % (2)." in alt


@pytest.mark.parametrize("draw", DRAWINGS)
def test_the_same_data_give_the_same_bytes(draw):
    first = draw().svg()
    assert first == draw().svg()
    drawing = draw()
    assert drawing.svg() == drawing.svg() == first
    assert first.lstrip().startswith(b"<?xml") and b"</svg>" in first
    assert b"<dc:date>" not in first


@pytest.mark.parametrize("draw", DRAWINGS)
def test_html_holds_the_escaped_words_the_picture_and_the_numbers(draw):
    text = draw(title='"A" & <B>', caption="seeds < 10 & more")._repr_html_()
    assert '"A" & <B>' not in text and "seeds < 10" not in text
    (alt,) = re.findall(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+">', text)
    assert '"A" & <B>' in html.unescape(alt)
    assert "<figcaption>seeds &lt; 10 &amp; more</figcaption>" in text
    assert text.count("<tr") == 1 + len(draw().table)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_nothing_is_left_in_pyplot_or_its_settings(draw):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    draw().svg()
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_a_remedy_keeps_its_colour_and_remedies_differ():
    families = [
        {"D", "OD", "CE", "plain", "CE imbalanced", "all test images"},
        {"C", "OC"},
        {"F", "OF", "CE, category centers", "category centers", "true positives"},
        {
            "LA",
            "CE, logit adjusted",
            "Logit adjustment",
            "Balanced softmax",
            *SHIFTS,
            "false negatives",
            *(f"{name}, logit adjusted" for name in ("class weights", "CCE (paper)", "Focal")),
        },
        {"CE balanced"},
        {"CCE (paper)"},
        {"CCE (released)"},
        {"COT"},
        {
            "Focal",
            "Class-balanced",
            "LDAM-DRW",
            "LDAM",
            "weighted loss",
            "ASL",
            "class weights",
            "weight balancing",
        },
        {
            "CE, tau-normalised",
            "plain, tau-normalised",
            "CE, classifier re-trained",
            "cosine classifier",
            "tuned weight decay",
        },
        {"scikit-learn, balanced", "SMOTE", "balanced forest"},
        {name for name in METHODS if name.startswith("final BN")},
        {"plain, temperature", "label smoothing"},
    ]
    assert set().union(*families) == set(METHODS)
    colours = [{METHODS[method][1] for method in family} for family in families]
    assert all(len(shared) == 1 for shared in colours)
    assert len(set().union(*colours)) == len(families)
    same = {
        "CE": "D",
        "CE imbalanced": "D",
        "all test images": "D",
        "plain": "D",
        "CE, category centers": "F",
        "category centers": "F",
        "plain, tau-normalised": "CE, tau-normalised",
        "CE, logit adjusted": "LA",
        "plain, logit adjusted": "LA",
        "logit adjustment": "Logit adjustment",
    }
    styles = {METHODS[method][1:] for method in METHODS if method not in same}
    assert len(styles) == len(METHODS) - len(same), "one of a family differs by line or marker"
    assert all(METHODS[name][1:] == METHODS[twin][1:] for name, twin in same.items())


def test_arms_of_one_study_differ_in_their_markers():
    readouts = ("plain, temperature", "final BN, removed at inference")
    mechanism = {*final_batch_norm.ARMS, *final_batch_norm.MECHANISM_ARMS, *SHIFTS, *readouts}
    for study in (("D", "C", "F", "LA"), ARMS, POST_HOC, mechanism):
        assert len({METHODS[method][2] for method in study}) == len(study)


def test_an_imbalance_of_zhang_is_called_a_type_and_others_keep_their_name():
    renamed = recalls().replace({"imbalance": {"B": "step 10"}})
    drawing = recall_by_label(renamed)
    assert [ax.get_title() for ax in drawing.figure.axes if ax.get_title()] == ["type A", "step 10"]
    assert "Type A, D: from" in drawing.alt and "Step 10, D: from" in drawing.alt


def test_class_sizes_stand_in_their_own_panel_below_the_recalls_where_no_curve_covers_them():
    above, below = np.reshape(draw_recalls().figure.axes, (2, 2))
    for upper, lower in zip(above, below, strict=True):
        assert not upper.patches and not lower.lines
        assert [text.get_text() for text in lower.texts] == ["100", "200", "300"]
        assert [bar.get_height() for bar in lower.patches] == [100, 200, 300]
        assert upper.get_xlim() == lower.get_xlim(), "a bar stands below its label's recall"
        assert upper.get_position().y0 >= lower.get_position().y1


def test_every_label_of_a_legend_is_there_once():
    (legend,) = draw_recalls().figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["D: softmax layer", "F: centers, fully connected"]


def test_panels_share_the_vertical_axis_and_are_not_known_to_pyplot():
    figure, axes = panels(3, width=6, height=2)
    axes[0].set_ylim(0, 7)
    assert len(axes) == 3 and axes[2].get_ylim() == (0, 7)
    assert not hasattr(figure, "number")


def test_a_drawing_without_caption_is_still_shown():
    figure, (ax,) = panels(1, width=2, height=2)
    ax.plot([0, 1])
    text = Drawing(figure, "a line", pd.DataFrame({"x": [0, 1]}))._repr_html_()
    assert '<img alt="a line"' in text and "<details" in text


def test_the_data_table_leaves_a_bound_empty_that_is_not_a_number():
    rows = pd.DataFrame({"low": [-np.inf, 0.25], "high": [np.inf, 0.5], "paper": [np.nan, 0.75]})
    figure, _ = panels(1, width=2, height=2)
    page = Drawing(figure, "two intervals", rows)._repr_html_()
    assert re.findall(r"<td>(.*?)</td>", page) == ["", "", "", "0.250", "0.500", "0.750"]


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


def test_an_arm_without_a_mark_is_named_with_where_it_gets_one():
    history = pd.DataFrame(
        [("here", "CCE (papre)", 1, 0.5, 0.4, 0.6, 3)],
        columns=["place", "method", "epoch", "mean", "low", "high", "n"],
    )
    with pytest.raises(
        ValueError, match=r"unknown arm 'CCE \(papre\)': did you mean 'CCE \(paper\)'.*arms\.py"
    ):
        curves(history, quantity="accuracy")
    assert METHODS.get("CCE (papre)") is None


@pytest.mark.parametrize(
    ("alt", "shown"),
    [
        ("One. Two.", "One. Two."),
        (f"First, 2.5 %. {'word ' * 60}end.", "First, 2.5 %. The table below has the rest."),
        (" ".join(["Nine words stand in this one sentence of mine."] * 7), 54 // 9 * 9 + 6),
        ("word " * 70, 60),
    ],
)
def test_a_page_shows_whole_sentences_of_the_words_and_at_most_sixty(alt, shown):
    figure, _ = panels(1, width=2, height=2)
    page = Drawing(figure, alt, pd.DataFrame({"x": [1]}))._repr_html_()
    (found,) = re.findall(r'<img alt="([^"]*)"', page)
    assert (found if isinstance(shown, str) else len(found.split())) == shown and len(found.split()) <= 60


def test_what_is_written_in_a_picture_of_many_panels_is_eleven_pixels_on_a_page():
    cells = pd.DataFrame(
        [
            {"panel": panel, "row": "a row", "method": "CE", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}
            for panel in ("accuracy (%)", "recall (%)", "precision (%)", "F1 (%)", "confidence (%)")
        ]
    )
    drawing = intervals(cells)
    drawing.svg()
    axes = drawing.figure.axes
    assert len(axes) == 5 and {round(ax.get_position().x0, 2) for ax in axes} == {
        round(ax.get_position().x0, 2) for ax in axes[:2]
    }, "two columns, and no panel without a quantity"
    shown = 750 / (96 * drawing.figure.get_figwidth())  # of its size on a desktop's page
    assert drawing.smallest_text() * 96 / 72 * min(1, shown) >= 11
    drawing.figure.text(0.5, 0.5, "small", fontsize=6)
    assert 'data-text="6pt"' in drawing._repr_html_(), "the page says what its test has to look at"


def test_a_figure_is_never_wider_than_a_page_can_show():
    figure, _ = panels(6, width=24, height=2)
    assert figure.get_figwidth() == WIDEST
