"""Published accuracies on long-tailed CIFAR, gathered from many works, every number with its status."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import pandas as pd

from imbal_book.evidence.papers import Number, PaperError, build
from imbal_book.evidence.papers.facts import status_label
from imbal_book.evidence.yaml_files import check, read_yaml
from imbal_core._checks.names import unknown_name

_PERCENT = re.compile(r"[0-9]+(\.[0-9]+)?")


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
    if not isinstance(dataset, str) or not isinstance(ratio, int):
        raise PaperError(f"{where}: {value}, expected the name of a data set and a whole ratio")
    if not isinstance(percent, str) or not _PERCENT.fullmatch(percent):
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
    return read_reference(files(__package__).joinpath("cifar_lt_reference.yml"))


def read_reference(file: Traversable) -> pd.DataFrame:
    """Return the table of :func:`reference_numbers` in a YAML file; a PaperError names file and entry."""
    return read_yaml(file, parse_reference, PaperError)


def parse_reference(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of :func:`reference_numbers` from the content of its file.

    Raises
    ------
    PaperError
        If an entry lacks a field or has an unknown one, or a number has no status or stands twice.
    """
    check(entries, [dict], "", PaperError)
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
