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

import torch
import torch.nn.functional as F
from torch import Tensor

from imbal_core._checks.names import unknown_name
from imbal_core.losses.closed_form import closed_form, softmax_from_0
from imbal_core.losses.functional import MASKED, checked
from imbal_core.losses.options import FORMS

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
    return closed_form(_rows, logits, targets, reduction, cross_entropy, entropy)


def _rows(z: Tensor, chosen: Tensor, slope: Tensor, factor: float, a: float, b: float) -> Tensor:
    """Return a CE + b C, with gradient a p_j - b q_j (log q_j + C); see `imbal_core.losses.closed_form.closed_form`."""
    wrong = torch.clamp(z, min=_LOWEST, out=slope).scatter_(1, chosen, MASKED)
    top = wrong.amax(1, keepdim=True)
    wrong -= top
    share, log_total = softmax_from_0(wrong)
    wrong *= share
    top, own = F.threshold(top, _LOWEST, -torch.inf), z.gather(1, chosen)
    # NaN where logits are no distribution (+inf, NaN, -inf alone), as cross entropy is there.
    mean = wrong.sum(1, keepdim=True).add_(torch.maximum(own, top), alpha=0)
    odds = top.add_(log_total).sub_(own)
    right = odds.sigmoid().mul_(a * factor)
    share *= torch.add(right, mean, alpha=b * factor)
    torch.sub(share, wrong, alpha=b * factor, out=slope).scatter_(1, chosen, right.neg_())
    entropy = log_total.sub_(mean)
    # The threshold only keeps exp finite: beyond it softplus(u) = u to the last bit.
    return torch.add(F.softplus(odds, threshold=40.0), entropy, alpha=b) if a else b * entropy
