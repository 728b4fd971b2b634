"""Weights: found and read from local files, downloaded once, refused by name when they do not fit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from sample_networks import images, make, with_trained_statistics
from torch import Tensor, nn

from imbal_core.models.build import build_model
from imbal_core.models.weights import PUBLISHED, WeightsError, find_weights

TIMM_NAME = "test_efficientnet"
RESNET34_FILE = "resnet34-b627a593.pth"


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


def publish(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save weights of ResNet-34 under a name with their hash, as if torchvision had published them."""
    file = folder / "made.pth"
    torch.save(state, file)
    named = file.rename(folder / f"resnet34-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth")
    monkeypatch.setitem(PUBLISHED, "resnet34", f"https://download.pytorch.org/models/{named.name}")
    return named


def test_a_flipped_bit_in_published_weights_is_refused(
    resnet34_state: dict[str, Tensor], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(resnet34_state, weights, monkeypatch)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        WeightsError, match=rf"{file.name} is damaged: its SHA-256 begins with \w+, and that of"
    ):
        make("resnet34", pretrained=True, root=weights.parent)


@torch.inference_mode()
def test_resnet34_reads_torchvisions_file_in_the_data_root(
    resnet34_state: dict[str, Tensor], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(resnet34_state, weights, monkeypatch)
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
    made = publish(resnet34_state, tmp_path, monkeypatch)

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        calls.append((url, target, hash_prefix))
        Path(target).write_bytes(made.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        make("resnet34", pretrained=True, root=tmp_path)
    assert calls == [(PUBLISHED["resnet34"], str(tmp_path / "weights" / made.name), made.stem[-8:])]


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


def test_the_addresses_are_those_of_torchvision() -> None:
    for name, address in PUBLISHED.items():
        assert address == torchvision.models.get_model_weights(name).DEFAULT.url
