"""Classification embeddings: what each unit of a feature embedding adds to the logit of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbal_core.embeddings.features import checked_features, labelled_features
from imbal_core.models.heads import NormedLinear
from imbal_core.models.networks import Network

__all__ = ["LinearClassifier", "classification_embeddings", "linear_classifier"]


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """What a network's logits are made of: inputs times weights plus bias.

    Attributes
    ----------
    tap : str
        The tap that gives the feature embeddings (FE), D of them.
    weights : ndarray of shape (K, D), float32
    bias : ndarray of shape (K,), float32
    unit_inputs : bool
        The classifier scales each feature embedding to length 1 first, as that of LDAM does.
    """

    tap: str
    weights: np.ndarray
    bias: np.ndarray
    unit_inputs: bool

    def inputs(self, features: ArrayLike | Tensor) -> np.ndarray:
        """Return what the weights multiply: the features, (N, D) float32 or float64, of length 1 if so read."""
        values = checked_features(features, width=self.weights.shape[1])
        if not self.unit_inputs:
            return values
        # As torch.nn.functional.normalize, so that the embeddings add up to the network's own logit.
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def linear_classifier(network: Network) -> LinearClassifier:
    r"""Return the weights and bias with which a network turns feature embeddings into logits.

    For every image x and class c, with the network in evaluation mode,

    .. math:: logit_c(x) = \sum_j FE_j(x)\, W_{cj} + b_c = \sum_j CE_{cj}(x) + b_c .

    A final batch norm is affine in evaluation mode and is folded into weights and bias.

    Parameters
    ----------
    network : Network
        Not changed. The classifier is a linear layer or a `imbal_core.models.heads.NormedLinear`.

    Raises
    ------
    ValueError
        If the logits are no linear function of a tap, as those of All-CNN, which are maxima of a map.

    References
    ----------
    Dablain, D. et al. (2022), arXiv 2210.09465: feature and classification embeddings.
    """
    layer = network.classifier()
    if network.embedding_tap is None or not isinstance(layer, nn.Linear | NormedLinear):
        raise ValueError(
            f"the logits of {network.name!r} are no linear function of one of its taps (its last layer is a "
            f"{type(layer).__name__}): classification embeddings need a network with a linear classifier."
        )
    unit_inputs = isinstance(layer, NormedLinear)
    weights = layer.weight.detach().double().cpu()
    bias = torch.zeros(len(weights), dtype=torch.float64)
    if isinstance(layer, NormedLinear):
        weights = nn.functional.normalize(weights, dim=1)
    elif layer.bias is not None:
        bias = layer.bias.detach().double().cpu()
    norm = network.final_batch_norm
    if isinstance(norm, nn.BatchNorm1d):
        scale, shift = _affine(norm)
        weights, bias = weights * scale[:, None], bias * scale + shift
    return LinearClassifier(network.embedding_tap, weights.float().numpy(), bias.float().numpy(), unit_inputs)


def classification_embeddings(
    features: ArrayLike | Tensor, weights: ArrayLike | Tensor, classes: ArrayLike | Tensor
) -> np.ndarray:
    """Return the classification embedding of each instance for one class, FE * W_c, element by element.

    Parameters
    ----------
    features : array-like or Tensor of shape (N, D)
        What the classifier multiplies: see `LinearClassifier.inputs`.
    weights : array-like or Tensor of shape (K, D)
        Of the classifier.
    classes : array-like or Tensor of shape (N,), integer
        The class c of each instance: its true one, or the predicted one.

    Returns
    -------
    ndarray of shape (N, D), float32 or float64
        Row i sums to the logit of instance i for class c_i, less that class's bias.

    Raises
    ------
    ValueError
        If shapes disagree, a value is NaN or infinite, or a class is unknown.

    See Also
    --------
    imbal_core.embeddings.top_k.class_top_k : Statistics of these rows, which never keeps them all.

    Examples
    --------
    >>> classification_embeddings([[1.0, 2.0], [3.0, 0.0]], [[1.0, -1.0], [0.5, 0.5]], [0, 1])
    array([[ 1. , -2. ],
           [ 1.5,  0. ]])
    """
    matrix = checked_features(weights, name="weights")
    values, codes = labelled_features(features, classes, len(matrix), called="classes", width=matrix.shape[1])
    return values * matrix[codes]


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of each class, (K,) float64, that the layer applies in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("the final batch norm keeps no running statistics: its logits depend on the batch.")
    mean, variance = (value.detach().double().cpu() for value in (norm.running_mean, norm.running_var))
    scale = (variance + norm.eps).rsqrt()
    shift = -mean * scale
    if norm.affine:
        slope = norm.weight.detach().double().cpu()
        scale, shift = scale * slope, shift * slope + norm.bias.detach().double().cpu()
    return scale, shift
