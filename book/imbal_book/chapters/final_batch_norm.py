"""Levels, differences and verdicts of the chapter on the final batch norm, each a table from its long frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pandas as pd

from imbal_book.chapters import Chapter, Html, numbers, readings
from imbal_book.chapters.readings import wide
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.verbs import PAIR, minus, summarise
from imbal_book.run.config import RunConfig
from imbal_book.studies import build_grid
from imbal_book.studies.grids import final_batch_norm as study

LITE = study.NETWORKS["timm:tf_efficientnet_lite0"]
#: How the weights of EfficientNet-Lite0's head start -> its form.
STARTS = {"nn.Linear's": LITE, "timm's own": f"{LITE}{study.OWN_START}"}
#: From the nearest to the paper's protocol to the farthest.
FORMS = ("VGG19", "ResNet34", *STARTS.values(), "small network")
#: The two questions that change the network or the optimizer and are no claim's.
SIDES = (f"{LITE}, batch norms folded", f"{LITE}, SGD")
#: The network as it is, and with the layer.
ARMS = ("plain", "final BN")
F1 = "f1_minority"
COMMAND = "imbal run final_batch_norm --profile laptop"
#: What stands in the place of a table or figure without records.
MISSING = Html(f"<p><em>Not attempted: <code>{COMMAND}</code> trains the runs that this needs.</em></p>")
_DATASETS = (*(f"plantvillage-{plant}" for plant in study.PLANTS), "mnist5k-8")
#: What makes a cell of the study.
BY = ["form", "dataset", "imbalance"]
_WAYS = ("plain", "plain, logit adjusted", "weighted loss", "final BN", "final BN + weighted loss")
_TOLD = (
    ("weighted loss", "plain", F1),
    ("plain, logit adjusted", "plain", F1),
    ("final BN", "plain", F1),
    ("final BN", "weighted loss", F1),
    ("final BN", "plain, logit adjusted", F1),
)
_LOSS, _HEAD = "first-epoch loss of plain (nats)", "this start - timm's own, of plain"
#: Name under which a row of the two starts is glued -> that row.
_GLUED = {
    "loss": _LOSS,
    "head": _HEAD,
    "weights": "weighted loss - plain",
    "adjusted": "plain, logit adjusted - plain",
    "layer": "final BN - plain",
    "layer_weights": "final BN - weighted loss",
    "layer_adjusted": "final BN - plain, logit adjusted",
    "pairs": "pairs",
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
    told = [study.describe(config) for config in records["config"]]
    words = pd.DataFrame(told, records.index, ["arm", "form", "imbalance"], dtype=object)
    return in_order(records.assign(**words), arm=study.EVERY_ARM)


def in_order(rows: pd.DataFrame, **order: Iterable[str]) -> pd.DataFrame:
    """Return rows in the order of the page: nearest form, plant, each given column in its own order, then seeds."""
    orders = {"form": FORMS, "dataset": _DATASETS, **order, **{seed: () for seed in PAIR if seed in rows}}
    return readings.in_order(rows, **orders)


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
    return cells.assign(**cells[["low", "high"]].clip(0, 1), text=cells["mean"].map("{:.3f}".format))


def gains(frame: pd.DataFrame, *triples: tuple[str, str, str]) -> pd.DataFrame:
    """Return paired differences of readouts (a, b, metric), a minus b, of every cell that has a pair.

    Columns form, dataset, imbalance, a, b, metric, mean, low, high, n, sd, and text, the difference in percentage
    points with its interval.
    """
    parts = [minus(pick(frame, (b, a), (metric,)), b).assign(a=a, b=b) for a, b, metric in triples]
    cells = in_order(summarise(pd.concat(parts), [*BY, "a", "b", "metric"]))
    return cells.assign(text=numbers(cells, sign=True))


def table_of(columns: Mapping[str, pd.Series], *names: str) -> pd.DataFrame:
    """Return columns over the same (data set, ...) as a table for the page, the rows as in the first of them.

    ``names`` are those of the index. What a column lacks is left empty.
    """
    index = next(iter(columns.values())).index
    parts = {name: own.astype(object) for name, own in columns.items()}
    table = pd.DataFrame(parts, index=index).fillna("").rename_axis(list(names)).reset_index()
    return table.assign(**{names[0]: table[names[0]].map(plant_name)})


def arm_cells(frame: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return F1 of the paper's arms and of adjusted logits for `pictures.figures.intervals`, a panel for each plant.

    Column paper is the mean of the same network whose head starts as timm draws it.
    """
    cells, other = (levels(select(frame, name), _WAYS) for name in (form, f"{form}{study.OWN_START}"))
    paper = other.rename(columns={"mean": "paper"})[["dataset", "readout", "paper"]]
    cells = cells.merge(paper, how="left", on=["dataset", "readout"])
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
    names = {F1: "F1, rare", "precision_minority": "precision", "recall_minority": "recall"}
    names["f1_majority"] = "F1, other"
    cells, row = levels(part, study.ARMS, names), ["dataset", "readout"]
    columns = wide(cells, row, "metric", "text").rename(columns=names)
    rare = cells[cells["metric"] == F1].set_index(row)
    ends = rare["low"].map(" ({:.3f} to ".format) + rare["high"].map("{:.3f})".format)
    columns["F1, rare"] += ends.where(rare["n"] > 1, "")
    gain = gains(part, *((arm, "plain", F1) for arm in study.ARMS if arm != "plain"))
    gained = gain.set_index(["dataset", "a"])["text"]
    return table_of({**columns, "gain over plain": gained, "seeds": rare["n"]}, "plant", "arm")


def two_starts(frame: pd.DataFrame, epochs: pd.DataFrame, network: str = LITE) -> pd.DataFrame:
    """Return the two starts of a network's head side by side: a column per plant and start that has both arms.

    The rows: the plain network's loss in the first epoch, F1 of the rare class of five ways, paired differences between
    them in percentage points with 95 % intervals, what the fair start gives the plain network, and the most pairs.
    """
    own, columns, by = f"{network}{study.OWN_START}", {}, "dataset"
    plain = pick(frame[frame["imbalance"] == study.BASE_IMBALANCE], ("plain",))
    plain = plain[plain["form"].isin([network, own])]
    fair = summarise(minus(plain.assign(readout=plain["form"], form=""), own), [by]).set_index(by)
    head = {
        plant: f"{text[:-1]}; n = {n})"
        for plant, text, n in zip(fair.index, numbers(fair, sign=True), fair["n"], strict=True)
    }
    for start, form in zip(STARTS, (network, own), strict=True):
        part, first = select(frame, form), select(epochs, form)
        loss = pick(first[first["epoch"] == 1], ("plain",), ("train_loss",)).groupby(by)["value"].mean()
        told, level = gains(part, *_TOLD), levels(part, _WAYS)
        for dataset in told[by].unique():
            gain, mean = told[told[by] == dataset], level[level[by] == dataset]
            row = {_LOSS: f"{loss[dataset]:.2f}" if dataset in loss else ""}
            row |= dict(zip("F1, " + mean["readout"], mean["text"], strict=True))
            row |= dict(zip(gain["a"] + " - " + gain["b"], gain["text"], strict=True))
            row |= {_HEAD: head.get(dataset, "")} if form == network else {}
            columns[plant_name(dataset), start] = row | {"pairs": str(gain["n"].max())}
    table = pd.DataFrame(columns).fillna("")
    plants = map(plant_name, _DATASETS)
    return table[[place for place in itertools.product(plants, STARTS) if place in columns]]


def answers(starts: pd.DataFrame) -> dict[str, str]:
    """Return the numbers of the page's first sentences, by the name under which they are glued.

    ``starts`` is of :func:`two_starts`; ``fair_*`` and ``own_*`` hold its rows by start, such as ``fair_layer``:
    "+1.0 (0.5 to 1.5) on apple, ..."; "(not attempted)" where there is no record.
    """
    told, columns = {}, cast("dict[tuple[str, str], dict[str, str]]", starts.to_dict())
    for key, start in zip(("fair", "own"), STARTS, strict=True):
        own = {plant: rows for (plant, name), rows in columns.items() if name == start}
        for name, row in _GLUED.items():
            words = [f"{rows[row]} on {plant}" for plant, rows in own.items() if rows.get(row)]
            told[f"{key}_{name}"] = ", ".join(words) or "(not attempted)"
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
