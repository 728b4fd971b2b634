"""The rules by which claims are judged, read from ``rules.yml``: what the page prints is what judges."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from imbal_book.evidence.papers import build
from imbal_book.evidence.yaml_files import check, read_yaml
from imbal_core._checks.names import unknown_name

#: What a file of rules is made of; what a part and a gate hold is said by their classes.
_FORM = {
    "declared": (str, datetime.date),
    "labels": [{"label": str, "when": str}],
    "parts": {str: str},
    "confidence": float,
    "pairs": int,
    "claims": {str: ([dict], {"identity": float}, {"reason": str})},
    "gates": [dict],
}
_COMPARE = ("mean", "sign", "spread", "rank")


class RulesError(ValueError):
    """An entry of the rules that cannot be used; the message names it."""


@dataclass(frozen=True)
class Part:
    """One comparison of a claim: readout ``a`` minus readout ``b`` in a metric, on one side of 0 or of a margin.

    ``part`` says it in words, ``side`` is a key of `Rules.parts`, ``margin`` is at least 0, in the unit of the metric.
    Of another imbalance (``versus``), or of the form with ``against_form`` added to its name, the difference is
    subtracted; ``dataset`` is the one of which the part speaks.

    What is compared ("mean", "sign", "spread", "rank"): differences; their signs; the logarithm of the ratio of
    standard deviations over draws; over classes, the rank correlation of ``a`` with ``of`` at equal ``b`` and that of
    ``b`` with ``of`` at equal ``a``, where ``metric`` begins the names of the metrics of single classes.
    """

    part: str
    a: str
    b: str
    metric: str
    side: str
    margin: float = 0.0
    versus: str | None = None
    against_form: str | None = None
    dataset: str | None = None
    compare: str = "mean"
    of: str | None = None


@dataclass(frozen=True)
class Gate:
    """A published level of a plain arm: its mean must lie in [low - distance, high + distance], fractions.

    Low and high are "printed" where the paper prints a level for each cell.
    """

    study: str
    form: str
    readout: str
    metric: str
    low: float | str
    high: float | str
    distance: float
    source: str
    dataset: str | None = None
    imbalance: str | None = None


@dataclass(frozen=True)
class Rules:
    """All rules, as they were declared on an ISO date; ``content`` is the whole file.

    Labels stand with when they apply, in the order in which they are tried. ``parts`` says of a side when a part holds
    and when it fails. A claim has its parts, a reason why there are none, or the deviation that an identity may have.
    """

    declared: str
    labels: list[tuple[str, str]]
    parts: dict[str, str]
    confidence: float
    pairs: int
    claims: dict[str, list[Part] | str | float]
    gates: list[Gate]
    content: Mapping[str, Any]


def parse_rules(content: Mapping[str, Any]) -> Rules:
    """Return the rules in the content of their file.

    Raises
    ------
    RulesError
        If a field is missing or of another kind, or a part has an unknown one, an unknown side or kind of comparison,
        or a negative margin.
    """
    check(content, _FORM, "", RulesError)
    claims = {name: _claim(name, entry, content["parts"]) for name, entry in content["claims"].items()}
    return Rules(
        declared=str(content["declared"]),
        labels=[(entry["label"], entry["when"]) for entry in content["labels"]],
        parts=dict(content["parts"]),
        confidence=float(content["confidence"]),
        pairs=int(content["pairs"]),
        claims=claims,
        gates=[
            build(Gate, entry, f"gate {number}", RulesError) for number, entry in enumerate(content["gates"])
        ],
        content=content,
    )


@functools.cache
def load_rules() -> Rules:
    """Return the rules of the book."""
    return read_rules(files(__package__).joinpath("rules.yml"))


def read_rules(file: Traversable) -> Rules:
    """Return the rules in a YAML file; a RulesError names file and entry."""
    return read_yaml(file, parse_rules, RulesError)


def _claim(name: str, entry: Any, sides: Mapping[str, str]) -> list[Part] | str | float:
    if isinstance(entry, Mapping):
        return float(entry["identity"]) if "identity" in entry else str(entry["reason"])
    parts = []
    for fields in entry:
        part = build(Part, fields, f"a part of claim {name!r}", RulesError)
        if part.side not in sides:
            raise unknown_name(f"side of {name}, {part.part}", part.side, sides, RulesError)
        if part.compare not in _COMPARE:
            raise unknown_name(f"comparison of {name}, {part.part}", part.compare, _COMPARE, RulesError)
        if (part.compare == "rank") != (part.of is not None):
            raise RulesError(
                f"claim {name!r}, {part.part}: 'of' stands with compare: rank, and with nothing else"
            )
        if part.margin < 0 or (part.side == "equal" and not part.margin):
            raise RulesError(f"claim {name!r}, {part.part}: margin is {part.margin}, expected one above 0")
        parts.append(part)
    return parts
