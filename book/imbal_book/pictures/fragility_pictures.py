"""Figures of the chapter on CNN fragility: embeddings of a class, shares of its logit, gaps, overlaps, diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from imbal_book.pictures.arms import METHODS, legend_name
from imbal_book.pictures.figures import SMALL, Drawing, curve, facets, finish, panels, told, wrapped
from imbal_book.pictures.labels import name_points

#: A unit is called silent if no class's mean |CE| in it reaches this share of the largest of all units.
_SILENT = 0.005


def embeddings(
    features: np.ndarray, weights: np.ndarray, names: Sequence[str], *, title: str = "", caption: str = ""
) -> Drawing:
    """Return mean FE, weights and mean CE of every class as three pictures, a row per class, a column per unit.

    ``features`` and ``weights`` (C, D) are the mean FE of each class and the classifier's weights; CE are their
    products. Units are ordered by the class to whose CE they add most, so that each class's own units stand together;
    units that hardly answer to any class stand last.
    """
    products = features * weights
    strongest = np.abs(products).max(axis=0)
    owner = np.where(strongest < _SILENT * strongest.max(), len(names), products.argmax(axis=0))
    order = np.lexsort((-products.max(axis=0), owner))
    figure, axes = panels(1, rows=3, width=9.5, height=1.6 + 0.66 * len(names), share_y=False)
    shown = {"FE": features, "weights": weights, "CE = FE × weights": products}
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        top = np.abs(values).max()
        look: dict[str, Any] = (
            {"cmap": "Greys", "vmin": 0} if name == "FE" else {"cmap": "RdBu_r", "vmin": -top}
        )
        image = ax.imshow(values[:, order], aspect="auto", interpolation="nearest", vmax=top, **look)
        ax.set_yticks(range(len(names)), names, fontsize=SMALL)
        ax.set_title(name, loc="left", fontsize=SMALL)
        ax.grid(visible=False)
        figure.colorbar(image, ax=ax, pad=0.01)
    axes[-1].set_xlabel("unit, by the class that it speaks for most; the silent ones last")
    figure.suptitle(title)
    shares = np.sort(np.abs(products), axis=1)[:, ::-1]
    share = shares[:, :10].sum(axis=1) / shares.sum(axis=1)
    table = pd.DataFrame({"class": list(names), "logit less bias": products.sum(axis=1)})
    table = table.assign(**{"largest CE": products.max(axis=1), "share of the 10 largest |CE|": share})
    said = told("{class}: the ten largest carry {most:.0f} % of all |CE|.", table.assign(most=100 * share))
    return Drawing(figure, f"Heat maps, {title or 'embeddings of every class'}. {said}", table, caption)


def share_curves(shares: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the share of the logit in the top K against K, a panel for each class.

    ``shares`` has the columns panel (the class), method (a key of `pictures.arms.METHODS`), k, mean, low, high
    (fractions) and n.
    """
    names = list(dict.fromkeys(shares["panel"]))
    columns = min(5, len(names))
    figure, axes = wrapped(len(names), columns, width=1.75 * columns + 0.8, height=1.9, margin=0.9)
    for ax, name in zip(axes, names, strict=True):
        for method, part in shares[shares["panel"] == name].groupby("method", sort=False):
            curve(ax, part["k"], part, str(method), markersize=4.5, label=legend_name(str(method)))
        ax.set_xscale("log", base=2)
        ticks = [k for k in (1, 3, 10, 30, 100) if k <= shares["k"].max()]
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.set_xticks([], minor=True)
        ax.axvline(10, color="#d9d9d9", linewidth=1, zorder=0)
        ax.set_title(name, fontsize=SMALL)
        ax.set_ylim(0, 104)
    for ax in axes[max(0, len(names) - columns) : len(names)]:
        ax.set_xlabel("K")
    for ax in axes[::columns]:
        ax.set_ylabel("share (%)")
    finish(figure, title, 4)
    at = shares[shares["k"] == 10]
    said = told("{panel}, {method}: {percent:.0f} % at K = 10.", at.assign(percent=100 * at["mean"]))
    alt = f"Curves, {title or 'share of the logit in the top K'}. {said}"
    return Drawing(figure, alt, _known(shares), caption)


def gaps(points: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return the magnitude gap from train to test against class size, a panel for each place.

    ``points`` has the columns panel, method (a key of `pictures.arms.METHODS`), train_count, mean, low, high
    (fractions) and n.
    """
    figure, parts = facets(points, "panel", each=3.9, least=5.6, height=4.2)
    for ax, name, here in parts:
        ax.axhline(0, color="#4d4d4d", linewidth=1)
        for method, part in here.sort_values("train_count", kind="stable").groupby("method", sort=False):
            curve(ax, part["train_count"], part, str(method), markersize=4.5, label=legend_name(str(method)))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(name, fontsize=11)
        ax.set_xlabel("training images of the class")
        ax.margins(y=0.12)
        for words, height, side in (("weaker in the test", 0.99, "top"), ("stronger", 0.01, "bottom")):
            ax.text(0.02, height, words, transform=ax.transAxes, va=side, fontsize=SMALL, color="#595959")
    figure.axes[0].set_ylabel("magnitude lost from\ntrain to test (%)")
    finish(figure, title, 3)
    by_size = points.sort_values("train_count", kind="stable").groupby(["panel", "method"], sort=False)
    alt = f"Lines, {title or 'magnitude gap against class size'}. " + " ".join(
        f"{name}, {method}: {100 * part.iloc[0]['mean']:.0f} % for the rarest class, "
        f"{100 * part.iloc[-1]['mean']:.0f} % for the largest."
        for (name, method), part in by_size
    )
    return Drawing(figure, alt, _known(points), caption)


def _known(points: pd.DataFrame) -> pd.DataFrame:
    """Return the drawn numbers, without the columns of intervals where no point has one."""
    infinite = not np.isfinite(points[["low", "high"]].to_numpy(dtype=np.float64)).any()
    return points.drop(columns=["sd", "low", "high"] if infinite else ["sd"])


def overlaps(
    matrices: Mapping[str, np.ndarray], names: Sequence[str], *, title: str = "", caption: str = ""
) -> Drawing:
    """Return the overlap of the top-K units of every class with those of every class, a heat map for each arm.

    ``matrices`` (C, C) by panel are fractions, NaN where undefined. The diagonal is left empty.
    """
    figure, axes = panels(len(matrices), width=3.9 * len(matrices) + 1.1, height=4.3)
    upper = np.triu(np.ones((len(names), len(names)), dtype=bool), 1)
    pairs = []
    for ax, (panel, matrix) in zip(axes, matrices.items(), strict=True):
        shown = pd.DataFrame(matrix, pd.Index([*names], name="class"), pd.Index([*names], name="other class"))
        sns.heatmap(
            100 * shown, mask=np.eye(len(names), dtype=bool), ax=ax, cmap="viridis", vmin=0, vmax=100, annot=True,
            fmt=".0f", annot_kws={"size": SMALL}, square=True, cbar=False, xticklabels=True, yticklabels=True,
        )  # fmt: skip
        ax.set(title=panel, xlabel="", ylabel="")
        ax.grid(visible=False)
        ax.tick_params(labelsize=SMALL)
        pairs.append(shown.where(upper).reset_index().melt("class", value_name="overlap").assign(panel=panel))
    figure.colorbar(axes[0].collections[0], ax=axes, label="shared units (%)", shrink=0.8)
    figure.suptitle(title)
    table = pd.concat(pairs, ignore_index=True)[["panel", "class", "other class", "overlap"]].dropna()
    groups = table.groupby("panel", sort=False)["overlap"]
    most = table.assign(mean=100 * groups.transform("mean"), most=100 * table["overlap"]).loc[groups.idxmax()]
    said = "{panel}: {mean:.0f} % on average, most, {most:.0f} %, between {class} and {other class}."
    alt = f"Heat maps, {title or 'overlap of the top-K units of classes'}. {told(said, most)}"
    return Drawing(figure, alt, table, caption)


def diversity_and_recall(points: pd.DataFrame, *, title: str = "", caption: str = "") -> Drawing:
    """Return recall against the diversity of each class, a panel for each place, a mark's size its class size.

    ``points`` has the columns panel, name (the class), train_count, rare (bool), diversity and recall (means over
    seeds).
    """
    figure, parts = facets(points, "panel", each=3.9, least=5.6, height=4.1)
    for ax, name, part in parts:
        sizes = 20 + 160 * part["train_count"] / points["train_count"].max()
        for rare, rows in part.groupby("rare"):
            ax.scatter(
                rows["diversity"], 100 * rows["recall"], color=METHODS["CE balanced" if rare else "D"].color,
                marker="v" if rare else "o", s=sizes[rows.index],
                label="rarer half of the classes" if rare else "the other classes",
            )  # fmt: skip
        ax.set_title(name, fontsize=11)
        ax.set_xlabel("effective rank of\nequally many training FE")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_ylim(-6, 106)
        ax.margins(x=0.1)
    figure.axes[0].set_ylabel("recall (%)")
    finish(figure, title, 2)
    figure.draw_without_rendering()
    for ax, _, part in parts:
        xs, ys = part["diversity"].to_numpy(), 100 * part["recall"].to_numpy()
        name_points(ax, list(part["name"]), xs, ys, ["#1a1a1a"] * len(part))
    said = "{panel}, {name} ({train_count:,} images): effective rank {diversity:.1f}, recall {percent:.0f} %."
    said = told(said, points.assign(percent=100 * points["recall"]))
    return Drawing(figure, f"Scatter plot, {title or 'recall against diversity'}. {said}", points, caption)
