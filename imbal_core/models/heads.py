"""Changes at the end of a built network: its start, its precision, a cosine classifier, a final batch norm.

Each function changes the network in place and returns it: the other layers, their names in the state, the taps
and the normalisation of the inputs stay as they are. Take a ``copy.deepcopy`` first to keep both networks.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbal_core._checks.fields import checked_number
from imbal_core.models.networks import Network

Module = TypeVar("Module", bound=nn.Module)


class FinalBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of logits (N, K), each class over the batch.

    It computes in the precision of its own statistics, float32 as a rule, under autocast too: K numbers for an
    image cost nothing, and the softmax then reads logits that were not rounded to bfloat16 a second time.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Return the normalised logits, shape (N, K)."""
        return super().forward(logits.to(self.running_mean.dtype))  # type: ignore[union-attr]


class NormedLinear(nn.Module):
    """Classifier whose logits are cosines of features and class vectors, w_c . f / (|w_c| |f|), for LDAM.

    The weight has shape (K, D), like that of `torch.nn.Linear`; each row starts uniform in the cube [-1, 1]^D
    and then has length 1. Cosines are computed in float32 under autocast too, as the loss multiplies their
    error by its scale. Cao, K. et al. (2019), repository kaidic/LDAM-DRW.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features, self.num_classes = in_features, num_classes
        start = torch.empty(num_classes, in_features).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(start, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines of features (N, D), shape (N, K)."""
        with torch.autocast(features.device.type, enabled=False):
            wide = features.to(self.weight.dtype)
            return F.linear(F.normalize(wide, dim=-1), F.normalize(self.weight, dim=1))


class LinearWithFinalBatchNorm(nn.Linear):
    """The last linear layer of any module, with a final batch norm; its parameters keep their names."""

    final_batch_norm: FinalBatchNorm

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised logits of features (N, D), shape (N, K)."""
        return self.final_batch_norm(super().forward(features))


def last_linear(module: nn.Module) -> nn.Linear:
    """Return the linear layer that a module defines last, which gives the logits of torchvision's and timm's networks.

    A module without one is a ValueError.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ValueError(
            f"{type(module).__name__} has no linear layer, so where its logits come from is not known: "
            "end it with a torch.nn.Linear, or build it by build_model"
        )
    return layers[-1]


class _Float32:
    """A layer that computes in its weights' precision under autocast too."""

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))  # type: ignore[misc, attr-defined]


class _Float32Linear(_Float32, nn.Linear): ...


class _Float32Conv2d(_Float32, nn.Conv2d): ...


def add_final_batch_norm(network: Module, *, momentum: float = 0.01, affine: bool = True) -> Module:
    """Return the same network, changed in place: batch normalisation on the K logits, before the softmax.

    Parameters
    ----------
    network : Network or torch.nn.Module
        Of a `Network` the `classifier` stays what it is; the logits as they were come from the same forward pass, as
        the tap `imbal_core.models.networks.LOGITS_BEFORE_FINAL_BATCH_NORM`. Of any other module the linear layer that
        it defines last gets the batch norm as a part; the names of its parameters stay.
    momentum : float, default=0.01
        In (0, 1]: the weight of a batch in the running statistics, which evaluation normalises with. They start at mean
        0 and variance 1, of which a share of ``(1 - momentum) ** steps`` is left after training: 20% after 160 steps.
    affine : bool, default=True
        Learn a scale (from 1) and a shift (from 0) for each class.

    Returns
    -------
    Network or torch.nn.Module
        No random number is drawn, so its other weights are those of the plain network of the same seed. Training
        needs batches of at least 2 images. ValueError: a second such layer, another `momentum`, no linear layer.

    References
    ----------
    Kocaman, V., Shir, O. M., Bäck, T. (2020), "Improving Model Accuracy for Imbalanced Image Classification Tasks by
    Adding a Final Batch Normalization Layer: An Empirical Study": "just before the output layer". That this means
    the logits, and the momentum, follow ``bn_final`` of fastai v1; the abstract does not say.

    Examples
    --------
    >>> from imbal_core import build_model
    >>> network = add_final_batch_norm(build_model("resnet20", num_classes=2))
    >>> network.final_batch_norm.num_features, network.final_batch_norm.momentum
    (2, 0.01)

    A network of torchvision, or of your own:

    >>> import torchvision
    >>> network = add_final_batch_norm(torchvision.models.resnet18(num_classes=5))
    >>> type(network.fc).__name__, sorted(network.fc.state_dict())[:3]
    ('LinearWithFinalBatchNorm', ['bias', 'final_batch_norm.bias', 'final_batch_norm.num_batches_tracked'])
    """
    own = isinstance(network, Network)
    place: Any = network if own else last_linear(network)
    name = network.name if isinstance(network, Network) else type(network).__name__
    if not own and type(place) not in (nn.Linear, LinearWithFinalBatchNorm):
        raise ValueError(f"the last linear layer of {name} is a {type(place).__name__}: take an nn.Linear")
    if getattr(place, "final_batch_norm", None) is not None:
        raise ValueError(f"{name} has a final batch norm already: add it once")
    checked_number("momentum", momentum, "(0, 1]")
    classes, like = (place.num_classes, place.mean) if own else (place.out_features, place.weight)
    layer = FinalBatchNorm(classes, momentum=momentum, affine=affine).to(like).train(network.training)
    if not own:
        place.__class__ = LinearWithFinalBatchNorm
    place.final_batch_norm = layer
    return network


def use_normed_head(network: Network) -> Network:
    """Return the same network, changed in place: its last linear layer is a new `NormedLinear`.

    The new weights are drawn on the CPU from torch's global generator, so ``seeded_init`` around it gives the same ones
    again. A classifier that is not one linear layer is a ValueError.
    """
    classifier = network.classifier()
    if not isinstance(classifier, nn.Linear):
        needed = "a normed head replaces a linear one; take another model, or a loss that needs none"
        raise _other_classifier(network, needed)
    head = NormedLinear(classifier.in_features, network.num_classes)
    name = next(name for name, module in network.named_modules() if module is classifier)
    network.set_submodule(name, head.to(classifier.weight).train(classifier.training))
    return network


def restart_head(network: Network) -> Network:
    """Return the same network, changed in place: its classifier starts as PyTorch's own layers do.

    `torch.nn.Linear` draws weights and biases uniformly between -1/sqrt(D) and 1/sqrt(D), with D inputs. timm
    draws those of an EfficientNet between -1/sqrt(K) and 1/sqrt(K), with K classes: for D = 1,280 and K = 2 that is
    25 times as wide, and the first logits of a fine-tuned network are then far from 0. Drawn as by `use_normed_head`.
    A classifier that is neither one linear layer nor one convolution is a ValueError.
    """
    classifier = network.classifier()
    if not isinstance(classifier, nn.Linear | nn.Conv2d):
        raise _other_classifier(network, "only a linear layer or a convolution has a start to go back to")
    classifier.reset_parameters()
    return network


def use_float32_head(network: Network) -> Network:
    """Return the same network, changed in place: its classifier computes in float32 under autocast too.

    In bfloat16 two logits of an image are equal in 27 of 10,000 CIFAR-10 test images, and the lower label, which is
    the more frequent class, then wins. A `NormedLinear` computes in float32 anyway and stays. A classifier that is
    neither of these, one linear layer or one plain convolution is a ValueError.
    """
    classifier = network.classifier()
    if isinstance(classifier, nn.Linear):
        classifier.__class__ = _Float32Linear
    elif type(classifier) is nn.Conv2d:
        classifier.__class__ = _Float32Conv2d
    elif not isinstance(classifier, NormedLinear):
        raise _other_classifier(network, "only a linear layer or a plain convolution has a form in float32")
    return network


def _other_classifier(network: Network, needed: str) -> ValueError:
    kind = type(network.classifier()).__name__
    return ValueError(f"the classifier of {network.name} is of type {kind}: {needed}")
