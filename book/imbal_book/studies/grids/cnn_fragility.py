"""CNN fragility: what a rare class lacks where counts fall exponentially; number or diversity, where they step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from imbal_book.run.config import RunConfig
from imbal_book.studies.grids.complement_cross_entropy import LITERATURE
from imbal_core.data.class_counts import counts_from_name, exponential_counts

#: Arms of a cell with an exponential imbalance. Focal loss and ASL have the options of the authors' code.
ARMS = ("CE balanced", "CE imbalanced", "LDAM-DRW", "Focal", "ASL")
#: Arms of a cell with a step imbalance, all with cross entropy: what the rare classes have.
EXPERIMENT_ARMS = (
    *("Few", "Repeated", "Repeated, not augmented", "Distinct"),
    *("Half", "Half, copied", "Quarter, copied"),
)
#: What the book calls the networks.
NETWORKS = {
    "small_cnn": "small network",
    "resnet20": "ResNet-20",
    "resnet32": "ResNet-32",
    "resnet56": "ResNet-56",
}
#: Data set -> images of a class in the training pool, and classes. Only ratios of counts follow from the former, so
#: that the number of Places, which may differ from the one here, changes them by rounding alone.
_POOL = {
    "mnist5k": (400, 10),
    "cifar10": (5000, 10),
    "scenes6": (500, 6),
    "places": (5000, 5),
    "inaturalist": (5000, 5),
}

#: Pairs (split seed, training seed): draws with a training each, and those that cross them.
_DIAGONAL = ((0, 0), (1, 1), (2, 2))
_CROSSED = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1))
#: Half of CIFAR-10's counts and few epochs are what two CPU cores finish.
_LAPTOP = RunConfig(
    study="cnn_fragility",
    profile="laptop",
    dataset="cifar10",
    imbalance="exponential-100",
    imbalance_scale=0.5,
    model="resnet20",
    epochs=15,
    learning_rate=0.05,
    warmup_epochs=1,
    batch_size=32,
    weight_decay=2e-4,
    augment="crop-flip",
    precision="bf16",
)
_LAPTOP_STEP = dataclasses.replace(_LAPTOP, imbalance="step-10", imbalance_scale=0.05, epochs=16)
#: The data set has 64 pixels, the network reads 32: each the mean of a square of four.
_SCENES = dataclasses.replace(
    _LAPTOP, dataset="scenes6", imbalance="exponential-20", imbalance_scale=1.0, image_size=32, epochs=30
)
_DIGITS: dict[str, Any] = {
    "profile": "smoke",
    "dataset": "mnist5k",
    "model": "small_cnn",
    "image_size": 16,
    "precision": "fp32",
}
_SMOKE_STEP = dataclasses.replace(_LAPTOP_STEP, imbalance_scale=0.25, epochs=3, **_DIGITS)
_SMOKE = dataclasses.replace(_LAPTOP, imbalance="exponential-20", epochs=5, augment="none", **_DIGITS)
_PAPER = dataclasses.replace(LITERATURE, study="cnn_fragility")
_PAPER_STEP = dataclasses.replace(_PAPER, imbalance="step-10", imbalance_scale=0.1)
#: The imbalance of these two is not known; that of CIFAR-10 is taken.
_PHOTOGRAPHS = tuple(
    dataclasses.replace(_PAPER, dataset=dataset, model="resnet56", image_size=64)
    for dataset in ("places", "inaturalist")
)
#: Profile -> (a cell's run with cross entropy, pairs of seeds, arms), in the order in which they are worth having.
_PLANS: dict[str, tuple[tuple[RunConfig, Sequence[tuple[int, int]], Sequence[str]], ...]] = {
    "smoke": ((_SMOKE, _DIAGONAL[:2], ARMS), (_SMOKE_STEP, _DIAGONAL[:1], EXPERIMENT_ARMS)),
    "laptop": tuple(
        (base, [pair], arms)
        for pair in _DIAGONAL
        for base, arms in ((_LAPTOP, ARMS), (_LAPTOP_STEP, EXPERIMENT_ARMS), (_SCENES, ARMS))
    ),
    "paper": (
        (_PAPER, _DIAGONAL, ARMS[:3]),
        (_PAPER_STEP, _DIAGONAL, EXPERIMENT_ARMS),
        (_PAPER, _DIAGONAL, ARMS[3:]),
        (_PAPER, _CROSSED, ARMS),
        (_PAPER_STEP, _CROSSED, EXPERIMENT_ARMS),
        *((base, pairs, ARMS) for pairs in (_DIAGONAL, _CROSSED) for base in _PHOTOGRAPHS),
    ),
}


def _arms(base: RunConfig) -> dict[str, dict[str, Any]]:
    """Return what each arm of a cell changes in its run with cross entropy.

    The balanced arm of an exponential imbalance has as many images in all, to the nearest whole number per class, and
    deferred weights begin after four fifths of the epochs (160 of 200). Of a step imbalance every arm takes as many
    steps: with few images the epoch goes on to another permutation of all. A split's few images are among its many.
    "Half, copied" has every rare image twice, and so as many as "Distinct"; "Half" has half the number at as many
    distinct images, "Quarter, copied" half the distinct images at the same number.
    """
    pool, classes = _POOL[base.dataset]
    kind, ratio = base.imbalance.split("-")
    most = round(pool * base.imbalance_scale)
    if kind == "step":
        once, repeated = {"epoch_images": most * classes}, {"sampler": "over-sample"}
        return {
            "Few": once,
            "Repeated": repeated,
            "Repeated, not augmented": {**repeated, "augment": "none"},
            "Distinct": {"imbalance": "balanced"},
            "Half": {**once, "imbalance": "step-2"},
            "Half, copied": {**repeated, "imbalance": "step-2"},
            "Quarter, copied": {**repeated, "imbalance": "step-4"},
        }
    total = exponential_counts(most, classes, float(ratio)).sum()
    return {
        "CE balanced": {"imbalance": "balanced", "imbalance_scale": round(total / classes) / pool},
        "CE imbalanced": {},
        "LDAM-DRW": {"loss": "ldam", "loss_options": {"reweight_from": base.epochs * 4 // 5}},
        "Focal": {"loss": "focal", "loss_options": {"alpha": 1.0}},
        "ASL": {"loss": "asl"},
    }


def _places(profile: str) -> list[tuple[str, str, RunConfig]]:
    """Return (arm, imbalance of the cell, run) for every run of a profile."""
    return [
        (
            arm,
            base.imbalance.replace("-", " "),
            dataclasses.replace(base, split_seed=split, train_seed=train, **changes[arm]),
        )
        for base, pairs, arms in _PLANS.get(profile, ())
        for changes in [_arms(base)]
        for split, train in pairs
        for arm in arms
    ]


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale, in the order in which they are worth having."""
    return [config for _, _, config in _places(profile)]


@functools.cache
def _known(profile: str) -> dict[RunConfig, tuple[str, str]]:
    """Return arm and imbalance by run, the seeds set to 0."""
    return {
        dataclasses.replace(config, split_seed=0, train_seed=0): (name, imbalance)
        for name, imbalance, config in _places(profile)
    }


@functools.cache
def cell(config: RunConfig) -> tuple[str, str]:
    """Return the arm of a run and the imbalance of its cell, such as ("CE balanced", "exponential 100").

    A balanced run belongs to the cell of the imbalanced ones that it is compared with. A ValueError says that no grid
    of the study has this run, seeds aside.
    """
    found = _known(config.profile).get(dataclasses.replace(config, split_seed=0, train_seed=0))
    if found is None:
        raise ValueError(f"no arm of cnn_fragility is this run of profile {config.profile}: {config.label()}")
    return found


def scale(config: RunConfig) -> str:
    """Return a run's size, such as "50 % of the full counts, 2,500 to 25 of a class"; "" of an arm unlike its cell."""
    if config.imbalance.replace("-", " ") != cell(config)[1]:
        return ""
    pool, classes = _POOL[config.dataset]
    counts, _ = counts_from_name(config.imbalance, [pool] * classes, scale=config.imbalance_scale)
    part = f"{100 * config.imbalance_scale:g} % of the full counts"
    return f"{part}, {counts.max():,} to {counts.min():,} of a class"
