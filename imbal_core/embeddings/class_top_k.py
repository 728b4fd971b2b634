"""The units that carry a class: identity, magnitude, frequency and share of the logit of its top K.

Dablain et al. 2022 ("Understanding CNN Fragility When Learning With Imbalanced Data", arXiv 2210.09465) and the
authors' code for sibling papers leave several choices open. Each is an option here and is kept in the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.names import unknown_name
from imbal_core.embeddings.feature_arrays import check_features, class_indices, pieces_by_group, read_rows

__all__ = ["INSTANCES", "RANKINGS", "SHARES", "UNITS_OF", "ClassTopK", "TopK"]

INSTANCES = ("all", "true positives", "false negatives")
RANKINGS = ("absolute", "signed")
UNITS_OF = ("class mean", "instance")
SHARES = ("absolute", "positive", "net")

_NET, _MAGNITUDE, _RANKED_NET, _RANKED_MAGNITUDE, _IN_TOP = range(5)


@dataclass(frozen=True, eq=False)
class TopK:
    r"""The top K units of every class, and the definition that was used.

    Attributes
    ----------
    identities : ndarray of shape (C, K), int64
        Indices of the units, the first carrying most; -1 where fewer than K units carry anything.
    magnitudes : ndarray of shape (C, K), float64
        What each rank carries, in the units of the embedding; 0 beside an identity of -1.
    frequencies : ndarray of shape (C, D), int64
        In how many instances of the class a unit is among that instance's own top K.
    shares : ndarray of shape (C, D), float64
        Column j is the share that the top j + 1 units carry, a fraction; see `share`.
    means : ndarray of shape (C, D), float64
        Mean over the class's instances of the value by which units are ranked: \|v\|, or v where signed.
    counts : ndarray of shape (C,), int64
        Instances of each class. Where it is 0, identities are -1 and the other fractions and means NaN.
    embedding : {"feature", "classification"}
    instances, ranking, units_of, share : str
        Options as given to `ClassTopK` and its `compute`.
    """

    identities: np.ndarray
    magnitudes: np.ndarray
    frequencies: np.ndarray
    shares: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    embedding: str
    instances: str
    ranking: str
    units_of: str
    share: str

    @property
    def k(self) -> int:
        """K, the number of units that were asked for."""
        return self.identities.shape[1]

    @property
    def frequency_rates(self) -> np.ndarray:
        """Frequencies as fractions of the class's instances, (C, D) float64; NaN without instances."""
        return _divide(self.frequencies, self.counts[:, None])

    def units_for_share(self, share: float) -> np.ndarray:
        """Return the fewest units whose share reaches the given fraction, (C,) float64; NaN where undefined.

        Raises
        ------
        ValueError
            If `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}.")
        reached = self.shares >= share
        return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.nan)

    def units_in_use(self, rate: float = 0.0) -> np.ndarray:
        """Return how many units are in the top K of more than that fraction of the instances, (C,) float64.

        Raises
        ------
        ValueError
            If `rate` is not in [0, 1).
        """
        if not 0 <= rate < 1:
            raise ValueError(f"rate must lie in [0, 1), got {rate}.")
        used = (self.frequency_rates > rate).sum(axis=1)
        return np.where(self.counts > 0, used, np.nan)


class ClassTopK:
    r"""Accumulator of what `TopK` needs, over batches in any order, in O(C D) memory.

    With f_j the feature embedding (FE) of an instance x of class c, its value v_j at unit j is

    .. math:: v_j = f_j \quad (FE) \qquad or \qquad v_j = f_j W_{cj} \quad (CE, with\ weights),

    so that the CE of an instance sum to its logit for its *true* class, less the bias. Instances are kept apart
    by class and by whether they were predicted right, so one pass serves every choice of instances.

    Parameters
    ----------
    num_classes : int
        C.
    weights : array-like or Tensor of shape (C, D), optional
        The classifier's weights, for classification embeddings. Without them: feature embeddings.
    k : int, default=10
        K of identities, magnitudes and frequencies. Shares come for every K.
    ranking : {"absolute", "signed"}, default="absolute"
        Units are ranked by \|v\| or by v. A value that ranks at 0 or below is in no top K, even where that
        leaves fewer than K units: a dead unit carries nothing, and with "signed" a negative one speaks against
        the class. Equal values rank by the lower index.

    Notes
    -----
    Features of at most 32 bits meet 32-bit weights in float32 products; all sums are float64. Everything
    happens on the CPU, a piece of about a mebibyte at a time, and results are NumPy arrays.

    Classification embeddings of the *predicted* class are had by exchanging the two arguments:
    ``update(features, predictions, labels)``. "false negatives" are then the false positives of a class.

    References
    ----------
    Dablain, D. et al. (2022), arXiv 2210.09465. The sibling repositories dd1github/How_DA_Works (mean \|CE\| of
    true positives, K = 10) and dd1github/IML_for_Imbalanced_Learning (mean FE of all instances, and how many
    instances have a unit among their own ten largest).

    Examples
    --------
    >>> import numpy as np
    >>> features = np.array([[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]])
    >>> top = ClassTopK(2, k=2).update(features, [0, 1], [0, 0]).compute()
    >>> top.identities
    array([[0, 1],
           [2, 0]])
    >>> top.shares
    array([[0.75, 1.  , 1.  ],
           [0.5 , 0.75, 1.  ]])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        weights: ArrayLike | Tensor | None = None,
        k: int = 10,
        ranking: str = "absolute",
    ) -> None:
        if num_classes < 1 or k < 1:
            raise ValueError(f"num_classes and k must be at least 1, got {num_classes} and {k}.")
        if ranking not in RANKINGS:
            raise unknown_name("ranking", ranking, RANKINGS)
        self.num_classes, self.k, self.ranking = num_classes, k, ranking
        self._weights: np.ndarray | None = None
        self._sums: np.ndarray | None = None
        self._knows_predictions: bool | None = None
        self._counts = np.zeros((num_classes, 2), dtype=np.int64)
        if weights is not None:
            checked = check_features(weights, name="weights", width=None)
            if len(checked) != num_classes:
                raise ValueError(f"weights must have shape ({num_classes}, D), got {tuple(checked.shape)}.")
            self._weights = read_rows(checked, np.arange(num_classes), name="weights")
            self._start(self._weights.shape[1])

    def update(
        self,
        features: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        predictions: ArrayLike | Tensor | None = None,
    ) -> ClassTopK:
        """Add a batch; any batching gives the same result.

        Parameters
        ----------
        features : array-like or Tensor of shape (N, D)
            Feature embeddings: what the classifier multiplies by its weights
            (`imbal_core.embeddings.classification_embeddings.LinearClassifier.inputs`).
        labels, predictions : array-like or Tensor of shape (N,), integer
            True and predicted classes in [0, C). Predictions may be left out, in every batch: then `compute`
            knows no true positives.

        Returns
        -------
        ClassTopK
            The accumulator itself.

        Raises
        ------
        ValueError
            If shapes disagree, a value is NaN or infinite, or a class is unknown. The batch is then left out
            as a whole.
        """
        width = None if self._sums is None else self._sums.shape[-1]
        features = check_features(features, width=width)
        sizes = {"count": len(features), "num_classes": self.num_classes}
        true = class_indices(labels, name="labels", **sizes)
        known = predictions is not None
        if self._knows_predictions not in (None, known):
            raise ValueError("predictions must come with every batch or with none.")
        wrong = np.zeros_like(true)
        if predictions is not None:
            wrong += class_indices(predictions, name="predictions", **sizes) != true
        if self._sums is None and self.k > features.shape[1]:
            raise ValueError(f"k={self.k} is more than the {features.shape[1]} units of the features.")
        groups = 2 * true + wrong
        present, places = np.unique(groups, return_inverse=True)
        added = np.zeros((5, len(present), features.shape[1]))
        for place, rows in pieces_by_group(places, features.shape[1]):
            values = read_rows(features, rows)
            if self._weights is not None:
                values = values * self._weights[present[place] // 2]
            _add_piece(added[:, place], values, self.k, self.ranking)
        sums = self._start(features.shape[1])
        sums.reshape(5, -1, features.shape[1])[:, present] += added
        self._counts += np.bincount(groups, minlength=2 * self.num_classes).reshape(-1, 2)
        self._knows_predictions = known
        return self

    def merge(self, other: ClassTopK) -> ClassTopK:
        """Add what another accumulator of the same settings has seen, and return the accumulator itself.

        Raises
        ------
        ValueError
            If the settings, the weights or the number of units differ, or one of the two has no predictions.
        """
        mine, theirs = ((each.num_classes, each.k, each.ranking) for each in (self, other))
        if mine != theirs or not _same(self._weights, other._weights):
            raise ValueError(
                f"cannot merge: (num_classes, k, ranking) are {mine} and {theirs}, and the weights must be equal."
            )
        if other._sums is None or other._knows_predictions is None:
            return self
        if self._knows_predictions not in (None, other._knows_predictions):
            raise ValueError("cannot merge: one accumulator has predictions and the other none.")
        sums = self._start(other._sums.shape[-1])
        if sums.shape != other._sums.shape:
            raise ValueError(f"cannot merge: {sums.shape[-1]} and {other._sums.shape[-1]} units.")
        sums += other._sums
        self._counts += other._counts
        self._knows_predictions = other._knows_predictions
        return self

    def compute(
        self, *, instances: str = "all", units_of: str = "class mean", share: str = "absolute"
    ) -> TopK:
        r"""Return the top K units of every class.

        Parameters
        ----------
        instances : {"all", "true positives", "false negatives"}, default="all"
            Of each class: every one, those predicted right, or those predicted as another class.
        units_of : {"class mean", "instance"}, default="class mean"
            "class mean" ranks units by their mean over the class, and the magnitude is that mean. "instance"
            ranks the units of each instance by themselves: the identities are those most often in an
            instance's top K (then by the larger mean), the magnitude of rank r is the mean over instances of
            their r-th largest value, and shares add up each instance's own K largest (v before -v).
        share : {"absolute", "positive", "net"}, default="absolute"
            The share of K units ranked first is the sum of their values over that of all units, both summed
            over the instances before they are divided, so that no instance's small logit divides alone.
            "absolute" sums \|v\|. "positive" sums max(v, 0), the evidence for the class. "net" sums v, the
            share of the logit less its bias: it can exceed 1 before units that speak against the class pull
            it back, and is NaN where that logit is not positive. All three agree for values >= 0.

        Returns
        -------
        TopK

        Raises
        ------
        ValueError
            If an option is unknown, nothing was seen, or true positives are asked for without predictions.
        """
        for kind, got, valid in (
            ("instances", instances, INSTANCES),
            ("units_of", units_of, UNITS_OF),
            ("share", share, SHARES),
        ):
            if got not in valid:
                raise unknown_name(kind, got, valid)
        if self._sums is None or self._knows_predictions is None:
            raise ValueError("no instance was seen yet: call update first.")
        if instances != "all" and not self._knows_predictions:
            raise ValueError(f"instances={instances!r} needs predictions in every update.")
        outcome = slice(None) if instances == "all" else slice(*((0, 1), (1, 2))[instances == INSTANCES[2]])
        counts = self._counts[:, outcome].sum(axis=1)
        sums = self._sums[:, :, outcome].sum(axis=2)
        means = _divide(sums, counts[:, None])
        ranking_means = means[_MAGNITUDE if self.ranking == "absolute" else _NET]
        frequencies = sums[_IN_TOP].astype(np.int64)

        if units_of == "class mean":
            order = np.argsort(-ranking_means, axis=1, kind="stable")
            net, magnitude = (np.take_along_axis(means[i], order, axis=1) for i in (_NET, _MAGNITUDE))
            carries = np.take_along_axis(ranking_means, order, axis=1) > 0
        else:
            order = np.lexsort((-ranking_means, -frequencies), axis=1)
            net, magnitude = means[_RANKED_NET], means[_RANKED_MAGNITUDE]
            carries = np.take_along_axis(frequencies, order, axis=1) > 0
        positive = (magnitude + net) / 2
        shown = magnitude if self.ranking == "absolute" else positive
        if units_of == "class mean" and self.ranking == "signed":
            shown = np.where(carries, net, 0.0)
        running = np.cumsum({"absolute": magnitude, "positive": positive, "net": net}[share], axis=1)
        # A net sum of 0 comes out as its rounding, which is no whole to take a share of.
        rounding = running.shape[1] * np.finfo(np.float64).eps * magnitude.sum(axis=1, keepdims=True)
        whole = np.where(running[:, -1:] > rounding, running[:, -1:], 0.0)
        seen = counts[:, None] > 0
        return TopK(
            identities=np.where(carries, order, -1)[:, : self.k],
            magnitudes=np.where(seen, shown, np.nan)[:, : self.k],
            frequencies=frequencies,
            shares=_divide(running, whole),
            means=ranking_means,
            counts=counts,
            embedding="feature" if self._weights is None else "classification",
            instances=instances,
            ranking=self.ranking,
            units_of=units_of,
            share=share,
        )

    def _start(self, width: int) -> np.ndarray:
        """Return the sums, made on the first call: (quantity, class, predicted right or wrong, unit)."""
        if self._sums is None:
            if self.k > width:
                raise ValueError(f"k={self.k} is more than the {width} units of the features.")
            self._sums = np.zeros((5, self.num_classes, 2, width))
        return self._sums


def _add_piece(sums: np.ndarray, values: np.ndarray, k: int, ranking: str) -> None:
    """Add to (5, D) sums the values (n, D) of one group: by unit, by rank, and how often in the top k."""
    magnitudes = np.abs(values)
    if ranking == "absolute":
        ordered, keys = _sorted_by_magnitude(values), magnitudes
        ordered_magnitudes = ordered_keys = np.abs(ordered)
    else:
        ordered, keys = np.sort(values, axis=1), values
        ordered_magnitudes, ordered_keys = np.abs(ordered), ordered
    least = ordered_keys[:, -k]
    in_top = keys >= np.maximum(least, np.nextafter(least.dtype.type(0), least.dtype.type(1)))[:, None]
    if k < values.shape[1]:
        tied = np.flatnonzero((ordered_keys[:, -k - 1] == least) & (least > 0))
        first = np.argsort(-keys[tied], axis=1, kind="stable")[:, :k]
        in_top[tied] = False
        in_top[tied[:, None], first] = True
    for place, part in (
        (_NET, values),
        (_MAGNITUDE, magnitudes),
        (_RANKED_NET, ordered[:, ::-1]),
        (_RANKED_MAGNITUDE, ordered_magnitudes[:, ::-1]),
        (_IN_TOP, in_top),
    ):
        sums[place] += part.sum(axis=0, dtype=np.float64)


def _sorted_by_magnitude(values: np.ndarray) -> np.ndarray:
    """Return each row in ascending order of magnitude, signs kept.

    With its sign moved to the end and flipped, the bits of a float are an integer that grows with its magnitude,
    of two equal ones with the positive: a sort of values, many times faster than an argsort and a gather.
    """
    bits = values.view(f"u{values.itemsize}")
    one, last = bits.dtype.type(1), bits.dtype.type(8 * values.itemsize - 1)
    keys = ((bits << one) | (bits >> last)) ^ one
    keys.sort(axis=1)
    keys ^= one
    return ((keys >> one) | (keys << last)).view(values.dtype)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is not positive."""
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is second or (first is not None and second is not None and np.array_equal(first, second))
