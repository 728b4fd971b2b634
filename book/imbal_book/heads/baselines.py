"""What people already use on features: scikit-learn's logistic regression, and imbalanced-learn."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from imbal_book.heads.linear import Heads
from imbal_book.heads.parts import Parts
from imbal_book.heads.remedies import Remedy
from imbal_book.heads.scores import Metric, confusions

__all__ = ["BASELINES", "UNWEIGHTED", "fit_baseline"]

#: Inverse strengths of the penalty that a logistic regression chooses from on validation images.
STRENGTHS = (1.0, 30.0, 1000.0)
BASELINES = {
    "logistic": Remedy(
        "scikit-learn: balanced logistic regression",
        "Fit scikit-learn's LogisticRegression(class_weight='balanced') on the features of the frozen network",
    ),
    "smote": Remedy(
        "imbalanced-learn: SMOTE, logistic regression",
        "Add interpolated images of the rare classes (SMOTE), then fit a logistic regression on the features",
    ),
    "forest": Remedy(
        "imbalanced-learn: balanced random forest", "Fit a balanced random forest on the features"
    ),
}
#: What `imbal_book.compare` adds: the records of the study of all remedies have the others alone.
UNWEIGHTED = {
    "logistic-plain": Remedy(
        "scikit-learn: logistic regression",
        "Fit scikit-learn's LogisticRegression on the features of the frozen network",
    )
}


def fit_baseline(
    name: str,
    features: np.ndarray,
    labels: np.ndarray,
    parts: Parts,
    metric: Metric,
    num_classes: int,
    seed: int,
) -> tuple[np.ndarray, Heads | None] | None:
    """Return confusion matrices (S, K, K) and linear heads, None for a forest; None if a package is missing.

    Parameters
    ----------
    name : {"logistic", "logistic-plain", "smote", "forest"}
    features, labels : ndarray of shape (N, D) and (N,)
    parts : Parts
    metric : callable
        From a confusion matrix to the score that the strength of the penalty is chosen by.
    num_classes : int
        K.
    seed : int
    """
    if name in ("smote", "forest") and importlib.util.find_spec("imblearn") is None:
        return None
    tables, weights, biases = [], [], []
    for s, (train, measure) in enumerate(zip(parts.train, parts.measure, strict=True)):
        strength = STRENGTHS[0]
        if name != "forest":
            scores = np.zeros(len(STRENGTHS))
            for fit, held in zip(parts.fit[s], parts.validation[s], strict=True):
                for i, candidate in enumerate(STRENGTHS):
                    model = _fit(name, features[fit], labels[fit], candidate, seed)
                    scores[i] += metric(confusions(labels[held], model.predict(features[held]), num_classes))
            strength = STRENGTHS[int(scores.argmax())]
        model = _fit(name, features[train], labels[train], strength, seed)
        tables.append(confusions(labels[measure], model.predict(features[measure]), num_classes))
        if name != "forest":
            weight, bias = _head(model, num_classes)
            weights.append(weight)
            biases.append(bias)
    return np.stack(tables), Heads(torch.stack(weights), torch.stack(biases)) if weights else None


def _fit(name: str, features: np.ndarray, labels: np.ndarray, strength: float, seed: int) -> Any:
    if name == "forest":
        from imblearn.ensemble import BalancedRandomForestClassifier

        options = {"sampling_strategy": "all", "replacement": True, "bootstrap": False, "random_state": seed}
        return BalancedRandomForestClassifier(**options).fit(features, labels)
    if name == "smote":
        from imblearn.over_sampling import SMOTE, RandomOverSampler

        fewest = np.bincount(labels)[np.unique(labels)].min()
        neighbours = min(5, fewest - 1)  # a class of one image has none: its image is repeated
        sampler = (
            SMOTE(k_neighbors=neighbours, random_state=seed)
            if neighbours
            else RandomOverSampler(random_state=seed)
        )
        features, labels = sampler.fit_resample(features, labels)
    weight = "balanced" if name == "logistic" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, class_weight=weight, max_iter=100, tol=1e-3).fit(
            features, labels
        )


def _head(model: LogisticRegression, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (D, K) and bias (K,) of a logistic regression, of two classes too."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    full = np.zeros((num_classes, weight.shape[1])), np.full(num_classes, -1e9)
    full[0][model.classes_], full[1][model.classes_] = weight, bias
    return torch.tensor(full[0].T, dtype=torch.float32), torch.tensor(full[1], dtype=torch.float32)
