"""Studies: what is measured on each run behind a chapter; which runs these are is in `imbal_book.studies.grids`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from imbal_core._checks.names import unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from imbal_book.run.config import RunConfig
    from imbal_book.run.prepared import PreparedRun

#: Every study: a module of this package, and one of the grids.
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

    def measure(self, prepared: PreparedRun, **options: Any) -> dict[str, Any]:
        """Return the measurements of one run as JSON-able values, after training it.

        The options are device, checkpoint and progress of `imbal_book.run.trained.train_run`.
        """

    def frame(self, records: pd.DataFrame) -> pd.DataFrame:
        """Return the scores of all arms and readouts in long form, with columns readout, metric and value."""


def known_study(name: str) -> str:
    """Return the name of a study; a ValueError names the nearest ones where there is none."""
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return name


def get_study(name: str) -> Study:
    """Return what measures the runs of a study; ValueError as `known_study`."""
    return cast(Study, importlib.import_module(f"{__name__}.{known_study(name)}"))


def build_grid(study: str, profile: str) -> list[RunConfig]:
    """Return every run of a study at one scale; a ValueError names a study or a profile that is unknown.

    The first are the most wanted. What measures the runs, and PyTorch with it, is not loaded.
    """
    module = importlib.import_module(f"{__name__}.grids.{known_study(study)}")
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    runs: list[RunConfig] = module.grid(profile)
    return runs
