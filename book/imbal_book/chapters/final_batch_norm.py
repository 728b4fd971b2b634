"""Levels, differences and verdicts of the chapter on the final batch norm, each a table from its long frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from imbal_book.chapters import Chapter, Html, number
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.verbs import PAIR, minus, summarise
from imbal_book.run.config import RunConfig
from imbal_book.studies import build_grid
from imbal_book.studies import final_batch_norm as study

__all__ = [
    "ARMS",
    "BY",
    "COMMAND",
    "F1",
    "MISSING",
    "SIDES",
    "STARTS",
    "TOLD",
    "answers",
    "arm_cells",
    "available",
    "column",
    "f1_table",
    "first_loss",
    "gains",
    "in_order",
    "levels",
    "pick",
    "plant_name",
    "points",
    "recorded_table",
    "reported",
    "runs",
    "select",
    "shown",
    "table_of",
    "two_starts",
    "wide",
]

_LITE = study.NETWORKS["timm:tf_efficientnet_lite0"]
_OWN = f"{_LITE}{study.OWN_START}"
#: How the weights of EfficientNet-Lite0's head start -> its form.
STARTS = {"nn.Linear's": _LITE, "timm's own": _OWN}
#: From the nearest to the paper's protocol to the farthest.
FORMS = ("VGG19", "ResNet34", *STARTS.values(), "small network")
#: The two questions that change the network or the optimizer and are no claim's.
SIDES = (f"{_LITE}, batch norms folded", f"{_LITE}, SGD")
#: The network as it is, and with the layer.
ARMS = ("plain", "final BN")
F1 = "f1_minority"
COMMAND = "imbal run final_batch_norm --profile laptop"
#: What stands in the place of a table or figure without records.
MISSING = Html(f"<p><em>Not attempted: <code>{COMMAND}</code> trains the runs that this needs.</em></p>")
_DATASETS = (*(f"plantvillage-{plant}" for plant in study.PLANTS), "mnist5k-8")
#: What makes a cell of the study.
BY = ["form", "dataset", "imbalance"]
#: What is told of each start of the head: a - b in F1 of the rare class, by the name of the glued number.
TOLD = {
    "weights": ("weighted loss", "plain", F1),
    "adjusted": ("plain, logit adjusted", "plain", F1),
    "layer": ("final BN", "plain", F1),
    "layer_weights": ("final BN", "weighted loss", F1),
    "layer_adjusted": ("final BN", "plain, logit adjusted", F1),
}


def shown(data: pd.DataFrame, make: Callable[..., Any], **options: Any) -> Any:
    """Return ``make(data, **options)``, or :data:`MISSING` for a frame without rows."""
    return make(data, **options) if len(data) else MISSING


def plant_name(dataset: str) -> str:
    """Return how the book calls a data set of the study."""
    return {"mnist5k-8": "digit 8"}.get(dataset, dataset.removeprefix("plantvillage-"))


def runs(records: pd.DataFrame) -> pd.DataFrame:
    """Return the records with the page's words for each in the columns arm, form and imbalance, the first pair first.

    ``records`` is of :meth:`imbal_book.chapters.Chapter.frame`.
    """
    words = pd.DataFrame(list(records["config"].map(study.describe)), columns=["arm", "form", "imbalance"])
    described = words.astype(object).set_index(records.index)
    return in_order(records.assign(**described), arm=(*study.ARMS, *study.MECHANISM_ARMS))


def in_order(rows: pd.DataFrame, **order: Sequence[str]) -> pd.DataFrame:
    """Return rows in the order of the page: nearest form, plant, each given column in its own order, then seeds."""
    places = {"form": FORMS, "dataset": _DATASETS, **order}
    ranks = {name: {value: i for i, value in enumerate(values)} for name, values in places.items()}
    by = [*places, *(seed for seed in PAIR if seed in rows)]
    return rows.sort_values(by, key=lambda c: c.map(ranks[c.name]) if c.name in ranks else c, kind="stable")


def available(frame: pd.DataFrame) -> list[str]:
    """Return the forms of the paper's own comparison that have records, the nearest to the paper first."""
    return [name for name in FORMS if name in set(frame["form"])]


def select(frame: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return the rows of one form and of the paper's own imbalance."""
    return frame[(frame["form"] == form) & (frame["imbalance"] == study.BASE_IMBALANCE)]


def pick(frame: pd.DataFrame, readouts: Iterable[str], metrics: Iterable[str] = (F1,)) -> pd.DataFrame:
    """Return the rows of these readouts and metrics, in this order."""
    order = {"metric": tuple(metrics), "readout": tuple(readouts)}
    chosen = frame[frame["metric"].isin(order["metric"]) & frame["readout"].isin(order["readout"])]
    return in_order(chosen, **order)


def levels(frame: pd.DataFrame, readouts: Iterable[str], metrics: Iterable[str] = (F1,)) -> pd.DataFrame:
    """Return the level of every readout in every cell that has records, intervals inside [0, 1].

    Columns form, dataset, imbalance, metric, readout, mean, low, high (95 %, over pairs of seeds), n, sd, values (the
    fractions behind it) and text (the mean).
    """
    rows, by = pick(frame, readouts, metrics), [*BY, "metric", "readout"]
    values = rows.groupby(by, sort=False)["value"].agg(tuple).rename("values").reset_index()
    cells = summarise(rows, by).merge(values, on=by)
    text = cells["mean"].map("{:.3f}".format)
    return cells.assign(low=cells["low"].clip(0), high=cells["high"].clip(upper=1), text=text)


def gains(frame: pd.DataFrame, *triples: tuple[str, str, str]) -> pd.DataFrame:
    """Return paired differences of readouts (a, b, metric), a minus b, of every cell that has a pair.

    Columns form, dataset, imbalance, a, b, metric, mean, low, high, n, sd, and text, the difference in percentage
    points with its interval.
    """
    parts = [minus(pick(frame, (b, a), (metric,)), b).assign(a=a, b=b) for a, b, metric in triples]
    cells = in_order(summarise(pd.concat(parts), [*BY, "a", "b", "metric"]))
    return cells.assign(text=points(cells))


def points(cells: pd.DataFrame) -> list[str]:
    """Return differences of fractions as text, in percentage points with their intervals."""
    return [number(*ends, sign=True) for ends in cells[["mean", "low", "high"]].to_numpy().tolist()]


def wide(cells: pd.DataFrame, rows: list[str], column: str, value: str) -> pd.DataFrame:
    """Return the values of one column as a table, rows and columns in the order of the cells."""
    return cells.set_index([*rows, column])[value].unstack(sort=False)


def table_of(columns: Mapping[str, pd.Series], *names: str) -> pd.DataFrame:
    """Return columns over the same (data set, ...) as a table for the page, the rows as in the first of them.

    ``names`` are those of the index. What a column lacks is left empty.
    """
    index = next(iter(columns.values())).index
    parts = {name: own.astype(object).reindex(index) for name, own in columns.items()}
    table = pd.DataFrame(parts, index=index).fillna("").rename_axis(list(names)).reset_index()
    return table.assign(**{names[0]: table[names[0]].map(plant_name)})


def arm_cells(part: pd.DataFrame) -> pd.DataFrame:
    """Return F1 of the paper's arms for `pictures.figures.intervals`, a panel for each data set."""
    cells = levels(part, study.ARMS)
    return cells.assign(panel=cells["dataset"].map(plant_name), row=cells["readout"], method=cells["readout"])


def reported(paper: Paper) -> pd.DataFrame:
    """Return the F1 of the rare class that the abstract prints, for VGG19 and no named plant: marks of `intervals`."""
    printed = [paper.numbers[name].reported() for name in ("f1-plain", "f1-final-bn")]
    labels = [f"abstract: {value:.2f}, {arm}" for arm, value in zip(ARMS, printed, strict=True)]
    return pd.DataFrame({"method": ARMS, "value": printed, "label": labels})


def f1_table(part: pd.DataFrame) -> pd.DataFrame:
    """Return F1 of both classes, precision and recall of every plant and arm, and what the arm gains over plain.

    ``part`` is of one form and imbalance. The gain is paired, in percentage points.
    """
    names = {
        F1: "F1, rare",
        "precision_minority": "precision",
        "recall_minority": "recall",
        "f1_majority": "F1, other",
    }
    cells, row = levels(part, study.ARMS, names), ["dataset", "readout"]
    columns = wide(cells, row, "metric", "text").rename(columns=names)
    rare = cells[cells["metric"] == F1].set_index(row)
    ends = rare["low"].map(" ({:.3f} to ".format) + rare["high"].map("{:.3f})".format)
    columns["F1, rare"] += ends.where(rare["n"] > 1, "")
    gain = gains(part, *((arm, "plain", F1) for arm in study.ARMS if arm != "plain"))
    gained = gain.set_index(["dataset", "a"])["text"]
    return table_of({**columns, "gain over plain": gained, "seeds": rare["n"]}, "plant", "arm")


def first_loss(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the plain runs' training loss of the first epoch (nats), a row per run of ``epoch_frame``."""
    return pick(epochs[epochs["epoch"] == 1], ("plain",), ("train_loss",))


def _fair_head(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the plain network gains by starting as nn.Linear does, over timm's start, by plant; paired."""
    rows = pick(frame[frame["imbalance"] == study.BASE_IMBALANCE], ("plain",))
    rows = rows[rows["form"].isin([_LITE, _OWN])]
    cells = summarise(minus(rows.assign(readout=rows["form"], form=""), _OWN), ["dataset"])
    return cells.assign(text=points(cells))


def two_starts(frame: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the two starts of EfficientNet-Lite0's head side by side: a column per plant and start.

    The rows: the plain network's first-epoch loss, F1 of the rare class of four ways, paired differences between them
    in percentage points with 95 % intervals, the most pairs behind one; last, what the fair start gives the plain
    network.
    """
    columns = {}
    for start, form in STARTS.items():
        part = select(frame, form)
        told, loss = (
            gains(part, *TOLD.values()),
            first_loss(select(epochs, form)).groupby("dataset")["value"].mean(),
        )
        mean = levels(part, ("plain", "weighted loss", "plain, logit adjusted", "final BN"))
        for dataset, own in told.groupby("dataset", sort=False):
            level = mean[mean["dataset"] == dataset]
            row = {"first-epoch loss of plain (nats)": f"{loss[dataset]:.2f}"}
            row |= dict(zip("F1, " + level["readout"], level["text"], strict=True))
            row |= dict(zip(own["a"] + " - " + own["b"], own["text"], strict=True))
            columns[plant_name(str(dataset)), start] = row | {"pairs": str(own["n"].max())}
    for cell in _fair_head(frame).to_dict("records"):
        columns[plant_name(cell["dataset"]), next(iter(STARTS))]["this start - timm's own, plain"] = cell[
            "text"
        ]
    table = pd.DataFrame(columns).fillna("")
    return table[[(plant, start) for plant in study.PLANTS for start in STARTS if (plant, start) in columns]]


def _by_plant(cells: pd.DataFrame) -> str:
    """Return differences as text, such as "+1.0 (0.5 to 1.5) on apple, n = 3", or that none was attempted."""
    seeds = " or ".join(map(str, sorted(set(cells["n"]))))
    found = [f"{cell['text']} on {plant_name(cell['dataset'])}" for cell in cells.to_dict("records")]
    return f"{', '.join(found)} (n = {seeds})" if found else "(not attempted)"


def answers(frame: pd.DataFrame, epochs: pd.DataFrame, form: str) -> dict[str, str]:
    """Return the numbers of the page's first sentences, by the name under which they are glued.

    ``fair_*`` is of ``form`` unless that has timm's start, ``own_*`` of the network whose head starts as timm draws it:
    ``loss``, the range of the plain runs' first-epoch loss in nats, and the differences of :data:`TOLD` by plant in
    percentage points; ``head`` is what the fair start gives the plain network.
    """
    fair = "" if form == _OWN else form
    told = {"form": fair or "(not attempted)", "head": _by_plant(_fair_head(frame))}
    for key, name in (("fair", fair), ("own", _OWN)):
        loss, cells = first_loss(select(epochs, name))["value"], gains(select(frame, name), *TOLD.values())
        told[f"{key}_loss"] = f"{loss.min():.2f} to {loss.max():.2f} nats" if len(loss) else "(not attempted)"
        for what, (a, b, _) in TOLD.items():
            told[f"{key}_{what}"] = _by_plant(cells[(cells["a"] == a) & (cells["b"] == b)])
    return told


def column(config: RunConfig) -> str:
    """Return the column of the protocol that describes a run: its profile, and what has a recipe of its own."""
    kind = [side for side in SIDES if study.form(config) == side]
    return ", ".join([config.profile, *(side.partition(", ")[2] for side in kind)])


def recorded_table(opened: Chapter) -> pd.DataFrame:
    """Return how many of the planned runs are recorded, by profile, form and imbalance, and the arms without any."""
    done = {record.run_config() for record in opened.records}
    planned = [config for profile in opened.planned for config in build_grid(opened.study, profile)]
    rows = pd.DataFrame([{"profile": c.profile, **study.describe(c), "done": c in done} for c in planned])
    by = ["profile", "form", "imbalance"]
    arms = rows.groupby([*by, "arm"], sort=False)["done"].sum().reset_index()
    without = arms[arms["done"] == 0].groupby(by, sort=False)["arm"].agg(", ".join)
    counts = rows.groupby(by, sort=False)["done"].agg(["sum", "size"]).astype(str)
    table = pd.DataFrame({"recorded": counts["sum"] + " of " + counts["size"], "arms without a run": without})
    return table.loc[counts.index].fillna("").rename_axis(["profile", "network", "imbalance"]).reset_index()
