"""The numbers by which the claims on CNN fragility are judged: of one run, and of runs compared with each other.

Claims speak of classes; a score is the mean over classes, or over the rarer half of the labels ("few"), of what
`studies.latent_readings` says of each. A class of which it is undefined, as one without true positives, is left out
of that mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from imbal_book.evidence.verbs import CELL, PAIR, minus
from imbal_book.run.long_frames import IDENTITY
from imbal_book.studies.latent_readings import changes
from imbal_book.studies.latent_summaries import TOP

#: The arm whose parts (true positives, minority classes ...) are readouts without its name before them.
PLAIN = "CE imbalanced"
#: Arms whose classes differ in size, all of them.
UNEVEN = (PLAIN, "LDAM-DRW", "Focal", "ASL")
#: Readout with metric gain_few -> the two arms of the experiment whose difference in recall_few it is.
GAINS = {
    "more copies": ("Repeated", "Few"),
    "more diverse images": ("Distinct", "Repeated"),
    "twice the number": ("Half, copied", "Half"),
    "twice the distinct images": ("Half, copied", "Quarter, copied"),
}

#: Part of an arm ("" is the arm itself), metric, column of the label frame, the classes over which its mean is taken.
_MEANS = (
    ("", "recall_few", "recall", "few"),
    ("", "recall_many", "recall", "many"),
    *(("", name, name, "all") for name in ("magnitude_gap", "top_k_share", "units_in_use", "class_overlap")),
    *(("", f"{name}_few", name, "few") for name in ("effective_rank", "log_effective_rank", "coverage")),
    ("true positives", "magnitude_gap", "magnitude_gap_tp", "both"),
    ("false negatives", "magnitude_gap", "magnitude_gap_fn", "both"),
    *(("minority classes", name, name, "few") for name in ("magnitude_gap", "range_gap_equal")),
    *(("majority classes", name, name, "many") for name in ("magnitude_gap", "range_gap_equal")),
    ("top K only", "recall_few", "recall_only", "few"),
    ("without top K", "recall_few", "recall_without", "few"),
)
#: Part of an imbalanced arm with a metric for each class, "class 0" and so on -> column of the label frame.
_OF_CLASSES = {
    "diversity of a class": "effective_rank_train",
    "size of a class": "train_count",
    "recall of a class": "recall",
}
_RUN = [*IDENTITY, "readout"]


def scores(runs: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all runs in long form: `IDENTITY`, readout, metric and value; what is undefined is left out.

    ``runs`` and ``labels`` are of `imbal_book.studies.cnn_fragility.run_frame` and `label_frame`.

    Returns
    -------
    DataFrame
        Of each arm: accuracy, and the means of its classes' readings (`latent_readings.class_readings`), with ``_few``
        behind for those over the rarer half; log_effective_rank_few is the mean of the natural logarithm.
        Parts of an arm are readouts "ARM, PART", and only "PART" of `PLAIN`. "true positives" and "false negatives":
        magnitude_gap over the classes that have both. "minority classes" and "majority classes": magnitude_gap and
        range_gap_equal. "top K only" and "without top K", the classifier with only the K = 10 first units of each class
        or all others: recall_few and agreement with the whole. A mark to compare with: "half of the logit", top_k_share
        0.5. "diversity of a class" (effective_rank_train), "size of a class" (training images) and "recall of a class",
        with a metric for each class, of the arms of `UNEVEN`.
        Of two arms: those of `GAINS`. "imbalanced training" and "another seed": magnitude_change, number_change and
        unit_overlap (`latent_readings.changes`) between a network of "CE balanced" and one of `PLAIN` or of its own
        arm with the next split seed, which says how much two trainings of the same kind differ; means over the classes
        of which both comparisons have one.
    """
    rows = [*_means(labels), *_of_runs(runs), *_of_classes(labels), *_compared(runs)]
    found = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*_RUN, "metric", "value"])
    few = found[found["metric"] == "recall_few"]
    for name, (a, b) in GAINS.items():
        gains = minus(few[few["readout"].isin([a, b])], b).assign(readout=name, metric="gain_few")
        found = pd.concat([found, gains], ignore_index=True) if len(gains) else found
    return found[[*_RUN, "metric", "value"]].dropna(subset="value", ignore_index=True)


def _named(rows: pd.DataFrame, part: str, metric: str) -> pd.DataFrame:
    """Return the rows of a part of each arm, under its readout's name."""
    names = [part if part and arm == PLAIN else f"{arm}, {part}" if part else arm for arm in rows["readout"]]
    return rows.assign(readout=names, metric=metric)


def _means(labels: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if labels.empty:
        return
    chosen = {
        "all": labels,
        "few": labels[labels["rare"]],
        "many": labels[~labels["rare"]],
        "both": labels.dropna(subset=["magnitude_gap_tp", "magnitude_gap_fn"]),
    }
    grouped = {name: rows.groupby(_RUN, sort=False) for name, rows in chosen.items()}
    for part, metric, column, classes in _MEANS:
        yield _named(grouped[classes][column].mean().rename("value").reset_index(), part, metric)


def _of_runs(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if runs.empty:
        return
    measured = runs["measurements"]
    yield _named(runs.assign(value=[m["readouts"]["softmax"]["accuracy"] for m in measured]), "", "accuracy")
    for part, side in (("top K only", "only"), ("without top K", "without")):
        cuts = [m["latent"]["cut"] for m in measured]
        agreement = [cut[side]["agreement"][cut["k"].index(TOP)] for cut in cuts]
        yield _named(runs.assign(value=agreement), part, "agreement")
    plain = runs[runs["readout"] == PLAIN]
    yield plain.assign(readout="half of the logit", metric="top_k_share", value=0.5)


def _of_classes(labels: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if labels.empty:
        return
    uneven = labels[labels["readout"].isin(UNEVEN)]
    for name, column in _OF_CLASSES.items():
        metric = "class " + uneven["label"].astype(str)
        yield _named(uneven, name, "").assign(metric=metric, value=uneven[column].astype(float))


def _compared(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield what "CE balanced" says beside two runs of the next split seed, in a circle, in the same cell."""
    for _, cell in runs.sort_values(list(PAIR)).groupby(list(CELL), sort=False):
        balanced, plain = (cell[cell["readout"] == name] for name in ("CE balanced", PLAIN))
        for place in range(len(balanced)):
            one = balanced[place : place + 1]
            circle = pd.concat([balanced[place + 1 :], balanced[:place]])
            other = circle[circle["split_seed"] != one["split_seed"].item()].head(1)
            same = plain.merge(other[[*PAIR]], on=list(PAIR))
            if same.empty:
                continue
            latents = [rows["measurements"].item()["latent"] for rows in (one, same, other)]
            found = [changes(latents[0], latent) for latent in latents[1:]]
            both = found[0].notna() & found[1].notna()
            for name, change in zip(("imbalanced training", "another seed"), found, strict=True):
                for metric, value in change.where(both).mean().items():
                    yield one.assign(readout=name, metric=str(metric), value=value)
