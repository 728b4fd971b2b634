"""Figures of the chapter on CNN fragility: embeddings of a class, shares of its logit, gaps, overlaps, diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from imbal_book.pictures.figures import METHODS, Drawing, legend_below, panels

__all__ = ["STYLE", "diversity_and_recall", "embeddings", "gaps", "overlaps", "share_curves"]

_RARE_COLOR, _COMMON_COLOR = "#CC6677", METHODS["D"][1]
#: A unit is called silent if no class's mean |CE| in it reaches this share of the largest of all units.
_SILENT = 0.005
#: Arm or kind of image -> colour, marker, line style.
STYLE: dict[str, tuple[str, str, str]] = {
    "CE balanced": ("#CC6677", "s", "--"),
    "CE imbalanced": METHODS["CE"][1:],
    "LDAM-DRW": METHODS["LDAM-DRW"][1:],
    "Focal": METHODS["Focal"][1:],
    "ASL": (METHODS["Focal"][1], "*", "--"),
    "all test images": ("#4d4d4d", "o", "-"),
    "true positives": ("#009E73", "^", "--"),
    "false negatives": ("#D55E00", "v", ":"),
}


def embeddings(
    features: np.ndarray, weights: np.ndarray, names: Sequence[str], *, title: str = "", caption: str = ""
) -> Drawing:
    """Return mean FE, weights and mean CE of every class as three pictures, a row per class, a column per unit.

    Parameters
    ----------
    features, weights : ndarray of shape (C, D)
        Mean FE of each class, and the classifier's weights; CE are their products. Units are ordered by the class
        to whose CE they add most, so that each class's own units stand together; units that hardly answer to any
        class stand last.
    names : sequence of C str
    title, caption : str
    """
    products = features * weights
    strongest = np.abs(products).max(axis=0)
    owner = np.where(strongest < _SILENT * strongest.max(), len(names), products.argmax(axis=0))
    order = np.lexsort((-products.max(axis=0), owner))
    figure, axes = panels(1, rows=3, width=9.5, height=1.6 + 0.66 * len(names), share_y=False)
    for ax, (name, values) in zip(
        axes, {"FE": features, "weights": weights, "CE = FE × weights": products}.items(), strict=True
    ):
        signed = name != "FE"
        top = np.abs(values).max()
        image = ax.imshow(
            values[:, order],
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r" if signed else "Greys",
            vmin=-top if signed else 0,
            vmax=top,
        )
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_title(name, loc="left", fontsize=10)
        ax.grid(visible=False)
        figure.colorbar(image, ax=ax, pad=0.01)
    axes[-1].set_xlabel("unit, by the class that it speaks for most; the silent ones last")
    figure.suptitle(title)
    shares = np.sort(np.abs(products), axis=1)[:, ::-1]
    table = pd.DataFrame(
        {
            "class": list(names),
            "logit less bias": products.sum(axis=1),
            "largest CE": products.max(axis=1),
            "share of the 10 largest |CE|": shares[:, :10].sum(axis=1) / shares.sum(axis=1),
        }
    )
    alt = f"Heat maps, {title or 'embeddings of every class'}. " + " ".join(
        f"{row['class']}: the ten largest carry {100 * row['share of the 10 largest |CE|']:.0f} % of all |CE|."
        for row in table.to_dict("records")
    )
    return Drawing(figure, alt, table, caption)


def share_curves(shares: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the share of the logit in the top K against K, a panel for each class.

    Parameters
    ----------
    shares : DataFrame
        Columns panel (the class), method (a key of `STYLE`), k, mean, low, high (fractions) and n.
    title, caption : str
    """
    names = list(dict.fromkeys(shares["panel"]))
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    figure, axes = panels(columns, rows=rows, width=1.75 * columns + 0.8, height=1.9 * rows + 0.9)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes, names, strict=False):
        for method, part in shares[shares["panel"] == name].groupby("method", sort=False):
            _line(ax, str(method), part["k"], part)
        ax.set_xscale("log", base=2)
        ticks = [k for k in (1, 3, 10, 30, 100) if k <= shares["k"].max()]
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.set_xticks([], minor=True)
        ax.axvline(10, color="#d9d9d9", linewidth=1, zorder=0)
        ax.set_title(name, fontsize=10)
        ax.set_ylim(0, 104)
    for ax in axes[max(0, len(names) - columns) : len(names)]:
        ax.set_xlabel("K")
    for ax in axes[::columns]:
        ax.set_ylabel("share (%)")
    figure.suptitle(title)
    legend_below(figure, axes[: len(names)], columns=4)
    at = shares[shares["k"] == 10]
    alt = f"Curves, {title or 'share of the logit in the top K'}. " + " ".join(
        f"{row['panel']}, {row['method']}: {100 * row['mean']:.0f} % at K = 10."
        for row in at.to_dict("records")
    )
    return Drawing(figure, alt, _known(shares), caption)


def gaps(points: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the magnitude gap from train to test against class size, a panel for each place.

    Parameters
    ----------
    points : DataFrame
        Columns panel, method (a key of `STYLE`), train_count, mean, low, high (fractions) and n.
    title, caption : str
    """
    names = list(dict.fromkeys(points["panel"]))
    figure, axes = panels(len(names), width=max(5.6, 3.9 * len(names)), height=4.2)
    for ax, name in zip(axes, names, strict=True):
        ax.axhline(0, color="#4d4d4d", linewidth=1)
        for method, part in points[points["panel"] == name].groupby("method", sort=False):
            part = part.sort_values("train_count")
            _line(ax, str(method), part["train_count"], part)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(name, fontsize=11)
        ax.set_xlabel("training images of the class")
    axes[0].set_ylabel("magnitude lost from\ntrain to test (%)")
    figure.suptitle(title)
    legend_below(figure, axes, columns=3)
    alt = f"Lines, {title or 'magnitude gap against class size'}. " + " ".join(
        f"{name}, {method}: {100 * part.iloc[0]['mean']:.0f} % for the rarest class, "
        f"{100 * part.iloc[-1]['mean']:.0f} % for the largest."
        for (name, method), part in points.sort_values("train_count").groupby(["panel", "method"], sort=False)
    )
    return Drawing(figure, alt, _known(points), caption)


def _known(points: pd.DataFrame) -> pd.DataFrame:
    """Return the drawn numbers, without the columns of intervals where no point has one."""
    infinite = not np.isfinite(points[["low", "high"]].to_numpy(dtype=np.float64)).any()
    return points.drop(columns=["low", "high"]) if infinite else points


def _line(ax: Axes, method: str, xs: pd.Series, rows: pd.DataFrame) -> None:
    """Draw a mean in percent with the band of its interval."""
    color, marker, line = STYLE[method]
    ax.plot(xs, 100 * rows["mean"], linestyle=line, marker=marker, markersize=4.5, color=color, label=method)
    if rows["n"].min() >= 3:  # of two runs an interval says nothing and hides everything
        ax.fill_between(xs, 100 * rows["low"], 100 * rows["high"], color=color, alpha=0.13, linewidth=0)


def overlaps(
    matrices: Mapping[str, np.ndarray], names: Sequence[str], *, title: str = "", caption: str = ""
) -> Drawing:
    """Return the overlap of the top-K units of every class with those of every class, a heat map for each arm.

    Parameters
    ----------
    matrices : mapping of str to ndarray of shape (C, C)
        By panel; fractions, NaN where undefined. The diagonal is left empty.
    names : sequence of C str
    title, caption : str
    """
    figure, axes = panels(len(matrices), width=3.9 * len(matrices) + 1.1, height=4.3)
    rows = []
    for ax, (panel, matrix) in zip(axes, matrices.items(), strict=True):
        shown = np.array(matrix, dtype=np.float64)
        np.fill_diagonal(shown, np.nan)
        image = ax.imshow(shown, cmap="viridis", vmin=0, vmax=1)
        for i, j in zip(*np.nonzero(np.isfinite(shown)), strict=True):
            ax.text(
                j, i, f"{100 * shown[i, j]:.0f}", ha="center", va="center", fontsize=7,
                color="white" if shown[i, j] < 0.6 else "black",
            )  # fmt: skip
            if i < j:
                rows.append((panel, names[i], names[j], shown[i, j]))
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_title(panel)
        ax.grid(visible=False)
    figure.colorbar(image, ax=axes, label="shared units", shrink=0.8, format=PercentFormatter(1))
    figure.suptitle(title)
    table = pd.DataFrame(rows, columns=["panel", "class", "other class", "overlap"])
    parts = []
    for panel in matrices:
        pairs = table[table["panel"] == panel]
        most = pairs.to_dict("records")[int(pairs["overlap"].argmax())]
        parts.append(
            f"{panel}: {100 * pairs['overlap'].mean():.0f} % on average, most, {100 * most['overlap']:.0f} %, "
            f"between {most['class']} and {most['other class']}."
        )
    alt = f"Heat maps, {title or 'overlap of the top-K units of classes'}. {' '.join(parts)}"
    return Drawing(figure, alt, table, caption)


def diversity_and_recall(points: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return recall against the diversity of each class, a panel for each place, a mark's size its class size.

    Parameters
    ----------
    points : DataFrame
        Columns panel, name (the class), train_count, rare (bool), diversity and recall (means over seeds).
    title, caption : str
    """
    names = list(dict.fromkeys(points["panel"]))
    figure, axes = panels(len(names), width=max(5.6, 3.9 * len(names)), height=4.1)
    for ax, name in zip(axes, names, strict=True):
        part = points[points["panel"] == name]
        sizes = 20 + 160 * part["train_count"] / points["train_count"].max()
        for rare, rows in part.groupby("rare"):
            ax.scatter(
                rows["diversity"], 100 * rows["recall"], color=_RARE_COLOR if rare else _COMMON_COLOR,
                marker="v" if rare else "o", s=sizes[rows.index],
                label="rarer half of the classes" if rare else "the other classes",
            )  # fmt: skip
        for row, size in zip(part.to_dict("records"), sizes, strict=True):
            aside = 1.5 + np.sqrt(size) / 2
            ax.annotate(
                row["name"], (row["diversity"], 100 * row["recall"]), fontsize=8, xytext=(aside, 0),
                textcoords="offset points", va="center", path_effects=[withStroke(linewidth=2, foreground="white")],
            )  # fmt: skip
        ax.set_title(name, fontsize=11)
        ax.set_xlabel("effective rank of\nequally many training FE")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_ylim(0, 106)
        ax.margins(x=0.1)
    axes[0].set_ylabel("recall (%)")
    figure.suptitle(title)
    legend_below(figure, axes, columns=2)
    alt = f"Scatter plot, {title or 'recall against diversity'}. " + " ".join(
        f"{row['panel']}, {row['name']} ({row['train_count']:,} images): effective rank {row['diversity']:.1f}, "
        f"recall {100 * row['recall']:.0f} %."
        for row in points.to_dict("records")
    )
    return Drawing(figure, alt, points, caption)
