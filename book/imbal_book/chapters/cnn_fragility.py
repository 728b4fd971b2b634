"""Tables, and the frames of figures, of the chapter on CNN fragility: each from the records of its study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from imbal_book.chapters import number, numbers
from imbal_book.chapters.readings import DATA, headline, in_order, texts, wide
from imbal_book.evidence.claims import Verdict
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.rank_correlation import bootstrap, partial_spearman
from imbal_book.evidence.verbs import PAIR, minus, summarise
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.fragility_scores import PLAIN
from imbal_book.studies.grids.cnn_fragility import ARMS, EXPERIMENT_ARMS, NETWORKS
from imbal_book.studies.latent_readings import class_overlaps, share_curve
from imbal_core.data.sources import INATURALIST_CLASSES, PLACES_CLASSES

#: Data set -> its classes in print, the largest first in an exponential imbalance.
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "cifar10": ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "scenes6": ("buildings", "forest", "glacier", "mountain", "sea", "street"),
    "places": tuple(PLACES_CLASSES),
    "inaturalist": tuple(INATURALIST_CLASSES),
    "mnist5k": tuple("0123456789"),
}
#: Measure of `imbal_book.studies.latent_readings.class_readings` -> its name in tables.
MEASURES = {
    "effective_rank_train": "effective rank, equal training FE",
    "participation_ratio_train": "participation ratio, equal training FE",
    "cosine_distance_train": "cosine distance, equal training FE",
    "effective_rank": "effective rank, test FE",
    "coverage_equal": "test covered by equal training FE",
    "magnitude_gap": "magnitude gap of CE",
    "magnitude_gap_fe": "magnitude gap of FE",
    "top_k_share": "share of the top 10 in |CE|",
}
#: The two arms that are shown side by side.
PAIRED = ("CE balanced", PLAIN)
#: Kind of test image -> the end of the name of its magnitude gap.
_KINDS = {"all test images": "", "true positives": "_tp", "false negatives": "_fn"}
#: Metric -> its name in a table, factor, digits.
_Words = Mapping[str, tuple[str, float, int]]
_ARM_COLUMNS: _Words = {
    "accuracy": ("accuracy (%)", 100, 1),
    "recall_few": ("minority recall (%)", 100, 1),
    "effective_rank_few": ("effective rank, minority", 1, 1),
    "coverage_few": ("test covered, minority (%)", 100, 1),
    "magnitude_gap": ("magnitude gap (%)", 100, 1),
    "top_k_share": ("top 10 in |CE| (%)", 100, 1),
    "units_in_use": ("units in use (%)", 100, 1),
    "class_overlap": ("overlap of classes (%)", 100, 1),
}
_CHANGES: _Words = {
    "magnitude_change": ("|log| of the ratio of magnitudes", 1, 2),
    "number_change": ("difference of units in use (%)", 100, 1),
    "unit_overlap": ("units shared after matching (%)", 100, 1),
}


class Place(NamedTuple):
    """Where a comparison stands: a network, a data set and an imbalance."""

    form: str
    dataset: str
    imbalance: str

    def title(self, *, network: bool = True) -> str:
        """Return the place in words, such as "CIFAR-10, exponential 100, ResNet-32"."""
        words = f"{DATA.get(self.dataset, self.dataset)}, {self.imbalance}"
        return f"{words}, {self.form}" if network else words


def at(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return the rows of one place."""
    return frame[(frame[[*Place._fields]] == [*place]).all(axis=1)]


def places(frame: pd.DataFrame, kind: str = "exponential") -> list[Place]:
    """Return where records are with that kind of imbalance, the network nearest to the paper's first."""
    found = frame.loc[frame["imbalance"].str.startswith(kind), [*Place._fields]].drop_duplicates()
    found = in_order(found, dataset=CLASS_NAMES, form=[*reversed(NETWORKS.values())])
    return [Place(*row) for row in found.itertuples(index=False)]


def class_names(place: Place, classes: int) -> tuple[str, ...]:
    """Return the names of a data set's classes, or their numbers where they are not as many."""
    names = CLASS_NAMES.get(place.dataset, ())
    return names if len(names) == classes else tuple(map(str, range(classes)))


def condensed(found: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts in their order, but one only for a claim that no network was run for."""
    attempted = {verdict.claim for verdict in found if verdict.label != "not attempted"}
    first = headline(found)
    return [verdict for verdict in found if verdict.claim in attempted or verdict is first[verdict.claim]]


def of_arms(rows: pd.DataFrame, place: Place, arms: Iterable[str] = PAIRED) -> pd.DataFrame:
    """Return the rows of some arms of a place, those of one arm together, in the order of the arms."""
    return in_order(at(rows[rows["readout"].isin([*arms])], place), readout=arms)


def mean_embeddings(runs: pd.DataFrame, place: Place, arm: str = PLAIN) -> tuple[np.ndarray, np.ndarray]:
    """Return mean test FE (C, D) and weights (C, D) of the first run of an arm; IndexError without any."""
    latent = of_arms(runs, place, [arm])["measurements"].iloc[0]["latent"]
    return unpack_rows(latent["test_means"]).astype(float), unpack_rows(latent["weights"]).astype(float)


def share_points(runs: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return the share of |CE| in the top K of every class, for `pictures.fragility_pictures.share_curves`.

    True positives of the test. Of a class that no run has any of, nothing is drawn.
    """
    curves = [
        share_curve(run["measurements"]["latent"]).assign(method=run["readout"])
        for run in of_arms(runs, place).to_dict("records")
    ]
    if not curves:
        return pd.DataFrame(columns=["panel", "method", "k"])
    known = pd.concat(curves).dropna(subset="value").sort_values(["label", "method", "k"], kind="stable")
    names = class_names(place, curves[0]["label"].nunique())
    return summarise(known.assign(panel=known["label"].map(names.__getitem__)), ["panel", "method", "k"])


def gap_points(labels: pd.DataFrame, where: Sequence[Place], *, suffix: str = "") -> pd.DataFrame:
    """Return the magnitude gap of every class by kind of test image, for `imbal_book.pictures.fragility_pictures.gaps`.

    ``labels`` is of the study's ``label_frame``; ``suffix`` is "" for CE, "_fe" for FE.
    """
    columns = {f"magnitude_gap{end}{suffix}": kind for kind, end in _KINDS.items()}
    parts = [
        of_arms(labels, place, [PLAIN])
        .rename(columns=columns)
        .sort_values("label", kind="stable")
        .melt("train_count", list(_KINDS), "method")
        .assign(panel=place.title())
        for place in where
    ]
    return summarise(pd.concat(parts).dropna(subset="value"), ["panel", "method", "train_count"])


def mean_overlaps(runs: pd.DataFrame, place: Place) -> dict[str, np.ndarray]:
    """Return the overlap of the top 10 CE units between classes, mean over runs, (C, C) by arm."""
    return {
        str(arm): np.ma.masked_invalid([class_overlaps(run["latent"]) for run in group["measurements"]])
        .mean(axis=0)
        .filled(np.nan)
        for arm, group in of_arms(runs, place).groupby("readout", sort=False)
    }


def diversity_points(labels: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return diversity and recall of every class, for `imbal_book.pictures.fragility_pictures.diversity_and_recall`."""
    by = ["readout", "label", "train_count", "rare"]
    means = of_arms(labels, place).groupby(by, sort=False)[["effective_rank_train", "recall"]].mean()
    points = means.rename(columns={"effective_rank_train": "diversity"}).reset_index()
    names = class_names(place, points["label"].nunique())
    panel = f"{place.title(network=False)}: " + points.pop("readout")
    return points.assign(panel=panel, name=points.pop("label").map(names.__getitem__))


def correlation_table(labels: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return how recall goes with each measure over classes, as it is and with class size held fixed.

    A row per place and measure: Spearman's correlation and the partial one, mean over runs with the 95 % interval of
    resampled classes and draws (`imbal_book.evidence.rank_correlation.bootstrap`), and the number of classes that have
    the measure in every run.
    """
    rows = []
    for place in where:
        part = of_arms(labels, place, [PLAIN]).set_index([*PAIR, "label"])
        for measure, name in MEASURES.items():
            columns = part[[measure, "recall", "train_count"]]
            said = []
            for given in (["recall"], ["recall", "train_count"]):
                found = bootstrap(partial_spearman, columns[[measure, *given]])
                text = number(found.mean, *found.interval(0.95), scale=1, digits=2, sign=True)
                said.append(text if len(found.values) else "undefined")
            classes = columns[measure].unstack().notna().all().sum()
            rows.append((place.title(), name, *said, classes))
    names = ["place", "measure", "correlation with recall", "the same, class size held", "classes"]
    return pd.DataFrame(rows, columns=names)


def _names(words: _Words) -> list[str]:
    return [name for name, *_ in words.values()]


def _by_arm(cells: pd.DataFrame, arms: Sequence[str], columns: Iterable[str]) -> pd.DataFrame:
    """Return a row per arm with its texts and number of runs; what is missing is named."""
    table = cells.pivot(index="readout", columns="column", values="text")
    table = table.reindex(index=[*arms], columns=[*columns]).fillna("not attempted")
    runs = cells.groupby("readout")["n"].max().reindex([*arms], fill_value=0)
    return table.assign(n=runs).rename_axis(index="arm", columns=None).reset_index()


def arm_table(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return accuracy and latent measures of every arm in one place, means with 95 % intervals."""
    return _by_arm(texts(at(frame, place), _ARM_COLUMNS, ["readout"]), ARMS, _names(_ARM_COLUMNS))


def experiment_table(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return minority recall and diversity of every arm of the experiment, with the paired difference to "Few"."""
    words = dict(list(_ARM_COLUMNS.items())[:4])
    gain = {"recall_few": ("minority recall minus Few (points)", 100, 1)}
    part = at(frame, place)
    level, change = texts(part, words, ["readout"]), texts(minus(part, "Few"), gain, ["readout"], sign=True)
    table = _by_arm(pd.concat([level, change]), EXPERIMENT_ARMS, [*_names(words), *_names(gain)])
    table.loc[table["arm"] == "Few", _names(gain)] = ""
    return table


def change_table(frame: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return how much a class's top K differ between balanced and imbalanced training, and between two seeds."""
    names = {"imbalanced training": "balanced and imbalanced", "another seed": "balanced, two seeds"}
    parts = [at(frame, place).assign(place=place.title()) for place in where] or [frame[:0].assign(place="")]
    part = pd.concat(parts)
    part, by = part[part["readout"].isin(names)], ["place", "readout"]
    gains = texts(minus(part, "another seed"), _CHANGES, by, sign=True).assign(readout="difference")
    cells = pd.concat([texts(part, _CHANGES, by), gains])
    table = wide(cells, ["place", "column"], "readout", "text")
    order = pd.MultiIndex.from_product([cells["place"].unique(), _names(_CHANGES)])
    table = table.reindex(index=order, columns=[*names, "difference"]).rename(columns=names)
    return table.rename_axis(index=["place", "quantity"], columns=None).reset_index()


def beside_table(
    frame: pd.DataFrame, where: Sequence[Place], quantities: Mapping[str, tuple[str, str, str, float]]
) -> pd.DataFrame:
    """Return means, or paired differences, as text: a row for each quantity and a column for each place.

    ``quantities``, by what they are called, are (readout, the one that is subtracted or "", metric, factor). A negative
    factor makes of what is lost a change.
    """
    table = pd.DataFrame({"": list(quantities)})
    for place in where:
        cells = []
        for a, b, metric, factor in quantities.values():
            rows = at(frame[frame["metric"] == metric], place)
            rows = minus(rows, b) if b else rows
            rows = rows[rows["readout"] == a]
            found = summarise(rows.assign(value=factor * rows["value"]), ["readout"])
            cells += numbers(found, scale=1, sign=factor < 0 or bool(b)) or ["not attempted"]
        table[place.title()] = cells
    return table


def sibling_table(paper: Paper, labels: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return the accuracy of every class of CIFAR-10 in the authors' sibling repository, and ours beside it.

    Theirs is the paper's table "accuracy": ResNet-32, cross entropy, the epoch that was best on test images. Ours, for
    each place that has CIFAR-10's ten classes: recall in percent, and training images, of the arm "CE imbalanced".
    """
    printed = paper.tables["accuracy"].frame()
    table = pd.DataFrame(
        {
            "class": printed["name"],
            "sibling: images": printed["train"].map("{:,}".format),
            "sibling: accuracy (%)": (100 * printed["accuracy"]).map("{:.1f}".format),
        }
    )
    for place in where:
        part = of_arms(labels, place, [PLAIN]).sort_values("label", kind="stable")
        if place.dataset == "cifar10" and part["label"].nunique() == len(printed):
            found = summarise(part.rename(columns={"recall": "value"}), ["label", "train_count"])
            table[f"{place.form}: images"] = found["train_count"].map("{:,}".format)
            table[f"{place.form}: recall (%)"] = numbers(found)
    return table
