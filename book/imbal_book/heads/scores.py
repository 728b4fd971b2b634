"""From predictions to scores, and from the scores of repeated splits to differences that can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from imbal_book.evidence.statistics import CONFIDENCE
from imbal_core._checks.names import unknown_name
from imbal_core.metrics import accuracy, f1_per_class, per_class_recall

__all__ = [
    "LEVEL",
    "METRICS",
    "Change",
    "compare_with_plain",
    "confusions",
    "corrected_interval",
    "holm",
    "metric_of",
    "rare_classes",
    "tie_groups",
]

#: p values below are beyond noise.
LEVEL = 1 - CONFIDENCE


class Change(NamedTuple):
    """A mean of paired differences with its interval, and the p value of no difference."""

    mean: float
    low: float
    high: float
    p: float


Metric = Callable[[np.ndarray], float]
#: Name of a metric -> how the report calls it.
METRICS = {
    "balanced-accuracy": "balanced accuracy",
    "worst-class": "recall of the worst class",
    "harmonic-mean": "harmonic mean of the recalls",
    "macro-f1": "macro F1",
    "accuracy": "accuracy",
}


def metric_of(
    name: str,
    *,
    measured: np.ndarray,
    focus: int | None = None,
    priors: np.ndarray | None = None,
    costs: np.ndarray | None = None,
) -> Metric:
    """Return the function from a confusion matrix (K, K) to a score, of which more is better.

    Parameters
    ----------
    name : str
        One of `METRICS`.
    measured : ndarray of shape (K,), bool
        The classes that count.
    focus : int, optional
        A class whose F1 is the score, whatever the name.
    priors : ndarray of shape (K,), optional
        Shares of the classes where the model will be used: the score is the accuracy there.
    costs : ndarray of shape (K, K), optional
        Cost of predicting the column for an image of the row; the score is the negative mean cost of an image, with
        `priors` or, without them, with classes that are equally frequent.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    if focus is not None:
        return lambda confusion: float(f1_per_class(confusion)[focus])
    weights = measured / measured.sum() if priors is None else priors * measured / (priors * measured).sum()
    if costs is not None:
        return lambda confusion: -float(weights @ (_rates(confusion) * costs).sum(1))
    if priors is not None or name == "balanced-accuracy":
        return lambda confusion: float(weights @ per_class_recall(confusion))
    if name == "worst-class":
        return lambda confusion: float(per_class_recall(confusion)[measured].min())
    if name == "harmonic-mean":
        return lambda confusion: float(stats.hmean(per_class_recall(confusion)[measured]))
    if name == "macro-f1":
        return lambda confusion: float(f1_per_class(confusion)[measured].mean())
    return accuracy


def _rates(confusion: np.ndarray) -> np.ndarray:
    return confusion / np.maximum(confusion.sum(1, keepdims=True), 1)


def rare_classes(counts: np.ndarray) -> np.ndarray:
    """Return which classes have fewer than half as many images as the average class, bool (K,)."""
    return counts < counts.mean() / 2


def confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Return confusion matrices (..., K, K) of predictions (..., N) of the same images with labels (N,)."""
    flat = predictions.reshape(-1, len(labels))
    cells = labels * num_classes + flat + np.arange(len(flat))[:, None] * num_classes**2
    counts = np.bincount(cells.ravel(), minlength=len(flat) * num_classes**2)
    return counts.reshape(*predictions.shape[:-1], num_classes, num_classes)


def corrected_interval(
    differences: ArrayLike, test_over_train: float, confidence: float = CONFIDENCE
) -> Change:
    r"""Return the mean of paired differences over repeated splits with its interval and p value.

    Repeated splits share images, so their differences are correlated and the plain t interval is too short. The
    corrected resampled t test puts :math:`(1 / R + n_2 / n_1) s^2` in the place of :math:`s^2 / R`.

    Parameters
    ----------
    differences : array-like of shape (R,)
    test_over_train : float
        :math:`n_2 / n_1`, images that measure over images that train.
    confidence : float, default=0.95

    References
    ----------
    Nadeau, C., Bengio, Y. (2003). "Inference for the Generalization Error", Machine Learning 52, section 4.3.
    """
    values = np.asarray(differences, np.float64)
    n, mean = len(values), float(values.mean())
    if n < 2:
        raise ValueError(f"there are {n} splits; an interval needs at least 2")
    sd = float(values.std(ddof=1))
    error = sd * np.sqrt(1 / n + test_over_train)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * error)
    p = float(mean == 0) if error == 0 else float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return Change(mean, mean - half, mean + half, p)


def compare_with_plain(scores: Mapping[str, np.ndarray], plain: str, test_over_train: float) -> pd.DataFrame:
    """Return a row per remedy: mean score, change against plain with interval, Holm's p value, tie group.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (R,)
        Of the repeated splits, by remedy; the same splits for all.
    plain : str
        The remedy that the others are compared with.

    Returns
    -------
    DataFrame
        Index: remedy, the best first. Columns ``score``, ``change``, ``low``, ``high``, ``p`` (Holm's, over all
        remedies), ``tie`` (number of its tie group, 1 is best).
    """
    rows = {}
    for name, values in scores.items():
        rows[name] = (values.mean(), *corrected_interval(values - scores[plain], test_over_train))
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["score", "change", "low", "high", "p"])
    others = frame.index != plain
    if others.any():
        frame.loc[others, "p"] = holm(frame.loc[others, "p"].to_numpy())
    frame = frame.sort_values("score", ascending=False, kind="stable")
    frame["tie"] = tie_groups({name: scores[name] for name in frame.index}, test_over_train)
    return frame


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's (1979) adjusted p values of a family, shape (n,), in the given order."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return adjusted


def tie_groups(scores: Mapping[str, np.ndarray], test_over_train: float) -> list[int]:
    """Return the number of the tie group of each remedy, of remedies given the best first.

    The best and all whose difference to it is within noise (p of the corrected test at least `LEVEL`) are group 1; the
    best of the others leads group 2, and so on.
    """
    names, found = list(scores), dict.fromkeys(scores, 0)
    group = 0
    while left := [name for name in names if not found[name]]:
        group += 1
        leader = scores[left[0]]
        for name in left:
            if name == left[0] or corrected_interval(leader - scores[name], test_over_train).p >= LEVEL:
                found[name] = group
    return [found[name] for name in names]
