"""The YAML files of the papers and the rules, from text to what they say."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

import yaml

from imbal_core._checks.forms import check_form

_T = TypeVar("_T")


def read_yaml(file: Traversable, parse: Callable[[Any], _T], error: type[ValueError]) -> _T:
    """Return what ``parse`` makes of the values in a YAML file; an ``error``, its own or another, names the file."""
    if not file.is_file():
        raise error(f"{file.name}: there is no such file, or it is no regular one")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except Exception as reason:  # beside its own errors, whatever a date or a tag makes of a text
        raise error(f"{file.name}: cannot be read as YAML ({type(reason).__name__}: {reason})") from reason
    try:
        return parse(content)
    except error as reason:
        raise error(f"{file.name}: {reason}") from reason


def check(value: object, form: Any, where: str, error: type[ValueError]) -> None:
    """Raise an ``error`` unless a value has a form, see `imbal_core._checks.forms.check_form`."""
    try:
        check_form(value, form, where)
    except ValueError as reason:
        raise error(str(reason)) from None
