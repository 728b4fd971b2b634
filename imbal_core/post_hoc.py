"""Remedies on a network that is trained already: another classifier, another threshold, another temperature.

Features are what its last layer reads, logits what that layer gives, and no image passes through the network again.
What is chosen (tau, threshold, temperature) is chosen on validation images; no function here takes test images.
Another remedy of this kind is `imbal_core.adjust_logits`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor

from imbal_core._checks.arrays import checked_classes, checked_features, checked_scores
from imbal_core._checks.fields import checked_number, whole_number
from imbal_core.metrics import balanced_accuracy, confusion_counts
from imbal_core.models.build import build_model
from imbal_core.models.networks import Network
from imbal_core.training.fit import fit
from imbal_core.training.prediction import Inputs
from imbal_core.training.recipe import Recipe
from imbal_core.training.start import seeded_init

Values = ArrayLike | Tensor
#: The values of tau that are tried: 0, 0.1, ..., 2, as in the authors' repository.
TAUS = tuple(step / 10 for step in range(21))
#: Smallest and largest temperature that `fit_temperature` returns.
TEMPERATURES = (0.01, 100.0)


def tau_normalized_logits(features: Values, weight: Values, tau: float) -> Any:
    r"""Return the logits of the tau-normalised classifier, :math:`f \cdot w_c / \lVert w_c \rVert^\tau`.

    A classifier has a long weight vector for a class with many images, which the division takes back. Tau 0 leaves
    the weights as they are, 1 makes all equally long, more favours the short.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D), floating
        f, what the classifier reads: the network's last tap as a rule.
    weight : array-like or Tensor of shape (K, D), floating
        Rows w_c, as of `torch.nn.Linear`. Its bias is dropped, also for tau 0 (BagofTricks-LT keeps it).
    tau : float, at least 0

    Returns
    -------
    ndarray or Tensor of shape (N, K), float32 or float64
        A tensor, on the device of the features, if those are one. The prediction is its argmax. As probabilities they
        mean nothing: their scale depends on tau. ValueError for a value that is not finite, or a class of zero weights.

    References
    ----------
    Kang, B. et al. (2020). "Decoupling Representation and Classifier for Long-Tailed Recognition"; its repository
    classifier-balancing, ``tau_norm.py``.

    Examples
    --------
    >>> tau_normalized_logits([[1.0, 1.0]], [[3.0, 4.0], [1.0, 0.0]], tau=1.0)
    array([[1.4, 1. ]])
    """
    logits, lengths = _unbiased_logits(features, weight)
    logits = logits / (lengths ** checked_number("tau", tau, "[0, inf)")).astype(logits.dtype)
    return torch.from_numpy(logits).to(features.device) if isinstance(features, Tensor) else logits


def choose_tau(features: Values, weight: Values, labels: Values) -> float:
    """Return the tau out of `TAUS` whose predictions have the best balanced accuracy.

    Parameters
    ----------
    features, weight
        As for `tau_normalized_logits`, the features those of validation images.
    labels : array-like or Tensor of shape (N,), integer
        True classes of the validation images, in [0, K). Classes without any do not count.

    Returns
    -------
    float
        Of several equally good values the smallest, which changes the classifier least.

    Examples
    --------
    >>> features = np.array([[4.0, 1.0], [3.0, 1.0], [1.0, 2.0]])
    >>> choose_tau(features, np.array([[2.0, 0.0], [0.0, 1.0]]), [0, 0, 1])
    0.1
    """
    logits, lengths = _unbiased_logits(features, weight)
    true = checked_classes("labels", labels, len(lengths))
    found = [(logits / (lengths**tau).astype(logits.dtype)).argmax(axis=1) for tau in TAUS]
    scores = [balanced_accuracy(confusion_counts(true, predicted, len(lengths))) for predicted in found]
    # Two means of recalls that are equal on paper may differ by their rounding, never by more than this.
    return TAUS[int(np.argmax(np.array(scores) >= max(scores) - 1e-12))]


def retrain_classifier(
    features: Inputs,
    labels: Inputs,
    num_classes: int,
    *,
    seed: int,
    epochs: int = 30,
    learning_rate: float = 0.1,
    device: torch.device | str | None = None,
) -> Network:
    """Return a new linear classifier, trained on fixed features with class-balanced sampling (cRT).

    The recipe is that of the repository BagofTricks-LT for CIFAR: SGD with Nesterov momentum 0.9, weight decay 5e-4
    and batches of 128, the rate raised over 5 of 30 epochs and cut to a tenth after 10 and after 20, in proportion for
    others. The repository crops and mirrors the images anew in each epoch; features stay as they are here.

    Parameters
    ----------
    features : array or Tensor of shape (N, D), floating
        What the classifier of the trained network reads, of its training images.
    labels : array or Tensor of shape (N,), integer
        Their classes, in [0, K). Each step draws a class among those present, then one of its images.
    num_classes : int
        K.
    seed : int
        Of the first weights and of the drawing; on a CPU the same seed gives bit-equal weights.
    epochs : int, default=30
        At least 3; an epoch has N draws.
    learning_rate : float, default=0.1
        The largest. It suits features whose squared length is some hundreds at most: divide it for longer ones.
    device : torch.device or str, optional
        Default: `imbal_core.training.prediction.default_device`.

    Returns
    -------
    Network
        ``linear``, in evaluation mode, on `device`: `imbal_core.predict` reads it. Its first tap is the features. A
        loss that is no longer finite is an `imbal_core.training.fit.DivergedError`.

    References
    ----------
    Kang, B. et al. (2020), as for `tau_normalized_logits`. Zhang, Y. et al. (2021). "Bag of Tricks for Long-Tailed
    Visual Recognition"; its repository BagofTricks-LT, ``configs/cao_cifar/two_stage/classifier_balance/cRT``.

    Examples
    --------
    >>> from imbal_core import predict
    >>> labels = np.array([0] * 30 + [1] * 5 + [2] * 5)
    >>> features = 5 * np.eye(3, dtype=np.float32)[labels]
    >>> classifier = retrain_classifier(features, labels, num_classes=3, seed=0)
    >>> predict(classifier, features)["logits"].argmax(1).tolist() == labels.tolist()
    True
    """
    if np.ndim(features) != 2:
        raise ValueError(f"features must be (N, D), got {tuple(np.shape(features))}: flatten(1) them.")
    recipe = Recipe(
        epochs=whole_number("epochs", epochs, 3),  # one for each rate
        train_seed=seed,
        learning_rate=learning_rate,
        nesterov=True,
        schedule="step",
        milestones=(epochs // 3, 2 * epochs // 3),
        warmup_epochs=epochs // 6,
        sampler="class-balanced",
    )
    with seeded_init(seed):
        network = build_model("linear", num_classes, in_features=features.shape[1])
    fit(network, features, labels, recipe, device=device, progress=False)
    return network


def shifted_threshold(scores: Values, labels: Values, *, balanced: bool = False) -> float:
    """Return the threshold on the score of the rare class that gives the best F1 of that class.

    Predict the rare class where ``score > threshold``.

    Parameters
    ----------
    scores : array-like or Tensor of shape (N,), floating
        Of validation images: the probability of the rare class, or better, since probabilities round to 0 and 1,
        its logit less the other's.
    labels : array-like or Tensor of shape (N,), bool or integer
        True or 1 for a validation image of the rare class, False or 0 for any other.
    balanced : bool, default=False
        Weigh the images so that both classes count equally: the F1 that a balanced test set would have. There a
        threshold found on imbalanced images is too high, since a false alarm costs more where rare images are few.

    Returns
    -------
    float
        The middle of the interval of best thresholds between two scores, of several the widest, then the lowest. Half a
        unit below all scores where nothing beats calling every image rare. A class without images is a ValueError.

    Examples
    --------
    >>> shifted_threshold([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])
    0.25
    """
    rare, values = checked_scores(labels, scores)
    levels, place = np.unique(values, return_inverse=True)
    # Whole numbers, so that equally good thresholds have the same F1 to the last digit.
    counts = ((~rare).sum(), rare.sum()) if balanced else (1.0, 1.0)
    weights = np.where(rare, *counts).astype(np.float64)
    # Images of each kind with at least that score, from the lowest score on.
    hits, called = (
        np.bincount(place, weights=kind, minlength=len(levels))[::-1].cumsum()[::-1]
        for kind in (weights * rare, weights)
    )
    f1 = 2 * hits / (called + weights[rare].sum())
    if f1[0] > f1[1:].max(initial=0.0):
        return float(min(levels[0] - levels.dtype.type(0.5), np.nextafter(levels[0], -np.inf)))
    # Cut i lies between levels i and i + 1; best cuts in a row are one interval.
    ends = np.diff((f1[1:] == f1[1:].max()).astype(np.int8), prepend=0, append=0)
    low, high = levels[ends == 1], levels[ends == -1]
    widest = int(np.argmax(high.astype(np.float64) - low))
    middle = levels.dtype.type((float(low[widest]) + float(high[widest])) / 2)
    # Between two neighbouring floats lies no third: the lower one cuts there as well.
    return float(middle if middle < high[widest] else low[widest])


def fit_temperature(logits: Values, labels: Values) -> float:
    """Return the temperature T at which softmax(z / T) has the smallest cross entropy.

    No prediction changes, only its confidence: T above 1 lowers it.

    Parameters
    ----------
    logits : array-like or Tensor of shape (N, K), floating
        z, of validation images. T fits their class proportions; other proportions have another.
    labels : array-like or Tensor of shape (N,), integer
        True classes of the validation images, in [0, K).

    Returns
    -------
    float
        Within `TEMPERATURES`: the smallest if every image is classified right, near the largest if the logits are
        no better than chance. Guo, C. et al. (2017), "On Calibration of Modern Neural Networks", section 4.2.

    Examples
    --------
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> round(fit_temperature(logits, [0, 0, 1, 1]), 2)
    3.64
    """
    z = checked_features(logits, name="logits").astype(np.float64)
    true = checked_classes("labels", labels, z.shape[1], rows=(len(z), "logits"))
    # Measured from the target's logit the cross entropy needs no difference of two large numbers.
    gaps = z - z[np.arange(len(z)), true][:, None]
    if gaps.max() <= 0:
        return TEMPERATURES[0]

    # In 1 / T it is convex, so in log T it has one minimum.
    def cross_entropy(log_t: float) -> float:
        return logsumexp(gaps / np.exp(log_t), axis=1).mean()

    bounds = tuple(np.log(TEMPERATURES))
    found = minimize_scalar(cross_entropy, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.clip(np.exp(found.x), *TEMPERATURES))


def _unbiased_logits(features: Values, weight: Values) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits without bias, (N, K), and the length of each class's weights, (K,), float64."""
    rows = checked_features(features)
    weights = checked_features(weight, name="weight", width=rows.shape[1])
    lengths = np.linalg.norm(weights.astype(np.float64), axis=1)
    if not lengths.all():
        raise ValueError(f"all weights of classes {np.flatnonzero(lengths == 0)[:5].tolist()} are 0.")
    return rows @ weights.T, lengths
