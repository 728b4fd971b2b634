"""The form of a record: its fields, its key, and the checks that its file must pass."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from imbal_book.run.config import RunConfig
from imbal_core._checks.forms import check_form

SCHEMA = 1
#: What a record is made of; the measurements are the study's own.
_ORIGIN = {"seconds": float, "date": str, "device": str, "threads": int, "git_commit": (str, None)}
_FORM = {
    "key": re.compile(r"[0-9a-f]{16}"),
    "config": dict,
    "data": {str: str},
    "split": str,
    "measurements": dict,
    "provenance": _ORIGIN,
}
# In the provenance, where versions of the package that know no checksum read past it.
_CHECKSUM = "sha256"


class RecordError(ValueError):
    """A file or an object that is not a valid record; the message says what is wrong with it."""


@dataclass(frozen=True)
class Record:
    """One run: its configuration, what it measured, and where the numbers come from.

    Attributes
    ----------
    key, config : str, dict
        See :func:`run_key`, and every field of the :class:`~imbal_book.run.config.RunConfig`.
    data, split : dict, str
        ``{"train": sha256, "test": sha256}``, the fingerprints of the data sets, and the sha256 of the split.
    measurements : dict
        What the study measured. Accuracy, recall and the like are fractions in [0, 1].
    provenance, schema : dict, int
        See :func:`imbal_book.run.provenance.provenance`, and the version of this layout.
    """

    key: str
    config: dict[str, Any]
    data: dict[str, str]
    split: str
    measurements: dict[str, Any]
    provenance: dict[str, Any]
    schema: int = SCHEMA

    @classmethod
    def of_run(
        cls,
        config: RunConfig,
        data: Mapping[str, str],
        split: str,
        measurements: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> Record:
        """Return the record of a run, with its key computed and all values in plain JSON types.

        Raises
        ------
        RecordError
            If a value is NaN, infinite or of a type that JSON does not have; the message says where.
        """
        return cls(
            key=run_key(config, data, split),
            config=plain_values(config.to_dict(), "config"),
            data=dict(data),
            split=split,
            measurements=plain_values(measurements, "measurements"),
            provenance=plain_values(provenance, "provenance"),
        )

    def run_config(self) -> RunConfig:
        """Return the configuration as an object; fields that are newer than the record get their default."""
        return self._run_config

    @functools.cached_property
    def _run_config(self) -> RunConfig:
        return RunConfig.from_dict(self.config)

    def to_json(self) -> str:
        """Return the text of the record's file, with its checksum: sorted keys, floats as ``repr``, no NaN."""
        plain = {item.name: plain_values(getattr(self, item.name), item.name) for item in fields(self)}
        plain["provenance"][_CHECKSUM] = _checksum(plain)
        return json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n"


def run_key(config: RunConfig, data: Mapping[str, str], split: str) -> str:
    """Return the key of a run: 16 hexadecimal digits of the sha256 of configuration, data and split.

    Only the fields that differ from their default count, so that a new field leaves old keys alone.
    """
    return _sha256([config.canonical(), dict(data), split])[:16]


def parse_record(content: str | bytes, *, checked: bool = False) -> Record:
    """Return the record in the text of a file, after checking its schema, its fields, its key and its checksum.

    A file without a checksum, as the first edition wrote them, passes. Text that is ``checked`` has passed before, to
    the last bit, and is only read.

    Raises
    ------
    RecordError
        If the text is torn, foreign or of another schema, lacks a field that every reader needs, or if the key or the
        checksum is not that of the content.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"torn, or not JSON ({error})") from error
    if checked:
        value["provenance"].pop(_CHECKSUM, None)
        return Record(**value)
    if not isinstance(value, dict) or "schema" not in value:
        raise RecordError("foreign: not a record, it has no schema number")
    if value["schema"] != SCHEMA:
        raise RecordError(f"has schema {value['schema']!r}, and this version reads schema {SCHEMA}")
    names = {item.name for item in fields(Record)}
    if value.keys() != names:
        odd = [f"lacks {name!r}" for name in sorted(names - value.keys())]
        odd += [f"has the unknown field {name!r}" for name in sorted(value.keys() - names)]
        raise RecordError(f"foreign: not a record of schema {SCHEMA}, it {' and '.join(odd)}")
    try:
        check_form(value, _FORM)
    except ValueError as error:
        raise RecordError(f"damaged: {error}") from error
    noted = value["provenance"].pop(_CHECKSUM, None)
    record = Record(**value)
    try:
        expected = run_key(record.run_config(), record.data, record.split)
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(f"has a configuration that this version cannot read ({error})") from error
    if record.key != expected:
        raise RecordError(f"has key {record.key}, but its configuration, data and split give {expected}")
    if noted not in (None, _checksum(value)):
        raise RecordError(
            "damaged: its checksum is not that of its content; take the file from where it came from"
        )
    return record


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the sha256 of everything that a record's file says, apart from this number itself."""
    provenance = {name: value for name, value in content["provenance"].items() if name != _CHECKSUM}
    return _sha256({**content, "provenance": provenance})


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")


def plain_values(value: Any, where: str) -> Any:
    """Return ``value`` in JSON types (NumPy scalars and arrays become numbers and lists)."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise RecordError(f"{where} has the key {name!r}; names must be text")
        return {name: plain_values(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain_values(value.tolist(), where)
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{where} is {value!r}; a record holds finite numbers only")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RecordError(f"{where} is of type {type(value).__name__}, which JSON does not have")
