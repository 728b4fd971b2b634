"""Linear heads on fixed features, many at once: every split and every learning rate is one slice of a tensor.

A head is a weight (D, K) and a bias (K,) on features (N, D). It is trained with full-batch Adam, which has no
noise of its own: two remedies on one split start from the same weights and differ by their objective alone. An
expected step of over-sampling, of class-balanced sampling and of a re-trained classifier (cRT) is a step with
inverse-frequency weights here, so these are one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from imbal_book.heads import LENGTHS, RATES

__all__ = ["Heads", "Objective", "Rows", "Setting", "train_heads"]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
#: Share of the steps after which what is minimised late begins: 160 of 200 epochs in the literature.
_LATE = 0.8
#: Floats of logits and features held at once: 200 MB, whatever the number of splits.
_MOST_FLOATS = 5e7


class Setting(NamedTuple):
    """A learning rate, an L2 penalty's weight, and the largest length of a class's weights."""

    rate: float
    decay: float = 0.0
    radius: float = math.inf


@dataclass(frozen=True)
class Objective:
    """What a head minimises.

    Attributes
    ----------
    loss : callable
        From logits (N, K), targets (N,) and what `per_class` gives, (K,), to a value for each image, (N,).
    per_class : callable, optional
        From class counts (K,) to weights, margins or counts (K,). Without one the loss takes two arguments.
    form : {"linear", "cosine", "normalised"}
        Logits w . z + b; cosines of w and z, without bias; linear ones normalised over the batch with a learned scale
        and shift of each class (a final batch norm).
    settings : tuple of Setting
        What the head chooses from, beside the length of training; as many for every objective.
    late : Objective, optional
        What is minimised instead in the last fifth of the steps (deferred re-weighting).
    second : callable, optional
        As `loss`: every step is followed by one down its gradient, with the step size of the first and without
        momentum (complement objective training).
    """

    loss: Callable[..., Tensor]
    per_class: Callable[[Tensor], Tensor] | None = None
    form: str = "linear"
    settings: tuple[Setting, ...] = tuple(map(Setting, RATES))
    late: Objective | None = None
    second: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class Rows:
    """Which rows of a table of features train or measure each of T heads.

    Attributes
    ----------
    index : Tensor of shape (T, n), int64
        Shorter parts are filled up with row 0.
    real : Tensor of shape (T, n), bool
        False where filled up.
    """

    index: Tensor
    real: Tensor

    @classmethod
    def of(cls, parts: Sequence[ArrayLike]) -> Rows:
        """Return the rows of T parts of different sizes."""
        rows = [torch.as_tensor(part, dtype=torch.int64) for part in parts]
        index = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(part) for part in rows])
        return cls(index, torch.arange(index.shape[1]) < lengths[:, None])

    def __getitem__(self, which: slice) -> Rows:
        return Rows(self.index[which], self.real[which])


@dataclass(frozen=True)
class Heads:
    """Weights (..., D, K) and biases (..., K) of linear heads; the leading axes are lengths, splits and rates."""

    weight: Tensor
    bias: Tensor

    def picked(self, lengths: Sequence[int]) -> Heads:
        """Return the head (S, D, K) of each split s after the number of steps at place ``lengths[s]``, first rate."""
        at = list(lengths), list(range(len(lengths))), 0
        return Heads(self.weight[at], self.bias[at])


def train_heads(
    objective: Objective,
    features: Tensor,
    labels: Tensor,
    rows: Rows,
    rates: Tensor,
    *,
    num_classes: int,
    lengths: Sequence[int] = LENGTHS,
    limits: Tensor | None = None,
    seed: int = 0,
) -> Heads:
    """Return the heads of T splits and G learning rates, kept after each number of steps.

    Parameters
    ----------
    objective : Objective
    features, labels : Tensor of shape (N, D), float32, and (N,), int64
    rows : Rows
        The training rows of each split.
    rates : Tensor of shape (T, G)
        Learning rates.
    num_classes : int
        K.
    lengths : sequence of int
        L rising numbers of steps.
    limits : Tensor of shape (T, G, 2), optional
        Decay and radius of each head, see `Setting`; by default none.
    seed : int
        Of the first weights: those of `torch.nn.Linear`, equal for all splits and rates.

    Returns
    -------
    Heads
        Weights (L, T, G, D, K), biases (L, T, G, K); a cosine or normalised head is folded into a linear one with
        the same predictions.
    """
    size = rows.index.shape[1] * (features.shape[1] + 8 * rates.shape[1] * num_classes)
    step = max(1, int(_MOST_FLOATS // size))
    start = _first_weights(features.shape[1], num_classes, seed)
    if limits is None:
        limits = torch.tensor(Setting(0.0)[1:]).expand(*rates.shape, 2)
    given = torch.cat([rates.unsqueeze(2), limits], 2)
    parts = [
        _train(objective, features, labels, rows[i : i + step], given[i : i + step], start, lengths)
        for i in range(0, len(rates), step)
    ]
    return Heads(torch.cat([part.weight for part in parts], 1), torch.cat([part.bias for part in parts], 1))


def _first_weights(width: int, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return weight (D, K) and bias (K,) as `torch.nn.Linear` draws them."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(width)
    drawn = torch.empty(width + 1, num_classes).uniform_(-bound, bound, generator=generator)
    return drawn[:-1], drawn[-1]


def _train(
    objective: Objective,
    features: Tensor,
    labels: Tensor,
    rows: Rows,
    settings: Tensor,
    start: tuple[Tensor, Tensor],
    lengths: Sequence[int],
) -> Heads:
    (splits, grid), classes = settings.shape[:2], start[1].shape[0]
    inputs = features[rows.index]
    if objective.form == "cosine":
        inputs = F.normalize(inputs, dim=2)
    targets, real = labels[rows.index], rows.real
    counts = F.one_hot(targets, classes).mul(real[:, :, None]).sum(1).clamp(min=1)

    def losses(length: int) -> Iterator[list[Callable[[Tensor], Tensor]]]:
        """Yield what each step of a training of this length goes down, one after the other."""
        whole = _loss_of_each(objective, targets, counts, real, grid)
        late = whole if objective.late is None else _loss_of_each(objective.late, targets, counts, real, grid)
        second = [] if objective.second is None else [Objective(objective.second)]
        rest = [_loss_of_each(other, targets, counts, real, grid) for other in second]
        for step in range(length):
            yield [whole if step < _LATE * length else late, *rest]

    kept = []
    # what begins late depends on when the training ends, so each length is one training
    for ends in [lengths] if objective.late is None else [(length,) for length in lengths]:
        parameters = [start[0].expand(splits, grid, -1, -1), start[1].expand(splits, grid, -1)]
        if objective.form == "normalised":
            parameters += [torch.ones(splits, grid, classes), torch.zeros(splits, grid, classes)]
        parameters = [parameter.clone().requires_grad_() for parameter in parameters]
        for step in _descend(objective.form, parameters, inputs, real, losses(max(ends)), settings):
            if step in ends:
                with torch.no_grad():
                    head = _logits(objective.form, parameters, inputs, real)[1]
                kept.append([part.detach().clone() for part in head])
    return Heads(torch.stack([w for w, _ in kept]), torch.stack([b for _, b in kept]))


def _descend(
    form: str,
    parameters: Sequence[Tensor],
    inputs: Tensor,
    real: Tensor,
    losses: Iterator[list[Callable[[Tensor], Tensor]]],
    settings: Tensor,
) -> Iterator[int]:
    """Change the parameters step by step, down the losses (T,) of each step, and yield the number of steps."""
    rates, decays, radii = settings.unbind(2)
    moments, square = [torch.zeros_like(p) for p in parameters], torch.zeros_like(rates)
    for step, (first, *others) in enumerate(losses, 1):

        def gradients(loss: Callable[[Tensor], Tensor]) -> Sequence[Tensor]:
            logits = _logits(form, parameters, inputs, real)[0]
            return torch.autograd.grad(loss(logits).sum(), parameters, materialize_grads=True)

        found = list(gradients(first))
        with torch.no_grad():
            found[0] = found[0] + decays[:, :, None, None] * parameters[0]
            scale = _step(parameters, found, moments, square, rates, step)
        for other in others:
            for parameter, gradient in zip(parameters, gradients(other), strict=True):
                parameter.data.sub_(gradient * _spread(scale, parameter))
        if torch.isfinite(radii).any():
            lengths = parameters[0].data.norm(dim=2, keepdim=True)
            parameters[0].data.mul_((radii[:, :, None, None] / lengths.clamp(min=1e-12)).clamp(max=1))
        yield step


def _logits(
    form: str, parameters: Sequence[Tensor], inputs: Tensor, real: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return logits (T, n, G, K), and the weight (T, G, D, K) and bias (T, G, K) of the linear heads that give them."""
    weight, bias = parameters[:2]
    splits, grid, width, classes = weight.shape
    if form == "cosine":
        weight, bias = weight / weight.norm(dim=2, keepdim=True), torch.zeros_like(bias)
    flat = weight.transpose(1, 2).reshape(splits, width, grid * classes)
    logits = torch.bmm(inputs, flat).view(splits, -1, grid, classes) + bias[:, None]
    if form != "normalised":
        return logits, (weight, bias)
    scale, shift = parameters[2:]
    share = real[:, :, None, None] / real.sum(1)[:, None, None, None]
    mean = (logits * share).sum(1)
    factor = scale / ((logits - mean[:, None]).square() * share).sum(1).add(1e-5).sqrt()
    moved = shift - mean * factor
    head = (weight * factor.unsqueeze(-2), bias * factor + moved)
    return logits * factor[:, None] + moved[:, None], head


def _loss_of_each(
    objective: Objective, targets: Tensor, counts: Tensor, real: Tensor, grid: int
) -> Callable[[Tensor], Tensor]:
    """Return the function from logits (T, n, G, K) to the mean loss of each head, (T,) summed over rates."""
    repeated = targets[:, :, None].expand(-1, -1, grid).reshape(len(targets), -1)
    # The scale of a loss does not matter to Adam, so a plain mean serves weighted losses too.
    share = (real / real.sum(1, keepdim=True))[:, :, None]
    if objective.per_class is None:
        flat = repeated.reshape(-1)
        return lambda z: (objective.loss(z.reshape(len(flat), -1), flat).view(z.shape[:3]) * share).sum(
            (1, 2)
        )
    per_class = torch.stack([objective.per_class(row).float() for row in counts])

    def one_by_one(logits: Tensor) -> Tensor:
        heads = zip(logits.flatten(1, 2), repeated, per_class, strict=True)
        return torch.stack([objective.loss(*head) for head in heads])

    return lambda z: (one_by_one(z).view(z.shape[:3]) * share).sum((1, 2))


def _step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    moments: Sequence[Tensor],
    square: Tensor,
    rates: Tensor,
    step: int,
) -> Tensor:
    """Take one step of Adam with one second moment for a whole head and a rate of its own; return its size (T, G)."""
    squares = [g.square().sum(tuple(range(2, g.ndim))) for g in gradients]
    square.lerp_(torch.stack(squares).sum(0), 1 - _BETAS[1])
    length = (square / (1 - _BETAS[1] ** step)).sqrt().add(_EPSILON)
    scale = rates / (1 - _BETAS[0] ** step) / length
    for parameter, gradient, moment in zip(parameters, gradients, moments, strict=True):
        moment.lerp_(gradient, 1 - _BETAS[0])
        parameter.sub_(moment * _spread(scale, parameter))
    return rates / length


def _spread(values: Tensor, parameter: Tensor) -> Tensor:
    """Return a value of each head, (T, G), in the shape that multiplies a parameter."""
    return values.view(*values.shape, *[1] * (parameter.ndim - 2))
