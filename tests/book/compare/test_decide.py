import numpy as np
import pandas as pd
import pytest

from imbal_book.compare.decide import decide
from imbal_book.heads.remedies import PLAIN, REMEDIES
from imbal_book.heads.scores import Change

COUNTS = np.array([500, 250, 30, 20])
RECALLS = {
    PLAIN: np.array([0.98, 0.95, 0.40, 0.30]),
    "adjust-after": np.array([0.78, 0.90, 0.90, 0.86]),
    "weights": np.array([0.96, 0.94, 0.75, 0.65]),
    "focal": np.array([0.98, 0.95, 0.42, 0.30]),
}
SURE, UNSURE = Change(0.2, 0.1, 0.3, 0.001), Change(0.1, -0.1, 0.3, 0.3)


def table(p, ties=(1, 1, 2, 2)):
    names = ["adjust-after", "weights", "focal", PLAIN]
    scores = [RECALLS[name].mean() for name in names]
    changes = np.array(scores) - scores[-1]
    columns = {"score": scores, "change": changes, "low": changes - 0.05, "high": changes + 0.05, "p": p}
    return pd.DataFrame({**columns, "tie": ties}, index=names)


def decided(frame, gate, measured=(True,) * 4, portable=tuple(RECALLS), counts=COUNTS):
    classes = ["forest", "sea", "street", "<b>"]
    return decide(
        frame,
        gate,
        RECALLS,
        counts,
        np.array(measured),
        classes,
        REMEDIES,
        metric="balanced accuracy",
        portable=list(portable),
    )


def test_the_sentence_says_what_to_do_what_it_buys_and_what_it_costs():
    decision = decided(table([0.001, 0.002, 0.9, 1.0]), SURE)
    assert decision.remedy == "adjust-after"
    assert decision.sentence.startswith(REMEDIES["adjust-after"].advice)
    assert "in 'street' and '<b>' goes from 35% to 88%" in decision.sentence
    assert "at the price of 20 points on 'forest'" in decision.sentence
    assert "(class weights costs no common class much and reaches 70%)" in decision.sentence


def test_a_cheaper_remedy_of_another_tie_group_is_no_alternative():
    assert "class weights" not in decided(table([0.001, 0.002, 0.9, 1.0], (1, 2, 3, 3)), SURE).sentence


@pytest.mark.parametrize(
    ("p", "gate", "helps"),
    [
        ([0.2, 0.3, 0.9, 1.0], UNSURE, False),
        ([0.2, 0.3, 0.9, 1.0], SURE, True),
        ([0.01, 0.3, 0.9, 1.0], UNSURE, True),
        ([0.2, 0.3, 0.9, 1.0], Change(-0.2, -0.3, -0.1, 0.001), False),
    ],
)
def test_a_remedy_is_recommended_only_beyond_noise(p, gate, helps):
    decision = decided(table(p), gate)
    assert (decision.remedy == "adjust-after") == helps
    assert ("no remedy differs from plain training beyond noise" in decision.sentence) == (not helps)


def test_only_what_can_be_saved_is_recommended():
    decision = decided(table([0.001, 0.002, 0.9, 1.0]), SURE, portable=(PLAIN, "weights", "focal"))
    assert decision.remedy == "weights"


def test_without_rare_classes_the_sentence_speaks_of_the_metric_alone():
    sentence = decided(table([0.001, 0.002, 0.9, 1.0]), SURE, counts=np.full(4, 100)).sentence
    assert "balanced accuracy rises by 20 points" in sentence and "goes from" not in sentence


def test_where_nothing_helps_the_sentence_names_what_would_settle_it():
    sentence = decided(table([0.2, 0.3, 0.9, 1.0]), UNSURE).sentence
    assert (
        "the most promising of 3 remedies, logit adjustment after training, changed it by 20 points"
        in sentence
    )
    assert "first of '<b>', which has 20 to train on" in sentence
    worse = table([0.2, 0.3, 0.9, 1.0])
    worse["change"] = -0.1
    assert decided(worse, UNSURE).sentence.endswith("and none of 3 remedies raised it.")
