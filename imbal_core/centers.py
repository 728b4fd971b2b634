"""Classification by the nearest category center (Zhang 2018, equations 1 and 2)."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from imbal_core._checks.arrays import on_host
from imbal_core._checks.rows import chunks_with_lengths

Array: TypeAlias = np.ndarray | Tensor

# Rows carry about seven digits in float32: a mean shorter than this has no direction left.
_SHORTEST_CENTER = 1e-6
# Labels in a message, shortened after a few.
_listed = partial(np.array2string, separator=", ", threshold=8, edgeitems=4)


class CategoryCenters(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    r"""Classifier that assigns a row to the nearest mean of L2-normalised training rows.

    The center of class k and the label of a query q are, with features f,

    .. math::

        C_k = \frac{1}{N_k} \sum_{i=1}^{N_k} \frac{f_i}{\lVert f_i \rVert_2}
        \qquad
        label_q = \arg\min_k \left\lVert \frac{f_q}{\lVert f_q \rVert_2} - C_k \right\rVert_2 .

    Rows are read in chunks and never normalised as a whole: beside the input, memory is O(K D) for K classes
    of D features, plus a few tens of MiB for one chunk.

    Parameters
    ----------
    renormalize : bool, default=False
        Scale each center to length 1 before distances are taken. The paper does not: there the center of
        scattered rows is shorter than that of similar ones. With True the nearest has the largest cosine.
    temperature : float, default=1.0
        Of `predict_proba`, above 0: the smaller, the surer. Labels do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The class labels, sorted.
    counts_ : ndarray of shape (K,), int64
        Training rows seen of each class, the N_k of equation 1; rows of weight 0 do not count.
    weights_ : ndarray of shape (K,), float64
        The sum of their weights, by which the center divides: `counts_` where none were given.
    centers_ : ndarray or Tensor of shape (K, D), float64
        The centers C_k, re-normalised if so asked; a tensor on the device of the features if those were one.
    n_features_in_, feature_names_in_
        D, and the names of the features where a data frame with text column names was given.

    Notes
    -----
    A NumPy array (or anything that scikit-learn accepts) gives NumPy results, a torch tensor gives tensors on its own
    device. Sums and centers are float64. `predict` multiplies float32 features with the centers in float32 (on a GPU
    subject to ``torch.set_float32_matmul_precision``); float16 and bfloat16 are widened to float32, integers to
    float64. Distances are float64 inside. On a GPU the last digit of a center may differ from run to run unless
    ``torch.use_deterministic_algorithms`` is on. `sklearn.neighbors.NearestCentroid` is the same rule after
    ``sklearn.preprocessing.Normalizer``, up to ties. Zhang, Y. et al. (2018), "Image Classification with Category
    Centers in Class Imbalance Situation".

    Examples
    --------
    >>> import numpy as np
    >>> from imbal_core.centers import CategoryCenters
    >>> features = np.array([[1.0, 0.0], [4.0, 3.0], [0.0, 2.0]])
    >>> model = CategoryCenters().fit(features, ["cat", "cat", "dog"])
    >>> model.centers_
    array([[0.9, 0.3],
           [0. , 1. ]])
    >>> model.predict([[3.0, 1.0], [1.0, 7.0]])
    array(['cat', 'dog'], dtype='<U3')
    """

    n_features_in_: int
    classes_: np.ndarray
    counts_: np.ndarray
    weights_: np.ndarray
    _sums: Tensor
    _gives_tensors: bool
    _classes_declared: bool

    def __init__(self, *, renormalize: bool = False, temperature: float = 1.0) -> None:
        self.renormalize = renormalize
        self.temperature = temperature

    def fit(
        self, X: ArrayLike | Tensor, y: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None
    ) -> CategoryCenters:
        """Compute the centers of all classes in `y`, forgetting any earlier data; return the estimator itself.

        X is array-like or Tensor of shape (N, D), y of shape (N,), integers or text. A row of weight w counts as w rows
        do. A row that is all zeros (it has no direction) or holds NaN or infinity is a ValueError, as are shapes that
        disagree and negative weights.
        """
        return self._add_rows(X, y, sample_weight, classes=None, restart=True)

    def partial_fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | Tensor | None = None,
    ) -> CategoryCenters:
        """Add one batch of rows to the centers, as `fit`; any batching gives the centers of one `fit`.

        `classes` of shape (K,) names all labels that may come; any other is a ValueError then. If never given, the
        classes grow. A batch that is refused leaves the estimator as it was.
        """
        restart = not self.__sklearn_is_fitted__()
        return self._add_rows(X, y, sample_weight, classes=classes, restart=restart)

    def merge(self, other: CategoryCenters) -> CategoryCenters:
        """Add the rows that another estimator has seen; shards in any order give the centers of one `fit`.

        The classes of `other` join those here, and it is not changed. Other features, by number or name, or text
        labels that meet numbers are a ValueError; an `other` that has seen no rows is a NotFittedError.
        """
        if not isinstance(other, CategoryCenters):
            raise TypeError(f"merge takes a CategoryCenters, got {type(other).__name__}.")
        check_is_fitted(other)
        if not self.__sklearn_is_fitted__():
            self.__dict__.update(copy.deepcopy(other).__dict__ | self.get_params())
            return self
        if other.n_features_in_ != self.n_features_in_:
            raise ValueError(
                f"cannot merge centers of {other.n_features_in_} features into {self.n_features_in_}: "
                "the shards must come from the same layer."
            )
        names, others = (getattr(each, "feature_names_in_", None) for each in (self, other))
        if names is not None and others is not None and not np.array_equal(names, others):
            raise ValueError("cannot merge: the feature names of the two estimators differ in name or order.")
        united = _united(self.classes_, other.classes_)
        self._absorb(united, other.classes_, other.counts_, other.weights_, other._sums)
        self._classes_declared |= other._classes_declared
        return self

    @torch.no_grad()
    def predict(self, X: ArrayLike | Tensor) -> Array:
        """Return the label of the nearest center for each row of X (N, D), shape (N,) (equation 2).

        An exact tie goes to the first class. A row that is all zeros or not finite, a wrong width, or a declared class
        without rows is a ValueError. Text labels for a tensor, which cannot hold them, are a TypeError.
        """
        features = self._checked_features(X)
        as_tensor = isinstance(features, Tensor)
        if as_tensor and self.classes_.dtype.kind not in "biuf":
            raise TypeError(
                "labels are text, which no tensor holds: predict from X.cpu().numpy(), or fit on integers."
            )
        centers = self._centers()
        nearest = []
        weights: Tensor | None = None
        for _, rows, lengths in chunks_with_lengths(features, len(centers)):
            if weights is None:
                half_squares = centers.square().sum(1).div(2).to(rows)
                weights = centers.to(rows).T
            # Per row, |f/|f| - C|^2 falls as f.C - |f| |C|^2 / 2 grows, which needs no division of the row.
            nearest.append((rows @ weights).addcmul_(lengths[:, None], half_squares, value=-1).argmax(1))
        codes = torch.cat(nearest)
        if as_tensor:
            return torch.from_numpy(self.classes_).to(codes.device)[codes]
        return self.classes_[codes.numpy()]

    def transform(self, X: ArrayLike | Tensor) -> Array:
        """Return the Euclidean distance of each L2-normalised row of X (N, D) to each center, shape (N, K).

        Between 0 and 2, in the floating type of X (float64 for integers). Errors as `predict`.
        """
        return self._distances(X)

    def predict_proba(self, X: ArrayLike | Tensor) -> Array:
        """Return softmax(-d^2 / temperature) over the distances d to the centers, shape (N, K).

        Rows sum to 1 and the likeliest class is the nearest, but a value is no calibrated probability: the
        temperature decides. On validation rows ``imbal_core.fit_temperature(-model.transform(X) ** 2, y)`` finds one.
        """
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}.")
        distances = self._distances(X)
        shares = torch.as_tensor(distances).double().square().div(-self.temperature).softmax(1)
        if isinstance(distances, Tensor):
            return shares.to(distances.dtype)
        return shares.numpy().astype(distances.dtype, copy=False)

    @property
    def centers_(self) -> Array:
        """The centers, (K, D) float64."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError("centers_ exists only after fit, partial_fit or merge.")
        centers = self._centers()
        return centers if self._gives_tensors else centers.cpu().numpy()

    @property
    def _n_features_out(self) -> int:
        return len(self.classes_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "counts_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = True
        return tags

    @torch.no_grad()
    def _distances(self, X: ArrayLike | Tensor) -> Array:
        """Return the (N, K) distances, which `set_output` leaves alone."""
        features = self._checked_features(X)
        centers = self._centers()
        squares = centers.square().sum(1)
        parts = []
        for _, rows, lengths in chunks_with_lengths(features, len(centers), widen=True):
            cosines = (rows / lengths[:, None]) @ centers.to(rows).T
            parts.append((1 + squares.to(rows) - 2 * cosines).clamp_(min=0).sqrt_())
        result = torch.cat(parts)
        if isinstance(features, Tensor):
            return result.to(features.dtype if features.is_floating_point() else torch.float64)
        return result.numpy().astype(features.dtype if features.dtype.kind == "f" else np.float64, copy=False)

    @torch.no_grad()
    def _add_rows(
        self, X: Any, y: Any, sample_weight: Any, *, classes: ArrayLike | None, restart: bool
    ) -> CategoryCenters:
        """Add rows to the sums, all or none; `restart` forgets what came before."""
        features, labels = self._checked_rows(X, y, restart)
        features, labels, weights = _weighed(features, labels, sample_weight)
        present = np.unique(labels)
        known = present[:0] if restart else self.classes_
        declared = False if restart else self._classes_declared
        if classes is not None:
            wanted = np.unique(on_host(classes))
            if declared and not np.array_equal(wanted, known):
                raise ValueError(
                    f"`classes` {_listed(wanted)} differ from those declared before, {_listed(known)}: "
                    "give them once, in the first call."
                )
            known, declared = _united(known, wanted), True
        if not declared:
            known = _united(known, present)
        elif len(strangers := present[~np.isin(present, known)]):
            raise ValueError(
                f"y has labels {_listed(strangers)}, which are not among `classes` {_listed(known)}."
            )

        device = features.device if isinstance(features, Tensor) else torch.device("cpu")
        codes = torch.from_numpy(np.searchsorted(known, labels)).to(device)
        added = torch.zeros(len(known), features.shape[1], dtype=torch.float64, device=device)
        buffer = None
        for start, rows, lengths in chunks_with_lengths(features, 1):
            # The first chunk is the largest. Fresh memory for each would cost more than the sums themselves.
            buffer = torch.empty_like(rows, dtype=torch.float64) if buffer is None else buffer
            units = buffer[: len(rows)].copy_(rows).div_(lengths.double()[:, None])
            part = slice(start, start + len(rows))
            if weights is not None:
                units *= torch.from_numpy(weights[part]).to(device)[:, None]
            added.index_add_(0, codes[part], units)
        places = codes.cpu().numpy()
        counts = np.bincount(places, minlength=len(known)).astype(np.int64)
        totals = np.bincount(places, weights, minlength=len(known)).astype(np.float64)

        if restart:
            self._gives_tensors = isinstance(features, Tensor)
            self.classes_, self.counts_, self.weights_, self._sums = known, counts, totals, added
        else:
            self._absorb(known, known, counts, totals, added)
        self._classes_declared = declared
        return self

    def _absorb(
        self, united: np.ndarray, classes: np.ndarray, counts: np.ndarray, weights: np.ndarray, sums: Tensor
    ) -> None:
        """Add what was seen of `classes` to what was seen here, all laid out for the `united` classes."""
        all_counts, all_weights = np.zeros(len(united), np.int64), np.zeros(len(united))
        all_sums = self._sums.new_zeros(len(united), self._sums.shape[1])
        own = (self.classes_, self.counts_, self.weights_, self._sums)
        for labels, n, w, vectors in (own, (classes, counts, weights, sums)):
            places = np.searchsorted(united, labels)
            all_counts[places] += n
            all_weights[places] += w
            all_sums[torch.from_numpy(places).to(all_sums.device)] += vectors.to(all_sums.device)
        self.classes_, self.counts_, self.weights_, self._sums = united, all_counts, all_weights, all_sums

    def _centers(self) -> Tensor:
        """Return the centers as a float64 tensor on the device of the sums."""
        empty = self.classes_[self.counts_ == 0]
        if len(empty):
            raise ValueError(
                f"classes {_listed(empty)} have no center: no row of them was seen. Add some by partial_fit."
            )
        centers = self._sums / torch.from_numpy(self.weights_).to(self._sums.device)[:, None]
        if self.renormalize:
            lengths = torch.linalg.vector_norm(centers, dim=1, keepdim=True)
            short = (lengths[:, 0] < _SHORTEST_CENTER).cpu().numpy()
            if short.any():
                raise ValueError(
                    f"the rows of classes {_listed(self.classes_[short])} cancel: their centers have no "
                    "direction to be re-normalised. Use renormalize=False."
                )
            centers = centers / lengths
        return centers

    def _checked_rows(self, X: Any, y: Any, reset: bool) -> tuple[Any, np.ndarray]:
        """Return features and host labels after the checks that need no pass over the features."""
        if isinstance(X, Tensor) or isinstance(y, Tensor):
            y = on_host(y)  # scikit-learn reads anything else itself: a column of a frame, None
        if isinstance(X, Tensor):
            X = self._checked_tensor(X, reset)
            if y.shape != (len(X),):
                raise ValueError(
                    f"y must have shape ({len(X)},), one label for each row of X, got {y.shape}."
                )
        else:
            # Finiteness is read off the row lengths, which are needed anyway: one pass over memory less.
            X, y = validate_data(self, X, y, dtype="numeric", ensure_all_finite=False, reset=reset)
        check_classification_targets(y)
        return X, y

    def _checked_features(self, X: Any) -> Any:
        """Return features to predict from after the checks that need no pass over them."""
        check_is_fitted(self)
        if isinstance(X, Tensor):
            return self._checked_tensor(X, reset=False)
        return validate_data(self, X, dtype="numeric", ensure_all_finite=False, reset=False)

    def _checked_tensor(self, X: Tensor, reset: bool) -> Tensor:
        """Return the tensor, detached, after the checks that scikit-learn makes of arrays."""
        if X.ndim != 2 or 0 in X.shape:
            raise ValueError(
                f"X must have shape (rows, features), neither of them 0, got {tuple(X.shape)}: flatten(1) it."
            )
        if X.is_complex() or X.is_sparse or X.layout != torch.strided:
            raise ValueError(f"X must be a dense, real tensor, got {X.dtype} in layout {X.layout}.")
        return validate_data(self, X, skip_check_array=True, reset=reset).detach()


def _weighed(X: Any, labels: np.ndarray, sample_weight: Any) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Return the rows whose weight is not 0, their labels and their weights, float64."""
    if sample_weight is None:
        return X, labels, None
    given = on_host(sample_weight) if isinstance(sample_weight, Tensor) else sample_weight
    weights = _check_sample_weight(given, labels, dtype=np.float64, ensure_non_negative=True)
    kept = np.flatnonzero(weights)
    if not len(kept):
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if len(kept) < len(labels):
        X = X[torch.from_numpy(kept).to(X.device) if isinstance(X, Tensor) else kept]
    return X, labels[kept], weights[kept]


def _united(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the sorted union of two sets of labels; text never mixes with numbers, an empty set with anything."""
    if len(first) and (first.dtype.kind in "biuf") != (second.dtype.kind in "biuf"):
        raise ValueError(
            f"labels mix text and numbers: {_listed(first)} and {_listed(second)}. Use one kind for all."
        )
    return np.union1d(first, second) if len(first) else second
