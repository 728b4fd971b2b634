"""CNN fragility (Dablain, Jacobson, Bellinger, Roberts and Chawla, 2023): what latent features show of rare classes.

Two questions, two kinds of cell. In a cell with an exponential imbalance one network is trained on as many images in
all, balanced and imbalanced, and on the imbalanced ones with three cost-sensitive losses; the features of each are
summarised per class. In a cell with a step imbalance the number of images of the rare classes and how many of them are
distinct vary separately, at equal numbers of steps: does diversity matter, or number?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from imbal_book.evidence.verbs import PAIR
from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import train_run
from imbal_book.studies.complement_cross_entropy import epoch_scores
from imbal_book.studies.fragility_scores import scores
from imbal_book.studies.grids.cnn_fragility import NETWORKS, cell
from imbal_book.studies.latent_readings import class_readings
from imbal_book.studies.latent_summaries import Side, latent_summaries
from imbal_core import metrics
from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.training.start import loss_of


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
    parts = [class_readings(measured) for measured in runs["measurements"]]
    if not parts:
        return runs
    # a frame for each run, and its columns put together, takes ten times as long
    readings = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    of_run = runs.index.repeat([len(part["label"]) for part in parts])
    names = runs.drop(columns="measurements").loc[of_run].reset_index(drop=True)
    return pd.concat([readings, names], axis=1)


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all arms and readouts in long form, see `studies.fragility_scores.scores`."""
    return scores(run_frame(records), label_frame(records))


def _describe(config: RunConfig) -> dict[str, str]:
    name, imbalance = cell(config)
    return {"arm": name, "form": NETWORKS.get(config.model, config.model), "imbalance": imbalance}
