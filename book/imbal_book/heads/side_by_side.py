"""Every remedy and baseline on one table of features: the same splits, the same features, the same budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imbal_book.heads.baselines import BASELINES, fit_baseline
from imbal_book.heads.linear import Heads
from imbal_book.heads.parts import Parts
from imbal_book.heads.remedies import Fitted, Remedy, center_heads, fit_remedy
from imbal_book.heads.scores import Metric, confusions

__all__ = ["Projection", "SideBySide", "project", "side_by_side", "unit_rows"]

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
class SideBySide:
    """What every remedy and baseline came to on the same splits.

    Attributes
    ----------
    tables : dict of str to ndarray of shape (S, K, K)
        Confusion matrices of the images that measure each split.
    fitted : dict of str to Fitted
        Heads on unit-length features; none for a remedy that is no linear head.
    remedies : dict of str to Remedy
        Those that could be fitted, in the order in which they were asked for, then the baselines.
    """

    tables: dict[str, np.ndarray]
    fitted: dict[str, Fitted]
    remedies: dict[str, Remedy]


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return features scaled to length 1, float32 (N, D)."""
    wide = features.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def project(features: np.ndarray, parts: Parts) -> tuple[Projection, Tensor]:
    """Return the projection that the images outside the test part give, and all features under it, (N, d)."""
    units = torch.from_numpy(unit_rows(features))
    projection = Projection.of(units[parts.train[-1]])
    return projection, projection(units)


def side_by_side(
    features: np.ndarray,
    labels: np.ndarray,
    parts: Parts,
    metric: Metric,
    remedies: Mapping[str, Remedy],
    baselines: Mapping[str, Remedy] = BASELINES,
    *,
    shares: np.ndarray | None = None,
    seed: int,
    step: Callable[[str], None] = lambda name: None,
) -> SideBySide:
    """Return the heads and confusion matrices of every remedy, and of the baselines that are installed.

    Parameters
    ----------
    features : ndarray of shape (N, D), floating
        Only their direction is used.
    labels : ndarray of shape (N,), int64
    parts : Parts
    metric : callable
        From a confusion matrix to the score that settings are chosen by.
    remedies, baselines : mapping of str to Remedy
        Baselines as of `imbal_book.heads.baselines`.
    shares : ndarray of shape (K,), optional
        Class shares that adjustments after training aim at, by default equal ones.
    seed : int
        Of the first weights.
    step : callable
        Told the name of each remedy when it is done.
    """
    units, targets = torch.from_numpy(unit_rows(features)), torch.from_numpy(labels)
    projection, projected = project(features, parts)
    classes = len(parts.measured)
    shares = np.full(classes, 1 / classes) if shares is None else shares
    trained: dict[str, Heads] = {}
    fitted, tables, known = {}, {}, dict(remedies)
    for name, remedy in remedies.items():
        if remedy.objective:
            found = fit_remedy(remedy, projected, targets, parts, metric, trained, shares=shares, seed=seed)
            fitted[name] = dataclasses.replace(found, heads=projection.unfold(found.heads))
        else:
            fitted[name] = center_heads(units.numpy(), labels, parts)
        tables[name] = _tables(fitted[name].heads, units, labels, parts, classes)
        step(remedy.name)
    for name, baseline in baselines.items():
        outcome = fit_baseline(name, projected.numpy(), labels, parts, metric, classes, seed)
        if outcome is not None:
            tables[name], heads = outcome
            known[name] = baseline
            if heads is not None:
                fitted[name] = Fitted(projection.unfold(heads), [])
            step(baseline.name)
    return SideBySide(tables, fitted, known)


def _tables(heads: Heads, units: Tensor, labels: np.ndarray, parts: Parts, classes: int) -> np.ndarray:
    found = []
    for s, rows in enumerate(parts.measure):
        logits = units[rows] @ heads.weight[s] + heads.bias[s]
        found.append(confusions(labels[rows], logits.argmax(1).numpy(), classes))
    return np.stack(found)
