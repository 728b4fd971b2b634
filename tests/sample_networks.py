"""Networks and images that the tests of networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imbal_core.models.build import build_model
from imbal_core.models.networks import Network


def make(name: str, num_classes: int = 10, seed: int = 0, **options: object) -> Network:
    torch.manual_seed(seed)
    return build_model(name, num_classes, **options)  # type: ignore[arg-type]


def images(count: int = 2, size: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def with_trained_statistics(network: nn.Module) -> nn.Module:
    """Give every batch normalisation other values than 0 and 1, which would hide a missing one."""
    generator = torch.Generator().manual_seed(2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, low, high in ((layer.running_mean, -0.3, 0.3), (layer.running_var, 0.5, 2.0)):
                values.uniform_(low, high, generator=generator)
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()
