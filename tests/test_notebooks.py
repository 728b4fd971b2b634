"""What a notebook teaches: cells that are visible, short, and made of public names alone."""

import ast
from pathlib import Path

import nbformat
import pytest

import imbal_core

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
HIDDEN = {"hide-input", "hide-cell", "remove-cell", "remove-input"}


def cells(name, *tags):
    """Return the code cells of a chapter that have all these tags."""
    path = next(path for path in NOTEBOOKS if path.stem == name)
    found = nbformat.read(path, as_version=4).cells
    return [c for c in found if c.cell_type == "code" and set(tags) <= set(c.metadata.get("tags", []))]


def taught(name):
    """Return the code cells that a reader sees, but for the one of parameters."""
    return [c for c in cells(name) if not {*HIDDEN, "parameters"} & set(c.metadata.get("tags", []))]


def project_imports(cell):
    """Return what a cell imports from the project, as (module, name)."""
    nodes = [
        node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    found = [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    found += [(alias.name, "") for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return [pair for pair in found if pair[0].startswith("imbal")]


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_shows_its_method_in_short_cells_of_public_names(name):
    shown = taught(name)
    assert len(shown) >= 5
    for cell in shown:
        assert len(cell.source.splitlines()) <= 15, cell.source
        for module, public in project_imports(cell):
            assert module == "imbal_core" and public in imbal_core.__all__, (module, public)
    assert any("assert " in cell.source for cell in shown), "the equation is held against the library's call"
    assert {public for cell in shown for _, public in project_imports(cell)} >= {
        "fit",
        "predict",
        "build_model",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_a_folded_solution_that_runs_with_the_page(name):
    solutions = cells(name, "live", "hide-cell")
    path = next(path for path in NOTEBOOKS if path.stem == name)
    text = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    exercises = [source for source in text if source.startswith("**") and source[2].isdigit()]
    assert len(solutions) == len(exercises) >= 3
    for cell in solutions:
        assert len(cell.source.splitlines()) <= 16
        assert not [pair for pair in project_imports(cell) if pair[0] != "imbal_core"]


@pytest.mark.parametrize("name", NAMES)
def test_a_hidden_cell_says_in_its_first_line_what_it_draws(name):
    for cell in cells(name, "hide-input"):
        first = cell.source.splitlines()[0]
        assert first.startswith("# ") and 15 <= len(first) <= 90 and not first.endswith(":"), first


def names(cell, kind):
    """Return the names that a cell assigns (ast.Store) or reads (ast.Load)."""
    nodes = ast.walk(ast.parse(cell.source))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}


@pytest.mark.parametrize("name", NAMES)
def test_no_other_cell_reads_what_a_cell_that_trains_has_assigned(name):
    trained = set().union(*(names(cell, ast.Store) for cell in cells(name, "live")))
    assert "network" in trained
    for cell in cells(name):
        if "live" not in cell.metadata.get("tags", []):
            # else a replayed page would show other numbers than one with its live cells
            assert (names(cell, ast.Load) - names(cell, ast.Store)) & trained == set()
