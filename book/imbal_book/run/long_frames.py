"""Records as frames: one row a record, and the long form, one row per run, readout and metric, that claims judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import Record
from imbal_core.training.recipe import scored_epochs

#: The columns that say which run a row is of.
IDENTITY = ("key", "profile", "form", "model", "dataset", "imbalance", "split_seed", "train_seed")
_FIELDS = tuple(field.name for field in dataclasses.fields(RunConfig))

#: From a run to what its study calls it: "arm", "form" and "imbalance", the words of the book.
Describe = Callable[[RunConfig], Mapping[str, str]]
#: From the identity of a run, its arm and its measurements to its readouts: (name in the book, scores per class).
Readouts = Callable[[Mapping[str, Any], str, Mapping[str, Any]], Iterable[tuple[str, Mapping[str, Any]]]]
#: From a readout, its scores and the run's measurements to numbers by metric.
Values = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Mapping[str, float]]


def records_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per record: key, config (a `RunConfig`), each of its fields, and measurements (a dict)."""
    rows = [
        (record.key, config := record.run_config(), *config.to_dict().values(), record.measurements)
        for record in records
    ]
    # as objects, for beside a None a whole number would become a float, and the None a NaN
    return pd.DataFrame(rows, columns=["key", "config", *_FIELDS, "measurements"], dtype=object)


def identified(
    records: pd.DataFrame, describe: Describe
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Yield (the columns of `IDENTITY`, the arm, the measurements) for every row of `records_frame`."""
    for row in records.to_dict("records"):
        told: dict[Any, Any] = {**row, **describe(row["config"])}
        yield {name: told[name] for name in IDENTITY}, told["arm"], told["measurements"]


def epoch_frame(records: pd.DataFrame, describe: Describe) -> pd.DataFrame:
    """Return every run's history: the columns of `IDENTITY`, readout (the arm), epoch (from 1), metric and value."""
    rows = []
    for config, (identity, arm, measured) in zip(
        records.get("config", ()), identified(records, describe), strict=True
    ):
        scored = scored_epochs(config.epochs, config.score_every)
        for metric, values in measured["history"].items():
            # what every epoch has counts from 1; what is scored less often has the epochs of its scores
            epochs = scored if len(values) == len(scored) else range(1, len(values) + 1)
            pairs = zip(epochs, values, strict=True)
            rows += [(*identity.values(), arm, epoch, metric, value) for epoch, value in pairs]
    return pd.DataFrame(rows, columns=[*IDENTITY, "readout", "epoch", "metric", "value"])


def score_frame(
    records: pd.DataFrame, describe: Describe, readouts: Readouts, values: Values
) -> pd.DataFrame:
    """Return the scores of every readout of a study: the columns of `IDENTITY`, readout, metric and value."""
    rows = [
        (*identity.values(), readout, metric, float(value))
        for identity, arm, measured in identified(records, describe)
        for readout, scores in readouts(identity, arm, measured)
        for metric, value in values(readout, scores, measured).items()
    ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "readout", "metric", "value"])


def label_frame(records: pd.DataFrame, describe: Describe, readouts: Readouts) -> pd.DataFrame:
    """Return the recall of every label: the columns of `IDENTITY`, readout, label, train_count and recall."""
    rows = [
        (*identity.values(), readout, label, int(count), recall)
        for identity, arm, measured in identified(records, describe)
        for readout, scores in readouts(identity, arm, measured)
        for label, (count, recall) in enumerate(zip(measured["train_counts"], scores["recall"], strict=True))
    ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "readout", "label", "train_count", "recall"])
