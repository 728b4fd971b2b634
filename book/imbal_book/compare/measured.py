"""All remedies on one table of features: the same splits, the same budget, scores of every one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.compare.aim import Aim
from imbal_book.heads.baselines import BASELINES, UNWEIGHTED
from imbal_book.heads.parts import Parts
from imbal_book.heads.remedies import PLAIN, REMEDIES, Fitted, Remedy
from imbal_book.heads.scores import Change, compare_with_plain, corrected_interval
from imbal_book.heads.side_by_side import side_by_side
from imbal_core.metrics import per_class_recall

__all__ = ["Measured", "measure_remedies"]


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes
    ----------
    table : DataFrame
        As `imbal_book.heads.scores.compare_with_plain`, from the R repeated splits alone.
    by_validation : Change
        Change against plain of the remedy that validation images choose anew in each split: one
        comparison, not one for each remedy, and no remedy was picked for its score on what is measured.
    tables : dict of str to ndarray of shape (R + 1, K, K)
        Confusion matrices of the repeated splits and, last, of the test part.
    fitted : dict of str to Fitted
        Heads on unit-length features; none for a remedy that is no linear head.
    remedies : mapping of str to Remedy
    """

    table: pd.DataFrame
    by_validation: Change
    tables: dict[str, np.ndarray]
    fitted: dict[str, Fitted]
    remedies: Mapping[str, Remedy]

    def recalls(self, name: str, *, test: bool = False) -> np.ndarray:
        """Return the recall of each class, (K,): mean over the repeated splits, or of the test part."""
        tables = self.tables[name][-1:] if test else self.tables[name][:-1]
        return np.mean([per_class_recall(table) for table in tables], axis=0)


def measure_remedies(
    features: np.ndarray,
    labels: np.ndarray,
    parts: Parts,
    aim: Aim,
    *,
    seed: int,
    step: Callable[[str], None] = lambda name: None,
) -> Measured:
    """Return the scores of every remedy and baseline.

    Parameters
    ----------
    features : ndarray of shape (N, D), floating
        Of the frozen network; only their direction is used.
    labels : ndarray of shape (N,), int64
    parts : Parts
    aim : Aim
        What counts.
    seed : int
        Of the first weights.
    step : callable
        Told the name of each remedy when it is done.
    """
    baselines = BASELINES | UNWEIGHTED
    options: dict[str, Any] = {"shares": aim.shares, "seed": seed, "step": step}
    found = side_by_side(features, labels, parts, aim.score, REMEDIES, baselines, **options)
    scores = {name: np.array([aim.score(t) for t in tables[:-1]]) for name, tables in found.tables.items()}
    table = compare_with_plain(scores, PLAIN, parts.test_over_train)
    chosen = _chosen_by_validation(scores, found.fitted)
    gate = corrected_interval(chosen - scores[PLAIN], parts.test_over_train)
    return Measured(table, gate, found.tables, found.fitted, found.remedies)


def _chosen_by_validation(scores: Mapping[str, np.ndarray], fitted: Mapping[str, Fitted]) -> np.ndarray:
    """Return the scores (R,) of the remedy that has the best validation score in each split."""
    inner = {name: found.inner for name, found in fitted.items() if found.inner is not None}
    names = list(inner)
    best = np.stack([inner[name][:-1] for name in names]).argmax(0)
    return np.array([scores[names[i]][r] for r, i in enumerate(best)])
