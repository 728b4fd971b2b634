"""Category centers: fine-tuned, from scratch and frozen networks, of each of which all methods are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from imbal_book.run.config import RunConfig
from imbal_book.studies.grids import crossed, same
from imbal_core.data.class_counts import zhang_counts

_KINDS = ("a", "b", "c")
#: Three draws with two trainings each, so that the two variances can be told apart.
_CROSSED = ((0, 0), (1, 1), (2, 0), (0, 1), (1, 0), (2, 1))


def _arms(
    base: RunConfig, pairs: Iterable[tuple[int, int]], samplers: Iterable[str] = ("shuffle", "over-sample")
) -> list[RunConfig]:
    """Return the runs of one form: every imbalance and sampler."""
    arms = [{"imbalance": f"zhang-{kind}", "sampler": sampler} for kind in _KINDS for sampler in samplers]
    return crossed([base], pairs, arms)


def _smoke() -> list[RunConfig]:
    base = RunConfig(
        study="category_centers",
        profile="smoke",
        dataset="mnist5k",
        imbalance="zhang-a",
        imbalance_scale=0.08,
        model="small_cnn",
        epochs=6,
        learning_rate=0.05,
        schedule="one-cycle",
        batch_size=64,
        augment="none",
    )
    return _arms(base, same(2))


def _laptop() -> list[RunConfig]:
    """Return the runs that two CPU cores finish: frozen features first, for they take seconds."""
    frozen = RunConfig(
        study="category_centers",
        profile="laptop",
        dataset="cifar10",
        imbalance="zhang-a",
        model="timm:tf_efficientnet_lite0",
        pretrained=True,
        frozen=True,
        image_size=96,
        epochs=20,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        schedule="cosine",
        batch_size=256,
        augment="none",
        precision="bf16",
    )
    sgd = dataclasses.replace(frozen, frozen=False, optimizer="sgd", weight_decay=5e-4, schedule="one-cycle")
    tuned = dataclasses.replace(
        sgd, image_size=64, epochs=3, learning_rate=0.02, batch_size=64, augment="flip", precision="fp32"
    )
    scratch = dataclasses.replace(
        sgd, model="all_cnn", pretrained=False, image_size=None, epochs=8, learning_rate=0.05, batch_size=128
    )
    fair = dataclasses.replace(tuned, head_start="linear")
    return [
        *_arms(frozen, same(10)),
        *_arms(dataclasses.replace(frozen, dataset="cifar100"), same(10)),
        *map(_as_many_steps, _arms(tuned, same(3))),
        *_arms(scratch, same(3), samplers=("shuffle",)),
        *map(_as_many_steps, _arms(fair, _CROSSED)),
    ]


def _as_many_steps(config: RunConfig) -> RunConfig:
    """Return the run with as many images an epoch as its plain twin has, so that both cost the same."""
    if config.sampler == "shuffle":
        return config
    num_classes = 100 if config.dataset == "cifar100" else 10
    train_counts, _ = zhang_counts(num_classes, config.imbalance[-1].upper())
    return dataclasses.replace(config, epoch_images=int(train_counts.sum()))


def _paper() -> list[RunConfig]:
    """Return the paper's own networks at their own size; what it leaves open is in ``papers/zhang_2018.yml``."""
    all_cnn = RunConfig(
        study="category_centers",
        profile="paper",
        dataset="cifar10",
        imbalance="zhang-a",
        model="all_cnn",
        epochs=100,
        learning_rate=0.005,
        schedule="plateau-zhang",
        batch_size=256,
        augment="none",
        precision="bf16",
    )
    vgg = dataclasses.replace(
        all_cnn, model="vgg16", pretrained=True, image_size=224, epochs=20, learning_rate=0.001, batch_size=50
    )
    runs = _arms(all_cnn, same(3), samplers=("shuffle",))
    return runs + _arms(vgg, same(3)) + _arms(dataclasses.replace(vgg, dataset="cifar100"), same(3))


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale ("smoke", "laptop", "paper"), the most wanted first."""
    return {"smoke": _smoke, "laptop": _laptop, "paper": _paper}[profile]()


def form(config: RunConfig) -> str:
    """Return how a run comes by its features: "frozen", "fine-tuned" or "fine-tuned, fair head", "from scratch"."""
    if config.frozen:
        return "frozen"
    if config.pretrained:
        return "fine-tuned, fair head" if config.head_start == "linear" else "fine-tuned"
    return "from scratch"
