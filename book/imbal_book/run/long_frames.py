"""Records as long frames: one row per run, readout and metric, the form in which claims are judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from imbal_book.run.config import RunConfig
from imbal_core.training.recipe import scored_epochs

__all__ = ["IDENTITY", "Describe", "Readouts", "epoch_frame", "identified", "label_frame", "score_frame"]

#: The columns that say which run a row is of.
IDENTITY = ("key", "profile", "form", "model", "dataset", "imbalance", "split_seed", "train_seed")

#: From a run to what its study calls it: "arm", "form" and "imbalance", the words of the book.
Describe = Callable[[RunConfig], Mapping[str, str]]
#: From the identity of a run, its arm and its measurements to its readouts: (name in the book, scores per class).
Readouts = Callable[[Mapping[str, Any], str, Mapping[str, Any]], Iterable[tuple[str, Mapping[str, Any]]]]
#: From a readout, its scores and the run's measurements to numbers by metric.
Values = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Mapping[str, float]]


def identified(
    records: pd.DataFrame, describe: Describe
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Yield (the columns of `IDENTITY`, the arm, the measurements) for every record.

    Parameters
    ----------
    records : DataFrame
        As `imbal_book.chapters.Chapter.frame` returns it.
    describe : callable
    """
    names = [field.name for field in dataclasses.fields(RunConfig)]
    for row in records.to_dict("records"):
        config = RunConfig.from_dict({name: row[name] for name in names})
        words = describe(config)
        identity = {
            "key": row["key"],
            "profile": config.profile,
            "form": words["form"],
            "model": config.model,
            "dataset": config.dataset,
            "imbalance": words["imbalance"],
            "split_seed": config.split_seed,
            "train_seed": config.train_seed,
        }
        yield identity, words["arm"], row["measurements"]


def epoch_frame(records: pd.DataFrame, describe: Describe) -> pd.DataFrame:
    """Return the history of every run: the columns of `IDENTITY`, readout (the arm), epoch (from 1), metric, value.

    Parameters
    ----------
    records : DataFrame
        As `imbal_book.chapters.Chapter.frame` returns it.
    describe : callable
    """
    rows = []
    found = zip(records.to_dict("records"), identified(records, describe), strict=True)
    for row, (identity, arm, measured) in found:
        scored = scored_epochs(row["epochs"], row["score_every"])
        for metric, values in measured["history"].items():
            # what every epoch has counts from 1; what is scored less often has the epochs of its scores
            epochs = scored if len(values) == len(scored) else range(1, len(values) + 1)
            rows += [
                {**identity, "readout": arm, "epoch": epoch, "metric": metric, "value": value}
                for epoch, value in zip(epochs, values, strict=True)
            ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "readout", "epoch", "metric", "value"])


def score_frame(
    records: pd.DataFrame, describe: Describe, readouts: Readouts, values: Values
) -> pd.DataFrame:
    """Return the scores of every readout in long form: the columns of `IDENTITY`, readout, metric, value.

    Parameters
    ----------
    records : DataFrame
        As `imbal_book.chapters.Chapter.frame` returns it.
    describe, readouts, values : callable
        Of the study.
    """
    rows = [
        {**identity, "readout": readout, "metric": metric, "value": float(value)}
        for identity, arm, measured in identified(records, describe)
        for readout, scores in readouts(identity, arm, measured)
        for metric, value in values(readout, scores, measured).items()
    ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "readout", "metric", "value"])


def label_frame(records: pd.DataFrame, describe: Describe, readouts: Readouts) -> pd.DataFrame:
    """Return the recall of every label: the columns of `IDENTITY`, readout, label, train_count, recall.

    Parameters
    ----------
    records : DataFrame
        As `imbal_book.chapters.Chapter.frame` returns it.
    describe, readouts : callable
        Of the study.
    """
    rows = [
        {**identity, "readout": readout, "label": label, "train_count": int(count), "recall": recall}
        for identity, arm, measured in identified(records, describe)
        for readout, scores in readouts(identity, arm, measured)
        for label, (count, recall) in enumerate(zip(measured["train_counts"], scores["recall"], strict=True))
    ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "readout", "label", "train_count", "recall"])
