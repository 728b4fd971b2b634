"""Protocol of the chapter on category centers: what the paper says, and what was done here instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from imbal_book.chapters.category_centers import FORMS
from imbal_book.evidence.papers import Paper
from imbal_book.run.config import RunConfig
from imbal_book.studies.category_centers import form as form_of

__all__ = ["counts_table", "protocol_table"]

_FIELDS = [field.name for field in dataclasses.fields(RunConfig)]
_WHY = {
    "network": "VGG-16 at 224 pixels needs a GPU: profile paper has it, profile laptop a network that two cores train",
    "starting weights": "no ImageNet weights of All-CNN exist (point 5 below)",
    "input": "smaller images, so that a run takes minutes",
    "epochs": "the paper gives no number (point 8 below)",
    "optimizer": "momentum is not given",
    "learning rate": "fine-tuned: the best of five recipes by the validation accuracy of one run (type B, seed 0); "
    "else raised with the shorter training",
    "schedule": "the printed rule grows (point 2 below); a few epochs need no search for a plateau",
    "batch size": "the usual size for the network",
    "weight decay": "the factor is not given",
    "over-sampling": "as many images an epoch as the plain arm, so that both cost the same number of steps",
    "augmentation": "not given; horizontal flips are the least one can do in fine-tuning",
    "seeds": "one number has no spread",
}
_PAPER_ITEM = {
    "network": ("network",),
    "starting weights": ("pretraining",),
    "input": ("input-vgg", "input-allcnn"),
    "optimizer": ("optimizer",),
    "learning rate": ("learning-rate-vgg", "learning-rate-allcnn"),
    "schedule": ("schedule",),
    "batch size": ("batch-vgg", "batch-allcnn"),
    "weight decay": ("penalty",),
    "over-sampling": ("over-sampling",),
}


def protocol_table(paper: Paper, records: pd.DataFrame) -> pd.DataFrame:
    """Return the protocol: what the paper says, what the shown records did in each form, and why.

    Parameters
    ----------
    paper : Paper
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`.
    """
    configs = [  # where nothing was run, the frame has neither rows nor columns
        RunConfig.from_dict({name: row[name] for name in _FIELDS}) for row in records.to_dict("records")
    ]
    columns: dict[str, dict[str, str]] = {}
    for name in FORMS:
        chosen = [config for config in configs if form_of(config) == name]
        if chosen:
            columns[f"here, {name}"] = _described(chosen)
    rows = []
    for item, why in _WHY.items():
        printed = "; ".join(paper.protocol[entry].paper for entry in _PAPER_ITEM.get(item, ()))
        rows.append(
            {
                "item": item,
                "paper": printed or "not given",
                **{column: text[item] for column, text in columns.items()},
                "why": why,
            }
        )
    return pd.DataFrame(rows)


def _described(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the recipe of one form in words; several values of one field stand side by side."""

    def values(text: Callable[[RunConfig], object]) -> str:
        return " or ".join(dict.fromkeys(str(text(config)) for config in configs))

    over = [config for config in configs if config.sampler == "over-sample"]
    pairs = {(config.split_seed, config.train_seed) for config in configs}
    return {
        "network": values(lambda c: c.model.removeprefix("timm:")),
        "starting weights": values(lambda c: "ImageNet" if c.pretrained else "random"),
        "input": values(lambda c: f"{c.image_size} pixels" if c.image_size else "the images' own size"),
        "epochs": values(lambda c: f"{c.epochs}, of the softmax layer alone" if c.frozen else c.epochs),
        "optimizer": values(lambda c: f"SGD, momentum {c.momentum:g}" if c.optimizer == "sgd" else "AdamW"),
        "learning rate": values(lambda c: f"{c.learning_rate:g}"),
        "schedule": values(lambda c: c.schedule),
        "batch size": values(lambda c: c.batch_size),
        "weight decay": values(lambda c: f"{c.weight_decay:g}"),
        "over-sampling": (
            " or ".join(
                dict.fromkeys(
                    "random duplicates up to the largest label"
                    + (", as many images an epoch as the plain arm" if config.epoch_images else "")
                    for config in over
                )
            )
            or "not attempted"
        ),
        "augmentation": values(lambda c: c.augment),
        "seeds": f"{len(pairs)} of split and training",
    }


def counts_table(paper: Paper, drawn: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str) -> pd.DataFrame:
    """Return a table of class counts, the paper's beside those of the splits that are drawn here.

    Parameters
    ----------
    paper : Paper
    drawn : mapping of str to (train_counts, valid_counts)
        By type, as :func:`imbal_core.data.class_counts.zhang_counts` returns them.
    name : {"I", "II"}

    Returns
    -------
    DataFrame
        A row per label or range of labels: for each type the paper's training + validation images, and what
        differs here.
    """
    printed = paper.tables[name]
    place = {column: index for index, column in enumerate(printed.columns)}
    rows = []
    for values in printed.rows:
        first, last = values[place["first_label"]], values[place["last_label"]]
        row = {"label": str(first) if first == last else f"{first} to {last}"}
        others = []
        for kind, (train, valid) in drawn.items():
            printed_pair = (values[place[f"{kind}_train"]], values[place[f"{kind}_valid"]])
            row[f"type {kind}"] = _plus(printed_pair)
            ours = zip(train[first : last + 1], valid[first : last + 1], strict=True)
            others += [f"type {kind} {_plus(pair)}" for pair in dict.fromkeys(ours) if pair != printed_pair]
        row["here"] = "; ".join(others) or "the same"
        rows.append(row)
    return pd.DataFrame(rows)


def _plus(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} + {pair[1]:,}"
