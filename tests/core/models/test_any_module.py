"""A final batch norm on, and predictions of, modules that the library did not build."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from imbal_core.models.heads import add_final_batch_norm
from imbal_core.training.prediction import predict

NUM_CLASSES = 3


def another_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, NUM_CLASSES)))


@torch.no_grad()
def test_any_module_gets_a_final_batch_norm_and_loses_it_again() -> None:
    network = another_network()
    batch = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    plain, state = network(batch), {key: value.clone() for key, value in network.state_dict().items()}
    assert add_final_batch_norm(network, momentum=0.2) is network
    layer = network[3][0].final_batch_norm
    assert all(torch.equal(network.state_dict()[key], value) for key, value in state.items())
    found = network(batch).double().numpy()
    before = plain.double().numpy()
    expected = (before - before.mean(axis=0)) / np.sqrt(before.var(axis=0) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean, 0.2 * before.mean(axis=0), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Sequential has a final batch norm already"):
        add_final_batch_norm(network)


def test_a_module_without_a_linear_layer_is_named() -> None:
    with pytest.raises(ValueError, match="Sequential has no linear layer.*torch.nn.Linear"):
        add_final_batch_norm(nn.Sequential(nn.Conv2d(3, 2, 1)))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "vit_b_16"])
def test_the_last_linear_layer_of_torchvisions_networks_gives_their_logits(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        network = add_final_batch_norm(torchvision.models.get_model(name, num_classes=7)).eval()
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 7)
    keys = [key for key in network.state_dict() if "final_batch_norm" in key]
    assert len(keys) == 5


def test_any_module_predicts_from_what_it_reads() -> None:
    network = another_network()
    batch = torch.randn(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    out = predict(network, batch.numpy(), taps=["fully connected"], batch_size=3, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(out["logits"], network(batch))
        torch.testing.assert_close(out["fully connected"], network[:3](batch))
    assert network.training and not network[3][0]._forward_pre_hooks
    for inputs, taps, message in (
        (np.zeros((2, 4, 4, 3), np.uint8), (), "what its own transform gives.*uint8"),
        (batch, ["fully conected"], "did you mean 'fully connected'"),
        (batch, ["last convolution"], "unknown feature tap of Sequential"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(network, inputs, taps=taps, device="cpu")
    with pytest.raises(ValueError, match=r"Flatten must give logits of shape|\(2, 3, 2\)"):
        predict(nn.Flatten(2), torch.zeros(2, 3, 2), device="cpu")
