"""The base class of networks: taps by name, normalisation, and the linear head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sample_networks import images, make

from imbal_core.models.networks import LinearHead


def test_unknown_tap_is_named_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'last convolutoin': did you mean 'last convolution'"):
        make("resnet20").forward_taps(images(), ["last convolutoin"])


def test_linear_head_is_a_softmax_on_given_features() -> None:
    network = make("linear", 3, in_features=5)
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    out = network.forward_taps(features, ["fully connected"])
    weight, bias = (value.detach().numpy() for value in network.classifier().parameters())
    assert isinstance(network, LinearHead) and network.image_size == 0
    assert torch.equal(out["fully connected"], features)
    np.testing.assert_allclose(
        out["logits"].detach(), features.numpy() @ weight.T + bias, rtol=1e-5, atol=1e-6
    )


def test_normalisation_travels_with_the_state() -> None:
    network = make("resnet20")
    network.set_normalisation([0.1, 0.2, 0.3], torch.tensor([0.4, 0.5, 0.6]))
    other = make("resnet20", seed=1)
    other.load_state_dict(network.state_dict())
    assert other.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert other.std.tolist() == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], [0.5], "shape"),
        ([0.5] * 3, [0.5, 0.0, 0.5], "positive"),
        ([float("nan")] * 3, [1] * 3, "finite"),
    ],
)
def test_impossible_normalisation_is_refused(mean: list[float], std: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("resnet20").set_normalisation(mean, std)
