"""Words of sentences that are made from scores."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["listed"]


def listed(names: Sequence[str], quotes: str = "“”") -> str:
    """Return names as text: with commas and a last "and", in quotes, for some have a comma; of none "none"."""
    quoted = [f"{quotes[0]}{name}{quotes[-1]}" for name in names]
    if len(quoted) < 2:
        return "".join(quoted) or "none"
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
