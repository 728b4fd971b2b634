"""The numbers by which the claims on CNN fragility are judged: of one run, and of runs compared with each other.

Claims speak of classes; a score is the mean over classes, or over the rarer half of the labels ("few"), of what
`studies.latent_readings` says of each. A class of which it is undefined, as one without true positives, is left out
of that mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from imbal_book.evidence.rank_correlation import partial_spearman
from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.complement_cross_entropy import minority
from imbal_book.studies.latent_readings import (
    class_readings,
    magnitude_change,
    matched_overlap,
    number_change,
)
from imbal_book.studies.latent_summaries import TOP

__all__ = ["PLAIN", "RunPlace", "compared_scores", "run_scores"]

#: The arm whose parts (true positives, minority classes ...) are readouts without its name before them.
PLAIN = "CE imbalanced"
#: Arm, split seed, training seed.
RunPlace = tuple[str, int, int]
Score = tuple[str, str, float]

_MEANS = (
    *("magnitude_gap", "magnitude_gap_fe", "range_gap_equal"),
    *("top_k_share", "units_in_use", "units_needed"),
    *("train_test_overlap", "tp_fn_overlap", "class_overlap"),
    *("effective_rank", "effective_rank_train"),
)
_MEANS_FEW = ("effective_rank", "participation_ratio", "cosine_distance", "coverage", "coverage_equal")
_GAPS = ("magnitude_gap", "magnitude_gap_fe", "range_gap_equal")


def run_scores(arm: str, measured: Mapping[str, Any]) -> Iterator[Score]:
    """Yield (readout, metric, value) of one run; what is undefined is left out.

    Parameters
    ----------
    arm : str
        Also the name of its main readout. Parts of it are readouts "ARM, PART", and only "PART" of `PLAIN`.
    measured : mapping
        Measurements of `imbal_book.studies.cnn_fragility.measure`.

    Yields
    ------
    readout, metric, value
        Of the arm: accuracy, recall_few, recall_many, recall_gap (the former minus the latter), train_recall_few;
        the means over classes of magnitude_gap, magnitude_gap_fe, range_gap_equal, top_k_share, units_in_use,
        units_needed, train_test_overlap, tp_fn_overlap, class_overlap, effective_rank and effective_rank_train;
        over the few those of effective_rank, participation_ratio, cosine_distance, coverage and coverage_equal,
        with ``_few`` behind; log_effective_rank_few, the mean of the natural logarithm; and best_test_accuracy of
        any epoch where it was measured.
        Of the parts "true positives" and "false negatives": magnitude_gap and magnitude_gap_fe, over the classes
        that have both. Of "minority classes" and "majority classes": these and range_gap_equal. Of "top K only" and
        "without top K", the classifier with only the K = 10 first units of each class or all others: recall_few,
        recall_many and agreement with the whole. Of "diversity, size held" and "size, diversity held":
        partial_correlation with recall over classes, of effective_rank_train or the number of training images
        with the other held fixed. Of `PLAIN` alone also two marks to compare with: "half of the logit", top_k_share
        0.5, and "half of the units", units_in_use and units_needed 0.5.
    """
    counts = np.asarray(measured["train_counts"])
    few = minority(len(counts))
    readings = class_readings(measured["latent"])
    recall = np.asarray(measured["readouts"]["softmax"]["recall"])
    scores: list[Score] = [
        (arm, "accuracy", measured["readouts"]["softmax"]["accuracy"]),
        (arm, "train_recall_few", _mean(measured["readouts"]["train"]["recall"], few)),
        *_recalls(arm, recall, few),
        *((arm, name, _mean(readings[name])) for name in _MEANS),
        *((arm, f"{name}_few", _mean(readings[name], few)) for name in _MEANS_FEW),
        (arm, "log_effective_rank_few", _mean(np.log(readings["effective_rank"]), few)),
    ]
    if "test_accuracy" in measured["history"]:
        scores.append((arm, "best_test_accuracy", max(measured["history"]["test_accuracy"])))
    for suffix in ("", "_fe"):
        both = np.isfinite(readings[f"magnitude_gap_tp{suffix}"] + readings[f"magnitude_gap_fn{suffix}"])
        for part, short in (("true positives", "tp"), ("false negatives", "fn")):
            gap = _mean(readings[f"magnitude_gap_{short}{suffix}"], both)
            scores.append((_part(arm, part), f"magnitude_gap{suffix}", gap))
    for part, chosen in (("minority classes", few), ("majority classes", ~few)):
        scores += [(_part(arm, part), name, _mean(readings[name], chosen)) for name in _GAPS]
    scores += _cut(arm, measured["latent"]["cut"], few)
    diverse = readings["effective_rank_train"]
    for part, x, given in (
        ("diversity, size held", diverse, counts),
        ("size, diversity held", counts, diverse),
    ):
        scores.append((_part(arm, part), "partial_correlation", partial_spearman(x, recall, given)))
    if arm == PLAIN:
        scores += [("half of the logit", "top_k_share", 0.5)]
        scores += [("half of the units", name, 0.5) for name in ("units_in_use", "units_needed")]
    yield from ((name, metric, float(value)) for name, metric, value in scores if np.isfinite(value))


def compared_scores(
    measured: Mapping[RunPlace, Mapping[str, Any]],
) -> dict[tuple[RunPlace, str, str], float]:
    """Return what runs of one cell say together, by (place of the first run, readout, metric).

    Parameters
    ----------
    measured : mapping
        Measurements of every run of a data set, network and imbalance.

    Returns
    -------
    dict
        A network of "CE balanced" is compared with two of the next split seed: "imbalanced training", one of
        `PLAIN`, and "another seed", one of its own arm, which says how much two trainings of the same kind differ.
        magnitude_change and number_change are means over the classes of which both comparisons have one, and
        unit_overlap the mean of `imbal_book.studies.latent_readings.matched_overlap`.
        "more diverse images" and "more copies", metric gain_few: recall_few of "Distinct" less that of "Repeated",
        and of "Repeated" less that of "Few", of the same seeds.
    """
    found: dict[tuple[RunPlace, str, str], float] = {}
    balanced = sorted(place for place in measured if place[0] == "CE balanced")
    for place in balanced:
        other = _another_split(place, balanced)
        if other is None or (PLAIN, *other[1:]) not in measured:
            continue
        latents = [measured[key]["latent"] for key in (place, (PLAIN, *other[1:]), other)]
        for name, change in (
            ("magnitude_change", magnitude_change),
            ("number_change", number_change),
            ("unit_overlap", matched_overlap),
        ):
            values = [change(latents[0], second) for second in latents[1:]]
            both = np.isfinite(values[0] + values[1])
            for readout, value in zip(("imbalanced training", "another seed"), values, strict=True):
                found[place, readout, name] = _mean(value, both)
    for _, split_seed, train_seed in [place for place in measured if place[0] == "Distinct"]:
        places = [(name, split_seed, train_seed) for name in ("Few", "Repeated", "Distinct")]
        if all(place in measured for place in places):
            gains = np.diff([_recall_few(measured[place]) for place in places])
            found[places[2], "more copies", "gain_few"] = float(gains[0])
            found[places[2], "more diverse images", "gain_few"] = float(gains[1])
    return {place: value for place, value in found.items() if np.isfinite(value)}


def _another_split(place: RunPlace, places: Sequence[RunPlace]) -> RunPlace | None:
    """Return the next place after this one, in a circle, with another split seed."""
    start = places.index(place)
    circle = [*places[start + 1 :], *places[:start]]
    return next((other for other in circle if other[1] != place[1]), None)


def _recall_few(measured: Mapping[str, Any]) -> float:
    recall = measured["readouts"]["softmax"]["recall"]
    return _mean(recall, minority(len(recall)))


def _recalls(readout: str, recall: np.ndarray, few: np.ndarray) -> list[Score]:
    rare, common = _mean(recall, few), _mean(recall, ~few)
    return [
        (readout, "recall_few", rare),
        (readout, "recall_many", common),
        (readout, "recall_gap", rare - common),
    ]


def _cut(arm: str, cut: Mapping[str, Any], few: np.ndarray) -> Iterator[Score]:
    place = cut["k"].index(TOP)
    for part, side in (("top K only", "only"), ("without top K", "without")):
        recall = unpack_rows(cut[side]["recall"])[place]
        yield from _recalls(_part(arm, part), recall, few)
        yield _part(arm, part), "agreement", cut[side]["agreement"][place]


def _part(arm: str, part: str) -> str:
    return part if arm == PLAIN else f"{arm}, {part}"


def _mean(values: Any, chosen: np.ndarray | None = None) -> float:
    """Return the mean of the finite values; NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    array = array if chosen is None else array[chosen]
    array = array[np.isfinite(array)]
    return float(array.mean()) if len(array) else float("nan")
