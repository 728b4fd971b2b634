"""Architectures: sizes as published, and taps equal to what hooks see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from sample_networks import images, make, with_trained_statistics
from torch import Tensor, nn
from torch.nn import functional as F

from imbal_core.models.networks import Network

LIGHT = ["resnet20", "resnet32", "small_cnn", "all_cnn"]
TIMM_NAME = "test_efficientnet"


def watch(layer: nn.Module, seen: list[tuple[Tensor, Tensor]]) -> None:
    layer.register_forward_hook(lambda _, given, out: seen.append((given[0].clone(), out.clone())))


@pytest.fixture(scope="module")
def vgg16() -> Network:
    return make("vgg16", 10).eval()


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5), ("resnet56", 9)])
def test_cifar_resnets_have_the_published_number_of_parameters(name: str, blocks: int) -> None:
    stages = [(16, 16), (16, 32), (32, 64)]
    convolutions = 3 * 16 * 9 + sum(
        (before * width + (2 * blocks - 1) * width * width) * 9 for before, width in stages
    )
    normalisations = 2 * (16 + sum(2 * blocks * width for _, width in stages))
    expected = convolutions + normalisations + 64 * 10 + 10
    count = sum(parameter.numel() for parameter in make(name).parameters())
    assert count == expected
    assert f"{count / 1e6:.2f}" == {"resnet20": "0.27", "resnet32": "0.46", "resnet56": "0.85"}[name]


def test_small_cnn_is_small() -> None:
    assert 1e5 < sum(parameter.numel() for parameter in make("small_cnn").parameters()) < 3e5


def test_vgg16_has_torchvisions_parameters(vgg16: Network) -> None:
    with torch.device("meta"):
        reference = torchvision.models.vgg16(num_classes=10, init_weights=False)
    count = sum(parameter.numel() for parameter in reference.parameters())
    assert sum(parameter.numel() for parameter in vgg16.parameters()) == count


def shapes_at(network: Network, size: int, kinds: tuple[type[nn.Module], ...]) -> list[tuple[int, ...]]:
    """Return (height, width, channels) after every layer of the given kinds, in the order they run."""
    shapes: list[tuple[int, ...]] = []

    def note(_layer: nn.Module, _given: object, out: Tensor) -> None:
        shapes.append((*out.shape[2:], out.shape[1]))

    handles = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, kinds)]
    network(images(1, size))
    for handle in handles:
        handle.remove()
    return shapes


@torch.inference_mode()
def test_vgg16_has_the_shapes_of_table_iii(vgg16: Network) -> None:
    shapes = shapes_at(vgg16, 224, (nn.Conv2d, nn.MaxPool2d, nn.Linear))
    # The third block's depth is printed as 56; VGG-16 has 256 there.
    table: list[tuple[int, ...]] = []
    for convolutions, side, depth in [(2, 112, 64), (2, 56, 128), (3, 28, 256), (3, 14, 512), (3, 7, 512)]:
        table += [(2 * side, 2 * side, depth)] * convolutions + [(side, side, depth)]
    assert shapes == [*table, (1, 1, 4096), (4096,), (10,)]


@torch.inference_mode()
def test_all_cnn_has_the_shapes_of_table_iv() -> None:
    network = make("all_cnn").eval()
    table = [(32, 32, 96)] * 2 + [(16, 16, 96)] + [(16, 16, 192)] * 2 + [(8, 8, 192)]
    table += [(6, 6, 192)] * 2 + [(6, 6, 10)]
    assert shapes_at(network, 32, (nn.BatchNorm2d,)) == table
    kinds = [
        type(m) for m in network.modules() if isinstance(m, nn.Conv2d | nn.ReLU | nn.BatchNorm2d | nn.Dropout)
    ]
    unit = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert kinds == [nn.Dropout, *unit * 3, nn.Dropout, *unit * 3, nn.Dropout, *unit * 3]
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.1, 0.5, 0.5]
    kernels = [module.kernel_size[0] for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, 3, 3, 3, 1, 1]


def test_small_image_resnet34_keeps_the_resolution_that_the_stem_of_torchvisions_gives_away() -> None:
    network = make("resnet34_small", 10)
    reference = torchvision.models.resnet34(num_classes=10)
    stems = [sum(p.numel() for p in model.conv1.parameters()) for model in (reference, network.body)]
    assert stems == [3 * 64 * 49, 3 * 64 * 9]
    sizes = [sum(p.numel() for p in model.parameters()) for model in (reference, network)]
    assert sizes[0] - sizes[1] == stems[0] - stems[1]
    maps: list[tuple[int, ...]] = []
    for layer in (network.body.layer1, network.body.layer4):
        layer.register_forward_hook(lambda _, __, out: maps.append(tuple(out.shape)))
    with torch.inference_mode():
        network.eval()(images(1))
    assert maps == [(1, 64, 32, 32), (1, 512, 4, 4)]


@pytest.mark.parametrize(
    ("name", "num_classes", "taps"),
    [
        ("resnet20", 7, {"last convolution": 64}),
        ("resnet32", 7, {"last convolution": 64}),
        ("small_cnn", 7, {"last convolution": 96, "fully connected": 128}),
        ("all_cnn", 10, {"last convolution": 360}),
        ("all_cnn", 100, {"last convolution": 3600}),
        ("resnet34", 7, {"last convolution": 512}),
        ("resnet34_small", 7, {"last convolution": 512}),
    ],
)
@torch.inference_mode()
def test_taps_are_flat_and_of_the_stated_width(name: str, num_classes: int, taps: dict[str, int]) -> None:
    network = make(name, num_classes).eval()
    out = network.forward_taps(images(3), network.taps)
    assert network.taps == tuple(taps)
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        **{key: (3, width) for key, width in taps.items()},
        "logits": (3, num_classes),
    }


@pytest.mark.parametrize(
    ("name", "tap"),
    [
        ("resnet20", "last convolution"),
        ("resnet32", "last convolution"),
        ("small_cnn", "fully connected"),
        ("resnet34", "last convolution"),
        ("vgg16", "fully connected"),
    ],
)
@torch.inference_mode()
def test_embedding_tap_is_what_the_classifier_reads(name: str, tap: str, vgg16: Network) -> None:
    network = vgg16 if name == "vgg16" else with_trained_statistics(make(name))
    seen: list[tuple[Tensor, Tensor]] = []
    handle = network.classifier().register_forward_hook(
        lambda _, given, out: seen.append((given[0].clone(), out.clone()))
    )
    out = network.forward_taps(images(), [tap])
    handle.remove()
    assert len(seen) == 1, "one forward pass gives taps and logits"
    assert network.embedding_tap == tap
    torch.testing.assert_close(out[tap], seen[0][0], rtol=0, atol=0)
    assert torch.equal(network.classifier()(out[tap]), out["logits"])


def test_all_cnn_has_no_tap_that_its_classifier_reads() -> None:
    assert make("all_cnn").embedding_tap is None


def last_with_kernel(network: Network, batch: Tensor) -> nn.Module:
    """Return the linear layer or convolution that runs last."""
    order: list[nn.Module] = []
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    handles = [
        layer.register_forward_hook(lambda layer, _given, _out: order.append(layer)) for layer in layers
    ]
    network(batch)
    for handle in handles:
        handle.remove()
    return order[-1]


@pytest.mark.parametrize("name", [*LIGHT, "resnet34", "vgg16"])
@torch.inference_mode()
def test_classifier_is_the_last_layer_with_a_kernel(name: str, vgg16: Network) -> None:
    network = vgg16 if name == "vgg16" else make(name).eval()
    assert last_with_kernel(network, images()) is network.classifier()
    assert network.classifier().weight.shape[0] == network.num_classes


TIMM_FAMILIES = ("byobnet", "convnext", "efficientnet", "mambaout", "maxvit", "nfnet", "resnet", "vit")


@pytest.mark.parametrize("family", TIMM_FAMILIES)
@torch.inference_mode()
def test_embedding_tap_and_classifier_of_timm_networks(family: str) -> None:
    pytest.importorskip("timm")
    network = with_trained_statistics(make(f"timm:test_{family}", 7))
    assert network.embedding_tap == "fully connected"
    batch = images(2, network.image_size)
    out = network.forward_taps(batch, [network.embedding_tap])
    classifier = network.classifier()
    assert isinstance(classifier, nn.Linear) and classifier.out_features == 7
    assert torch.equal(classifier(out["fully connected"]), out["logits"])
    assert last_with_kernel(network, batch) is classifier


@pytest.mark.parametrize("name", ["resnet20", "small_cnn"])
@torch.inference_mode()
def test_last_convolution_is_the_mean_over_the_last_map(name: str) -> None:
    network = with_trained_statistics(make(name))
    maps: list[Tensor] = []

    def keep(_layer: nn.Module, _given: object, out: Tensor) -> None:
        if out.dim() == 4:
            maps.append(out.clone())

    for layer in network.modules():
        if not isinstance(layer, Network):
            layer.register_forward_hook(keep)
    out = network.forward_taps(images(), ["last convolution"])
    torch.testing.assert_close(out["last convolution"], maps[-1].flatten(2).mean(2))


@torch.inference_mode()
def test_all_cnn_tap_is_the_last_map_after_relu_and_normalisation_and_logits_its_maxima() -> None:
    network = with_trained_statistics(make("all_cnn"))
    seen: list[tuple[Tensor, Tensor]] = []
    watch(network.classifier(), seen)
    out = network.forward_taps(images(), ["last convolution"])
    norm = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
    scaled = (seen[0][1].clamp(min=0).double() - norm.running_mean.view(-1, 1, 1)) / (
        norm.running_var.view(-1, 1, 1) + norm.eps
    ).sqrt()
    maps = (scaled * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).float()
    assert maps.shape == (2, 10, 6, 6)
    torch.testing.assert_close(out["last convolution"], maps.flatten(1))
    torch.testing.assert_close(out["logits"], F.max_pool2d(maps, 6).flatten(1))


@torch.inference_mode()
def test_vgg_taps_are_read_after_the_relu_and_before_the_dropout(vgg16: Network) -> None:
    network = vgg16
    fc6: list[tuple[Tensor, Tensor]] = []
    fc7: list[tuple[Tensor, Tensor]] = []
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _, given, out, seen=seen: seen.append((given[0].clone(), out.clone()))
        )
        for name, seen in (("fc6", fc6), ("fc7", fc7))
    ]
    torch.manual_seed(5)
    network.train()  # VGG has no batch normalisation: only the dropout differs
    out = network.forward_taps(images(1))
    network.eval()
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(out["last convolution"], fc6[0][1].flatten(1).relu())
    torch.testing.assert_close(out["fully connected"], fc7[0][1].relu())
    assert not torch.equal(fc7[0][0], out["last convolution"]), "fc7 reads it after the dropout"


@pytest.mark.parametrize("name", LIGHT)
@torch.inference_mode()
def test_logits_of_forward_taps_equal_forward(name: str) -> None:
    network = with_trained_statistics(make(name))
    batch = images(3)
    assert torch.equal(network.forward_taps(batch)["logits"], network(batch))
    assert list(network.forward_taps(batch, [])) == ["logits"]


@pytest.mark.parametrize("name", LIGHT)
@torch.inference_mode()
def test_evaluation_of_an_image_does_not_depend_on_its_batch(name: str) -> None:
    network = with_trained_statistics(make(name))
    batch = images(4)
    alone = torch.cat([network(image[None]) for image in batch])
    torch.testing.assert_close(network(batch), alone, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_shortcut_of_option_a_takes_every_second_pixel_and_pads_channels() -> None:
    block = make("resnet20").eval().get_submodule("blocks")[3]
    nn.init.zeros_(block.bn2.weight)
    batch = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = np.zeros((2, 32, 4, 4), np.float32)
    expected[:, 8:24] = np.maximum(batch.numpy()[:, :, ::2, ::2], 0)
    np.testing.assert_array_equal(block(batch).numpy(), expected)


def test_vgg_is_drawn_from_the_seed_everywhere(vgg16: Network) -> None:
    again = make("vgg16", 10).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in vgg16.state_dict().items())
    assert 0.009 < float(again["fc6.weight"].std()) < 0.011
    expected = (2 / (512 * 9)) ** 0.5  # He's deviation, fan out
    assert float(again["body.28.weight"].std()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", LIGHT)
def test_convolutions_have_he_deviation(name: str) -> None:
    layers = [layer for layer in make(name).modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers[:-1]:
        expected = (2 / layer.weight[0].numel()) ** 0.5
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", LIGHT)
def test_channels_last_gives_the_same_logits(name: str) -> None:
    network = with_trained_statistics(make(name))
    plain = network(images())
    fast = network.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet20", "small_cnn", "all_cnn"])
def test_compiles_into_one_graph(name: str) -> None:
    network = with_trained_statistics(make(name))
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), network(images()))


@pytest.mark.parametrize("name", LIGHT)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = make(name).train()
    F.cross_entropy(network(images(4)), torch.tensor([0, 1, 2, 3])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), key


def test_dropout_replaces_the_networks_own_rates() -> None:
    rates = {
        name: [m.p for m in make(name, dropout=0.2).modules() if isinstance(m, nn.Dropout)]
        for name in ("all_cnn", "small_cnn")
    }
    assert rates == {"all_cnn": [pytest.approx(0.04), 0.2, 0.2], "small_cnn": [0.2]}
    network = make("all_cnn", dropout=0.0).train()
    assert torch.equal(network(images(4)), network(images(4)))


@pytest.mark.parametrize("size", [64, 96])
@torch.inference_mode()
def test_timm_taps_are_the_last_map_and_what_the_classifier_reads(size: int) -> None:
    pytest.importorskip("timm")
    network = with_trained_statistics(make(f"timm:{TIMM_NAME}", image_size=size))
    assert network.image_size == size
    seen: list[tuple[Tensor, Tensor]] = []
    watch(network.classifier(), seen)
    batch = images(2, size)
    out = network.forward_taps(batch, network.taps)
    assert torch.equal(out["fully connected"], seen[0][0])
    assert torch.equal(out["logits"], seen[0][1])
    torch.testing.assert_close(out["logits"], network(batch))
    maps = network.get_submodule("body").forward_features(batch)
    assert maps.dim() == 4 and torch.equal(out["last convolution"], maps.flatten(1))
    torch.testing.assert_close(maps.mean((2, 3)), out["fully connected"])
