"""Fields of a configuration: whole numbers and numbers in a range, in one form per value."""

from __future__ import annotations

from numbers import Integral, Real

__all__ = ["check_switch", "check_text", "number", "whole_number"]


def check_text(name: str, value: object) -> None:
    """Refuse what is no string, and an empty one."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}.")
    if not value.strip():
        raise ValueError(f"{name} must not be empty.")


def check_switch(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def whole_number(name: str, value: object, smallest: int, optional: bool) -> int | None:
    """Return a whole number of at least ``smallest``; None passes where it is optional."""
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, got {value!r}.")
    if value < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {value}.")
    return int(value)


def number(
    name: str, value: object, lower: float, with_lower: bool, upper: float, with_upper: bool, optional: bool
) -> float | None:
    """Return a number between ``lower`` and ``upper``, each end in or out; None passes where it is optional."""
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number{' or None' if optional else ''}, got {value!r}.")
    found = float(value)
    low_enough = found < upper or (with_upper and found == upper)
    if not (low_enough and (found > lower or (with_lower and found == lower))):
        interval = f"{'[' if with_lower else '('}{lower:g}, {upper:g}{']' if with_upper else ')'}"
        raise ValueError(f"{name} must lie in {interval}, got {value!r}.")
    return found
