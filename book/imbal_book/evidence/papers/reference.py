"""Published accuracies on long-tailed CIFAR, gathered from many works, every number with its status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from imbal_book.evidence.papers.facts import Number, PaperError, status_label
from imbal_core._checks.names import unknown_name

__all__ = ["Spread", "parse_reference", "published_spread", "published_values", "reference_numbers"]

_FILE = "cifar_lt_reference.yml"
_FIELDS = ("method", "variant", "source", "imbalance", "repeats", "values")
_COLUMNS = (
    "method",
    "variant",
    "dataset",
    "imbalance",
    "ratio",
    "value",
    "text",
    "status",
    "repeats",
    "source",
)


@dataclass(frozen=True)
class Spread:
    """The lowest and the highest of ``n`` published numbers; NaN where there is none. Fractions."""

    low: float
    high: float
    n: int

    def holds(self, value: float) -> bool:
        """Return whether a value lies between both ends."""
        return self.low <= value <= self.high


def reference_numbers() -> pd.DataFrame:
    """Return the published accuracies of ResNet-32 on imbalanced CIFAR, one row per number.

    Returns
    -------
    DataFrame
        Columns method (this book's arm where it is one), variant (what the source does), dataset ("cifar10",
        "cifar100"), imbalance ("exponential", "step"), ratio (int), value (a fraction; NaN unless it was
        read), text (percent as printed, with the label of a number that was not read), status, repeats (another row
        holds the same number), source.
    """
    content = files("imbal_book.evidence.papers").joinpath(_FILE).read_text(encoding="utf-8")
    return parse_reference(yaml.safe_load(content))


def parse_reference(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of :func:`reference_numbers` from the content of its file.

    Raises
    ------
    PaperError
        If an entry lacks a field or has an unknown one, or a number has no status or stands twice.
    """
    rows = []
    for entry in entries:
        for name in entry:
            if name not in _FIELDS:
                raise unknown_name(f"field of {entry.get('method')!r}", name, _FIELDS, PaperError)
        missing = [name for name in ("method", "variant", "source", "values") if name not in entry]
        if missing:
            raise PaperError(f"reference numbers of {entry.get('method')!r} lack {', '.join(missing)}")
        imbalance, repeats = entry.get("imbalance", "exponential"), entry.get("repeats", False)
        for value in entry["values"]:
            rows.append(_row(entry, imbalance, repeats, value))
    table = pd.DataFrame(rows, columns=_COLUMNS)
    twice = table.duplicated(["method", "variant", "dataset", "imbalance", "ratio", "source"])
    if twice.any():
        row = table[twice].iloc[0]
        raise PaperError(
            f"two numbers of {row['method']!r}, {row['variant']}, {row['dataset']} {row['ratio']}"
        )
    return table


def _row(entry: dict[str, Any], imbalance: str, repeats: bool, value: list[Any]) -> tuple[Any, ...]:
    where = f"{entry['method']}, {entry['variant']}, {value[0]}"
    if len(value) != 4:
        raise PaperError(f"{where}: {value}, expected data set, ratio, value and status")
    dataset, ratio, percent, status = value
    if not isinstance(percent, str):
        raise PaperError(
            f"{where}: {percent!r}, expected percent in quotes, with the digits that are printed"
        )
    number = Number(f"{where} {ratio}", float(percent) / 100, status, entry["source"])
    # a number that was not read stands in its labelled text alone, so that no figure can draw it as published
    readable = number.reported() if status == "read" else math.nan
    return (
        entry["method"], entry["variant"], dataset, imbalance, ratio, readable,
        f"{percent}{status_label(status)}", status, repeats, entry["source"],
    )  # fmt: skip


def published_values(
    method: str,
    dataset: str,
    ratio: int,
    *,
    imbalance: str = "exponential",
    table: pd.DataFrame | None = None,
) -> list[float]:
    """Return the accuracies that were read for a method, fractions.

    Numbers that are only recalled are left out, and one that two sources print counts once.

    Parameters
    ----------
    method : str
        As in :func:`reference_numbers`, such as ``"LDAM-DRW"``.
    dataset : {"cifar10", "cifar100"}
    ratio : int
    imbalance : {"exponential", "step"}, default="exponential"
    table : DataFrame, optional
        Of :func:`reference_numbers`, to read the file once for many calls.

    Raises
    ------
    ValueError
        If the method, the data set or the imbalance stands nowhere in the table; a ratio without numbers
        gives an empty list.
    """
    table = reference_numbers() if table is None else table
    for column, value in (("method", method), ("dataset", dataset), ("imbalance", imbalance)):
        if value not in set(table[column]):
            raise unknown_name(column, value, table[column].unique())
    chosen = table[
        (table["method"] == method)
        & (table["dataset"] == dataset)
        & (table["imbalance"] == imbalance)
        & (table["ratio"] == ratio)
        & (table["status"] == "read")
        & ~table["repeats"].astype(bool)
    ]
    return [float(value) for value in chosen["value"]]


def published_spread(
    method: str,
    dataset: str,
    ratio: int,
    *,
    imbalance: str = "exponential",
    table: pd.DataFrame | None = None,
) -> Spread:
    """Return the lowest and the highest of :func:`published_values`, and how many there are."""
    values = published_values(method, dataset, ratio, imbalance=imbalance, table=table)
    return Spread(min(values, default=math.nan), max(values, default=math.nan), len(values))
