"""Tables, and the frames of figures, of the chapter on CNN fragility: each from the records of its study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.chapters import Html
from imbal_book.chapters.complement_places import Place, at
from imbal_book.chapters.readings import contrast, interval_text, level
from imbal_book.evidence.papers import Paper
from imbal_book.evidence.rank_correlation import mean_partial_spearman
from imbal_book.evidence.statistics import mean_interval
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.cnn_fragility import ARMS, EXPERIMENT_ARMS, NETWORKS, cell
from imbal_book.studies.complement_cross_entropy import minority
from imbal_book.studies.latent_readings import class_overlaps, share_curve
from imbal_core.data.photographs import INATURALIST_CLASSES, PLACES_CLASSES

__all__ = [
    "CLASS_NAMES",
    "MEASURES",
    "arm_table",
    "change_table",
    "class_names",
    "correlation_table",
    "diversity_points",
    "experiment_table",
    "gap_points",
    "mean_embeddings",
    "mean_overlaps",
    "not_run",
    "places",
    "share_points",
    "sibling_table",
]

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
_NOT_ATTEMPTED = "not attempted"


def not_run(profile: str) -> Html:
    """Return what stands in place of a figure or table that has no records."""
    scale = "laptop" if profile == "best" else profile
    return Html(
        "<p><i>Not attempted: there is no such record yet.</i> "
        f"<code>imbal run cnn_fragility --profile {scale}</code> trains the runs.</p>"
    )


def places(frame: pd.DataFrame, kind: str = "exponential") -> list[Place]:
    """Return where records are with that kind of imbalance, the network nearest to the paper's first."""
    forms = [*reversed(NETWORKS.values())]
    columns = ["form", "dataset", "imbalance"]
    found = {Place(*row) for row in frame[columns].itertuples(index=False, name=None)}
    datasets = list(CLASS_NAMES)
    chosen = [place for place in found if place.imbalance.startswith(kind)]
    return sorted(chosen, key=lambda place: (datasets.index(place.dataset), forms.index(place.form)))


def class_names(place: Place, classes: int) -> tuple[str, ...]:
    """Return the names of a data set's classes, or their numbers where they are not as many."""
    names = CLASS_NAMES.get(place.dataset, ())
    return names if len(names) == classes else tuple(map(str, range(classes)))


def _latents(
    records: pd.DataFrame, place: Place, arm: str
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield (measurements, latent summaries) of every run of an arm in a place, by seeds."""
    found = []
    for config, measured in records[["config", "measurements"]].itertuples(index=False):
        where = (NETWORKS.get(config.model, config.model), config.dataset, cell(config)[1])
        if where == tuple(place) and cell(config)[0] == arm:
            found.append((config.split_seed, config.train_seed, measured))
    for _, _, measured in sorted(found, key=lambda run: run[:2]):
        yield measured, measured["latent"]


def mean_embeddings(
    records: pd.DataFrame, place: Place, arm: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return mean test FE (C, D), weights (C, D) and training counts (C,) of the first run of an arm; None without."""
    for measured, latent in _latents(records, place, arm):
        return (
            unpack_rows(latent["test_means"]).astype(float),
            unpack_rows(latent["weights"]).astype(float),
            np.asarray(measured["train_counts"]),
        )
    return None


def share_points(
    records: pd.DataFrame,
    place: Place,
    arms: Sequence[str] = ("CE balanced", "CE imbalanced"),
    *,
    embedding: str = "CE",
) -> pd.DataFrame:
    """Return the share of the logit in the top K of every class, for `pictures.fragility_pictures.share_curves`.

    True positives of the test. Of a class that no run has any of, nothing is drawn.
    """
    rows = []
    for arm in arms:
        curves = [
            share_curve(latent, embedding, "test", "true positives")
            for _, latent in _latents(records, place, arm)
        ]
        if not curves:
            continue
        at_k, values = curves[0][0], np.stack([shares for _, shares in curves])
        names = class_names(place, values.shape[1])
        for label, name in enumerate(names):
            for position, k in enumerate(at_k):
                known = values[:, label, position]
                known = known[np.isfinite(known)]
                if len(known):
                    rows.append((label, name, arm, k, *_interval(known)))
    columns = ["label", "panel", "method", "k", "mean", "low", "high", "n"]
    frame = pd.DataFrame(rows, columns=columns).sort_values(["label", "method", "k"], kind="stable")
    return frame.drop(columns="label").reset_index(drop=True)


def gap_points(
    labels: pd.DataFrame, where: Sequence[Place], arm: str = "CE imbalanced", *, suffix: str = ""
) -> pd.DataFrame:
    """Return the magnitude gap of every class by kind of test image, for `imbal_book.pictures.fragility_pictures.gaps`.

    Parameters
    ----------
    labels : DataFrame
        Of `imbal_book.studies.cnn_fragility.label_frame`.
    where : sequence of Place
    arm : str, default="CE imbalanced"
    suffix : {"", "_fe"}, default=""
        Of CE, or of FE.
    """
    kinds = {"all test images": "", "true positives": "_tp", "false negatives": "_fn"}
    rows = []
    for place in where:
        part = at(labels, place)
        for (_, count), group in part[part["readout"] == arm].groupby(["label", "train_count"]):
            for kind, of in kinds.items():
                known = group[f"magnitude_gap{of}{suffix}"].dropna()
                if len(known):
                    rows.append((place.title(), kind, count, *_interval(known)))
    return pd.DataFrame(rows, columns=["panel", "method", "train_count", "mean", "low", "high", "n"])


def mean_overlaps(
    records: pd.DataFrame, place: Place, arms: Sequence[str] = ("CE balanced", "CE imbalanced")
) -> dict[str, np.ndarray]:
    """Return the overlap of the top 10 CE units between classes, mean over runs, (C, C) by arm."""
    found = {}
    for arm in arms:
        matrices = [class_overlaps(latent) for _, latent in _latents(records, place, arm)]
        if matrices:
            stacked = np.stack(matrices)
            known = np.isfinite(stacked)
            total = np.where(known, stacked, 0.0).sum(axis=0)
            count = known.sum(axis=0)
            found[arm] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return found


def diversity_points(
    labels: pd.DataFrame, where: Sequence[Place], arms: Sequence[str] = ("CE balanced", "CE imbalanced")
) -> pd.DataFrame:
    """Return diversity and recall of every class, for `imbal_book.pictures.fragility_pictures.diversity_and_recall`."""
    rows = []
    for place in where:
        for arm in arms:
            part = at(labels, place)
            part = part[part["readout"] == arm]
            classes = part["label"].nunique()
            rare = minority(classes) if classes else np.array([])
            for label in range(classes):
                group = part[part["label"] == label]
                rows.append(
                    {
                        "panel": f"{place.title(network=False)}: {arm}",
                        "name": class_names(place, classes)[label],
                        "train_count": int(group["train_count"].iloc[0]),
                        "rare": bool(rare[label]),
                        "diversity": group["effective_rank_train"].mean(),
                        "recall": group["recall"].mean(),
                    }
                )
    return pd.DataFrame(rows, columns=["panel", "name", "train_count", "rare", "diversity", "recall"])


def correlation_table(
    labels: pd.DataFrame, where: Sequence[Place], arm: str = "CE imbalanced"
) -> pd.DataFrame:
    """Return how recall goes with each measure over classes, as it is and with class size held fixed.

    Returns
    -------
    DataFrame
        A row per place and measure: Spearman's correlation and the partial one, mean over runs with 95 % interval,
        and the number of runs. Places with fewer than eight classes are left out: so few ranks say nothing.
    """
    rows = []
    for place in where:
        part = at(labels, place)
        part = part[part["readout"] == arm]
        if part["label"].nunique() < 8:
            continue
        wide = part.pivot(
            index=["split_seed", "train_seed"], columns="label", values=["recall", "train_count", *MEASURES]
        )
        recall, counts = wide["recall"].to_numpy(), wide["train_count"].to_numpy()
        for measure, name in MEASURES.items():
            values = wide[measure].to_numpy()
            plain, partial = (
                _correlation(values, recall, given) for given in (np.zeros_like(counts), counts)
            )
            rows.append(
                {
                    "place": place.title(),
                    "measure": name,
                    "correlation with recall": plain,
                    "the same, class size held": partial,
                    "runs": len(wide),
                }
            )
    columns = ["place", "measure", "correlation with recall", "the same, class size held", "runs"]
    return pd.DataFrame(rows, columns=columns)


def _correlation(values: np.ndarray, recall: np.ndarray, given: np.ndarray) -> str:
    try:
        found = mean_partial_spearman(values, recall, given)
    except ValueError:
        return "undefined"
    return interval_text(found, scale=1, digits=2, sign=True)


#: Column of :func:`arm_table` -> (metric, factor, digits).
_ARM_COLUMNS: dict[str, tuple[str, float, int]] = {
    "accuracy (%)": ("accuracy", 100, 1),
    "minority recall (%)": ("recall_few", 100, 1),
    "effective rank, minority": ("effective_rank_few", 1, 1),
    "test covered, minority (%)": ("coverage_few", 100, 1),
    "magnitude gap (%)": ("magnitude_gap", 100, 1),
    "top 10 in |CE| (%)": ("top_k_share", 100, 1),
    "units in use (%)": ("units_in_use", 100, 1),
    "overlap of classes (%)": ("class_overlap", 100, 1),
}


def arm_table(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return accuracy and latent measures of every arm in one place, means with 95 % intervals."""
    return _table(
        ARMS,
        {
            column: lambda arm, of=of: _level(frame, place, arm, *of)  # type: ignore[misc]
            for column, of in _ARM_COLUMNS.items()
        },
        lambda arm: level(at(frame, place), arm, "accuracy").n,
    )


def experiment_table(frame: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Return minority recall and diversity of every arm of the experiment, with the paired difference to "Few"."""

    def difference(arm: str) -> str:
        gain = contrast(at(frame, place), arm, "Few", "recall_few")
        return "" if arm == "Few" else interval_text(gain, sign=True)

    shown = ("accuracy (%)", "minority recall (%)", "effective rank, minority", "test covered, minority (%)")
    columns: dict[str, Callable[[str], str]] = {
        column: lambda arm, of=_ARM_COLUMNS[column]: _level(frame, place, arm, *of)  # type: ignore[misc]
        for column in shown
    }
    columns["minority recall minus Few (points)"] = difference
    return _table(EXPERIMENT_ARMS, columns, lambda arm: level(at(frame, place), arm, "accuracy").n)


def change_table(frame: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return how much a class's top K differ between balanced and imbalanced training, and between two seeds."""
    metrics = {
        "|log| of the ratio of magnitudes": ("magnitude_change", 1, 2),
        "difference of units in use (%)": ("number_change", 100, 1),
        "units shared after matching (%)": ("unit_overlap", 100, 1),
    }
    rows = []
    for place in where:
        part = at(frame, place)
        for name, (metric, scale, digits) in metrics.items():
            row = {"place": place.title(), "quantity": name}
            for column, readout in (
                ("balanced and imbalanced", "imbalanced training"),
                ("balanced, two seeds", "another seed"),
            ):
                row[column] = interval_text(level(part, readout, metric), scale=scale, digits=digits)
            gain = contrast(part, "imbalanced training", "another seed", metric)
            row["difference"] = interval_text(gain, scale=scale, digits=digits, sign=True)
            rows.append(row)
    columns = ["place", "quantity", "balanced and imbalanced", "balanced, two seeds", "difference"]
    return pd.DataFrame(rows, columns=columns)


def sibling_table(paper: Paper, labels: pd.DataFrame, where: Sequence[Place]) -> pd.DataFrame:
    """Return the accuracy of every class of CIFAR-10 in the authors' sibling repository, and ours beside it.

    Parameters
    ----------
    paper : Paper
        Its table "accuracy": ResNet-32, cross entropy, the epoch that was best on test images.
    labels : DataFrame
        Of `imbal_book.studies.cnn_fragility.label_frame`.
    where : sequence of Place
        A column for each that has CIFAR-10's ten classes: recall in percent, and training images, of the arm
        "CE imbalanced".
    """
    printed = paper.tables["accuracy"].frame()
    table = pd.DataFrame(
        {
            "class": printed["name"],
            "sibling: images": [f"{count:,}" for count in printed["train"]],
            "sibling: accuracy (%)": [f"{100 * value:.1f}" for value in printed["accuracy"]],
        }
    )
    for place in where:
        part = at(labels, place)
        part = part[part["readout"] == "CE imbalanced"]
        if place.dataset != "cifar10" or part["label"].nunique() != len(printed):
            continue
        groups = [part[part["label"] == label] for label in printed["class"]]
        table[f"{place.form}: images"] = [f"{int(group['train_count'].iloc[0]):,}" for group in groups]
        table[f"{place.form}: recall (%)"] = [
            interval_text(mean_interval(group["recall"])) for group in groups
        ]
    return table


def _table(
    arms: Sequence[str], columns: Mapping[str, Callable[[str], str]], runs: Callable[[str], int]
) -> pd.DataFrame:
    rows = [
        {"arm": arm, **{name: text(arm) for name, text in columns.items()}, "n": runs(arm)} for arm in arms
    ]
    return pd.DataFrame(rows)


def _level(frame: pd.DataFrame, place: Place, arm: str, metric: str, scale: float, digits: int) -> str:
    here = level(at(frame, place), arm, metric)
    return interval_text(here, scale=scale, digits=digits) if here.n else _NOT_ATTEMPTED


def _interval(values: np.ndarray | pd.Series) -> tuple[float, float, float, int]:
    here = mean_interval(values)
    return here.mean, here.low, here.high, here.n
