"""Studies: the grid of runs behind each chapter, and what is measured on each run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from imbal_core._checks.names import unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from imbal_book.run.config import RunConfig
    from imbal_book.run.prepared import PreparedRun

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

    def measure(self, prepared: PreparedRun, **options: Any) -> dict[str, Any]:
        """Return the measurements of one run as JSON-able values, after training it.

        The options are device, checkpoint and progress of `imbal_book.run.trained.train_run`.
        """

    def frame(self, records: pd.DataFrame) -> pd.DataFrame:
        """Return the scores of all arms and readouts in long form, with columns readout, metric and value."""


def get_study(name: str) -> Study:
    """Return the module of a study; a ValueError names the nearest ones where there is none."""
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return cast(Study, importlib.import_module(f"{__name__}.{name}"))


def build_grid(study: str, profile: str) -> list[RunConfig]:
    """Return every run of a study at one scale; a ValueError names a study or a profile that is unknown."""
    module = get_study(study)
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    return module.grid(profile)
