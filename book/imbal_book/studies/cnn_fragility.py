"""CNN fragility (Dablain, Jacobson, Bellinger, Roberts and Chawla, 2023): what latent features show of rare classes.

Two questions, two kinds of cell. In a cell with an exponential imbalance one network is trained on as many images in
all, balanced and imbalanced, and on the imbalanced ones with three cost-sensitive losses; the features of each are
summarised per class. In a cell with a step imbalance the number of images of the rare classes and how many of them are
distinct vary separately, at equal numbers of steps: does diversity matter, or number?
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from imbal_book.evidence.verbs import PAIR
from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.trained import train_run
from imbal_book.studies.complement_cross_entropy import LITERATURE
from imbal_book.studies.fragility_scores import scores
from imbal_book.studies.latent_readings import class_readings
from imbal_book.studies.latent_summaries import Side, latent_summaries
from imbal_core import metrics
from imbal_core.data.class_counts import counts_from_name, exponential_counts
from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.training.start import loss_of

if TYPE_CHECKING:
    from imbal_book.run.prepared import PreparedRun
    from imbal_core.training.fit import Progress

__all__ = [
    "ARMS",
    "EXPERIMENT_ARMS",
    "NETWORKS",
    "arm",
    "cell",
    "frame",
    "grid",
    "label_frame",
    "measure",
    "run_frame",
    "scale",
]

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

_Seeds = Iterable[tuple[int, int]]
#: Arm, imbalance of the cell ("exponential 100"), run.
_Place = tuple[str, str, RunConfig]


def _long_tail(base: RunConfig, seeds: _Seeds, arms: Iterable[str] = ARMS) -> list[_Place]:
    """Return the arms of a cell; ``base`` is its run with cross entropy and an exponential imbalance.

    The balanced arm has as many images in all, to the nearest whole number per class. Deferred weights begin after
    four fifths of the epochs (160 of 200).
    """
    pool, classes = _POOL[base.dataset]
    ratio = float(base.imbalance.removeprefix("exponential-"))
    total = exponential_counts(round(pool * base.imbalance_scale), classes, ratio).sum()
    changes: dict[str, dict[str, Any]] = {
        "CE balanced": {"imbalance": "balanced", "imbalance_scale": round(total / classes) / pool},
        "CE imbalanced": {},
        "LDAM-DRW": {"loss": "ldam", "loss_options": {"reweight_from": base.epochs * 4 // 5}},
        "Focal": {"loss": "focal", "loss_options": {"alpha": 1.0}},
        "ASL": {"loss": "asl"},
    }
    return _runs(base, {name: changes[name] for name in arms}, seeds)


def _experiment(base: RunConfig, seeds: _Seeds) -> list[_Place]:
    """Return the arms of a cell; ``base`` is its run with a step imbalance, in which the rare classes have few.

    A split's few images of a class are among its many. Every arm takes as many steps: with few images the epoch
    goes on to another permutation of all. "Half, copied" has every rare image twice, and so as many images as
    "Distinct". Half the number at as many distinct images is "Half", half the distinct images at the same number
    "Quarter, copied".
    """
    pool, classes = _POOL[base.dataset]
    images = round(pool * base.imbalance_scale) * classes
    return _runs(
        base,
        {
            "Few": {"epoch_images": images},
            "Repeated": {"sampler": "over-sample"},
            "Repeated, not augmented": {"sampler": "over-sample", "augment": "none"},
            "Distinct": {"imbalance": "balanced"},
            "Half": {"imbalance": "step-2", "epoch_images": images},
            "Half, copied": {"imbalance": "step-2", "sampler": "over-sample"},
            "Quarter, copied": {"imbalance": "step-4", "sampler": "over-sample"},
        },
        seeds,
    )


def _runs(base: RunConfig, arms: Mapping[str, Mapping[str, Any]], seeds: _Seeds) -> list[_Place]:
    imbalance = base.imbalance.replace("-", " ")
    return [
        (name, imbalance, dataclasses.replace(base, split_seed=split, train_seed=train, **changes))
        for split, train in seeds
        for name, changes in arms.items()
    ]


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


def _smoke() -> list[_Place]:
    step = dataclasses.replace(
        _LAPTOP,
        profile="smoke",
        dataset="mnist5k",
        imbalance="step-10",
        imbalance_scale=0.25,
        model="small_cnn",
        image_size=16,
        epochs=3,
        precision="fp32",
    )
    long_tail = dataclasses.replace(
        step, imbalance="exponential-20", imbalance_scale=0.5, epochs=5, augment="none"
    )
    return _long_tail(long_tail, [(0, 0), (1, 1)]) + _experiment(step, [(0, 0)])


def _laptop() -> list[_Place]:
    """Return the runs that two CPU cores finish: half of CIFAR-10's counts, all of the scenes', few epochs."""
    step = dataclasses.replace(_LAPTOP, imbalance="step-10", imbalance_scale=0.05, epochs=16)
    # the data set has 64 pixels, the network reads 32: each the mean of a square of four
    scenes = dataclasses.replace(
        _LAPTOP, dataset="scenes6", imbalance="exponential-20", imbalance_scale=1.0, image_size=32, epochs=30
    )
    runs = []
    for seed in range(3):
        runs += _long_tail(_LAPTOP, [(seed, seed)])
        runs += _experiment(step, [(seed, seed)])
        runs += _long_tail(scenes, [(seed, seed)])
    return runs


def _paper() -> list[_Place]:
    """Return the recipe of the authors' sibling code, three draws of the split and three seeds of the training."""
    cifar = dataclasses.replace(LITERATURE, study="cnn_fragility")
    step = dataclasses.replace(cifar, imbalance="step-10", imbalance_scale=0.1)
    # the imbalance of these two is not known; that of CIFAR-10 is taken
    photographs = [
        dataclasses.replace(cifar, dataset=dataset, model="resnet56", image_size=64)
        for dataset in ("places", "inaturalist")
    ]
    first = [(seed, seed) for seed in range(3)]
    rest = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)]
    runs = _long_tail(cifar, first, ARMS[:3]) + _experiment(step, first) + _long_tail(cifar, first, ARMS[3:])
    runs += _long_tail(cifar, rest) + _experiment(step, rest)
    for seeds in (first, rest):
        for base in photographs:
            runs += _long_tail(base, seeds)
    return runs


_GRIDS = {"smoke": _smoke, "laptop": _laptop, "paper": _paper}


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale, in the order in which they are worth having.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
    """
    return [config for _, _, config in _GRIDS[profile]()]


@functools.cache
def _known(profile: str) -> dict[RunConfig, tuple[str, str]]:
    """Return arm and imbalance by run, the seeds set to 0."""
    return {
        dataclasses.replace(config, split_seed=0, train_seed=0): (name, imbalance)
        for name, imbalance, config in (_GRIDS[profile]() if profile in _GRIDS else ())
    }


@functools.cache
def cell(config: RunConfig) -> tuple[str, str]:
    """Return the arm of a run and the imbalance of its cell, such as ("CE balanced", "exponential 100").

    A balanced run belongs to the cell of the imbalanced ones that it is compared with.

    Raises
    ------
    ValueError
        If no grid of the study has this run, seeds aside.
    """
    found = _known(config.profile).get(dataclasses.replace(config, split_seed=0, train_seed=0))
    if found is None:
        raise ValueError(f"no arm of cnn_fragility is this run of profile {config.profile}: {config.label()}")
    return found


def scale(config: RunConfig) -> str:
    """Return how large a run is, such as "50 % of all images, 2,500 to 25 of a class"; "" of an arm unlike its cell."""
    if config.imbalance.replace("-", " ") != cell(config)[1]:
        return ""
    pool, classes = _POOL[config.dataset]
    counts, _ = counts_from_name(config.imbalance, [pool] * classes, scale=config.imbalance_scale)
    return (
        f"{100 * config.imbalance_scale:g} % of all images, {counts.max():,} to {counts.min():,} of a class"
    )


def arm(config: RunConfig) -> str:
    """Return the arm that a run belongs to; see `cell`."""
    return cell(config)[0]


def measure(
    prepared: PreparedRun,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress = True,
) -> dict[str, Any]:
    """Return the measurements of one run.

    Parameters
    ----------
    prepared : PreparedRun
        Its network has a linear classifier.
    device : torch.device
    checkpoint : Path, optional
        Where training leaves its state after each epoch.
    progress : bool, default=True

    Returns
    -------
    dict
        ``train_counts``, ``valid_counts``, ``test_counts``; ``history`` per epoch, with accuracy and macro F1 on the
        test images, which choose nothing (not in profile laptop, where that would cost a third of the training);
        ``readouts``: "softmax" on the test images and "train", on the training images, see `metrics.class_scores`;
        ``latent``: see `studies.latent_summaries.latent_summaries`. The weights of a loss on scaled logits are scaled
        too, so that CE add up to what its softmax reads.
    """
    config = prepared.config
    run = train_run(
        prepared,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        score=_epoch_scores,
        score_on=() if config.profile == "laptop" else ("test",),
    )
    num_classes = prepared.train.num_classes
    classifier = linear_classifier(run.network)
    sides, readouts = {}, {}
    for name, readout in (("train", "train"), ("test", "softmax")):
        found, labels = run.predict(name, (classifier.tap,)), run.sides[name][1]
        predicted = found["logits"].argmax(1)
        sides[name] = Side(classifier.inputs(found[classifier.tap]), labels, predicted)
        readouts[readout] = metrics.class_scores(labels, predicted, num_classes)
    scale = loss_of(config, prepared.train_counts).logit_scale
    return {
        **run.measurements(),
        "readouts": readouts,
        "latent": latent_summaries(
            sides["train"],
            sides["test"],
            classifier.weights * scale,
            classifier.bias * scale,
            seed=config.split_seed,
        ),
    }


def _epoch_scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    confusion = metrics.confusion_counts(labels, logits.argmax(1), logits.shape[1])
    return {
        "accuracy": metrics.accuracy(confusion),
        "macro_f1": float(np.mean(metrics.f1_per_class(confusion))),
    }


def run_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row per record, sorted by its seeds: `long_frames.IDENTITY`, readout (the arm) and measurements.

    ``records``, here and below, is of `imbal_book.run.long_frames.records_frame`.
    """
    rows = [
        {**identity, "readout": name, "measurements": measured}
        for identity, name, measured in long_frames.identified(records, _describe)
    ]
    found = pd.DataFrame(rows, columns=[*long_frames.IDENTITY, "readout", "measurements"])
    return found.sort_values(["dataset", *PAIR], kind="stable", ignore_index=True)


def label_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return what every label of every run says: the columns of `run_frame`, and of `class_readings`."""
    runs = run_frame(records)
    names, latents = runs.drop(columns="measurements").to_dict("records"), runs["measurements"]
    parts = [class_readings(measured).assign(**name) for name, measured in zip(names, latents, strict=True)]  # type: ignore[arg-type]
    return pd.concat(parts, ignore_index=True) if parts else runs


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all arms and readouts in long form, see `studies.fragility_scores.scores`."""
    return scores(run_frame(records), label_frame(records))


def _describe(config: RunConfig) -> dict[str, str]:
    name, imbalance = cell(config)
    return {"arm": name, "form": NETWORKS.get(config.model, config.model), "imbalance": imbalance}
