"""Explanatory drawings of the final batch norm: where it stands, and what it makes of a perfect separation."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.special import expit

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.batch_norm_pictures import CLASSES
from imbal_book.pictures.figures import SMALL, Drawing, panels, told

_LAYER = METHODS["final BN"][1]
_GREY = METHODS["plain"][1]
_BOXES = (
    ("photograph", "of a leaf", _GREY),
    ("convolutions", "ImageNet weights,\ntrained further", _GREY),
    ("last layer", "logits\n$z_1, z_2$", _GREY),
    ("final batch norm", r"$\gamma_k\,\frac{z_k-\mu_k}{\sqrt{\sigma_k^2+\epsilon}}+\beta_k$", _LAYER),
    ("softmax", "two\nprobabilities", _GREY),
)


def layer_sketch(*, caption: str = "") -> Drawing:
    """Return the network as a row of boxes, with the final layer in its place and the way around it."""
    figure, (ax,) = panels(1, width=10.5, height=2.9)
    ax.axis("off")
    ax.set_xlim(-0.1, 10.3)
    ax.set_ylim(-0.75, 1.75)
    for index, (name, what, color) in enumerate(_BOXES):
        own = color == _LAYER
        ax.add_patch(
            matplotlib.patches.FancyBboxPatch(
                (2.1 * index, 0), 1.7, 1, boxstyle="round,pad=0.02,rounding_size=0.1", edgecolor=color,
                facecolor="#f6e9ef" if own else "#f4f4f4", linewidth=2.2 if own else 1.2,
            )
        )  # fmt: skip
        middle = 2.1 * index + 0.85
        ax.text(middle, 0.8, name, ha="center", va="center", fontsize=11, weight="bold", color=color)
        ax.text(middle, 0.36, what, ha="center", va="center", fontsize=14 if own else SMALL, color=color)
        if index:
            _arrow(ax, (middle - 1.25, 0.5), (middle - 0.87, 0.5), _GREY, "-")
    start, end = 2.1 * 2 + 0.85, 2.1 * 4 + 0.85
    _arrow(ax, (start, 1.04), (end, 1.04), _LAYER, "--")
    ax.text(
        (start + end) / 2,
        1.6,
        "way around it: removed at inference",
        ha="center",
        fontsize=SMALL,
        color=_LAYER,
    )
    ax.text(
        2.1 * 3 + 0.85, -0.2, "in training: mean and variance of the batch\nin use: their running averages",
        ha="center", va="top", fontsize=SMALL, color=_LAYER,
    )  # fmt: skip
    plain = [what.replace("\n", " ") for _, what, _ in _BOXES]
    table = pd.DataFrame({"part": [name for name, _, _ in _BOXES], "what it gives": plain})
    table.loc[2:3, "what it gives"] = [
        "logits z_1, z_2",
        "gamma_k (z_k - mu_k) / sqrt(sigma_k^2 + eps) + beta_k",
    ]
    alt = (
        f"Boxes from left to right: {', '.join(table['part'])}. The final batch norm stands between the logits and the "
        "softmax. A dashed arrow leads around it, from the logits to the softmax: the layer removed at inference."
    )
    return Drawing(figure, alt, table, caption)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, style: str) -> None:
    """Draw an arrow, bent where its style is dashed."""
    bend = "arc3,rad=-0.22" if style == "--" else "arc3"
    look = {"arrowstyle": "-|>", "connectionstyle": bend, "mutation_scale": 14, "linewidth": 1.6}
    ax.annotate(
        "", end, start, arrowprops={**look, "linestyle": style, "color": color, "shrinkA": 0, "shrinkB": 0}
    )


def _beside(ax: Axes, text: str, place: tuple[float, float], above: float, color: str) -> None:
    ax.annotate(text, place, (0, above), textcoords="offset points", ha="center", fontsize=SMALL, color=color)


def normalised_confidence(share: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the confidence in an image of the large class and of the rare one, behind a perfect separation.

    Logits that take one value on each class, and so separate them perfectly, are normalised to mean 0 and
    variance 1. With a share p of rare images, the rare logit becomes :math:`\sqrt{(1-p)/p}` on a rare image and
    :math:`-\sqrt{p/(1-p)}` on another one, and the other logit its negative. With scale 1 and shift 0 the
    confidence is the logistic function of twice that.
    """
    p = np.asarray(share, dtype=np.float64)
    return expit(2 * np.sqrt(p / (1 - p))), expit(2 * np.sqrt((1 - p) / p))


def without_rare(share: float, batch_size: int) -> float:
    """Return the chance that a batch, each image drawn independently, holds no image of the rare class."""
    return float((1 - share) ** batch_size)


def perfect_separation(ratios: Sequence[int] = (1, 10, 30, 100, 300), *, caption: str = "") -> Drawing:
    """Return how confident the normalised logits of a perfect separation are, by the share of rare images.

    ``ratios`` are the images of the large class for each rare one that are marked.
    """
    figure, (ax,) = panels(1, width=7.4, height=4.0)
    fine = 1 / (1 + np.geomspace(min(ratios), max(ratios), 200))
    marked = 1 / (1 + np.asarray(ratios, dtype=np.float64))
    for (name, color), line, points in zip(
        CLASSES.items(), normalised_confidence(fine), normalised_confidence(marked), strict=True
    ):
        ax.plot(1 / fine - 1, line, color=color, linewidth=2.2)
        ax.scatter(ratios, points, color=color, zorder=3)
        for ratio, point in zip(ratios, points, strict=True):
            if ratio == 1 and name == "rare class":
                continue  # both lines start in one point
            _beside(ax, f"{point:.2f}", (ratio, point), 7, "black")
        _beside(ax, f"image of the {name}", (ratios[2], points[2]), -24, color)
    ax.set_xscale("log")
    ax.set_xticks(list(ratios), [f"1:{ratio}" for ratio in ratios])
    ax.minorticks_off()
    ax.set_ylim(0.45, 1.08)
    ax.set_xlabel("rare images : others in the batch")
    ax.set_ylabel("confidence behind the layer")
    large, rare = normalised_confidence(marked)
    marks = pd.Series([f"1:{ratio}" for ratio in ratios], name="rare : others")
    table = pd.DataFrame({"confidence, large class": large, "confidence, rare class": rare}, marks)
    table["cross entropy, large class (nats)"] = -np.log(large)
    said = "{mark}: {confidence, large class:.2f} for the large class, {confidence, rare class:.2f} for the rare one."
    alt = "Two lines over the imbalance: confidence behind the layer where the logits separate perfectly. "
    return Drawing(
        figure, alt + told(said, table.assign(mark=marks.to_numpy())), table.reset_index(), caption
    )
