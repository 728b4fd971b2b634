"""What each loss may be asked for, its options with defaults and checks: data, which is read without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any

from imbal_core._checks.fields import checked_number
from imbal_core._checks.names import unknown_name

REDUCTIONS = ("mean", "sum", "none")
FORMS = ("paper", "released")

#: Name of an option -> its default, and the check that gives its value.
Options = Mapping[str, tuple[Any, Callable[[str, Any], Any]]]


@dataclass(frozen=True)
class Declared:
    """Options of one loss: what its function takes, what its weights follow from too; and if it is of cosines."""

    options: Options = field(default_factory=dict)
    of_counts: Options = field(default_factory=dict)
    cosines: bool = False

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option's value, its default where none is given."""
        known: Options = {**self.options, **self.of_counts, **_REDUCTION}
        return {name: check(name, given.get(name, default)) for name, (default, check) in known.items()}


def _name(valid: tuple[str, ...], option: str, value: Any) -> str:
    if value not in valid:
        raise unknown_name(option, value, valid)
    return value


def _factors(option: str, value: Any) -> float | tuple[float, ...]:
    one = isinstance(value, Real)
    return _at_least_0(option, value) if one else tuple(_at_least_0(option, each) for each in value)


def _epoch_or_never(option: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{option} must be an epoch, 0 or later, or None (never), got {value!r}.")
    return value


_at_least_0 = partial(checked_number, interval="[0, inf)")
_above_0 = partial(checked_number, interval="(0, inf)")
_fraction = partial(checked_number, interval="[0, 1)")
_FORM: Options = {"form": ("paper", partial(_name, FORMS))}
_REDUCTION: Options = {"reduction": ("mean", partial(_name, REDUCTIONS))}
_BETA: Options = {"beta": (0.9999, _fraction)}

#: Every loss; the complement objective is a part of "cot" and has no name that is listed.
DECLARED: dict[str, Declared] = {
    "cross-entropy": Declared(),
    "inverse-frequency": Declared(),
    "focal": Declared({"gamma": (2.0, _at_least_0), "alpha": (0.25, _factors)}),
    "class-balanced": Declared(of_counts={**_BETA, "reweight_from": (0, _epoch_or_never)}),
    "ldam": Declared(
        {"scale": (30.0, _above_0)},
        {**_BETA, "reweight_from": (None, _epoch_or_never), "max_margin": (0.5, _above_0)},
        cosines=True,
    ),
    "complement-entropy": Declared(),
    "cot": Declared(of_counts=_FORM),
    "complement-objective": Declared(_FORM),
    "cce": Declared({**_FORM, "gamma": (-1.0, partial(checked_number, interval="(-inf, inf)"))}),
    "balanced-softmax": Declared(),
    "logit-adjustment": Declared({"tau": (1.0, _at_least_0)}),
    "label-smoothing": Declared({"smoothing": (0.1, _fraction)}),
    "asl": Declared(
        {"gamma_pos": (0.0, _at_least_0), "gamma_neg": (4.0, _at_least_0), "smoothing": (0.1, _fraction)}
    ),
}


def list_losses() -> list[str]:
    """Return the names that `build_loss` knows.

    Examples
    --------
    >>> list_losses()[:3]
    ['cross-entropy', 'inverse-frequency', 'focal']
    """
    return [name for name in DECLARED if name != "complement-objective"]


def checked_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option's value, or its default; ValueError if a name is unknown or a value is out of range."""
    if name not in list_losses():
        raise unknown_name("loss", name, list_losses())
    known = [*DECLARED[name].options, *DECLARED[name].of_counts, *_REDUCTION]
    if unknown := [option for option in given if option not in known]:
        raise unknown_name(f"option of loss {name!r}", unknown[0], known)
    return DECLARED[name].checked(given)
