import contextlib
import dataclasses
import hashlib
import inspect
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

from imbal_book.run.config import RunConfig
from imbal_core.training import fit as training
from imbal_core.training.fit import DivergedError, fit
from imbal_core.training.prediction import default_device, device_label, iter_predict, predict
from imbal_core.training.recipe import scored_epochs
from imbal_core.training.schedules import augment_batch, epoch_indices, learning_rate
from imbal_core.training.start import build_network, seeded_init, stream_seed

BASE = {
    "study": "demo",
    "profile": "smoke",
    "dataset": "mnist5k",
    "imbalance": "step-10",
    "model": "tiny",
    "epochs": 3,
}


def config(**options):
    return RunConfig(**{**BASE, "batch_size": 8, "learning_rate": 0.05, **options})


class TinyNetwork(nn.Module):
    """The smallest network with what training reads: convolution, batch norm, dropout, a tap."""

    def __init__(self, num_classes=3, image_size=8, dropout=0.0):
        super().__init__()
        self.num_classes, self.image_size, self.fixed_normalisation = num_classes, image_size, False
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(4, num_classes)
        self.seen = []

    def set_normalisation(self, mean, std):
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(std))

    def forward(self, x):
        return self.forward_taps(x, ())["logits"]

    def forward_taps(self, x, names):
        self.seen.append((tuple(x.shape), x.is_contiguous(memory_format=torch.channels_last)))
        pooled = self.body(x).mean((2, 3))
        taps = {"pooled": pooled, "logits": self.head(self.dropout(pooled))}
        return {name: taps[name] for name in (*names, "logits")}


class TinyHead(nn.Module):
    def __init__(self, width=5, num_classes=3):
        super().__init__()
        self.num_classes, self.linear = num_classes, nn.Linear(width, num_classes)

    def forward(self, x):
        return self.linear(x)


def tiny(seed=0, **options):
    with seeded_init(seed):
        return TinyNetwork(**options)


def images_and_labels(n=37, side=8, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    images = generator.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    images[..., 0] //= (labels + 1)[:, None, None].astype(np.uint8)
    return images, labels


def train(network, run_config, n=37, valid=True, **options):
    images, labels = images_and_labels(n)
    held_out = images_and_labels(11, seed=1) if valid else None
    return fit(network, images, labels, run_config, valid=held_out, device="cpu", progress=False, **options)


def same_weights(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# --- the configuration


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "ef5c381fc3560189"),
        ({"train_seed": 2, "sampler": "over-sample", "precision": "bf16"}, "d85fdabd642f0a18"),
        (
            {"schedule": "step", "milestones": (1, 2), "optimizer": "adamw", "learning_rate": 1e-3},
            "5afdd1bea35644a9",
        ),
        ({"loss": "cce", "loss_options": {"form": "released"}}, "517d4c9b8a756d47"),
    ],
)
def test_digests_never_change(options, digest):
    assert RunConfig(**{**BASE, **options}).digest() == digest


def test_defaults_never_change():
    assert RunConfig(**BASE).to_dict() == {
        **BASE,
        "imbalance_scale": 1.0,
        "split_seed": 0,
        "train_seed": 0,
        "pretrained": False,
        "frozen": False,
        "image_size": None,
        "dropout": None,
        "loss": "cross-entropy",
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "milestones": [],
        "decay": 0.1,
        "warmup_epochs": 0,
        "batch_size": 128,
        "sampler": "shuffle",
        "epoch_images": None,
        "augment": "none",
        "precision": "fp32",
        "channels_last": True,
        "compile": False,
        "loss_options": {},
        "final_batch_norm": False,
        "final_batch_norm_momentum": 0.01,
        "final_batch_norm_affine": True,
        "split_groups": False,
        "valid_share": 0.0,
        "head_start": "own",
        "float32_head": False,
        "score_every": 1,
        "fold_batch_norm": False,
    }


def test_loss_options_at_the_default_of_the_loss_are_no_options():
    plain = config(loss="cce")
    assert config(loss="cce", loss_options={"gamma": -1, "form": "paper"}) == plain
    other = config(loss="cce", loss_options={"gamma": np.float64(-2), "form": "released"})
    assert other == config(loss="cce", loss_options=(("form", "released"), ("gamma", -2)))
    assert other.digest() == RunConfig.from_dict(json.loads(json.dumps(other.to_dict()))).digest()
    assert "cce form released gamma -2.0" in other.label()


def test_config_survives_json_and_equal_values_share_a_digest():
    made = config(schedule="step", milestones=[1, np.int64(2)], learning_rate=1, dropout=np.float64(0))
    again = RunConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert hash(again) == hash(made)
    assert (
        made.digest() == config(schedule="step", milestones=(1, 2), learning_rate=1.0, dropout=0.0).digest()
    )
    assert made.digest() != dataclasses.replace(made, train_seed=1).digest()


def test_a_mistyped_field_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        RunConfig.from_dict({**BASE, "learnin_rate": 0.1})
    with pytest.raises(ValueError, match="needs model"):
        RunConfig.from_dict({k: v for k, v in BASE.items() if k != "model"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "focall"}, "unknown loss"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"sampler": "oversample"}, "did you mean 'over-sample'"),
        ({"augment": "crop"}, "unknown augment"),
        ({"precision": "fp16"}, "unknown precision"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0}, r"learning_rate must lie in \(0, inf\)"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"imbalance_scale": 0}, "imbalance_scale"),
        ({"train_seed": -1}, "train_seed"),
        ({"study": "a/b"}, "names a folder"),
        ({"profile": "../x"}, "names a folder"),
        ({"dataset": " "}, "dataset must not be empty"),
        ({"milestones": (1,)}, "milestones"),
        ({"schedule": "step"}, "never steps"),
        ({"schedule": "step", "milestones": (2, 1)}, "increase"),
        ({"schedule": "step", "milestones": (3,)}, "never reached"),
        ({"decay": 0.5}, "decay"),
        ({"warmup_epochs": 3}, "fills all"),
        ({"schedule": "one-cycle", "warmup_epochs": 1}, "warms up by itself"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov"),
        ({"nesterov": True, "momentum": 0}, "nesterov"),
        ({"frozen": True}, "pretrained"),
        ({"frozen": True, "pretrained": True, "augment": "flip"}, "frozen"),
        ({"frozen": True, "pretrained": True, "dropout": 0.5}, "dropout"),
        ({"loss": "complement-entropy"}, "unknown loss"),
        ({"loss_options": {"gamma": 1.0}}, "unknown option of loss 'cross-entropy'"),
        ({"loss": "cce", "loss_options": {"form": "realised"}}, "did you mean 'released'"),
        ({"loss": "focal", "loss_options": {"gamma": -1}}, "gamma"),
        ({"loss": "cce", "loss_options": {"reduction": "sum"}}, "always the mean"),
        ({"loss": "ldam", "loss_options": {"reweight_from": 3}}, "before 'reweight_from'"),
        ({"final_batch_norm_momentum": 0.1}, "only final_batch_norm=True"),
        ({"final_batch_norm_affine": False}, "only final_batch_norm=True"),
        ({"final_batch_norm": True, "final_batch_norm_momentum": 0}, "final_batch_norm_momentum"),
        ({"valid_share": 1.0}, "valid_share"),
        ({"head_start": "lineer"}, "did you mean 'linear'"),
        ({"head_start": "linear", "pretrained": True, "frozen": True}, "head_start"),
        ({"head_start": "linear", "loss": "ldam"}, "cosine classifier"),
        ({"float32_head": True}, "float32_head"),
        ({"score_every": 0}, "score_every must be at least 1"),
        ({"score_every": 4}, "more than all 3 epochs"),
        ({"fold_batch_norm": True}, "without pretrained=True"),
        ({"fold_batch_norm": True, "pretrained": True, "frozen": True}, "frozen features are the same"),
    ],
)
def test_wrong_and_idle_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": True},
        {"epochs": 2.0},
        {"split_seed": "1"},
        {"frozen": 1},
        {"learning_rate": "0.1"},
        {"model": 3},
        {"milestones": 2},
        {"milestones": "12"},
    ],
)
def test_wrong_types_are_refused(options):
    with pytest.raises(TypeError):
        config(**options)


def test_label_names_the_run():
    text = config(sampler="over-sample", pretrained=True, train_seed=4).label()
    assert text == "mnist5k step-10, tiny fine-tuned, over-sample, seeds 0/4"


# --- the learning rate


def torch_rates(make_scheduler, steps):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 0.05)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def our_rates(run_config, steps_per_epoch=4):
    return [learning_rate(run_config, t, steps_per_epoch) for t in range(run_config.epochs * steps_per_epoch)]


def test_schedules_agree_with_those_of_torch():
    rules = torch.optim.lr_scheduler
    expected = torch_rates(lambda o: rules.CosineAnnealingLR(o, T_max=20), 20)
    assert our_rates(config(epochs=5)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = torch_rates(lambda o: rules.MultiStepLR(o, [8, 12], gamma=0.2), 20)
    stepped = config(epochs=5, schedule="step", milestones=(2, 3), decay=0.2)
    assert our_rates(stepped) == pytest.approx(expected, rel=1e-12)
    cycle = config(epochs=5, schedule="one-cycle")
    # torch's scheduler refuses a step beyond its last, which our helper takes after the last rate
    expected = torch_rates(lambda o: rules.OneCycleLR(o, 0.05, total_steps=20, cycle_momentum=False), 19)
    assert our_rates(cycle)[:19] == pytest.approx(expected, rel=1e-9)
    assert our_rates(cycle)[19] == pytest.approx(0.05 / 250_000)


def test_schedules_agree_with_values_by_hand():
    warm = our_rates(config(epochs=4, schedule="constant", warmup_epochs=2), 2)
    assert warm == pytest.approx([0.0125, 0.025, 0.0375, 0.05, 0.05, 0.05, 0.05, 0.05])
    cosine = our_rates(config(epochs=3, warmup_epochs=1), 2)
    assert cosine == pytest.approx(
        [0.025, 0.05, 0.05, 0.05 * (2 + 2**0.5) / 4, 0.025, 0.05 * (2 - 2**0.5) / 4]
    )
    zhang = config(schedule="plateau-zhang")
    rates = [learning_rate(zhang, 0, 4, recessions) for recessions in range(3)]
    assert rates == pytest.approx([0.05, 0.05 * 0.5 * 0.904837418, 0.05 * 0.5 * 0.818730753])


def test_zhang_schedule_lowers_the_rate_after_each_recession():
    run_config = config(epochs=12, schedule="plateau-zhang", learning_rate=1.5)
    history = train(tiny(), run_config).history
    best, recessions, expected = -1.0, 0, []
    for accuracy in history["valid_accuracy"]:
        expected.append(1.5 if recessions == 0 else 1.5 * 0.5 * math.exp(-0.1 * recessions))
        recessions += accuracy < best
        best = max(best, accuracy)
    assert recessions > 1
    assert history["learning_rate"] == pytest.approx(expected)


def test_zhang_schedule_needs_validation_images():
    with pytest.raises(ValueError, match="pass valid"):
        train(tiny(), config(schedule="plateau-zhang"), valid=False)


# --- samplers


LABELS = torch.tensor([0] * 40 + [2] * 7 + [1] * 13)


def order(seed=0, **options):
    return epoch_indices(LABELS, config(**options), torch.Generator().manual_seed(seed))


def test_shuffle_draws_each_image_once():
    assert sorted(order().tolist()) == list(range(60))
    assert order().tolist() != order(seed=1).tolist()
    assert len(set(order(epoch_images=20).tolist())) == 20
    assert set(Counter(order(epoch_images=150).tolist()).values()) == {2, 3}


def test_over_sampling_lifts_every_class_to_the_largest_and_keeps_every_image():
    drawn = order(sampler="over-sample")
    assert Counter(LABELS[drawn].tolist()) == {0: 40, 1: 40, 2: 40}
    times = Counter(drawn.tolist())
    assert set(times) == set(range(60))
    assert {times[i] for i in range(40)} == {1}
    assert {times[i] for i in range(40, 47)} == {5, 6}
    assert {times[i] for i in range(47, 60)} == {3, 4}
    assert LABELS[drawn].tolist() != sorted(LABELS[drawn].tolist())
    assert len(order(sampler="over-sample", epoch_images=30)) == 30


def test_class_balanced_sampling_gives_each_class_the_same_expectation():
    drawn = order(sampler="class-balanced", epoch_images=30_000)
    per_class = torch.bincount(LABELS[drawn], minlength=3)
    assert stats.chisquare(per_class.numpy()).pvalue > 1e-4
    for label in range(3):
        times = torch.bincount(drawn, minlength=60)[label == LABELS]
        assert stats.chisquare(times.numpy()).pvalue > 1e-4
    assert len(order(sampler="class-balanced")) == 60


def test_an_absent_class_is_never_drawn():
    labels = torch.tensor([0, 0, 0, 3])
    for sampler in ("over-sample", "class-balanced"):
        drawn = epoch_indices(labels, config(sampler=sampler), torch.Generator().manual_seed(0))
        assert set(labels[drawn].tolist()) <= {0, 3}


# --- augmentation


def distinct_image():
    return torch.arange(1, 256, dtype=torch.uint8).repeat(13)[: 3 * 32 * 32].reshape(3, 32, 32)


def crops_and_flips(image):
    """All 162 outcomes of RandomCrop(32, padding=4) and RandomHorizontalFlip, by slicing."""
    padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)))
    crops = [padded[:, top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
    return [view.tobytes() for crop in crops for view in (crop, crop[:, :, ::-1])]


def test_augmentation_has_the_distribution_of_torchvision():
    image = distinct_image()
    outcomes = crops_and_flips(image)
    assert len(set(outcomes)) == 162
    generator = torch.Generator().manual_seed(0)
    draws = 162 * 60
    batches = [
        augment_batch(image.expand(810, 3, 32, 32), "crop-flip", generator) for _ in range(draws // 810)
    ]
    ours = Counter(x.contiguous().numpy().tobytes() for batch in batches for x in batch)
    reference = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = Counter(reference(image).contiguous().numpy().tobytes() for _ in range(draws))
    assert set(ours) == set(theirs) == set(outcomes)
    for counts in (ours, theirs):
        assert stats.chisquare([counts[outcome] for outcome in outcomes]).pvalue > 1e-4


def test_images_of_a_batch_are_augmented_independently():
    image = distinct_image()
    batch = augment_batch(image.expand(4000, 3, 32, 32), "crop-flip", torch.Generator().manual_seed(1))
    outcomes = crops_and_flips(image)
    codes = [outcomes.index(x.contiguous().numpy().tobytes()) for x in batch]
    pairs = Counter((a // 2 // 54, b // 2 // 54) for a, b in zip(codes[::2], codes[1::2], strict=True))
    first = Counter(c // 2 // 54 for c in codes)
    expected = [first[a] * first[b] / 4000**2 * 2000 for a in range(2) for b in range(2)]
    observed = [pairs[a, b] for a in range(2) for b in range(2)]
    assert stats.chisquare(observed, np.array(expected) * 2000 / sum(expected)).pvalue > 1e-4


def test_flip_alone_only_mirrors_and_none_returns_the_images():
    images = torch.stack([distinct_image()] * 200)
    out = augment_batch(images, "flip", torch.Generator().manual_seed(0))
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert bool((mirrored | (out == images).flatten(1).all(1)).all())
    assert 60 < int(mirrored.sum()) < 140
    assert augment_batch(images, "none", torch.Generator()) is images
    assert out.dtype == torch.uint8


def test_augmentation_does_not_depend_on_the_memory_format():
    images = torch.randint(
        0, 256, (5, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    plain = augment_batch(images, "crop-flip", torch.Generator().manual_seed(3))
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, augment_batch(last, "crop-flip", torch.Generator().manual_seed(3)))


def test_the_first_batch_and_weights_of_a_seed_are_the_same_for_ever():
    """Committed records depend on each stream's seed, and on how the order and the shifts are drawn from it."""
    order = torch.Generator().manual_seed(stream_seed(3, "order"))
    first = {}
    for sampler in ("shuffle", "over-sample", "class-balanced"):
        drawn = epoch_indices(LABELS, config(sampler=sampler), order)
        first[sampler] = drawn[:8].tolist(), int(drawn @ torch.arange(len(drawn)))
    assert first == {
        "shuffle": ([14, 30, 59, 0, 10, 15, 37, 35], 52326),
        "over-sample": ([41, 40, 19, 31, 54, 47, 44, 46], 273347),
        "class-balanced": ([57, 51, 52, 40, 46, 6, 41, 41], 66533),
    }
    augmentation = torch.Generator().manual_seed(stream_seed(3, "augmentation"))
    images = torch.stack([distinct_image()] * 8)
    content = b"".join(
        augment_batch(images, how, augmentation).contiguous().numpy().tobytes()
        for how in ("flip", "crop-flip")
    )
    assert hashlib.sha256(content).hexdigest()[:16] == "0b4c41b334f6d643"
    assert (stream_seed(3, "weights"), stream_seed(3, "layers")) == (44782429508679028, 64936873189096275)
    with seeded_init(3):
        assert torch.randint(10**6, (3,)).tolist() == [698718, 914222, 489711]


# --- fit


def plain_loop(network, images, labels, epochs, rate, order_of, objectives=(lambda *_: F.cross_entropy,)):
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


def test_fast_path_agrees_with_a_plain_loop(monkeypatch):
    images, labels = images_and_labels(36)
    orders = [torch.randperm(36, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    waiting = iter(orders)
    monkeypatch.setattr("imbal_core.training.schedules.epoch_indices", lambda *_: next(waiting))
    ours, plain = tiny(), tiny()
    result = fit(ours, images, labels, config(), device="cpu", progress=False)
    again = iter(orders)
    losses = plain_loop(plain, images, labels, 3, 0.05, lambda: next(again).tolist())
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert result.history["train_loss"] == pytest.approx(losses, abs=1e-5)
    assert not torch.equal(ours.head.weight, tiny().head.weight)


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


@pytest.mark.parametrize("name", ["cot", "class-balanced"])
def test_losses_with_two_updates_or_with_epochs_agree_with_a_plain_loop(monkeypatch, name):
    images, labels = images_and_labels(36)
    orders = [torch.randperm(36, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    waiting, again = iter(orders), iter(orders)
    monkeypatch.setattr("imbal_core.training.schedules.epoch_indices", lambda *_: next(waiting))
    ours, plain = tiny(), tiny()
    if name == "cot":
        options, objectives = {}, [lambda _: F.cross_entropy, lambda _: wrong_class_entropy]
    else:
        options = {"beta": 0.9, "reweight_from": 1}
        objectives = [class_balanced_from_the_second_epoch(np.bincount(labels), 0.9)]
    run_config = config(loss=name, loss_options=options)
    result = fit(ours, images, labels, run_config, device="cpu", progress=False)
    losses = plain_loop(plain, images, labels, 3, 0.05, lambda: next(again).tolist(), objectives)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert result.history["train_loss"] == pytest.approx(losses, abs=1e-5)


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


# --- interruption


@contextlib.contextmanager
def interrupted_after(epochs):
    """Stop a training inside the block, as soon as the checkpoint of that epoch is written."""
    write, written = training.write_checkpoint, []

    def write_and_stop(*arguments):
        write(*arguments)
        written.append(1)
        if len(written) == epochs:
            raise KeyboardInterrupt

    with mock.patch.object(training, "write_checkpoint", write_and_stop), pytest.raises(KeyboardInterrupt):
        yield


HARD = {
    "epochs": 4,
    "augment": "crop-flip",
    "sampler": "class-balanced",
    "schedule": "plateau-zhang",
    "learning_rate": 0.5,
}


@pytest.mark.parametrize(
    "options",
    [
        HARD,
        {**HARD, "optimizer": "adamw", "schedule": "one-cycle"},
        {"epochs": 4, "loss": "cot"},
        {"epochs": 4, "loss": "class-balanced", "loss_options": {"reweight_from": 3, "beta": 0.9}},
    ],
)
def test_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, options):
    run_config = config(**options)
    whole, halves = tiny(dropout=0.5), tiny(dropout=0.5)
    expected = train(whole, run_config)
    with interrupted_after(2):
        train(halves, run_config, checkpoint=tmp_path / "run.pt")
    fresh = tiny(seed=9, dropout=0.5)
    torch.manual_seed(77)
    resumed = train(fresh, run_config, checkpoint=tmp_path / "run.pt")
    assert resumed.history == expected.history
    assert same_weights(fresh, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    finished = tiny(seed=9, dropout=0.5)
    assert train(finished, run_config, checkpoint=tmp_path / "run.pt").history == expected.history
    assert same_weights(finished, whole)


def killed_at_thirteenth_step():
    steps = []

    def hook(network, _):
        steps.extend([1] * network.training)
        if len(steps) == 13:  # the third step of the third epoch
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def test_killed_process_is_resumed_bit_equal(tmp_path):
    stand_ins = [TinyNetwork, config, tiny, images_and_labels, train]
    script = [
        "import os, signal, sys",
        "from pathlib import Path",
        "import numpy as np, torch",
        "from torch import nn",
        "from imbal_book.run.config import RunConfig",
        "from imbal_core.training.fit import fit",
        "from imbal_core.training.start import seeded_init",
        "torch.set_num_threads(1)",
        f"BASE, HARD = {BASE!r}, {HARD!r}",
        *map(inspect.getsource, [*stand_ins, killed_at_thirteenth_step]),
        "network = tiny(dropout=0.5)",
        "network.register_forward_pre_hook(killed_at_thirteenth_step())",
        "train(network, config(**HARD), checkpoint=Path(sys.argv[1]))",
    ]
    root = Path(__file__).resolve().parents[3]
    checkpoint = tmp_path / "run.pt"
    command = [sys.executable, "-c", "\n".join(script), str(checkpoint)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "book")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected, resumed = tiny(dropout=0.5), tiny(dropout=0.5)
        history = train(expected, config(**HARD)).history
        steps = len(resumed.seen)
        assert train(resumed, config(**HARD), checkpoint=checkpoint).history == history
    finally:
        torch.set_num_threads(threads)
    assert same_weights(expected, resumed)
    assert len(resumed.seen) - steps < len(expected.seen)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_torn_checkpoint_is_reported_and_training_starts_anew(tmp_path, damage):
    path = tmp_path / "run.pt"
    stopped = tiny()
    with interrupted_after(2):
        train(stopped, config(), checkpoint=path)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        # inside the stored weights: a byte that only a checksum can tell
        at = bytes(content).index(stopped.head.weight.detach().numpy().tobytes())
        content[at] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"not a checkpoint")
    path.write_bytes(content)
    network, expected = tiny(), tiny()
    with pytest.warns(RuntimeWarning, match="run.pt is not used, training starts anew"):
        result = train(network, config(), checkpoint=path)
    assert result.history == train(expected, config()).history
    assert same_weights(network, expected)


@pytest.mark.parametrize(("seed", "n"), [(1, 37), (0, 36)])
def test_checkpoint_of_another_run_is_not_used(tmp_path, seed, n):
    path = tmp_path / "run.pt"
    train(tiny(), config(train_seed=seed), n=n, checkpoint=path)
    network, expected = tiny(), tiny()
    with pytest.warns(RuntimeWarning, match="another config or other labels"):
        train(network, config(), checkpoint=path)
    train(expected, config())
    assert same_weights(network, expected)


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="not written"):
        result = train(tiny(), config(), checkpoint=blocked / "run.pt")
    assert result.epochs == 3


# --- prediction


def test_prediction_does_not_depend_on_the_batch_size_and_restores_the_mode():
    images, _ = images_and_labels()
    network = tiny(dropout=0.5).train()
    whole = predict(network, images, taps=("pooled",), device="cpu")
    parts = predict(network, torch.from_numpy(images), taps=("pooled",), batch_size=5, device="cpu")
    assert network.training
    assert whole["logits"].shape == (37, 3)
    assert whole["pooled"].shape == (37, 4)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name])
    assert [len(b["logits"]) for b in iter_predict(network, images, batch_size=20, device="cpu")] == [20, 17]
    plain = predict(network, images, device="cpu")
    assert set(plain) == {"logits"}
    torch.testing.assert_close(plain["logits"], whole["logits"])


def test_predicted_features_can_be_trained_on():
    images, labels = images_and_labels()
    features = predict(tiny(), images, taps=("pooled",), precision="bf16", device="cpu")["pooled"]
    assert features.dtype == torch.float32
    head = TinyHead(width=4)
    fit(head, features, labels, config(), device="cpu", progress=False)
    F.cross_entropy(head(features), torch.from_numpy(labels)).backward()


def test_prediction_refuses_nothing_and_wrong_batches():
    with pytest.raises(ValueError, match="empty"):
        predict(tiny(), np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="batch_size"):
        predict(tiny(), np.zeros((2, 8, 8, 3), np.uint8), batch_size=0)


# --- weights, devices, compilation


def test_seeded_weights_repeat_and_leave_the_global_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert same_weights(tiny(3), tiny(3))
    assert not same_weights(tiny(3), tiny(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_device_label_names_the_processor_and_not_the_host():
    assert device_label("cpu").endswith("(cpu)")
    assert os.uname().nodename not in device_label("cpu")


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
