"""Complement entropy and the losses built on it, as pure functions; conventions as in `loss_functions`.

The wrong classes have q_j = p_j / (1 - p_g), a distribution over j != g, and complement entropy
C = -sum_j q_j log q_j, in [0, log(K - 1)]. Value and gradient follow from the wrong classes alone: with
u = log sum_(j != g) exp(z_j) - z_g, the log odds against the target, CE = softplus(u) and p_g = sigmoid(-u).
No step divides by 1 - p_g, so logits thousands apart stay finite in value and gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from imbal_core._checks.names import unknown_name
from imbal_core.losses.functional import MASKED, REDUCTIONS, checked, reduced

__all__ = ["FORMS", "complement_cross_entropy", "complement_entropy", "complement_objective"]

FORMS = ("paper", "released")

# Logits that one thread of a CPU works on at a time (2 MB of float32). Larger parts fall out of its cache, in
# smaller ones the calls cost more than the arithmetic.
_LOGITS_PER_THREAD = 524_288


def complement_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Return C, the entropy of the wrong classes in nats: log(K - 1) where they are all equally likely.

    Gradient: -q_j (log q_j + C) for j != g, and 0 for the target.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none". It can be differentiated once.

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Chen, H.-Y. et al. (2019). "Complement Objective Training".
    """
    return _mixture(checked(logits, targets), targets, 0.0, 1.0, reduction)


def complement_objective(
    logits: Tensor, targets: Tensor, *, form: str = "paper", reduction: str = "mean"
) -> Tensor:
    """Return what the second update of complement objective training minimises, -C / (K - 1).

    Gradient: q_j (log q_j + C) / (K - 1) for j != g, and 0 for the target.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    form : {"paper", "released"}, default="paper"
        The authors' repository divides by K instead of K - 1: "released".
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none". It can be differentiated once.

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the form or the reduction is unknown.

    References
    ----------
    Chen, H.-Y. et al. (2019). "Complement Objective Training".
    """
    return _in_form(logits, targets, form, reduction, 0.0, {"paper": -1.0, "released": -1.0})


def complement_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    form: str = "paper",
    gamma: float = -1.0,
    reduction: str = "mean",
) -> Tensor:
    """Return the complement cross entropy: the paper's CE + gamma C / (K - 1), or the one released.

    Gradient of CE + b C: p_j - b q_j (log q_j + C) for j != g, and p_g - 1, that of CE, for the target. For
    K = 2 the paper's form is CE itself; for any K it differs from CE by at most |gamma| log(K - 1) / (K - 1).

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    form : {"paper", "released"}, default="paper"
        "paper": b = gamma / (K - 1), negative at the default: flat wrong classes have the lower loss.
        "released": b = -gamma / K. The authors' repository adds gamma times the *negated* entropy over K, so
        its default rewards peaked wrong classes. Its expression gives NaN where p_g rounds to 1; this does not.
    gamma : float, default=-1.0
        0 gives CE.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none". It can be differentiated once.

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the form or the reduction is unknown.

    References
    ----------
    Kim, Y., Lee, Y., Jeon, M. (2021). "Imbalanced Image Classification with Complement Cross Entropy".
    Repository unique-chan/Complement-Cross-Entropy, ``cce.py`` since January 2022.
    """
    return _in_form(logits, targets, form, reduction, 1.0, {"paper": gamma, "released": -gamma})


def _in_form(
    logits: Tensor,
    targets: Tensor,
    form: str,
    reduction: str,
    of_cross_entropy: float,
    of_entropy: Mapping[str, float],
) -> Tensor:
    """Return a CE + c C / (K - 1) in the paper's form and a CE + c C / K in the one released, with c by form."""
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    logits = checked(logits, targets)
    divisor = logits.shape[1] - 1 if form == "paper" else logits.shape[1]
    return _mixture(logits, targets, of_cross_entropy, of_entropy[form] / divisor, reduction)


def _mixture(
    logits: Tensor, targets: Tensor, of_cross_entropy: float, of_entropy: float, reduction: str
) -> Tensor:
    """Return a CE + b C of each image, or its mean or sum."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)
    values: Tensor = _Mixture.apply(logits, targets, of_cross_entropy, of_entropy, reduction)
    return values


class _Mixture(torch.autograd.Function):
    """Give a CE + b C, shape (N,) or reduced, with its gradient from the same pass over the logits.

    One softmax serves the value and the gradient a p_j - b q_j (log q_j + C); automatic differentiation
    keeps five matrices of that size and reads each twice. On a CPU the gradient gets the factor of a mean while it
    lies in the cache, and nothing is left to do when the loss itself is what is differentiated.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, a: float, b: float, reduction: str) -> Tensor:
        rows, classes = logits.shape
        on_cpu = logits.device.type == "cpu"
        factor = 1 / max(rows, 1) if reduction == "mean" else 1.0
        ctx.left, factor = (1.0, factor) if on_cpu else (factor, 1.0)
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        chosen = targets.unsqueeze(1)
        odds, entropy = logits.new_empty(rows, 1), logits.new_empty(rows, 1)
        step = max(rows, 1)
        if on_cpu:
            step = max(1, _LOGITS_PER_THREAD * torch.get_num_threads() // classes)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            # Worked out in place, where the gradient is to be: fresh memory costs more than the arithmetic.
            wrong = gradient[part].copy_(logits[part]).scatter_(1, chosen[part], MASKED)
            top = wrong.amax(1, keepdim=True)
            wrong -= top
            share = wrong.softmax(1)
            # The largest share is exp(0) / total, so its logarithm is that of the total, without a sum.
            log_total = share.amax(1, keepdim=True).log_().neg_()
            wrong *= share
            mean = wrong.sum(1, keepdim=True)
            torch.sub(log_total, mean, out=entropy[part])
            torch.add(log_total, top.sub_(logits[part].gather(1, chosen[part])), out=odds[part])
            share *= torch.add(a * odds[part].sigmoid(), mean, alpha=b)
            torch.sub(share, wrong, alpha=b, out=wrong)
            if factor != 1:
                wrong *= factor
        gradient.scatter_(1, chosen, odds.sigmoid().mul_(-a).mul_(factor))
        ctx.save_for_backward(gradient)
        # The threshold only keeps exp finite: beyond it softplus(u) = u to the last bit.
        values = torch.add(a * F.softplus(odds, threshold=40.0), entropy, alpha=b).squeeze(1)
        return reduced(values, reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        outer = outer.unsqueeze(1) if outer.ndim else outer
        # A factor is looked at on a CPU alone: elsewhere that waits for the device, and costs more than to apply it.
        if outer.ndim or outer.device.type != "cpu" or outer != 1:
            gradient = gradient * (outer * ctx.left)
        return gradient, None, None, None, None
