"""The verdicts on the final batch norm, each label from values that force it."""

import numpy as np
import pandas as pd
import pytest
from leaf_frames import LITE, PLANTS, rows

from imbal_book.chapters.readings import headline, verdicts
from imbal_book.evidence.papers import load_paper


@pytest.fixture(scope="module")
def paper():
    return load_paper("kocaman_2020")


def gains(values, metric="f1_minority", a="final BN", b="plain", datasets=PLANTS, **options):
    """Return rows in which a is above b by these gains, one for each plant, with a spread of 0.1 points."""
    noise = 0.001 * np.array([-1, 1, 0, 1, -1])
    return pd.concat(
        rows({b: [0.3] * 5, a: 0.3 + gain + noise}, metric=metric, dataset=dataset, **options)
        for gain, dataset in zip(values, datasets, strict=True)
    )


def verdict_of(paper, claim, frame):
    return headline(verdicts(paper, frame))[claim]


EACH = [
    ((0.4, 0.5, 0.6), "holds"),
    ((0.4, 0.5, -0.1), "fails"),
    ((0.4, 0.5, 0.0), "undecided"),
    ((0.0002, -0.0002, 0.0), "undecided"),
]
BEST, LOWEST = "final BN, epoch of best F1", "final BN, epoch of lowest loss"


@pytest.mark.parametrize(("values", "label"), EACH)
@pytest.mark.parametrize(
    ("claim", "metrics", "a", "b"),
    [
        ("A-1", ["f1_minority"], "final BN", "plain"),
        ("A-2b", ["recall_minority", "accuracy"], "final BN", "plain"),
        ("A-3", ["f1_minority"], BEST, LOWEST),
    ],
)
def test_the_papers_claims_get_each_verdict(paper, claim, metrics, a, b, values, label):
    found = verdict_of(paper, claim, pd.concat([gains(values, metric, a, b) for metric in metrics]))
    assert (found.label, found.form, found.n, found.grade) == (label, LITE, 5, "stand-in")


def test_recall_alone_does_not_lower_the_error(paper):
    """To call every leaf diseased would win it, at the price of accuracy."""
    frame = pd.concat([gains([0.5] * 3, "recall_minority"), gains([-0.2] * 3, "accuracy")])
    assert verdict_of(paper, "A-2b", frame).label == "fails"


@pytest.mark.parametrize("sooner", [1.0, -1.0])
def test_training_time_counts_signs_and_five_of_five_are_few_for_three_plants(paper, sooner):
    found = verdict_of(paper, "A-2a", gains([-sooner] * 3, "epochs_to_f1"))
    assert set(found.parts["mean"]) == {-sooner} and found.label == "undecided"


def test_half_of_the_papers_gain_stands_beside_the_label(paper):
    short = verdict_of(paper, "A-1", gains((0.31, 0.32, 0.30)))
    assert short.label == "holds" and "falls short of half of what the paper prints, +66.0" in short.size
    assert "reaches half" in verdict_of(paper, "A-1", gains((0.4, 0.5, 0.6))).size


@pytest.mark.parametrize(
    ("f1", "confidence", "label"),
    [(0.4, -0.2, "holds"), (0.4, 0.2, "fails"), (-0.4, -0.2, "fails")],
)
def test_a4_needs_better_and_less_sure_at_once(paper, f1, confidence, label):
    frame = pd.concat([gains([f1] * 3), gains([confidence] * 3, "confidence")])
    assert verdict_of(paper, "A-4", frame).label == label


@pytest.mark.parametrize(("gain", "label"), [(0.4, "holds"), (-0.4, "fails"), (0.0, "undecided")])
def test_a2i_asks_the_network_without_its_layer(paper, gain, label):
    frame = gains([gain], a="final BN, removed at inference", datasets=PLANTS[:1])
    layer = frame[frame["readout"] == "final BN, removed at inference"].assign(readout="final BN")
    assert verdict_of(paper, "A2-i", pd.concat([frame, layer])).label == label


@pytest.mark.parametrize(("at", "label"), [((0.1, 0.4, 0.2), "holds"), ((0.1, 0.4, 0.6), "fails")])
def test_a2ii_wants_the_gain_to_be_largest_at_the_papers_imbalance(paper, at, label):
    places = zip(at, ("1000:100", "1000:10", "1000:3"), strict=True)
    frame = pd.concat(gains([gain], datasets=PLANTS[:1], imbalance=place) for gain, place in places)
    assert verdict_of(paper, "A2-ii", frame).label == label


def test_claims_without_a_comparison_are_not_attempted_whatever_was_run(paper, frame):
    found = verdicts(paper, frame)
    for claim in ("A2-iv", "A2-v", "A2-vi"):
        assert [verdict.label for verdict in found if verdict.claim == claim] == ["not attempted"] * 3
