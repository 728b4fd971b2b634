"""Category centers instead of the softmax layer (Zhang, Shuai, Ren and Chen, 2018).

Every run trains one network and reads all methods from it: D (the softmax layer), C (centers of the last
convolution) and F (centers of the fully connected layer); the prefix O stands for a run trained with
over-sampling. Three forms: *fine-tuned* ImageNet weights (Tables V and VI), *from scratch* (Table VII), and
*frozen* ImageNet features with a softmax layer on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import TrainedRun, train_run
from imbal_book.studies.grids.category_centers import form
from imbal_core import metrics
from imbal_core.centers import CategoryCenters

#: Zhang's letter for the centers of each feature tap.
READOUT_OF_TAP = {"last convolution": "C", "fully connected": "F"}

_SKETCH_LABELS = (3, 5)
_SKETCH_POINTS = 500


def few_labels(train_counts: ArrayLike) -> np.ndarray:
    """Return which labels have few samples, bool of shape (K,): fewer than half as many images as the largest.

    For Zhang's tables: labels 0 to 4 of types A and C, 0 to 5 of type B (times ten for CIFAR-100).
    """
    return 2 * np.asarray(train_counts) < np.max(train_counts)


def measure(prepared: PreparedRun, **options: Any) -> dict[str, Any]:
    """Return the measurements of one run, see `imbal_book.studies.Study.measure`.

    ``train_counts``, ``valid_counts``, ``test_counts`` (images per class), ``history`` (per epoch), ``readouts`` (name
    to accuracy, recall and precision per class, fractions), and for one run of frozen features ``feature_sketch``, the
    points of two classes in a plane.
    """
    run = train_run(prepared, **options)
    config, num_classes = prepared.config, prepared.train.num_classes
    labels = run.sides["test"][1]
    measurements = run.measurements()
    measurements["readouts"] = {
        name: metrics.class_scores(labels, predicted, num_classes)
        for name, predicted in _predictions(run).items()
    }
    if config.frozen and num_classes == 10 and config.split_seed == 0 and config.imbalance == "zhang-a":
        train = prepared.train
        measurements["feature_sketch"] = _feature_sketch(run.pool, train.labels, train.class_names)
    return measurements


def _predictions(run: TrainedRun) -> dict[str, np.ndarray]:
    """Return the predicted labels of every readout of one trained network, each int64 of shape (N,)."""
    taps, classes = run.network.taps, np.arange(run.network.num_classes)
    test, train, valid = (run.predict(side, taps) for side in ("test", "train", "valid"))
    predicted = {"D": test["logits"].argmax(1)}
    # over-sampling has already levelled the prior that is taken out here
    if run.prepared.config.sampler == "shuffle":
        counts = run.prepared.train_counts
        log_prior = torch.log(torch.as_tensor(counts / counts.sum(), dtype=torch.float32))
        predicted["LA"] = (test["logits"] - log_prior.numpy()).argmax(1)
    for tap in taps:
        only_train, only_valid = (
            CategoryCenters().partial_fit(side[tap], run.sides[name][1], classes=classes)
            for name, side in (("train", train), ("valid", valid))
        )
        both = CategoryCenters().merge(only_train).merge(only_valid)
        letter = READOUT_OF_TAP[tap]
        for name, centers in {
            letter: both,
            f"{letter}, renormalized": CategoryCenters(renormalize=True).merge(both),
            f"{letter}, training images only": only_train,
        }.items():
            predicted[name] = np.asarray(centers.predict(test[tap]))
    return predicted


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
    """Return the scores of all readouts in long form, see `imbal_book.run.long_frames.score_frame`.

    Imbalance is "A", "B" or "C"; readouts of over-sampled runs have the prefix O. Metrics: accuracy; recall_few and
    recall_many, the mean recall of labels with few and with many samples; precision, the mean over labels.
    """
    return long_frames.score_frame(records, _describe, _readouts, _scores)


def _scores(readout: str, scores: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, float]:
    few, recall = few_labels(measured["train_counts"]), np.asarray(scores["recall"])
    return {
        "accuracy": scores["accuracy"],
        "recall_few": recall[few].mean(),
        "recall_many": recall[~few].mean(),
        "precision": np.mean(scores["precision"]),
    }


def label_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of every label, see `imbal_book.run.long_frames.label_frame`."""
    return long_frames.label_frame(records, _describe, _readouts)


def _readouts(
    identity: Mapping[str, Any], prefix: str, measured: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, scores in measured["readouts"].items():
        if not (
            identity["form"] == "frozen" and prefix and name != "D"
        ):  # else the centers are those of the plain run
            yield prefix + name, scores


def _describe(config: RunConfig) -> dict[str, str]:
    prefix = "O" if config.sampler == "over-sample" else ""
    return {"arm": prefix, "form": form(config), "imbalance": config.imbalance[-1].upper()}
