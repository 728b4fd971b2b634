"""Where arms are compared: the network, data set and imbalance of a long frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from imbal_book.studies.complement_cross_entropy import NETWORKS

__all__ = [
    "DATA",
    "FIRST",
    "FORMS",
    "METRICS",
    "Place",
    "at",
    "nearest",
    "recorded_places",
]

#: The forms of the claims, from the paper's network to the farthest from it.
FORMS = tuple(reversed(NETWORKS.values()))
#: Data set -> how it is called in print.
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist5k": "digits"}
#: What the chapter's first picture compares.
FIRST = ("CE", "CCE (paper)", "CCE (released)")
#: Metric -> (what it is called, factor, unit).
METRICS = {
    "accuracy": ("accuracy", 100, "%"),
    "recall_few": ("minority recall", 100, "%"),
    "recall_many": ("majority recall", 100, "%"),
    "p_true": ("p of the true class", 100, "%"),
    "p_true_few": ("p of the true class, minority", 100, "%"),
    "wrong_class_entropy": ("wrong-class entropy", 1, "nats"),
}


class Place(NamedTuple):
    """Where a comparison stands: a network, a data set and an imbalance."""

    form: str
    dataset: str
    imbalance: str

    def title(self, *, network: bool = True) -> str:
        """Return the place in words, such as "CIFAR-10, exponential 100, ResNet-32"."""
        words = f"{DATA.get(self.dataset, self.dataset)}, {self.imbalance}"
        return f"{words}, {self.form}" if network else words


def recorded_places(frame: pd.DataFrame) -> list[Place]:
    """Return every place that has records: the network nearest to the paper first, the strongest imbalance first.

    Parameters
    ----------
    frame : DataFrame
        With columns form, dataset and imbalance.
    """
    found = {
        Place(*row) for row in frame[["form", "dataset", "imbalance"]].itertuples(index=False, name=None)
    }
    return sorted(found, key=lambda p: (FORMS.index(p.form), len(p.dataset), *_severity(p.imbalance)))


def _severity(imbalance: str) -> tuple[str, int]:
    kind, _, ratio = imbalance.partition(" ")
    return kind, -int(ratio)


def nearest(where: Sequence[Place]) -> list[Place]:
    """Return the places of the first network alone."""
    return [place for place in where if place.form == where[0].form]


def at(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return the rows of one place."""
    return frame[
        (frame["form"] == place.form)
        & (frame["dataset"] == place.dataset)
        & (frame["imbalance"] == place.imbalance)
    ]
