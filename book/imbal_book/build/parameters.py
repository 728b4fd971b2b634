"""What a notebook's ``parameters`` cell declares, and the check of values before papermill sees them.

Papermill ignores a parameter that a notebook does not have. Here a mistyped name or a value of another type
is an error.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbal_core._checks.names import unknown_name

__all__ = [
    "NotebookError",
    "Parameter",
    "check_parameters",
    "inspect_parameters",
    "parse_parameters",
    "read_notebook",
]


class NotebookError(RuntimeError):
    """A cell of a notebook failed; the message names notebook and cell and ends with the error."""


@dataclass(frozen=True)
class Parameter:
    """One name of a notebook's ``parameters`` cell: its default and the comment beside it."""

    name: str
    default: Any
    comment: str = ""


def read_notebook(notebook: Path) -> Any:
    """Return a notebook file as nbformat's node, or say which file is missing or is no notebook."""
    import nbformat

    if not notebook.is_file():
        raise FileNotFoundError(f"notebook {notebook.name} not found in {notebook.parent.name}/")
    try:
        return nbformat.read(notebook, as_version=4)
    except (nbformat.ValidationError, AttributeError, KeyError, ValueError) as error:
        raise NotebookError(f"{notebook.name} is not a notebook: {error}") from error


def inspect_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters that a notebook declares, in their order.

    The cell tagged ``parameters`` holds plain literals, one assignment a line, with an optional comment:
    ``TRAIN = False  # True: train what the profile lacks``.

    Raises
    ------
    NotebookError
        If no cell has the tag, or the cell holds anything but assignments of literals.
    """
    cells = read_notebook(notebook).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise NotebookError(f"{notebook.name} has no cell tagged 'parameters'; tag its first code cell so")
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(tagged[0]).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.parse(tagged[0]).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        try:
            if not isinstance(target, ast.Name) or value is None:
                raise ValueError
            default = ast.literal_eval(value)
        except ValueError:
            raise NotebookError(
                f"{notebook.name}: line {node.lineno} of the parameters cell assigns no plain literal"
            ) from None
        found[target.id] = Parameter(target.id, default, comments.get(node.end_lineno or node.lineno, ""))
    return found


def parse_parameters(items: Iterable[str]) -> dict[str, Any]:
    """Return parameters from ``NAME=VALUE`` texts: Python literals, ``true``/``false``, else the text itself.

    Examples
    --------
    >>> parse_parameters(["PROFILE=smoke", "LIVE=false", "SEEDS=3"])
    {'PROFILE': 'smoke', 'LIVE': False, 'SEEDS': 3}
    """
    parsed = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"parameter {item!r} is not of the form NAME=VALUE, such as PROFILE=smoke")
        try:
            value = ast.literal_eval(text.title() if text.lower() in ("true", "false") else text)
        except (ValueError, SyntaxError):
            value = text
        parsed[name.strip()] = value
    return parsed


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter of a notebook with its value: the given ones, else the defaults.

    Parameters
    ----------
    notebook : Path
        The source notebook.
    parameters : mapping of str to object
        Values to change, by name. A value has the type of the default it replaces (an int may stand for a
        float); ``PROFILE`` is one of the profiles or ``"best"``.

    Raises
    ------
    ValueError
        For a name that the notebook does not have (papermill would ignore it), or an unknown profile.
    TypeError
        For a value of another type than the default's.
    """
    from imbal_book.studies import PROFILES

    declared = inspect_parameters(notebook)
    for name, value in parameters.items():
        if name not in declared:
            raise unknown_name(f"parameter of {notebook.stem}", name, declared)
        default = declared[name].default
        allowed = (int, float) if isinstance(default, float) else type(default)
        same = isinstance(value, allowed) and isinstance(value, bool) == isinstance(default, bool)
        if default is not None and not same:
            raise TypeError(
                f"parameter {name} of {notebook.stem}: got {value!r} ({type(value).__name__}), "
                f"expected {type(default).__name__} such as {default!r}"
            )
        if name == "PROFILE" and value not in ("best", *PROFILES):
            raise unknown_name("profile", value, ("best", *PROFILES))
    return {name: parameters.get(name, parameter.default) for name, parameter in declared.items()}
