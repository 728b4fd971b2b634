"""How a network is trained: `Recipe`, validated when it is built and hashed for the keys of what is trained by it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

from imbal_core._checks.fields import check_switch, check_text, number, whole_number
from imbal_core._checks.names import unknown_name
from imbal_core.losses.modules import build_loss, list_losses, loss_defaults

__all__ = [
    "AUGMENTATIONS",
    "HEAD_STARTS",
    "LOSSES",
    "OPTIMIZERS",
    "PRECISIONS",
    "SAMPLERS",
    "SCHEDULES",
    "Recipe",
    "scored_epochs",
]

#: Every loss that trains a network by itself; the complement entropy is a part of others.
LOSSES = tuple(name for name in list_losses() if name != "complement-entropy")
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine", "step", "one-cycle", "plateau-zhang")
SAMPLERS = ("shuffle", "over-sample", "class-balanced")
AUGMENTATIONS = ("none", "flip", "crop-flip")
PRECISIONS = ("fp32", "bf16")
HEAD_STARTS = ("own", "linear")

_CHOICES = {
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "sampler": SAMPLERS,
    "augment": AUGMENTATIONS,
    "precision": PRECISIONS,
    "head_start": HEAD_STARTS,
}
_SWITCHES = (
    "pretrained",
    "frozen",
    "nesterov",
    "channels_last",
    "compile",
    "final_batch_norm",
    "final_batch_norm_affine",
    "float32_head",
    "fold_batch_norm",
)
# name -> (smallest, optional); the largest that makes sense is the user's affair
_WHOLE = {
    "epochs": (1, False),
    "train_seed": (0, False),
    "warmup_epochs": (0, False),
    "batch_size": (2, False),
    "score_every": (1, False),
    "image_size": (1, True),
    "epoch_images": (2, True),
}
# name -> (lower, lower allowed, upper, upper allowed, optional)
_NUMBERS = {
    "dropout": (0.0, True, 1.0, False, True),
    "learning_rate": (0.0, False, math.inf, False, False),
    "momentum": (0.0, True, 1.0, False, False),
    "weight_decay": (0.0, True, math.inf, False, False),
    "decay": (0.0, False, 1.0, False, False),
    "final_batch_norm_momentum": (0.0, False, 1.0, True, False),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a network is trained, apart from the images and the machine.

    An option that the training would silently ignore is refused, so two recipes that differ are two different
    trainings. The defaults never change: the keys of committed records depend on them.

    Parameters
    ----------
    epochs : int
        Passes over the sampler's epoch.
    model : str, optional
        A name that `imbal_core.build_model` understands; `fit`, which is given a network, does not read it.
    train_seed : int, default=0
        Weights, order, augmentation and dropout.
    pretrained : bool, default=False
        Start from ImageNet weights.
    frozen : bool, default=False
        Train a softmax head on fixed features of the pretrained network.
    image_size : int, optional
        Side in pixels at which the network sees images; None is the model's own.
    dropout : float, optional
        Dropout probability; None is the model's own.
    loss : str, default="cross-entropy"
        A name of `LOSSES`; the mean over the batch. The class counts are those of the training images.
    loss_options : mapping of str to number, str or None, default={}
        Options of that loss, such as ``{"form": "released"}`` for "cce" or ``{"reweight_from": 160}`` for
        "ldam". An option at the loss's own default is left out, so that equal runs share one digest.
    optimizer : {"sgd", "adamw"}, default="sgd"
        SGD adds ``weight_decay`` as an L2 penalty, AdamW decouples it.
    learning_rate : float, default=0.1
        Its largest value during the run.
    momentum : float, default=0.9
        SGD's momentum; AdamW's first beta (the second is 0.999).
    nesterov : bool, default=False
        Only for SGD with momentum.
    weight_decay : float, default=5e-4
        On every trained parameter.
    schedule : {"cosine", "constant", "step", "one-cycle", "plateau-zhang"}, default="cosine"
        See `imbal_core.training.schedules.learning_rate`.
    milestones : tuple of int, default=()
        Finished epochs after which ``schedule="step"`` multiplies the rate by ``decay``.
    decay : float, default=0.1
        Factor at each milestone.
    warmup_epochs : int, default=0
        Epochs in which the rate rises linearly, step by step.
    batch_size : int, default=128
        Images per step.
    sampler : {"shuffle", "over-sample", "class-balanced"}, default="shuffle"
        See `imbal_core.training.schedules.epoch_indices`.
    epoch_images : int, optional
        Images drawn per epoch; None is the sampler's whole epoch.
    augment : {"none", "flip", "crop-flip"}, default="none"
        See `imbal_core.training.schedules.augment_batch`.
    precision : {"fp32", "bf16"}, default="fp32"
        bf16 is autocast for the network; the loss and the weights stay in float32.
    channels_last : bool, default=True
        Memory layout of images and convolution weights. The result differs by rounding only.
    compile : bool, default=False
        Pass the training forward through `torch.compile`.
    final_batch_norm : bool, default=False
        Normalise the logits over the batch: `imbal_core.models.heads.add_final_batch_norm`.
    final_batch_norm_momentum : float, default=0.01
        Weight of a batch in that layer's running statistics.
    final_batch_norm_affine : bool, default=True
        Let that layer learn a scale and a shift for each class.
    head_start : {"own", "linear"}, default="own"
        How the weights of the last linear layer start: as the architecture's library draws them, or as
        `torch.nn.Linear` does. For two classes timm's own start has 25 times that deviation.
    float32_head : bool, default=False
        Under bf16 compute the last linear layer in float32, so that logits do not tie by rounding.
    score_every : int, default=1
        Epochs from one scoring of the study's images (the test images, as a rule) to the next; the last epoch is
        always scored. Scores decide nothing.
    fold_batch_norm : bool, default=False
        Fold the batch normalisations of a pretrained network into its convolutions: the same function at the
        start, and no normalisation inside.

    Raises
    ------
    ValueError
        A value out of range, an unknown name (the nearest valid one is given), or an option that the
        other options would make idle.
    TypeError
        A value of the wrong type.

    Examples
    --------
    >>> Recipe(epochs=3, loss="cce", loss_options={"form": "released"}).canonical()
    '{"epochs":3,"loss":"cce","loss_options":{"form":"released"}}'
    """

    epochs: int
    model: str | None = None
    train_seed: int = 0
    pretrained: bool = False
    frozen: bool = False
    image_size: int | None = None
    dropout: float | None = None
    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    warmup_epochs: int = 0
    batch_size: int = 128
    sampler: str = "shuffle"
    epoch_images: int | None = None
    augment: str = "none"
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    loss_options: tuple[tuple[str, float | str | None], ...] = ()
    final_batch_norm: bool = False
    final_batch_norm_momentum: float = 0.01
    final_batch_norm_affine: bool = True
    head_start: str = "own"
    float32_head: bool = False
    score_every: int = 1
    fold_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.model is not None:
            check_text("model", self.model)
        for name in _SWITCHES:
            check_switch(name, getattr(self, name))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)
        for name, (smallest, optional) in _WHOLE.items():
            self._set(name, whole_number(name, getattr(self, name), smallest, optional))
        for name, bounds in _NUMBERS.items():
            self._set(name, number(name, getattr(self, name), *bounds))
        self._check_milestones()
        self._check_loss_options()
        self._refuse_idle_options()

    def _set(self, name: str, value: object) -> None:
        # One form per value (1 and 1.0, a NumPy scalar, a list) so that equal runs share one digest.
        object.__setattr__(self, name, value)

    def _check_milestones(self) -> None:
        if isinstance(self.milestones, str) or not hasattr(self.milestones, "__iter__"):
            raise TypeError(f"milestones must be a sequence of epochs, got {self.milestones!r}.")
        for milestone in self.milestones:
            whole_number("milestones", milestone, 1, False)
        milestones = tuple(int(milestone) for milestone in self.milestones)
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"milestones must increase, got {milestones}.")
        if milestones and milestones[-1] >= self.epochs:
            raise ValueError(
                f"milestone {milestones[-1]} is never reached in {self.epochs} epochs: "
                f"each must be below epochs."
            )
        self._set("milestones", milestones)

    def _check_loss_options(self) -> None:
        try:
            options = dict(self.loss_options)
        except (TypeError, ValueError):
            raise TypeError(
                f"loss_options must map option names to values, got {self.loss_options!r}."
            ) from None
        for name, value in options.items():
            if not isinstance(name, str) or not isinstance(value, str | Real | None):
                raise TypeError(f"loss_options[{name!r}] must be a number, a string or None, got {value!r}.")
        if "reduction" in options:
            raise ValueError("loss_options: reduction is always the mean over the batch.")
        build_loss(self.loss, class_counts=(2, 1), **options)
        defaults = loss_defaults(self.loss)
        plain = {
            name: float(value) if isinstance(defaults[name], float) and isinstance(value, Real) else value
            for name, value in options.items()
        }
        changed = sorted((name, value) for name, value in plain.items() if value != defaults[name])
        self._set("loss_options", tuple(changed))

    def _refuse_idle_options(self) -> None:
        idle = {
            "milestones: only schedule='step' reads them": self.milestones and self.schedule != "step",
            "decay: only schedule='step' reads it": self.decay != 0.1 and self.schedule != "step",
            "schedule='step' without milestones never steps: give milestones or use 'constant'": (
                self.schedule == "step" and not self.milestones
            ),
            "warmup_epochs: schedule='one-cycle' warms up by itself": (
                self.warmup_epochs and self.schedule == "one-cycle"
            ),
            f"warmup_epochs={self.warmup_epochs} fills all {self.epochs} epochs": (
                self.warmup_epochs >= self.epochs
            ),
            "nesterov: only optimizer='sgd' with momentum > 0 has it": (
                self.nesterov and (self.optimizer != "sgd" or self.momentum == 0)
            ),
            "frozen: features of a network without pretrained=True would be random": (
                self.frozen and not self.pretrained
            ),
            f"augment={self.augment!r}: frozen features are computed once, from unchanged images": (
                self.frozen and self.augment != "none"
            ),
            "dropout: a frozen network computes its features without it": (
                self.frozen and self.dropout is not None
            ),
            "head_start: a classifier of frozen features starts as torch.nn.Linear does anyway": (
                self.frozen and self.head_start != "own"
            ),
            f"head_start: loss={self.loss!r} has a cosine classifier with a start of its own": (
                self.head_start != "own"
                and build_loss(self.loss, class_counts=(2, 1), **dict(self.loss_options)).needs_normed_head
            ),
            "float32_head: precision='fp32' and frozen features compute every layer in float32": (
                self.float32_head and (self.precision == "fp32" or self.frozen)
            ),
            f"score_every={self.score_every} is more than all {self.epochs} epochs": (
                self.score_every > self.epochs
            ),
            "fold_batch_norm: statistics of a network without pretrained=True would be arbitrary": (
                self.fold_batch_norm and not self.pretrained
            ),
            "fold_batch_norm: frozen features are the same with and without": (
                self.fold_batch_norm and self.frozen
            ),
            "final_batch_norm_momentum and final_batch_norm_affine: only final_batch_norm=True has them": (
                not self.final_batch_norm
                and (self.final_batch_norm_momentum != 0.01 or not self.final_batch_norm_affine)
            ),
            f"loss_options: training ends after {self.epochs} epochs, before 'reweight_from'": any(
                name == "reweight_from" and isinstance(epoch, int) and epoch >= self.epochs
                for name, epoch in self.loss_options
            ),
        }
        for reason, found in idle.items():
            if found:
                raise ValueError(f"Options that contradict each other: {reason}.")

    def to_dict(self) -> dict[str, Any]:
        """Return every field, in JSON's types."""
        return {f.name: _plain(f.name, getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the recipe with the given fields; absent ones take their default.

        Raises
        ------
        ValueError
            An unknown field (the nearest valid name is given) or a required one that is absent.
        """
        fields = dataclasses.fields(cls)
        for name in values:
            if name not in {f.name for f in fields}:
                raise unknown_name(f"field of {cls.__name__}", name, [f.name for f in fields])
        missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in values]
        if missing:
            raise ValueError(f"{cls.__name__} needs {', '.join(missing)} as well.")
        return cls(**values)

    def canonical(self) -> str:
        """Return the fields that differ from their default as JSON, sorted, without spaces.

        A field added later with a default does not appear, so older records keep their keys.
        """
        changed = {
            f.name: _plain(f.name, getattr(self, f.name))
            for f in dataclasses.fields(self)
            if f.default is dataclasses.MISSING or getattr(self, f.name) != f.default
        }
        return json.dumps(changed, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of `canonical`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def label(self) -> str:
        """Return a short description for progress bars and tables of failures."""
        form = "frozen" if self.frozen else "fine-tuned" if self.pretrained else "from scratch"
        remedies = [
            "" if self.loss == "cross-entropy" else self.loss,
            *(f"{name} {value}" for name, value in self.loss_options),
            "final batch norm" if self.final_batch_norm else "",
            f"{self.head_start} head" if self.head_start != "own" else "",
            "batch norms folded" if self.fold_batch_norm else "",
            self.sampler,
        ]
        return f"{self.model or 'network'} {form}, {' '.join(filter(None, remedies))}"


def scored_epochs(epochs: int, score_every: int) -> list[int]:
    """Return the epochs, counted from 1, after which a study's images are scored: the last one always."""
    return [epoch for epoch in range(1, epochs + 1) if epoch % score_every == 0 or epoch == epochs]


def _plain(name: str, value: Any) -> Any:
    if name == "loss_options":
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
