"""What a notebook's ``parameters`` cell declares, and the check of values before papermill sees them.

Papermill ignores a parameter that a notebook does not have. Here a mistyped name or a value of another type
is an error.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imbal_core._checks.names import unknown_name

__all__ = ["NotebookError", "check_parameters", "declared_parameters", "parse_parameters", "read_notebook"]


class NotebookError(RuntimeError):
    """A cell of a notebook failed; the message names notebook and cell and ends with the error."""


def read_notebook(notebook: Path) -> Any:
    """Return a notebook file as nbformat's node, or say which file is missing or is no notebook."""
    import nbformat

    if not notebook.is_file():
        raise FileNotFoundError(f"notebook {notebook.name} not found in {notebook.parent.name}/")
    try:
        found = nbformat.read(notebook, as_version=4)
        nbformat.validate(found)  # reading passes over what is not valid
        return found
    except Exception as error:  # what is no notebook fails in any layer of the readers
        raise NotebookError(f"{notebook.name} is not a notebook: {error}") from error


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Return the parameters that a notebook declares with their defaults, in their order.

    The cell tagged ``parameters`` holds plain literals, one assignment a line:
    ``TRAIN = False  # True: train what the profile lacks``. NotebookError where no cell has the tag, or it holds
    anything else.
    """
    cells = read_notebook(notebook).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise NotebookError(f"{notebook.name} has no cell tagged 'parameters'; tag its first code cell so")
    found = {}
    node: Any
    try:
        body = ast.parse(tagged[0]).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise NotebookError(f"{notebook.name}: its parameters cell is no Python ({error})") from None
    for node in body:
        try:
            (target,) = getattr(node, "targets", None) or [node.target]
            found[target.id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError, TypeError, RecursionError):
            line = f"line {node.lineno} of the parameters cell assigns no plain literal"
            raise NotebookError(f"{notebook.name}: {line}") from None
    return found


def parse_parameters(items: Iterable[str]) -> dict[str, Any]:
    """Return parameters from ``NAME=VALUE`` texts: Python literals, ``true``/``false``, else the text itself.

    Examples
    --------
    >>> parse_parameters(["PROFILE=smoke", "LIVE=false", "SEEDS=3"])
    {'PROFILE': 'smoke', 'LIVE': False, 'SEEDS': 3}
    """
    parsed: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"parameter {item!r} is not of the form NAME=VALUE, such as PROFILE=smoke")
        parsed[name.strip()] = text
        with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            parsed[name.strip()] = ast.literal_eval(
                {"true": "True", "false": "False"}.get(text.lower(), text)
            )
    return parsed


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter of a notebook with its value: the given ones, else the defaults.

    Raises
    ------
    ValueError
        For a name that the notebook does not have (papermill would ignore it), or an unknown profile.
    TypeError
        For a value of another type than the default's; an int may stand for a float.
    """
    from imbal_book.studies import PROFILES

    declared = declared_parameters(notebook)
    for name, value in parameters.items():
        if name not in declared:
            raise unknown_name(f"parameter of {notebook.stem}", name, declared)
        default = declared[name]
        allowed = (int, float) if isinstance(default, float) else type(default)
        same = isinstance(value, allowed) and isinstance(value, bool) == isinstance(default, bool)
        if default is not None and not same:
            got, expected = type(value).__name__, f"expected {type(default).__name__} such as {default!r}"
            raise TypeError(f"parameter {name} of {notebook.stem}: got {value!r} ({got}), {expected}")
        if name == "PROFILE" and value not in ("best", *PROFILES):
            raise unknown_name("profile", value, ("best", *PROFILES))
    return {**declared, **parameters}
