"""What a value from a file must be made of, said as data beside the code that reads the file."""

from __future__ import annotations

import re
import types
from typing import Any, Union, get_args, get_origin

_WORDS = {bool: "true or false", dict: "an object", str: "text"}
_WORDS |= {float: "a finite number", int: "a whole number"}


def check_form(value: object, form: Any, where: str = "") -> None:
    """Raise ValueError with the place of the first part of a value, as `json` or `yaml` reads it, of another form.

    A form is ``str``, ``int``, ``float`` (a finite number), ``bool``, ``dict``, another class or None; a pattern that
    the text matches; a range of whole numbers; ``[form]``, a list of such; ``{"name": form}``, an object with these
    fields and maybe others; ``{str: form}``, one of any names; a tuple of forms, of which one fits. `where` names it.
    """
    if isinstance(form, dict) and isinstance(value, dict):
        names = value if str in form else form
        for name in names:
            if name not in value:
                raise ValueError(f"{where or 'the top level'} lacks {name!r}")
            check_form(value[name], form.get(name, form.get(str)), f"{where}.{name}".lstrip("."))
    elif isinstance(form, list) and isinstance(value, list):
        for number, item in enumerate(value):
            check_form(item, form[0], f"{where}[{number}]")
    elif not _fits(value, form):
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise ValueError(f"{where or 'the top level'} is {shown}, expected {_words(form)}")


def form_of(hint: Any) -> Any:
    """Return the form that a type hint says: of a class, a list, a dict with text as its keys, or some of them."""
    if get_origin(hint) is list:
        return [form_of(get_args(hint)[0])]
    if get_origin(hint) is dict:
        return {str: form_of(get_args(hint)[1])}
    if get_origin(hint) in (types.UnionType, Union):
        return tuple(None if part is type(None) else form_of(part) for part in get_args(hint))
    origin = get_origin(hint) or hint
    return origin if isinstance(origin, type) and origin is not Any else object


def _fits(value: object, form: Any) -> bool:
    if isinstance(form, tuple):
        return any(_agrees(value, one) for one in form)
    if isinstance(form, dict | list):
        return False
    if isinstance(form, re.Pattern):
        return isinstance(value, str) and form.fullmatch(value) is not None
    if form is not bool and isinstance(value, bool):
        return form is object
    if isinstance(form, range):
        return isinstance(value, int) and value in form
    if form is float:
        return isinstance(value, int | float) and abs(value) < 1e308
    return value is None if form is None else isinstance(form, type) and isinstance(value, form)


def _agrees(value: object, form: Any) -> bool:
    try:
        check_form(value, form)
    except ValueError:
        return False
    return True


def _words(form: Any) -> str:
    if isinstance(form, tuple):
        return " or ".join(map(_words, form))
    if isinstance(form, re.Pattern):
        return f"text of the form {form.pattern}"
    if isinstance(form, range):
        return f"a whole number from {form.start:,} to {form.stop - 1:,}"
    if isinstance(form, dict | list):
        return "an object" if isinstance(form, dict) else "a list"
    return "nothing (null)" if form is None else _WORDS.get(form, form.__name__)
