"""Some runs of a grid, asked for by the values of their fields."""

from __future__ import annotations

from collections.abc import Sequence

from imbal_book.run.config import RunConfig
from imbal_core._checks.names import unknown_name


def select_runs(grid: Sequence[RunConfig], only: str) -> list[RunConfig]:
    """Return the runs of a grid whose fields have the asked values, in their order.

    ``only`` is ``FIELD=VALUE``, several with commas between them; a field given twice accepts both values. Upper and
    lower case are one. "" asks for all runs.

    Raises
    ------
    ValueError
        For an unknown field, a value that no run of the grid has, or values that no run has together.
    """
    rows = [{field: str(value).lower() for field, value in config.to_dict().items()} for config in grid]
    wanted: dict[str, set[str]] = {}
    for item in filter(str.strip, only.split(",") if rows else ()):
        field, equals, value = (text.strip() for text in item.partition("="))
        if not equals:
            raise ValueError(f"--only {only!r}: {item!r} is not FIELD=VALUE, such as sampler=over-sample")
        if field not in rows[0]:
            raise unknown_name("field of a run", field, rows[0])
        if value.lower() not in (values := {row[field] for row in rows}):
            raise unknown_name(f"{field} in this grid", value, values)
        wanted.setdefault(field, set()).add(value.lower())
    kept = [all(row[field] in values for field, values in wanted.items()) for row in rows]
    if wanted and not any(kept):
        raise ValueError(f"--only {only!r}: each value occurs in the grid, but no run has all of them")
    return [config for config, keep in zip(grid, kept, strict=True) if keep]


def shard(grid: Sequence[RunConfig], part: str) -> list[RunConfig]:
    """Return every N-th run of a grid from the I-th on, so that all shards have runs of every kind.

    ValueError if ``part`` is not ``I/N`` with I between 1 and N.
    """
    number, slash, count = part.partition("/")
    whole = bool(slash) and all(text.isascii() and text.isdigit() for text in (number, count))
    if not whole or not 1 <= int(number) <= int(count):
        raise ValueError(f"--shard {part!r}: expected I/N with I from 1 to N, such as 2/8")
    return list(grid[int(number) - 1 :: int(count)])
