"""Training: the fast path is a plain loop, its data, its history and its errors."""

import dataclasses
import math
import pickle
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import (
    TinyHead,
    TinyNetwork,
    config,
    images_and_labels,
    interrupted_after,
    same_weights,
    tiny,
    train,
)
from torch.utils.data import DataLoader, TensorDataset

from imbal_core.training.fit import DivergedError, fit
from imbal_core.training.prediction import default_device, predict
from imbal_core.training.recipe import scored_epochs
from imbal_core.training.schedules import augment_batch
from imbal_core.training.start import build_network, seeded_init


def plain_loop(network, images, labels, epochs, rate, order_of, objectives):
    """The usual loop: a DataLoader over normalised float images, SGD, cosine per step.

    Each objective, a function of the epoch, has its own forward pass and its own optimizer.
    """
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = floats.mean((0, 2, 3)), floats.std((0, 2, 3), correction=0)
    data = TensorDataset((floats - mean.view(-1, 1, 1)) / std.view(-1, 1, 1), torch.from_numpy(labels))
    steps = epochs * math.ceil(len(images) / 8)
    optimizers = [
        torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=5e-4) for _ in objectives
    ]
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(o, steps) for o in optimizers]
    losses = []
    for epoch in range(epochs):
        total = 0.0
        for x, y in DataLoader(data, batch_size=8, sampler=order_of()):
            values = []
            for objective, optimizer, scheduler in zip(objectives, optimizers, schedulers, strict=True):
                optimizer.zero_grad()
                loss = objective(epoch)(network(x), y)
                loss.backward()
                optimizer.step()
                scheduler.step()
                values.append(loss.item())
            total += values[0] * len(y)
        losses.append(total / len(data))
    return losses


def wrong_class_entropy(logits, targets):
    """-C / (K - 1) of the complement objective, written from its formula."""
    p = logits.softmax(1)
    wrong = F.one_hot(targets, logits.shape[1]) == 0
    q = p[wrong].view(len(p), -1)
    q = q / q.sum(1, keepdim=True)
    return (q * q.log()).sum(1).mean() / (logits.shape[1] - 1)


def class_balanced_from_the_second_epoch(counts, beta):
    weights = torch.tensor([(1 - beta) / (1 - beta**n) for n in counts], dtype=torch.float32)
    weights = weights / weights.sum() * len(counts)
    return lambda epoch: partial(F.cross_entropy, weight=weights if epoch else None)


@pytest.mark.parametrize("name", ["cross-entropy", "cot", "class-balanced"])
def test_the_fast_path_agrees_with_a_plain_loop_for_losses_with_two_updates_and_with_epochs_too(
    monkeypatch, name
):
    images, labels = images_and_labels(36)
    orders = [torch.randperm(36, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    waiting, again = iter(orders), iter(orders)
    monkeypatch.setattr("imbal_core.training.schedules.epoch_indices", lambda *_: next(waiting))
    ours, plain = tiny(), tiny()
    options, objectives = {}, [lambda _: F.cross_entropy]
    if name == "cot":
        objectives.append(lambda _: wrong_class_entropy)
    elif name == "class-balanced":
        options = {"beta": 0.9, "reweight_from": 1}
        objectives = [class_balanced_from_the_second_epoch(np.bincount(labels), 0.9)]
    run_config = config(loss=name, loss_options=options)
    result = fit(ours, images, labels, run_config, device="cpu", progress=False)
    losses = plain_loop(plain, images, labels, 3, 0.05, lambda: next(again).tolist(), objectives)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert result.history["train_loss"] == pytest.approx(losses, abs=1e-5)
    assert not torch.equal(ours.head.weight, tiny().head.weight)


def test_validation_loss_of_cosines_is_that_of_the_scaled_ones():
    images, labels = images_and_labels(36)
    run_config = config(loss="ldam", model="small_cnn", epochs=1)
    with seeded_init(0):
        network = build_network(run_config, 3)
    result = fit(network, images, labels, run_config, valid=(images, labels), device="cpu", progress=False)
    cosines = predict(network, images, device="cpu")["logits"]
    assert float(cosines.abs().max()) <= 1 + 1e-6
    expected = F.cross_entropy(30 * cosines.double(), torch.from_numpy(labels))
    assert result.history["valid_loss"] == pytest.approx([float(expected)], rel=1e-5)


def test_scores_of_each_epoch_enter_the_history_and_change_nothing(tmp_path):
    seen = []

    def score(network):
        assert not network.training
        seen.append(float(network.head.weight.detach().sum()))
        return {"test_weight": seen[-1]}

    plain, watched, halves = tiny(dropout=0.5), tiny(dropout=0.5), tiny(dropout=0.5)
    expected = train(plain, config())
    result = train(watched, config(), score_epoch=score)
    assert same_weights(plain, watched)
    assert result.history == {**expected.history, "test_weight": seen}
    assert len(seen) == 3
    checkpoint = {"checkpoint": tmp_path / "run.pt", "score_epoch": score}
    with interrupted_after(1):
        train(halves, config(), **checkpoint)
    assert train(halves, config(), **checkpoint).history == result.history


@pytest.mark.parametrize(("every", "scored"), [(1, [1, 2, 3]), (2, [2, 3]), (3, [3])])
def test_scores_are_taken_every_so_many_epochs_and_after_the_last(every, scored):
    network, seen = tiny(), []
    run_config = config(score_every=every)
    result = train(network, run_config, score_epoch=lambda _: {"test_x": seen.append(0) or len(seen)})
    assert scored_epochs(3, every) == scored
    assert result.history["test_x"] == [float(i + 1) for i in range(len(scored))]
    assert len(result.history["train_loss"]) == len(result.history["valid_loss"]) == 3


def test_two_fits_are_bit_equal_and_leave_the_global_random_state_alone():
    run_config = config(augment="crop-flip", sampler="over-sample", train_seed=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = tiny(dropout=0.5), tiny(dropout=0.5)
    a = train(first, run_config)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    b = train(second, run_config)
    assert a.history == b.history
    assert same_weights(first, second)
    other = tiny(dropout=0.5)
    train(other, dataclasses.replace(run_config, train_seed=6))
    assert not same_weights(first, other)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimisers_agree_with_their_formula(optimizer):
    """One step of each by hand: L2 inside the gradient for SGD, decoupled for AdamW."""
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0])
    with seeded_init(0):
        head = TinyHead()
    before, logits = head.linear.weight.detach().double(), head(features).detach().double()
    gradient = ((logits.softmax(1) - F.one_hot(labels, 3)).T @ features.double()) / 4
    rate, decay = 0.1, 0.3
    if optimizer == "sgd":
        expected = before - rate * (gradient + decay * before)
    else:
        expected = before * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-8)
    options = {"epochs": 1, "learning_rate": rate, "weight_decay": decay, "schedule": "constant"}
    fit(head, features, labels, config(optimizer=optimizer, **options), device="cpu", progress=False)
    torch.testing.assert_close(head.linear.weight.detach().double(), expected, atol=1e-6, rtol=0)


def test_bf16_stays_close_to_fp32():
    first, second = tiny(), tiny()
    a = train(first, config(epochs=5))
    b = train(second, config(epochs=5, precision="bf16"))
    assert second.head.weight.dtype == torch.float32
    assert not same_weights(first, second)
    assert b.history["train_loss"] == pytest.approx(a.history["train_loss"], rel=0.03)


def test_data_is_resident_as_bytes_in_the_chosen_layout(monkeypatch):
    kept = []

    def spy(images, how, generator):
        kept.append((images.dtype, images.is_contiguous(memory_format=torch.channels_last)))
        return augment_batch(images, how, generator)

    monkeypatch.setattr("imbal_core.training.schedules.augment_batch", spy)
    for channels_last in (True, False):
        network = tiny()
        train(network, config(epochs=1, channels_last=channels_last, augment="crop-flip"), valid=False)
        assert set(kept) == {(torch.uint8, channels_last)}
        assert {layout for _, layout in network.seen} == {channels_last}
        kept.clear()


def test_a_last_batch_of_one_image_is_dropped_and_a_larger_one_kept():
    for n, sizes in ((17, {8: 2}), (18, {8: 2, 2: 1})):
        network = tiny()
        train(network, config(epochs=1), n=n, valid=False)
        assert Counter(shape[0] for shape, _ in network.seen) == sizes


def test_normalisation_comes_from_the_training_images_unless_fixed():
    images, labels = images_and_labels()
    network = tiny()
    fit(network, images, labels, config(epochs=1), device="cpu", progress=False)
    np.testing.assert_allclose(network.mean, (images / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(network.std, (images / 255).std((0, 1, 2)), atol=1e-6)
    network = tiny()
    network.fixed_normalisation = True
    fit(network, images, labels, config(epochs=1), device="cpu", progress=False)
    assert network.mean.tolist() == [0, 0, 0]


def test_images_are_resized_to_what_the_network_wants():
    network = tiny(image_size=12)
    train(network, config(epochs=1))
    assert {shape[2:] for shape, _ in network.seen} == {(12, 12)}


def test_history_has_one_value_per_epoch_and_matches_the_weights():
    network = tiny()
    result = train(network, config())
    assert set(result.history) == {
        "learning_rate",
        "train_loss",
        "valid_loss",
        "valid_accuracy",
        "valid_balanced_accuracy",
    }
    assert {len(values) for values in result.history.values()} == {3}
    assert result.epochs == len(result.seconds) == 3
    images, labels = images_and_labels(11, seed=1)
    logits = predict(network, images, device="cpu")["logits"].double()
    guesses = logits.argmax(1).numpy()
    recalls = [(guesses[labels == k] == k).mean() for k in range(3)]
    assert result.history["valid_accuracy"][-1] == pytest.approx((guesses == labels).mean())
    assert result.history["valid_balanced_accuracy"][-1] == pytest.approx(np.mean(recalls))
    loss = -logits.log_softmax(1)[torch.arange(11), torch.from_numpy(labels)].mean()
    assert result.history["valid_loss"][-1] == pytest.approx(float(loss), rel=1e-5)
    assert set(train(tiny(), config(epochs=1), valid=False).history) == {"learning_rate", "train_loss"}


def test_a_class_without_validation_images_does_not_count():
    images, labels = images_and_labels()
    held_out = images[labels > 0], labels[labels > 0]
    result = fit(tiny(), images, labels, config(), valid=held_out, device="cpu", progress=False)
    balanced = result.history["valid_balanced_accuracy"]
    assert all(0 <= value <= 1 for value in balanced)
    assert max(balanced) > 0


def test_features_train_a_head_without_any_image_step():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    labels = features[:, :3].argmax(1)
    head = TinyHead()
    fit(head, features.numpy(), labels.numpy(), config(epochs=40), device="cpu", progress=False)
    assert (predict(head, features, device="cpu")["logits"].argmax(1) == labels).float().mean() > 0.9
    with pytest.raises(ValueError, match="needs images"):
        fit(head, features, labels, config(augment="flip"), device="cpu", progress=False)


def test_read_only_arrays_are_accepted_and_unchanged():
    images, labels = images_and_labels()
    images.setflags(write=False)
    labels.setflags(write=False)
    before = images.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tiny(), images, labels, config(epochs=1, augment="crop-flip"), device="cpu", progress=False)
    assert np.array_equal(images, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((37, 3, 8, 8), np.uint8)}, r"\(N, H, W, 3\)"),
        ({"images": np.zeros((37, 8, 8, 3), np.float32)}, "uint8 images"),
        (
            {"labels": np.zeros(36, np.int64)},
            "training labels must be 37, one for each row of inputs, got 36",
        ),
        ({"labels": np.zeros(37)}, "integers"),
        ({"labels": np.full(37, 3)}, r"training labels must lie in \[0, 3\)"),
        ({"labels": np.full(37, -1)}, r"training labels must lie in \[0, 3\)"),
        ({"images": np.zeros((1, 8, 8, 3), np.uint8), "labels": np.zeros(1, np.int64)}, "at least 2"),
        ({"images": np.full((37, 5), np.nan, np.float32)}, "NaN"),
    ],
)
def test_wrong_inputs_are_named(change, message):
    images, labels = images_and_labels()
    with pytest.raises(ValueError, match=message):
        fit(
            tiny(),
            change.get("images", images),
            change.get("labels", labels),
            config(),
            device="cpu",
            progress=False,
        )


def test_divergence_names_epoch_step_and_config():
    class Failing(TinyNetwork):
        calls = 0

        def forward(self, x):
            self.calls += self.training
            # the third step of the second epoch; five steps of eight images per epoch
            return super().forward(x) * (math.nan if self.calls == 8 else 1)

    run_config = config()
    with pytest.raises(DivergedError, match="epoch 2, step 3") as caught:
        train(Failing(), run_config, valid=False)
    assert (caught.value.epoch, caught.value.step, caught.value.recipe) == (2, 3, run_config)
    assert '"model":"tiny"' in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_progress_bar_shows_loss_and_accuracy(capfd):
    images, labels = images_and_labels()
    fit(tiny(), images, labels, config(), valid=(images, labels), device="cpu")
    shown = capfd.readouterr().err
    assert "loss=" in shown
    assert "valid acc=" in shown


def test_seeded_weights_repeat_and_leave_the_global_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert same_weights(tiny(3), tiny(3))
    assert not same_weights(tiny(3), tiny(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_compiled_network_trains_like_the_plain_one(monkeypatch):
    # All of torch.compile but the C++ code at its end, which takes half a minute to build.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr("imbal_core.training.fit.shutil.which", lambda name: name)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, compiled = tiny(), tiny()
    a = train(plain, config(epochs=1), n=16)
    assert not torch._dynamo.utils.counters["stats"]
    b = train(compiled, config(epochs=1, compile=True), n=16)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert b.history["train_loss"] == pytest.approx(a.history["train_loss"], rel=1e-4)


def test_compilation_without_a_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setattr("imbal_core.training.fit.shutil.which", lambda name: None)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        train(tiny(), config(compile=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_trains_close_to_the_cpu_and_resumes(tmp_path):
    images, labels = images_and_labels()
    assert default_device().type == "cuda"
    on_cpu, on_gpu = tiny(), tiny()
    a = fit(on_cpu, images, labels, config(), device="cpu", progress=False)
    b = fit(on_gpu, images, labels, config(), checkpoint=tmp_path / "run.pt", progress=False)
    assert b.history["train_loss"] == pytest.approx(a.history["train_loss"], rel=1e-2)
    again = tiny(seed=9)
    assert fit(again, images, labels, config(), checkpoint=tmp_path / "run.pt").history == b.history
    assert predict(again, images)["logits"].device.type == "cpu"


@pytest.mark.parametrize("name", ["resnet20", "small_cnn"])
def test_the_networks_of_the_package_train(name):
    models = pytest.importorskip("imbal_core.models.build")
    with seeded_init(0):
        network = models.build_model(name, 3)
    images, labels = images_and_labels(16, side=32)
    result = fit(network, images, labels, config(epochs=2, augment="crop-flip"), device="cpu", progress=False)
    assert result.history["train_loss"][1] < result.history["train_loss"][0]
    taps = predict(network, images, taps=network.taps, device="cpu")
    assert set(taps) == {"logits", *network.taps}
