"""The losses as pure functions of logits (N, K), targets (N,) and, where they need them, class counts (K,).

Shared by all: logits may be float16, bfloat16, float32 or float64; the two short types are computed in
float32. Targets are int64 in [0, K). ``reduction`` is "mean", "sum" or "none" (one value per image). The
images of a batch never wait for the host: nothing here reads a value of a tensor.

Symbols: z logits, g the target, p = softmax(z), n_c the images of class c, K classes, CE = -log p_g. The losses
on the wrong classes are in `imbal_core.losses.complement`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from imbal_core._checks.names import unknown_name

__all__ = [
    "MASKED",
    "REDUCTIONS",
    "adjust_logits",
    "asymmetric",
    "balanced_softmax",
    "checked",
    "cross_entropy",
    "focal",
    "ldam",
    "logit_adjustment",
    "reduced",
]

REDUCTIONS = ("mean", "sum", "none")

# Far below any logit, yet finite: its exponential is 0, and 0 times it is 0, where infinity gives NaN.
MASKED = -1e30


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Return the cross entropy w_g CE, or its label-smoothed form w.r.t. (1 - s) onehot(g) + s / K.

    Gradient: w_g (p_j - target_j), where target is the (smoothed) one-hot vector.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    class_weights : Tensor of shape (K,), optional
        w. The mean divides by the sum of w_g over the batch, as PyTorch and the LDAM repository do (Cui et
        al. divide by N); weights that are all equal then change nothing.
    label_smoothing : float, default=0.0
        s, a fraction.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none".

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Szegedy, C. et al. (2016). "Rethinking the Inception Architecture for Computer Vision".
    """
    logits = checked(logits, targets, class_weights)
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    return F.cross_entropy(logits, targets, weights, reduction=reduction, label_smoothing=label_smoothing)


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

    The paper uses sigmoids; the softmax form with one factor alpha for all classes is the one of the CCE
    repository. The LDAM repository differs: it takes p_g = exp(-w_g CE), the *weighted* cross entropy, in the
    factor (1 - p_g)^gamma too, has gamma 1, and no alpha.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    gamma : float, default=2.0
        Focusing exponent; 0 gives alpha_g CE.
    alpha : float or Tensor of shape (K,), default=0.25
        One factor for all classes, or one for each.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none".

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Lin, T.-Y. et al. (2017). "Focal Loss for Dense Object Detection", with gamma 2 and alpha 0.25.
    """
    logits = checked(logits, targets, alpha if isinstance(alpha, Tensor) else None)
    chosen = targets.unsqueeze(1)
    odds = _log_odds_against(logits, chosen)
    # (1 - p_g)^gamma through its logarithm: the gradient of pow is infinite at 1 - p_g = 0 for gamma below 1.
    values = (gamma * F.logsigmoid(odds)).exp() * -F.logsigmoid(-odds)
    factor = alpha.to(logits.dtype)[targets] if isinstance(alpha, Tensor) else alpha
    return reduced(factor * values, reduction)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    label_smoothing: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    """Return the asymmetric loss for one label an image, - sum_j t_j v_j log p_j; its mean divides by N.

    t = (1 - s) onehot(g) + s / K are the smoothed targets. v_g = (1 - p_g)^gamma_pos, and for a wrong class
    v_j = p_j^gamma_neg, so that of the smoothed targets hardly more than the true class's is left. Gradient:
    sum_j a_j ([j = k] - p_k) with a_j = -t_j d(v_j log p_j) / d(log p_j).

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    gamma_pos : float, default=0.0
        Focusing exponent of the true class, as gamma of `focal`.
    gamma_neg : float, default=4.0
        That of the wrong classes; 0 for both gives label smoothing.
    label_smoothing : float, default=0.1
        s, a fraction; at 0 the wrong classes have no part, and gamma_pos 0 gives CE.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none".

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Ridnik, T. et al. (2021). "Asymmetric Loss For Multi-Label Classification". The form for one label, and the
    defaults, are ``ASLSingleLabel`` of its repository Alibaba-MIIL/ASL, as dd1github/EOS has it.
    """
    logits = checked(logits, targets)
    chosen, share = targets.unsqueeze(1), label_smoothing / logits.shape[1]
    odds = _log_odds_against(logits, chosen)
    true = (gamma_pos * F.logsigmoid(odds)).exp() * -F.logsigmoid(-odds)
    log_p = logits.log_softmax(1)
    wrong = ((gamma_neg * log_p).exp() * -log_p).scatter(1, chosen, 0.0).sum(1)
    return reduced((1 - label_smoothing + share) * true + share * wrong, reduction)


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

    Gradient: w_g s (p'_j - [j = g]) with p' = softmax(s (z - m_g onehot(g))).

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
        The logits are cosines (see `imbal_core.models.heads.NormedLinear`), so the margins have their scale.
    margins : Tensor of shape (K,)
        m; the paper has m_c proportional to n_c^(-1/4).
    scale : float, default=30.0
        s.
    class_weights : Tensor of shape (K,), optional
        w, as for `cross_entropy`.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none".

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Cao, K. et al. (2019). "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss";
    the scale is that of its repository.
    """
    logits = checked(logits, targets, margins)
    subtracted = -margins.to(logits.dtype)[targets].unsqueeze(1)
    moved = scale * logits.scatter_add(1, targets.unsqueeze(1), subtracted)
    return cross_entropy(moved, targets, class_weights=class_weights, reduction=reduction)


def balanced_softmax(
    logits: Tensor, targets: Tensor, class_counts: Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Return the balanced softmax loss, CE of z_c + log n_c.

    Gradient: p'_j - [j = g] with p' = softmax(z + log n).

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    class_counts : Tensor of shape (K,)
        n, each at least 1.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none".

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Ren, J. et al. (2020). "Balanced Meta-Softmax for Long-Tailed Visual Recognition".
    """
    logits = checked(logits, targets, class_counts)
    return cross_entropy(logits + class_counts.to(logits.dtype).log(), targets, reduction=reduction)


def logit_adjustment(
    logits: Tensor,
    targets: Tensor,
    class_counts: Tensor,
    *,
    tau: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """Return the logit-adjusted cross entropy, CE of z_c + tau log pi_c, with priors pi = n / sum(n).

    Gradient: p'_j - [j = g] with p' = softmax(z + tau log pi). At tau 1 it equals `balanced_softmax`.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    class_counts : Tensor of shape (K,)
        n, each at least 1.
    tau : float, default=1.0
        0 gives CE.
    reduction : {"mean", "sum", "none"}, default="mean"

    Returns
    -------
    Tensor
        A scalar, or shape (N,) for "none".

    Raises
    ------
    ValueError
        If shapes or types are not those above, or the reduction is unknown.

    References
    ----------
    Menon, A. K. et al. (2021). "Long-tail learning via logit adjustment".
    """
    logits = checked(logits, targets, class_counts)
    return cross_entropy(adjust_logits(logits, class_counts, tau=-tau), targets, reduction=reduction)


def adjust_logits(logits: Tensor, class_counts: Tensor, *, tau: float = 1.0) -> Tensor:
    """Return z_c - tau log pi_c, the post-hoc adjustment of a network that was trained with CE.

    Parameters
    ----------
    logits : Tensor of shape (N, K), float
    class_counts : Tensor of shape (K,)
        n, the images of each class in training, each at least 1; pi = n / sum(n).
    tau : float, default=1.0
        0 changes nothing.

    Returns
    -------
    Tensor of shape (N, K)
        float32, or float64 for float64 logits. The prediction is its argmax.

    Raises
    ------
    ValueError
        If shapes or types are not those above.

    References
    ----------
    Menon, A. K. et al. (2021). "Long-tail learning via logit adjustment".

    Examples
    --------
    >>> logits = torch.tensor([[1.0, 0.0]])
    >>> adjust_logits(logits, torch.tensor([99, 1])).argmax(1)
    tensor([1])
    """
    logits = checked(logits, None, class_counts)
    counts = class_counts.to(logits.dtype)
    return logits - tau * (counts.log() - counts.sum().log())


def checked(logits: Tensor, targets: Tensor | None, per_class: Tensor | None = None) -> Tensor:
    """Return the logits in float32 or float64 after checks that need no value of a tensor."""
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            "logits must be floating-point of shape (N, K) with K at least 2, "
            f"got {logits.dtype} of shape {tuple(logits.shape)}."
        )
    if targets is not None and (targets.dtype != torch.int64 or targets.shape != logits.shape[:1]):
        raise ValueError(
            f"targets must be int64 class indices of shape ({logits.shape[0]},), one for each row of logits, "
            f"got {targets.dtype} of shape {tuple(targets.shape)}."
        )
    if per_class is not None and per_class.shape != logits.shape[1:]:
        raise ValueError(
            f"counts, weights and margins must have shape ({logits.shape[1]},), one for each column of logits, "
            f"got {tuple(per_class.shape)}."
        )
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def reduced(values: Tensor, reduction: str) -> Tensor:
    """Return the mean, the sum or the values themselves."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def _log_odds_against(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return log((1 - p) / p) of the chosen class of each row, shape (N,); ``chosen`` has shape (N, 1)."""
    others = logits.scatter(1, chosen, MASKED).logsumexp(1)
    return others - logits.gather(1, chosen).squeeze(1)
