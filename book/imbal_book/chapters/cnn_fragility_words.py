"""The words of the chapter on CNN fragility that come from records and grids: the first lines, and the protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from imbal_book.chapters.cnn_fragility import places
from imbal_book.chapters.complement_places import Place, at
from imbal_book.chapters.readings import contrast, headline, interval_text, level, verdict_line
from imbal_book.evidence.claims import Verdict
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.statistics import Interval
from imbal_book.run.config import RunConfig
from imbal_book.studies.cnn_fragility import NETWORKS, cell
from imbal_core.losses.modules import loss_defaults

__all__ = ["condensed", "findings", "glance", "protocol_table"]

_WHY = {
    "data sets": "scenes6 stands in for Places on two cores: Places and iNaturalist are large downloads",
    "imbalance": "that of Places and iNaturalist could not be read, so CIFAR-10's is taken; small data allow less",
    "balanced training": "as many images in all, so that balance and not number differs",
    "network": "ResNet-20 is what two cores train; all have 64 units before the last layer",
    "cost-sensitive methods": "which two were used could not be read; three candidates cover them",
    "K": "that of the sibling repositories; shares are shown for every K",
    "epochs": "profile laptop is short, for two cores",
    "batch size": "profile laptop has few images, and needs steps",
    "learning rate": "lower for smaller batches",
    "schedule": "profile laptop has too few epochs for steps",
    "weight decay": "as the sibling code",
    "augmentation": "as the sibling code; the experiment has an arm without",
    "selection": "an epoch chosen on test images is no result",
    "seeds": "a draw of the split and a training seed each",
    "runs": "the protocol is fixed before a run is recorded",
}
_PAPER_ITEM = {
    "data sets": ("datasets", "dataset-names", "class-lists"),
    "imbalance": ("cifar", "places-imbalance"),
    "network": ("networks",),
    "cost-sensitive methods": ("methods", "method-names"),
    "epochs": ("epochs",),
    "batch size": ("batch",),
    "learning rate": ("optimizer",),
    "schedule": ("schedule",),
    "augmentation": ("augmentation",),
    "selection": ("selection",),
    "seeds": ("runs",),
}


_NO_RECORD = (
    "No run of this study is recorded yet, so nothing on this page speaks for or against a claim. What the figures "
    "look like, on digits, is under *Run it here*."
)


def glance(found: Sequence[Verdict], frame: pd.DataFrame) -> str:
    """Return the answer of the chapter in a few sentences of Markdown, every number from the records.

    Parameters
    ----------
    found : sequence of Verdict
    frame : DataFrame
        Of `imbal_book.studies.cnn_fragility.frame`.
    """
    lines = []
    for place in places(frame):
        part = at(frame, place)
        share = level(part, "CE imbalanced", "top_k_share")
        missed, right = (_change(part, which) for which in ("false negatives", "true positives"))
        if share.n and missed.n:
            lines.append(
                f"- **{place.title()}** ({share.n} seed{'s' * (share.n > 1)}): the ten largest of all units carry "
                f"{interval_text(share)} % of a class's absolute embedding. From training to test their "
                f"magnitude changes by {interval_text(missed, sign=True)} % in images that are missed, by "
                f"{interval_text(right, sign=True)} % in those that are recognised."
            )
    lines += [_experiment(frame, place) for place in places(frame, "step")]
    lines = [line for line in lines if line] or [_NO_RECORD]
    return "\n".join([*lines, "", verdict_line(found)])


def _change(part: pd.DataFrame, which: str) -> Interval:
    """Return by how much the magnitude of some images changes from training to test: the gap is what it loses."""
    gap = level(part, which, "magnitude_gap")
    return dataclasses.replace(gap, mean=-gap.mean, low=-gap.high, high=-gap.low)


def condensed(found: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts in their order, but one only for a claim that no network was run for."""
    attempted = {verdict.claim for verdict in found if verdict.label != "not attempted"}
    first = headline(found)
    return [verdict for verdict in found if verdict.claim in attempted or verdict is first[verdict.claim]]


def _experiment(frame: pd.DataFrame, place: Place) -> str:
    part = at(frame, place)
    copies, diverse = (level(part, name, "gain_few") for name in ("more copies", "more diverse images"))
    if not copies.n:
        return ""
    return (
        f"- **{place.title()}**: minority recall changes by {interval_text(copies, sign=True)} points when the few "
        f"images are repeated until they are as many as the majority's, and by {interval_text(diverse, sign=True)} "
        "points more when they are distinct instead."
    )


#: What is said beside the claims: the words, and two differences (a, b, metric, factor, digits).
_BESIDE = (
    (
        "Overlap of a class's top 10 with those of other classes (points), imbalanced minus balanced",
        ("CE imbalanced", "CE balanced", "class_overlap", 100, 1),
    ),
    (
        "Effective rank of the minority's test features, imbalanced minus balanced",
        ("CE imbalanced", "CE balanced", "effective_rank_few", 1, 1),
    ),
    (
        "Minority recall (points), LDAM-DRW minus cross entropy",
        ("LDAM-DRW", "CE imbalanced", "recall_few", 100, 1),
    ),
    (
        "Effective rank of the minority's test features, LDAM-DRW minus cross entropy",
        ("LDAM-DRW", "CE imbalanced", "effective_rank_few", 1, 1),
    ),
)


def findings(frame: pd.DataFrame) -> str:
    """Return what the records say beside the claims, as a Markdown list; "" without any record."""
    lines = []
    for words, (a, b, metric, scale, digits) in _BESIDE:
        each = []
        for place in places(frame):
            gain = contrast(at(frame, place), a, b, metric)
            if gain.n:
                text = interval_text(gain, scale=scale, digits=digits, sign=True)
                each.append(f"{place.title()}: {text}")
        if each:
            lines.append(f"- {words}. {'; '.join(each)}.")
    return "\n".join(lines)


def protocol_table(paper: Paper, configs: Iterable[RunConfig], frame: pd.DataFrame) -> pd.DataFrame:
    """Return the protocol: what the paper or its sibling code says, what each network does here, and why.

    Parameters
    ----------
    paper : Paper
    configs : iterable of RunConfig
        Of the grids of the shown profiles.
    frame : DataFrame
        Says how many of the runs are recorded.
    """
    by_form: dict[str, list[RunConfig]] = {}
    for config in configs:
        by_form.setdefault(NETWORKS.get(config.model, config.model), []).append(config)
    recorded = frame.groupby("form")["key"].nunique()
    columns = {
        f"here, {form}": {
            **_described(chosen),
            "runs": f"{recorded.get(form, 0):,} recorded of {len(chosen):,} planned",
        }
        for form, chosen in by_form.items()
    }
    rows = []
    for item, why in _WHY.items():
        printed = "; ".join(paper.protocol[entry].text() for entry in _PAPER_ITEM.get(item, ()))
        here = {column: text[item] for column, text in columns.items()}
        rows.append({"item": item, "paper": printed or "not given", **here, "why": why})
    return pd.DataFrame(rows)


def _described(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the recipe of one network in words; several values of one field stand side by side."""

    def values(text: Callable[[RunConfig], Any]) -> str:
        return " or ".join(dict.fromkeys(str(text(config)) for config in configs))

    asl = loss_defaults("asl")
    imbalances = [f"{config.dataset}: {cell(config)[1]}" for config in configs]
    return {
        "data sets": values(lambda c: c.dataset),
        "imbalance": "; ".join(dict.fromkeys(imbalances)),
        "balanced training": "the same total number of images, to the nearest per class",
        "network": values(lambda c: c.model),
        "cost-sensitive methods": "LDAM (margin 0.5, scale 30) with late weights; focal loss (gamma 2); ASL (gamma "
        f"{asl['gamma_pos']:g} and {asl['gamma_neg']:g}, smoothing {asl['smoothing']:g})",
        "K": "10",
        "epochs": values(lambda c: c.epochs),
        "batch size": values(lambda c: c.batch_size),
        "learning rate": values(
            lambda c: f"SGD, momentum {c.momentum:g}, {c.learning_rate:g} after {c.warmup_epochs} of warm-up"
        ),
        "schedule": values(
            lambda c: (
                f"x {c.decay:g} at epochs {', '.join(map(str, c.milestones))}"
                if c.schedule == "step"
                else c.schedule
            )
        ),
        "weight decay": values(lambda c: f"{c.weight_decay:g}"),
        "augmentation": values(lambda c: c.augment),
        "selection": "the last epoch",
        "seeds": f"{len({(c.split_seed, c.train_seed) for c in configs})} pairs of split and training, "
        f"{len({c.split_seed for c in configs})} draws of the split",
    }
