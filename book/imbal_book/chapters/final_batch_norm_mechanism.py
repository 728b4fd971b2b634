"""By what mechanism the final batch norm works: comparisons, sweeps, and what the layer itself has learnt."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from imbal_book.chapters.final_batch_norm import (
    PAIR,
    levels,
    own_imbalance,
    plant_name,
    plants,
    points,
    select,
)
from imbal_book.chapters.readings import contrast
from imbal_book.evidence.statistics import Interval, mean_interval
from imbal_book.evidence.verbs import minus
from imbal_book.run.config import RunConfig
from imbal_book.studies.final_batch_norm import BASE_BATCH_SIZE, BASE_IMBALANCE

__all__ = [
    "QUESTIONS",
    "READOUTS",
    "answer",
    "judged_shift",
    "layer_table",
    "questions",
    "readout_cells",
    "running_share",
    "running_share_table",
    "sweep",
    "sweep_table",
]

_REMOVED = "final BN, removed at inference"
#: What stands beside the plain network and the layer, in the order of the figure.
READOUTS = (
    "plain",
    "plain, logit adjusted",
    "plain, threshold moved",
    "plain, balanced threshold",
    "plain, temperature",
    "weighted loss",
    "logit adjustment",
    "label smoothing",
    "final BN",
    "final BN, removed at inference",
    "final BN, no affine",
    "final BN, momentum 0.1",
)
# Neither score can be changed by a shift of the threshold.
_RANKING, _AT_BEST = (("final BN", "plain", "auroc"), ("final BN", "plain", "f1_best"))
#: Question, readout a, readout b, metric: the table holds a minus b.
QUESTIONS = (
    ("Does the layer rank leaves better, whatever the threshold? (AUROC)", *_RANKING),
    ("The same by precision and recall (AUPRC)", "final BN", "plain", "auprc"),
    ("And if both had their best threshold, in hindsight?", *_AT_BEST),
    ("Does the layer itself rank better, when the network is used?", "final BN", _REMOVED, "auroc"),
    ("Does it beat a shift by the known class counts?", "final BN", "plain, logit adjusted", "f1_minority"),
    ("Does it beat a threshold from validation images?", "final BN", "plain, threshold moved", "f1_minority"),
    ("The same, chosen for a balanced test?", "final BN", "plain, balanced threshold", "f1_minority"),
    ("Does it beat the shift inside the loss?", "final BN", "logit adjustment", "f1_minority"),
    ("Does it beat weights inside the loss?", "final BN", "weighted loss", "f1_minority"),
    ("Are layer and weights better than the layer?", "final BN + weighted loss", "final BN", "f1_minority"),
    ("Is it needed when the network is used?", "final BN", _REMOVED, "f1_minority"),
    ("Does it need its scale and shift?", "final BN", "final BN, no affine", "f1_minority"),
    ("Does it need its slow statistics?", "final BN", "final BN, momentum 0.1", "f1_minority"),
    ("Do soft targets alone help?", "label smoothing", "plain", "f1_minority"),
)
#: The plain network with its threshold shifted, the choices that need no test image first.
SHIFTED = {
    "plain, logit adjusted": "shifted by the class counts",
    "plain, balanced threshold": "shifted by validation images",
}
_PANELS = {"f1_minority": "with the threshold that it has", "auroc": "with any threshold"}
EPSILON = 1e-5  # what torch adds to the variance


def readout_cells(part: pd.DataFrame) -> pd.DataFrame:
    """Return F1 and ranking of :data:`READOUTS` for :func:`imbal_book.pictures.batch_norm_pictures.dots`.

    Parameters
    ----------
    part : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`, of one form, data set and imbalance.
    """
    cells = levels(part, READOUTS, tuple(_PANELS))
    return cells.assign(panel=cells["metric"].map(_PANELS), row=cells["method"])


def questions(part: pd.DataFrame) -> pd.DataFrame:
    """Return every question with the paired difference that answers it, in percentage points, a column per plant.

    Parameters
    ----------
    part : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`, of one form and one imbalance.
    """
    rows = []
    for question, a, b, metric in QUESTIONS:
        gains = {plant: contrast(own, a, b, metric) for plant, own in plants(part)}
        if any(gain.n for gain in gains.values()):
            cells = {plant: points(gain) or "not attempted" for plant, gain in gains.items()}
            seeds = sorted({gain.n for gain in gains.values() if gain.n})
            rows.append(
                {
                    "question": question,
                    "difference": f"{a} - {b}",
                    **cells,
                    "seeds": " or ".join(map(str, seeds)),
                }
            )
    return pd.DataFrame(rows)


def judged_shift(ranking: Interval, at_best: Interval) -> str:
    """Return whether the layer is more than a shift of the threshold: "more", "no sign of more" or "mixed".

    Parameters
    ----------
    ranking, at_best : Interval
        Its gains in AUROC and in the F1 at the best threshold, which no shift can change.

    Returns
    -------
    str
        "more" if both intervals lie above 0, "no sign of more" if neither does, else "mixed".
    """
    above = (ranking.low > 0, at_best.low > 0)
    return "more" if all(above) else "mixed" if any(above) else "no sign of more"


_ANSWERS = {
    "more": "**more than a shift of the threshold.**",
    "mixed": "**not decided: one of two measures says more than a shift, the other does not.**",
    "no sign of more": "**no sign that it is more than a shift of the threshold.**",
}


def answer(part: pd.DataFrame) -> str:
    """Return the plain answer to the section's question as Markdown, a line per plant; "" without records.

    Parameters
    ----------
    part : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`, of one form and one imbalance.
    """
    lines = []
    for plant, own in plants(part):
        ranking, at_best = (contrast(own, *question) for question in (_RANKING, _AT_BEST))
        if not (ranking.n and at_best.n):
            continue
        f1 = levels(own, ("plain", *SHIFTED, "final BN")).set_index("method")["mean"]
        shifts = ", ".join(f"{f1[name]:.2f} {how}" for name, how in SHIFTED.items() if name in f1)
        best = levels(own, ("plain",), ("f1_best",))["mean"].iloc[0]
        lines.append(
            f"- {plant}: {_ANSWERS[judged_shift(ranking, at_best)]} No shift changes the ranking, and there the layer "
            f"gains {points(ranking)} points of AUROC, and {points(at_best)} points of F1 where both networks have "
            f"their best threshold. What a shift is worth: F1 is {f1['plain']:.2f} plain, {shifts}, at most {best:.2f} "
            f"with any threshold, and {f1['final BN']:.2f} with the layer. {_seeds(ranking.n)}."
        )
    return "\n".join(lines)


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


_Part = tuple[float, str, pd.DataFrame]


def _axis(frame: pd.DataFrame, form: str, by: str) -> list[_Part]:
    """Return (position, label, rows) for every place on an axis, in order."""
    if by == "imbalance":
        rows = select(frame, form, None)
        found = [(_ratio(name), rows[rows["imbalance"] == name]) for name in set(rows["imbalance"])]
        parts = [(position, f"1:{position:.0f}", own) for position, own in found]
    else:
        rows = frame[frame["imbalance"] == BASE_IMBALANCE]
        sizes = {name: size for name in set(rows["form"]) if (size := _batch_size(name, form))}
        parts = [(float(size), str(size), rows[rows["form"] == name]) for name, size in sizes.items()]
    return sorted(parts, key=lambda part: part[0])


def _ratio(imbalance: str) -> float:
    majority, rare = map(float, imbalance.split(":"))
    return majority / rare


def _batch_size(name: str, form: str) -> int | None:
    """Return the images per step of a form of the same network, None for another form."""
    if name == form:
        return BASE_BATCH_SIZE
    size = name.removeprefix(f"{form}, batch ")
    return int(size) if size.isdigit() else None


def sweep(frame: pd.DataFrame, form: str, by: str) -> pd.DataFrame:
    """Return F1 without and with the layer, and its gain, along one axis on the plants where it was varied.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`imbal_book.studies.final_batch_norm.frame`.
    form : str
    by : {"imbalance", "batch size"}

    Returns
    -------
    DataFrame
        Columns dataset, position (images of the large class for each of the rare one, or images per step), label
        ("1:100", "64"), method ("plain", "final BN", or "gain", the paired difference), mean, low, high, n; sorted
        by data set and position. Data sets with one position only are left out.
    """
    table = []
    for position, label, part in _axis(frame, form, by):
        for plant, own in plants(part):
            gain = contrast(own, PAIR[1], PAIR[0], "f1_minority")
            if not gain.n:
                continue
            cells = levels(own, PAIR).to_dict("records")
            found = [(c["method"], c["mean"], c["low"], c["high"], c["n"]) for c in cells]
            found.append(("gain", gain.mean, gain.low, gain.high, gain.n))
            table += [(plant, position, label, *row) for row in found]
    names = ["dataset", "position", "label", "method", "mean", "low", "high", "n"]
    swept = pd.DataFrame(table, columns=names).sort_values(["dataset", "position"], kind="stable")
    several = swept.groupby("dataset")["position"].transform("nunique") > 1
    return swept[several].reset_index(drop=True)


def sweep_table(frame: pd.DataFrame, form: str, by: str) -> pd.DataFrame:
    """Return the layer's gain in F1 along one axis, and how it differs from that at the study's own place.

    Plants with one place only are left out. Both in percentage points with 95 % intervals, paired by seed.

    Parameters
    ----------
    frame, form, by
        As for :func:`sweep`.
    """
    swept = set(sweep(frame, form, by)["dataset"])
    parts = _axis(frame, form, by)
    own_place = _ratio(BASE_IMBALANCE) if by == "imbalance" else float(BASE_BATCH_SIZE)
    base = next((part for position, _, part in parts if position == own_place), frame.iloc[:0])
    base_label = next((label for position, label, _ in parts if position == own_place), "")
    base_gains = {plant: _gain_by_seed(own) for plant, own in plants(base)}
    rows = []
    for _, label, part in parts:
        for plant, own in plants(part):
            gain = _gain_by_seed(own)
            if plant not in swept or gain.empty:
                continue
            row = {"plant": plant, by: label, "gain of the layer": points(mean_interval(gain))}
            if plant in base_gains:
                change = (gain - base_gains[plant]).dropna()
                own_row = part is base or change.empty
                row[f"minus the gain at {base_label}"] = "" if own_row else points(mean_interval(change))
            rows.append(row | {"seeds": len(gain)})
    return pd.DataFrame(rows)


def _gain_by_seed(part: pd.DataFrame) -> pd.Series:
    rows = part[(part["metric"] == "f1_minority") & part["readout"].isin(PAIR)]
    return minus(rows, PAIR[0]).set_index(["split_seed", "train_seed"])["value"].sort_index()


def running_share(config: RunConfig, images: int) -> tuple[int, float]:
    """Return the steps of a run, and the share of the start that is left in the layer's running statistics.

    Parameters
    ----------
    config : RunConfig
    images : int
        Training images, as many as an epoch has.
    """
    steps = config.epochs * -(-images // config.batch_size)
    return steps, (1 - config.final_batch_norm_momentum) ** steps


def running_share_table(configs: Iterable[RunConfig]) -> pd.DataFrame:
    """Return how far the layer's running statistics get from their start, by batch size and momentum.

    Parameters
    ----------
    configs : iterable of RunConfig
        A grid of the study; those of the paper's own imbalance are taken.
    """
    rows = {}
    for config in configs:
        if config.final_batch_norm and own_imbalance(config):
            steps, share = running_share(config, sum(map(int, config.imbalance.split("-")[1:3])))
            place = (config.profile, config.batch_size, config.final_batch_norm_momentum, config.epochs)
            rows[place] = {
                "profile": config.profile,
                "batch size": config.batch_size,
                "momentum": f"{config.final_batch_norm_momentum:g}",
                "epochs": config.epochs,
                "steps": steps,
                "share of the start that is left": f"{share:.0%}" if share >= 0.005 else "under 1%",
            }
    return pd.DataFrame([rows[place] for place in sorted(rows)])


def layer_table(records: pd.DataFrame) -> pd.DataFrame:
    """Return what the layer has learnt: means over the runs of each arm that has it, a row per class.

    Parameters
    ----------
    records : DataFrame
        Of :meth:`imbal_book.chapters.Chapter.frame`, of one form and imbalance, with a column ``arm``.
    """
    rows = []
    for (dataset, arm), group in records.groupby(["dataset", "arm"], sort=False):
        layers = [found["layer"] for found in group["measurements"] if "layer" in found]
        if not layers:
            continue
        for label, name in enumerate(("large", "rare")):
            mean, variance, weight, bias = (
                np.array([layer[part][label] for layer in layers])
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            scale = weight / np.sqrt(variance + EPSILON)
            rows.append(
                {
                    "plant": plant_name(str(dataset)),
                    "arm": arm,
                    "logit of the class": name,
                    "running mean": f"{mean.mean():.2f}",
                    "running deviation": f"{np.sqrt(variance).mean():.2f}",
                    "multiplied by": f"{scale.mean():.2f}",
                    "then shifted by": f"{(bias - scale * mean).mean():+.2f}",
                    "runs": len(layers),
                }
            )
    return pd.DataFrame(rows)
