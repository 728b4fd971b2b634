"""A pretrained network without its batch normalisations: each is folded into the convolution before it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from imbal_core.models.networks import Network

_TOLERANCE = 1e-4  # of the largest absolute logit, in float64


def fold_batch_norms(network: Network) -> Network:
    """Return the same network, changed in place: the same function, and no batch normalisation inside.

    Every batch normalisation with running statistics becomes a factor and a shift of the convolution before it;
    an activation that timm keeps in the same layer stays. Trained on, the network has no normalisation that could
    follow its weights, as a VGG has none.

    In either mode; the logits in evaluation mode stay the same, to rounding. A network without a batch normalisation,
    or with one that does not directly follow a convolution, is a ValueError.
    """
    before = copy.deepcopy(network)
    convolution: tuple[str, nn.Conv2d] | None = None
    folded = 0
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            convolution = (name, module)
        elif isinstance(module, nn.BatchNorm2d):
            if convolution is None or convolution[1].out_channels != module.num_features:
                raise ValueError(f"{network.name}: no convolution stands before the batch norm {name!r}")
            # fuse_conv_bn_eval wants both in evaluation mode
            fused = fuse_conv_bn_eval(convolution[1].eval(), module.eval())
            # a convolution without a bias gets one, which fuse_conv_bn_eval would not let train
            network.set_submodule(convolution[0], fused.train(network.training).requires_grad_())
            network.set_submodule(name, getattr(module, "act", nn.Identity()))
            convolution = None
            folded += 1
    if not folded:
        raise ValueError(f"{network.name} has no batch normalisation: there is nothing to fold")
    _check_same_function(before, network)
    return network


@torch.no_grad()
def _check_same_function(before: Network, after: Network) -> None:
    """Compare both on noise: the order of modules is that of their definition, not always that of the forward pass."""
    side = before.image_size
    noise = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = (copy.deepcopy(network).double().eval()(noise) for network in (before, after))
    if not bool((first - second).abs().max() <= _TOLERANCE * first.abs().max()):
        raise ValueError(f"batch norm {after.name} does not directly follow a convolution: it cannot fold")
