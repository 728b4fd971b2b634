"""The protocol of the chapter on complement cross entropy: the paper's beside ours, and why they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from imbal_book.chapters.complement_places import DATA, FORMS
from imbal_book.evidence.papers import Paper
from imbal_book.run.config import RunConfig
from imbal_book.studies.complement_cross_entropy import NETWORKS
from imbal_core.losses.modules import loss_defaults

__all__ = ["protocol_table"]

_WHY = {
    "loss": "both forms are arms: which of them was run for the paper is not known (point 1 below)",
    "data sets": "the two data sets for which other published numbers exist",
    "imbalance": "ratio 50 for the published numbers of others; here a draw for each seed (point 4 below)",
    "network": "ResNet-34 needs a GPU, as ResNet-32 does; the small network is what two cores train",
    "epochs": "profile laptop is short, for two cores",
    "optimizer": "as the paper's code",
    "learning rate": "as the paper's code; a shorter warm-up for fewer epochs",
    "schedule": "two codes, two schedules; that of LDAM's repository for 200 epochs (point 5 below)",
    "batch size": "as the paper's code",
    "weight decay": "two codes, two values (point 5 below)",
    "augmentation": "as the paper's code",
    "images for validation": "they choose the tau of tau-normalisation, and nothing else",
    "focal loss": "as the paper's code",
    "COT": "as the paper of COT says (point 7 below)",
    "selection": "an epoch chosen on test images is no result (point 9 below)",
    "seeds": "one number has no spread",
    "runs": "the protocol is fixed before a run is recorded",
}
_PAPER_ITEM = {
    "loss": ("loss", "gamma", "normaliser", "updates"),
    "data sets": ("datasets-v1", "datasets-code", "datasets-printed"),
    "imbalance": ("exponential", "step", "ratios", "kept"),
    "network": ("networks",),
    "epochs": ("epochs",),
    "optimizer": ("optimizer",),
    "learning rate": ("learning-rate",),
    "schedule": ("schedule",),
    "batch size": ("batch",),
    "weight decay": ("weight-decay",),
    "augmentation": ("augmentation", "normalization"),
    "focal loss": ("focal",),
    "COT": ("cot",),
    "selection": ("selection", "measure"),
    "seeds": ("seeds",),
}


def protocol_table(paper: Paper, configs: Iterable[RunConfig], frame: pd.DataFrame) -> pd.DataFrame:
    """Return the protocol: what the paper says, what each network does here, and why they differ.

    Parameters
    ----------
    paper : Paper
    configs : iterable of RunConfig
        Of the grids of the shown profiles: the protocol is fixed before a run is recorded.
    frame : DataFrame
        Says how many of the runs are recorded.
    """
    by_form: dict[str, list[RunConfig]] = {name: [] for name in FORMS}
    for config in configs:
        by_form[NETWORKS[config.model]].append(config)
    recorded = frame.groupby("form")["key"].nunique()
    columns = {
        f"here, {form}": {
            **_described(chosen),
            "runs": f"{recorded.get(form, 0):,} recorded of {len(chosen):,} planned",
        }
        for form, chosen in by_form.items()
        if chosen
    }
    rows = []
    for item, why in _WHY.items():
        entries = [paper.protocol[entry] for entry in _PAPER_ITEM.get(item, ())]
        several = len(entries) > 1
        printed = "; ".join(f"{entry.item}: {entry.text()}" if several else entry.text() for entry in entries)
        here = {column: text[item] for column, text in columns.items()}
        rows.append({"item": item, "paper": printed or "not given", **here, "why": why})
    return pd.DataFrame(rows)


def _described(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the recipe of one network in words; several values of one field stand side by side."""

    def values(text: Callable[[RunConfig], Any]) -> str:
        return " or ".join(dict.fromkeys(str(text(config)) for config in configs))

    focal = loss_defaults("focal")
    draws = {config.split_seed for config in configs}
    pairs = {(config.split_seed, config.train_seed) for config in configs}
    return {
        "loss": "CE, CE - C / (K - 1) and CE + C / K, beside the other arms",
        "data sets": values(lambda c: DATA.get(c.dataset, c.dataset)),
        "imbalance": values(
            lambda c: (
                c.imbalance.replace("-", " ")
                + (f" at {100 * c.imbalance_scale:g} % of the images" if c.imbalance_scale != 1 else "")
            )
        ),
        "network": values(lambda c: c.model),
        "epochs": values(lambda c: c.epochs),
        "optimizer": values(
            lambda c: f"SGD, momentum {c.momentum:g}" if c.optimizer == "sgd" else c.optimizer
        ),
        "learning rate": values(lambda c: f"{c.learning_rate:g}, warm-up of {c.warmup_epochs} epochs"),
        "schedule": values(_schedule),
        "batch size": values(lambda c: c.batch_size),
        "weight decay": values(lambda c: f"{c.weight_decay:g}"),
        "augmentation": values(lambda c: c.augment),
        "images for validation": values(lambda c: f"{100 * c.valid_share:g} %" if c.valid_share else "none"),
        "focal loss": f"gamma {focal['gamma']:g}, alpha {focal['alpha']:g} for every class",
        "COT": "two steps per batch, each with its own forward pass",
        "selection": "the last epoch",
        "seeds": f"{len(pairs)} pairs of split and training, {len(draws)} draws of the split",
    }


def _schedule(config: RunConfig) -> str:
    if config.schedule != "step":
        return str(config.schedule)
    return f"x {config.decay:g} at epochs {', '.join(map(str, config.milestones))}"
