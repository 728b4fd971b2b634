"""Learning rates, orders of an epoch and augmentation, against torch, torchvision and values by hand."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_training import config, tiny, train
from torch import nn
from torchvision import transforms

from imbal_core.training.schedules import augment_batch, epoch_indices, learning_rate
from imbal_core.training.start import seeded_init, stream_seed


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
