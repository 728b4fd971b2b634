"""Errors for mistyped names: they list what is valid, the nearest first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(
    kind: str, got: object, valid: Iterable[str], error: type[Exception] = ValueError
) -> Exception:
    """Return the exception for what a user gave in place of a valid name of a kind, such as ``"study"``.

    It is not raised here, so that the caller's traceback ends in the caller.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(str(got), names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return error(f"unknown {kind} {got!r}: {hint}Valid: {', '.join(map(repr, names))}.")
