"""The end of a network: a final batch norm on the logits, and the cosine classifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbal_core.models.build import build_model, list_models
from imbal_core.models.heads import (
    FinalBatchNorm,
    NormedLinear,
    add_final_batch_norm,
    restart_head,
    use_float32_head,
    use_normed_head,
)
from imbal_core.models.networks import LOGITS_BEFORE_FINAL_BATCH_NORM, Network
from imbal_core.training.fit import fit
from imbal_core.training.prediction import predict
from imbal_core.training.recipe import Recipe
from imbal_core.training.start import seeded_init

BEFORE = LOGITS_BEFORE_FINAL_BATCH_NORM
#: Of networks that differ in depth alone one is enough: their ends are the same.
ALIKE = {"resnet32", "resnet56", "vgg19"}
EVERY_NETWORK = [*sorted({*list_models()} - ALIKE), "timm:test_efficientnet", "timm:test_vit"]
NUM_CLASSES = 3


def make(name: str, seed: int = 0, num_classes: int = NUM_CLASSES) -> Network:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with seeded_init(seed):
        return build_model(name, num_classes, in_features=5 if name == "linear" else None)


def inputs_for(network: Network, count: int = 6) -> Tensor:
    """Return a batch whose logits differ from image to image; small where the network allows it."""
    generator = torch.Generator().manual_seed(1)
    if network.name == "linear":
        return torch.randn(count, 5, generator=generator)
    side = network.image_size if network.name == "timm:test_vit" else 32
    return torch.randn(count, 3, side, side, generator=generator)


@pytest.fixture(scope="module", params=EVERY_NETWORK)
def built(request: pytest.FixtureRequest) -> Network:
    return make(request.param)


@pytest.fixture
def network(built: Network) -> Iterator[Network]:
    """Lend a network, which is too large to build for every test, and put its end back after the test."""
    classifier = built.classifier()
    place = next(name for name, module in built.named_modules() if module is classifier)
    yield built.eval()
    built.final_batch_norm = None
    built.set_submodule(place, classifier)


def draw_statistics(network: Network) -> FinalBatchNorm:
    """Give the final batch norm other values than 0 and 1, which would hide that they are not used."""
    layer = network.final_batch_norm
    assert isinstance(layer, FinalBatchNorm)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        layer.running_mean.uniform_(-0.5, 0.5, generator=generator)
        layer.running_var.uniform_(0.5, 2.0, generator=generator)
        if layer.affine:
            layer.weight.uniform_(0.5, 1.5, generator=generator)
            layer.bias.uniform_(-0.5, 0.5, generator=generator)
    return layer


def normalised(logits: Tensor, mean: np.ndarray, variance: np.ndarray, layer: FinalBatchNorm) -> np.ndarray:
    """Return (z - mean) / sqrt(variance + eps) times the scale plus the shift, class by class, in float64."""
    out = logits.detach().double().numpy().copy()
    for column in range(out.shape[1]):
        out[:, column] = (out[:, column] - mean[column]) / np.sqrt(variance[column] + 1e-5)
        if layer.affine:
            out[:, column] = out[:, column] * float(layer.weight[column]) + float(layer.bias[column])
    return out


@torch.no_grad()
def test_training_normalises_the_logits_over_the_batch(network: Network) -> None:
    layer = draw_statistics(add_final_batch_norm(network, momentum=0.2))
    old_mean, old_variance = (
        value.double().numpy().copy() for value in (layer.running_mean, layer.running_var)
    )
    network.train()
    out = network.forward_taps(inputs_for(network), [BEFORE])
    before = out[BEFORE].double().numpy()
    assert before.std(axis=0).min() > 1e-4, "images with equal logits would test nothing"
    expected = normalised(out[BEFORE], before.mean(axis=0), before.var(axis=0), layer)
    np.testing.assert_allclose(out["logits"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        layer.running_mean, 0.8 * old_mean + 0.2 * before.mean(axis=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        layer.running_var, 0.8 * old_variance + 0.2 * before.var(axis=0, ddof=1), rtol=1e-5
    )


@torch.no_grad()
def test_evaluation_normalises_with_the_running_statistics(network: Network) -> None:
    layer = draw_statistics(add_final_batch_norm(network))
    batch = inputs_for(network)
    out = network.forward_taps(batch, [BEFORE])
    mean, variance = (value.double().numpy() for value in (layer.running_mean, layer.running_var))
    np.testing.assert_allclose(
        out["logits"], normalised(out[BEFORE], mean, variance, layer), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(network(batch), out["logits"])
    assert list(network.forward_taps(batch, [])) == ["logits"]


@torch.no_grad()
def test_what_the_layer_reads_are_the_logits_of_the_network_without_it(network: Network) -> None:
    batch = inputs_for(network)
    plain, state = network.forward_taps(batch)["logits"], network.state_dict()
    taps, classifier = network.taps, network.classifier()
    assert add_final_batch_norm(network) is network
    assert (network.taps, network.classifier()) == (taps, classifier)
    draw_statistics(network)
    read = network.forward_taps(batch, [BEFORE])[BEFORE]
    layer_keys = ["bias", "num_batches_tracked", "running_mean", "running_var", "weight"]
    assert set(network.state_dict()) - set(state) == {f"final_batch_norm.{key}" for key in layer_keys}
    assert torch.equal(read, plain)


def test_adding_draws_no_random_numbers(network: Network) -> None:
    before = torch.get_rng_state()
    add_final_batch_norm(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_options_of_the_layer_are_honoured() -> None:
    default = add_final_batch_norm(make("linear")).final_batch_norm
    assert (default.momentum, default.affine, default.num_features) == (0.01, True, NUM_CLASSES)
    assert [name for name, _ in default.named_parameters()] == ["weight", "bias"]
    plain = add_final_batch_norm(make("linear"), momentum=1.0, affine=False)
    assert not list(plain.final_batch_norm.parameters())
    batch = inputs_for(plain)
    before = plain.train().forward_taps(batch, [BEFORE])[BEFORE]
    torch.testing.assert_close(plain.final_batch_norm.running_mean, before.detach().mean(0))


def test_adding_twice_and_impossible_options_are_refused() -> None:
    network = make("linear")
    for momentum in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"momentum must lie in \(0, 1\]"):
            add_final_batch_norm(network, momentum=momentum)
    add_final_batch_norm(network)
    with pytest.raises(ValueError, match="linear has a final batch norm already"):
        add_final_batch_norm(network)


def test_logits_before_the_layer_are_a_tap_only_where_the_layer_is() -> None:
    network = make("linear")
    with pytest.raises(ValueError, match="unknown feature tap of linear 'logits before"):
        network.forward_taps(inputs_for(network), [BEFORE])
    with pytest.raises(ValueError, match="did you mean 'logits before final batch norm'"):
        add_final_batch_norm(network).forward_taps(inputs_for(network), ["logits before final batchnorm"])


@torch.no_grad()
def test_the_layer_computes_in_float32_under_autocast() -> None:
    network = add_final_batch_norm(make("small_cnn")).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network.forward_taps(inputs_for(network), [BEFORE])
        assert network(inputs_for(network)).dtype == torch.float32
    assert out[BEFORE].dtype == torch.bfloat16 and out["logits"].dtype == torch.float32
    before = out[BEFORE].double().numpy()
    expected = normalised(out[BEFORE], before.mean(axis=0), before.var(axis=0), network.final_batch_norm)
    np.testing.assert_allclose(out["logits"], expected, rtol=1e-4, atol=1e-5)


def test_the_layer_joins_a_network_in_its_mode_and_precision() -> None:
    network = add_final_batch_norm(make("linear").double().eval())
    assert network(inputs_for(network).double()).dtype == torch.float64
    assert not network.final_batch_norm.training


def test_the_state_travels() -> None:
    network = add_final_batch_norm(make("small_cnn")).eval()
    draw_statistics(network)
    other = add_final_batch_norm(make("small_cnn", 1)).eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(inputs_for(other)), network(inputs_for(network)))


@torch.no_grad()
def test_channels_last_and_compilation_keep_the_layer() -> None:
    network = add_final_batch_norm(make("small_cnn")).eval()
    draw_statistics(network)
    batch = inputs_for(network)
    expected = network(batch)
    network.to(memory_format=torch.channels_last)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch.contiguous(memory_format=torch.channels_last)), expected)


def test_training_and_prediction_take_a_network_with_the_layer() -> None:
    network = add_final_batch_norm(make("linear"), momentum=0.5)
    features = inputs_for(network, 12)
    labels = torch.arange(12) % NUM_CLASSES
    recipe = Recipe(epochs=2, batch_size=6, learning_rate=0.1)
    fit(network, features, labels, recipe, device="cpu", progress=False)
    layer = network.final_batch_norm
    assert layer.num_batches_tracked == 4 and not torch.equal(layer.weight, torch.ones(NUM_CLASSES))
    out = predict(network, features, taps=[BEFORE], device="cpu")
    network.final_batch_norm = None
    without = predict(network, features, device="cpu")["logits"]
    assert torch.equal(out[BEFORE], without) and not torch.equal(out["logits"], without)


def test_normed_linear_gives_cosines_in_float32() -> None:
    head = NormedLinear(8, 3).requires_grad_(False)
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    for i, row in enumerate(features):
        for c, vector in enumerate(head.weight):
            cosine = float(row @ vector / row.norm() / vector.norm())
            assert float(head(features)[i, c]) == pytest.approx(cosine, abs=1e-6)
    torch.testing.assert_close(head(7 * features), head(features))
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(features), head(features).float(), rtol=0, atol=0)
        assert head(features).dtype == torch.float32


@torch.no_grad()
def test_a_normed_head_gives_cosines_of_the_embedding(network: Network) -> None:
    if network.embedding_tap is None:
        with pytest.raises(
            ValueError, match="the classifier of all_cnn is of type Conv2d: a normed head replaces"
        ):
            use_normed_head(network)
        return
    body = {key: value.clone() for key, value in network.state_dict().items()}
    old = network.classifier()
    batch = inputs_for(network)
    embedding = network.forward_taps(batch)[network.embedding_tap]
    assert torch.equal(old(embedding), network.forward_taps(batch)["logits"])
    with seeded_init(5):
        assert use_normed_head(network) is network
    head = network.classifier()
    assert isinstance(head, NormedLinear)
    out = network.forward_taps(batch)
    assert torch.equal(out[network.embedding_tap], embedding)
    vectors = head.weight.detach().double().numpy()
    for image, row in enumerate(embedding.double().numpy()):
        for label, vector in enumerate(vectors):
            cosine = row @ vector / np.linalg.norm(row) / np.linalg.norm(vector)
            assert float(out["logits"][image, label]) == pytest.approx(cosine, abs=1e-5)
    torch.testing.assert_close(network(batch), out["logits"])
    state = network.state_dict()
    changed = {key for key in body if key not in state or not torch.equal(body[key], state[key])}
    assert {key.rsplit(".", 1)[-1] for key in changed} == {"weight", "bias"} and len(changed) == 2


def test_a_normed_head_is_drawn_from_the_seed() -> None:
    def weight(seed: int) -> Tensor:
        with seeded_init(seed):
            return use_normed_head(build_model("linear", 3, in_features=5)).classifier().weight

    assert torch.equal(weight(1), weight(1)) and not torch.equal(weight(1), weight(2))


def test_a_second_normed_head_is_refused() -> None:
    with pytest.raises(ValueError, match="classifier of small_cnn is of type NormedLinear"):
        use_normed_head(use_normed_head(make("small_cnn")))


def test_a_normed_head_goes_with_a_final_batch_norm_in_either_order() -> None:
    batch = inputs_for(make("small_cnn"))
    results = []
    for changes in ((use_normed_head, add_final_batch_norm), (add_final_batch_norm, use_normed_head)):
        network = make("small_cnn")
        with seeded_init(4):
            for change in changes:
                change(network)
        draw_statistics(network)
        results.append(network.eval()(batch))
    assert torch.equal(*results)


def test_a_normed_head_trains() -> None:
    network = use_normed_head(make("small_cnn")).train()
    nn.functional.cross_entropy(network(inputs_for(network)), torch.arange(6) % NUM_CLASSES).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), key


@pytest.mark.parametrize("name", ["resnet20", "all_cnn", "timm:test_efficientnet"])
def test_a_restarted_head_starts_as_torch_draws_it_and_the_rest_stays(name: str) -> None:
    network = make(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    classifier = network.classifier()
    with seeded_init(5):
        assert restart_head(network) is network
    with seeded_init(5):
        if isinstance(classifier, nn.Linear):
            fresh: nn.Module = nn.Linear(classifier.in_features, NUM_CLASSES)
        else:
            fresh = nn.Conv2d(classifier.in_channels, NUM_CLASSES, 1)
    for key, value in fresh.state_dict().items():
        assert torch.equal(classifier.state_dict()[key], value)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    place = next(place for place, module in network.named_modules() if module is classifier)
    assert changed <= {f"{place}.weight", f"{place}.bias"} and f"{place}.weight" in changed


def test_timm_draws_the_head_of_two_classes_far_wider_than_torch() -> None:
    """The reason for `restart_head`: the first logits of timm's start are nowhere near 0."""
    network = make("timm:test_efficientnet", num_classes=2)
    own = float(network.classifier().get_parameter("weight").detach().std())
    linear = float(restart_head(network).classifier().get_parameter("weight").detach().std())
    assert own == pytest.approx(1 / np.sqrt(2) / np.sqrt(3), rel=0.1)
    width = network.classifier().in_features
    assert linear == pytest.approx(1 / np.sqrt(3 * width), rel=0.1)


@pytest.mark.parametrize("name", ["resnet20", "all_cnn", "linear", "timm:test_efficientnet"])
def test_a_float32_head_does_not_round_its_logits_under_autocast(name: str) -> None:
    network = make(name).eval()
    x, state = inputs_for(network), set(network.state_dict())
    seen: list[Tensor] = []
    with torch.no_grad():
        before = network(x)
        use_float32_head(network)
        assert set(network.state_dict()) == state
        assert torch.equal(network(x), before)
        network.classifier().register_forward_hook(
            lambda _, inputs, output: seen.extend((inputs[0], output.clone()))
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            network(x)
        features, logits = seen
        plain = {n: p.double() for n, p in network.classifier().named_parameters()}
        function = torch.nn.functional.conv2d if features.ndim == 4 else torch.nn.functional.linear
        exact = function(features.double(), plain["weight"], plain.get("bias"))
    assert logits.dtype == torch.float32
    assert torch.allclose(logits.double(), exact, rtol=1e-4, atol=1e-5)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_a_float32_head_leaves_a_normed_head_and_refuses_what_is_no_layer() -> None:
    network = use_normed_head(make("resnet20"))
    head = network.classifier()
    assert use_float32_head(network).classifier() is head
    network.set_submodule("head", nn.Sequential(nn.Linear(64, NUM_CLASSES)))
    for change in (use_float32_head, restart_head):
        with pytest.raises(ValueError, match="of type Sequential"):
            change(network)
