"""What the chapter on complement cross entropy computes while the page is built: no record is needed for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from imbal_book.evidence.papers import Paper
from imbal_book.studies.complement_cross_entropy import ARMS
from imbal_core.losses.complement import complement_cross_entropy
from imbal_core.losses.functional import cross_entropy
from imbal_core.losses.modules import build_loss

__all__ = ["confident_images", "released_expression", "sign_check", "step_costs", "two_class_deviation"]

_RELEASED = "released expression, from its formula"


def released_expression(logits: Tensor, targets: Tensor) -> Tensor:
    """Return CE - (-C / K) in the order in which the repository's HEAD computes it.

    It takes a softmax, divides by 1 - p_g, *then* adds 1e-7, and masks the target after the logarithm. Where p_g
    rounds to 1 the quotient is 0 / 0. `imbal_core.losses.complement.complement_cross_entropy` is the same loss without
    that fault.

    Parameters
    ----------
    logits, targets : Tensor of shape (N, K), float, and (N,), int64

    Returns
    -------
    Tensor
        A scalar.
    """
    rows, classes = logits.shape
    p = logits.softmax(1)
    true = p.gather(1, targets.unsqueeze(1))
    q = p / (1 - true) + 1e-7
    wrong = torch.ones_like(p).scatter_(1, targets.unsqueeze(1), 0.0)
    return F.cross_entropy(logits, targets) - (q * q.log() * wrong).sum() / (rows * classes)


def sign_check(paper: Paper) -> pd.DataFrame:
    """Return the loss of two predictions, as the paper's file holds it and as our functions give it now, float64.

    Parameters
    ----------
    paper : Paper
        Its table "sign check": a row per loss, a column per prediction, the true class first.

    Returns
    -------
    DataFrame
        A row per loss; for each prediction the columns "in the file" and "now". The last row is the released
        expression, written from its formula, which the file does not hold.
    """
    printed = paper.tables["sign check"].frame()
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "CE": cross_entropy,
        "CCE (paper)": lambda z, g: complement_cross_entropy(z, g, form="paper"),
        "CCE (released)": lambda z, g: complement_cross_entropy(z, g, form="released"),
        _RELEASED: released_expression,
    }
    target = torch.zeros(1, dtype=torch.int64)
    columns: dict[tuple[str, str], list[str]] = {}
    for name in printed.columns[1:]:
        p = torch.tensor([[float(text) for text in re.findall(r"[.\d]+", name)]], dtype=torch.float64)
        held = dict(zip(printed["loss"], printed[name], strict=True))
        columns[name, "in the file"] = [f"{held[loss]:.4f}" if loss in held else "" for loss in losses]
        columns[name, "now"] = [f"{float(function(p.log(), target)):.4f}" for function in losses.values()]
    return pd.DataFrame(columns, index=pd.Index(losses, name="loss"))


def confident_images(leads: Sequence[float] = (5, 10, 15, 20, 50), *, classes: int = 10) -> pd.DataFrame:
    """Return what the released expression and ours make of an image that is classified with confidence, float32.

    Parameters
    ----------
    leads : sequence of float
        By how much the true class's logit leads the others, which are equal.
    classes : int, default=10

    Returns
    -------
    DataFrame
        Columns lead, 1 - p (exact), and value and largest gradient of both.
    """
    target = torch.zeros(1, dtype=torch.int64)
    functions = {
        "released expression": released_expression,
        "ours": lambda z, g: complement_cross_entropy(z, g, form="released"),
    }
    rows = []
    for lead in leads:
        row: dict[str, object] = {
            "lead of the true logit": f"{lead:g}",
            "1 - p of the true class": f"{(classes - 1) / (classes - 1 + np.exp(lead)):.1e}",
        }
        for name, function in functions.items():
            logits = torch.zeros(1, classes).index_fill_(1, torch.tensor([0]), lead).requires_grad_()
            loss = function(logits, target)
            loss.backward()
            assert logits.grad is not None
            row[f"{name}: loss"] = f"{loss.item():.4g}".replace("nan", "NaN")
            row[f"{name}: largest gradient"] = f"{logits.grad.abs().max().item():.1e}".replace("nan", "NaN")
        rows.append(row)
    return pd.DataFrame(rows)


def two_class_deviation(images: int = 10_000, *, seed: int = 0) -> float:
    """Return by how much complement cross entropy and cross entropy differ for two classes, float64.

    The largest difference of any value or gradient between our function and PyTorch's cross entropy, over random
    logits up to tens apart.

    Parameters
    ----------
    images : int, default=10000
    seed : int, default=0
        Of the logits and targets.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(images, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(2, (images,), generator=generator)
    found = []
    for function in (complement_cross_entropy, F.cross_entropy):
        ours = logits.clone().requires_grad_()
        values = function(ours, targets, reduction="none")
        values.sum().backward()
        assert ours.grad is not None
        found.append(torch.cat([values.detach(), ours.grad.flatten()]))
    return float((found[0] - found[1]).abs().max())


def step_costs(
    sizes: Sequence[tuple[int, int]] = ((128, 10), (512, 1000)), *, seconds: float = 1.0
) -> pd.DataFrame:
    """Return what forward and backward of every arm's loss cost on this machine, beside two yardsticks.

    All run on the same float32 logits in turns, on one thread, whose own time is taken; the best turn counts.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Images and classes.
    seconds : float, default=1.0
        For each size, if five turns take no longer.

    Returns
    -------
    DataFrame
        Columns loss, updates per batch (each needs its own pass through the network, which is not in these
        numbers) and, for each size, microseconds and the ratio to PyTorch's cross entropy.
    """
    updates: dict[str, int] = {}
    columns: dict[str, dict[str, str]] = {}
    for rows, classes in sizes:
        functions = _by_name(classes)
        updates |= {name: len(each) for name, each in functions.items()}
        best = _best_seconds(functions, rows, classes, seconds)
        size = f"{rows:,} × {classes:,}"
        columns[f"{size}: µs"] = {name: f"{1e6 * value:,.0f}" for name, value in best.items()}
        columns[f"{size}: × PyTorch's CE"] = {
            name: f"{value / best[_YARDSTICK]:.1f}" for name, value in best.items()
        }
    table = pd.DataFrame({"updates per batch": updates, **columns})
    return table.rename_axis("loss").reset_index()


_YARDSTICK = "PyTorch's cross entropy"


def _by_name(classes: int) -> dict[str, list[Callable[[Tensor, Tensor], Tensor]]]:
    """Return the objectives of one batch for every arm, and for the two yardsticks."""
    counts = np.maximum(1, 5000 * 0.01 ** np.linspace(0, 1, classes)).astype(int)
    functions: dict[str, list[Callable[[Tensor, Tensor], Tensor]]] = {_YARDSTICK: [F.cross_entropy]}
    for name, (loss, options) in ARMS.items():
        functions[name] = list(build_loss(loss, class_counts=counts, **options).updates)
    return functions | {_RELEASED: [released_expression]}


def _best_seconds(
    functions: dict[str, list[Callable[[Tensor, Tensor], Tensor]]], rows: int, classes: int, seconds: float
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator).requires_grad_()
    targets = torch.randint(classes, (rows,), generator=generator)
    calls = max(1, 20_000 // (rows * classes))
    best = dict.fromkeys(functions, float("inf"))
    threads, end = torch.get_num_threads(), time.perf_counter() + seconds
    torch.set_num_threads(1)  # on a busy machine several threads wait for one another, at every call
    try:
        turns = 0
        while turns < 5 or time.perf_counter() < end:
            turns += 1
            for name, objectives in functions.items():
                start = time.thread_time()
                for _ in range(calls):
                    for objective in objectives:
                        logits.grad = None
                        objective(logits, targets).backward()
                best[name] = min(best[name], (time.thread_time() - start) / calls)
    finally:
        torch.set_num_threads(threads)
    return best
