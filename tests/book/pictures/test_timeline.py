"""The time line of a sign: every state on the lane of its factor, from its date to its end."""

import matplotlib.dates as dates
import pandas as pd
import pytest

from imbal_book.evidence.papers import load_paper
from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.timeline import sign_timeline

HISTORY = pd.DataFrame(
    [
        ("aaa", "2020-01-01", "2020-03-01", -5, "maximises"),
        ("bbb", "2020-03-01", "2020-06-01", 0, "plain"),
        ("ccc", "2020-06-01", "HEAD", 1, "minimises"),
    ],
    columns=["commit", "date", "until", "factor", "effect"],
)
VERSIONS = pd.DataFrame([("arXiv v1", "2020-02-01")], columns=["version", "date"])


def days(*texts):
    return pytest.approx([dates.date2num(pd.Timestamp(text)) for text in texts])


@pytest.fixture(scope="module")
def drawing():
    return sign_timeline(HISTORY, VERSIONS, caption="read")


def test_every_state_lies_on_the_lane_of_its_sign_in_the_colour_of_its_arm(drawing):
    (ax,) = drawing.figure.axes
    labels = dict(
        zip(ax.get_yticks(), (text.get_text().split(",")[0] for text in ax.get_yticklabels()), strict=True)
    )
    assert labels == {2: "maximises the entropy", 1: "plain cross entropy", 0: "minimises the entropy"}
    bars = {
        line.get_ydata()[0]: line
        for line in ax.lines
        if line.get_linewidth() == 7 and len(line.get_xdata()) == 2
    }
    for height, arm in ((2, "CCE (paper)"), (1, "CE"), (0, "CCE (released)")):
        assert bars[height].get_color() == METHODS[arm][1]
    assert dates.date2num(bars[2].get_xdata()) == days("2020-01-01", "2020-03-01")
    assert dates.date2num(bars[1].get_xdata()) == days("2020-03-01", "2020-06-01")
    assert dates.date2num(bars[0].get_xdata()[0]) == days("2020-06-01").expected[0]


def test_a_state_that_lasts_ends_in_an_arrow_and_each_version_is_a_line(drawing):
    (ax,) = drawing.figure.axes
    (arrow,) = (line for line in ax.lines if line.get_marker() == ">")
    assert arrow.get_ydata()[0] == 0
    (version,) = (line for line in ax.lines if line.get_linestyle() == "--")
    assert list(version.get_xdata()) == days("2020-02-01", "2020-02-01")
    texts = [text.get_text() for text in ax.texts]
    assert {"aaa", "bbb", "ccc", "HEAD", "arXiv\nv1"} == set(texts)


def test_the_words_tell_every_state_and_version(drawing):
    assert "From 2020-01-01 to 2020-03-01 (commit aaa): maximises." in drawing.alt
    assert "From 2020-06-01 to HEAD (commit ccc): minimises." in drawing.alt
    assert drawing.alt.endswith("Versions of the paper: arXiv v1 on 2020-02-01.")
    assert drawing.caption == "read" and drawing.table is HISTORY


def test_the_history_of_the_papers_file_is_drawn():
    tables = load_paper("kim_2021").tables
    found = sign_timeline(tables["sign history"].frame(), tables["versions"].frame())
    assert found.alt.count("(commit ") == 6 and found.alt.count("arXiv v") == 4
    assert found.svg().startswith(b"<?xml")
