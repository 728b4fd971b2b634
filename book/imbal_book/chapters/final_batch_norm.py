"""Results of the chapter on the final batch norm, each a table from the long frames of its study."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.chapters import Html, number
from imbal_book.chapters.readings import NOTHING, contrast, judge_forms, verdict_line
from imbal_book.evidence.claims import Verdict
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.statistics import Interval, mean_interval
from imbal_book.run.config import RunConfig
from imbal_book.studies import PROFILES
from imbal_book.studies.final_batch_norm import ARMS, BASE_IMBALANCE, OWN_START, arm, grid
from imbal_book.studies.final_batch_norm import frame as long_frame

__all__ = [
    "COMMAND",
    "MISSING",
    "PAIR",
    "arm_cells",
    "available",
    "f1_table",
    "glance",
    "in_order",
    "levels",
    "long_frame",
    "own_imbalance",
    "plant_name",
    "plants",
    "points",
    "references",
    "reported",
    "runs",
    "select",
    "shown",
    "two_starts",
    "verdicts",
    "with_side_questions",
]

#: From the nearest to the paper's protocol to the farthest.
FORMS = ("VGG19", "ResNet34", "EfficientNet-Lite0", f"EfficientNet-Lite0{OWN_START}", "small network")
#: The network as it is, and with the layer.
PAIR = ("plain", "final BN")
COMMAND = "imbal run final_batch_norm --profile laptop"
#: What stands in the place of a table or figure without records.
MISSING = Html(f"<p><em>Not attempted: <code>{COMMAND}</code> trains the runs that this needs.</em></p>")

_NAMES = {"mnist5k-8": "digit 8"}


def shown(data: pd.DataFrame, make: Callable[..., Any], **options: Any) -> Any:
    """Return ``make(data, **options)``, or :data:`MISSING` for a frame without rows."""
    return make(data, **options) if len(data) else MISSING


def in_order(records: pd.DataFrame) -> pd.DataFrame:
    """Return the records in the order of the study's grids, in which every table and figure then shows them.

    Parameters
    ----------
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`.
    """
    place = {config: i for profile in PROFILES for i, config in enumerate(grid(profile))}
    ranks = [place.get(config, len(place)) for config in records["config"]]
    return records.iloc[np.argsort(ranks, kind="stable")].reset_index(drop=True)


def plant_name(dataset: str) -> str:
    """Return how the book calls a data set of the study."""
    return _NAMES.get(dataset, dataset.removeprefix("plantvillage-"))


def available(frame: pd.DataFrame) -> list[str]:
    """Return the forms of the paper's own comparison that have records, the nearest to the paper first."""
    found = set(frame["form"])
    return [name for name in FORMS if name in found]


def select(frame: pd.DataFrame, name: str, imbalance: str | None = BASE_IMBALANCE) -> pd.DataFrame:
    """Return the rows of one form, and of one imbalance unless that is None."""
    rows = frame[frame["form"] == name]
    return rows if imbalance is None else rows[rows["imbalance"] == imbalance]


def own_imbalance(config: RunConfig) -> bool:
    """Return whether a run has the paper's own imbalance."""
    return config.imbalance.split("-")[1:3] == BASE_IMBALANCE.split(":")


def runs(records: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """Return the records behind some rows in long form, with their arm in a column ``arm``.

    Parameters
    ----------
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`.
    part : DataFrame
        With a column key, see :func:`select`.
    """
    if records.empty:
        return records
    own = records[records["key"].isin(part["key"])]
    return own.assign(arm=own["config"].map(arm))


def with_side_questions(frame: pd.DataFrame, form: str) -> str:
    """Return the form whose batch sizes and splits by leaf were run: the given one, or the same with timm's start."""
    own = f"{form}{OWN_START}"
    return (
        own if not any(name.startswith(f"{form}, ") for name in set(frame["form"])) and own in FORMS else form
    )


def two_starts(frame: pd.DataFrame, epochs: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return what the start of the head does to the plain network and to the gain of the layer.

    Parameters
    ----------
    frame, epochs : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame` and ``epoch_frame``.
    form : str
        The network as it is trained with the fair start.

    Returns
    -------
    DataFrame
        A row per plant and start that have records: mean loss of the plain network's first epoch (nats), F1 of the rare
        class of the plain network, of the same with logits adjusted and of the layer, the gain of the layer over either
        in percentage points with its 95 % interval, and the number of pairs.
    """
    rows = []
    for start, name in (("nn.Linear's", form), ("timm's own", f"{form}{OWN_START}")):
        part = select(frame, name)
        losses = select(epochs, name)
        losses = losses[
            (losses["readout"] == "plain") & (losses["metric"] == "train_loss") & (losses["epoch"] == 1)
        ]
        for plant, own in plants(part):
            gain = contrast(own, "final BN", "plain", "f1_minority")
            if gain.n:
                shift = contrast(own, "final BN", "plain, logit adjusted", "f1_minority")
                mean = levels(own, ("plain", "plain, logit adjusted", "final BN")).set_index("method")["mean"]
                loss = losses.loc[losses["dataset"].map(plant_name) == plant, "value"].mean()
                rows.append(
                    {
                        "plant": plant,
                        "start of the head": start,
                        "first loss of plain": f"{loss:.2f}",
                        "plain": f"{mean['plain']:.3f}",
                        "plain, logit adjusted": f"{mean['plain, logit adjusted']:.3f}",
                        "final BN": f"{mean['final BN']:.3f}",
                        "layer - plain": points(gain),
                        "layer - logit adjusted": points(shift),
                        "pairs": gain.n,
                    }
                )
    return pd.DataFrame(rows).sort_values("plant", kind="stable") if rows else pd.DataFrame()


def levels(
    part: pd.DataFrame, readouts: Sequence[str], metrics: Sequence[str] = ("f1_minority",)
) -> pd.DataFrame:
    """Return the level of every readout on every data set.

    Parameters
    ----------
    part : DataFrame
        Long form, of one form and one imbalance, see :func:`select`.
    readouts : sequence of str
    metrics : sequence of str
        Fractions.

    Returns
    -------
    DataFrame
        Columns dataset (as the book calls it), metric, method, mean, low, high (95 % interval over seeds, inside
        [0, 1]), n, and values, one for each seed; nothing where there is no record.
    """
    rows = []
    for dataset in dict.fromkeys(part["dataset"]):
        for metric in metrics:
            for method in readouts:
                cell = part[
                    (part["dataset"] == dataset) & (part["metric"] == metric) & (part["readout"] == method)
                ]
                if cell.empty:
                    continue
                values = cell.sort_values(["split_seed", "train_seed"])["value"].astype(float)
                here = mean_interval(values)
                low, high = np.clip([here.low, here.high], 0, 1)
                rows.append(
                    (plant_name(dataset), metric, method, here.mean, low, high, here.n, tuple(values))
                )
    return pd.DataFrame(rows, columns=["dataset", "metric", "method", "mean", "low", "high", "n", "values"])


def arm_cells(part: pd.DataFrame) -> pd.DataFrame:
    """Return F1 of the paper's arms for `pictures.batch_norm_pictures.dots`, a panel for each data set."""
    cells = levels(part, list(ARMS))
    return cells.assign(panel=cells["dataset"], row=cells["method"])


def reported(paper: Paper) -> dict[str, float]:
    """Return the minority F1 that the abstract prints, by arm; it names VGG19 and no plant."""
    names = dict(zip(PAIR, ("f1-plain", "f1-final-bn"), strict=True))
    return {method: paper.numbers[name].reported() for method, name in names.items()}


def references(paper: Paper) -> dict[str, tuple[str, float]]:
    """Return the abstract's two numbers as marks for :func:`imbal_book.pictures.batch_norm_pictures.dots`."""
    return {f"abstract: {value:.2f}, {method}": (method, value) for method, value in reported(paper).items()}


def f1_table(part: pd.DataFrame) -> pd.DataFrame:
    """Return F1 of both classes for every plant and arm, and what an arm adds to the plain one.

    Returns
    -------
    DataFrame
        A row per data set and arm that has records: F1 of the rare class with its 95 % interval, its precision and
        recall, F1 of the other class, the paired difference in F1 of the rare class to "plain" in percentage
        points, and the number of seeds.
    """
    rows = []
    cells = levels(part, list(ARMS), ("f1_minority", "precision_minority", "recall_minority", "f1_majority"))
    for (plant, method), group in cells.groupby(["dataset", "method"], sort=False):
        cell = {row["metric"]: row for row in group.to_dict("records")}
        own = part[part["dataset"].map(plant_name) == plant]
        gain = NOTHING if method == "plain" else contrast(own, str(method), "plain", "f1_minority")
        rows.append(
            {
                "plant": plant,
                "arm": method,
                "F1, rare": _level(cell["f1_minority"]),
                "precision": f"{cell['precision_minority']['mean']:.3f}",
                "recall": f"{cell['recall_minority']['mean']:.3f}",
                "F1, other": f"{cell['f1_majority']['mean']:.3f}",
                "gain over plain": points(gain),
                "seeds": cell["f1_minority"]["n"],
            }
        )
    return pd.DataFrame(rows)


def _level(cell: Mapping[Hashable, Any]) -> str:
    """Return a mean with its interval as text."""
    text = f"{cell['mean']:.3f}"
    return text if cell["n"] == 1 else f"{text} ({cell['low']:.3f} to {cell['high']:.3f})"


def points(gain: Interval, *, digits: int = 1) -> str:
    """Return a difference of fractions in percentage points with its interval; "" where there is no pair."""
    return number(gain.mean, gain.low, gain.high, digits=digits, sign=True) if gain.n else ""


def plants(part: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return (data set as the book calls it, its rows), in order of appearance."""
    return [(plant_name(name), part[part["dataset"] == name]) for name in dict.fromkeys(part["dataset"])]


def verdicts(paper: Paper, frame: pd.DataFrame) -> list[Verdict]:
    """Return the verdict on every claim in every form, the form nearest to the paper first.

    Smoke records are left out, for digits decide no claim; of two profiles of a form the larger one counts. A
    claim for which no comparison is stated has one verdict.
    """
    return [verdict for claim in paper.claims.values() for verdict in judge_forms(claim, frame, paper.forms)]


def glance(paper: Paper, found: Sequence[Verdict], frame: pd.DataFrame) -> str:
    """Return the answer of the chapter in a few sentences of Markdown, every number from records or the abstract."""
    printed = reported(paper)
    lines = []
    for name in available(frame):
        part = select(frame, name)
        gains, beside, shifted = [], [], []
        for plant, own in plants(part):
            gain = contrast(own, "final BN", "plain", "f1_minority")
            if gain.n:
                mean = levels(own, PAIR).set_index("method")["mean"]
                seeds = f"{gain.n} pair{'s' if gain.n > 1 else ''}"
                gains.append(
                    f"{plant} from {mean['plain']:.2f} to {mean['final BN']:.2f}, {points(gain)} points, {seeds}"
                )
            weighted = contrast(own, "final BN", "weighted loss", "f1_minority")
            if weighted.n:
                beside.append(f"{points(weighted)} points for {plant}")
            adjusted = contrast(own, "final BN", "plain, logit adjusted", "f1_minority")
            if adjusted.n:
                shifted.append(f"{points(adjusted)} points for {plant}")
        if gains:
            lines.append(f"- **{name}**: F1 of the rare class goes, for {'; for '.join(gains)}.")
        if beside:
            lines.append(f"- **{name}**, layer minus weights in the loss: {', '.join(beside)}.")
        if shifted:
            lines.append(
                f"- **{name}**, layer minus the plain network with its logits adjusted by the class counts after "
                f"training: {', '.join(shifted)}."
            )
    if not lines:
        lines = [f"*Not attempted: no run is recorded yet. `{COMMAND}` makes the records of this page.*"]
    abstract = (
        f"The abstract, for VGG19 and a plant that it does not name: from {printed['plain']:.2f} to "
        f"{printed['final BN']:.2f}."
    )
    return "\n".join([*lines, "", abstract, "", verdict_line(found)])
