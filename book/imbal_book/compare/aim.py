"""What counts in a comparison: a metric, one class, given class shares, or given costs of mistakes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from imbal_book.compare.look import CompareError
from imbal_book.heads.scores import METRICS, Metric, metric_of
from imbal_core._checks.names import unknown_name

__all__ = ["Aim", "aim_at"]


@dataclass(frozen=True)
class Aim:
    """What a comparison asks for.

    Attributes
    ----------
    score : callable
        From a confusion matrix to a fraction, of which more is better.
    called : str
        How the report calls it.
    shares : ndarray of shape (K,)
        Class shares where the model will be used; adjustments after training aim at them.
    """

    score: Metric
    called: str
    shares: np.ndarray


def aim_at(
    metric: str,
    focus: str | None,
    priors: Mapping[str, float] | None,
    costs: Path | None,
    *,
    classes: Sequence[str],
    measured: np.ndarray,
    known: Collection[str],
) -> Aim:
    """Return what counts; see `imbal_book.compare.compare` for the options.

    Parameters
    ----------
    classes : sequence of str
        The K classes that are compared.
    measured : ndarray of shape (K,), bool
    known : collection of str
        Names of all classes of the folder, those that were left out too.

    Raises
    ------
    CompareError, ValueError
        If a name is unknown, options contradict each other, or shares or costs cannot be read.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    for name in [*([] if focus is None else [focus]), *(priors or {})]:
        if name not in known:
            raise unknown_name("class", name, sorted(known))
    if costs is not None and (focus is not None or metric != "balanced-accuracy"):
        raise CompareError("costs are a metric of their own: leave --metric and --focus out")
    if priors and costs is None and (focus is not None or metric != "accuracy"):
        raise CompareError(
            "class shares are for the accuracy and for costs: add --metric accuracy or --costs"
        )
    index = None if focus is None or focus not in classes else list(classes).index(focus)
    if focus is not None and (index is None or not measured[index]):
        raise CompareError(f"--focus {focus!r}: the class has too few images to be measured")
    shares = _shares(priors, classes)
    given = shares if priors else None
    where = " where the classes have the given shares" if priors else ""
    if costs is not None:
        table = _costs(costs, classes)
        cost = metric_of(metric, measured=measured, priors=given, costs=table)
        return Aim(
            lambda confusion: 1 + cost(confusion) / table.max(),
            f"avoided part of the largest cost{where}",
            shares,
        )
    score = metric_of(metric, measured=measured, focus=index, priors=given)
    return Aim(score, METRICS[metric] + where if focus is None else f"F1 of {focus!r}", shares)


def _shares(priors: Mapping[str, float] | None, classes: Sequence[str]) -> np.ndarray:
    if not priors:
        return np.full(len(classes), 1 / len(classes))
    if missing := [name for name in classes if name not in priors]:
        raise CompareError(f"the class {missing[0]!r} has no share: add --prior '{missing[0]}=SHARE'")
    values = np.array([priors[name] for name in classes], float)
    if not (np.isfinite(values) & (values > 0)).all():
        raise CompareError(f"class shares must be numbers above 0, got {min(values)}")
    return values / values.sum()


def _costs(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Return the cost of predicting the column for an image of the row, (K, K)."""
    try:
        table = pd.read_csv(path, index_col=0)
        costs = table.set_axis(table.index.astype(str)).loc[list(classes), list(classes)].to_numpy(float)
    except (OSError, ValueError, KeyError) as error:
        raise CompareError(
            f"{path}: cannot be read as costs ({error}): a CSV whose first line names the predicted classes and whose "
            "first column the true ones, with the cost of each mistake"
        ) from error
    if not np.isfinite(costs).all() or costs.min() < 0 or costs.max() == 0:
        raise CompareError(f"{path}: costs must be numbers of at least 0, some above 0")
    return costs
