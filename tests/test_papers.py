"""The papers' files: what they hold against numbers typed a second time, and what the loader refuses."""

import copy
from pathlib import Path

import pytest
import yaml

from imbal_core import papers
from imbal_core.papers import Number, PaperError, Table, list_papers, load_paper, parse_paper

# Typed from the paper's text, independently of the file: one string per table, in reading order.
TABLE_I = """
400 100 200 50 200 50 | 400 100 200 50 600 150 | 400 100 200 50 1000 250 | 400 100 400 100 1400 350
400 100 400 100 1800 450 | 4000 1000 400 100 2200 550 | 4000 1000 2000 500 2600 650
4000 1000 2000 500 3000 750 | 4000 1000 2000 500 3500 870 | 4000 1000 4000 1000 4000 1000
"""
TABLE_II = """
40 10 20 5 20 5 | 40 10 20 5 60 15 | 40 10 20 5 100 25 | 40 10 40 10 140 35 | 40 10 40 10 180 45
400 100 40 10 220 55 | 400 100 200 50 260 65 | 400 100 200 50 300 75 | 400 100 200 50 350 87
400 100 400 100 400 100
"""
TABLE_V = {"D": "779 747 857", "C": "824 775 859", "F": "826 772 865", "OD": "787 770 850", 
           "OC": "831 792 861", "OF": "830 796 862"}  # fmt: skip
TABLE_VI = {"D": "511 430 575", "C": "558 482 583", "F": "555 476 577", "OD": "524 434 573", 
            "OC": "555 476 563", "OF": "555 468 565"}  # fmt: skip
TABLE_VII = {"D": "637 589 682", "C": "656 590 686"}


@pytest.fixture(scope="module")
def zhang():
    return load_paper("zhang_2018")


@pytest.mark.parametrize(("name", "typed", "test"), [("I", TABLE_I, 1000), ("II", TABLE_II, 100)])
def test_counts_are_those_of_the_paper(zhang, name, typed, test):
    rows = [[int(n) for n in row.split()] for line in typed.strip().split("\n") for row in line.split("|")]
    assert len(rows) == 10
    table = zhang.tables[name]
    assert [row[2:8] for row in table.rows] == rows
    assert [row[8] for row in table.rows] == [test] * 10
    labels = [label for first, last, *_ in table.rows for label in range(first, last + 1)]
    assert labels == list(range(10 if name == "I" else 100))


def test_totals_are_the_same_for_both_data_sets(zhang):
    totals = {"A": (22000, 5500), "B": (11800, 2950), "C": (20300, 5070)}
    for name in ("I", "II"):
        frame = zhang.tables[name].frame()
        labels = frame["last_label"] - frame["first_label"] + 1
        for kind, (train, valid) in totals.items():
            assert (frame[f"{kind}_train"] * labels).sum() == train
            assert (frame[f"{kind}_valid"] * labels).sum() == valid
            assert zhang.numbers[f"total-{kind}-train"].value == train
            assert zhang.numbers[f"total-{kind}-valid"].value == valid


@pytest.mark.parametrize(("name", "typed"), [("V", TABLE_V), ("VI", TABLE_VI), ("VII", TABLE_VII)])
def test_accuracies_are_those_of_the_paper(zhang, name, typed):
    expected = [[readout, *(int(n) / 1000 for n in line.split())] for readout, line in typed.items()]
    assert zhang.tables[name].rows == expected
    for readout, *values in expected:
        for column, value in zip("ABC", values, strict=True):
            assert zhang.tables[name].number(readout, column).reported() == value


def test_structures_end_where_the_paper_reads_its_features(zhang):
    vgg, allcnn = zhang.tables["III"], zhang.tables["IV"]
    assert [row[:2] for row in vgg.rows if row[2]] == [
        ["Convolution + ReLU", [1, 1, 4096]],
        ["FC-4096", [4096]],
    ]
    assert [row[1] for row in allcnn.rows if row[2]] == [[6, 6, 10]]
    assert vgg.rows[3][1] == [28, 28, 56]  # the misprint stays
    assert (len(vgg.rows), len(allcnn.rows)) == (12, 12)


def test_every_entry_has_a_status_and_nothing_is_recalled(zhang):
    entries = [
        *zhang.tables.values(),
        *zhang.numbers.values(),
        *zhang.protocol.values(),
        *zhang.claims.values(),
    ]
    assert {entry.status for entry in entries} == {"read", "computed"}
    assert {n.status for n in zhang.numbers.values()} == {"computed"}


def test_the_twelve_open_points_each_have_a_choice(zhang):
    assert [a.id for a in zhang.ambiguities] == list(range(1, 13))
    assert all(len(a.paper) > 20 and len(a.chosen) > 10 for a in zhang.ambiguities)
    assert [a.id for a in zhang.ambiguities if a.ablated] == [10, 11]


def test_the_claims_hold_in_the_paper_s_own_tables_as_their_notes_say(zhang):
    def gains(claim_id, forms=("fine-tuned", "from scratch")):
        claim = zhang.claims[claim_id]
        return {
            (form, contrast.a, contrast.b, cell.dataset, cell.imbalance): round(gain, 6)
            for form in forms
            for contrast in claim.contrasts
            for cell in claim.cells
            if contrast.dataset in (None, cell.dataset)
            if (gain := claim.reported_gain(contrast, cell, form)) is not None
        }

    first = gains("D-1")
    assert len(first) == 4 * 6 + 3
    assert min(first.values()) == 0.001 == first["from scratch", "C", "D", "cifar10", "B"]
    third = gains("D-3")
    assert len(third) == 12
    assert {place[1:] for place, gain in third.items() if gain < 0} == {("OF", "F", "cifar10", "C")}
    assert {place[1:] for place, gain in third.items() if gain == 0} == {("OF", "F", "cifar100", "A")}
    assert third["fine-tuned", "OC", "C", "cifar10", "B"] == 0.017
    assert gains("D-2") == gains("D-4") == {}


def test_quotes_stand_in_the_claims(zhang):
    assert set(zhang.claims) == {"D-1", "D-2", "D-3", "D-4"}
    assert all(claim.quote and claim.paper == "zhang_2018" for claim in zhang.claims.values())


# The loader


def test_every_paper_loads_and_is_named_as_its_file():
    assert "zhang_2018" in list_papers()
    for name in list_papers():
        assert load_paper(name).name == name


def test_a_mistyped_paper_gets_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'zhang_2018'"):
        load_paper("zhang_2017")


def test_a_recalled_number_is_never_reported():
    recalled = Number("f1", 0.2942, "recalled", "Table 2")
    with pytest.raises(PaperError, match="'f1' is recalled"):
        recalled.reported()
    assert recalled.text(".2f") == "0.29 (recalled, not verified)"
    computed = Number("total", 22000, "computed", "sum")
    with pytest.raises(PaperError, match="computed"):
        computed.reported()
    assert computed.text(",d") == "22,000 (computed)"
    assert Number("d", 0.779, "read", "Table V").text(".3f") == "0.779"


def test_a_recalled_row_cannot_be_shown_in_a_table():
    rows = [["VGG19", 0.29, "read"], ["VGG19 with weights", 0.79, "recalled"]]
    table = Table("2", "F1", "accuracy", "read", ["net", "F1", "status"], rows)
    assert table.number("VGG19", "F1").reported() == 0.29
    with pytest.raises(PaperError, match="recalled"):
        table.number("VGG19 with weights", "F1").reported()
    with pytest.raises(PaperError, match="recalled, not reported"):
        table.frame()


@pytest.fixture(scope="module")
def content():
    return yaml.safe_load(Path(papers.__file__).with_name("zhang_2018.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["tables"][4].pop("status"), "'V' is incomplete.*status"),
        (lambda raw: raw["numbers"][0].pop("status"), "total-A-train.*status"),
        (lambda raw: raw["numbers"][0].update(status="guessed"), "unknown status.*'recalled'"),
        (lambda raw: raw["numbers"][0].update(value="22000"), "expected a number"),
        (lambda raw: raw["protocol"][0].update(staus="read"), "did you mean 'status'"),
        (lambda raw: raw["tables"][4]["rows"][0].pop(), "has 3 cells, expected 4"),
        (lambda raw: raw["numbers"].append(raw["numbers"][0]), "share an id"),
        (lambda raw: raw["claims"].append(raw["claims"][0]), "share an id"),
        (lambda raw: raw["claims"][0].update(kind="evry cell"), "did you mean 'every cell'"),
        (lambda raw: raw["claims"][0]["contrasts"][0].update(sign=0), "expected 1 or -1"),
        (lambda raw: raw.pop("year"), "incomplete.*year"),
        (lambda raw: raw.update(pages=3), "unknown field"),
    ],
)
def test_a_broken_file_is_refused_by_entry(content, change, message):
    broken = copy.deepcopy(content)
    change(broken)
    with pytest.raises(PaperError, match=message):
        parse_paper(broken)


def test_an_unknown_row_or_column_gets_the_nearest_name(zhang):
    with pytest.raises(PaperError, match="unknown column"):
        zhang.tables["V"].number("D", "E")
    with pytest.raises(PaperError, match="unknown row"):
        zhang.tables["V"].number("X", "A")
