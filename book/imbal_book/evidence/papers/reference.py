"""Published accuracies on long-tailed CIFAR, gathered from many works, every number with its status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from imbal_book.evidence.papers import Number, PaperError, build
from imbal_book.evidence.papers.facts import status_label
from imbal_core._checks.names import unknown_name


@dataclass(frozen=True)
class _Entry:
    """Numbers of one source: data set, imbalance ratio, percent with the digits that are printed, status."""

    method: str
    variant: str
    source: str
    values: list[list[Any]]
    imbalance: str = "exponential"
    repeats: bool = False


def _row(entry: _Entry, value: list[Any]) -> dict[str, Any]:
    where = f"{entry.method}, {entry.variant}, {value[0]}"
    if len(value) != 4:
        raise PaperError(f"{where}: {value}, expected data set, ratio, percent and status")
    dataset, ratio, percent, status = value
    if not isinstance(percent, str):
        raise PaperError(f"{where}: {percent!r}, expected percent in quotes, with all printed digits")
    number = Number(f"{where} {ratio}", float(percent) / 100, status, entry.source)
    # one that was not read stands in its labelled text alone, so that no figure draws it as published
    read = number.reported() if status == "read" else math.nan
    own = {name: kept for name, kept in vars(entry).items() if name != "values"}
    found = {"dataset": dataset, "ratio": ratio, "value": read, "status": status}
    return own | found | {"text": f"{percent}{status_label(status)}"}


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
    path = files(__package__).joinpath("cifar_lt_reference.yml")
    return parse_reference(yaml.safe_load(path.read_text(encoding="utf-8")))


def parse_reference(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of :func:`reference_numbers` from the content of its file.

    Raises
    ------
    PaperError
        If an entry lacks a field or has an unknown one, or a number has no status or stands twice.
    """
    built = [build(_Entry, entry, f"reference numbers of {entry.get('method')!r}") for entry in entries]
    table = pd.DataFrame([_row(entry, value) for entry in built for value in entry.values])
    twice = table.duplicated(["method", "variant", "dataset", "imbalance", "ratio", "source"])
    if twice.any():
        row = table[twice].iloc[0]
        raise PaperError(
            f"two numbers of {row['method']!r}, {row['variant']}, {row['dataset']} {row['ratio']}"
        )
    return table


def published_values(
    table: pd.DataFrame, method: str, dataset: str, ratio: int, imbalance: str = "exponential"
) -> list[float]:
    """Return the accuracies that were read for a method, fractions; one that two sources print counts once.

    ``table`` is of :func:`reference_numbers`.

    Raises
    ------
    ValueError
        If the method, the data set or the imbalance stands nowhere in the table; a ratio without numbers
        gives an empty list.
    """
    wanted = {"method": method, "dataset": dataset, "imbalance": imbalance}
    for column, value in wanted.items():
        if value not in set(table[column]):
            raise unknown_name(column, value, table[column].unique())
    wanted |= {"ratio": ratio, "status": "read", "repeats": False}  # type: ignore[dict-item]
    return table.loc[(table[list(wanted)] == pd.Series(wanted)).all(axis=1), "value"].tolist()
