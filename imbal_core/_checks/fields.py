"""Fields of a configuration: what each may hold is said where it is declared, and there is one form per value."""

from __future__ import annotations

from dataclasses import Field
from numbers import Integral, Real
from typing import Any

from imbal_core._checks.names import unknown_name


def allowed(values: int | str | tuple[str, ...]) -> dict[str, object]:
    """Return the metadata of a dataclass field that say what it may hold, for `checked_field`.

    That is the smallest whole number, an interval of numbers such as ``"[0, 1)"``, or the names to choose from.
    """
    return {"allowed": values}


def checked_field(item: Field[Any], value: object) -> Any:
    """Return the value of a field in the one form that equal values share.

    The class must have its annotations as text: ``bool``, ``int``, ``float`` or ``str``, each also with ``| None``.
    TypeError for a value of another type; ValueError if it is out of range, empty text or an unknown name.
    """
    kind, _, optional = str(item.type).partition(" | ")
    choice: Any = item.metadata.get("allowed")
    if value is None and optional:
        return None
    if kind == "int":
        return whole_number(item.name, value, choice or 0, bool(optional))
    if kind == "float":
        return checked_number(item.name, value, choice, error=TypeError)
    if kind == "bool" and not isinstance(value, bool):
        raise TypeError(f"{item.name} must be True or False, got {value!r}.")
    if isinstance(choice, tuple) and value not in choice:
        raise unknown_name(item.name, value, choice)
    if kind == "str" and not isinstance(value, str):
        raise TypeError(f"{item.name} must be a string, got {value!r}.")
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"{item.name} must not be empty.")
    return value


def whole_number(name: str, value: object, smallest: int, optional: bool = False) -> int:
    """Return a whole number of at least ``smallest``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, got {value!r}.")
    if value < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {value}.")
    return int(value)


def checked_number(name: str, value: object, interval: str, *, error: type[Exception] = ValueError) -> float:
    """Return a number in an interval such as ``"(0, inf)"``: a square bracket lets its end in."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise error(f"{name} must be a number in {interval}, got {value!r}.")
    found = float(value)
    lower, upper = map(float, interval[1:-1].split(","))
    ends = {lower} if interval[0] == "[" else set()
    ends |= {upper} if interval[-1] == "]" else set()
    if not (lower < found < upper or found in ends):
        raise ValueError(f"{name} must lie in {interval}, got {value!r}.")
    return found
