"""Published accuracies on imbalanced CIFAR: what the table holds, and what may be drawn from it."""

import math

import pytest

from imbal_book.evidence.papers.facts import PaperError
from imbal_book.evidence.papers.reference import (
    parse_reference,
    published_values,
    reference_numbers,
)

# Typed a second time: percent at exponential imbalance, "100 50 10" for CIFAR-10 | the same for CIFAR-100. "-" is none,
# "*" recalled.
TRICKS = "zhangyongshun/BagofTricks-LT, trick_gallery.md"
TYPED = {
    ("CE", TRICKS): "70.36 74.81 - | 38.32 43.85 -",
    ("Focal, sigmoid", TRICKS): "71.56 77.91 - | 37.22 41.79 -",
    ("Class-balanced", TRICKS): "70.48 77.48 - | 38.97 43.78 -",
    ("Balanced softmax", TRICKS): "77.54 81.11 - | 42.99 46.55 -",
    ("tau-normalisation", TRICKS): "72.70 79.78 - | 40.96 45.69 -",
    ("cRT", TRICKS): "74.99 80.17 - | 40.26 45.36 -",
    ("LDAM-DRW", "LDAM paper; rounded values in later papers"): "77.03 81.0 *88.16 | 42.04 46.6 58.7",
    ("Focal", "LDAM and BBN papers"): "*70.38 *76.72 *86.66 | *38.41 *44.32 *55.78",
    ("Logit adjustment", "google-research/logit_adjustment, README"): "77.89 - - | 44.06 - -",
    ("Logit adjustment, post-hoc", "google-research/logit_adjustment, README"): "77.32 - - | 44.07 - -",
}


@pytest.fixture(scope="module")
def table():
    return reference_numbers()


def test_numbers_are_those_of_their_sources(table):
    for (method, source), line in TYPED.items():
        rows = table[(table["method"] == method) & (table["source"] == source)]
        rows = rows[(rows["imbalance"] == "exponential") & ~rows["repeats"]]
        found = {(row["dataset"], row["ratio"]): row for row in rows.to_dict("records")}
        for dataset, part in zip(("cifar10", "cifar100"), line.split("|"), strict=True):
            for ratio, typed in zip((100, 50, 10), part.split(), strict=True):
                row = found.pop((dataset, ratio), None)
                if typed == "-":
                    assert row is None
                elif typed.startswith("*"):
                    assert row["text"] == f"{typed[1:]} (recalled, not verified)"
                    assert row["status"] == "recalled" and math.isnan(row["value"])
                else:
                    assert (row["text"], row["status"]) == (typed, "read")
                    assert row["value"] == pytest.approx(float(typed) / 100)
        assert not found


def test_a_recalled_number_stands_in_its_labelled_text_alone(table):
    recalled = table["status"] == "recalled"
    assert 0 < recalled.sum() < len(table)
    assert table.loc[recalled, "value"].isna().all() and table.loc[~recalled, "value"].between(0, 1).all()
    assert (table["text"].str.contains("recalled, not verified") == recalled).all()
    assert set(table["status"]) == {"read", "recalled"} and (table["source"].str.len() > 5).all()


def test_the_values_of_cross_entropy_count_each_result_once(table):
    # 70.36 is printed by two sources; the second is the same result.
    values = published_values(table, "CE", "cifar10", 100)
    assert (min(values), max(values), len(values)) == (0.7036, 0.7317, 7)
    assert published_values(table, "CE", "cifar10", 100, imbalance="step") == [0.6269]


def test_values_are_all_that_were_read_and_nothing_that_is_recalled(table):
    values = published_values(table, "Balanced softmax", "cifar100", 100)
    assert sorted(values) == pytest.approx([0.4299, 0.451, 0.4647])
    # 77.67 is recalled and would be the lowest
    assert min(published_values(table, "Logit adjustment", "cifar10", 100)) == 0.7789
    assert published_values(table, "CE", "cifar10", 10) == []


def test_every_compared_arm_of_the_chapter_that_is_published_has_numbers(table):
    for arm in ("CE", "Class-balanced", "LDAM-DRW", "Balanced softmax", "Logit adjustment"):
        for dataset in ("cifar10", "cifar100"):
            assert published_values(table, arm, dataset, 100), (arm, dataset)


def test_a_focal_loss_over_sigmoids_does_not_stand_for_the_softmax_form_of_the_arm(table):
    assert published_values(table, "Focal", "cifar10", 100) == [], "what is left of that form is recalled"
    assert published_values(table, "Focal, sigmoid", "cifar10", 100) == [0.7156]


def test_a_mistyped_method_gets_the_nearest_name(table):
    with pytest.raises(ValueError, match="did you mean 'LDAM-DRW'"):
        published_values(table, "LDAM-DRV", "cifar10", 100)
    with pytest.raises(ValueError, match="unknown imbalance"):
        published_values(table, "CE", "cifar10", 100, imbalance="steps")


GOOD = {"method": "CE", "variant": "v", "source": "s", "values": [["cifar10", 100, "70.4", "read"]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [["cifar10", 100, "70.4"]]}, "expected data set, ratio, percent and status"),
        ({"values": [["cifar10", 100, 70.4, "read"]]}, "in quotes"),
        ({"values": [["cifar10", 100, "70.4", "guessed"]]}, "unknown status"),
        ({"values": 2 * GOOD["values"]}, "two numbers of 'CE'"),
        ({"methods": "CE"}, "did you mean 'method'"),
        ({"source": None}, "incomplete.*source"),
    ],
)
def test_a_broken_entry_is_refused(change, message):
    entry = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(PaperError, match=message):
        parse_reference([entry])
    assert len(parse_reference([GOOD])) == 1
