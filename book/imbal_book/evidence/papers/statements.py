"""What a paper claims, as contrasts between readouts that records can decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imbal_book.evidence.papers.facts import PaperError, check_status
from imbal_core._checks.names import unknown_name

__all__ = ["KINDS", "Cell", "Claim", "Contrast", "Form"]

KINDS = ("every cell", "average", "spread", "equivalence", "identity")
_WITH_MARGIN = ("equivalence", "identity")


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
class Contrast:
    """Readout ``a`` minus readout ``b`` in a metric, claimed to have a sign.

    With ``minus`` the difference in that second metric is subtracted; with ``versus`` that at this other
    imbalance of the same data set; with ``dataset`` it is claimed there only. Sign 0: claimed to be small.
    ``reported`` holds, by network, a gain that the paper prints without naming a cell.
    """

    a: str
    b: str
    metric: str
    sign: int
    minus: str | None = None
    versus: str | None = None
    dataset: str | None = None
    reported: Mapping[str, float] = field(default_factory=dict)

    def label(self) -> str:
        """Return the contrast in words, with the direction that is claimed."""
        metric = f"{self.metric} - {self.minus}" if self.minus else self.metric
        relation = {1: ">", -1: "<", 0: "≈"}[self.sign]
        other = f", against {self.versus}" if self.versus else ""
        return f"{metric}: {self.a} {relation} {self.b}{other}"


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
    kind : {"every cell", "average", "spread", "equivalence", "identity"}
        Whether each cell must bear it, their average, whether it speaks of the spread over draws, says that
        two readouts are equally good, or that two quantities are the same, which a computation settles.
    contrasts : list of Contrast
        Empty where no comparison of records can decide it, or none is stated yet; ``note`` says which.
    cells : list of Cell
    note : str
        What the paper's own numbers say about it, and which measure is ours.
    margin : float or None
        For an equivalence, the largest difference that still counts as equal; for an identity, the largest
        deviation that rounding explains. In the unit of the metric.
    unit : str
        Of the metrics: "points" for fractions, which are printed times 100, else a word such as "epochs".
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
    margin: float | None = None
    unit: str = "points"

    def __post_init__(self) -> None:
        check_status(f"claim {self.id!r}", self.status)
        if self.kind not in KINDS:
            raise unknown_name(f"kind of claim {self.id!r}", self.kind, KINDS, PaperError)
        if self.kind in _WITH_MARGIN and not (self.margin or 0) > 0:
            raise PaperError(f"claim {self.id!r} has the margin {self.margin}, expected one above 0")
        if self.kind not in _WITH_MARGIN and self.margin is not None:
            raise PaperError(f"claim {self.id!r} is of kind {self.kind!r}, which has no margin")
        if self.kind == "identity" and self.contrasts:
            raise PaperError(f"claim {self.id!r} is an identity, expected no contrasts")
        signs = (0,) if self.kind == "equivalence" else (1, -1)
        for contrast in self.contrasts:
            if contrast.sign not in signs:
                raise PaperError(
                    f"claim {self.id!r}, contrast {contrast.a} - {contrast.b}: sign is {contrast.sign!r}, "
                    f"expected {' or '.join(map(str, signs))}"
                )

    def reported_gain(self, contrast: Contrast, cell: Cell, form: str) -> float | None:
        """Return the paper's own gain in the claimed direction, as a fraction; None if it prints none."""
        network = self.forms[form].network
        if network in contrast.reported:
            return contrast.sign * contrast.reported[network]
        if contrast.metric != "accuracy" or contrast.minus or contrast.versus or self.kind == "spread":
            return None
        place = (network, cell.dataset, cell.imbalance)
        a, b = self.reported.get((*place, contrast.a)), self.reported.get((*place, contrast.b))
        return None if a is None or b is None else contrast.sign * (a - b)
