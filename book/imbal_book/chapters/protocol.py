"""What a paper says beside what is done here: its protocol, its class counts, and its cells that are recalled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.chapters.readings import DATA
from imbal_book.evidence.papers import Paper
from imbal_book.run.config import RunConfig
from imbal_book.studies.grids import cnn_fragility, final_batch_norm
from imbal_core._checks.names import unknown_name
from imbal_core.data.plantvillage import TEST_PER_CLASS
from imbal_core.losses.options import checked_options


def _distinct(texts: Iterable[object], between: str = " or ") -> str:
    return between.join(dict.fromkeys(str(text) for text in texts))


def _schedule(config: RunConfig) -> str:
    if config.schedule != "step":
        return str(config.schedule)
    return f"x {config.decay:g} at epochs {', '.join(map(str, config.milestones))}"


def _imbalance(config: RunConfig) -> str:
    scale = config.imbalance_scale
    part = f" at {100 * scale:g} % of the images" if scale != 1 else ""
    return config.imbalance.replace("-", " ") + part


def _over_sampling(config: RunConfig) -> str:
    as_long = ", as many images an epoch as the plain arm" if config.epoch_images else ""
    return f"random duplicates up to the largest label{as_long}" if config.sampler == "over-sample" else ""


def _final_layer(config: RunConfig) -> str:
    affine = "affine" if config.final_batch_norm_affine else "without scale and shift"
    on_logits = f"on the logits, momentum {config.final_batch_norm_momentum:g}, {affine}"
    return on_logits if config.final_batch_norm else ""


def _plants(configs: Iterable[RunConfig]) -> str:
    return _distinct((config.dataset.removeprefix("plantvillage-") for config in configs), ", ")


def _split(configs: Sequence[RunConfig]) -> str:
    by_leaf = _plants(config for config in configs if config.split_groups)
    return f"at random; of {by_leaf} also by leaf" if by_leaf else "at random"


#: A word of a row -> what it says of one run; "" of a run that it does not concern.
_WORDS: dict[str, Callable[[RunConfig], Any]] = {
    "augmentation": lambda c: "horizontal flips" if c.augment == "flip" else c.augment,
    "counts": lambda c: [f"{int(number):,}" for number in c.imbalance.split("-")[1:]],
    "data_set": lambda c: DATA.get(c.dataset, c.dataset),
    "epochs": lambda c: f"{c.epochs}, of the softmax layer alone" if c.frozen else c.epochs,
    "final_layer": _final_layer,
    "imbalance": _imbalance,
    "input": lambda c: f"{c.image_size} pixels" if c.image_size else "the images' own size",
    "network": lambda c: c.model.removeprefix("timm:"),
    "network_name": lambda c: final_batch_norm.NETWORKS[c.model],
    "optimizer": lambda c: f"SGD, momentum {c.momentum:g}" if c.optimizer == "sgd" else "AdamW",
    "over_sampling": _over_sampling,
    "schedule": _schedule,
    "validation": lambda c: f"{100 * c.valid_share:g} %" if c.valid_share else "none",
    "weights": lambda c: "ImageNet" if c.pretrained else "random",
}
#: A word of a row -> what it says of all runs of a column.
_WORDS_OF_ALL: dict[str, Callable[[Sequence[RunConfig]], Any]] = {
    "cells": lambda runs: _distinct(
        (
            f"{c.dataset}: {cnn_fragility.cell(c)[1]}, {size}"
            for c in runs
            if (size := cnn_fragility.scale(c))
        ),
        "; ",
    ),
    "draws": lambda runs: len({c.split_seed for c in runs}),
    "pairs": lambda runs: len({(c.split_seed, c.train_seed) for c in runs}),
    "planned": len,
    "plants": _plants,
    "split": _split,
}
_CONSTANTS = {
    "test_per_class": TEST_PER_CLASS,
    **{name: checked_options(name, {}) for name in ("asl", "focal")},
}
_FIELDS = [field.name for field in dataclasses.fields(RunConfig)]


class _Words(dict[str, Any]):
    """The words about the runs of a column, made when a row asks: those about all of them once, others for each."""

    def __init__(self, runs: Sequence[RunConfig], recorded: int) -> None:
        super().__init__(_CONSTANTS, recorded=recorded)
        self.runs = runs

    def fill(self, text: str) -> Iterator[str]:
        """Yield the text with its words for each of the runs."""
        for config in self.runs:
            self.config = config
            yield text.format_map(self)

    def __missing__(self, name: str) -> Any:
        if name in _WORDS_OF_ALL:
            return self.setdefault(name, _WORDS_OF_ALL[name](self.runs))
        if name in _WORDS:
            return _WORDS[name](self.config)
        if name in _FIELDS:
            return getattr(self.config, name)
        raise unknown_name("word of a protocol", name, [*self, *_WORDS_OF_ALL, *_WORDS, *_FIELDS])


def protocol_table(
    paper: Paper,
    configs: Iterable[RunConfig],
    column: Callable[[RunConfig], str],
    recorded: Iterable[RunConfig] = (),
) -> pd.DataFrame:
    """Return the protocol: what the paper says with how sure that is, what is done here, and why.

    The paper's `here` gives the rows, the runs planned or recorded (``configs``) what is done, several values of one
    thing side by side. ``column`` names a run's column, such as its network; the paper's forms come first. ``recorded``
    serves a row that says how many of the runs are recorded.

    Raises
    ------
    ValueError
        When a row has a word that neither a run nor the tables of this module know.
    """
    runs: dict[str, list[RunConfig]] = {name: [] for name in paper.forms}
    for config in configs:
        runs.setdefault(column(config), []).append(config)
    done = [column(config) for config in recorded]
    words = {name: _Words(chosen, done.count(name)) for name, chosen in runs.items() if chosen}
    rows = []
    for row in paper.here:
        entries = [paper.protocol[name] for name in row.paper]
        names = [f"{entry.item}: " if len(entries) > 1 else "" for entry in entries]
        said = "; ".join(name + entry.text() for name, entry in zip(names, entries, strict=True))
        here = {
            f"here, {name}": _distinct(filter(None, of_runs.fill(row.done))) or "not attempted"
            for name, of_runs in words.items()
        }
        rows.append({"item": row.item, "paper": said or "not given", **here, "why": row.why})
    return pd.DataFrame(rows)


def counts_table(paper: Paper, drawn: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str) -> pd.DataFrame:
    """Return the paper's class counts, training + validation images, and where those that are drawn here differ.

    ``drawn`` has by type what :func:`imbal_core.data.class_counts.zhang_counts` returns; ``name`` is that of the
    paper's table, "I" or "II", of which a row stands for a label or a range of labels.
    """
    rows = []
    for printed in paper.tables[name].frame().to_dict("records"):
        first, last = printed["first_label"], printed["last_label"]
        row, others = {"label": _distinct([first, last], " to ")}, []
        for kind, counts in drawn.items():
            row[f"type {kind}"] = "{:,} + {:,}".format(
                *(printed[f"{kind}_{side}"] for side in ("train", "valid"))
            )
            ours = zip(*(side[first : last + 1] for side in counts), strict=True)
            found = dict.fromkeys("{:,} + {:,}".format(*pair) for pair in ours)
            others += [f"type {kind} {pair}" for pair in found if pair != row[f"type {kind}"]]
        rows.append({**row, "here": "; ".join(others) or "the same"})
    return pd.DataFrame(rows)


def recalled_table(paper: Paper) -> pd.DataFrame:
    """Return the paper's cells that are recalled, every number with its label, and those that could not be read."""
    apple = paper.tables["apple"]
    recalled = apple.labelled(".2f").rename(columns={"unhealthy": "F1, unhealthy", "healthy": "F1, healthy"})
    recalled.insert(0, "cell", "apple, VGG19")
    other = [
        {"cell": row["cell"], "arm": "all", "F1, unhealthy": row["plain"], "F1, healthy": row["plain"]}
        for row in paper.tables["other cells"].labelled().to_dict("records")
    ]
    return pd.concat([recalled, pd.DataFrame(other)], ignore_index=True)
