"""Verdicts: each rule on frames made for it."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imbal_book.evidence.claims import LABELS, OTHER_RULES, RULES, judge, ledger, settle
from imbal_book.evidence.papers import list_papers, load_paper
from imbal_book.evidence.papers.statements import KINDS, Cell, Claim, Contrast, Form
from imbal_book.evidence.statistics import bonferroni, pitman_morgan


def rows(values, cell=("cifar10", "A"), metric="accuracy", form="frozen", profile="laptop", train=None):
    """Return long rows; ``values`` maps a readout to its values for split seeds 0, 1, ..."""
    return [
        {
            "key": f"{cell}{readout}{seed}", "profile": profile, "form": form, "dataset": cell[0],
            "imbalance": cell[1], "split_seed": seed, "train_seed": seed if train is None else train,
            "readout": readout, "metric": metric, "value": value,
        }
        for readout, series in values.items()
        for seed, value in enumerate(series)
        if value is not None
    ]  # fmt: skip


NOISE = np.array([-0.002, 0.001, 0.0, 0.002, -0.001])
CELLS = [("cifar10", "A"), ("cifar10", "B")]


def claim_of(contrasts, kind="every cell", reported=None, **more):
    forms = {
        "frozen": Form("vgg16", ["D", "F", "C", "OD"], ["cifar10"]),
        "from scratch": Form("all_cnn", ["D", "C"], ["cifar10"]),
    }
    return Claim(
        "T-1", "test", "statement", "quote", "here", "read", kind, contrasts,
        [Cell(*cell) for cell in CELLS], "", forms, reported or {}, **more,
    )  # fmt: skip


CENTERS_WIN = claim_of(
    [Contrast("C", "D", "accuracy", 1)],
    reported={
        ("vgg16", "cifar10", "A", "D"): 0.70, ("vgg16", "cifar10", "A", "C"): 0.74,
        ("vgg16", "cifar10", "B", "D"): 0.70, ("vgg16", "cifar10", "B", "C"): 0.72,
    },
)  # fmt: skip


def gains(*sizes, n=5, form="frozen", noise=NOISE, **more):
    """Return a frame in which C is above D by the given gain in each cell."""
    base = np.array([0.5, 0.55, 0.52, 0.58, 0.51])[:n]
    parts = [
        rows({"D": base, "C": base + size + noise[:n]}, cell=cell, form=form, **more)
        for cell, size in zip(CELLS, sizes, strict=False)
    ]
    return pd.DataFrame([row for part in parts for row in part])


@pytest.mark.parametrize(
    ("frame", "label"),
    [
        (gains(0.04, 0.02), "reproduced"),
        (gains(0.017, 0.014), "reproduced"),  # mean .0155, the paper's .03
        (gains(0.016, 0.013), "direction only"),  # mean .0145 is less than half
        (gains(0.04, 0.001), "direction only"),  # one cell includes 0
        (gains(0.0005, -0.0004), "inconclusive"),
        (gains(0.04, -0.02), "contradicted"),  # one cell is wrong, though the average is right
        (gains(-0.04, -0.04), "contradicted"),
        (gains(0.04), "direction only"),  # B was not run
        (gains(0.04, 0.02, n=2), "inconclusive"),
        (gains(-0.04, -0.02, n=2), "inconclusive"),
        (gains(0.04, 0.02, n=1), "inconclusive"),
        (gains(0.04, 0.02, n=3), "reproduced"),
    ],
)
def test_labels_follow_the_rules(frame, label):
    verdict = judge(CENTERS_WIN, frame)
    assert verdict.label == label, verdict.explanation
    assert (verdict.claim, verdict.profile, verdict.form) == ("T-1", "laptop", "frozen")
    assert verdict.explanation.startswith(label.capitalize())


def test_the_cells_table_holds_simultaneous_intervals():
    frame = gains(0.04, 0.02)
    verdict = judge(CENTERS_WIN, frame)
    values = 0.04 + NOISE
    half = stats.t.ppf(1 - 0.05 / 2 / 2, 4) * values.std(ddof=1) / math.sqrt(5)  # two cells
    row = verdict.cells.iloc[0]
    assert (row["dataset"], row["imbalance"], row["n"], row["side"]) == ("cifar10", "A", 5, "claimed")
    assert row["gain"] == pytest.approx(0.04)
    assert row["low"] == pytest.approx(0.04 - half) and row["high"] == pytest.approx(0.04 + half)
    assert row["paper"] == pytest.approx(0.04)
    assert verdict.pooled.mean == pytest.approx(0.03) and verdict.pooled.n == 5
    assert "+3.0 points" in verdict.explanation and "n = 5" in verdict.explanation


def test_a_larger_family_asks_for_more():
    # Alone, the cell's interval (t = 2.776) lies above 0; beside a second one (t = 3.495) it includes 0.
    size = 3.1 * NOISE.std(ddof=1) / math.sqrt(5)
    assert judge(CENTERS_WIN, gains(size)).cells["side"].tolist() == ["claimed"]
    assert judge(CENTERS_WIN, gains(size, 0.04)).cells["side"].tolist() == ["open", "claimed"]


def test_too_few_pairs_are_said():
    verdict = judge(CENTERS_WIN, gains(0.04, 0.02, n=2))
    assert "only 2 of the 3 pairs" in verdict.explanation and verdict.n == 2


def test_a_claim_about_the_average_forgives_a_cell():
    average = claim_of([Contrast("C", "D", "accuracy", 1)], kind="average")
    assert judge(average, gains(0.04, -0.01)).label == "reproduced"
    assert judge(average, gains(0.01, -0.04)).label == "contradicted"
    assert judge(average, gains(0.01, -0.01)).label == "inconclusive"


def test_a_negative_sign_claims_a_loss():
    loss = claim_of([Contrast("C", "D", "accuracy", -1)])
    assert judge(loss, gains(-0.02, -0.02)).label == "reproduced"
    assert judge(loss, gains(0.02, 0.02)).label == "contradicted"


def test_without_numbers_of_the_paper_the_size_is_not_asked_for_and_that_is_said():
    verdict = judge(claim_of([Contrast("C", "D", "accuracy", 1)]), gains(0.01, 0.01))
    assert verdict.label == "reproduced" and "prints no number" in verdict.explanation


def test_a_difference_of_differences():
    larger = claim_of([Contrast("C", "D", "recall_few", 1, minus="recall_many")])
    frame = pd.concat(
        [gains(0.05, 0.05, metric="recall_few"), gains(0.03, 0.03, metric="recall_many", noise=-NOISE)]
    )
    verdict = judge(larger, frame)
    assert verdict.cells["gain"].tolist() == pytest.approx([0.02, 0.02])
    assert verdict.label == "reproduced"


def test_readouts_that_a_form_cannot_have_are_left_out_and_named():
    both = claim_of([Contrast("C", "D", "accuracy", 1), Contrast("F", "D", "accuracy", 1)])
    verdict = judge(both, gains(0.02, 0.02, form="from scratch"))
    assert verdict.label == "reproduced" and len(verdict.cells) == 2
    assert verdict.left_out == ("accuracy: F > D",)
    assert "cannot have accuracy: F > D" in verdict.explanation
    # The other form could have them, so there they are missing.
    verdict = judge(both, gains(0.02, 0.02))
    assert verdict.label == "direction only" and len(verdict.not_run) == 2
    assert "not wholly run: cifar10 A, B." in verdict.explanation


def test_no_records_are_not_attempted():
    empty = gains(0.02).iloc[:0]
    verdict = judge(CENTERS_WIN, empty)
    assert (verdict.label, verdict.n, verdict.pooled) == ("not attempted", 0, None)
    other = gains(0.02, metric="recall_few")
    assert judge(CENTERS_WIN, other).label == "not attempted"
    assert judge(CENTERS_WIN, gains(0.02), form="from scratch").label == "not attempted"


def test_smoke_records_never_enter():
    frame = pd.concat([gains(0.04, 0.02), gains(0.04, 0.02, profile="smoke")])
    for call in (lambda: judge(CENTERS_WIN, frame, profile="laptop"), lambda: ledger([CENTERS_WIN], frame)):
        with pytest.raises(ValueError, match="never enter a verdict"):
            call()


def test_several_forms_or_profiles_must_be_chosen_from():
    frame = pd.concat([gains(0.04, 0.02), gains(-0.04, -0.02, form="from scratch")])
    with pytest.raises(ValueError, match="say which by form="):
        judge(CENTERS_WIN, frame)
    assert judge(CENTERS_WIN, frame, form="frozen").label == "reproduced"
    assert judge(CENTERS_WIN, frame, form="from scratch").label == "contradicted"
    with pytest.raises(ValueError, match="did you mean 'frozen'"):
        judge(CENTERS_WIN, frame, form="frozn")
    with pytest.raises(ValueError, match="lacks the columns readout"):
        judge(CENTERS_WIN, frame.drop(columns="readout"))


def test_the_ledger_has_every_claim_and_form():
    frame = pd.concat([gains(0.04, 0.02), gains(0.04, 0.02, profile="paper", form="from scratch")])
    verdicts = ledger([CENTERS_WIN], frame)
    assert [(v.profile, v.form, v.label) for v in verdicts] == [
        ("laptop", "frozen", "reproduced"),
        ("laptop", "from scratch", "not attempted"),
        ("paper", "frozen", "not attempted"),
        ("paper", "from scratch", "reproduced"),
    ]
    assert [v.label for v in ledger([CENTERS_WIN], frame.iloc[:0])] == ["not attempted"] * 2


def spreads(factor, n=10):
    """Return a frame in which the deviation of C over draws is ``factor`` times that of D, in both cells."""
    generator = np.random.default_rng(0)
    parts = []
    for cell in CELLS:
        shared, own = generator.normal(size=(2, n))
        values = {"D": 0.5 + 0.02 * shared, "C": 0.5 + 0.02 * factor * (0.8 * shared + 0.6 * own)}
        parts += rows(values, cell=cell, metric="recall_few")
    return pd.DataFrame(parts)


@pytest.mark.parametrize(
    ("factor", "label"), [(0.1, "reproduced"), (1.0, "inconclusive"), (10.0, "contradicted")]
)
def test_a_claim_about_spread_compares_deviations_over_draws(factor, label):
    stable = claim_of([Contrast("C", "D", "recall_few", -1)], kind="spread")
    frame = spreads(factor)
    verdict = judge(stable, frame)
    assert verdict.label == label, verdict.explanation
    wide = frame[frame["imbalance"] == "A"].pivot(index="split_seed", columns="readout", values="value")
    assert verdict.cells["gain"].iloc[0] == pytest.approx(-math.log(wide["C"].std() / wide["D"].std()))
    test = pitman_morgan(wide["C"], wide["D"])
    low, high = test.interval(bonferroni(2))
    assert verdict.cells.iloc[0][["low", "high"]].tolist() == pytest.approx([-math.log(high), -math.log(low)])


def test_spread_counts_draws_of_the_split_not_trainings():
    stable = claim_of([Contrast("C", "D", "recall_few", -1)], kind="spread")
    one = spreads(0.1, n=4).assign(train_seed=0)
    frame = pd.concat([one, one.assign(train_seed=1)])
    verdict = judge(stable, frame)
    assert verdict.n == 4
    pd.testing.assert_frame_equal(verdict.cells, judge(stable, one).cells)


def test_every_claim_of_the_paper_can_be_judged():
    claims = load_paper("zhang_2018").claims.values()
    generator, data = np.random.default_rng(0), []
    for cell in [(name, kind) for name in ("cifar10", "cifar100") for kind in "ABC"]:
        for metric in ("accuracy", "recall_few", "recall_many"):
            values = {readout: generator.normal(0.5, 0.01, 5) for readout in ("D", "F", "OD")}
            data += rows(values, cell=cell, metric=metric)
    verdicts = {v.claim: v for v in ledger(claims, pd.DataFrame(data)) if v.form == "frozen"}
    assert {name: len(v.cells) for name, v in verdicts.items()} == {"D-1": 12, "D-2": 18, "D-3": 0, "D-4": 6}
    assert {name: v.n for name, v in verdicts.items()} == {"D-1": 5, "D-2": 5, "D-3": 0, "D-4": 5}
    assert all(v.label in LABELS and not v.not_run for v in verdicts.values())
    assert "C > D" in " ".join(verdicts["D-1"].left_out)
    # Over-sampling does not move the centers of fixed features, so there is nothing to compare.
    assert verdicts["D-3"].label == "not attempted" and "OF > F" in verdicts["D-3"].explanation


# Equivalence

AS_WELL = claim_of([Contrast("C", "D", "accuracy", 0)], kind="equivalence", margin=0.01)


@pytest.mark.parametrize(
    ("frame", "label"),
    [
        (gains(0.001, -0.002), "reproduced"),
        (gains(0.003, 0.003), "reproduced"),  # clearly different from 0, yet within the margin
        (gains(0.001, 0.03), "contradicted"),  # one cell is better by more than the margin
        (gains(0.001, -0.03), "contradicted"),
        (gains(0.001, 0.01), "inconclusive"),  # across the margin
        (gains(0.001, 0.002, noise=20 * NOISE), "inconclusive"),  # too few seeds to see it
        (gains(0.001), "inconclusive"),  # B was not run
        (gains(0.001, -0.002, n=2), "inconclusive"),
        (gains(0.001, 0.03, n=2), "inconclusive"),
    ],
)
def test_equally_good_means_within_the_margin(frame, label):
    verdict = judge(AS_WELL, frame)
    assert verdict.label == label, verdict.explanation


def test_an_equivalence_is_judged_by_simultaneous_intervals_of_the_difference():
    verdict = judge(AS_WELL, gains(-0.002, 0.003))
    assert verdict.cells["gain"].tolist() == pytest.approx([-0.002, 0.003])
    half = stats.t.ppf(1 - 0.05 / 2 / 2, 4) * NOISE.std(ddof=1) / math.sqrt(5)
    assert verdict.cells["low"].tolist() == pytest.approx([-0.002 - half, 0.003 - half])
    assert verdict.cells["high"].tolist() == pytest.approx([-0.002 + half, 0.003 + half])
    assert "2 lie within 1 points of 0, 0 outside" in verdict.explanation
    assert "average difference is +0.1 points" in verdict.explanation
    # just within, just across: the interval decides, not the mean
    assert judge(AS_WELL, gains(0.0, 0.0099 - half)).label == "reproduced"
    assert judge(AS_WELL, gains(0.0, 0.0101 - half)).label == "inconclusive"
    assert judge(AS_WELL, gains(0.0, 0.0101 + half)).label == "contradicted"


# Identity

SAME = Claim("T-2", "test", "statement", "", "here", "computed", "identity", [], [], margin=1e-6)


def test_an_identity_is_settled_by_a_computation():
    assert settle(SAME, 0.0).label == settle(SAME, 1e-6).label == "reproduced"
    wrong = settle(SAME, 2e-6)
    assert wrong.label == "contradicted" and "2.0e-06, beyond the 1e-06" in wrong.explanation
    missing = settle(SAME, None)
    assert missing.label == "not attempted" and missing.cells.empty
    for verdict in (settle(SAME, 0.0), wrong, missing):
        assert (verdict.claim, verdict.n, verdict.form, verdict.pooled) == ("T-2", 0, None, None)


def test_records_and_computations_are_not_mixed_up():
    with pytest.raises(ValueError, match="is an identity: settle it"):
        judge(SAME, gains(0.01, 0.01))
    with pytest.raises(ValueError, match="judge it by records"):
        settle(CENTERS_WIN, 0.0)
    for deviation in (math.nan, -1.0):
        with pytest.raises(ValueError, match="expected a number of at least 0"):
            settle(SAME, deviation)


def test_the_ledger_has_one_verdict_for_an_identity():
    frame = gains(0.04, 0.02)
    verdicts = ledger([SAME, CENTERS_WIN], frame, deviations={"T-2": 1e-8})
    assert [v.label for v in verdicts] == ["reproduced", "reproduced", "not attempted"]
    assert ledger([SAME], frame)[0].label == "not attempted"


# Other statements


def test_a_gain_can_be_compared_with_that_at_another_imbalance():
    peak = claim_of([Contrast("C", "D", "accuracy", 1, versus="B")])
    here = Claim(**{**peak.__dict__, "cells": [Cell("cifar10", "A")]})
    noise = [NOISE, -NOISE]
    parts = [
        gains(0.05, noise=noise[0]),
        gains(0.0, 0.02, noise=noise[1])[lambda rows: rows["imbalance"] == "B"],
    ]
    verdict = judge(here, pd.concat(parts))
    assert verdict.cells["gain"].tolist() == pytest.approx([0.03])
    half = stats.t.ppf(0.975, 4) * (2 * NOISE).std(ddof=1) / math.sqrt(5)
    assert verdict.cells["low"].tolist() == pytest.approx([0.03 - half])
    assert verdict.label == "reproduced" and verdict.cells["contrast"][0].endswith("C > D, against B")
    alone = judge(here, parts[0])
    assert alone.label == "not attempted" and len(alone.not_run) == 1


def test_a_form_is_not_asked_for_imbalances_that_it_is_not_meant_to_have():
    frame = gains(0.04)  # type A alone
    assert judge(CENTERS_WIN, frame).label == "direction only"
    forms = {"frozen": Form("vgg16", ["D", "C"], ["cifar10"], ["A"])}
    small = Claim(**{**CENTERS_WIN.__dict__, "forms": forms})
    verdict = judge(small, frame)
    assert verdict.label == "reproduced" and verdict.not_run == ()


def test_cells_with_names_of_several_words_are_listed_by_data_set():
    cells = [Cell("cifar10", "exponential 100"), Cell("cifar10", "step 10"), Cell("cifar100", "step 10")]
    forms = {"frozen": Form("vgg16", ["D", "C"], ["cifar10", "cifar100"])}
    claim = Claim(**{**CENTERS_WIN.__dict__, "cells": cells, "forms": forms})
    frame = gains(0.04).assign(imbalance="exponential 100")
    assert "not or not wholly run: cifar10 step 10; cifar100 step 10." in judge(claim, frame).explanation


def test_a_claim_without_a_contrast_is_not_attempted_and_says_why():
    verdict = judge(claim_of([]), gains(0.04, 0.02))
    assert verdict.label == "not attempted" and "no comparison of records is stated" in verdict.explanation


def test_a_gain_that_the_paper_prints_without_a_cell_is_compared_with_the_average():
    def lift(reported):
        return claim_of([Contrast("C", "D", "f1", 1, reported={"vgg16": reported})])

    frame = gains(0.04, 0.02, metric="f1")
    assert judge(lift(0.05), frame).label == "reproduced"
    small = judge(lift(0.07), frame)
    assert small.label == "direction only" and "less than half" in small.explanation
    assert "without naming a cell, it is +3.0 points here and +7.0 there" in small.explanation
    other = gains(0.04, 0.02, metric="f1", form="from scratch")
    assert judge(lift(0.07), other).label == "reproduced"  # another network, of which it prints nothing


def test_a_unit_other_than_points_is_printed_as_it_is():
    sooner = claim_of([Contrast("C", "D", "epochs", -1)], unit="epochs")
    verdict = judge(sooner, gains(-4, -2, metric="epochs"))
    assert verdict.label == "reproduced"
    assert "is +3.0 epochs (" in verdict.explanation and "points" not in verdict.explanation


@pytest.mark.parametrize("name", list_papers())
def test_every_claim_of_every_paper_gets_a_verdict_without_records(name):
    empty = gains(0.04).iloc[:0]
    claims = load_paper(name).claims
    verdicts = ledger(claims.values(), empty)
    assert {v.claim for v in verdicts} == set(claims)
    assert {v.label for v in verdicts} == {"not attempted"}


def test_the_claims_on_complement_cross_entropy_can_be_judged():
    claims = load_paper("kim_2021").claims
    generator, data = np.random.default_rng(0), []
    for cell in [("cifar10", "exponential 100"), ("cifar10", "step 10")]:
        for metric in ("accuracy", "p_true", "recall_few", "recall_gap"):
            base = generator.normal(0.5, 0.01, 5)
            values = {"CE": base, "CCE (paper)": base + 0.02 + NOISE, "COT": base + 0.02, 
                      "CCE (released)": base - 0.02}  # fmt: skip
            data += rows(values, cell=cell, metric=metric, form="small network")
    verdicts = ledger(claims.values(), pd.DataFrame(data), deviations={"B-5": 0.0})
    labels = {v.claim: v.label for v in verdicts if v.form in ("small network", None)}
    assert labels == dict.fromkeys(claims, "reproduced")


def test_the_rules_can_be_printed():
    assert {label for label, _ in RULES} == set(LABELS)
    assert set(OTHER_RULES) < set(KINDS)
