"""Networks: sizes as published, taps equal to what hooks see, weights from local files, errors by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from imbal_core.models import LinearHead, Network, WeightsError, build_model, find_weights, list_models

LIGHT = ["resnet20", "resnet32", "small_cnn", "all_cnn"]
TIMM_NAME = "test_efficientnet"
RESNET34_FILE = "resnet34-b627a593.pth"


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


def watch(layer: nn.Module, seen: list[tuple[Tensor, Tensor]]) -> None:
    layer.register_forward_hook(lambda _, given, out: seen.append((given[0].clone(), out.clone())))


@pytest.fixture(scope="module")
def vgg16() -> Network:
    return make("vgg16", 10).eval()


# Sizes


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5)])
def test_cifar_resnets_have_the_published_number_of_parameters(name: str, blocks: int) -> None:
    stages = [(16, 16), (16, 32), (32, 64)]
    convolutions = 3 * 16 * 9 + sum(
        (before * width + (2 * blocks - 1) * width * width) * 9 for before, width in stages
    )
    normalisations = 2 * (16 + sum(2 * blocks * width for _, width in stages))
    expected = convolutions + normalisations + 64 * 10 + 10
    count = sum(parameter.numel() for parameter in make(name).parameters())
    assert count == expected
    assert f"{count / 1e6:.2f}" == {"resnet20": "0.27", "resnet32": "0.46"}[name]


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


@pytest.mark.parametrize(
    ("name", "num_classes", "taps"),
    [
        ("resnet20", 7, {"last convolution": 64}),
        ("resnet32", 7, {"last convolution": 64}),
        ("small_cnn", 7, {"last convolution": 96, "fully connected": 128}),
        ("all_cnn", 10, {"last convolution": 360}),
        ("all_cnn", 100, {"last convolution": 3600}),
        ("resnet34", 7, {"last convolution": 512}),
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


@torch.inference_mode()
def test_vgg_taps_are_4096_wide_and_not_negative(vgg16: Network) -> None:
    out = vgg16.forward_taps(images(1), ("fully connected", "last convolution"))
    assert out["last convolution"].shape == out["fully connected"].shape == (1, 4096)
    assert min(out["last convolution"].min(), out["fully connected"].min()) == 0


# Taps against what hooks see


@pytest.mark.parametrize(
    ("name", "tap"),
    [
        ("resnet20", "last convolution"),
        ("resnet32", "last convolution"),
        ("small_cnn", "fully connected"),
        ("resnet34", "last convolution"),
    ],
)
@torch.inference_mode()
def test_tap_is_what_the_classifier_reads(name: str, tap: str) -> None:
    network = with_trained_statistics(make(name))
    seen: list[tuple[Tensor, Tensor]] = []
    watch(network.classifier(), seen)
    out = network.forward_taps(images(), [tap])
    assert len(seen) == 1, "one forward pass gives taps and logits"
    torch.testing.assert_close(out[tap], seen[0][0], rtol=0, atol=0)
    torch.testing.assert_close(out["logits"], seen[0][1], rtol=0, atol=0)


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


def test_unknown_tap_is_named_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'last convolutoin': did you mean 'last convolution'"):
        make("resnet20").forward_taps(images(), ["last convolutoin"])


# Construction


@pytest.mark.parametrize("name", LIGHT)
def test_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    first, again, other = (make(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


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


def test_image_size_is_what_the_pipeline_resizes_to() -> None:
    assert [make(name).image_size for name in LIGHT] == [32] * 4
    assert make("resnet34").image_size == 224
    assert make("small_cnn", image_size=64).image_size == 64


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


# Errors by name


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'resnet23': did you mean .*'timm:NAME'"):
        make("resnet23")


def test_every_listed_model_is_known_and_named() -> None:
    assert list_models() == sorted({*LIGHT, "linear", "resnet34", "vgg16", "vgg19"})
    assert make("small_cnn").name == "small_cnn"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet20", {"pretrained": True}, "'resnet20' has no pretrained weights"),
        ("resnet20", {"dropout": 0.5}, "'resnet20' has no dropout"),
        ("small_cnn", {"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ("small_cnn", {"image_size": 0}, "image_size must be a positive"),
        ("all_cnn", {"image_size": 8}, "all_cnn needs image_size >= 9"),
        ("vgg16", {"image_size": 16}, "vgg16 needs image_size >= 32"),
        ("small_cnn", {"num_classes": 1}, "num_classes must be at least 2"),
        ("small_cnn", {"in_features": 4}, "in_features is for 'linear'"),
        ("linear", {}, "in_features is for 'linear', which needs it"),
        ("linear", {"in_features": 0}, "in_features must be at least 1"),
        ("linear", {"in_features": 4, "pretrained": True}, "'linear' has no pretrained weights"),
        ("linear", {"in_features": 4, "image_size": 32}, "'linear' has no image_size"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **options)


# Pretrained weights: torchvision


@pytest.fixture(scope="module")
def resnet34_state() -> dict[str, Tensor]:
    torch.manual_seed(9)
    return with_trained_statistics(torchvision.models.resnet34()).state_dict()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def resnet34_logits(state: dict[str, Tensor], batch: Tensor) -> Tensor:
    reference = torchvision.models.resnet34()
    reference.load_state_dict(state)
    return reference.eval()(batch)


@torch.inference_mode()
def test_resnet34_reads_torchvisions_file_in_the_data_root(
    resnet34_state: dict[str, Tensor], weights: Path
) -> None:
    torch.save(resnet34_state, weights / RESNET34_FILE)
    network = make("resnet34", 1000, pretrained=True, root=weights.parent).eval()
    batch = images(1, 64)
    torch.testing.assert_close(network(batch), resnet34_logits(resnet34_state, batch))
    assert network.fixed_normalisation
    assert network.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert network.std.tolist() == pytest.approx([0.229, 0.224, 0.225])
    with pytest.raises(ValueError, match="resnet34 is pretrained"):
        network.set_normalisation([0.5] * 3, [0.5] * 3)


@torch.inference_mode()
def test_classifier_for_other_classes_is_fresh_and_drawn_from_the_seed(
    resnet34_state: dict[str, Tensor], weights: Path
) -> None:
    half = {key: value.half() for key, value in resnet34_state.items() if "num_batches" not in key}
    save_file(half, weights / RESNET34_FILE.replace(".pth", ".safetensors"))
    root = weights.parent
    network, again = (make("resnet34", 5, pretrained=True, root=root, seed=3).eval() for _ in range(2))
    assert torch.equal(network.classifier().weight, again.classifier().weight)
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    reference = torchvision.models.resnet34()
    reference.load_state_dict({**resnet34_state, **{key: value.float() for key, value in half.items()}})
    reference.fc = nn.Identity()
    batch = images(1, 64)
    torch.testing.assert_close(
        network.forward_taps(batch)["last convolution"], reference.eval()(batch), rtol=1e-4, atol=1e-5
    )


@torch.inference_mode()
def test_vgg_reshapes_torchvisions_fc6_and_fc7() -> None:
    with torch.device("meta"):
        reference = torchvision.models.vgg16(init_weights=False)
        network = build_model("vgg16", 1000)
    reference.to_empty(device="cpu").eval()
    network.to_empty(device="cpu").eval()
    # A long prime period of noise, repeated: as good here as 138 million draws, and faster.
    noise = torch.randn(1_000_003, generator=torch.Generator().manual_seed(4))
    for weight in reference.parameters():
        scale = (2 / weight[0].numel()) ** 0.5 if weight.dim() > 1 else 0.1
        weight.copy_(noise.repeat(weight.numel() // len(noise) + 1)[: weight.numel()].view_as(weight) * scale)
    network.load_pretrained(reference.state_dict(), Path("vgg16-397923af.pth"))
    batch = images(1, 224)
    vector = reference.features(batch).flatten(1)
    fc6 = reference.classifier[:2](vector)
    fc7 = reference.classifier[:5](vector)
    out = network.forward_taps(batch)
    assert float(fc7.std()) > 1e-3
    torch.testing.assert_close(out["last convolution"], fc6, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(out["fully connected"], fc7, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(out["logits"], reference.classifier(vector), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "file"),
    [("vgg16", "vgg16-397923af"), ("vgg19", "vgg19-dcbb9e9d"), ("resnet34", "resnet34-b627a593")],
)
def test_find_weights_knows_the_official_file_name_and_its_safetensors_form(
    name: str, file: str, weights: Path
) -> None:
    assert find_weights(name, weights.parent) is None
    (weights / f"{file}.safetensors").touch()
    assert find_weights(name, weights.parent) == weights / f"{file}.safetensors"
    (weights / f"{file}.pth").touch()
    assert find_weights(name, weights.parent) == weights / f"{file}.pth"
    assert find_weights("resnet20", weights.parent) is None


def test_failed_download_names_file_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(WeightsError) as caught:
        make("resnet34", pretrained=True, root=tmp_path)
    for part in (RESNET34_FILE, str(tmp_path / "weights"), "resnet34", "no network", "Put the file"):
        assert part in str(caught.value)


def test_download_is_checked_by_hash_and_kept_for_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resnet34_state: dict[str, Tensor]
) -> None:
    calls: list[tuple[str, str, str]] = []

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        calls.append((url, target, hash_prefix))
        torch.save(resnet34_state, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        make("resnet34", pretrained=True, root=tmp_path)
    url = f"https://download.pytorch.org/models/{RESNET34_FILE}"
    assert calls == [(url, str(tmp_path / "weights" / RESNET34_FILE), "b627a593")]


class _Runs:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, ("touch ran",))


@pytest.mark.parametrize("content", ["nothing", "truncated", "code", "list"])
def test_damaged_weights_file_is_named_and_never_executed(
    content: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights)
    file = weights / RESNET34_FILE
    torch.save({"code": {"a": _Runs()}, "list": [1, 2]}.get(content, {"a": torch.zeros(500)}), file)
    if content == "nothing":
        file.write_bytes(b"")
    elif content == "truncated":
        file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(WeightsError, match=f"{RESNET34_FILE} cannot be read"):
        make("resnet34", pretrained=True, root=weights.parent)
    assert not (weights / "ran").exists()


def test_truncated_safetensors_file_is_named(weights: Path) -> None:
    file = weights / "resnet34-b627a593.safetensors"
    save_file({"a": torch.zeros(500)}, file)
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(WeightsError, match=f"{file.name} cannot be read"):
        make("resnet34", pretrained=True, root=weights.parent)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "other network"])
def test_weights_of_another_network_are_refused(
    change: str, weights: Path, resnet34_state: dict[str, Tensor]
) -> None:
    state = dict(resnet34_state)
    if change == "missing":
        del state["layer1.0.conv1.weight"]
    elif change == "unexpected":
        state["layer1.9.conv1.weight"] = torch.zeros(1)
    elif change == "shape":
        state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    else:
        state = {key: value for key, value in make("resnet20").state_dict().items()}
    torch.save(state, weights / RESNET34_FILE)
    match = "another network" if change == "other network" else r"another network.*layer1\.\d\.conv1\.weight"
    with pytest.raises(WeightsError, match=match):
        make("resnet34", pretrained=True, root=weights.parent)


# Pretrained weights: timm


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'imbal-core\[timm\]'"):
        make(f"timm:{TIMM_NAME}")


def test_unknown_timm_model_names_the_nearest() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"unknown timm model 'timm:tf_efficientnet_lite': did you mean"):
        make("timm:tf_efficientnet_lite")


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


@torch.inference_mode()
def test_timm_reads_half_precision_safetensors_and_drops_another_classifier(weights: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(6)
    reference = with_trained_statistics(timm.create_model(TIMM_NAME, pretrained=False)).half()
    save_file(reference.state_dict(), weights / f"{TIMM_NAME}.safetensors")
    reference = reference.float()
    batch = images(2, 64)
    same = make(f"timm:{TIMM_NAME}", 1000, pretrained=True, root=weights.parent).eval()
    torch.testing.assert_close(same(batch), reference(batch))
    network = make(f"timm:{TIMM_NAME}", 7, pretrained=True, root=weights.parent).eval()
    out = network.forward_taps(batch)
    assert out["logits"].shape == (2, 7) and out["logits"].dtype == torch.float32
    vector = reference.forward_head(reference.forward_features(batch), pre_logits=True)
    torch.testing.assert_close(out["fully connected"], vector)
    assert network.mean.tolist() == pytest.approx(reference.default_cfg["mean"])
    assert network.fixed_normalisation


def test_timm_download_is_kept_and_changes_no_random_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    create = timm.create_model
    downloads: list[str] = []

    def fake(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        if pretrained:
            downloads.append(name)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", fake)
    first = make(f"timm:{TIMM_NAME}", 7, pretrained=True, root=tmp_path).state_dict()
    after_download = torch.get_rng_state()
    second = make(f"timm:{TIMM_NAME}", 7, pretrained=True, root=tmp_path).state_dict()
    assert torch.equal(after_download, torch.get_rng_state())
    assert downloads == [TIMM_NAME]
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [f"{TIMM_NAME}.safetensors"]
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_failed_timm_download_names_file_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        if pretrained:
            raise OSError("no network")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError) as caught:
        make(f"timm:{TIMM_NAME}", pretrained=True, root=tmp_path)
    for part in (f"{TIMM_NAME}.safetensors", str(tmp_path / "weights"), "no network"):
        assert part in str(caught.value)


def test_timm_network_of_one_size_refuses_another() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="takes images of 160 pixels only, got image_size=64"):
        make("timm:test_vit", image_size=64)


@pytest.mark.real_data
@torch.inference_mode()
def test_real_efficientnet_lite0_weights_are_read() -> None:
    timm = pytest.importorskip("timm")
    name = "timm:tf_efficientnet_lite0"
    file = find_weights(name) if os.environ.get("IMBAL_DATA") else None
    if file is None:
        pytest.skip("IMBAL_DATA holds no weights/tf_efficientnet_lite0.safetensors")
    network = make(name, 10, pretrained=True, image_size=64).eval()
    assert network.mean.tolist() == network.std.tolist() == [0.5] * 3
    batch = images(2, 64)
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    reference.load_state_dict({key: value.float() for key, value in load_file(file).items()}, strict=False)
    out = network.forward_taps(batch)
    vector = reference.forward_head(reference.forward_features(batch), pre_logits=True)
    torch.testing.assert_close(out["fully connected"], vector)
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        "last convolution": (2, 1280 * 2 * 2),
        "fully connected": (2, 1280),
        "logits": (2, 10),
    }
    assert network.forward_taps(images(1, 96))["last convolution"].shape == (1, 1280 * 3 * 3)
