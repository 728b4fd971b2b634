"""What a paper claims; the parts by which it is judged are in `imbal_book.evidence.rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imbal_book.evidence.papers.facts import check_status

__all__ = ["Cell", "Claim", "Form"]


@dataclass(frozen=True)
class Form:
    """A way to take part in the comparison.

    Attributes
    ----------
    network : str
        The paper's network beside it.
    readouts, datasets : list of str
        What it can have.
    imbalances : list of str or None
        The imbalances that it is meant to have; None for all that a claim speaks of.
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
class Cell:
    """A data set and a type of imbalance."""

    dataset: str
    imbalance: str


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, or of ours beneath it.

    Attributes
    ----------
    id, paper, statement, quote, source, status : str
        The claim in our words and in the paper's, where it stands, and how sure that is.
    cells : list of Cell
        Those of which it speaks.
    note : str
        What the paper's own numbers say about it, and which measure is ours.
    forms : mapping of str to Form
    own : mapping
        ``networks`` and ``datasets`` of the paper itself.
    printed : mapping of str to float
        By network, a gain of the first part that the paper prints without naming a cell.
    reported : mapping of (network, dataset, imbalance, readout) to float
        The accuracies that the paper prints, as fractions.
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
        check_status(f"claim {self.id!r}", self.status)

    @property
    def ours(self) -> bool:
        """Whether it is an inference of this book and no statement of the paper."""
        return self.status in ("computed", "inferred")
