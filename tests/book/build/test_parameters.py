from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from imbal_book.build.parameters import (
    NotebookError,
    check_parameters,
    declared_parameters,
    parse_parameters,
    read_notebook,
)

CELL = """\
PROFILE = "best"  # which records
TRAIN = False  # True: train what is missing
SEEDS: int = 3
RATE = 0.1  # per step
CLASSES = ["cat", "dog"]
LIMIT = None
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(tmp_path / "chapter.ipynb", CELL)


def write(path: Path, source: str, tags=("parameters",)) -> Path:
    cell = new_code_cell(source, metadata={"tags": list(tags)})
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


def test_parameters_are_read_in_order_with_their_defaults(notebook):
    found = declared_parameters(notebook)
    assert list(found) == ["PROFILE", "TRAIN", "SEEDS", "RATE", "CLASSES", "LIMIT"]
    assert found["RATE"] == 0.1 and found["CLASSES"] == ["cat", "dog"] and found["LIMIT"] is None


def test_given_values_replace_defaults_and_the_rest_stays(notebook):
    values = check_parameters(notebook, {"SEEDS": 5, "PROFILE": "smoke"})
    assert values == {
        "PROFILE": "smoke",
        "TRAIN": False,
        "SEEDS": 5,
        "RATE": 0.1,
        "CLASSES": ["cat", "dog"],
        "LIMIT": None,
    }


def test_a_mistyped_parameter_is_refused_with_the_nearest_name(notebook):
    with pytest.raises(
        ValueError, match=r"unknown parameter of chapter 'SEDES': did you mean 'SEEDS'.*'TRAIN'"
    ):
        check_parameters(notebook, {"SEDES": 5})


def test_a_mistyped_profile_is_refused_with_the_nearest_name(notebook):
    with pytest.raises(ValueError, match=r"unknown profile 'papre': did you mean 'paper'"):
        check_parameters(notebook, {"PROFILE": "papre"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEEDS", "5"),
        ("SEEDS", True),
        ("SEEDS", 5.0),
        ("TRAIN", 1),
        ("TRAIN", "no"),
        ("RATE", "fast"),
        ("RATE", True),
    ],
)
def test_a_value_of_another_type_is_refused(notebook, name, value):
    with pytest.raises(TypeError, match=f"parameter {name} of chapter: got .*expected"):
        check_parameters(notebook, {name: value})


@pytest.mark.parametrize(("name", "value"), [("RATE", 1), ("LIMIT", 10), ("CLASSES", [])])
def test_an_int_stands_for_a_float_and_none_takes_anything(notebook, name, value):
    assert check_parameters(notebook, {name: value})[name] == value


def test_a_notebook_without_the_tag_says_what_to_do(tmp_path):
    with pytest.raises(NotebookError, match="plain.ipynb has no cell tagged 'parameters'; tag its first"):
        declared_parameters(write(tmp_path / "plain.ipynb", CELL, tags=()))


@pytest.mark.parametrize(
    "line", ["x = {[]: 1}", "x = 1 + y", "import os", "print(1)", "a, b = 1, 2", "a = b = 1", "x: int"]
)
def test_anything_but_plain_literals_is_refused_by_line(tmp_path, line):
    with pytest.raises(NotebookError, match="line 2 of the parameters cell"):
        declared_parameters(write(tmp_path / "bad.ipynb", f"y = 1\n{line}"))


@pytest.mark.parametrize("cell", ["x = (", "x = 1\n  y = 2", "x = '\0'"])
def test_a_cell_that_is_no_python_is_refused_by_name(tmp_path, cell):
    with pytest.raises(NotebookError, match="bad.ipynb: its parameters cell is no Python"):
        declared_parameters(write(tmp_path / "bad.ipynb", cell))


def test_a_text_that_python_cannot_read_stays_a_text():
    texts = ["{[]: 1}", "(" * 300, "1_", "'"]
    assert [parse_parameters([f"A={text}"])["A"] for text in texts] == texts


def test_texts_become_literals_words_and_booleans():
    texts = ["A=3", "B=0.5", "C=TRUE", "D=False", "E=smoke", "F=[1, 2]", "G=a=b", "H='3'"]
    assert parse_parameters(texts) == {
        "A": 3,
        "B": 0.5,
        "C": True,
        "D": False,
        "E": "smoke",
        "F": [1, 2],
        "G": "a=b",
        "H": "3",
    }


@pytest.mark.parametrize("text", ["A", "=3", "two words=1"])
def test_a_text_without_a_name_is_refused(text):
    with pytest.raises(ValueError, match="not of the form NAME=VALUE"):
        parse_parameters([text])


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.ipynb"):
        read_notebook(tmp_path / "absent.ipynb")
    for text in ("not json", "[1, 2]", '{"a": 1}'):
        (tmp_path / "broken.ipynb").write_text(text)
        with pytest.raises(NotebookError, match=r"broken\.ipynb is not a notebook"):
            read_notebook(tmp_path / "broken.ipynb")
