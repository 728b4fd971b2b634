"""Names beside the dots of a scatter plot, placed so that they can be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from imbal_book.pictures.figures import SMALL


def name_points(
    ax: Axes, names: Sequence[str], xs: np.ndarray, ys: np.ndarray, colors: Sequence[str]
) -> None:
    """Write each name where it covers neither a dot nor another name, as near to its dot as that allows.

    ``xs`` and ``ys`` are places in the units of the axes, whose layout is settled: call it after
    ``figure.draw_without_rendering()``.
    """
    pixels = ax.transData.transform(np.column_stack([xs, ys]))
    scale = ax.figure.dpi / 72
    height, ground = 14 * scale, {"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.75}
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in pixels]
    frame = ax.get_window_extent()
    # the dots at the edge first: those in the middle have more room around them
    far = np.abs(pixels - pixels.mean(0)).sum(1)
    for i in np.argsort(-far, kind="stable"):
        width = (6.2 * len(names[i]) + 4) * scale
        best: tuple[float, float, float, str] | None = None
        for reach in (8, 16, 26, 38, 52):
            for angle in range(0, 360, 20):
                dx, dy = np.cos(np.radians(angle)), np.sin(np.radians(angle))
                x, y = pixels[i] + scale * reach * np.array([dx, dy])
                left = x if dx > -0.01 else x - width
                box = (left, y - height / 2, left + width, y + height / 2)
                cost = sum(_overlap(box, other) for other in taken) + 0.5 * reach
                cost += 1e6 * (
                    box[0] < frame.x0 or box[2] > frame.x1 or box[1] < frame.y0 or box[3] > frame.y1
                )
                if best is None or cost < best[0]:
                    best = (cost, x, y, "left" if dx > -0.01 else "right")
        assert best is not None
        _, x, y, side = best
        left = x if side == "left" else x - width
        taken.append((left, y - height / 2, left + width, y + height / 2))
        ax.annotate(
            names[i], (xs[i], ys[i]), ((x - pixels[i, 0]) / scale, (y - pixels[i, 1]) / scale),
            textcoords="offset points", ha=side, va="center", fontsize=SMALL, color=colors[i], bbox=ground,
            arrowprops={"arrowstyle": "-", "color": colors[i], "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
