"""The YAML files of the papers and the rules, from text to plain values."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from typing import Any

import yaml


def load_yaml(file: Traversable, error: type[ValueError]) -> Any:
    """Return the plain values in a YAML file; for whatever it is instead, an ``error`` that begins with its name."""
    if not file.is_file():
        raise error(f"{file.name}: there is no such file, or it is no regular one")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except Exception as reason:  # beside its own errors, whatever a date or a tag makes of a text
        raise error(f"{file.name}: cannot be read as YAML ({type(reason).__name__}: {reason})") from reason
