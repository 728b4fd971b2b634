"""What the chapter on complement cross entropy computes while the page is built: no record is needed for it."""

from __future__ import annotations

import re
import time
import timeit
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from imbal_book.evidence.papers import Paper
from imbal_book.studies.grids.complement_cross_entropy import ARMS
from imbal_core.losses.complement import complement_cross_entropy
from imbal_core.losses.functional import cross_entropy
from imbal_core.losses.modules import build_loss

_Loss = Callable[[Tensor, Tensor], Tensor]
_RELEASED = "released expression, from its formula"
_YARDSTICK = "PyTorch's cross entropy"


def released_expression(logits: Tensor, targets: Tensor) -> Tensor:
    """Return CE - (-C / K) in the order in which the repository's HEAD computes it, a scalar.

    It takes a softmax, divides by 1 - p_g, *then* adds 1e-7, and masks the target after the logarithm. Where p_g
    rounds to 1 the quotient is 0 / 0. `imbal_core.losses.complement.complement_cross_entropy` is the same loss without
    that fault.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64
    """
    rows, classes = logits.shape
    p = logits.softmax(1)
    true = p.gather(1, targets.unsqueeze(1))
    q = p / (1 - true) + 1e-7
    wrong = torch.ones_like(p).scatter_(1, targets.unsqueeze(1), 0.0)
    return F.cross_entropy(logits, targets) - (q * q.log() * wrong).sum() / (rows * classes)


def _ours_released(logits: Tensor, targets: Tensor) -> Tensor:
    return complement_cross_entropy(logits, targets, form="released")


def sign_check(paper: Paper) -> pd.DataFrame:
    """Return the loss of two predictions, as the paper's file holds it and as our functions give it now, float64.

    A row per loss; for each prediction, the true class first, the columns "in the file" (the paper's table "sign
    check") and "now". The last row is the released expression, written from its formula, which the file does not hold.
    """
    losses: dict[str, _Loss] = {
        "CE": cross_entropy,
        "CCE (paper)": complement_cross_entropy,
        "CCE (released)": _ours_released,
        _RELEASED: released_expression,
    }
    printed = paper.tables["sign check"].frame().set_index("loss").reindex(list(losses))
    target = torch.zeros(1, dtype=torch.int64)
    columns = {}
    for name in map(str, printed):
        p = torch.tensor([[float(text) for text in re.findall(r"[.\d]+", name)]], dtype=torch.float64)
        columns[name, "in the file"] = ["" if np.isnan(held) else f"{held:.4f}" for held in printed[name]]
        columns[name, "now"] = [f"{float(function(p.log(), target)):.4f}" for function in losses.values()]
    return pd.DataFrame(columns, index=printed.index)


def confident_images(leads: Sequence[float] = (5, 10, 15, 20, 50), *, classes: int = 10) -> pd.DataFrame:
    """Return what the released expression and ours make of an image that is classified with confidence, float32.

    ``leads`` are by how much the true class's logit leads the others, which are equal. Columns lead, 1 - p (exact), and
    value and largest gradient of both.
    """
    target = torch.zeros(1, dtype=torch.int64)
    rows = []
    for lead in leads:
        row = {
            "lead of the true logit": f"{lead:g}",
            "1 - p of the true class": f"{(classes - 1) / (classes - 1 + np.exp(lead)):.1e}",
        }
        for name, function in {"released expression": released_expression, "ours": _ours_released}.items():
            logits = torch.zeros(1, classes).index_fill_(1, torch.tensor([0]), lead).requires_grad_()
            loss = function(logits, target)
            (gradient,) = torch.autograd.grad(loss, logits)
            row[f"{name}: loss"] = f"{loss.item():.4g}".replace("nan", "NaN")
            row[f"{name}: largest gradient"] = f"{gradient.abs().max().item():.1e}".replace("nan", "NaN")
        rows.append(row)
    return pd.DataFrame(rows)


def two_class_deviation(images: int = 10_000, *, seed: int = 0) -> float:
    """Return by how much complement cross entropy and cross entropy differ for two classes, float64.

    The largest difference of any value or gradient between our function and PyTorch's cross entropy, over random
    logits up to tens apart.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(images, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(2, (images,), generator=generator)
    logits.requires_grad_()
    ours, theirs = (f(logits, targets, reduction="none") for f in (complement_cross_entropy, F.cross_entropy))
    (slope,) = torch.autograd.grad((ours - theirs).sum(), logits)
    return float(torch.cat([(ours - theirs).detach(), slope.flatten()]).abs().max())


def step_costs(
    sizes: Sequence[tuple[int, int]] = ((128, 10), (512, 1000)), *, turns: int = 10
) -> pd.DataFrame:
    """Return what forward and backward of every arm's loss cost on this machine, beside two yardsticks.

    On the same float32 logits, on one thread, whose own time is taken; the best of ``turns`` counts. Columns loss,
    updates per batch (each needs its own pass through the network, which is not in these numbers) and, for each of the
    ``sizes`` (images, classes), microseconds and the ratio to PyTorch's cross entropy.
    """
    columns: dict[str, pd.Series] = {}
    for rows, classes in sizes:
        counts = np.maximum(1, 5000 * 0.01 ** np.linspace(0, 1, classes)).astype(int)
        functions: dict[str, list[_Loss]] = {_YARDSTICK: [F.cross_entropy]}
        for name, (loss, options) in ARMS.items():
            functions[name] = list(build_loss(loss, class_counts=counts, **options).updates)
        functions[_RELEASED] = [released_expression]
        best = pd.Series({name: _best(own, rows, classes, turns) for name, own in functions.items()})
        columns["updates per batch"] = pd.Series({name: len(own) for name, own in functions.items()})
        columns[f"{rows:,} × {classes:,}: µs"] = (1e6 * best).map("{:,.0f}".format)
        columns[f"{rows:,} × {classes:,}: × PyTorch's CE"] = (best / best[_YARDSTICK]).map("{:.1f}".format)
    return pd.DataFrame(columns).rename_axis("loss").reset_index()


def _best(objectives: Sequence[_Loss], rows: int, classes: int, turns: int) -> float:
    """Return the seconds of the fastest run of every objective, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator).requires_grad_()
    targets = torch.randint(classes, (rows,), generator=generator)

    def step() -> None:
        for objective in objectives:
            torch.autograd.grad(objective(logits, targets), logits)

    calls, threads = max(1, 20_000 // (rows * classes)), torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several threads wait for one another, at every call
    try:
        return min(timeit.repeat(step, timer=time.thread_time, number=calls, repeat=turns)) / calls
    finally:
        torch.set_num_threads(threads)
