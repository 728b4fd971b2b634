"""Classification embeddings: for every network they add up to its logits, whatever its head."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.models.build import build_model, list_models
from imbal_core.models.heads import NormedLinear, add_final_batch_norm, use_normed_head

TIMM = "timm:test_efficientnet"
NOT_LINEAR = {"all_cnn"}
#: Deeper or shallower by the same blocks, with the same end.
ALIKE = {"resnet32", "vgg19"}


def trained(network):
    """Give normalisations and biases other values than those they start with, which would hide a slip."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.3, 0.3, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
                if layer.affine:
                    layer.weight.uniform_(0.5, 1.5, generator=generator)
                    layer.bias.uniform_(-0.5, 0.5, generator=generator)
        classifier = network.classifier()
        if isinstance(classifier, NormedLinear):
            classifier.weight.mul_(
                torch.empty(len(classifier.weight), 1).uniform_(0.5, 2, generator=generator)
            )
        elif classifier.bias is not None:
            classifier.bias.uniform_(-1, 1, generator=generator)
    return network.eval()


def make(name):
    torch.manual_seed(0)
    if name == "linear":
        return trained(build_model(name, 5, in_features=7)), torch.randn(3, 7)
    return trained(build_model(name, 5, image_size=32)), torch.randn(3, 3, 32, 32)


def assert_adds_up(network, x):
    """Sum the embeddings of every image for every class, and compare with what the network itself says."""
    classifier = linear_classifier(network)
    with torch.no_grad():
        out = network.forward_taps(x, (classifier.tap,))
        logits = network(x).numpy()
    features = classifier.inputs(out[classifier.tap])
    for c in range(network.num_classes):
        embeddings = features * classifier.weights[c]
        total = embeddings.sum(1, dtype=float) + classifier.bias[c]
        # a float32 sum is as exact as the sum of its absolute terms allows, however small the sum is
        scale = np.abs(embeddings).sum(1, dtype=float) + abs(classifier.bias[c]) + 1
        assert_allclose((total - logits[:, c]) / scale, 0, atol=1e-5)
    assert np.abs(logits).max() > 1e-3


@pytest.mark.parametrize("name", sorted({*list_models(), TIMM} - NOT_LINEAR - ALIKE))
def test_embeddings_and_bias_add_up_to_the_logit(name):
    if name == TIMM:
        pytest.importorskip("timm")
    network, x = make(name)
    assert_adds_up(network, x)


@pytest.mark.parametrize("change", [use_normed_head, add_final_batch_norm])
@pytest.mark.parametrize("name", ["small_cnn", "linear"])
def test_they_add_up_with_another_head(name, change):
    network, x = make(name)
    assert_adds_up(trained(change(network)), x)


def test_they_add_up_with_a_plain_batch_norm_on_cosines():
    network, x = make("small_cnn")
    assert_adds_up(trained(add_final_batch_norm(use_normed_head(network), affine=False)), x)


def test_inputs_of_a_normed_head_have_length_one():
    network, x = make("small_cnn")
    classifier = linear_classifier(trained(use_normed_head(network)))
    features = np.array([[3.0] + [0.0] * 126 + [4.0], [0.0] * 128])
    assert classifier.unit_inputs and not classifier.bias.any()
    assert_allclose(classifier.inputs(features), features / 5)
    assert_allclose(np.linalg.norm(classifier.weights, axis=1), 1, rtol=1e-6)


def test_the_network_is_not_changed():
    network, _ = make("small_cnn")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    classifier = linear_classifier(network)
    classifier.weights[:] = 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", sorted(NOT_LINEAR))
def test_a_network_whose_logits_are_not_linear_is_refused(name):
    with pytest.raises(ValueError, match="'all_cnn' are no linear function of one of its taps .*Conv2d"):
        linear_classifier(make(name)[0])


def test_the_small_constant_of_a_final_batch_norm_is_folded_too():
    network, _ = make("linear")
    add_final_batch_norm(network, affine=False).eval().final_batch_norm.running_var.fill_(1e-5)
    before = network.classifier().weight.detach().numpy()
    assert_allclose(linear_classifier(network).weights, before / np.sqrt(2e-5), rtol=1e-6)


def test_a_network_without_a_tap_before_its_classifier_is_refused():
    network, _ = make("linear")
    network.embedding_tap = None
    with pytest.raises(ValueError, match="'linear' are no linear function of one of its taps"):
        linear_classifier(network)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((2, 3)), "features have 3 units, expected 7"),
        (np.full((1, 7), np.nan), "features hold NaN or infinity, first in row 0"),
    ],
)
def test_features_of_another_layer_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        linear_classifier(make("linear")[0]).inputs(features)
