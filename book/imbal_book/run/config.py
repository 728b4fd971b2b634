"""What fully describes one run: a recipe, and which run of which study it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from imbal_core._checks.fields import allowed
from imbal_core.training.recipe import Recipe

#: Pattern: not one of the names that Windows keeps for devices, whatever follows a dot.
NO_DEVICE = r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))"
#: What a study and a profile may be called, since they name folders, on Windows too.
FOLDER_NAME = re.compile(NO_DEVICE + "[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Recipe):
    """Everything that decides what one run does, apart from the pixels and the machine.

    Parameters
    ----------
    study, profile : str
        The chapter and the scale that the run belongs to; both name folders of the record store.
    dataset, imbalance, model : str
        Names that `load_dataset`, `counts_from_name` and `build_model` understand.
    imbalance_scale : float, default=1.0
        Factor on the class counts.
    split_seed : int, default=0
        Which images are drawn.
    split_groups : bool, default=False
        Keep the images of one group (a leaf, a patient) on one side of the split.
    valid_share : float, default=0.0
        Validation images of each class, as a share of its training images and in addition to them, for an
        imbalance that sets none aside.
    **recipe
        The fields of `imbal_core.training.recipe.Recipe`.

    Raises
    ------
    ValueError, TypeError
        As a recipe does.

    Examples
    --------
    >>> config = RunConfig(
    ...     study="demo", profile="smoke", dataset="mnist5k", imbalance="step-10", model="small_cnn", epochs=3
    ... )
    >>> config.canonical()
    '{"dataset":"mnist5k","epochs":3,"imbalance":"step-10","model":"small_cnn","profile":"smoke","study":"demo"}'
    """

    study: str
    profile: str
    dataset: str
    imbalance: str
    model: str = field()
    imbalance_scale: float = field(default=1.0, metadata=allowed("(0, inf)"))
    split_seed: int = 0
    split_groups: bool = False
    valid_share: float = field(default=0.0, metadata=allowed("[0, 1)"))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("study", "profile"):
            if not FOLDER_NAME.fullmatch(getattr(self, name)):
                raise ValueError(
                    f"{name} names a folder: letters, digits, '_', '-' and '.' only, neither a dot at its end nor a "
                    f"name that Windows keeps, such as CON; got {getattr(self, name)!r}."
                )

    def label(self) -> str:
        """Return a short description for progress bars and tables of failures."""
        seeds = f"seeds {self.split_seed}/{self.train_seed}"
        return f"{self.dataset} {self.imbalance}, {super().label()}, {seeds}"
