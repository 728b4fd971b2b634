"""What each paper reports: tables, protocol, open points and claims, every number with its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar, get_type_hints

from imbal_book.evidence.papers.facts import (
    Ambiguity,
    Cell,
    Claim,
    Form,
    HereItem,
    Number,
    PaperError,
    ProtocolItem,
    Table,
)
from imbal_book.evidence.yaml_files import check, read_yaml
from imbal_core._checks.forms import form_of
from imbal_core._checks.names import unknown_name

T = TypeVar("T")
_NAMED = [{"id": (str, int)}]
#: The sections of a paper's file; what their entries hold is said by the classes that they become.
_SECTIONS = {
    "name": str,
    "tables": _NAMED,
    "numbers": _NAMED,
    "protocol": _NAMED,
    "here": [dict],
    "ambiguities": _NAMED,
    "forms": {str: dict},
    "claims": [{"id": str, "cells": [dict]}],
}


@dataclass(frozen=True)
class Paper:
    """Everything that is held about one paper."""

    name: str
    title: str
    authors: list[str]
    affiliation: str | None
    year: int
    bibtex_key: str
    study: str
    tables: dict[str, Table]
    numbers: dict[str, Number]
    protocol: dict[str, ProtocolItem]
    here: list[HereItem]
    ambiguities: list[Ambiguity]
    forms: dict[str, Form]
    claims: dict[str, Claim]
    own: dict[str, list[str]] = field(default_factory=dict)


def list_papers() -> list[str]:
    """Return the names of the papers, sorted."""
    names = [entry.name for entry in files(__name__).iterdir() if entry.name.endswith(".yml")]
    # numbers gathered from many works are no paper; see `imbal_book.evidence.papers.reference`
    return sorted(name.removesuffix(".yml") for name in names if not name.endswith("_reference.yml"))


def load_paper(name: str) -> Paper:
    """Return what is held about the paper ``name``, such as ``"zhang_2018"``.

    Raises
    ------
    ValueError
        If there is no such paper; the nearest name is given.
    PaperError
        If its file breaks a rule; the message names file and entry.
    """
    if name not in list_papers():
        raise unknown_name("paper", name, list_papers())
    return read_paper(files(__name__).joinpath(f"{name}.yml"))


def read_paper(file: Traversable) -> Paper:
    """Return the paper in a YAML file; a PaperError names file and entry where it breaks a rule."""
    return read_yaml(file, parse_paper, PaperError)


def parse_paper(content: Mapping[str, Any]) -> Paper:
    """Return the paper in the content of its file, after checking fields, statuses and references.

    Raises
    ------
    PaperError
        If an entry lacks a field (a number its status, say), has an unknown one, or repeats an id.
    """
    check(content, dict, "", PaperError)
    check(content, {name: form for name, form in _SECTIONS.items() if name in content}, "", PaperError)
    raw = dict(content)
    tables = _by_id(Table, raw.pop("tables", []), "tables")
    numbers = _by_id(Number, raw.pop("numbers", []), "numbers")
    protocol = _by_id(ProtocolItem, raw.pop("protocol", []), "protocol")
    here = [
        build(HereItem, row, f"row {row.get('item')!r} of what is done here") for row in raw.pop("here", [])
    ]
    for row in here:
        for name in row.paper:
            if name not in protocol:
                raise unknown_name(f"protocol item in row {row.item!r}", name, protocol, PaperError)
    ambiguities = _by_id(Ambiguity, raw.pop("ambiguities", []), "ambiguities")
    forms = {name: build(Form, entry, f"form {name!r}") for name, entry in raw.pop("forms", {}).items()}
    common = {
        "paper": raw.get("name"),
        "forms": forms,
        "own": raw.get("own", {}),
        "reported": _reported(list(tables.values())),
    }
    claims = [
        {
            **entry,
            **common,
            "cells": [build(Cell, cell, f"a cell of {entry.get('id')}") for cell in entry["cells"]],
            "printed": _printed(entry.get("printed", {}), f"claim {entry.get('id')!r}", numbers),
        }
        for entry in raw.pop("claims", [])
    ]
    sections = {"tables": tables, "numbers": numbers, "protocol": protocol, "here": here, "forms": forms}
    sections |= {"ambiguities": list(ambiguities.values()), "claims": _by_id(Claim, claims, "claims")}
    return build(Paper, {**raw, **sections}, f"paper {raw.get('name')!r}")


def _reported(tables: list[Table]) -> dict[tuple[str, str, str, str], float]:
    """Return the accuracies that were read, by network, data set, imbalance and readout."""
    for table in tables:
        check([row[0] for row in table.rows], [(str, int)], f"table {table.id!r}: first cells", PaperError)
    return {
        (table.network or "", table.dataset or "", imbalance, row[0]): number.reported()
        for table in tables
        if table.kind == "accuracy"
        for row in table.rows
        for imbalance in table.columns[1:]
        if imbalance != "status" and (number := table.number(row[0], imbalance)).status == "read"
    }


def _printed(entry: Mapping[str, Any], where: str, numbers: Mapping[str, Number]) -> dict[str, float]:
    """Return, by network, the gain between two of the paper's numbers."""
    check(entry, {str: [str]}, f"{where}: printed", PaperError)
    for network, pair in entry.items():
        if len(pair) != 2:
            raise PaperError(f"{where}: printed.{network} is {pair}, expected two numbers of the paper")
    for name in (name for pair in entry.values() for name in pair):
        if name not in numbers:
            raise unknown_name(f"number of {where}", name, numbers, PaperError)
    return {network: numbers[a].reported() - numbers[b].reported() for network, (a, b) in entry.items()}


def _by_id(kind: type[T], entries: list[dict[str, Any]], section: str) -> dict[Any, T]:
    built = {entry.get("id"): build(kind, entry, f"{section} {entry.get('id')!r}") for entry in entries}
    if len(built) != len(entries):
        raise PaperError(f"two entries of {section} share an id")
    return built


def build(kind: type[T], entry: Mapping[str, Any], where: str, error: type[ValueError] = PaperError) -> T:
    """Return the dataclass with the fields of an entry; an ``error`` names a field that it lacks or does not have."""
    hints = get_type_hints(kind)
    for name in entry:
        if name not in hints:
            raise unknown_name(f"field of {where}", name, hints, error)
        check(entry[name], form_of(hints[name]), f"{where}: {name}", error)
    try:
        return kind(**entry)
    except TypeError as reason:
        raise error(f"{where} is incomplete: {reason}") from reason
