"""Parts hold, fail or stay open; the label follows: by hand, against scipy, and under changes that must not flatter."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from long_rows import rows
from scipy import stats

from imbal_book.evidence.judgement import (
    gate_reason,
    interval_over_draws,
    judge_parts,
    label_of,
)
from imbal_book.evidence.rank_correlation import partial_spearman
from imbal_book.evidence.rules import Gate, Part, RulesError, load_rules, parse_rules

RULES = load_rules()
CELLS = [("cifar10", "step 10")]
NOISE = np.array([-0.02, 0.01, 0.03, -0.01, 0.0])


def part(side="above", margin=0.0, **changes):
    return Part(
        **({"part": "new beats old", "a": "new", "b": "old", "metric": "accuracy"} | changes),
        side=side,
        margin=margin,
    )


def states(parts, data, cells=CELLS):
    return judge_parts(parts, cells, data, "net", RULES)["state"].tolist()


@pytest.mark.parametrize(
    ("side", "margin", "mean", "expected"),
    [
        ("above", 0.0, 0.1, "holds"), ("above", 0.0, -0.1, "fails"), ("above", 0.0, 0.01, "open"),
        ("above", 0.05, 0.1, "holds"), ("above", 0.2, 0.1, "open"),
        ("below", 0.0, -0.1, "holds"), ("below", 0.0, 0.1, "fails"),
        ("no_worse", 0.05, 0.0, "holds"), ("no_worse", 0.05, -0.2, "fails"), ("no_worse", 0.05, -0.05, "open"),
        ("equal", 0.05, 0.0, "holds"), ("equal", 0.05, 0.2, "fails"), ("equal", 0.05, -0.2, "fails"),
        ("equal", 0.05, 0.05, "open"),
        ("differs", 0.05, 0.1, "holds"), ("differs", 0.05, -0.1, "holds"), ("differs", 0.05, 0.0, "fails"),
    ],
)  # fmt: skip
def test_a_part_is_decided_by_where_its_interval_lies(side, margin, mean, expected):
    data = rows({"new": mean + NOISE - NOISE.mean(), "old": np.zeros(5)})
    found = judge_parts([part(side, margin)], CELLS, data, "net", RULES).iloc[0]
    half = stats.t.ppf(0.975, 4) * NOISE.std(ddof=1) / math.sqrt(5)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((mean, mean - half, mean + half))
    assert found["state"] == expected and found["pairs"] == found["draws"] == 5


def test_two_pairs_decide_nothing_and_none_is_not_run():
    data = rows({"new": [1.0, 1.0], "old": [0.0, 0.0]})
    found = judge_parts([part()], [*CELLS, ("cifar100", "step 10")], data, "net", RULES)
    assert found["state"].tolist() == ["open", "not run"] and found["pairs"].tolist() == [2, 0]


def test_holm_gives_the_surest_part_the_strictest_level_and_stops_at_the_first_that_stays_open():
    """Three parts with p of .01, .02 and .04: by Holm (.05/3, .05/2, .05) all three are decided, by Bonferroni one."""
    values = {"old": np.zeros(5)}
    for name, p in (("one", 0.01), ("two", 0.02), ("three", 0.04)):
        unit = (NOISE - NOISE.mean()) / NOISE.std(ddof=1)
        values[name] = unit + stats.t.ppf(1 - p / 2, 4) / math.sqrt(5)
    parts = [part(a=name) for name in ("three", "one", "two")]
    found = judge_parts(parts, CELLS, rows(values), "net", RULES)
    assert found["state"].tolist() == ["holds"] * 3
    assert found["confidence"].tolist() == pytest.approx([0.95, 1 - 0.05 / 3, 1 - 0.05 / 2])
    open_first = {**values, "one": values["one"] * 0 + unit}
    found = judge_parts(parts, CELLS, rows(open_first), "net", RULES)
    assert found["state"].tolist() == ["open", "open", "open"], (
        "p of .02 misses .05/3, and what comes after stays open"
    )


def test_pairs_of_one_draw_count_as_one_where_draws_differ_more_than_trainings():
    draws = [0, 0, 1, 1, 2, 2]
    apart = rows({"new": [0.1, 0.11, 0.3, 0.31, 0.2, 0.21], "old": np.zeros(6)}, draws=draws)
    series = apart[apart["readout"] == "new"].set_index(["split_seed", "train_seed"])["value"]
    low, high = interval_over_draws(series)(0.95)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, 0.205, 0.1 / math.sqrt(3)))
    alike = series.set_axis(
        pd.MultiIndex.from_arrays([[0, 1, 2, 0, 1, 2], range(6)], names=series.index.names)
    )
    alike[:] = [0.1, 0.11, 0.1, 0.2, 0.19, 0.2]
    low, high = interval_over_draws(alike)(0.95)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 5, alike.mean(), alike.std() / math.sqrt(6)))
    assert interval_over_draws(series.iloc[:1])(0.95) == (-math.inf, math.inf)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_interval_over_draws_covers_as_often_as_it_says(share):
    """4 draws x 2 trainings, ``share`` of the variance between draws: at least 93 % of the 95 % intervals cover."""
    rng = np.random.default_rng(5)
    index = pd.MultiIndex.from_product([range(4), range(2)], names=["split_seed", "train_seed"])
    hits = 0
    for _ in range(600):
        values = math.sqrt(share) * np.repeat(rng.normal(size=4), 2) + math.sqrt(1 - share) * rng.normal(
            size=8
        )
        low, high = interval_over_draws(pd.Series(values, index))(0.95)
        hits += low < 0 < high
    assert hits >= 558


def test_a_part_can_subtract_another_imbalance_or_another_form():
    data = pd.concat(
        [
            rows({"new": 0.5 + NOISE, "old": 0.1 + 0 * NOISE}),
            rows({"new": 0.3 + NOISE, "old": 0.2 + 0 * NOISE}, imbalance="step 100"),
            rows({"new": 0.2 + NOISE, "old": 0.1 + 0 * NOISE}, form="net (timm's start)"),
        ]
    )
    found = judge_parts(
        [part(versus="step 100"), part(against_form="(timm's start)")], CELLS, data, "net", RULES
    )
    assert found["mean"].tolist() == pytest.approx([0.3, 0.3]) and found["state"].tolist() == [
        "holds",
        "holds",
    ]


def test_signs_count_a_censored_run_as_no_better_than_any_other_that_never_arrived():
    data = rows({"new": [2, 3, 2, 7, 3, 2, 2, 2], "old": [7, 7, 6, 7, 5, 7, 7, 7]}, metric="epochs")
    found = judge_parts([part("below", metric="epochs", compare="sign")], CELLS, data, "net", RULES).iloc[0]
    low, high = stats.binomtest(0, 8).proportion_ci(0.95)
    assert found["mean"] == pytest.approx(-7 / 8) and found["state"] == "holds"
    three = rows({"new": [2, 2, 2], "old": [7, 7, 7]}, metric="epochs")
    found = judge_parts([part("below", metric="epochs", compare="sign")], CELLS, three, "net", RULES).iloc[0]
    low, high = stats.binomtest(0, 3).proportion_ci(0.95)
    assert (found["low"], found["high"]) == pytest.approx((2 * low - 1, 2 * high - 1))
    assert found["state"] == "open", "three of three may be chance"


def test_spread_compares_standard_deviations_over_draws():
    rng = np.random.default_rng(2)
    data = rows({"new": rng.normal(0, 0.1, 40), "old": rng.normal(0, 1, 40)})
    found = judge_parts([part("below", compare="spread")], CELLS, data, "net", RULES).iloc[0]
    assert found["state"] == "holds" and found["mean"] == pytest.approx(math.log(0.1), abs=0.4)


def ranked(orders, size=(5, 4, 3, 2, 1)):
    """Return a frame in which, in each draw, recall has the first order and diversity the second."""
    parts = [
        rows({"diversity": [d], "size": [n], "recall": [r]}, metric=f"class {place}", draws=[draw])
        for draw, (recall, diversity) in enumerate(orders)
        for place, (r, d, n) in enumerate(zip(recall, diversity, size, strict=True))
    ]
    return pd.concat(parts).assign(train_seed=0)


RANKS = part(a="diversity", b="size", of="recall", metric="class", compare="rank")


def test_ranks_over_classes_are_compared_with_the_other_held_and_resampled_within_what_they_can_be():
    diverse = [(1, 5, 2, 4, 3), (2, 5, 1, 4, 3), (1, 5, 2, 3, 4)]
    data = ranked([(order, order[:2] + order[2:]) for order in diverse])
    shuffled = [((1, 5, 3, 4, 2), order) for order in diverse]
    found = judge_parts([RANKS], CELLS, ranked(shuffled), "net", RULES).iloc[0]
    each = [
        partial_spearman(d, r, (5, 4, 3, 2, 1)) - partial_spearman((5, 4, 3, 2, 1), r, d) for r, d in shuffled
    ]
    assert found["mean"] == pytest.approx(np.mean(each)) and found["pairs"] == found["draws"] == 3
    assert -2 <= found["low"] <= found["mean"] <= found["high"] <= 2
    same = judge_parts([RANKS], CELLS, data, "net", RULES).iloc[0]
    assert same["state"] == "not run" and same["pairs"] == 0, "recall is diversity: nothing is left of it"
    assert states([RANKS], rows({"size": [1.0] * 3})) == ["not run"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "not attempted"), (["not run", "not run"], "not attempted"), (["holds"], "holds"),
        (["holds", "open"], "undecided"), (["holds", "not run"], "undecided"), (["holds", "fails"], "fails"),
        (["fails", "not run"], "fails"), (["open"], "undecided"),
    ],
)  # fmt: skip
def test_the_label_follows_from_the_states(found, expected):
    assert label_of(found) == expected


means = st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=4)


def judged(values, order=None):
    data = {"old": np.zeros(5)}
    names = [f"r{i}" for i in range(len(values))]
    for name, mean in zip(names, values, strict=True):
        data[name] = mean + NOISE - NOISE.mean()
    parts = [part(a=name) for name in names]
    parts = parts if order is None else [parts[i] for i in order]
    return label_of(states(parts, rows(data)))


@settings(max_examples=25, deadline=None)
@given(means, st.randoms(use_true_random=False))
def test_the_order_of_the_parts_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    assert judged(values) == judged(values, order)


@settings(max_examples=25, deadline=None)
@given(means, st.floats(-0.3, 0.3))
def test_an_irrelevant_part_never_turns_fails_into_holds(values, other):
    if judged(values) == "fails":
        assert judged([*values, other]) != "holds"
    if judged(values) != "holds":
        assert judged([*values, other]) != "holds", "more to show is never easier"


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(1, 20))
def test_noise_around_the_same_mean_never_turns_fails_into_holds(mean, factor):
    def label(scale):
        return label_of(
            states([part()], rows({"new": mean + scale * (NOISE - NOISE.mean()), "old": np.zeros(5)}))
        )

    calm, noisy = label(1), label(factor)
    assert (calm, noisy) not in {("fails", "holds"), ("holds", "fails")}
    assert noisy == "undecided" or noisy == calm


def test_a_gate_names_the_level_that_the_plain_arm_misses():
    gate = Gate(
        "s", "net", "old", "accuracy", 0.7, 0.73, 0.01, "papers", dataset="cifar10", imbalance="step 10"
    )
    assert gate_reason(gate, rows({"old": [0.71, 0.73]}), lambda *_: None) == ""
    low = gate_reason(gate, rows({"old": [0.4, 0.38]}), lambda *_: None)
    assert "at 0.390 on cifar10 step 10, outside of 0.690 to 0.740" in low
    assert gate_reason(gate, rows({"old": [0.4]}, dataset="other"), lambda *_: None) == ""
    printed = Gate("s", "net", "old", "accuracy", "printed", "printed", 0.05, "tables")
    assert "outside of 0.750 to 0.850" in gate_reason(printed, rows({"old": [0.4]}), lambda *_: 0.8)
    assert gate_reason(printed, rows({"old": [0.4]}), lambda *_: None) == ""


@pytest.mark.parametrize("gate", RULES.gates, ids=lambda gate: f"{gate.study}, {gate.form}")
def test_every_declared_gate_is_open_within_its_distance_and_shut_beyond(gate):
    low, high = (0.8 if end == "printed" else end for end in (gate.low, gate.high))
    place = {"dataset": gate.dataset or "cifar10", "imbalance": gate.imbalance or "step 10"}
    for level, is_open in (
        (low - gate.distance + 1e-6, True),
        (high + gate.distance - 1e-6, True),
        (low - gate.distance - 1e-3, False),
        (high + gate.distance + 1e-3, False),
    ):
        data = rows({gate.readout: [level, level]}, metric=gate.metric, form=gate.form, **place)
        assert (gate_reason(gate, data, lambda *_: 0.8) == "") == is_open, level


def test_the_rules_name_every_side_and_refuse_what_they_do_not_know():
    content = dict(RULES.content)
    for fields, message in (
        ({"side": "abvoe"}, "did you mean 'above'"),
        ({"side": "equal"}, "expected one above 0"),
        ({"side": "above", "compare": "median"}, "unknown comparison"),
        ({"side": "above", "sise": 1}, "unknown field of a part of claim 'X'.*did you mean 'side'"),
    ):
        entry = {"part": "p", "a": "a", "b": "b", "metric": "m"} | fields
        with pytest.raises(RulesError, match=message):
            parse_rules(content | {"claims": {"X": [entry]}})
    used = {p.side for parts in RULES.claims.values() if isinstance(parts, list) for p in parts}
    assert used == set(RULES.parts)
