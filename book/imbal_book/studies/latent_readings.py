"""What the record of one network says of each class, and what those of two say of the same class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.complement_cross_entropy import minority
from imbal_book.studies.latent_summaries import IN_USE_ABOVE, SHARES_AT, TOP
from imbal_core.embeddings import matching
from imbal_core.embeddings.top_k import overlap_matrix

#: Latent summaries of one network, from `imbal_book.studies.latent_summaries.latent_summaries`.
Latent = Mapping[str, Any]

_TP = "true positives"
#: Of `IN_USE_ABOVE`: among the top K of more than a tenth of the images.
_TENTH = IN_USE_ABOVE.index(0.1)


def _kept(latent: Latent, side: str, name: str) -> np.ndarray:
    """Return a column of the table of CE of true positives, see `imbal_book.studies.latent_summaries.TABLES`."""
    return unpack_rows(latent["top"]["CE"][side][_TP][name])


def share_curve(latent: Latent) -> pd.DataFrame:
    """Return the share of each class's |CE| in its K largest, test true positives: columns label, k and value."""
    shares = _kept(latent, "test", "shares").astype(float)
    table = pd.DataFrame(shares, columns=[k for k in SHARES_AT if k <= latent["units"]])
    return table.rename_axis(index="label").reset_index().melt("label", var_name="k").astype({"k": int})


def class_overlaps(latent: Latent) -> np.ndarray:
    """Return |S ∩ T| / K of the top-K CE units of every two classes, (C, C), test true positives; NaN without any."""
    units = _kept(latent, "test", "identities")
    return overlap_matrix(units, units)


def _of_training(latent: Latent) -> dict[str, np.ndarray]:
    """Return units_in_use and magnitude of each class, see `class_readings`."""
    in_use = _kept(latent, "train", "in_use")[:, _TENTH] / latent["units"]
    return {"units_in_use": in_use, "magnitude": _kept(latent, "train", "magnitudes").sum(axis=1)}


def class_readings(measured: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return what the measurements of `cnn_fragility.measure` say of each class, NaN where undefined.

    Returns
    -------
    dict of str to ndarray, shape (C,)
        label; train_count; rare: of the rarer half; recall, and train_recall; recall_only and recall_without, where the
        classifier keeps the K = 10 weights of each class that carry most, or all others.
        magnitude_gap, magnitude_gap_tp, magnitude_gap_fn and the same with ``_fe``: the fall of the top-K CE
        (or FE) magnitudes from all training images to all test images, true positives or false negatives, as a
        share of the former. top_k_share: share of the K largest in the sum of all |CE|, test true positives.
        units_in_use: units among the top K of more than a tenth of the training true positives, a fraction of all;
        magnitude: the sum of their K largest mean |CE|. class_overlap: mean overlap with the other classes.
        effective_rank, participation_ratio, cosine_distance: of the test FE; the same with ``_train``: of equally many
        training FE of each class; log_effective_rank: natural. coverage and range_gap; both also with ``_equal``.
    """
    latent, counts = measured["latent"], np.asarray(measured["train_counts"])
    cut, spread = latent["cut"], latent["diversity"]
    overlaps = class_overlaps(latent)
    np.fill_diagonal(overlaps, np.nan)
    shares = _kept(latent, "test", "shares")
    readings = {
        "recall": measured["readouts"]["softmax"]["recall"],
        "train_recall": measured["readouts"]["train"]["recall"],
        **{
            f"recall_{side}": unpack_rows(cut[side]["recall"])[cut["k"].index(TOP)]
            for side in ("only", "without")
        },
        "top_k_share": shares[:, SHARES_AT.index(TOP)],
        **_of_training(latent),
        "class_overlap": np.ma.masked_invalid(overlaps).mean(axis=1).filled(np.nan),
    }
    for embedding, suffix in (("CE", ""), ("FE", "_fe")):
        for of, row in zip(("", "_tp", "_fn"), unpack_rows(latent["gaps"][embedding]), strict=True):
            readings[f"magnitude_gap{of}{suffix}"] = row
    for side, suffix in (("test", ""), ("equal", "_train")):
        for name, row in zip(spread["measures"], unpack_rows(spread[side]), strict=True):
            readings[name.replace(" ", "_") + suffix] = row
    for name in ("coverage", "range_gap"):
        readings[name], readings[f"{name}_equal"] = unpack_rows(spread[name])
    columns = {name: np.asarray(values, dtype=float) for name, values in readings.items()}
    columns |= {"label": np.arange(len(counts)), "train_count": counts, "rare": minority(len(counts))}
    return {**columns, "log_effective_rank": np.log(columns["effective_rank"])}


def changes(first: Latent, second: Latent) -> pd.DataFrame:
    """Return how much the top-K CE of each class differ between two networks of a data set, a row per class.

    Returns
    -------
    DataFrame
        NaN where undefined. magnitude_change: |log| of the ratio of the K largest magnitudes' sums. Ranks are compared
        with ranks, so no units need to be matched. number_change: the difference of units_in_use. Both over the
        training true positives. unit_overlap: shared units over K, test true positives, after matching by the mean FE
        of the same four groups of test images of each class: no record holds an image's own FE, so units are matched by
        which classes they answer to. K / D is what two random sets share.

    Raises
    ------
    ValueError
        If the groups are not the same in number.
    """
    mine, theirs = _of_training(first), _of_training(second)
    partners, _ = matching.match_units(*(unpack_rows(latent["probe"]) for latent in (first, second)))
    units = [_kept(latent, "test", "identities") for latent in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(np.log(mine["magnitude"] / theirs["magnitude"]))
    return pd.DataFrame(
        {
            "magnitude_change": np.where(np.isfinite(change), change, np.nan),
            "number_change": np.abs(mine["units_in_use"] - theirs["units_in_use"]),
            "unit_overlap": np.diag(overlap_matrix(units[0], matching.translate(partners, units[1]))),
        }
    )
