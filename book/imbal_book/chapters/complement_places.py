"""Where arms are compared: the network, data set and imbalance of a long frame."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from imbal_book.chapters.readings import DATA

__all__ = ["Place", "at"]


class Place(NamedTuple):
    """Where a comparison stands: a network, a data set and an imbalance."""

    form: str
    dataset: str
    imbalance: str

    def title(self, *, network: bool = True) -> str:
        """Return the place in words, such as "CIFAR-10, exponential 100, ResNet-32"."""
        words = f"{DATA.get(self.dataset, self.dataset)}, {self.imbalance}"
        return f"{words}, {self.form}" if network else words


def at(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return the rows of one place."""
    return frame[
        (frame["form"] == place.form)
        & (frame["dataset"] == place.dataset)
        & (frame["imbalance"] == place.imbalance)
    ]
