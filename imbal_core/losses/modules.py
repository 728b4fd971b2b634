"""The losses as modules: options checked once, class counts kept on the device, found by name.

``build_loss("cce", class_counts=counts)`` gives a module that is called with logits (N, K) and targets (N,).
Formulas, gradients and sources are in `losses.functional` and `imbal_core.losses.complement`. The modules add
what depends on the counts of the training images: weights, margins, priors, and the epoch from which weights
apply. Each refuses an option that is unknown or out of range with a ValueError.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbal_core._checks.names import unknown_name
from imbal_core.losses import complement
from imbal_core.losses import functional as functions
from imbal_core.losses.class_weights import (
    checked_counts,
    checked_number,
    deferred_weights,
    inverse_frequency_weights,
    ldam_margins,
)

__all__ = [
    "LDAM",
    "Asymmetric",
    "BalancedSoftmax",
    "ClassBalanced",
    "ComplementCrossEntropy",
    "ComplementEntropy",
    "ComplementObjective",
    "ComplementObjectiveTraining",
    "CrossEntropy",
    "Focal",
    "InverseFrequency",
    "LabelSmoothing",
    "LogitAdjustment",
    "Loss",
    "build_loss",
    "list_losses",
    "loss_defaults",
]


class Loss(nn.Module):
    """What training needs of any loss.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default="mean"
        "none" gives one value for each image.

    Attributes
    ----------
    needs_normed_head : bool
        The logits must be cosines: the network's classifier is to be an `imbal_core.models.heads.NormedLinear`.
    logit_scale : float
        What logits are multiplied by before a softmax that is read as a probability; 1 but for cosines.
    """

    needs_normed_head = False
    logit_scale = 1.0

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in functions.REDUCTIONS:
            raise unknown_name("reduction", reduction, functions.REDUCTIONS)
        self.reduction = reduction

    @property
    def updates(self) -> tuple[Loss, ...]:
        """The objectives of one batch in turn, each with its own forward pass and optimizer step."""
        return (self,)

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0; training calls it before the first batch."""


class CrossEntropy(Loss):
    """Cross entropy, -log p_g: `loss_functions.cross_entropy`."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.cross_entropy(logits, targets, reduction=self.reduction)


class LabelSmoothing(Loss):
    """Cross entropy with smoothed targets: `loss_functions.cross_entropy`.

    Parameters
    ----------
    smoothing : float, default=0.1
        s, in [0, 1).
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    def __init__(self, *, smoothing: float = 0.1, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.smoothing = checked_number("smoothing", smoothing, 0.0, 1.0)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.cross_entropy(
            logits, targets, label_smoothing=self.smoothing, reduction=self.reduction
        )


class Focal(Loss):
    """Focal loss, alpha_g (1 - p_g)^gamma CE: `loss_functions.focal`.

    Parameters
    ----------
    gamma : float, default=2.0
        Focusing exponent, at least 0.
    alpha : float or sequence of K floats, default=0.25
        One factor for all classes, or one for each; at least 0.
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    alpha: Tensor

    def __init__(
        self, *, gamma: float = 2.0, alpha: float | Sequence[float] = 0.25, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self.gamma = checked_number("gamma", gamma, 0.0)
        values = [alpha] if isinstance(alpha, int | float) else list(alpha)
        factors = [checked_number("alpha", value, 0.0) for value in values]
        self.factor = factors[0] if isinstance(alpha, int | float) else None
        self.register_buffer("alpha", torch.tensor(factors), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        alpha = self.alpha if self.factor is None else self.factor
        return functions.focal(logits, targets, gamma=self.gamma, alpha=alpha, reduction=self.reduction)


class Asymmetric(Loss):
    """Asymmetric loss (ASL) for one label an image: `loss_functions.asymmetric`.

    Parameters
    ----------
    gamma_pos : float, default=0.0
        Focusing exponent of the true class, at least 0.
    gamma_neg : float, default=4.0
        That of the wrong classes, at least 0.
    smoothing : float, default=0.1
        s, in [0, 1).
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    def __init__(
        self,
        *,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        smoothing: float = 0.1,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.gamma_pos = checked_number("gamma_pos", gamma_pos, 0.0)
        self.gamma_neg = checked_number("gamma_neg", gamma_neg, 0.0)
        self.smoothing = checked_number("smoothing", smoothing, 0.0, 1.0)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.asymmetric(
            logits,
            targets,
            gamma_pos=self.gamma_pos,
            gamma_neg=self.gamma_neg,
            label_smoothing=self.smoothing,
            reduction=self.reduction,
        )


class InverseFrequency(Loss):
    """Cross entropy with weights proportional to 1 / n_c: `class_weights.inverse_frequency_weights`.

    Parameters
    ----------
    class_counts : array-like of shape (K,), integer
        n, training images of each class, at least 1.
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    class_weights: Tensor

    def __init__(self, class_counts: ArrayLike | Tensor, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        weights = inverse_frequency_weights(class_counts).float()
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.cross_entropy(
            logits, targets, class_weights=self.class_weights, reduction=self.reduction
        )


class ClassBalanced(Loss):
    """Cross entropy with weights of the effective number of images: `class_weights.effective_number_weights`.

    Parameters
    ----------
    class_counts : array-like of shape (K,), integer
        n, training images of each class, at least 1.
    beta : float, default=0.9999
        In [0, 1): 0 gives equal weights, and the limit 1 gives inverse frequency.
    reweight_from : int or None, default=0
        The first epoch with these weights, or never; before it they are 1 (deferred re-weighting).
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    class_weights: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | Tensor,
        *,
        beta: float = 0.9999,
        reweight_from: int | None = 0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.beta, self.reweight_from = beta, _epoch_or_never(reweight_from)
        self.counts = checked_counts(class_counts)
        self.register_buffer("class_weights", torch.empty(len(self.counts)), persistent=False)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Set the weights of an epoch, counted from 0, in place: a compiled step sees them too."""
        weights = deferred_weights(self.counts, epoch, start=self.reweight_from, beta=self.beta)
        self.class_weights.copy_(weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.cross_entropy(
            logits, targets, class_weights=self.class_weights, reduction=self.reduction
        )


class LDAM(ClassBalanced):
    """Label-distribution-aware margin loss with deferred re-weighting: `loss_functions.ldam`.

    Parameters
    ----------
    class_counts : array-like of shape (K,), integer
        n, training images of each class, at least 1.
    max_margin : float, default=0.5
        The margin of the rarest class, above 0.
    scale : float, default=30.0
        s, above 0.
    reweight_from : int or None, default=None
        The first epoch with the weights of `effective_number_weights` (LDAM-DRW: 160 of 200), or never.
    beta : float, default=0.9999
        Of those weights.
    reduction : {"mean", "sum", "none"}, default="mean"

    Notes
    -----
    The network gives cosines in [-1, 1]; multiply them by `logit_scale` before a softmax that is read as a
    probability.
    """

    needs_normed_head = True
    margins: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | Tensor,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        reweight_from: int | None = None,
        beta: float = 0.9999,
        reduction: str = "mean",
    ) -> None:
        super().__init__(class_counts, beta=beta, reweight_from=reweight_from, reduction=reduction)
        self.scale = checked_number("scale", scale, 0.0, inclusive=False)
        self.logit_scale = self.scale
        margins = ldam_margins(class_counts, max_margin=max_margin)
        self.register_buffer("margins", margins.float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch of cosines."""
        return functions.ldam(
            logits,
            targets,
            self.margins,
            scale=self.scale,
            class_weights=self.class_weights,
            reduction=self.reduction,
        )


class ComplementEntropy(Loss):
    """Entropy of the wrong classes, C: `complement.complement_entropy`."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return C of a batch, in nats."""
        return complement.complement_entropy(logits, targets, reduction=self.reduction)


class ComplementObjective(Loss):
    """The second objective of COT, -C / (K - 1): `complement.complement_objective`.

    Parameters
    ----------
    form : {"paper", "released"}, default="paper"
        "released" divides by K.
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    def __init__(self, *, form: str = "paper", reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.form = _form(form)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the objective of a batch, to be minimised."""
        return complement.complement_objective(logits, targets, form=self.form, reduction=self.reduction)


class ComplementObjectiveTraining(Loss):
    """Complement objective training: each batch updates on CE, then, after a new forward pass, on -C / (K - 1).

    The two objectives are `updates`; in the paper each has its own momentum buffer. There is no single loss.

    Parameters
    ----------
    form : {"paper", "released"}, default="paper"
        "released" divides by K.
    reduction : {"mean", "sum", "none"}, default="mean"

    References
    ----------
    Chen, H.-Y. et al. (2019). "Complement Objective Training".
    """

    def __init__(self, *, form: str = "paper", reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.primary = CrossEntropy(reduction=reduction)
        self.complement = ComplementObjective(form=form, reduction=reduction)

    @property
    def updates(self) -> tuple[Loss, ...]:
        """Cross entropy, then the complement objective."""
        return (self.primary, self.complement)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Refuse: a sum of the two objectives in one step is another method."""
        raise RuntimeError(
            "complement objective training has two objectives and no sum of them: take one optimizer step "
            "for each loss in .updates, with a forward pass before each."
        )


class ComplementCrossEntropy(Loss):
    """Complement cross entropy, CE + gamma C / (K - 1): `complement.complement_cross_entropy`.

    Parameters
    ----------
    form : {"paper", "released"}, default="paper"
        "released" is CE - gamma C / K, the repository's: the opposite sign.
    gamma : float, default=-1.0
        Any finite number; 0 gives CE.
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    def __init__(self, *, form: str = "paper", gamma: float = -1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.form = _form(form)
        self.gamma = checked_number("gamma", gamma, -math.inf)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return complement.complement_cross_entropy(
            logits, targets, form=self.form, gamma=self.gamma, reduction=self.reduction
        )


class LogitAdjustment(Loss):
    """Logit-adjusted cross entropy, CE of z + tau log pi: `loss_functions.logit_adjustment`.

    Parameters
    ----------
    class_counts : array-like of shape (K,), integer
        n, training images of each class, at least 1.
    tau : float, default=1.0
        At least 0.
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    class_counts: Tensor

    def __init__(
        self, class_counts: ArrayLike | Tensor, *, tau: float = 1.0, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self.tau = checked_number("tau", tau, 0.0)
        self.register_buffer("class_counts", checked_counts(class_counts), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.logit_adjustment(
            logits, targets, self.class_counts, tau=self.tau, reduction=self.reduction
        )

    def adjust(self, logits: Tensor) -> Tensor:
        """Return z - tau log pi: the post-hoc form, for a network that was trained with CE, not this loss."""
        return functions.adjust_logits(logits, self.class_counts, tau=self.tau)


class BalancedSoftmax(Loss):
    """Balanced softmax, CE of z + log n: `loss_functions.balanced_softmax`.

    Parameters
    ----------
    class_counts : array-like of shape (K,), integer
        n, training images of each class, at least 1.
    reduction : {"mean", "sum", "none"}, default="mean"
    """

    class_counts: Tensor

    def __init__(self, class_counts: ArrayLike | Tensor, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.register_buffer("class_counts", checked_counts(class_counts), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return functions.balanced_softmax(logits, targets, self.class_counts, reduction=self.reduction)


_LOSSES: dict[str, Callable[..., Loss]] = {
    "cross-entropy": CrossEntropy,
    "inverse-frequency": InverseFrequency,
    "focal": Focal,
    "class-balanced": ClassBalanced,
    "ldam": LDAM,
    "complement-entropy": ComplementEntropy,
    "cot": ComplementObjectiveTraining,
    "cce": ComplementCrossEntropy,
    "balanced-softmax": BalancedSoftmax,
    "logit-adjustment": LogitAdjustment,
    "label-smoothing": LabelSmoothing,
    "asl": Asymmetric,
}


def list_losses() -> list[str]:
    """Return the names that `build_loss` knows.

    Examples
    --------
    >>> list_losses()[:3]
    ['cross-entropy', 'inverse-frequency', 'focal']
    """
    return list(_LOSSES)


def build_loss(name: str, *, class_counts: ArrayLike | Tensor | None = None, **options: Any) -> Loss:
    """Return the loss of that name.

    Parameters
    ----------
    name : str
        One of `list_losses`.
    class_counts : array-like of shape (K,), integer, optional
        Training images of each class. A fact about the data rather than an option, so it may be given to any
        loss; those that use it require it.
    **options
        What the loss's class takes, such as ``form`` of "cce" or ``reduction`` of any.

    Returns
    -------
    Loss
        On the CPU; move it with ``.to(device)``.

    Raises
    ------
    ValueError
        If the name or an option is unknown to this loss, an option is out of range, or counts are missing,
        not whole or below 1.

    Examples
    --------
    >>> build_loss("cce", form="released").gamma
    -1.0
    >>> build_loss("cce", form="realised")
    Traceback (most recent call last):
        ...
    ValueError: unknown form 'realised': did you mean 'released'? Valid: 'paper', 'released'.
    """
    if name not in _LOSSES:
        raise unknown_name("loss", name, _LOSSES)
    accepted = list(inspect.signature(_LOSSES[name]).parameters)
    for option in options:
        if option not in accepted:
            raise unknown_name(f"option of loss {name!r}", option, set(accepted) - {"class_counts"})
    if "class_counts" not in accepted:
        return _LOSSES[name](**options)
    if class_counts is None:
        raise ValueError(f"loss {name!r} needs class_counts, the number of training images of each class.")
    return _LOSSES[name](class_counts=class_counts, **options)


def loss_defaults(name: str) -> dict[str, Any]:
    """Return the options of a loss and their defaults.

    Examples
    --------
    >>> loss_defaults("cce")
    {'form': 'paper', 'gamma': -1.0, 'reduction': 'mean'}
    """
    if name not in _LOSSES:
        raise unknown_name("loss", name, _LOSSES)
    parameters = inspect.signature(_LOSSES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "class_counts"}


def _form(form: str) -> str:
    if form not in complement.FORMS:
        raise unknown_name("form", form, complement.FORMS)
    return form


def _epoch_or_never(epoch: int | None) -> int | None:
    if epoch is not None and (isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0):
        raise ValueError(f"reweight_from must be an epoch, 0 or later, or None (never), got {epoch!r}.")
    return epoch
