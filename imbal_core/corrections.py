"""The corrections of `imbal_core.post_hoc` as scikit-learn estimators: fit on validation images, apply to any.

The columns of logits are the classes in sorted order of their labels. A correction has `transform` for corrected
logits, `predict` for labels and `predict_proba`; `sklearn.model_selection.GridSearchCV` chooses its options.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from imbal_core.losses.functional import adjust_logits
from imbal_core.post_hoc import choose_tau, fit_temperature, shifted_threshold, tau_normalized_logits


class _Correction(TransformerMixin, ClassifierMixin, BaseEstimator):
    """What the corrections share: labels, checks, and predictions from corrected logits."""

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> Any:
        """Learn the correction from X (N, K) and labels y (N,), and return the estimator itself."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) != self._num_classes(X):
            raise ValueError(
                f"y has {len(classes)} classes, but {type(self).__name__} corrects the logits of "
                f"{self._num_classes(X)}: every class needs an image."
            )
        self._learn(X, codes)
        self.classes_ = classes
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Return the corrected logits, (N, K)."""
        return self._corrected(X)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the label of the largest corrected logit of each row, (N,)."""
        best = self._corrected(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the softmax of the corrected logits, (N, K)."""
        return softmax(self._corrected(X), axis=1)

    def _corrected(self, X: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        return self._correct(validate_data(self, X, dtype=[np.float64, np.float32], reset=False))

    def _num_classes(self, X: np.ndarray) -> int:
        return X.shape[1]

    def _learn(self, X: np.ndarray, codes: np.ndarray) -> None:
        raise NotImplementedError

    def _correct(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class LogitAdjuster(_Correction):
    """Takes the class frequencies of the training images out of logits: `imbal_core.adjust_logits`.

    Parameters
    ----------
    tau : float, default=1.0
        0 changes nothing.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The labels, sorted.
    class_counts_ : ndarray of shape (K,), int64
        How often each came in `fit`, which takes the *training* labels.

    Examples
    --------
    >>> logits = np.array([[2.0, 0.0], [1.0, 0.5], [3.0, 0.0], [0.5, 0.0]])
    >>> LogitAdjuster().fit(logits, ["cat", "cat", "cat", "fox"]).predict(logits)
    array(['cat', 'fox', 'cat', 'fox'], dtype='<U3')
    """

    def __init__(self, *, tau: float = 1.0) -> None:
        self.tau = tau

    def _learn(self, X: np.ndarray, codes: np.ndarray) -> None:
        self.class_counts_ = np.bincount(codes)

    def _correct(self, X: np.ndarray) -> np.ndarray:
        return adjust_logits(X, self.class_counts_, tau=self.tau)


class TemperatureScaler(_Correction):
    """Divides logits by the temperature with the smallest cross entropy: `imbal_core.fit_temperature`.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The labels, sorted.
    temperature_ : float
        Above 1 where the logits were too sure.

    Examples
    --------
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> TemperatureScaler().fit(logits, [0, 0, 1, 1]).predict_proba([[4.0, 0.0]]).round(2)
    array([[0.75, 0.25]])
    """

    def _learn(self, X: np.ndarray, codes: np.ndarray) -> None:
        self.temperature_ = fit_temperature(X, codes)

    def _correct(self, X: np.ndarray) -> np.ndarray:
        return X / X.dtype.type(self.temperature_)


class ThresholdShifter(_Correction):
    """Moves the boundary of two classes to where the second has its best F1: `imbal_core.shifted_threshold`.

    Parameters
    ----------
    balanced : bool, default=False
        Weigh the images so that both classes count equally.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels, sorted: the second is the rare class.
    threshold_ : float
        On the logit of the rare class less that of the other.

    Examples
    --------
    >>> logits = np.array([[0.0, -3.0], [0.0, -2.0], [0.0, -1.0], [0.0, -0.5]])
    >>> ThresholdShifter().fit(logits, [0, 0, 1, 1]).predict(logits)
    array([0, 0, 1, 1])
    """

    def __init__(self, *, balanced: bool = False) -> None:
        self.balanced = balanced

    def _learn(self, X: np.ndarray, codes: np.ndarray) -> None:
        self.threshold_ = shifted_threshold(X[:, 1] - X[:, 0], codes, balanced=self.balanced)

    def _correct(self, X: np.ndarray) -> np.ndarray:
        margin = X[:, 1] - X[:, 0] - X.dtype.type(self.threshold_)
        return np.stack([np.zeros_like(margin), margin], axis=1)

    def _num_classes(self, X: np.ndarray) -> int:
        if X.shape[1] != 2:
            raise ValueError(f"a threshold is for the logits of 2 classes, got {X.shape[1]} columns.")
        return 2


class TauNormalizer(_Correction):
    """Logits of features by a classifier whose weights are normalised: `imbal_core.tau_normalized_logits`.

    Its X are features (N, D), what the classifier reads.

    Parameters
    ----------
    weight : array-like of shape (K, D)
        Of the trained classifier, such as `torch.nn.Linear`; its bias is dropped.
    tau : float, optional
        None lets `fit` choose the one with the best balanced accuracy: `imbal_core.choose_tau`.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The labels, sorted.
    tau_ : float
        The given or the chosen one.

    Examples
    --------
    >>> features = np.array([[4.0, 1.0], [3.0, 1.0], [1.0, 1.5]])
    >>> model = TauNormalizer([[2.0, 0.0], [0.0, 1.0]]).fit(features, ["cat", "cat", "fox"])
    >>> model.tau_, model.predict([[1.0, 1.5]])
    (0.5, array(['fox'], dtype='<U3'))
    """

    def __init__(self, weight: ArrayLike, *, tau: float | None = None) -> None:
        self.weight = weight
        self.tau = tau

    def _learn(self, X: np.ndarray, codes: np.ndarray) -> None:
        self.tau_ = choose_tau(X, self.weight, codes) if self.tau is None else self.tau

    def _correct(self, X: np.ndarray) -> np.ndarray:
        return tau_normalized_logits(X, self.weight, self.tau_)

    def _num_classes(self, X: np.ndarray) -> int:
        return len(np.asarray(self.weight))
