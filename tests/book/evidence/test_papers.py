"""The papers' files: what they hold against numbers typed a second time, and what the loader refuses."""

import copy
import math
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from imbal_book.evidence import papers
from imbal_book.evidence.papers import Cell, list_papers, load_paper, parse_paper
from imbal_book.evidence.papers.facts import Number, PaperError, ProtocolItem, Table
from imbal_book.evidence.rules import load_rules

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
        found = {}
        for form in forms:
            for part in load_rules().claims[claim_id]:
                for cell in claim.cells:
                    place = (zhang.forms[form].network, cell.dataset, cell.imbalance)
                    pair = [claim.reported.get((*place, readout)) for readout in (part.a, part.b)]
                    if None not in pair and part.dataset in (None, cell.dataset):
                        found[form, part.a, part.b, cell.dataset, cell.imbalance] = round(
                            pair[0] - pair[1], 6
                        )
        return found

    first = gains("D-1a") | gains("D-1b")
    assert len(first) == 4 * 6 + 3
    assert min(first.values()) == 0.001 == first["from scratch", "C", "D", "cifar10", "B"]
    third = gains("D-3")
    assert len(third) == 12
    adds = {place[1:]: gain for place, gain in third.items() if place[3] == "cifar10"}
    assert {place for place, gain in adds.items() if gain < 0} == {("OF", "F", "cifar10", "C")}
    takes = {place[1:]: gain for place, gain in third.items() if place[3] == "cifar100"}
    assert {place for place, gain in takes.items() if gain >= 0} == {("OF", "F", "cifar100", "A")}
    assert third["fine-tuned", "OC", "C", "cifar10", "B"] == 0.017


def test_quotes_stand_in_the_claims(zhang):
    assert set(zhang.claims) == {"D-1a", "D-1b", "D-2", "D-3", "D-4"}
    assert all(claim.quote and claim.paper == "zhang_2018" for claim in zhang.claims.values())


# Complement cross entropy


@pytest.fixture(scope="module")
def kim():
    return load_paper("kim_2021")


def test_tables_that_could_not_be_read_say_so_in_every_cell(kim):
    table = kim.tables["results"]
    for row in table.rows:
        for column in table.columns[1:]:
            number = table.number(row[0], column)
            assert number.text(".3f") == "could not be read"
            with pytest.raises(PaperError, match="not found"):
                number.reported()
    assert set(table.labelled()[["CE", "COT", "Focal", "CCE"]].to_numpy().ravel()) == {"could not be read"}
    with pytest.raises(PaperError, match="not found, not reported"):
        table.frame()
    assert not kim.numbers
    assert not kim.claims["B-1"].reported and not kim.claims["B-1"].printed


def test_the_sign_history_follows_from_its_expressions(kim):
    # In the expressions -C/K is the repository's complement_entropy, negative.
    history = kim.tables["sign history"]
    frame = history.frame().set_index("commit")
    assert frame.index.tolist() == [
        "1a4ba7538", "ed41acdf2", "3ac7856e7", "8b0aa7eeb", "da6f5926d", "ffc0189e2",
    ]  # fmt: skip
    for commit, row in frame.iterrows():
        term = re.fullmatch(r"CE ([+-]) (gamma|1) \(-C/K\)", row["expression"])
        if term is None:
            assert (commit, row["factor"], row["effect"]) == ("da6f5926d", 0, "plain cross entropy")
            continue
        gamma = row["gamma"] if term[2] == "gamma" else 1
        factor = (1 if term[1] == "+" else -1) * gamma * -1
        assert row["factor"] == factor
        # a loss that grows with the entropy is minimised by a small one
        assert row["effect"].startswith("minimises" if factor > 0 else "maximises")
    assert (frame["until"].tolist()[:-1], frame["until"].iloc[-1]) == (frame["date"].tolist()[1:], "HEAD")
    # states that share a day are told apart by their hours, and what never ran is no state
    notes = frame.iloc[:, -1]
    first, second = (re.search(r"at (\d\d):(\d\d)", notes[commit]) for commit in ("3ac7856e7", "8b0aa7eeb"))
    minutes = [60 * int(hour) + int(minute) for hour, minute in (first.groups(), second.groups())]
    assert 10 <= (minutes[1] - minutes[0]) / 60 < 11 and "about ten hours" in notes["3ac7856e7"]
    assert "cannot run" in notes["3ac7856e7"] and "the class keeps 5" in notes["ed41acdf2"]


def test_each_version_of_the_paper_falls_into_the_state_that_is_named(kim):
    states = kim.tables["sign history"].frame()
    for row in kim.tables["versions"].frame().to_dict("records"):
        state = states[(states["date"] <= row["date"]) & (row["date"] < states["until"])]
        assert len(state) == 1 and state["effect"].iloc[0].startswith(row["repository"])


def test_the_sign_check_and_the_bound_follow_from_the_formula(kim):
    table = kim.tables["sign check"]
    for column, p in zip(table.columns[1:], [(0.5, 0.4, 0.1), (0.5, 0.25, 0.25)], strict=True):
        wrong = [value / (1 - p[0]) for value in p[1:]]
        entropy, ce = -sum(q * math.log(q) for q in wrong), -math.log(p[0])
        expected = {"CE": ce, "CCE (paper)": ce - entropy / 2, "CCE (released)": ce + entropy / 3}
        for row, value in expected.items():
            assert table.number(row, column).value == pytest.approx(value, abs=5e-5)
    peaked, flat = table.columns[1:]
    assert table.number("CCE (paper)", flat).value < table.number("CCE (paper)", peaked).value
    assert table.number("CCE (released)", flat).value > table.number("CCE (released)", peaked).value
    for classes, bound in kim.tables["bound"].rows:
        assert bound == pytest.approx(math.log(classes - 1) / (classes - 1), rel=5e-3, abs=1e-12)


def test_the_loss_s_formula_is_labelled_as_recalled(kim):
    assert kim.protocol["loss"].text() == "CE + gamma C / (K - 1) (recalled, not verified)"
    assert kim.protocol["gamma"].text() == "-1"


def test_the_claims_on_complement_cross_entropy_are_the_papers_but_for_two(kim):
    assert [name for name, claim in kim.claims.items() if claim.ours] == ["B-5", "B-6"]
    parts = load_rules().claims
    assert isinstance(parts["B-5"], float)
    assert [(p.side, p.margin) for p in parts["B-4"]] == [("equal", 0.01)] and "ours" in kim.claims[
        "B-4"
    ].note
    small = kim.forms["small network"]
    assert small.has(Cell("cifar10", "step 10")) and not small.has(Cell("cifar10", "step 100"))
    assert not small.has(Cell("cifar100", "step 10"))
    assert kim.forms["ResNet-34"].has(Cell("cifar100", "step 100"))


# The final batch-normalisation layer


@pytest.fixture(scope="module")
def kocaman():
    return load_paper("kocaman_2020")


def test_only_the_abstract_s_two_numbers_are_reported(kocaman):
    reported = {name: n.value for name, n in kocaman.numbers.items() if n.status == "read"}
    assert reported == {"f1-plain": 0.29, "f1-final-bn": 0.95}
    for arm, unhealthy, healthy in [
        ("plain", 0.2942, 0.7075), ("weighted loss", 0.7947, 0.8596), ("final BN", 0.9562, 0.9577)
    ]:  # fmt: skip
        for column, value in (("unhealthy", unhealthy), ("healthy", healthy)):
            number = kocaman.tables["apple"].number(arm, column)
            assert number.value == value
            with pytest.raises(PaperError, match="recalled"):
                number.reported()
    assert kocaman.tables["apple"].labelled(".2f")["unhealthy"][0] == "0.29 (recalled, not verified)"


def test_what_is_computed_follows_from_what_was_read(kocaman):
    values = {name: n.value for name, n in kocaman.numbers.items() if n.status == "computed"}
    recall = 0.29 / (2 - 0.29)
    expected = {
        "gain": 0.95 - 0.29,
        "recall-behind-plain": recall,
        "healthy-f1-behind-plain": 2 / (3 - recall),
        "minority-share": 10 / 1010,
        "batch-without-minority": 0.99**64,
    }
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=0.02)
    assert kocaman.numbers["improvement-over-weights"].value == pytest.approx(0.9562 - 0.7947)


def test_only_three_plants_have_the_healthy_images_that_the_recalled_split_needs(kocaman):
    counts = {row[0]: row[1] for row in kocaman.tables["healthy images"].rows}
    assert {plant for plant, n in counts.items() if n >= 1300} == {"apple", "pepper", "tomato"}
    assert kocaman.tables["healthy images"].number("apple", "healthy").reported() == 1645
    datasets = {cell.dataset for cell in kocaman.claims["A-1"].cells}
    assert datasets == {"plantvillage-apple", "plantvillage-pepper", "plantvillage-tomato"}


def test_the_abstract_s_gain_stands_beside_vgg19_and_its_stand_in_only(kocaman):
    assert kocaman.claims["A-1"].printed == {"vgg19": pytest.approx(0.66)}
    networks = {form: entry.network for form, entry in kocaman.forms.items()}
    assert networks == {"VGG19": "vgg19", "ResNet34": "resnet34", "EfficientNet-Lite0": "vgg19"}
    assert not any(claim.printed for name, claim in kocaman.claims.items() if name != "A-1")


def test_what_is_ours_stands_below_the_papers_claims(kocaman):
    assert [name for name, claim in kocaman.claims.items() if claim.ours] == ["O-1", "O-2", "O-3"]
    assert list(kocaman.claims)[-3:] == ["O-1", "O-2", "O-3"]
    without = {name for name in kocaman.claims if isinstance(load_rules().claims[name], str)}
    assert without == {"A2-iv", "A2-v", "A2-vi"} and all(kocaman.claims[name].note for name in without)


# Fragility


def test_the_sibling_table_is_exponential_and_its_mean_is_computed():
    dablain = load_paper("dablain_2023")
    frame = dablain.tables["accuracy"].frame()
    assert frame["train"].tolist() == [int(5000 * 0.01 ** (i / 9)) for i in range(10)]
    assert frame["train"].sum() == dablain.numbers["train-images"].value
    assert frame["accuracy"].mean() == pytest.approx(dablain.numbers["mean-accuracy"].value)


def test_both_versions_of_a_claim_are_held_where_they_differ():
    claims = load_paper("dablain_2023").claims
    for name in ("C-2", "C-5"):
        arxiv, journal = claims[f"{name}a"], claims[f"{name}b"]
        assert "arXiv" in arxiv.source and "Machine Learning" in journal.source
        assert arxiv.quote != journal.quote
    assert "number and magnitudes" in claims["C-2a"].quote and "number and" not in claims["C-2b"].quote
    assert "augmentation" in claims["C-5a"].quote and "augmentation" not in claims["C-5b"].quote
    assert all(isinstance(load_rules().claims[name], list) for name in claims)


# All papers


@pytest.mark.parametrize("name", list_papers())
def test_nothing_recalled_can_be_shown_without_its_label(name):
    paper = load_paper(name)
    label = "(recalled, not verified)"
    for number in paper.numbers.values():
        if number.status == "recalled":
            assert number.text().endswith(label)
            with pytest.raises(PaperError):
                number.reported()
    for item in paper.protocol.values():
        assert (label in item.text()) == (item.status == "recalled")
    for table in paper.tables.values():
        shown = table.labelled()
        statuses = [row[table.columns.index("status")] if "status" in table.columns else table.status 
                    for row in table.rows]  # fmt: skip
        assert [row.str.contains(label, regex=False).any() for _, row in shown.iterrows()] == [
            status == "recalled" for status in statuses
        ]
        if "recalled" in statuses:
            with pytest.raises(PaperError, match="not reported"):
                table.frame()
    assert "recalled" not in {claim.status for claim in paper.claims.values()}


@pytest.mark.parametrize("name", list_papers())
def test_every_part_is_within_reach_of_a_form(name):
    paper = load_paper(name)
    for claim in paper.claims.values():
        parts = load_rules().claims[claim.id]
        for part in parts if isinstance(parts, list) else []:
            cells = [cell for cell in claim.cells if part.dataset in (None, cell.dataset)]
            assert cells, f"{claim.id}: {part.part} has no cell"
            for cell in cells:
                forms = [form for form in paper.forms.values() if form.has(cell)]
                assert any({part.a, part.b} <= set(form.readouts) for form in forms), (claim.id, part.part)


def test_every_paper_is_in_the_bibliography_which_is_valid():
    database = pytest.importorskip("pybtex.database", reason="needs the extra [book]")
    entries = database.parse_file(
        str(Path(__file__).parents[3] / "book/references.bib")
    ).entries  # raises at a doubled key or a bad line
    assert {load_paper(name).bibtex_key for name in list_papers()} <= set(entries)
    for key, entry in entries.items():
        assert entry.persons.get("author") and {"title", "year"} <= set(entry.fields), key
        where = {"inproceedings": "booktitle", "article": "journal", "techreport": "institution"}
        assert where.get(entry.type, "note") in entry.fields, key
        if "eprint" in entry.fields:
            assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.fields["eprint"]), key


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
    assert Number("k", 10, "inferred", "code").text() == "10 (inferred)"
    with pytest.raises(PaperError, match="inferred"):
        Number("k", 10, "inferred", "code").reported()


def test_a_number_that_could_not_be_read_has_no_value():
    with pytest.raises(PaperError, match="not found, yet has the value"):
        Number("f1", 0.3, "not found", "Table 2")
    with pytest.raises(PaperError, match="expected a number"):
        Number("f1", None, "read", "Table 2")


def test_words_carry_the_label_of_their_row_too():
    rows = [["K", "10", None, "recalled"], ["FE", "pooled", 64, "read"], ["CE", "product", None, "read"]]
    shown = Table("2", "", "definitions", "read", ["name", "text", "size", "status"], rows).labelled()
    assert shown.columns.tolist() == ["name", "text", "size"]
    assert shown["name"].tolist() == ["K", "FE", "CE"]
    assert shown["text"].tolist() == ["10 (recalled, not verified)", "pooled", "product"]
    assert shown["size"].tolist() == ["", "64", ""]
    assert ProtocolItem("k", "K", "10", "inferred", "code").text() == "10 (inferred)"


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


def reporting(raw, name):
    """Let the first claim name a number as the paper's gain."""
    raw["claims"][0]["printed"] = {"vgg16": [name, name]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["tables"][4].pop("status"), "'V' is incomplete.*status"),
        (lambda raw: raw["numbers"][0].pop("status"), "total-A-train.*status"),
        (lambda raw: raw["numbers"][0].update(status="guessed"), "unknown status.*'recalled'"),
        (lambda raw: raw["numbers"][0].update(value="22000"), "expected a finite number"),
        (lambda raw: raw["protocol"][0].update(staus="read"), "did you mean 'status'"),
        (lambda raw: raw["here"][0].update(paper=["netwrok"]), "did you mean 'network'"),
        (lambda raw: raw["here"][0].pop("why"), "row 'network' of what is done here is incomplete.*why"),
        (lambda raw: raw["here"][0].update(done="{model"), "for 'network' is no text with words"),
        (
            lambda raw: raw["here"][3].update(done=3),
            "row 'epochs' of what is done here: done is 3, expected text",
        ),
        (lambda raw: raw["tables"][4]["rows"][0].pop(), "has 3 cells, expected 4"),
        (lambda raw: raw["numbers"].append(raw["numbers"][0]), "share an id"),
        (lambda raw: raw["claims"].append(raw["claims"][0]), "share an id"),
        (lambda raw: raw["claims"][0].update(kind="every cell"), "unknown field"),
        (lambda raw: reporting(raw, "total-A-trian"), "did you mean 'total-A-train'"),
        (lambda raw: reporting(raw, "total-A-train"), "computed, so it cannot be shown as reported"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"year": "2018"}, "paper .*: year is '2018', expected a whole number"),
        ({"claims": {}}, "claims is {}, expected a list"),
        ({"numbers": [{"id": [1]}]}, r"numbers\[0\].id is \[1\], expected text or a whole number"),
        ({"authors": ["A", 7]}, r"authors\[1\] is 7, expected text"),
        ({"title": None}, "title is None, expected text"),
    ],
)
def test_a_field_of_another_kind_is_named_with_what_was_expected(change, message):
    content = yaml.safe_load(files(papers).joinpath("kim_2021.yml").read_text(encoding="utf-8"))
    with pytest.raises(PaperError, match=message):
        parse_paper(content | change)


def test_a_file_that_is_no_yaml_is_named(monkeypatch):
    def broken(text):
        raise yaml.YAMLError("while scanning")

    monkeypatch.setattr(yaml, "safe_load", broken)
    with pytest.raises(PaperError, match=r"kim_2021.yml: cannot be read as YAML \(YAMLError: while scanning"):
        load_paper("kim_2021")
