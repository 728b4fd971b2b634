"""How a network is trained: `Recipe`, validated when it is built and hashed for the keys of what is trained by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from numbers import Real
from typing import Any, Self

from imbal_core._checks.fields import allowed, checked_field, whole_number
from imbal_core._checks.names import unknown_name
from imbal_core.losses.options import DECLARED, checked_options, list_losses

#: Every loss that trains a network by itself; the complement entropy is a part of others.
LOSSES = tuple(name for name in list_losses() if name != "complement-entropy")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a network is trained, apart from the images and the machine.

    An option that the training would ignore is refused. Defaults never change: the keys of records depend on them.

    Parameters
    ----------
    epochs : int
        Passes over the sampler's epoch.
    model : str, optional
        A name for `imbal_core.build_model`; `fit`, which is given a network, does not read it.
    train_seed : int, default=0
        Weights, order, augmentation and dropout.
    pretrained, frozen : bool, default=False
        Start from ImageNet weights; and train a softmax head on fixed features of that network.
    image_size, dropout : int, float, optional
        Side in pixels at which the network sees images, and dropout probability; None is the model's own.
    loss : str, default="cross-entropy"
        A name of `LOSSES`; the mean over the batch. The class counts are those of the training images.
    loss_options : mapping of str to number, str or None, default={}
        Options of that loss, such as ``{"form": "released"}`` for "cce" or ``{"reweight_from": 160}`` for
        "ldam". An option at the loss's own default is left out, so that equal runs share one digest.
    optimizer : {"sgd", "adamw"}, default="sgd"
        SGD adds ``weight_decay``, on every trained parameter, as an L2 penalty, AdamW decouples it.
    learning_rate : float, default=0.1
        Its largest value during the run, after ``warmup_epochs`` in which it rises linearly, step by step.
    momentum : float, default=0.9
        SGD's momentum, with ``nesterov`` Nesterov's; AdamW's first beta (the second is 0.999).
    schedule : {"cosine", "constant", "step", "one-cycle", "plateau-zhang"}, default="cosine"
        See `imbal_core.training.schedules.learning_rate`.
    milestones, decay : tuple of int, float, default=(), 0.1
        Finished epochs after which ``schedule="step"`` multiplies the rate, and the factor.
    batch_size : int, default=128
        Images per step.
    sampler : {"shuffle", "over-sample", "class-balanced"}, default="shuffle"
        See `imbal_core.training.schedules.epoch_indices`; it draws ``epoch_images``, None for its whole epoch.
    augment : {"none", "flip", "crop-flip"}, default="none"
        See `imbal_core.training.schedules.augment_batch`.
    precision : {"fp32", "bf16"}, default="fp32"
        bf16 is autocast for the network; the loss and the weights stay in float32.
    channels_last : bool, default=True
        Memory layout of images and convolution weights. The result differs by rounding only.
    compile : bool, default=False
        Pass the training forward through `torch.compile`.
    final_batch_norm : bool, default=False
        Normalise the logits over the batch: `imbal_core.add_final_batch_norm`, which takes
        ``final_batch_norm_momentum`` and ``final_batch_norm_affine`` as its ``momentum`` and ``affine``.
    head_start : {"own", "linear"}, default="own"
        How the weights of the last linear layer start: as the architecture's library draws them, or as
        `torch.nn.Linear` does. For two classes timm's own start has 25 times that deviation.
    float32_head : bool, default=False
        Under bf16 compute the last linear layer in float32, so that logits do not tie by rounding.
    score_every : int, default=1
        Epochs from one call of `fit`'s ``score_epoch`` to the next; the last epoch is always scored.
    fold_batch_norm : bool, default=False
        Fold the batch norms of a pretrained network into its convolutions: at first the same function.

    Raises
    ------
    ValueError, TypeError
        A value out of range or of the wrong type, an unknown name (the nearest valid one is given), or an option
        that the other options would make idle.

    Examples
    --------
    >>> Recipe(epochs=3, loss="cce", loss_options={"form": "released"}).canonical()
    '{"epochs":3,"loss":"cce","loss_options":{"form":"released"}}'
    """

    epochs: int = field(metadata=allowed(1))
    model: str | None = None
    train_seed: int = 0
    pretrained: bool = False
    frozen: bool = False
    image_size: int | None = field(default=None, metadata=allowed(1))
    dropout: float | None = field(default=None, metadata=allowed("[0, 1)"))
    loss: str = field(default="cross-entropy", metadata=allowed(LOSSES))
    optimizer: str = field(default="sgd", metadata=allowed(("sgd", "adamw")))
    learning_rate: float = field(default=0.1, metadata=allowed("(0, inf)"))
    momentum: float = field(default=0.9, metadata=allowed("[0, 1)"))
    nesterov: bool = False
    weight_decay: float = field(default=5e-4, metadata=allowed("[0, inf)"))
    schedule: str = field(
        default="cosine", metadata=allowed(("constant", "cosine", "step", "one-cycle", "plateau-zhang"))
    )
    milestones: tuple[int, ...] = ()
    decay: float = field(default=0.1, metadata=allowed("(0, 1)"))
    warmup_epochs: int = 0
    batch_size: int = field(default=128, metadata=allowed(2))
    sampler: str = field(default="shuffle", metadata=allowed(("shuffle", "over-sample", "class-balanced")))
    epoch_images: int | None = field(default=None, metadata=allowed(2))
    augment: str = field(default="none", metadata=allowed(("none", "flip", "crop-flip")))
    precision: str = field(default="fp32", metadata=allowed(("fp32", "bf16")))
    channels_last: bool = True
    compile: bool = False
    loss_options: tuple[tuple[str, float | str | None], ...] = ()
    final_batch_norm: bool = False
    final_batch_norm_momentum: float = field(default=0.01, metadata=allowed("(0, 1]"))
    final_batch_norm_affine: bool = True
    head_start: str = field(default="own", metadata=allowed(("own", "linear")))
    float32_head: bool = False
    score_every: int = field(default=1, metadata=allowed(1))
    fold_batch_norm: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name not in ("milestones", "loss_options"):
                self._set(item.name, checked_field(item, getattr(self, item.name)))
        self._check_milestones()
        self._check_loss_options()
        self._refuse_idle_options()

    def _set(self, name: str, value: object) -> None:
        # One form per value (1 and 1.0, a NumPy scalar, a list) so that equal runs share one digest.
        object.__setattr__(self, name, value)

    def _check_milestones(self) -> None:
        if isinstance(self.milestones, str) or not hasattr(self.milestones, "__iter__"):
            raise TypeError(f"milestones must be a sequence of epochs, got {self.milestones!r}.")
        milestones = tuple(whole_number("milestones", milestone, 1) for milestone in self.milestones)
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"milestones must increase, got {milestones}.")
        if milestones and milestones[-1] >= self.epochs:
            raise ValueError(f"milestone {milestones[-1]} is never reached in {self.epochs} epochs.")
        self._set("milestones", milestones)

    def _check_loss_options(self) -> None:
        try:
            options = dict(self.loss_options)
        except (TypeError, ValueError):
            raise TypeError(f"loss_options must map names to values, got {self.loss_options!r}.") from None
        for name, value in options.items():
            if not isinstance(name, str) or not isinstance(value, str | Real | None):
                raise TypeError(f"loss_options[{name!r}] must be a number, a string or None, got {value!r}.")
        if "reduction" in options:
            raise ValueError("loss_options: reduction is always the mean over the batch.")
        changed = checked_options(self.loss, options).items() - checked_options(self.loss, {}).items()
        self._set("loss_options", tuple(sorted(changed)))

    def _refuse_idle_options(self) -> None:
        step, one_cycle = self.schedule == "step", self.schedule == "one-cycle"
        heavy_ball = self.optimizer == "sgd" and self.momentum > 0
        frozen, fold, restarted = self.frozen, self.fold_batch_norm, self.head_start != "own"
        float32 = self.float32_head and (frozen or self.precision == "fp32")
        changed = self.final_batch_norm_momentum != 0.01 or not self.final_batch_norm_affine
        norm = changed and not self.final_batch_norm
        start = dict(self.loss_options).get("reweight_from")
        late = isinstance(start, int) and start >= self.epochs
        normed = restarted and DECLARED[self.loss].cosines
        idle = {
            "milestones: only schedule='step' reads them": self.milestones and not step,
            "decay: only schedule='step' reads it": self.decay != 0.1 and not step,
            "schedule='step' never steps without milestones: use 'constant'": step and not self.milestones,
            "warmup_epochs: schedule='one-cycle' warms up by itself": self.warmup_epochs and one_cycle,
            f"warmup_epochs fills all {self.epochs} epochs": self.warmup_epochs >= self.epochs,
            f"score_every is more than all {self.epochs} epochs": self.score_every > self.epochs,
            "nesterov: only optimizer='sgd' with momentum > 0 has it": self.nesterov and not heavy_ball,
            "frozen: features without pretrained=True would be random": frozen and not self.pretrained,
            "augment: frozen features come from unchanged images": frozen and self.augment != "none",
            "dropout: frozen features are computed without it": frozen and self.dropout is not None,
            "head_start: a classifier of frozen features starts as nn.Linear anyway": frozen and restarted,
            f"head_start: loss={self.loss!r} has a cosine classifier with a start of its own": normed,
            "float32_head: precision='fp32' and frozen features compute every layer in float32": float32,
            "fold_batch_norm: statistics without pretrained=True are arbitrary": fold and not self.pretrained,
            "fold_batch_norm: frozen features are the same with and without": fold and frozen,
            "final_batch_norm_momentum and final_batch_norm_affine: only final_batch_norm=True has them": norm,
            f"loss_options: training ends after {self.epochs} epochs, before 'reweight_from'": late,
        }
        for reason, found in idle.items():
            if found:
                raise ValueError(f"Options that contradict each other: {reason}.")

    def to_dict(self) -> dict[str, Any]:
        """Return every field, in JSON's types."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"milestones": list(self.milestones), "loss_options": dict(self.loss_options)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the recipe with the given fields, the others at their default.

        ValueError for an unknown field (the nearest valid name is given) or a required one that is absent.
        """
        required = {f.name: f.default is MISSING for f in fields(cls)}
        for name in values:
            if name not in required:
                raise unknown_name(f"field of {cls.__name__}", name, required)
        missing = [name for name, needed in required.items() if needed and name not in values]
        if missing:
            raise ValueError(f"{cls.__name__} needs {', '.join(missing)} as well.")
        return cls(**values)

    def canonical(self) -> str:
        """Return the fields that differ from their default as JSON, sorted, without spaces.

        A field added later with a default does not appear, so older records keep their keys.
        """
        own = {f.name: f.default is MISSING or getattr(self, f.name) != f.default for f in fields(self)}
        changed = {name: value for name, value in self.to_dict().items() if own[name]}
        return json.dumps(changed, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of `canonical`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def training_digest(self) -> str:
        """Return the digest of what trains: a subclass's own fields, which say for whom, are left out."""
        values = self.to_dict()
        return Recipe.from_dict({item.name: values[item.name] for item in fields(Recipe)}).digest()

    def label(self) -> str:
        """Return a short description for progress bars and tables of failures."""
        form = "frozen" if self.frozen else "fine-tuned" if self.pretrained else "from scratch"
        remedies = [self.loss] * (self.loss != "cross-entropy")
        remedies += [f"{name} {value}" for name, value in self.loss_options]
        remedies += ["final batch norm"] * self.final_batch_norm
        remedies += [f"{self.head_start} head"] * (self.head_start != "own")
        remedies += ["batch norms folded"] * self.fold_batch_norm
        return f"{self.model or 'network'} {form}, {' '.join([*remedies, self.sampler])}"


def scored_epochs(epochs: int, score_every: int) -> list[int]:
    """Return the epochs, counted from 1, after which a study's images are scored: the last one always."""
    return [epoch for epoch in range(1, epochs + 1) if epoch % score_every == 0 or epoch == epochs]
