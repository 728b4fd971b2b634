"""The losses as modules: options checked once, class counts kept on the device, found by name.

``build_loss("cce", class_counts=counts)`` gives a module that is called with logits (N, K) and targets. Formulas,
gradients, sources and the contract about logits and targets are in `imbal_core.losses.functional` and
`imbal_core.losses.complement`. The modules add what depends on the counts of the training images: weights, margins,
priors, and the epoch from which weights apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from imbal_core.losses import complement
from imbal_core.losses import functional as functions
from imbal_core.losses.class_weights import (
    Counts,
    checked_counts,
    deferred_weights,
    inverse_frequency_weights,
    ldam_margins,
)
from imbal_core.losses.options import DECLARED, checked_options


@dataclass(frozen=True)
class _Kind:
    """How one loss is computed; its options are `imbal_core.losses.options.DECLARED`."""

    #: Called with logits, targets, ``reduction``, the options and what is `per_class`, by name.
    function: Callable[..., Tensor]
    #: What follows from the class counts, the epoch and the loss's options.
    per_class: Mapping[str, Callable[[Tensor, int, Any], Tensor]] = field(default_factory=dict)
    #: The losses that update the network in turn, where there is no single one.
    parts: tuple[str, ...] = ()


class Loss(nn.Module):
    """What training needs of any loss; `build_loss` makes it.

    Its options are attributes. Its state has what follows from the class counts and the epoch, so that a loss that is
    loaded goes on with the weights that it was saved with.

    Attributes
    ----------
    needs_normed_head : bool
        The logits must be cosines: the network's classifier is to be an `imbal_core.models.heads.NormedLinear`.
    logit_scale : float
        What logits are multiplied by before a softmax that is read as a probability; 1 but for cosines.
    """

    reduction: str
    epoch: Tensor

    def __init__(self, name: str, class_counts: Counts | None, options: Mapping[str, Any]) -> None:
        super().__init__()
        kind, declared = _KINDS[name], DECLARED[name]
        self.name = name
        self.needs_normed_head = declared.cosines
        for option, value in declared.checked(options).items():
            if isinstance(value, tuple):
                self.register_buffer(option, torch.tensor(value))
            else:
                setattr(self, option, value)
        self.logit_scale: float = self.scale if declared.cosines else 1.0  # type: ignore[assignment]
        if kind.per_class:
            self.counts = checked_counts(class_counts)  # type: ignore[arg-type]
            self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
            for buffer, value in self._of_counts(0).items():
                self.register_buffer(buffer, value)
        self.parts = nn.ModuleList(Loss(part, None, options) for part in kind.parts)
        self._function, self._arguments = kind.function, (*declared.options, *kind.per_class)

    @property
    def updates(self) -> tuple[Loss, ...]:
        """The objectives of one batch in turn, each with its own forward pass and optimizer step."""
        return tuple(self.parts) or (self,)  # type: ignore[arg-type]

    def _of_counts(self, epoch: int) -> dict[str, Tensor]:
        found = {name: of(self.counts, epoch, self) for name, of in _KINDS[self.name].per_class.items()}
        return {name: v.float() if v.is_floating_point() else v for name, v in found.items()}

    def start_epoch(self, epoch: int) -> None:
        """Set the weights of an epoch, counted from 0, in place: a compiled step sees them too.

        Training calls it before the first batch.
        """
        if _KINDS[self.name].per_class:
            self.epoch.fill_(epoch)
            for name, value in self._of_counts(epoch).items():
                getattr(self, name).copy_(value)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        arguments = {name: getattr(self, name) for name in self._arguments}
        return self._function(logits, targets, reduction=self.reduction, **arguments)


def _no_sum(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(
        "cot has two objectives: take an optimizer step for each of .updates, each after a forward pass."
    )


_DEFERRED = {
    "class_weights": lambda n, epoch, o: deferred_weights(n, epoch, start=o.reweight_from, beta=o.beta)
}
_COUNTS = {"class_counts": lambda n, epoch, o: n}

_KINDS: dict[str, _Kind] = {
    "cross-entropy": _Kind(functions.cross_entropy),
    "inverse-frequency": _Kind(
        functions.cross_entropy, {"class_weights": lambda n, epoch, o: inverse_frequency_weights(n)}
    ),
    "focal": _Kind(functions.focal),
    "class-balanced": _Kind(functions.cross_entropy, _DEFERRED),
    "ldam": _Kind(
        functions.ldam, {**_DEFERRED, "margins": lambda n, epoch, o: ldam_margins(n, max_margin=o.max_margin)}
    ),
    "complement-entropy": _Kind(complement.complement_entropy),
    "cot": _Kind(_no_sum, parts=("cross-entropy", "complement-objective")),
    "complement-objective": _Kind(complement.complement_objective),
    "cce": _Kind(complement.complement_cross_entropy),
    "balanced-softmax": _Kind(functions.balanced_softmax, _COUNTS),
    "logit-adjustment": _Kind(functions.logit_adjustment, _COUNTS),
    "label-smoothing": _Kind(functions.cross_entropy),
    "asl": _Kind(functions.asymmetric),
}


def build_loss(name: str, *, class_counts: Counts | None = None, **options: Any) -> Loss:
    """Return the loss of that name.

    Parameters
    ----------
    name : str
        One of `imbal_core.list_losses`.
    class_counts : list, array or Tensor of shape (K,), integer, or mapping of class to int, optional
        n, training images of each class, each at least 1. A fact about the data rather than an option, so it may be
        given to any loss; those that use it require it. See `imbal_core.losses.class_weights.checked_counts`.
    **options
        See the table; ``reduction`` ("mean", "sum", "none") of any.

    Returns
    -------
    Loss
        On the CPU; move it with ``.to(device)``. ValueError: unknown name or option, one out of range, missing counts.

    Notes
    -----
    ==================  ============================================================================================
    name                function in `imbal_core.losses`, options and their defaults
    ==================  ============================================================================================
    cross-entropy       `cross_entropy`
    inverse-frequency   `cross_entropy` with weights proportional to 1 / n_c
    focal               `focal`: gamma=2, alpha=0.25 (one factor, or one for each class)
    class-balanced      `cross_entropy` with `effective_number_weights`: beta=0.9999, reweight_from=0 (the first epoch
                        with these weights, None for never; before it they are 1)
    ldam                `ldam`, the network gives cosines: max_margin=0.5 of the rarest class, scale=30,
                        reweight_from=None (LDAM-DRW: 160 of 200) and beta=0.9999 as above
    complement-entropy  `complement_entropy`
    cot                 complement objective training, two updates a batch (`Loss.updates`): form="paper"
    cce                 `complement_cross_entropy`: form="paper", gamma=-1
    balanced-softmax    `balanced_softmax`
    logit-adjustment    `logit_adjustment`: tau=1
    label-smoothing     `cross_entropy`: smoothing=0.1
    asl                 `asymmetric`: gamma_pos=0, gamma_neg=4, smoothing=0.1
    ==================  ============================================================================================

    Examples
    --------
    >>> build_loss("cce", form="released").gamma
    -1.0

    Soft targets, as mixup makes them, and counts as they are counted:

    >>> from collections import Counter
    >>> loss = build_loss("balanced-softmax", class_counts=Counter([0, 0, 0, 1]))
    >>> float(loss(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))) > float(loss(torch.zeros(1, 2), torch.tensor([0])))
    True
    """
    checked_options(name, options)
    if _KINDS[name].per_class and class_counts is None:
        raise ValueError(f"loss {name!r} needs class_counts, the number of training images of each class.")
    return Loss(name, class_counts, options)
