"""All remedies on one table of features: the same splits, the same budget, scores of every one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imbal_book.compare.baselines import BASELINES, fit_baseline
from imbal_book.compare.heads import Heads
from imbal_book.compare.parts import Parts
from imbal_book.compare.pipeline import unit_rows
from imbal_book.compare.remedies import PLAIN, REMEDIES, Fitted, Remedy, center_heads, fit_remedy
from imbal_book.compare.scores import Change, Metric, compare_with_plain, confusions, corrected_interval

__all__ = ["Measured", "Projection", "measure_remedies", "project"]

#: Directions of the features that heads are trained on; they hold nine tenths of the variance or more as a rule.
WIDTH = 256


@dataclass(frozen=True)
class Projection:
    """From unit-length features u (N, D) to what heads are trained on, (u - mean) @ axes, of mean squared length 1.

    No label is read. A head on the projected features is a head on u, see `unfold`.
    """

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, units: Tensor) -> Projection:
        """Return the projection to the leading directions of unit-length features."""
        mean = units.mean(0)
        centred = units - mean
        width = min(WIDTH, *units.shape)
        _, directions = torch.linalg.eigh((centred.T @ centred).double())
        axes = directions[:, -width:].float()
        return cls(mean, axes / (centred @ axes).square().sum(1).mean().sqrt().clamp(min=1e-12))

    def __call__(self, units: Tensor) -> Tensor:
        """Return the projected features, (N, d)."""
        return (units - self.mean) @ self.axes

    def unfold(self, heads: Heads) -> Heads:
        """Return heads (..., D, K) on the unit-length features that give the logits of heads on the projected ones."""
        weight = self.axes @ heads.weight
        return Heads(weight, heads.bias - (self.mean @ weight))


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes
    ----------
    table : DataFrame
        As `imbal_book.compare.scores.compare_with_plain`, from the R repeated splits alone.
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
        return (np.diagonal(tables, axis1=1, axis2=2) / np.maximum(tables.sum(2), 1)).mean(0)


def project(features: np.ndarray, parts: Parts) -> tuple[Projection, Tensor]:
    """Return the projection that the images outside the test part give, and all features under it, (N, d)."""
    units = torch.from_numpy(unit_rows(features))
    projection = Projection.of(units[parts.train[-1]])
    return projection, projection(units)


def measure_remedies(
    features: np.ndarray,
    labels: np.ndarray,
    parts: Parts,
    metric: Metric,
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
    metric : callable
        From a confusion matrix to a score.
    seed : int
        Of the first weights.
    step : callable
        Told the name of each remedy when it is done.
    """
    units, targets = torch.from_numpy(unit_rows(features)), torch.from_numpy(labels)
    projection, projected = project(features, parts)
    classes = len(parts.measured)
    shares = np.full(classes, 1 / classes)
    trained: dict[str, Heads] = {}
    fitted, tables, remedies = {}, {}, dict(REMEDIES)
    for name, remedy in REMEDIES.items():
        if remedy.objective:
            found = fit_remedy(remedy, projected, targets, parts, metric, trained, shares=shares, seed=seed)
            fitted[name] = Fitted(projection.unfold(found.heads), *list(vars(found).values())[1:])
        else:
            fitted[name] = center_heads(units.numpy(), labels, parts)
        tables[name] = _tables(fitted[name].heads, units, labels, parts, classes)
        step(remedy.name)
    for name, baseline in BASELINES.items():
        outcome = fit_baseline(name, projected.numpy(), labels, parts, metric, classes, seed)
        if outcome is not None:
            tables[name], heads = outcome
            remedies[name] = baseline
            if heads is not None:
                fitted[name] = Fitted(projection.unfold(heads), [])
            step(baseline.name)
    scores = {name: np.array([metric(t) for t in found[:-1]]) for name, found in tables.items()}
    table = compare_with_plain(scores, PLAIN, parts.test_over_train)
    chosen = _chosen_by_validation(scores, fitted)
    gate = corrected_interval(chosen - scores[PLAIN], parts.test_over_train)
    return Measured(table, gate, tables, fitted, remedies)


def _chosen_by_validation(scores: Mapping[str, np.ndarray], fitted: Mapping[str, Fitted]) -> np.ndarray:
    """Return the scores (R,) of the remedy that has the best validation score in each split."""
    inner = {name: found.inner for name, found in fitted.items() if found.inner is not None}
    names = list(inner)
    best = np.stack([inner[name][:-1] for name in names]).argmax(0)
    return np.array([scores[names[i]][r] for r, i in enumerate(best)])


def _tables(heads: Heads, units: Tensor, labels: np.ndarray, parts: Parts, classes: int) -> np.ndarray:
    found = []
    for s, rows in enumerate(parts.measure):
        logits = units[rows] @ heads.weight[s] + heads.bias[s]
        found.append(confusions(labels[rows], logits.argmax(1).numpy(), classes))
    return np.stack(found)
