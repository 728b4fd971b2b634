"""Every remedy of the book on the same features of the same images, chosen and measured by one protocol.

A run is one draw of the training images. On frozen features all remedies are linear heads that are fitted together,
see `imbal_book.heads`; the fields of the recipe that say how a network is trained are idle there. A network that is
trained on the draw instead is read as it is, and, where its loss is cross entropy, by the same heads on its own
features.

Over-sampling, class-balanced sampling and a classifier that is trained anew have no rows of their own: the heads are
trained on all images at once, and the expected step of each of the three is a step with inverse-frequency weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from imbal_book.heads import LENGTHS
from imbal_book.heads.parts import Parts, draw_part
from imbal_book.heads.remedies import FURTHER, REMEDIES
from imbal_book.heads.scores import confusions, metric_of, rare_classes
from imbal_book.heads.side_by_side import SideBySide, side_by_side
from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.packed_numbers import pack_rows, unpack_rows
from imbal_book.run.trained import SIDES, Labelled, TrainedRun, frozen_features, split_sides, train_run
from imbal_book.studies.grids.remedies import arm

if TYPE_CHECKING:
    from imbal_book.run.prepared import PreparedRun
    from imbal_core.training.fit import Progress

#: How frequent the classes are where a model is used: as often each, as in training, or the other way round.
TEST_PRIORS = ("uniform", "as trained", "reversed")
#: Validation images that one run's choices rest on, if its divisions hold so many; and the most divisions.
_VALIDATION, _MOST_DIVISIONS, _SHARE = 1000, 2, 0.25


def inner_parts(
    sides: Mapping[str, Labelled], num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray, Parts]:
    """Return one table of features and labels, and which rows train, choose and measure.

    Parameters
    ----------
    sides : mapping of "train", "valid" and "test" to (features, labels)
        Where there are validation images every setting is chosen on them; else on a quarter of each class of the
        training images, drawn as often as it takes to hold 1,000 images, at most twice; the head is then trained
        on all training images.
    num_classes : int
    seed : int
        Of the divisions.

    Returns
    -------
    features : ndarray of shape (N, D)
    labels : ndarray of shape (N,), int64
    parts : Parts
        With one split.
    """
    features = np.concatenate([sides[side][0] for side in SIDES])
    labels = np.concatenate([sides[side][1] for side in SIDES]).astype(np.int64)
    ends = np.cumsum([len(sides[side][1]) for side in SIDES])
    train, valid, test = np.split(np.arange(len(labels)), ends[:-1])
    measured = np.ones(num_classes, bool)
    if len(valid):
        return features, labels, Parts([train], [test], [[train]], [[valid]], measured)
    rng, groups = np.random.default_rng(seed), np.arange(len(train))
    number = min(_MOST_DIVISIONS, int(np.ceil(_VALIDATION / (_SHARE * len(train)))))
    held = [draw_part(labels[train], groups, measured, _SHARE, rng, 1) for _ in range(number)]
    fits = [np.delete(train, rows) for rows in held]
    return features, labels, Parts([train], [test], [fits], [[train[rows] for rows in held]], measured)


def measure(
    prepared: PreparedRun,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress = True,
) -> dict[str, Any]:
    """Return the measurements of one run, see `imbal_book.studies.Study.measure`.

    Returns
    -------
    dict
        ``train_counts``, ``valid_counts``, ``test_counts``; ``readouts``, by name and packed, the images of each class
        that were recognised, and the images that were taken for each; of heads ``chosen``, the learning rate and the
        steps, and ``validation``, packed, the mean recall on validation images for each learning rate (rows; for the
        two remedies whose penalty is tuned, the penalty) and number of steps. Of a network that was trained also
        ``history``, and a readout ``network``.
    """
    config, num_classes = prepared.config, prepared.train.num_classes
    readouts: dict[str, list[str]] = {}
    measurements: dict[str, Any] = {}
    if config.frozen:
        pool, test = frozen_features(prepared, device, progress is True)
        sides = split_sides(prepared, pool, test)
    else:
        run = train_run(prepared, device=device, checkpoint=checkpoint, progress=progress)
        sides, measurements["history"] = _network_sides(run), run.result.history
        labels = sides["test"][1]
        predicted = run.predict("test")["logits"].argmax(1)
        readouts["network"] = _packed(confusions(labels, predicted, num_classes))
    for side, (_, labels) in sides.items():
        measurements[f"{side}_counts"] = np.bincount(labels, minlength=num_classes).tolist()
    if arm(config) == "cross entropy":
        found = _heads(sides, num_classes, config.train_seed)
        readouts |= {name: _packed(tables[-1]) for name, tables in found.tables.items()}
        measurements |= {"chosen": {}, "validation": {}}
        for name, fitted in found.fitted.items():
            if fitted.by_setting is not None:
                measurements["chosen"][name] = list(fitted.settings[-1])
                measurements["validation"][name] = pack_rows(fitted.by_setting)
    return {**measurements, "readouts": readouts}


def _network_sides(run: TrainedRun) -> dict[str, Labelled]:
    """Return what the classifier of a trained network reads, in the place of the images."""
    tap = run.network.embedding_tap or run.network.taps[-1]
    return {side: (run.predict(side, (tap,))[tap], labels) for side, (_, labels) in run.sides.items()}


def _heads(sides: Mapping[str, Labelled], num_classes: int, seed: int) -> SideBySide:
    features, labels, parts = inner_parts(sides, num_classes, seed)
    metric = metric_of("balanced-accuracy", measured=parts.measured)
    return side_by_side(features, labels, parts, metric, {**REMEDIES, **FURTHER}, seed=seed)


def _packed(confusion: np.ndarray) -> list[str]:
    return pack_rows(np.stack([np.diag(confusion), confusion.sum(0)]))


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all remedies in long form, see `imbal_book.run.long_frames.score_frame`.

    Readouts are the keys of the remedies and baselines, and "network, ARM" for a network that was trained. Metrics:
    ``balanced``, the mean recall, which is the accuracy where all classes are as frequent; ``recall_few`` and
    ``recall_many``, the mean recall of the rare classes (fewer than half as many training images as the average class)
    and of the others; ``worst``, the lowest recall; ``as trained`` and ``reversed``, the accuracy where the classes are
    as frequent as in training, and the other way round.
    """
    return long_frames.score_frame(records, _describe, _readouts, _scores)


def label_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of every label, see `imbal_book.run.long_frames.label_frame`."""
    return long_frames.label_frame(records, _describe, _readouts)


def setting_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return what each remedy's validation images said of each length of training.

    Columns of `imbal_book.run.long_frames.IDENTITY`, readout, steps, value (mean recall on validation images at the
    best of the other settings) and chosen (whether so many steps were taken).
    """
    rows = [
        {
            **identity,
            "readout": name,
            "steps": steps,
            "value": value,
            "chosen": measured["chosen"][name][1] == steps,
        }
        for identity, _, measured in long_frames.identified(records, _describe)
        for name, packed in measured.get("validation", {}).items()
        for steps, value in zip(LENGTHS, unpack_rows(packed).astype(float).max(0), strict=True)
    ]
    return pd.DataFrame(rows, columns=[*long_frames.IDENTITY, "readout", "steps", "value", "chosen"])


def _readouts(
    identity: Mapping[str, Any], arm_name: str, measured: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, packed in measured["readouts"].items():
        recall = unpack_rows(packed)[0] / np.asarray(measured["test_counts"])
        yield f"network, {arm_name}" if name == "network" else name, {"recall": recall}


def _scores(readout: str, scores: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, float]:
    recall, counts = scores["recall"], np.asarray(measured["train_counts"])
    few = rare_classes(counts)
    weights = dict(zip(TEST_PRIORS, _priors(counts), strict=True))
    return {
        "balanced": weights["uniform"] @ recall,
        "recall_few": recall[few].mean(),
        "recall_many": recall[~few].mean(),
        "worst": recall.min(),
        **{name: weights[name] @ recall for name in TEST_PRIORS[1:]},
    }


def _priors(counts: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class shares (K,) of each of `TEST_PRIORS`; reversed gives the rarest class the share of the largest."""
    array = np.asarray(counts, float)
    turned = np.empty_like(array)
    turned[np.argsort(array, kind="stable")] = np.sort(array)[::-1]
    return np.full(len(array), 1 / len(array)), array / array.sum(), turned / turned.sum()


def _describe(config: RunConfig) -> dict[str, str]:
    form = "frozen features" if config.frozen else "trained network"
    return {"arm": arm(config), "form": form, "imbalance": config.imbalance.replace("-", " ")}
