"""Batch normalisations folded into the convolutions before them: the same function, nothing left to normalise."""

from __future__ import annotations

import pytest
import torch
from sample_networks import images, make, with_trained_statistics
from torch import nn

from imbal_core.models.folding import fold_batch_norms

TIMM = "timm:test_efficientnet"


@pytest.mark.parametrize("name", ["resnet20", "small_cnn", TIMM, "timm:tf_efficientnet_lite0"])
def test_the_function_stays_and_no_batch_norm_does(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network = with_trained_statistics(make(name, 3)).double().eval()
    size = network.image_size if network.image_size < 64 else 64
    x = images(4, size).double()
    with torch.no_grad():
        before = network(x)
        assert fold_batch_norms(network) is network
        after = network(x)
    assert before.std() > 0
    assert torch.allclose(after, before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_folded_network_trains_every_convolution_and_its_new_bias() -> None:
    network = fold_batch_norms(with_trained_statistics(make("small_cnn", 3))).train()
    assert network.training and all(module.training for module in network.modules())
    network(images(4)).square().sum().backward()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is not None and m.bias.grad is not None for m in convolutions)


def test_a_batch_norm_behind_an_activation_cannot_be_folded() -> None:
    with pytest.raises(ValueError, match="does not directly follow a convolution"):
        fold_batch_norms(with_trained_statistics(make("all_cnn", 3)))


def test_a_network_without_batch_norm_has_nothing_to_fold() -> None:
    with pytest.raises(ValueError, match="no batch normalisation"):
        fold_batch_norms(make("linear", 3, in_features=4))
