r"""Classification embeddings: what each unit of a feature embedding adds to the logit of a class.

For every image x and class c, with the network in evaluation mode,

.. math:: logit_c(x) = \sum_j FE_j(x)\, W_{cj} + b_c = \sum_j CE_{cj}(x) + b_c .

References
----------
Dablain, D. et al. (2022), arXiv 2210.09465: feature and classification embeddings.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbal_core._checks.arrays import checked_features
from imbal_core.models.heads import NormedLinear
from imbal_core.models.networks import Network


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """What a network's logits are made of: inputs times weights plus bias.

    Attributes
    ----------
    tap : str
        The tap that gives the feature embeddings (FE), D of them.
    weights : ndarray of shape (K, D), float32
        ``inputs * weights[c]`` are the classification embeddings (CE) for class c.
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


@torch.no_grad()
def linear_classifier(network: Network) -> LinearClassifier:
    """Return the weights and bias with which a network turns feature embeddings into logits.

    Its classifier is a linear layer or a `imbal_core.models.heads.NormedLinear`; a final batch norm is affine in
    evaluation mode and is folded into weights and bias. The network is not changed. ValueError if its logits are no
    linear function of a tap, as those of All-CNN, which are maxima of a map.
    """
    layer = network.classifier()
    if network.embedding_tap is None or not isinstance(layer, nn.Linear | NormedLinear):
        raise ValueError(
            f"the logits of {network.name!r} are no linear function of one of its taps (its last layer is a "
            f"{type(layer).__name__}): classification embeddings need a network with a linear classifier."
        )
    unit_inputs = isinstance(layer, NormedLinear)
    weights = layer.weight.double().cpu()
    bias = torch.zeros(len(weights), dtype=torch.float64)
    if isinstance(layer, NormedLinear):
        weights = nn.functional.normalize(weights, dim=1)
    elif layer.bias is not None:
        bias = layer.bias.double().cpu()
    if network.final_batch_norm is not None:
        norm = copy.deepcopy(network.final_batch_norm).double().cpu().eval()
        weights, bias = (norm(weights.T) - norm(torch.zeros_like(weights.T))).T, norm(bias[None])[0]
    return LinearClassifier(network.embedding_tap, weights.float().numpy(), bias.float().numpy(), unit_inputs)
