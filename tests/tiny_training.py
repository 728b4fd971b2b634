"""The smallest networks, images and runs, which the tests of training share."""

import contextlib
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from imbal_book.run.config import RunConfig
from imbal_core.training import fit as training
from imbal_core.training.fit import fit
from imbal_core.training.start import seeded_init

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
