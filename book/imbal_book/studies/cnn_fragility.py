"""CNN fragility (Dablain, Jacobson, Bellinger, Roberts and Chawla, 2023): what latent features show of rare classes.

Two questions, two kinds of cell. In a cell with an exponential imbalance one network is trained on as many images in
all, balanced and imbalanced, and on the imbalanced ones with three cost-sensitive losses; the features of each are
summarised per class. In a cell with a step imbalance the number of images of the rare classes and how many of them are
distinct vary separately, at equal numbers of steps: does diversity matter, or number?
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import pandas as pd

from imbal_book.evidence.verbs import PAIR
from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import train_run
from imbal_book.studies.complement_cross_entropy import LITERATURE, epoch_scores
from imbal_book.studies.fragility_scores import scores
from imbal_book.studies.latent_readings import class_readings
from imbal_book.studies.latent_summaries import Side, latent_summaries
from imbal_core import metrics
from imbal_core.data.class_counts import counts_from_name, exponential_counts
from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.training.start import loss_of

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
            dataclasses.replace(base, split_seed=split, train_seed=train, **_arms(base)[arm]),
        )
        for base, pairs, arms in _PLANS.get(profile, ())
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


def measure(prepared: PreparedRun, **options: Any) -> dict[str, Any]:
    """Return the measurements of one run, whose network has a linear classifier; see `imbal_book.studies.Study`.

    ``train_counts``, ``valid_counts``, ``test_counts``; ``history`` per epoch, with accuracy and the recall of the
    rarer half on the test images, which choose nothing (not in profile laptop, where that would cost a third of the
    training); ``readouts``: "softmax" on the test images and "train", on the training images, see
    `metrics.class_scores`; ``latent``: see `studies.latent_summaries.latent_summaries`. The weights of a loss on scaled
    logits are scaled too, so that CE add up to what its softmax reads.
    """
    config = prepared.config
    sides_scored = () if config.profile == "laptop" else ("test",)
    run = train_run(prepared, score=epoch_scores, score_on=sides_scored, **options)
    num_classes = prepared.train.num_classes
    classifier = linear_classifier(run.network)
    sides, readouts = {}, {}
    for name, readout in (("train", "train"), ("test", "softmax")):
        found, labels = run.predict(name, (classifier.tap,)), run.sides[name][1]
        predicted = found["logits"].argmax(1)
        sides[name] = Side(classifier.inputs(found[classifier.tap]), labels, predicted)
        readouts[readout] = metrics.class_scores(labels, predicted, num_classes)
    factor = loss_of(config, prepared.train_counts).logit_scale
    weights, bias = classifier.weights * factor, classifier.bias * factor
    latent = latent_summaries(sides["train"], sides["test"], weights, bias, seed=config.split_seed)
    return {**run.measurements(), "readouts": readouts, "latent": latent}


def run_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row per record, by data set and seeds: `long_frames.IDENTITY`, readout (the arm) and measurements.

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
