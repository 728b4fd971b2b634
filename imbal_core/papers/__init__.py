"""What each paper reports: tables, protocol, open points and claims, every number with its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any, TypeVar

import pandas as pd
import yaml

from imbal_core.names import unknown_name

__all__ = [
    "KINDS",
    "STATUSES",
    "Ambiguity",
    "Cell",
    "Claim",
    "Contrast",
    "Form",
    "Number",
    "Paper",
    "PaperError",
    "ProtocolItem",
    "Table",
    "list_papers",
    "load_paper",
    "parse_paper",
]

STATUSES = ("read", "computed", "recalled")
KINDS = ("every cell", "average", "spread")
T = TypeVar("T")


class PaperError(ValueError):
    """A paper's file that breaks its rules, or a number shown as something that it is not."""


def _check_status(where: str, status: str) -> None:
    if status not in STATUSES:
        raise unknown_name(f"status of {where}", status, STATUSES, PaperError)


@dataclass(frozen=True)
class Number:
    """A number of a paper, with how sure it is and where it stands."""

    id: str
    value: float
    status: str
    source: str

    def __post_init__(self) -> None:
        _check_status(f"number {self.id!r}", self.status)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise PaperError(f"number {self.id!r} has the value {self.value!r}, expected a number")

    def reported(self) -> float:
        """Return the value as one that the paper reports.

        Raises
        ------
        PaperError
            If it was not read in the paper; :meth:`text` shows such a number with its label.
        """
        if self.status != "read":
            raise PaperError(
                f"number {self.id!r} is {self.status}, so it cannot be shown as reported by the paper"
            )
        return self.value

    def text(self, form: str = "") -> str:
        """Return the number in words, labelled unless it was read; ``form`` is a format such as ``".3f"``."""
        label = {"read": "", "computed": " (computed)", "recalled": " (recalled, not verified)"}[self.status]
        return f"{self.value:{form}}{label}"


@dataclass(frozen=True)
class Table:
    """A table as printed. A column named ``status`` gives each row its own status."""

    id: str
    caption: str
    kind: str
    status: str
    columns: list[str]
    rows: list[list[Any]]
    dataset: str | None = None
    network: str | None = None

    def __post_init__(self) -> None:
        _check_status(f"table {self.id!r}", self.status)
        for row in self.rows:
            if len(row) != len(self.columns):
                raise PaperError(
                    f"table {self.id!r}: row {row} has {len(row)} cells, expected {len(self.columns)}"
                )
            _check_status(f"row {row[0]!r} of table {self.id!r}", self._row_status(row))

    def _row_status(self, row: list[Any]) -> str:
        return row[self.columns.index("status")] if "status" in self.columns else self.status

    def number(self, row: object, column: str) -> Number:
        """Return one cell; ``row`` is the value in the first column.

        Raises
        ------
        PaperError
            If there is no such row or column, or its cell is not a number.
        """
        if column not in self.columns:
            raise unknown_name(f"column of table {self.id!r}", column, self.columns, PaperError)
        for entry in self.rows:
            if entry[0] == row:
                place = self.columns.index(column)
                return Number(
                    f"{self.id}/{row}/{column}", entry[place], self._row_status(entry), f"Table {self.id}"
                )
        raise unknown_name(
            f"row of table {self.id!r}", row, [str(entry[0]) for entry in self.rows], PaperError
        )

    def frame(self) -> pd.DataFrame:
        """Return the table as printed.

        Raises
        ------
        PaperError
            If a row is recalled: a frame has no room for the label, so ask for :meth:`number` instead.
        """
        for row in self.rows:
            if self._row_status(row) == "recalled":
                raise PaperError(
                    f"row {row[0]!r} of table {self.id!r} is recalled, not reported by the paper"
                )
        return pd.DataFrame(self.rows, columns=self.columns)


@dataclass(frozen=True)
class ProtocolItem:
    """One statement about how the paper's experiment was done."""

    id: str
    item: str
    paper: str
    status: str
    source: str

    def __post_init__(self) -> None:
        _check_status(f"protocol item {self.id!r}", self.status)


@dataclass(frozen=True)
class Ambiguity:
    """A point that the paper leaves open, what was chosen, and the readouts in which the choice is varied."""

    id: int
    topic: str
    paper: str
    chosen: str
    ablated: str | None


@dataclass(frozen=True)
class Form:
    """A way to take part in the comparison: readouts, data sets, and the paper's network beside it."""

    network: str
    readouts: list[str]
    datasets: list[str]


@dataclass(frozen=True)
class Contrast:
    """Readout ``a`` minus readout ``b`` in a metric, claimed to have a sign.

    With ``minus`` the difference in that second metric is subtracted; with ``dataset`` it is claimed there
    only.
    """

    a: str
    b: str
    metric: str
    sign: int
    minus: str | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.sign not in (1, -1):
            raise PaperError(f"contrast {self.a} - {self.b}: sign is {self.sign!r}, expected 1 or -1")

    def label(self) -> str:
        """Return the contrast in words, with the direction that is claimed."""
        metric = f"{self.metric} - {self.minus}" if self.minus else self.metric
        return f"{metric}: {self.a} {'>' if self.sign > 0 else '<'} {self.b}"


@dataclass(frozen=True)
class Cell:
    """A data set and a type of imbalance."""

    dataset: str
    imbalance: str


@dataclass(frozen=True)
class Claim:
    """A statement of a paper as a family of contrasts over cells.

    Attributes
    ----------
    id, paper, statement, quote, source, status : str
        The claim in our words and in the paper's, where it stands, and how sure that is.
    kind : {"every cell", "average", "spread"}
        Whether each cell must bear it, their average, or whether it speaks of the spread over draws.
    contrasts : list of Contrast
    cells : list of Cell
    note : str
        What the paper's own numbers say about it.
    forms : mapping of str to Form
    reported : mapping of (network, dataset, imbalance, readout) to float
        The accuracies that the paper prints, as fractions.
    """

    id: str
    paper: str
    statement: str
    quote: str
    source: str
    status: str
    kind: str
    contrasts: list[Contrast]
    cells: list[Cell]
    note: str = ""
    forms: Mapping[str, Form] = field(default_factory=dict)
    reported: Mapping[tuple[str, str, str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_status(f"claim {self.id!r}", self.status)
        if self.kind not in KINDS:
            raise unknown_name(f"kind of claim {self.id!r}", self.kind, KINDS, PaperError)

    def reported_gain(self, contrast: Contrast, cell: Cell, form: str) -> float | None:
        """Return the paper's own gain in the claimed direction, as a fraction; None if it prints none."""
        if contrast.metric != "accuracy" or contrast.minus or self.kind == "spread":
            return None
        place = (self.forms[form].network, cell.dataset, cell.imbalance)
        a, b = self.reported.get((*place, contrast.a)), self.reported.get((*place, contrast.b))
        return None if a is None or b is None else contrast.sign * (a - b)


@dataclass(frozen=True)
class Paper:
    """Everything that is held about one paper."""

    name: str
    title: str
    authors: list[str]
    affiliation: str
    year: int
    bibtex_key: str
    study: str
    tables: dict[str, Table]
    numbers: dict[str, Number]
    protocol: dict[str, ProtocolItem]
    ambiguities: list[Ambiguity]
    forms: dict[str, Form]
    claims: dict[str, Claim]


def list_papers() -> list[str]:
    """Return the names of the papers, sorted."""
    return sorted(p.name.removesuffix(".yml") for p in files(__name__).iterdir() if p.name.endswith(".yml"))


def load_paper(name: str) -> Paper:
    """Return what is held about the paper ``name``, such as ``"zhang_2018"``.

    Raises
    ------
    ValueError
        If there is no such paper; the nearest name is given.
    PaperError
        If its file breaks a rule; the message names the entry.
    """
    if name not in list_papers():
        raise unknown_name("paper", name, list_papers())
    return parse_paper(yaml.safe_load(files(__name__).joinpath(f"{name}.yml").read_text(encoding="utf-8")))


def parse_paper(content: Mapping[str, Any]) -> Paper:
    """Return the paper in the content of its file, after checking fields, statuses and references.

    Raises
    ------
    PaperError
        If an entry lacks a field (a number its status, say), has an unknown one, or repeats an id.
    """
    raw = dict(content)
    tables = _by_id(Table, raw, "tables")
    forms = {name: _build(Form, entry, f"form {name!r}") for name, entry in raw.pop("forms", {}).items()}
    reported = {
        (table.network or "", table.dataset or "", imbalance, row[0]): table.number(row[0], imbalance).value
        for table in tables.values()
        if table.kind == "accuracy"
        for row in table.rows
        for imbalance in table.columns[1:]
        if imbalance != "status" and table.number(row[0], imbalance).status == "read"
    }
    claims: list[Claim] = []
    for entry in raw.pop("claims", []):
        parts = {
            "contrasts": [
                _build(Contrast, c, f"a contrast of {entry.get('id')}") for c in entry["contrasts"]
            ],
            "cells": [_build(Cell, c, f"a cell of {entry.get('id')}") for c in entry["cells"]],
        }
        common = {"paper": raw.get("name"), "forms": forms, "reported": reported}
        claims.append(_build(Claim, {**entry, **parts, **common}, f"claim {entry.get('id')!r}"))
    ambiguities = [_build(Ambiguity, a, f"ambiguity {a.get('id')!r}") for a in raw.pop("ambiguities", [])]
    built = {
        "tables": tables,
        "numbers": _by_id(Number, raw, "numbers"),
        "protocol": _by_id(ProtocolItem, raw, "protocol"),
        "ambiguities": ambiguities,
        "forms": forms,
        "claims": {claim.id: claim for claim in claims},
    }
    if len({claim.id for claim in claims}) != len(claims) or len({a.id for a in ambiguities}) != len(
        ambiguities
    ):
        raise PaperError(f"paper {raw.get('name')!r}: two claims or two ambiguities share an id")
    return _build(Paper, {**raw, **built}, f"paper {raw.get('name')!r}")


def _by_id(kind: type[T], raw: dict[str, Any], section: str) -> dict[str, T]:
    entries = raw.pop(section, [])
    built = {entry.get("id"): _build(kind, entry, f"{section} {entry.get('id')!r}") for entry in entries}
    if len(built) != len(entries):
        raise PaperError(f"two entries of {section} share an id")
    return built


def _build(kind: type[T], entry: Mapping[str, Any], where: str) -> T:
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in entry:
        if name not in names:
            raise unknown_name(f"field of {where}", name, names, PaperError)
    try:
        return kind(**entry)
    except TypeError as error:
        raise PaperError(f"{where} is incomplete: {error}") from error
