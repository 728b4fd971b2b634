"""Category centers instead of the softmax layer (Zhang, Shuai, Ren and Chen, 2018).

Every run trains one network and reads all methods from it: D (the softmax layer), C (centers of the last
convolution) and F (centers of the fully connected layer); the prefix O stands for a run trained with
over-sampling. Three forms: *fine-tuned* ImageNet weights (Tables V and VI), *from scratch* (Table VII), and
*frozen* ImageNet features with a softmax layer on top.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.trained import TrainedRun, train_run
from imbal_core import metrics
from imbal_core.centers import CategoryCenters
from imbal_core.data.class_counts import zhang_counts

if TYPE_CHECKING:
    from imbal_book.run.prepared import PreparedRun

__all__ = ["READOUT_OF_TAP", "few_labels", "form", "frame", "grid", "label_frame", "measure"]

#: Zhang's letter for the centers of each feature tap.
READOUT_OF_TAP = {"last convolution": "C", "fully connected": "F"}

_KINDS = ("a", "b", "c")
#: Three draws with two trainings each, so that the two variances can be told apart.
_CROSSED = ((0, 0), (1, 1), (2, 0), (0, 1), (1, 0), (2, 1))
_SKETCH_LABELS = (3, 5)
_SKETCH_POINTS = 500


def _arms(
    base: RunConfig, pairs: Iterable[tuple[int, int]], samplers: Iterable[str] = ("shuffle", "over-sample")
) -> list[RunConfig]:
    """Return the runs of one form: each pair of seeds of every imbalance and sampler, whole pairs first."""
    return [
        dataclasses.replace(
            base, imbalance=f"zhang-{kind}", sampler=sampler, split_seed=split_seed, train_seed=train_seed
        )
        for split_seed, train_seed in pairs
        for kind in _KINDS
        for sampler in samplers
    ]


def _same(seeds: int) -> list[tuple[int, int]]:
    """Return pairs in which split and training have one seed."""
    return [(seed, seed) for seed in range(seeds)]


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
    return _arms(base, _same(2))


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
    tuned = dataclasses.replace(
        frozen,
        frozen=False,
        image_size=64,
        epochs=3,
        optimizer="sgd",
        learning_rate=0.02,
        weight_decay=5e-4,
        schedule="one-cycle",
        batch_size=64,
        augment="flip",
        precision="fp32",
    )
    scratch = dataclasses.replace(
        tuned,
        model="all_cnn",
        pretrained=False,
        image_size=None,
        epochs=8,
        learning_rate=0.05,
        batch_size=128,
        augment="none",
        precision="bf16",
    )
    runs = _arms(frozen, _same(10)) + _arms(dataclasses.replace(frozen, dataset="cifar100"), _same(10))
    fair = dataclasses.replace(tuned, head_start="linear")
    runs += [_as_many_steps(config) for config in _arms(tuned, _same(3))]
    runs += _arms(scratch, _same(3), samplers=("shuffle",))
    return runs + [_as_many_steps(config) for config in _arms(fair, _CROSSED)]


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
    runs = _arms(all_cnn, _same(3), samplers=("shuffle",))
    return runs + _arms(vgg, _same(3)) + _arms(dataclasses.replace(vgg, dataset="cifar100"), _same(3))


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale, in the order in which they are worth having.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
    """
    return {"smoke": _smoke, "laptop": _laptop, "paper": _paper}[profile]()


def form(config: RunConfig) -> str:
    """Return how a run comes by its features: "frozen", "fine-tuned" or "fine-tuned, fair head", "from scratch"."""
    if config.frozen:
        return "frozen"
    if config.pretrained:
        return "fine-tuned, fair head" if config.head_start == "linear" else "fine-tuned"
    return "from scratch"


def few_labels(train_counts: np.ndarray) -> np.ndarray:
    """Return which labels have few samples: fewer than half as many training images as the largest.

    Parameters
    ----------
    train_counts : ndarray of shape (K,), int

    Returns
    -------
    ndarray of shape (K,), bool
        For Zhang's tables: labels 0 to 4 of types A and C, 0 to 5 of type B (times ten for CIFAR-100).
    """
    return 2 * np.asarray(train_counts) < np.max(train_counts)


def measure(
    prepared: PreparedRun,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the measurements of one run: its history and every readout of its one network.

    Parameters
    ----------
    prepared : PreparedRun
    device : torch.device
    checkpoint : Path, optional
        Where training leaves its state after each epoch.
    progress : bool, default=True

    Returns
    -------
    dict
        ``train_counts``, ``valid_counts``, ``test_counts`` (images per class), ``history`` (per epoch),
        ``readouts`` (name to accuracy, recall and precision per class, fractions), and for one run of frozen
        features ``feature_sketch``, the points of two classes in a plane.
    """
    run = train_run(prepared, device=device, checkpoint=checkpoint, progress=progress)
    config, num_classes = prepared.config, prepared.train.num_classes
    labels = run.sides["test"][1]
    measurements = run.measurements()
    measurements["readouts"] = {
        name: metrics.class_scores(labels, predicted, num_classes)
        for name, predicted in _predictions(run).items()
    }
    if config.frozen and num_classes == 10 and config.split_seed == 0 and config.imbalance == "zhang-a":
        measurements["feature_sketch"] = _feature_sketch(
            run.pool, prepared.train.labels, prepared.train.class_names
        )
    return measurements


def _fit_centers(run: TrainedRun, side: str) -> dict[str, CategoryCenters]:
    """Return the category centers of each tap, fitted batch by batch."""
    taps = run.network.taps
    classes = np.arange(run.network.num_classes)
    centers = {tap: CategoryCenters() for tap in taps}
    labels, start = run.sides[side][1], 0
    for batch in run.batches(side, taps):
        stop = start + len(batch["logits"])
        for tap, estimator in centers.items():
            estimator.partial_fit(batch[tap].numpy(), labels[start:stop], classes=classes)
        start = stop
    return centers


def _predictions(run: TrainedRun) -> dict[str, np.ndarray]:
    """Return the predicted labels of every readout of one trained network, each int64 of shape (N,)."""
    only_train, only_valid = _fit_centers(run, "train"), _fit_centers(run, "valid")
    readers: dict[str, tuple[str, CategoryCenters]] = {}
    for tap in run.network.taps:
        letter = READOUT_OF_TAP[tap]
        both = CategoryCenters().merge(only_train[tap]).merge(only_valid[tap])
        readers[letter] = (tap, both)
        readers[f"{letter}, renormalized"] = (tap, CategoryCenters(renormalize=True).merge(both))
        readers[f"{letter}, training images only"] = (tap, only_train[tap])
    counts = run.prepared.train_counts
    log_prior = torch.log(torch.as_tensor(counts / counts.sum(), dtype=torch.float32))
    parts: dict[str, list[np.ndarray]] = {}
    for batch in run.batches("test", run.network.taps):
        logits = batch["logits"]
        parts.setdefault("D", []).append(logits.argmax(1).numpy())
        # over-sampling has already levelled the prior that is taken out here
        if run.prepared.config.sampler == "shuffle":
            parts.setdefault("LA", []).append((logits - log_prior).argmax(1).numpy())
        for name, (tap, estimator) in readers.items():
            parts.setdefault(name, []).append(np.asarray(estimator.predict(batch[tap].numpy())))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _feature_sketch(features: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the unit-length features of two classes in the plane that shows their difference best.

    The first axis runs through the two centers; the second is the direction of the largest spread at a right
    angle to it. Points are the first images of each class, rounded to four decimals.
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    first, second = (unit[labels == label] for label in _SKETCH_LABELS)
    axis = second.mean(0) - first.mean(0)
    axis /= np.linalg.norm(axis)
    both = np.concatenate([first, second])
    middle = both.mean(0)
    rest = (both - middle) - np.outer((both - middle) @ axis, axis)
    spread = np.linalg.eigh(rest.T @ rest)[1][:, -1]
    spread *= np.sign(spread[np.argmax(np.abs(spread))])  # an eigenvector's sign is arbitrary: fix it
    plane = np.stack([axis, spread], axis=1)
    return {
        "class_names": [class_names[label] for label in _SKETCH_LABELS],
        "points": [
            np.round((points[:_SKETCH_POINTS] - middle) @ plane, 4).tolist() for points in (first, second)
        ],
    }


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all readouts in long form.

    Parameters
    ----------
    records : DataFrame
        As :meth:`imbal_book.run.records.RecordStore.to_frame` returns it.

    Returns
    -------
    DataFrame
        Columns key, profile, form, model, dataset, imbalance ("A", "B", "C"), split_seed, train_seed, readout
        (over-sampled runs with the prefix O), metric and value. Metrics: accuracy; recall_few and recall_many,
        the mean recall of labels with few and with many samples; precision, the mean over labels.
    """
    rows = []
    for record, readout, scores, counts in _readouts(records):
        few = few_labels(counts)
        recall = np.asarray(scores["recall"])
        values = {
            "accuracy": scores["accuracy"],
            "recall_few": recall[few].mean(),
            "recall_many": recall[~few].mean(),
            "precision": np.mean(scores["precision"]),
        }
        rows += [{**record, "readout": readout, "metric": metric, "value": v} for metric, v in values.items()]
    return pd.DataFrame(rows, columns=[*long_frames.IDENTITY, "readout", "metric", "value"])


def label_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of every label, in long form.

    Parameters
    ----------
    records : DataFrame
        As :meth:`imbal_book.run.records.RecordStore.to_frame` returns it.

    Returns
    -------
    DataFrame
        The columns of :func:`frame` up to ``readout``, then label, train_count and recall.
    """
    rows = [
        {**record, "readout": readout, "label": label, "train_count": int(counts[label]), "recall": recall}
        for record, readout, scores, counts in _readouts(records)
        for label, recall in enumerate(scores["recall"])
    ]
    return pd.DataFrame(rows, columns=[*long_frames.IDENTITY, "readout", "label", "train_count", "recall"])


def _readouts(records: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str, dict[str, Any], np.ndarray]]:
    """Yield (identity of the run, readout, scores, training counts) for every readout of every record."""
    for identity, prefix, measured in long_frames.identified(records, _describe):
        counts = np.asarray(measured["train_counts"])
        for name, scores in measured["readouts"].items():
            if identity["form"] == "frozen" and prefix and name != "D":
                continue  # frozen features, so these centers are those of the plain run
            yield identity, prefix + name, scores, counts


def _describe(config: RunConfig) -> dict[str, str]:
    prefix = "O" if config.sampler == "over-sample" else ""
    return {"arm": prefix, "form": form(config), "imbalance": config.imbalance[-1].upper()}
