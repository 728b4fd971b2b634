"""The chapter of all remedies: every number of its tables against a second computation on made-up records."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from long_rows import rows
from scipy import stats

from imbal_book.chapters import remedies as chapter
from imbal_book.chapters import remedies_protocol as protocol
from imbal_book.chapters import remedies_trained as whole
from imbal_book.heads.scores import corrected_interval
from imbal_book.pictures.arms import METHODS
from imbal_book.run.long_frames import records_frame
from imbal_book.run.packed_numbers import pack_rows
from imbal_book.run.record_format import Record
from imbal_book.studies import build_grid, remedies
from imbal_book.studies.grids import remedies as grids

COUNTS = {"train": [100, 20, 5], "test": [50, 50, 50]}
#: Of 50 test images of each class, how many a remedy recognises, before noise.
HITS = {
    "plain": (48, 30, 10),
    "weights": (44, 34, 30),
    "adjust-after": (42, 36, 32),
    "weights-adjust": (30, 30, 40),
    "focal": (48, 30, 10),
    "cce": (40, 20, 4),
}


def record(draw, base, shift, **fields):
    rng = np.random.default_rng(draw)
    readouts = {}
    for name, hits in HITS.items():
        found = np.clip(np.array(hits) + rng.integers(-1, 2, 3) + shift * (name == "weights"), 0, 50)
        readouts[name] = pack_rows(np.stack([found, found + 1]))
    measured = {"train_counts": COUNTS["train"], "test_counts": COUNTS["test"], "readouts": readouts}
    measured["validation"] = {
        name: pack_rows(np.full((3, 3), 0.5) + 0.1 * (name != "plain") * np.arange(3)) for name in HITS
    }
    measured["chosen"] = {name: [6.0, 60] for name in HITS}
    config = dataclasses.replace(base, split_seed=draw, train_seed=draw, **fields)
    return Record(f"{draw:016x}", config.to_dict(), {}, "0" * 64, measured, {})


@pytest.fixture(scope="module")
def records():
    scenes, tomato = build_grid("remedies", "laptop")[:2]
    return records_frame([record(d, base, s) for base, s in ((scenes, 0), (tomato, 8)) for d in range(6)])


@pytest.fixture(scope="module")
def frame(records):
    return chapter.heads(chapter.in_words(remedies.frame(records)))


@pytest.fixture(scope="module")
def overlap(records):
    return chapter.overlaps(records)


@pytest.fixture(scope="module")
def found(frame, overlap):
    return chapter.ranked(chapter.changes(frame, "balanced", overlap))


def values(frame, method, data, metric="balanced"):
    part = frame[(frame["readout"] == method) & (frame["dataset"] == data) & (frame["metric"] == metric)]
    return part.set_index("split_seed")["value"].sort_index().to_numpy(float)


def test_every_name_on_the_page_has_its_mark():
    assert set(chapter.NAMES.values()) <= set(METHODS)
    assert len(set(chapter.NAMES.values())) == len(chapter.NAMES)
    assert {part for pair in chapter.STACKS.items() for part in pair} <= set(chapter.NAMES.values())
    assert set(whole.TRAINED.values()) <= set(chapter.NAMES.values())


def test_cells_stand_by_data_and_by_ratio_whatever_the_order_of_the_records(records):
    cells = [("cifar100", "exponential-10"), ("cifar10", "exponential-100"), ("scenes6", "exponential-20")]
    cells += [("cifar10", "exponential-10")]
    shuffled = chapter.in_order(pd.DataFrame(cells, columns=["dataset", "imbalance"]))
    assert [tuple(row) for row in shuffled.to_numpy()] == [cells[i] for i in (2, 3, 1, 0)]


def test_the_overlap_counts_only_where_test_images_come_from_the_pool(overlap):
    assert overlap == {
        ("scenes6", "exponential 20"): 0.0,
        ("plantvillage-tomato:by-disease", "natural"): 10.0,  # 50 test images, 5 training images
    }


@pytest.mark.parametrize(("data", "ratio"), [("scenes6", 0.0), ("plantvillage-tomato:by-disease", 10.0)])
def test_a_change_is_the_paired_difference_with_the_interval_of_its_data(frame, found, data, ratio):
    difference = values(frame, "class weights", data) - values(frame, "plain", data)
    row = found[(found["method"] == "class weights") & (found["dataset"] == data)].iloc[0]
    expected = corrected_interval(difference, ratio)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(expected[:3])
    if not ratio:
        ends = stats.t.interval(0.95, 5, difference.mean(), stats.sem(difference))
        assert (row["low"], row["high"]) == pytest.approx(ends)


def test_remedies_stand_in_the_order_of_their_mean_rank(found):
    wide = found.pivot(index="panel", columns="method", values="mean")
    expected = wide.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    order = list(dict.fromkeys(found["method"]))
    assert [expected[name] for name in order] == sorted(expected)
    assert order[-1] == "CCE (paper)"


def test_the_opening_says_who_leads_who_does_nothing_and_who_does_harm(found):
    words = chapter.opening(found)
    assert words["cells"] == "2" and words["remedies"] == "5" and words["draws"] == "6"
    assert words["leaders"].startswith(words["best"])
    assert "Focal" in words["idle"] and "CCE (paper)" not in words["idle"]
    sure = found[(found["p"] < 0.05) & (found["mean"] > 0)]["method"].value_counts()
    assert words["most"] == str(sure.max()) and words["reach"] == str((sure == sure.max()).sum())
    quiet = chapter.opening(found.assign(p=0.5))
    assert words["silent"] == "none" and quiet["most"] == "0"
    assert quiet["silent"] == "“six scenes, exponential 20” and “tomato leaves, natural”"
    best = found.loc[found["method"] == words["best"].strip("“”"), "mean"]
    assert words["best_gain"] == f"{100 * best.min():+.1f} to {100 * best.max():+.1f}"


def test_what_common_classes_pay_is_the_mean_over_cells(frame, overlap):
    points = chapter.trade_points(frame, overlap).set_index("method")
    for column, metric in (("across", "recall_many"), ("up", "recall_few")):
        cells = [
            (values(frame, "Focal", data, metric) - values(frame, "plain", data, metric)).mean()
            for data in frame["dataset"].unique()
        ]
        assert points.loc["Focal", column] == pytest.approx(np.mean(cells))


def test_a_stack_is_compared_with_each_of_its_parts(frame, overlap):
    table = chapter.stacks(frame, overlap).set_index("together")
    data = frame["dataset"].unique()
    both = [values(frame, "class weights, logit adjusted", d).mean() for d in data]
    alone = [values(frame, "class weights", d).mean() for d in data]
    mean = 100 * np.mean(np.subtract(both, alone))
    said = table.loc["class weights + logit adjustment", "minus the other alone"]
    assert said.startswith(f"{mean:+.1f} (")
    assert table.loc["final BN + logit adjustment", "minus the other alone"] == "not attempted"


def test_each_prior_has_its_own_winner_in_every_cell(frame, overlap):
    table = chapter.priors_table(frame, overlap)
    assert len(table) == 6
    trained = table[table["classes in use"] == "as trained"]
    level = [100 * values(frame, "plain", d, "as trained").mean() for d in frame["dataset"].unique()]
    assert trained["plain (%)"].tolist() == [f"{value:.1f}" for value in level]
    assert set(table.loc[table["classes in use"] == "reversed", "largest change"]) <= set(
        chapter.NAMES.values()
    )


def test_the_length_of_training_is_compared_with_plain_of_the_same_length(records):
    table = chapter.lengths(remedies.setting_frame(records), ["class weights", "nothing of that name"])
    assert chapter.longest(remedies.setting_frame(records)) == "100 %"
    assert table.to_dict("records") == [
        {"remedy": "class weights", "6 steps": "+0.0", "20 steps": "+10.0", "60 steps": "+20.0",
         "chose 6": "0 %", "chose 20": "0 %", "chose 60": "100 %"}
    ]  # fmt: skip


def test_the_guide_names_its_cells_and_never_a_remedy_that_only_harms(frame, overlap):
    table = chapter.guide(frame, overlap).set_index("situation")
    assert (
        table.loc["every class counts the same", "cells"]
        == "six scenes, exponential 20; tomato leaves, natural"
    )
    assert set(table["do"]) <= {*chapter.NAMES.values(), "train as usual", "not attempted"}
    assert table.loc["a trained network is given and nothing may be trained", "do"] in chapter.AFTER
    assert "CCE (paper)" not in set(table["do"])
    scenes = chapter.guide(frame[frame["dataset"] == "scenes6"], overlap).set_index("situation")
    stay = scenes.loc["classes stay as frequent as in training"]
    assert stay["do"] == "train as usual" and "the first: " in stay["what it changes"]
    assert table.loc["the same, largest class at most 10 times the smallest", "do"] == "not attempted"


def test_the_pages_protocol_speaks_of_what_the_code_does(frame, records):
    words = protocol.settings_in_words()
    assert words["settings"] == "9" and words["steps"] == "6, 20, 60"
    table = protocol.remedy_table(frame).set_index("remedy")
    assert set(table.index) == set(chapter.NAMES.values())
    skipped = table["what it does"].str.contains("(skipped: ", regex=False)
    assert skipped["SMOTE"] and not skipped["plain"]
    cells = protocol.cell_table(records)
    assert cells["training images"].tolist()[:2] == ["125, 100 to 5 of a class"] * 2
    assert cells["rare"].tolist()[:2] == [2, 2]
    assert cells["draws"].tolist() == [6, 6, *["not attempted"] * 4], "planned, and without a record"


def both_sides(gains_here, gains_there, noise=0.001):
    rng = np.random.default_rng(0)
    made = [
        {"method": f"m{i}", "side": side, "split_seed": draw, "value": gain + noise * rng.normal()}
        for side, gains in (("x", gains_here), ("y", gains_there))
        for i, gain in enumerate(gains)
        for draw in range(5)
    ]
    return pd.DataFrame(made)


def test_the_rank_correlation_is_spearmans_and_its_interval_holds_it():
    here = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    there = [0.05, 0.0, 0.3, 0.2, 0.4, 0.6, 0.5]
    rho, low, high = whole.rank_interval(both_sides(here, there))
    assert rho == pytest.approx(stats.spearmanr(here, there).statistic)
    assert low <= rho <= high and low < high
    same, *_ = whole.rank_interval(both_sides(here, here))
    assert same == pytest.approx(1.0)


def test_networks_with_few_remedies_are_left_out_and_the_others_are_paired_by_name(frame):
    levels = {name: 0.5 + 0.01 * i for i, name in enumerate(["CE", *whole.TRAINED])}
    trained = rows(
        {name: [level + 0.001 * seed for seed in range(3)] for name, level in levels.items()},
        form="small network",
        dataset="scenes6",
        imbalance="exponential 20",
    )
    assert whole.foretold(frame, trained) == {}, "four of the made-up remedies are shared"
    assert "not attempted" in whole.in_words({})
    more = pd.concat(
        [frame, *(frame[frame["readout"] == "Focal"].assign(readout=name) for name in ("COT", "LDAM-DRW"))]
    )
    (title, pairs), = whole.foretold(more, trained).items()  # fmt: skip
    assert title == "small network, six scenes, exponential 20 (laptop)"
    shared = {"CCE (paper)", "Focal", "plain, logit adjusted", "class weights", "COT", "LDAM-DRW"}
    assert set(pairs["method"]) == shared
    there = pairs[(pairs["side"] == "y") & (pairs["method"] == "class weights")]["value"]
    place = [*whole.TRAINED].index("CE, classifier re-trained") + 1
    assert there.mean() == pytest.approx(0.01 * place)
    points = whole.points({title: pairs})
    assert set(points["method"]) == shared and (points["x_low"] <= points["x"]).all()
    assert f"Spearman's rank correlation of {len(shared)} remedies" in whole.in_words({title: pairs})


def test_whole_networks_are_compared_with_the_one_trained_as_usual(overlap):
    base = build_grid("remedies", "paper")
    made = []
    for config in base[:10]:
        arm = grids.arm(config)
        hits = {"cross entropy": 30, "balanced softmax": 40}.get(arm)
        if hits:
            measured = {"train_counts": [90, 10], "test_counts": [50, 50], "readouts": {
                "network": pack_rows([[hits, hits + config.split_seed], [50, 50]])}}  # fmt: skip
            for draw in range(3):
                one = dataclasses.replace(config, split_seed=draw, train_seed=draw)
                made.append(Record("0" * 16, one.to_dict(), {}, "0" * 64, measured, {}))
    frame = chapter.in_words(remedies.frame(records_frame(made)))
    table = whole.fine_tuned_table(frame, {})
    assert table["trained with"].unique().tolist() == ["balanced softmax"]
    assert table["points"].str.startswith("+20.0").all()
    assert "3 draws of six scenes" in whole.fine_tuned_in_words(frame)
