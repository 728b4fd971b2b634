"""Pictures of what a loss asks of a prediction, every number by automatic differentiation of the book's losses.

The true class is always class 0, and the wrong classes are the others. A picture follows the logits of a single
image: what a network, which shares its weights among all images, makes of these pulls is for the records to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from scipy.special import softmax
from torch import Tensor

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import SMALL, Drawing, finish, panels, told
from imbal_core.losses import complement
from imbal_core.losses import functional as functions

_Objective = Callable[[Tensor, Tensor], Tensor]

#: Arm -> its loss of each image; of COT the second update alone, for the first is cross entropy.
OBJECTIVES: dict[str, _Objective] = {
    "CE": lambda z, g: functions.cross_entropy(z, g, reduction="none"),
    "Focal": lambda z, g: functions.focal(z, g, reduction="none"),
    "COT": lambda z, g: complement.complement_objective(z, g, reduction="none"),
    "CCE (paper)": lambda z, g: complement.complement_cross_entropy(z, g, form="paper", reduction="none"),
    "CCE (released)": lambda z, g: complement.complement_cross_entropy(
        z, g, form="released", reduction="none"
    ),
}
_NAMES = {"COT": "COT, second update"}
_DARK = "#4d4d4d"
_CORNERS = np.array([[0.5, np.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]])


def values(objective: str, probabilities: np.ndarray) -> np.ndarray:
    """Return the loss of each prediction, float64 (N,), of positive probabilities (N, K), the true class first."""
    return _evaluate(objective, np.log(probabilities))[0]


def logit_gradient(objective: str, probabilities: np.ndarray) -> np.ndarray:
    """Return the derivative of the loss of each prediction by its logits, float64 (N, K), as :func:`values`."""
    return _evaluate(objective, np.log(probabilities))[1]


def _evaluate(objective: str, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each row of logits and its gradient."""
    tensor = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    loss = OBJECTIVES[objective](tensor, torch.zeros(len(logits), dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss.sum(), tensor)
    return loss.detach().numpy(), gradient.numpy()


def _predictions(true: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return probabilities of three classes from that of the true one and the first wrong one's share."""
    true, share = (grid.ravel() for grid in np.meshgrid(true, share, indexing="ij"))
    return np.stack([true, (1 - true) * share, (1 - true) * (1 - share)], axis=1)


def simplex(*, steps: int = 400, caption: str = "") -> Drawing:
    """Return the level lines of every objective on the predictions for three classes, with ways downhill.

    A way is what gradient descent on the logits makes of a prediction, ``steps`` steps of length 0.2.
    """
    figure, axes = panels(3, rows=2, width=9.8, height=6.6)
    grid = _predictions(np.linspace(0.015, 0.985, 60), np.linspace(0.01, 0.99, 61))
    starts = _predictions(np.array([0.06]), np.array([0.06, 0.2, 0.35, 0.5, 0.65, 0.8, 0.94]))
    rows = []
    for ax, objective in zip(axes, OBJECTIVES, strict=False):
        loss = values(objective, grid)
        levels = np.unique(np.quantile(loss, np.linspace(0, 1, 12)))
        ax.tricontourf(*_flat(grid), loss, levels=levels, cmap="Greys", alpha=0.5)
        ax.tricontour(*_flat(grid), loss, levels=levels, colors="#8c8c8c", linewidths=0.6, linestyles="-")
        ways, color = _descend(objective, starts, steps), METHODS[objective].color
        ax.plot(*_flat(ways), color=color, linewidth=1.8)
        ax.scatter(*_flat(ways[0]), s=20, color=color, zorder=3)
        _triangle(ax, _NAMES.get(objective, objective))
        rows += [(objective, *start, *end) for start, end in zip(starts, ways[-1], strict=True)]
    _key(axes[-1])
    places = [f"{when}, {which}" for when in ("start", "end") for which in ("p true", "wrong 1", "wrong 2")]
    table = pd.DataFrame(rows, columns=["objective", *places])
    begin = starts[-1, 1] / starts[-1, 1:].sum()
    last = table.groupby("objective", sort=False).tail(1)
    last = last.assign(share=last["end, wrong 1"] / (1 - last["end, p true"]))
    ends = told("{objective} {share:.0%} (true class {end, p true:.0%}),", last).removesuffix(",")
    alt = (
        f"{len(OBJECTIVES)} triangles of all predictions for three classes, the true class at the top, with level "
        f"lines of a loss and {len(starts)} ways downhill. The lines of CE and Focal are horizontal; those of COT fan "
        "out from the top; those of CCE (paper) close around the middle; those of CCE (released) bend the other way. A "
        f"prediction that gives the likelier wrong class {begin:.0%} of what the true class leaves ends with: {ends}."
    )
    return Drawing(figure, alt, table, caption)


def _flat(predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (x, y) of predictions (..., 3) in the triangle."""
    x, y = np.moveaxis(predictions @ _CORNERS, -1, 0)
    return x, y


def _descend(objective: str, starts: np.ndarray, steps: int, length: float = 0.2) -> np.ndarray:
    """Return the predictions after 0 to ``steps`` steps of gradient descent on the logits, (steps + 1, N, K)."""
    logits = np.log(starts)
    ways = [logits]
    for _ in range(steps):
        logits = logits - length * _evaluate(objective, logits)[1]
        ways.append(logits)
    return softmax(np.array(ways), axis=2)


def _triangle(ax: Axes, title: str) -> None:
    ax.add_patch(Polygon(_CORNERS, fill=False, edgecolor=_DARK, linewidth=1.2))
    for corner, text, above in zip(
        _CORNERS, ("true class", "wrong 1", "wrong 2"), (3, -11, -11), strict=True
    ):
        ax.annotate(
            text, corner, (0, above), textcoords="offset points", ha="center", fontsize=SMALL, color=_DARK
        )
    ax.set_title(title, pad=13)
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.1, 0.95), aspect="equal")
    ax.axis("off")


def _key(ax: Axes) -> None:
    """Draw how to read the other panels."""
    _triangle(ax, "How to read")
    below = "lines of equal loss, grey where it is high\ndot: a prediction; coloured: its way downhill"
    for height, text in (
        (0.44, "the higher,\nthe likelier\nthe true class"),
        (0.13, "middle: wrong\nclasses level"),
        (-0.2, below),
    ):
        ax.text(0.5, height, text, ha="center", va="center", fontsize=SMALL)


def levelling(true: Sequence[float] = (0.1, 0.5, 0.95), *, caption: str = "") -> Drawing:
    """Return how hard every objective pulls two wrong classes together, a panel for each p of the true class.

    Drawn is the derivative by the logit of the likelier wrong class minus that by the other one: above 0 a step
    brings them together, below 0 it drives them apart.
    """
    figure, axes = panels(len(true), width=4.1 * len(true), height=4.2)
    share = np.linspace(0.5, 0.995, 100)
    rows = []
    for ax, p_true in zip(axes, true, strict=True):
        ax.axhline(0, color=_DARK, linewidth=1)
        for objective in OBJECTIVES:
            gradient = logit_gradient(objective, _predictions(np.array([p_true]), share))
            pull = gradient[:, 1] - gradient[:, 2]
            _, color, marker, line = METHODS[objective]
            ax.plot(
                100 * share, pull, linestyle=line, linewidth=2, marker=marker, markevery=25, markersize=5,
                color=color, label=_NAMES.get(objective, objective),
            )  # fmt: skip
            rows += [(p_true, objective, share[i], pull[i]) for i in (20, 40, 60, 80, 98)]
        ax.set(title=f"true class at {100 * p_true:.0f} %", xlabel="share of the likelier wrong class (%)")
    axes[0].set_ylabel("levelling pull on the wrong logits")
    for place, side in (
        (0.97, "above 0: the two wrong\nclasses come together"),
        (0.1, "below 0: they move apart"),
    ):
        axes[0].text(0.04, place, side, transform=axes[0].transAxes, va="top", fontsize=SMALL, color=_DARK)
    finish(figure, "", 5)
    columns = ["p true", "objective", "share of the likelier wrong class", "levelling pull"]
    alt = "Lines: the pull that levels two wrong classes."
    for p_true in true:
        part = [row for row in rows if row[0] == p_true and row[2] == share[60]]
        pulls = ", ".join(f"{objective} {pull:+.2f}" for _, objective, _, pull in part)
        alt += f" True class at {p_true:.0%}, likelier wrong class at {share[60]:.0%} of the rest: {pulls}."
    return Drawing(figure, alt, pd.DataFrame(rows, columns=columns), caption)


def unrolled(
    objectives: Sequence[str] = ("CE", "CCE (paper)", "CCE (released)"),
    steps: Sequence[int] = (0, 10, 100, 1000),
    *,
    classes: int = 10,
    caption: str = "",
) -> Drawing:
    """Return one image's wrong classes after steps of gradient descent on its logits, a row for each objective.

    ``steps`` of length 1, rising, are those after which the prediction is drawn.
    """
    figure, axes = panels(
        len(steps), rows=len(objectives), width=2.9 * len(steps), height=1.9 * len(objectives)
    )
    start = np.exp([[0.6, *np.linspace(1.0, -1.0, classes - 1)]])
    ways = {objective: _descend(objective, start, max(steps), length=1.0) for objective in objectives}
    rows = []
    for ax, (objective, wanted) in zip(axes, product(objectives, steps), strict=True):
        p = ways[objective][wanted, 0]
        wrong = p[1:] / p[1:].sum()
        rows.append((objective, wanted, p[0], -(wrong * np.log(wrong)).sum(), wrong.max()))
        ax.bar(range(1, classes), 100 * wrong, color=METHODS[objective].color, width=0.8)
        ax.text(0.96, 0.9, f"true class {p[0]:.1%}", transform=ax.transAxes, ha="right", fontsize=SMALL)
        ax.set(
            xticks=[],
            title=(f"{wanted:,} steps" if wanted else "start") if objective == objectives[0] else "",
        )
        ax.grid(axis="x", visible=False)
    for ax, objective in zip(axes[:: len(steps)], objectives, strict=True):
        ax.set_ylabel(f"{objective}\nshare (%)")
    for ax in axes[-len(steps) :]:
        ax.set_xlabel("the wrong classes")
    table = pd.DataFrame(rows, columns=["objective", "steps", "p true", "entropy", "likeliest"])
    said = (
        "{objective}, after {steps:,} steps: true class {p true:.1%}, likeliest wrong class {likeliest:.0%}"
    )
    said = told(f"{said} of the rest.", table.groupby("objective", sort=False).tail(1))
    alt = f"Bars: how {classes - 1} wrong classes share what the true class leaves. {said}"
    names = {"entropy": "wrong-class entropy (nats)", "likeliest": "share of the likeliest wrong class"}
    return Drawing(figure, alt, table.rename(columns=names), caption)


def bound_of(classes: int) -> float:
    """Return ln(K - 1) / (K - 1), the most by which the paper's loss can differ from cross entropy, in nats."""
    return float(np.log(classes - 1) / (classes - 1))


def bound(classes: Sequence[int] = (2, 5, 10, 19, 100, 200, 1000), *, caption: str = "") -> Drawing:
    """Return the bound by the number of classes; the marked ones stand in the table.

    The table holds also its share of what a guess costs, ln K, and the largest difference among 20,000 predictions
    with random logits.
    """
    figure, (ax,) = panels(1, width=7.4, height=4.2)
    fine = np.unique(np.geomspace(2, max(classes), 200).astype(int))
    color = METHODS["CCE (paper)"].color
    ax.plot(fine, [bound_of(k) for k in fine], color=color, linewidth=2)
    rng = np.random.default_rng(0)
    rows = []
    for k in classes:
        ax.plot(k, bound_of(k), "o", color=color)
        ax.annotate(
            f"{k:,}: {bound_of(k):.3g}", (k, bound_of(k)), (5, 5), textcoords="offset points", fontsize=SMALL
        )
        logits = rng.normal(size=(20_000 // k + 1, k)) * rng.uniform(0, 8, (20_000 // k + 1, 1))
        p = np.maximum(softmax(logits, axis=1), 1e-300)
        seen = np.abs(values("CCE (paper)", p) - values("CE", p)).max()
        rows.append((k, bound_of(k), bound_of(k) / np.log(k), seen))
    ax.set(xscale="log", xlabel="classes K", ylabel="largest |CCE - CE| (nats)")
    ax.set_xticks(classes, [f"{k:,}" for k in classes])
    ax.minorticks_off()
    ax.set_xlim(right=2.2 * max(classes))
    table = pd.DataFrame(rows, columns=["classes", "bound (nats)", "share of ln K", "largest seen"])
    said = told("{classes:,} classes: {bound (nats):.4f} nats, {share of ln K:.1%} of ln K.", table)
    alt = f"Line: the most by which the paper's loss can differ from cross entropy. {said}"
    return Drawing(figure, alt, table, caption)
