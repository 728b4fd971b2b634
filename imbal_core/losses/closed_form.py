"""Losses of class indices whose gradient is worked out in closed form, in the same pass over the logits as the value.

Automatic differentiation keeps five matrices of that size and reads each twice, in twice as many calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits that one thread of a CPU works on at a time (2 MB of float32). Larger parts fall out of its cache, in
# smaller ones the calls cost more than the arithmetic.
_LOGITS_PER_THREAD = 524_288


def closed_form(
    rows: Callable[..., Tensor], logits: Tensor, targets: Tensor, reduction: str, *options: float
) -> Tensor:
    """Return the loss of each image, (N,), or reduced; it can be differentiated once.

    Of logits (n, K), targets (n, 1), a matrix (n, K) to work in, a factor and the options, `rows` returns the losses
    (n, 1), and leaves their gradient times the factor in the matrix: fresh memory costs more than the arithmetic.
    """
    return _ClosedForm.apply(logits, targets.unsqueeze(1), rows, reduction, options)


def reduced(values: Tensor, reduction: str) -> Tensor:
    """Return the mean, the sum or the values themselves."""
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def softmax_from_0(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(z), (n, K), and log sum_j exp z_j, (n, 1), where the largest logit of each row is 0."""
    if z.shape[1] < 64:  # PyTorch's own softmax takes as long as five other steps where classes are few
        share = z.exp()
        total = share.sum(1, keepdim=True)
        return share.div_(total), total.log_()
    share = z.softmax(1)
    return share, share.amax(1, keepdim=True).log_().neg_()  # the largest share is exp(0) / total


class _ClosedForm(torch.autograd.Function):
    """Keep the gradient for the backward pass, where nothing is left to do if the loss itself is differentiated."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, rows: Any, reduction: str, options: tuple[float, ...]
    ) -> Tensor:
        number, classes = logits.shape
        factor = 1 / max(number, 1) if reduction == "mean" else 1.0
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        ctx.save_for_backward(gradient)
        step, whole = number, (logits, targets, gradient)
        if logits.device.type == "cpu" and not torch.compiler.is_compiling():
            step = max(1, _LOGITS_PER_THREAD * torch.get_num_threads() // classes)
        if number <= step:
            values = rows(*whole, factor, *options)
        else:
            parts = zip(*(each.split(step) for each in whole), strict=True)
            values = torch.cat([rows(*part, factor, *options) for part in parts])
        return values.squeeze(1) if reduction == "none" else reduced(values, reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        # A factor is looked at on a CPU alone: elsewhere that waits for the device, and costs more than to apply it.
        if outer.ndim:
            outer = outer.unsqueeze(1)
        elif outer.device.type == "cpu" and not torch.compiler.is_compiling() and outer.item() == 1:
            return gradient, None, None, None, None
        return gradient * outer, None, None, None, None
