"""What a paper states: numbers, tables, protocol, open points and claims, every one with how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

import pandas as pd

from imbal_core._checks.names import unknown_name

_LABELS = {
    "read": "",
    "computed": " (computed)",
    "inferred": " (inferred)",
    "recalled": " (recalled, not verified)",
    "not found": "",
}
_MISSING = "could not be read"


class PaperError(ValueError):
    """A paper's file that breaks its rules, or a number shown as something that it is not."""


def status_label(status: str) -> str:
    """Return the label that a fact of this status carries wherever it is shown; "" for what was read."""
    return _LABELS[status]


def _check_status(where: str, status: str) -> None:
    if not isinstance(status, str) or status not in _LABELS:
        raise unknown_name(f"status of {where}", status, _LABELS, PaperError)


@dataclass(frozen=True)
class Number:
    """A number of a paper, with how sure it is and where it stands; None where it could not be read."""

    id: str
    value: float | None
    status: str
    source: str

    def __post_init__(self) -> None:
        _check_status(f"number {self.id!r}", self.status)
        if self.status == "not found":
            if self.value is not None:
                raise PaperError(f"number {self.id!r} is not found, yet has the value {self.value!r}")
        elif isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise PaperError(f"number {self.id!r} has the value {self.value!r}, expected a number")

    def reported(self) -> float:
        """Return the value as one that the paper reports.

        Raises
        ------
        PaperError
            If it was not read in the paper; :meth:`text` shows such a number with its label.
        """
        if self.status != "read" or self.value is None:
            raise PaperError(
                f"number {self.id!r} is {self.status}, so it cannot be shown as reported by the paper"
            )
        return self.value

    def text(self, form: str = "") -> str:
        """Return the number in words, labelled unless it was read; ``form`` is a format such as ``".3f"``."""
        return _MISSING if self.value is None else f"{self.value:{form}}{status_label(self.status)}"


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
                wanted = f"has {len(row)} cells, expected {len(self.columns)}"
                raise PaperError(f"table {self.id!r}: row {row} {wanted}")
            _check_status(f"row {row[0]!r} of table {self.id!r}", self._row_status(row))

    def _row_status(self, row: list[Any]) -> str:
        return row[self.columns.index("status")] if "status" in self.columns else self.status

    def number(self, row: object, column: str) -> Number:
        """Return one cell as a number; ``row`` is the value in the first column.

        Raises
        ------
        PaperError
            If there is no such row or column, or its cell is not a number.
        """
        if column not in self.columns:
            raise unknown_name(f"column of table {self.id!r}", column, self.columns, PaperError)
        rows = {entry[0]: entry for entry in reversed(self.rows)}
        if row not in rows:
            raise unknown_name(f"row of table {self.id!r}", row, map(str, rows), PaperError)
        return self._number(rows[row], column)

    def _number(self, row: list[Any], column: str) -> Number:
        value = row[self.columns.index(column)]
        return Number(f"{self.id}/{row[0]}/{column}", value, self._row_status(row), f"Table {self.id}")

    def frame(self) -> pd.DataFrame:
        """Return the table as printed.

        Raises
        ------
        PaperError
            If a row was neither read nor computed, for a frame has no room for the label that :meth:`labelled` shows.
        """
        for row in self.rows:
            if (status := self._row_status(row)) not in ("read", "computed"):
                raise PaperError(
                    f"row {row[0]!r} of table {self.id!r} is {status}, not reported by the paper"
                )
        return pd.DataFrame(self.rows, columns=self.columns)

    def labelled(self, form: str = "") -> pd.DataFrame:
        """Return the table as text, every cell but the first of a row with its label, without the column ``status``.

        ``form`` is the format of the numbers that are not whole, such as ``".3f"``.
        """
        columns = [name for name in self.columns if name != "status"]
        rows = [[self._cell(row, name, form) for name in columns] for row in self.rows]
        return pd.DataFrame(rows, columns=columns)

    def _cell(self, row: list[Any], column: str, form: str) -> str:
        value, status = row[self.columns.index(column)], self._row_status(row)
        if column == self.columns[0]:
            return str(value)
        if isinstance(value, int | float) or (value is None and status == "not found"):
            return self._number(row, column).text(form if isinstance(value, float) else "")
        return "" if value is None else f"{value}{status_label(status)}"


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

    def text(self) -> str:
        """Return what the paper does in words, labelled unless it was read."""
        return f"{self.paper}{status_label(self.status)}"


@dataclass(frozen=True)
class HereItem:
    """A row of the table that sets what is done here, and why, beside what the paper does.

    In ``done`` a word in braces is read from the runs, such as ``"{learning_rate:g}"``. ``paper`` names items of the
    protocol; none where the paper says nothing.
    """

    item: str
    done: str
    why: str
    paper: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            list(Formatter().parse(self.done))
        except (TypeError, ValueError) as error:
            raise PaperError(f"what is done here for {self.item!r} is no text with words: {error}") from error


@dataclass(frozen=True)
class Ambiguity:
    """A point that the paper leaves open or that is done otherwise here.

    What is ``chosen`` here; the readouts in which that is varied (``ablated``); what the ``paper`` says, and what its
    authors' ``code`` does; the ``effect`` of the choice, readouts ``a`` minus ``b`` in a ``metric``, to be computed
    from the records; and the ``test`` that shows what is done here, as pytest names it.
    """

    id: int
    topic: str
    chosen: str
    ablated: str | None
    paper: str = ""
    code: str = ""
    effect: Mapping[str, str] | None = None
    test: str | None = None


@dataclass(frozen=True)
class Cell:
    """A data set and a type of imbalance."""

    dataset: str
    imbalance: str


@dataclass(frozen=True)
class Form:
    """A way to take part in the comparison: the paper's network beside it, and the readouts and data sets it can have.

    ``imbalances`` are those that it is meant to have; None for all that a claim speaks of.
    """

    network: str
    readouts: list[str]
    datasets: list[str]
    imbalances: list[str] | None = None

    def has(self, cell: Cell) -> bool:
        """Return whether records of this form can stand in the cell."""
        return cell.dataset in self.datasets and (
            self.imbalances is None or cell.imbalance in self.imbalances
        )


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, or of ours beneath it; `imbal_book.evidence.rules` holds the parts that judge it.

    The claim in our words and in the paper's (``quote``), where it stands, how sure that is, and the ``cells`` of which
    it speaks. A ``note`` has what the paper's own numbers say about it, and which measure is ours; ``own`` the
    ``networks`` and ``datasets`` of the paper itself; ``printed``, by network, a gain of the first part that it prints
    without naming a cell; ``reported``, by network, data set, imbalance and readout, the accuracies that it prints, as
    fractions.
    """

    id: str
    paper: str
    statement: str
    quote: str
    source: str
    status: str
    cells: list[Cell]
    note: str = ""
    forms: Mapping[str, Form] = field(default_factory=dict)
    own: Mapping[str, list[str]] = field(default_factory=dict)
    printed: Mapping[str, float] = field(default_factory=dict)
    reported: Mapping[tuple[str, str, str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_status(f"claim {self.id!r}", self.status)

    @property
    def ours(self) -> bool:
        """Whether it is an inference of this book and no statement of the paper."""
        return self.status in ("computed", "inferred")
