"""What the page on CNN fragility says first, and what its pairs of runs could have shown."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from imbal_book.chapters.cnn_fragility import Place, beside_table, class_names, of_arms, places
from imbal_book.chapters.readings import DATA, power_table
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.rules import load_rules
from imbal_book.evidence.verbs import summarise
from imbal_book.run.config import RunConfig
from imbal_book.studies.fragility_scores import GAINS, PLAIN
from imbal_book.studies.grids.cnn_fragility import cell, scale

#: Word -> readout, the one that is subtracted, metric, factor; see `chapters.cnn_fragility.beside_table`.
_QUANTITIES = {
    "share": (PLAIN, "", "top_k_share", 100.0),
    "missed": ("false negatives", "", "magnitude_gap", -100.0),
    "right": ("true positives", "", "magnitude_gap", -100.0),
}
_GAINS = {
    "gain_copies": ("Repeated", "Few", "recall_few", 100.0),
    "gain_distinct": ("Distinct", "Repeated", "recall_few", 100.0),
    "twice_number": (*GAINS["twice the number"], "recall_few", 100.0),
    "twice_distinct": (*GAINS["twice the distinct images"], "recall_few", 100.0),
}
#: Arms of the experiment that are drawn -> whether their images are shown as often as those of a large class.
_DRAWN = {
    "Few": False,
    "Repeated": True,
    "Distinct": False,
    "Half": False,
    "Half, copied": True,
    "Quarter, copied": True,
}


def answers(
    paper: Paper, frame: pd.DataFrame, labels: pd.DataFrame, configs: Iterable[RunConfig]
) -> dict[str, str]:
    """Return the words of the page's first sentences, by name; "not run" where there is no record.

    ``frame`` and ``labels`` are the study's, ``configs`` those of the records that the page shows; the paper's table
    "accuracy" has the class sizes of the authors' code.
    """
    first, step = places(frame)[:1], places(frame, "step")[:1]
    drawn = ("Few", "Repeated", "Distinct")
    words = dict.fromkeys((*_QUANTITIES, *_GAINS, *map(str.lower, drawn), "unseen"), "not run")
    words |= {"few_images": "few", "many_images": "many", "pairs": "0"}
    for where, rows in ((first, _QUANTITIES), (step, _GAINS)):
        for place in where:
            words |= dict(beside_table(frame, [place], rows).replace("not attempted", "not run").to_numpy())
    for place in first:
        recall = of_arms(labels, place, [PLAIN]).groupby("label")["recall"].mean()
        names = np.array(class_names(place, len(recall)))[recall.to_numpy() < 0.005]
        words["unseen"] = " and ".join(names) or "no class"
    for place in step:
        cells = number_and_diversity(frame, labels, place).set_index("method")
        words |= {arm.lower(): f"{100 * cells['mean'][arm]:.0f} %" for arm in drawn if arm in cells.index}
        words |= {"few_images": f"{cells['images'].min():,}", "many_images": f"{cells['images'].max():,}"}
        words["pairs"] = str(cells["n"].min())
    for name, where in (("place", first), ("experiment", step)):
        words[name] = where[0].title() if where else "nothing is recorded"
    sizes = {
        f"{DATA.get(config.dataset, config.dataset)}, {cell(config)[1]}: {size}"
        for config in configs
        if (size := scale(config))
    }
    printed = paper.tables["accuracy"].frame()["train"]
    words["paper_images"] = f"{printed.max():,} to {printed.min():,}"
    return words | {"scale": "; ".join(sorted(sizes)) or "not run"}


def number_and_diversity(frame: pd.DataFrame, labels: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return the minority's recall by what its classes have in training, for `pictures.figures.intervals`.

    Beside what is drawn a column images: how many distinct ones each rare class has.
    """
    rows, classes = (of_arms(table, place, _DRAWN) for table in (frame, labels))
    images = classes[classes["rare"]].groupby("readout")["train_count"].max()
    cells = summarise(rows[rows["metric"] == "recall_few"], ["readout"])
    often = {arm: f", as often as {images.max():,}" if shown else "" for arm, shown in _DRAWN.items()}
    return cells.assign(
        images=cells["readout"].map(images),
        row=[f"{images[arm]:,} images{often[arm]}" for arm in cells["readout"]],
        method=cells["readout"],
        panel="recall of the rare classes (%)",
        **cells[["low", "high"]].clip(0, 1),
    )


def power(frame: pd.DataFrame, claims: Iterable[str]) -> pd.DataFrame:
    """Return `chapters.readings.power_table` for every part of some claims that compares means, the part before it."""
    tables = []
    for name in claims:
        parts = load_rules().claims[name]
        for part in parts if isinstance(parts, list) else ():
            if part.compare == "mean":
                found = power_table(frame, part.a, part.b, part.metric)
                found.insert(0, "part", f"{name}, {part.part}")
                tables.append(found)
    return pd.concat([table for table in tables if len(table)] or [pd.DataFrame()], ignore_index=True)
