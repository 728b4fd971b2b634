"""Remedies on a network that is trained already: another classifier, another threshold, another temperature.

Each is a readout of one run: features are what its last layer reads, logits what that layer gives, and no
image passes through the network again. What is chosen (tau, threshold, temperature) is chosen on validation
images; no function here takes test images.

The remaining remedy of this kind, logit adjustment, is `imbal_core.losses.functional.adjust_logits`. For two
classes it is the correction for the prior: it predicts the rare class where its probability is above its share
of the training images.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor

from imbal_core._checks.arrays import checked_classes, checked_scores, on_host
from imbal_core.losses.class_weights import checked_number
from imbal_core.metrics import balanced_accuracy, confusion_counts
from imbal_core.models.build import build_model
from imbal_core.models.networks import Network
from imbal_core.training.fit import fit
from imbal_core.training.prediction import Inputs
from imbal_core.training.recipe import Recipe
from imbal_core.training.start import seeded_init

__all__ = [
    "TAUS",
    "TEMPERATURES",
    "choose_tau",
    "fit_temperature",
    "retrain_classifier",
    "shifted_threshold",
    "tau_normalized_logits",
]

#: The values of tau that are tried: 0, 0.1, ..., 2, as in the authors' repository.
TAUS = tuple(step / 10 for step in range(21))
#: Smallest and largest temperature that `fit_temperature` returns.
TEMPERATURES = (0.01, 100.0)

# Two means of recalls that are equal on paper may differ by their rounding, never by more than this.
_ROUNDING = 1e-12


def tau_normalized_logits(features: ArrayLike | Tensor, weight: ArrayLike | Tensor, tau: float) -> np.ndarray:
    r"""Return the logits of the tau-normalised classifier, :math:`f \cdot w_c / \lVert w_c \rVert^\tau`.

    A classifier trained on many images of a class has a long weight vector for it, which the division takes
    back. Tau 0 leaves the weights as they are, 1 makes all equally long, more favours the short.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D), floating
        f, what the classifier reads: the network's last tap as a rule.
    weight : array-like or Tensor of shape (K, D), floating
        Rows w_c, as of `torch.nn.Linear`. Its bias is dropped, also for tau 0.
    tau : float
        At least 0.

    Returns
    -------
    ndarray of shape (N, K), float32 or float64
        The prediction is its argmax. As probabilities they mean nothing: their scale depends on tau.

    Raises
    ------
    ValueError
        If shapes or types are not those above, tau is negative, a value is NaN or infinite, or all weights of
        a class are 0.

    Notes
    -----
    The repository BagofTricks-LT keeps the bias, and has tau 1 unless told otherwise.

    References
    ----------
    Kang, B. et al. (2020). "Decoupling Representation and Classifier for Long-Tailed Recognition"; its
    repository classifier-balancing, ``tau_norm.py``.

    Examples
    --------
    >>> tau_normalized_logits([[1.0, 1.0]], [[3.0, 4.0], [1.0, 0.0]], tau=1.0)
    array([[1.4, 1. ]])
    """
    logits, lengths = _unbiased_logits(features, weight)
    return _shortened(logits, lengths, checked_number("tau", tau, 0.0))


def choose_tau(features: ArrayLike | Tensor, weight: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Return the tau out of `TAUS` whose predictions have the best balanced accuracy.

    Parameters
    ----------
    features, weight
        As for `tau_normalized_logits`, the features those of validation images. The authors' repository
        prints the accuracy of every tau, of test images on request, and leaves the choice to the reader.
    labels : array-like or Tensor of shape (N,), integer
        True classes of the validation images, in [0, K). Classes without any do not count.

    Returns
    -------
    float
        Of several equally good values the smallest, which changes the classifier least.

    Raises
    ------
    ValueError
        As `tau_normalized_logits`; also if labels and features differ in number or a label is out of range.

    Examples
    --------
    >>> features = np.array([[4.0, 1.0], [3.0, 1.0], [1.0, 2.0]])
    >>> choose_tau(features, np.array([[2.0, 0.0], [0.0, 1.0]]), [0, 0, 1])
    0.1
    """
    logits, lengths = _unbiased_logits(features, weight)
    true = checked_classes("labels", labels, len(lengths))
    scores = np.array(
        [
            balanced_accuracy(
                confusion_counts(true, _shortened(logits, lengths, tau).argmax(axis=1), len(lengths))
            )
            for tau in TAUS
        ]
    )
    return TAUS[int(np.argmax(scores >= scores.max() - _ROUNDING))]


def retrain_classifier(
    features: Inputs,
    labels: Inputs,
    num_classes: int,
    *,
    seed: int,
    epochs: int = 30,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    batch_size: int = 128,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Network:
    """Return a new linear classifier, trained on fixed features with class-balanced sampling (cRT).

    The recipe is that of the CIFAR configurations of the repository BagofTricks-LT: SGD with Nesterov momentum
    0.9, the rate raised over 5 of 30 epochs and cut to a tenth after 10 and after 20. Another number of epochs
    keeps these proportions.

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
        The largest. It suits features whose squared length is some hundreds at most, such as pooled maps after
        a ReLU: divide it for longer ones.
    weight_decay : float, default=5e-4
        Of weights and biases.
    batch_size : int, default=128
    device : torch.device or str, optional
        Default: `imbal_core.training.prediction.default_device`.
    progress : bool, default=False
        Show a bar over the epochs.

    Returns
    -------
    Network
        ``linear``, in evaluation mode, on `device`: `imbal_core.training.prediction.predict` reads it. Its first tap is
        the features.

    Raises
    ------
    imbal_core.training.fit.DivergedError
        If the loss is no longer finite.
    ValueError
        If shapes, types or labels are not those above, a feature is NaN or infinite, or an option is out of
        range.

    Notes
    -----
    Features are computed once, from images as they are. The repository crops and mirrors them anew in each
    epoch: a deviation, which costs some variety and makes the training last seconds.

    Features are not standardised. The rate and the decay above were set for features as they come; and to
    standardise would stretch features that hardly vary, which a rare class shows in a few images only, to the
    length of those that carry the classes, and so change what the weight decay holds down.

    References
    ----------
    Kang, B. et al. (2020). "Decoupling Representation and Classifier for Long-Tailed Recognition".
    Zhang, Y. et al. (2021). "Bag of Tricks for Long-Tailed Visual Recognition with Deep Convolutional Neural
    Networks"; its repository BagofTricks-LT, ``configs/cao_cifar/two_stage/classifier_balance/cRT``.

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
        raise ValueError(
            f"features must have shape (N, D), got {tuple(np.shape(features))}: flatten(1) them."
        )
    if epochs < 3:
        raise ValueError(
            f"epochs must be at least 3, one for each learning rate of the recipe, got {epochs}."
        )
    recipe = Recipe(
        epochs=epochs,
        train_seed=seed,
        learning_rate=learning_rate,
        nesterov=True,
        weight_decay=weight_decay,
        schedule="step",
        milestones=(epochs // 3, 2 * epochs // 3),
        warmup_epochs=epochs // 6,
        batch_size=batch_size,
        sampler="class-balanced",
    )
    with seeded_init(seed):
        network = build_model("linear", num_classes, in_features=features.shape[1])
    fit(network, features, labels, recipe, device=device, progress=progress)
    return network


def shifted_threshold(
    scores: ArrayLike | Tensor, labels: ArrayLike | Tensor, *, balanced: bool = False
) -> float:
    """Return the threshold on the score of the rare class that gives the best F1 of that class.

    Predict the rare class where ``score > threshold``.

    Parameters
    ----------
    scores : array-like or Tensor of shape (N,), floating
        Of validation images: the probability of the rare class, or its logit less the other's. The latter is
        better where probabilities round to 0 or 1.
    labels : array-like or Tensor of shape (N,), bool or integer
        True or 1 for a validation image of the rare class, False or 0 for any other.
    balanced : bool, default=False
        Weigh the images so that both classes count equally: the F1 that a balanced test set would have.

    Returns
    -------
    float
        F1 is constant between two neighbouring scores: the middle of the interval of best thresholds. Of
        several such intervals the widest, then the lowest. Half a unit below all scores where nothing beats
        calling every image rare.

    Raises
    ------
    ValueError
        If a class is absent, a score is NaN or infinite, or shapes and types are not those above.

    Notes
    -----
    F1 depends on the share of rare images: on few rare ones a false alarm costs more than on many. A threshold
    found on imbalanced validation images is too high for a balanced test set, unless they are weighed.

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


def fit_temperature(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
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
        Within `TEMPERATURES`: the smallest if every image is classified right, where any lower T is better
        still; near the largest if the logits are no better than chance.

    Raises
    ------
    ValueError
        If shapes or types are not those above, a logit is NaN or infinite, or a label is out of range.

    References
    ----------
    Guo, C. et al. (2017). "On Calibration of Modern Neural Networks", section 4.2.

    Examples
    --------
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> round(fit_temperature(logits, [0, 0, 1, 1]), 2)
    3.64
    """
    z = _finite_rows("logits", logits).astype(np.float64)
    true = checked_classes("labels", labels, z.shape[1])
    if len(true) != len(z):
        raise ValueError(f"labels must be {len(z)}, as many as rows of logits, got {len(true)}.")
    # Measured from the target's logit the cross entropy needs no difference of two large numbers.
    gaps = z - z[np.arange(len(z)), true][:, None]
    if gaps.max() <= 0:
        return TEMPERATURES[0]
    # In 1 / T the cross entropy is convex, so in log T it has one minimum.
    found = minimize_scalar(
        lambda log_t: logsumexp(gaps / np.exp(log_t), axis=1).mean(),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.clip(np.exp(found.x), *TEMPERATURES))


def _unbiased_logits(
    features: ArrayLike | Tensor, weight: ArrayLike | Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits without bias, (N, K), and the length of each class's weights, (K,), float64."""
    rows, weights = _finite_rows("features", features), _finite_rows("weight", weight)
    if rows.shape[1] != weights.shape[1]:
        raise ValueError(
            f"features and weight must be equally wide, got {rows.shape} and {weights.shape}: pass the "
            "features that this classifier reads."
        )
    lengths = np.linalg.norm(weights.astype(np.float64), axis=1)
    if not lengths.all():
        empty = np.flatnonzero(lengths == 0)[:5].tolist()
        raise ValueError(f"all weights of classes {empty} are 0: they have no length to be divided by.")
    return rows @ weights.T, lengths


def _shortened(logits: np.ndarray, lengths: np.ndarray, tau: float) -> np.ndarray:
    return logits / (lengths**tau).astype(logits.dtype)


def _finite_rows(name: str, values: ArrayLike | Tensor) -> np.ndarray:
    """Return a matrix of finite numbers, float32 or float64."""
    rows = on_host(values)
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind != "f":
        raise ValueError(
            f"{name} must be floating-point of two dimensions, neither of them 0, got {rows.dtype} of shape "
            f"{rows.shape}."
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} hold NaN or infinity: a network that diverged has no remedy.")
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows
