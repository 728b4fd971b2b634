"""The tables of the chapter on category centers, each against a second computation."""

import math

import numpy as np
import pandas as pd
import pytest
from long_rows import rows, t_interval
from scipy import stats

from imbal_book.chapters import category_centers as tables
from imbal_book.chapters.readings import judge_forms, recalls
from imbal_book.evidence.papers import load_paper
from imbal_book.evidence.rules import load_rules


@pytest.fixture(scope="module")
def paper():
    return load_paper("zhang_2018")


def long_frame(values, form="frozen", **options):
    """Return rows in long form; ``values`` maps (type, readout) to one value per seed."""
    return pd.concat(
        rows({readout: series}, form=form, imbalance=kind, **options)
        for (kind, readout), series in values.items()
    )


VALUES = {
    ("A", "D"): [0.70, 0.72, 0.69, 0.74],
    ("A", "C"): [0.73, 0.74, 0.70, 0.75],
    ("A", "F"): [0.71, 0.75, 0.72, 0.73],
    ("A", "LA"): [0.78, 0.79, 0.77, 0.80],
    ("B", "D"): [0.61, 0.66, 0.64, 0.60],
    ("B", "C"): [0.60, 0.63, 0.65, 0.58],
}


def compared(frame, paper, form, dataset="cifar10"):
    cells = tables.comparison(frame, paper)
    return cells[(cells["form"] == form) & (cells["dataset"] == dataset)]


def test_comparison_has_means_with_intervals_beside_what_the_paper_prints(paper):
    frame = pd.concat(
        [long_frame(VALUES, "fine-tuned"), long_frame(VALUES, "fine-tuned", metric="recall_few")]
    )
    found = compared(frame, paper, "fine-tuned").set_index(["imbalance", "method"])
    for cell, values in VALUES.items():
        row = found.loc[cell]
        assert row["mean"] == pytest.approx(np.mean(values))
        assert (row["low"], row["high"]) == pytest.approx(t_interval(values))
        assert row["n"] == 4
    # Table V
    assert found.loc[("A", "D"), "paper"] == 0.779 and found.loc[("B", "F"), "paper"] == 0.772
    assert found.loc[("C", "OF"), "paper"] == 0.862 and found.loc[("C", "OF"), "n"] == 0
    assert math.isnan(found.loc[("A", "LA"), "paper"]) and math.isnan(found.loc[("C", "D"), "mean"])
    assert len(found) == 3 * 6 + 1, "LA was run for one type"


def test_comparison_leaves_out_methods_that_neither_has(paper):
    found = compared(long_frame(VALUES, "from scratch"), paper, "from scratch")
    assert list(found["method"].unique()) == ["D", "C", "F", "LA"]
    assert found.set_index(["imbalance", "method"]).loc[("B", "C"), "paper"] == 0.590  # Table VII
    frozen = compared(long_frame(VALUES), paper, "frozen")
    assert frozen["paper"].isna().all(), "the paper has no frozen features"


def test_the_printed_comparison_says_what_was_not_attempted(paper):
    cells = compared(long_frame(VALUES, "fine-tuned"), paper, "fine-tuned")
    printed = tables.comparison_table(cells)
    mean, (_, high) = np.mean(VALUES["A", "D"]), t_interval(VALUES["A", "D"])
    assert printed.loc["D", ("type A", "here")] == f"{mean:.3f} ± {high - mean:.3f}"
    assert printed.loc["D", ("type A", "paper")] == "0.779"
    assert printed.loc["OD", ("type A", "here")] == "not attempted"
    assert printed.loc["D", ("seeds", "")] == "4" and printed.loc["OD", ("seeds", "")] == "0"
    assert printed.loc["LA", ("type A", "paper")] == ""
    assert not printed.astype(str).apply(lambda column: column.str.contains("nan")).any().any()


def test_the_printed_comparison_has_no_column_for_a_paper_that_prints_nothing(paper):
    cells = compared(long_frame({("A", "D"): [0.5]}), paper, "frozen")
    printed = tables.comparison_table(cells)
    assert "paper" not in printed.columns.get_level_values(1)
    assert printed.loc["D", ("type A", "here")] == "0.500", "one run has no interval"
    assert printed.loc["D", ("seeds", "")] == "1"


def test_gains_are_paired_differences_beside_those_of_the_paper(paper):
    shuffled = long_frame(VALUES, "fine-tuned").sample(frac=1, random_state=0)
    found = tables.gains(shuffled, paper)
    cells = {(row["row"], row["method"]): row for row in found.to_dict("records")}
    assert list(cells) == [("type A", "C"), ("type A", "F"), ("type A", "LA"), ("type B", "C")]
    for (kind, method), row in cells.items():
        test = stats.ttest_rel(VALUES[kind[-1], method], VALUES[kind[-1], "D"])
        interval = test.confidence_interval(0.95)
        difference = np.mean(VALUES[kind[-1], method]) - np.mean(VALUES[kind[-1], "D"])
        assert (row["mean"], row["low"], row["high"]) == pytest.approx(
            (difference, interval.low, interval.high)
        )
        assert (row["n"], row["panel"]) == (4, "CIFAR-10, fine-tuned")
    assert cells["type A", "C"]["paper"] == pytest.approx(0.824 - 0.779)
    assert cells["type B", "C"]["paper"] == pytest.approx(0.775 - 0.747)
    assert math.isnan(cells["type A", "LA"]["paper"])


def test_a_seed_without_its_partner_forms_no_pair(paper):
    found = tables.gains(long_frame({("A", "D"): [0.5, 0.6, 0.7], ("A", "F"): [0.6, 0.6]}), paper)
    assert found["n"].tolist() == [2] and found["mean"].tolist() == pytest.approx([0.05])


def test_ablations_average_the_types_of_a_seed_and_take_the_interval_over_seeds():
    values = {
        ("A", "C"): [0.70, 0.72, 0.69],
        ("A", "C, renormalized"): [0.71, 0.75, 0.70],
        ("B", "C"): [0.60, 0.62, 0.61],
        ("B", "C, renormalized"): [0.60, 0.61, 0.64],
        ("A", "F"): [0.70, 0.72, 0.69],
        ("A", "F, training images only"): [0.69, 0.70, 0.69],
    }
    found = tables.ablations(long_frame(values)).set_index("method")
    by_seed = [(0.01 + 0.00) / 2, (0.03 - 0.01) / 2, (0.01 + 0.03) / 2]
    low, high = t_interval(by_seed)
    expected = f"{100 * np.mean(by_seed):+.2f} ({100 * low:.2f} to {100 * high:.2f})"
    assert found.loc["C", "centers scaled to length 1"] == expected
    low, high = t_interval([-0.01, -0.02, 0.0])
    assert found.loc["F", "without the validation images"] == f"-1.00 ({100 * low:.2f} to {100 * high:.2f})"
    assert pd.isna(found.loc["C", "without the validation images"])
    assert found["seeds"].tolist() == [3, 3] and set(found["form"]) == {"frozen"}


def test_best_remedy_sets_the_better_center_against_adjusted_logits():
    (row,) = tables.best_remedy(long_frame(VALUES)).to_dict("records")
    low, high = stats.ttest_rel(VALUES["A", "C"], VALUES["A", "LA"]).confidence_interval(0.95)
    gain = np.mean(VALUES["A", "C"]) - np.mean(VALUES["A", "LA"])
    assert (row["type"], row["best center"], row["n"]) == ("A", "C", 4)
    assert row["center - LA"] == f"{100 * gain:+.1f} ({100 * low:.1f} to {100 * high:.1f})"
    adjusted = np.mean(VALUES["A", "LA"]) - np.mean(VALUES["A", "D"])
    assert row["LA - D"].startswith(f"{100 * adjusted:+.1f} (")


def test_available_puts_the_nearest_to_the_paper_first():
    frame = pd.concat(
        long_frame({("A", "D"): [0.5]}, form, dataset=dataset)
        for form, dataset in [("frozen", "cifar100"), ("frozen", "cifar10"), ("fine-tuned", "cifar10")]
    )
    found = tables.available(frame)
    assert found.to_numpy().tolist() == [
        ["fine-tuned", "cifar10", "CIFAR-10, fine-tuned"],
        ["frozen", "cifar10", "CIFAR-10, frozen (extension)"],
        ["frozen", "cifar100", "CIFAR-100, frozen (extension)"],
    ]


def test_a_fair_head_stands_before_the_handicapped_one_beside_the_same_table_of_the_paper(paper):
    both = [long_frame(VALUES, form) for form in ("fine-tuned", "fine-tuned, fair head")]
    assert tables.available(pd.concat(both))["form"].tolist() == ["fine-tuned, fair head", "fine-tuned"]
    fair, old = (compared(pd.concat(both), paper, form) for form in ("fine-tuned, fair head", "fine-tuned"))
    assert fair["paper"].dropna().tolist() == old["paper"].dropna().tolist()
    labels = {v.form for c in paper.claims.values() for v in judge_forms(c, pd.concat(both), c.forms) if v.n}
    assert labels == {"fine-tuned, fair head", "fine-tuned"}


def label_rows(dataset, num_labels, recall):
    return pd.DataFrame(
        [
            {
                "form": "frozen",
                "dataset": dataset,
                "imbalance": "A",
                "split_seed": seed,
                "train_seed": seed,
                "readout": "D",
                "label": label,
                "train_count": 10 * (label + 1),
                "recall": recall(seed, label),
            }
            for seed in range(3)
            for label in range(num_labels)
        ]
    )


def test_labels_of_cifar10_stand_alone_with_an_interval_inside_0_to_1():
    rows = label_rows(
        "cifar10", 10, lambda seed, label: [0.9, 1.0, 0.98][seed] if label == 9 else 0.1 * label
    )
    found = recalls(rows).set_index("label")
    assert list(found.index) == [str(label) for label in range(10)]
    assert found.loc["3", "mean"] == pytest.approx(0.3) and found.loc["3", "train_count"] == 40
    low, high = t_interval([0.9, 1.0, 0.98])
    assert high > 1 and found.loc["9", "high"] == 1
    assert found.loc["9", "low"] == pytest.approx(low) and found.loc["9", "n"] == 3


def test_labels_of_cifar100_are_averaged_in_tens_before_the_interval():
    rows = label_rows("cifar100", 100, lambda seed, label: (label % 10) / 10 + 0.01 * seed)
    found = recalls(rows)
    assert found["label"].tolist() == [f"{start}-{start + 9}" for start in range(0, 100, 10)]
    low, high = t_interval([0.45, 0.46, 0.47])
    assert found["mean"].tolist() == pytest.approx([0.46] * 10)
    assert found["low"].tolist() == pytest.approx([low] * 10) and found["high"].tolist() == pytest.approx(
        [high] * 10
    )
    assert set(found["n"]) == {3}


def test_the_rules_name_the_same_extension_and_the_paper_has_no_such_form(paper):
    (entry,) = load_rules().content["extensions"]
    assert (entry["study"], entry["form"]) == ("category_centers", tables.EXTENSION)
    assert tables.EXTENSION not in paper.forms and set(tables.FORMS) == {*paper.forms, tables.EXTENSION}


def test_verdicts_leave_digits_and_frozen_features_out(paper):
    def labels(frame):
        claims = paper.claims.values()
        return {verdict.label for claim in claims for verdict in judge_forms(claim, frame, tables.FORMS)}

    digits = long_frame(VALUES, "from scratch", dataset="mnist5k", profile="smoke")
    assert labels(pd.concat([long_frame(VALUES), digits])) == {"not attempted"}
    assert labels(long_frame(VALUES, "from scratch")) > {"not attempted"}
