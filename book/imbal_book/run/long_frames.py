"""Records as long frames: one row per run, readout and metric, the form in which claims are judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from imbal_book.run.config import RunConfig
from imbal_core.training.recipe import scored_epochs

__all__ = ["IDENTITY", "Describe", "epoch_frame", "identified"]

#: The columns that say which run a row is of.
IDENTITY = ("key", "profile", "form", "model", "dataset", "imbalance", "split_seed", "train_seed")

#: From a run to what its study calls it: "arm", "form" and "imbalance", the words of the book.
Describe = Callable[[RunConfig], Mapping[str, str]]


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
