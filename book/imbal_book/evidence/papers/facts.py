"""What a paper states: numbers, tables, protocol and open points, every one with how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from string import Formatter
from typing import Any

import pandas as pd

from imbal_core._checks.names import unknown_name

__all__ = ["STATUSES", "Ambiguity", "HereItem", "Number", "PaperError", "ProtocolItem", "Table"]

_LABELS = {
    "read": "",
    "computed": " (computed)",
    "inferred": " (inferred)",
    "recalled": " (recalled, not verified)",
    "not found": "",
}
STATUSES = tuple(_LABELS)
_MISSING = "could not be read"


class PaperError(ValueError):
    """A paper's file that breaks its rules, or a number shown as something that it is not."""


def check_status(where: str, status: str) -> None:
    """Check that ``status`` is one of :data:`STATUSES`; ``where`` names the entry in the error."""
    if status not in STATUSES:
        raise unknown_name(f"status of {where}", status, STATUSES, PaperError)


def status_label(status: str) -> str:
    """Return the label that a fact of this status carries wherever it is shown; "" for what was read."""
    return _LABELS[status]


@dataclass(frozen=True)
class Number:
    """A number of a paper, with how sure it is and where it stands; None where it could not be read."""

    id: str
    value: float | None
    status: str
    source: str

    def __post_init__(self) -> None:
        check_status(f"number {self.id!r}", self.status)
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
        check_status(f"table {self.id!r}", self.status)
        for row in self.rows:
            if len(row) != len(self.columns):
                raise PaperError(
                    f"table {self.id!r}: row {row} has {len(row)} cells, expected {len(self.columns)}"
                )
            check_status(f"row {row[0]!r} of table {self.id!r}", self._row_status(row))

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
                return self._number(entry, column)
        raise unknown_name(
            f"row of table {self.id!r}", row, [str(entry[0]) for entry in self.rows], PaperError
        )

    def _number(self, row: list[Any], column: str) -> Number:
        value = row[self.columns.index(column)]
        return Number(f"{self.id}/{row[0]}/{column}", value, self._row_status(row), f"Table {self.id}")

    def frame(self) -> pd.DataFrame:
        """Return the table as printed.

        Raises
        ------
        PaperError
            If a row was neither read nor computed: a frame has no room for the label, so ask for
            :meth:`number` or :meth:`labelled` instead.
        """
        for row in self.rows:
            if self._row_status(row) not in ("read", "computed"):
                raise PaperError(
                    f"row {row[0]!r} of table {self.id!r} is {self._row_status(row)}, "
                    f"not reported by the paper"
                )
        return pd.DataFrame(self.rows, columns=self.columns)

    def labelled(self, form: str = "") -> pd.DataFrame:
        """Return the table as text, every cell with its label unless it was read.

        The first column names the row and bears none; a cell that could not be read says so. The column
        ``status`` is left out, for it stands in the labels.

        Parameters
        ----------
        form : str, default=""
            The format of the numbers, such as ``".3f"``; whole numbers keep theirs.
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
        check_status(f"protocol item {self.id!r}", self.status)

    def text(self) -> str:
        """Return what the paper does in words, labelled unless it was read."""
        return f"{self.paper}{status_label(self.status)}"


@dataclass(frozen=True)
class HereItem:
    """A row of the table that sets what is done here beside what the paper does.

    Attributes
    ----------
    item : str
    done : str
        What is done here; a word in braces is read from the runs, such as ``"{learning_rate:g}"``.
    why : str
    paper : list of str
        Ids of the protocol's items; none where the paper says nothing.
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
    """A point that the paper leaves open, what was chosen, and the readouts in which the choice is varied."""

    id: int
    topic: str
    paper: str
    chosen: str
    ablated: str | None
