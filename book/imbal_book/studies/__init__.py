"""Studies: the grid of runs behind each chapter, and what is measured on each run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from imbal_core._checks.names import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from imbal_book.run.config import RunConfig
    from imbal_book.run.prepared import PreparedRun
    from imbal_core.training.fit import Progress

__all__ = ["PROFILES", "STUDIES", "Study", "build_grid", "get_study"]

#: Every study: a module of this package.
STUDIES = (
    "category_centers",
    "cnn_fragility",
    "complement_cross_entropy",
    "final_batch_norm",
    "remedies",
)
#: The scales of a study, the smallest first.
PROFILES = ("smoke", "laptop", "paper")


class Study(Protocol):
    """What a module of this package offers."""

    def grid(self, profile: str) -> list[RunConfig]:
        """Return every run of the study at one scale, in the order in which they are worth having."""

    def measure(
        self,
        prepared: PreparedRun,
        *,
        device: torch.device,
        checkpoint: Path | None = None,
        progress: Progress = True,
    ) -> dict[str, Any]:
        """Return the measurements of one run as JSON-able values, after training it."""

    def frame(self, records: pd.DataFrame) -> pd.DataFrame:
        """Return the scores of all arms and readouts in long form, with columns readout, metric and value."""


def get_study(name: str) -> Study:
    """Return the module of a study.

    Raises
    ------
    ValueError
        When there is no such study; the message names the nearest ones.
    """
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return cast(Study, importlib.import_module(f"{__name__}.{name}"))


def build_grid(study: str, profile: str) -> list[RunConfig]:
    """Return every run of a study at one scale.

    Parameters
    ----------
    study : str
        One of :data:`STUDIES`.
    profile : {"smoke", "laptop", "paper"}

    Raises
    ------
    ValueError
        When the study or the profile is unknown.
    """
    module = get_study(study)
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    return module.grid(profile)
