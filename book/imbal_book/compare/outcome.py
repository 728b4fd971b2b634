"""What came out of a comparison: what the report is written from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from imbal_book.compare.curve import Curve
from imbal_book.compare.decide import Decision
from imbal_book.compare.fine_tune import FineTuned
from imbal_book.compare.measured import Measured
from imbal_book.compare.pipeline import Pipeline
from imbal_book.heads.parts import Parts

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """What came out of `compare`.

    Attributes
    ----------
    decision : Decision
        ``sentence`` says what to do; ``remedy`` is the key of the recommended one.
    measured : Measured
        ``table`` has a row per remedy.
    curves : list of Curve
        How the recall of the weakest classes grows with their images.
    files : DataFrame
        The images that were used: ``name``, ``label``, ``group``, ``digest``, ``side`` ("train" or "test").
    classes : tuple of str
    parts : Parts
    problems : list of str
        What was wrong with the folder.
    pipeline : Pipeline
        The recommended remedy, fitted on all images outside the test part.
    out : Path
        The folder with ``report.html``, ``remedies.csv``, ``report.json`` and ``model``.
    facts : dict
        Settings, versions, seconds.
    fine_tuned : FineTuned, optional
        What the two best remedies and plain training are with the whole network trained, where that was asked for.
    """

    decision: Decision
    measured: Measured
    curves: list[Curve]
    files: pd.DataFrame
    classes: tuple[str, ...]
    parts: Parts
    problems: list[str]
    pipeline: Pipeline
    out: Path
    facts: dict[str, Any]
    fine_tuned: FineTuned | None = None
