"""The losses as pure functions of logits (N, K), targets and, where they need them, class counts (K,).

All of them keep one contract:

- *Logits* are float16, bfloat16, float32 or float64; the two short types are computed in float32. A logit of -inf is a
  class that cannot be: its probability is 0, and the loss its limit, infinite where the target is that class. A row
  with +inf or NaN, or of -inf alone, has the loss NaN.
- *Targets* are class indices (N,) of any integer type, or probabilities t (N, K), as mixup makes them. The loss of the
  latter is sum_j t_j loss(z, j), linear in t. An index outside [0, K), -100 included, or a row that is no distribution
  is an error: a ValueError on a CPU; on a GPU, for which nothing here waits, an index is caught by CUDA's own assertion
  and a row is not looked at.
- ``reduction`` is "mean", "sum" or "none" (one value per image). Other shapes and types, and an unknown reduction, are
  a ValueError.

Symbols: z logits, g the target, p = softmax(z), n_c the images of class c, K classes, CE = -log p_g. The losses
on the wrong classes are in `imbal_core.losses.complement`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_core._checks.names import unknown_name
from imbal_core.losses.class_weights import Counts, checked_counts
from imbal_core.losses.closed_form import closed_form, reduced, softmax_from_0
from imbal_core.losses.options import REDUCTIONS

# Far below any logit, yet finite: its exponential is 0, and 0 times it is 0, where infinity gives NaN.
MASKED = -1e30
_INDICES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# PyTorch leaves images with the target -100 out, without a word. No target has this value.
_NO_TARGET = -(2**62)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Return the cross entropy w_g CE, or its label-smoothed form w.r.t. (1 - s) onehot(g) + s / K.

    Gradient: w_g (p_j - target_j), where target is the (smoothed) one-hot vector. The mean divides by the sum of w_g
    over the batch, `class_weights` of shape (K,), as PyTorch and the LDAM repository do (Cui et al. divide by N);
    weights that are all equal then change nothing. `smoothing` is s, a fraction: Szegedy, C. et al. (2016), "Rethinking
    the Inception Architecture for Computer Vision".
    """
    logits, targets = checked(logits, targets, reduction, class_weights)
    return _cross_entropy(logits, targets, reduction, class_weights, smoothing)


def _cross_entropy(
    logits: Tensor, targets: Tensor, reduction: str, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    weights = None if weights is None else weights.to(logits.dtype)
    if targets.ndim == 1:
        options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": _NO_TARGET}
        return F.cross_entropy(logits, targets, weights, **options)  # type: ignore[arg-type]
    values = -logits.log_softmax(1)
    values = values if weights is None else weights * values
    if smoothing:
        values = (1 - smoothing) * values + smoothing * values.mean(1, keepdim=True)
    return _expected(values, targets, reduction, weights)


def focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | Tensor = 0.25,
    reduction: str = "mean",
) -> Tensor:
    """Return the focal loss in its softmax form, alpha_g (1 - p_g)^gamma CE; its mean divides by N.

    Gradient: alpha_g (1 - p_g)^gamma (1 + gamma p_g CE / (1 - p_g)) (p_j - [j = g]).

    gamma is the focusing exponent, with 0 it is alpha_g CE; alpha is one factor for all classes, or one for each, of
    shape (K,). The paper, Lin, T.-Y. et al. (2017), "Focal Loss for Dense Object Detection", with gamma 2 and alpha
    0.25, uses sigmoids; the softmax form with one factor alpha for all classes is the one of the CCE repository. The
    LDAM repository differs: it takes p_g = exp(-w_g CE), the *weighted* cross entropy, in the factor (1 - p_g)^gamma
    too, has gamma 1, and no alpha.
    """
    logits, targets = checked(logits, targets, reduction, alpha if isinstance(alpha, Tensor) else None)
    values = _focused(_log_odds_against(logits, targets), gamma)
    if isinstance(alpha, Tensor):
        alpha = alpha.to(logits.dtype)[targets] if targets.ndim == 1 else alpha.to(logits.dtype)
    return _expected(alpha * values, targets, reduction)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    smoothing: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    """Return the asymmetric loss for one label an image, - sum_j t_j v_j log p_j; its mean divides by N.

    t = (1 - s) onehot(g) + s / K are the smoothed targets. v_g = (1 - p_g)^gamma_pos, and for a wrong class
    v_j = p_j^gamma_neg, so that of the smoothed targets hardly more than the true class's is left. Gradient:
    sum_j a_j ([j = k] - p_k) with a_j = -t_j d(v_j log p_j) / d(log p_j).

    gamma_pos is the focusing exponent of the true class, as gamma of `focal`, gamma_neg that of the wrong classes; 0
    for both gives label smoothing. Where the fraction s, `smoothing`, is 0 the wrong classes have no part, and
    gamma_pos 0 gives CE. Ridnik, T. et al. (2021), "Asymmetric Loss For Multi-Label Classification"; the form for one
    label, and the defaults, are ``ASLSingleLabel`` of its repository Alibaba-MIIL/ASL, as dd1github/EOS has it.
    """
    logits, targets = checked(logits, targets, reduction)
    if targets.ndim == 1 and gamma_neg and not gamma_pos:
        return closed_form(_asymmetric_rows, logits, targets, reduction, gamma_neg, smoothing)
    if targets.ndim == 1:
        targets = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    share = smoothing / logits.shape[1]
    true = (1 - smoothing + share) * _focused(_log_odds_against(logits, targets), gamma_pos)
    values = _expected(true, targets, "none")
    if smoothing:  # p log p of a class that cannot be is 0
        log_p = logits.log_softmax(1).clamp(min=MASKED if gamma_neg else -torch.inf)
        wrong = (gamma_neg * log_p).exp() * -log_p
        values = values + share * _expected(wrong, 1 - targets, "none")
    return reduced(values, reduction)


def _asymmetric_rows(
    z: Tensor, chosen: Tensor, slope: Tensor, factor: float, gamma: float, smoothing: float
) -> Tensor:
    """Return the loss of `asymmetric` with gamma_pos 0; see `imbal_core.losses.closed_form.closed_form`."""
    share = smoothing / z.shape[1]
    true = 1 - smoothing + share
    log_p = torch.sub(z, z.amax(1, keepdim=True), out=slope)
    p, log_total = softmax_from_0(log_p)
    log_p -= log_total
    own = log_p.gather(1, chosen)
    # pow is slow but for squares: that of the default exponent, 4, is two of them.
    wrong = p.pow(gamma / 2).square_().scatter_(1, chosen, 0.0)
    log_p.clamp_(min=MASKED).mul_(wrong)
    values = log_p.sum(1, keepdim=True).mul_(-share).sub_(own, alpha=true)
    wrong.add_(log_p, alpha=gamma)
    pull = torch.full_like(own, true * factor)
    p *= torch.add(pull, wrong.sum(1, keepdim=True), alpha=share * factor)
    torch.sub(p, wrong, alpha=share * factor, out=slope).scatter_add_(1, chosen, pull.neg_())
    return values


def ldam(
    logits: Tensor,
    targets: Tensor,
    margins: Tensor,
    *,
    scale: float = 30.0,
    class_weights: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the label-distribution-aware margin loss: w_g CE of s (z - m_g onehot(g)).

    Gradient: w_g s (p'_j - [j = g]) with p' = softmax(s (z - m_g onehot(g))). The logits are cosines (see
    `imbal_core.models.heads.NormedLinear`), so the margins m, of shape (K,), have their scale; the paper has m_c
    proportional to n_c^(-1/4). `scale` is s, that of the repository, `class_weights` w, as for `cross_entropy`. Cao, K.
    et al. (2019), "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss".
    """
    logits, targets = checked(logits, targets, reduction, margins, class_weights)
    margins = margins.to(logits.dtype)
    if targets.ndim == 1:
        moved = logits.scatter_add(1, targets.unsqueeze(1), -margins[targets].unsqueeze(1))
        return _cross_entropy(scale * moved, targets, reduction, class_weights)
    values = _focused(_log_odds_against(scale * logits, targets) + scale * margins, 0.0)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    return _expected(values if weights is None else weights * values, targets, reduction, weights)


def balanced_softmax(
    logits: Tensor, targets: Tensor, class_counts: Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Return the balanced softmax loss, CE of z_c + log n_c, with counts n of shape (K,), each at least 1.

    Gradient: p'_j - [j = g] with p' = softmax(z + log n). Ren, J. et al. (2020), "Balanced Meta-Softmax for
    Long-Tailed Visual Recognition".
    """
    logits, targets = checked(logits, targets, reduction, class_counts)
    return _cross_entropy(logits + class_counts.to(logits.dtype).log(), targets, reduction)


def logit_adjustment(
    logits: Tensor, targets: Tensor, class_counts: Tensor, *, tau: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Return the logit-adjusted cross entropy, CE of z_c + tau log pi_c, with priors pi = n / sum(n).

    n are class counts of shape (K,), each at least 1; tau 0 gives CE, tau 1 equals `balanced_softmax`. Gradient: p'_j -
    [j = g] with p' = softmax(z + tau log pi). Menon, A. K. et al. (2021), "Long-tail learning via logit adjustment".
    """
    logits, targets = checked(logits, targets, reduction, class_counts)
    return _cross_entropy(_shifted(logits, class_counts, -tau), targets, reduction)


def adjust_logits(logits: ArrayLike | Tensor, class_counts: Counts, *, tau: float = 1.0) -> Any:
    """Return z_c - tau log pi_c, the post-hoc adjustment of a network that was trained with CE.

    Menon, A. K. et al. (2021), "Long-tail learning via logit adjustment".

    Parameters
    ----------
    logits : array-like or Tensor of shape (N, K), floating
    class_counts : list, array or Tensor of shape (K,), integer, or mapping of class to int
        n, each at least 1, see `imbal_core.losses.class_weights.checked_counts`; pi = n / sum(n).
    tau : float, default=1.0
        0 changes nothing.

    Returns
    -------
    ndarray or Tensor of shape (N, K)
        A tensor, on its device, for a tensor. float32, or float64 for float64 logits. The prediction is its argmax.

    Examples
    --------
    >>> adjust_logits(torch.tensor([[1.0, 0.0]]), {"common": 99, "rare": 1}).argmax(1)
    tensor([1])
    """
    z = logits if isinstance(logits, Tensor) else torch.from_numpy(np.array(logits))
    counts = checked_counts(class_counts).to(z.device)
    adjusted = _shifted(_checked_logits(z, counts), counts, tau)
    return adjusted if isinstance(logits, Tensor) else adjusted.numpy()


def _shifted(logits: Tensor, class_counts: Tensor, tau: float) -> Tensor:
    counts = class_counts.to(logits.dtype)
    return logits - tau * (counts.log() - counts.sum().log())


def checked(
    logits: Tensor, targets: Tensor, reduction: str, *per_class: Tensor | None, soft: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the logits in float32 or float64, and the targets as int64 (N,) or in the type of the logits (N, K).

    Values are looked at on a CPU alone, where it costs next to nothing. Without `soft`, probabilities are refused.
    """
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)
    logits = _checked_logits(logits, *per_class)
    rows, classes = logits.shape
    distributions = targets.is_floating_point() and targets.shape == logits.shape
    if not distributions and (targets.dtype not in _INDICES or targets.shape != (rows,)):
        raise ValueError(
            f"targets must be class indices of shape ({rows},), one for each row of logits, or probabilities of "
            f"shape ({rows}, {classes}), got {targets.dtype} of shape {tuple(targets.shape)}."
        )
    if distributions and not soft:
        raise ValueError(
            "complement entropy is that of the classes other than the target, so it takes class indices and no "
            "probabilities. For mixup: share * loss(logits, first) + (1 - share) * loss(logits, second)."
        )
    targets = targets.to(logits.dtype) if distributions else targets.long()
    if targets.device.type == "cpu" and not torch.compiler.is_compiling() and rows:
        low, high = (value.item() for value in targets.aminmax())
        if not distributions and (low < 0 or high >= classes):
            raise ValueError(
                f"targets must lie in [0, {classes}), got values from {low} to {high}: leave images without a "
                "class out of the batch."
            )
        if distributions and not (low >= 0 and bool(((targets.sum(1) - 1).abs() <= 1e-2).all())):
            raise ValueError("each row of soft targets must be non-negative and sum to 1.")
    return logits, targets


def _checked_logits(logits: Tensor, *per_class: Tensor | None) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            "logits must be floating-point of shape (N, K) with K at least 2, "
            f"got {logits.dtype} of shape {tuple(logits.shape)}."
        )
    for values in per_class:
        if values is not None and values.shape != logits.shape[1:]:
            raise ValueError(
                f"counts, weights and margins must have shape ({logits.shape[1]},), one for each column of "
                f"logits, got {tuple(values.shape)}."
            )
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _expected(values: Tensor, targets: Tensor, reduction: str, weights: Tensor | None = None) -> Tensor:
    """Return the values (N,) of class indices, or sum_j t_j values_j of soft targets, reduced.

    With weights, which the values (N, K) have in them already, the mean divides by those of the targets.
    """
    if targets.ndim == 2:
        values = torch.where(targets == 0, 0.0, targets * values).sum(1)  # 0 times infinity is 0 here
        if weights is not None and reduction == "mean":
            return values.sum() / (targets @ weights).sum()
    return reduced(values, reduction)


def _focused(odds: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma CE from the log odds against the class."""
    # Through its logarithm: the gradient of pow is infinite at 1 - p = 0 for gamma below 1.
    return (gamma * F.logsigmoid(odds)).exp() * -F.logsigmoid(-odds)


def _log_odds_against(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log((1 - p) / p) of each target, (N,); for soft ones of every class, (N, K), 0 where that has no share."""
    soft = targets.ndim == 2
    chosen = (logits.argmax(1) if soft else targets).unsqueeze(1)
    wrong, own = logits.scatter(1, chosen, MASKED).logsumexp(1, keepdim=True), logits.gather(1, chosen)
    # NaN where logits are no distribution (+inf, NaN, -inf alone), as cross entropy is there.
    odds = wrong - own + 0 * logits.detach().amax(1, keepdim=True)
    if not soft:
        return odds.squeeze(1)
    # 1 - p loses its digits for the likeliest class alone, whose odds are known.
    log_p = logits.log_softmax(1)
    others = torch.log1p(-log_p.exp().scatter(1, chosen, 0.0)) - log_p
    return others.scatter(1, chosen, odds).masked_fill(targets == 0, 0.0)
