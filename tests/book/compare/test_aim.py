"""What counts: shares of the classes, costs of mistakes, one class."""

import numpy as np
import pytest
from tinted_images import write_images
from typer.testing import CliRunner

from imbal_book.build.cli import app
from imbal_book.compare import compare
from imbal_book.compare.aim import aim_at
from imbal_book.heads.remedies import PLAIN

CLASSES = ["a", "b", "c"]
CONFUSION = np.array([[8, 2, 0], [5, 5, 0], [0, 0, 4]])


def aim(metric="balanced-accuracy", focus=None, priors=None, costs=None, measured=(True, True, True)):
    options = {"classes": CLASSES, "measured": np.array(measured), "known": [*CLASSES, "left out"]}
    return aim_at(metric, focus, priors, costs, **options)


def costs_in(tmp_path, text=",a,c,b\nb,10,0,0\na,0,4,1\nc,0,0,0\n"):
    (tmp_path / "costs.csv").write_text(text, encoding="utf-8")
    return tmp_path / "costs.csv"


def test_shares_weigh_the_recalls_and_are_what_adjustments_aim_at():
    found = aim("accuracy", priors={"c": 1, "a": 6, "b": 3, "left out": 9})
    np.testing.assert_allclose(found.shares, [0.6, 0.3, 0.1])
    assert found.score(CONFUSION) == pytest.approx(0.6 * 0.8 + 0.3 * 0.5 + 0.1)
    assert found.called == "accuracy where the classes have the given shares"
    assert aim().shares.tolist() == [1 / 3] * 3


def test_costs_are_read_by_the_names_of_the_classes_and_count_as_what_is_avoided(tmp_path):
    costs = costs_in(tmp_path)
    mean = (0.2 * 1 + 0.5 * 10 + 0) / 3
    assert aim(costs=costs).score(CONFUSION) == pytest.approx(1 - mean / 10)
    weighted = aim(costs=costs, priors={"a": 0.5, "b": 0.25, "c": 0.25})
    assert weighted.score(CONFUSION) == pytest.approx(1 - (0.5 * 0.2 + 0.25 * 5) / 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"focus": "bb"}, "did you mean 'b'"),
        ({"focus": "b", "measured": (True, False, True)}, "too few images to be measured"),
        ({"priors": dict.fromkeys(CLASSES, 1)}, "add --metric accuracy"),
        ({"metric": "accuracy", "priors": {"a": 1, "b": 1}}, "'c' has no share: add --prior 'c=SHARE'"),
        ({"metric": "accuracy", "priors": {"a": 1, "b": 1, "c": 0}}, "above 0, got 0"),
        ({"metric": "accuracy", "priors": {"d": 1}}, "unknown class 'd'"),
    ],
)
def test_what_cannot_be_aimed_at_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        aim(**options)


@pytest.mark.parametrize("text", ["", ",a,b\na,0,1\nb,1,0\n", ",a,b,c\na,0,x,1\nb,1,0,1\nc,1,1,0\n"])
def test_costs_of_another_form_are_refused(tmp_path, text):
    with pytest.raises(ValueError, match="cannot be read as costs"):
        aim(costs=costs_in(tmp_path, text))
    with pytest.raises(ValueError, match="at least 0, some above 0"):
        aim(costs=costs_in(tmp_path, ",a,b,c\na,0,0,0\nb,0,0,0\nc,0,0,0\n"))
    with pytest.raises(ValueError, match="leave --metric and --focus out"):
        aim("macro-f1", costs=costs_in(tmp_path))


def test_a_comparison_aims_at_the_shares_that_are_given(tmp_path, small_network):
    images = write_images(tmp_path / "images", {"a": 40, "b": 12}, noise=400)
    command = ["compare", str(images), "--out", str(tmp_path / "cli"), "--prior", "a=x"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "expected CLASS=SHARE" in refused.output
    quick = {"repeats": 3, "progress": False, "say": lambda text: None, "cache": tmp_path / "cache"}
    found = compare(images, tmp_path / "out", metric="accuracy", priors={"a": 0.98, "b": 0.02}, **quick)
    predicted = {name: tables.sum((0, 1)) for name, tables in found.measured.tables.items()}
    assert predicted["adjust-after"][1] <= predicted[PLAIN][1]
    assert "--prior a=0.98 --prior b=0.02" in found.facts["command"]
