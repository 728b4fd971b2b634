"""Complement entropy and the losses built on it, as pure functions with the contract of `imbal_core.losses.functional`.

The wrong classes have q_j = p_j / (1 - p_g), a distribution over j != g, and complement entropy
C = -sum_j q_j log q_j, in [0, log(K - 1)]. Value and gradient follow from the wrong classes alone: with
u = log sum_(j != g) exp(z_j) - z_g, the log odds against the target, CE = softplus(u) and p_g = sigmoid(-u).
No step divides by 1 - p_g, so logits thousands apart stay finite in value and gradient. Where no wrong class can be
(all -inf), C is log(K - 1), as where they are equally likely.

Targets are class indices: other classes than the target are what soft targets do not name. The losses can be
differentiated once. An unknown form is a ValueError.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from imbal_core._checks.names import unknown_name
from imbal_core.losses.functional import MASKED, checked, reduced, undefined
from imbal_core.losses.options import FORMS

# Logits that one thread of a CPU works on at a time (2 MB of float32). Larger parts fall out of its cache, in
# smaller ones the calls cost more than the arithmetic.
_LOGITS_PER_THREAD = 524_288
# No wrong class is less likely than this logit says, but all of them are more likely than what is masked.
_LOWEST = -1e20


def complement_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Return C, the entropy of the wrong classes in nats: log(K - 1) where they are all equally likely.

    Gradient: -q_j (log q_j + C) for j != g, else 0. Chen, H.-Y. et al. (2019), "Complement Objective Training".
    """
    return _mixture(logits, targets, None, reduction, cross_entropy=0.0, entropy=1.0)


def complement_objective(
    logits: Tensor, targets: Tensor, *, form: str = "paper", reduction: str = "mean"
) -> Tensor:
    """Return what the second update of complement objective training minimises, -C / (K - 1).

    Gradient: q_j (log q_j + C) / (K - 1) for j != g, and 0 for the target. The authors' repository divides by K
    instead of K - 1: the form "released". Chen, H.-Y. et al. (2019), "Complement Objective Training".
    """
    return _mixture(logits, targets, form, reduction, cross_entropy=0.0, entropy=-1.0)


def complement_cross_entropy(
    logits: Tensor, targets: Tensor, *, form: str = "paper", gamma: float = -1.0, reduction: str = "mean"
) -> Tensor:
    """Return the complement cross entropy: the paper's CE + gamma C / (K - 1), or the one released.

    Gradient of CE + b C: p_j - b q_j (log q_j + C) for j != g, and p_g - 1, that of CE, for the target. For
    K = 2 the paper's form is CE itself; for any K it differs from CE by at most |gamma| log(K - 1) / (K - 1).

    In the form "paper", b = gamma / (K - 1), negative at the default: flat wrong classes have the lower loss. In the
    form "released", b = -gamma / K: the authors' repository adds gamma times the *negated* entropy over K, so its
    default rewards peaked wrong classes. Its expression gives NaN where p_g rounds to 1; this does not. gamma 0 gives
    CE. Kim, Y., Lee, Y., Jeon, M. (2021), "Imbalanced Image Classification with Complement Cross Entropy"; repository
    unique-chan/Complement-Cross-Entropy, ``cce.py`` since January 2022.
    """
    entropy = -gamma if form == "released" else gamma
    return _mixture(logits, targets, form, reduction, cross_entropy=1.0, entropy=entropy)


def _mixture(
    logits: Tensor, targets: Tensor, form: str | None, reduction: str, *, cross_entropy: float, entropy: float
) -> Tensor:
    """Return a CE + c C, with c C / (K - 1) in the paper's form and c C / K in the one released, reduced."""
    if form not in (None, *FORMS):
        raise unknown_name("form", form, FORMS)
    logits, targets = checked(logits, targets, reduction, soft=False)
    classes = logits.shape[1]
    entropy /= {None: 1, "paper": classes - 1, "released": classes}[form]
    if torch.compiler.is_compiling():
        return reduced(_compiled(logits, targets, cross_entropy, entropy), reduction)
    values: Tensor = _Mixture.apply(logits, targets, cross_entropy, entropy, reduction)
    return values


def _compiled(logits: Tensor, targets: Tensor, a: float, b: float) -> Tensor:
    """Return a CE + b C of each image in steps that a compiler can follow and fuse."""
    chosen = targets.unsqueeze(1)
    wrong = logits.clamp(min=_LOWEST).scatter(1, chosen, MASKED)
    top, own = wrong.amax(1, keepdim=True), logits.gather(1, chosen)
    log_q = wrong.log_softmax(1)
    values = undefined(top, own, _LOWEST) - b * (log_q.exp() * log_q).sum(1, keepdim=True)
    if a:
        values = values + a * F.softplus(wrong.logsumexp(1, keepdim=True) - own, threshold=40.0)
    return values.squeeze(1)


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
            wrong = torch.clamp(logits[part], min=_LOWEST, out=gradient[part]).scatter_(
                1, chosen[part], MASKED
            )
            top, own = wrong.amax(1, keepdim=True), logits[part].gather(1, chosen[part])
            wrong -= top
            share = wrong.softmax(1)
            # The largest share is exp(0) / total, so its logarithm is that of the total, without a sum.
            log_total = share.amax(1, keepdim=True).log_().neg_()
            wrong *= share
            mean = wrong.sum(1, keepdim=True)
            mean += undefined(top, own, _LOWEST)
            torch.sub(log_total, mean, out=entropy[part])
            torch.add(log_total, top.sub_(own), out=odds[part])
            share *= torch.add(a * odds[part].sigmoid(), mean, alpha=b)
            torch.sub(share, wrong, alpha=b, out=wrong)
            if factor != 1:
                wrong *= factor
        gradient.scatter_(1, chosen, odds.sigmoid().mul_(-a).mul_(factor))
        ctx.save_for_backward(gradient)
        # The threshold only keeps exp finite: beyond it softplus(u) = u to the last bit.
        values = torch.add(a * F.softplus(odds, threshold=40.0), entropy, alpha=b) if a else b * entropy
        return reduced(values.squeeze(1), reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        outer = outer.unsqueeze(1) if outer.ndim else outer
        # A factor is looked at on a CPU alone: elsewhere that waits for the device, and costs more than to apply it.
        if outer.ndim or outer.device.type != "cpu" or outer != 1:
            gradient = gradient * (outer * ctx.left)
        return gradient, None, None, None, None
