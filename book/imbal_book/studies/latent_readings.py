"""What the latent summaries of one record, or of two, say: gaps, overlaps and changes, a number per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.latent_summaries import IN_USE_ABOVE, NEEDED_FOR, SHARES_AT, TOP
from imbal_core.embeddings import matching
from imbal_core.embeddings.top_k import overlap_matrix, paired_overlap

__all__ = [
    "class_overlaps",
    "class_readings",
    "magnitude_change",
    "match_units",
    "matched_overlap",
    "number_change",
    "share_curve",
    "top_table",
]

#: Latent summaries of one network, from `imbal_book.studies.latent_summaries.latent_summaries`.
Latent = Mapping[str, Any]

_TP, _FN = "true positives", "false negatives"
#: Of `IN_USE_ABOVE`: among the top K of more than a tenth of the images.
_TENTH = IN_USE_ABOVE.index(0.1)


def top_table(latent: Latent, embedding: str, side: str, instances: str) -> dict[str, np.ndarray]:
    """Return one table of `imbal_book.studies.latent_summaries.TABLES` as arrays.

    Returns
    -------
    dict of ndarray
        ``images`` (C,), ``identities`` and ``magnitudes`` (C, K), ``shares`` (C, len of `SHARES_AT` in use),
        ``in_use`` (C, len of `IN_USE_ABOVE`), ``needed`` (C, len of `NEEDED_FOR`).
    """
    stored = latent["top"][embedding][side][instances]
    return {
        name: np.asarray(rows) if name == "images" else unpack_rows(rows) for name, rows in stored.items()
    }


def share_curve(
    latent: Latent, embedding: str, side: str, instances: str
) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the K at which shares are kept, and each class's share at each, (C, len of K), NaN where undefined."""
    at = tuple(k for k in SHARES_AT if k <= latent["units"])
    return at, top_table(latent, embedding, side, instances)["shares"].astype(np.float64)


def class_overlaps(
    latent: Latent, embedding: str = "CE", side: str = "test", instances: str = _TP
) -> np.ndarray:
    """Return |S ∩ T| / K of the top K of every class with those of every class, (C, C); NaN without images."""
    units = top_table(latent, embedding, side, instances)["identities"]
    return overlap_matrix(units, units)


def class_readings(latent: Latent) -> dict[str, np.ndarray]:
    """Return what one network says of each class, (C,) float64 each, NaN where undefined.

    Returns
    -------
    dict of ndarray
        magnitude_gap, magnitude_gap_tp, magnitude_gap_fn and the same with ``_fe``: the fall of the top-K CE
        (or FE) magnitudes from all training images to all test images, true positives or false negatives, as a
        share of the former. top_k_share: share of the K largest in the sum of all |CE|, test true positives.
        units_in_use: units among the top K of more than a tenth of the training true positives; units_needed:
        units that carry 90 % of their |CE|; both as fractions of all units. train_test_overlap, tp_fn_overlap:
        shared units over K, of CE. class_overlap: mean overlap with the other classes, test true positives.
        effective_rank, participation_ratio, cosine_distance: of the test FE; the same with ``_train``: of
        equally many training FE of each class. coverage and coverage_equal; range_gap and range_gap_equal.
    """
    units = latent["units"]
    gaps = {embedding: unpack_rows(latent["gaps"][embedding]) for embedding in ("CE", "FE")}
    right = top_table(latent, "CE", "test", _TP)
    trained = top_table(latent, "CE", "train", _TP)
    at, shares = share_curve(latent, "CE", "test", _TP)
    readings = {
        f"magnitude_gap{of}{suffix}": gaps[embedding][row]
        for embedding, suffix in (("CE", ""), ("FE", "_fe"))
        for row, of in enumerate(("", "_tp", "_fn"))
    }
    overlaps = class_overlaps(latent)
    np.fill_diagonal(overlaps, np.nan)
    readings |= {
        "top_k_share": shares[:, at.index(TOP)],
        "units_in_use": trained["in_use"][:, _TENTH] / units,
        "units_needed": trained["needed"][:, NEEDED_FOR.index(0.9)] / units,
        "train_test_overlap": _overlap(latent, ("train", "all"), ("test", "all")),
        "tp_fn_overlap": paired_overlap(
            right["identities"], top_table(latent, "CE", "test", _FN)["identities"]
        ),
        "class_overlap": _nan_mean_rows(overlaps),
    }
    spread = latent["diversity"]
    for side, suffix in (("test", ""), ("equal", "_train")):
        for name, row in zip(spread["measures"], unpack_rows(spread[side]), strict=True):
            readings[name.replace(" ", "_") + suffix] = row
    for name in ("coverage", "range_gap"):
        readings[name], readings[f"{name}_equal"] = unpack_rows(spread[name])
    return {name: np.asarray(values, dtype=np.float64) for name, values in readings.items()}


def magnitude_change(first: Latent, second: Latent) -> np.ndarray:
    """Return by how much the top-K CE magnitude of each class differs between two networks, (C,) float64.

    |log| of the ratio of their sums over the K largest, over the training true positives. Ranks are compared with
    ranks, so no units need to be matched.
    """
    sums = [top_table(latent, "CE", "train", _TP)["magnitudes"].sum(axis=1) for latent in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(np.log(sums[0] / sums[1]))
    return np.where(np.isfinite(change), change, np.nan)


def number_change(first: Latent, second: Latent) -> np.ndarray:
    """Return by how much units_in_use of each class (`class_readings`) differs between two networks, (C,) float64."""
    return np.abs(class_readings(first)["units_in_use"] - class_readings(second)["units_in_use"])


def match_units(first: Latent, second: Latent) -> tuple[np.ndarray, np.ndarray]:
    """Return the matching of the units of two networks by their mean FE over the same groups of test images.

    Parameters
    ----------
    first, second : mapping
        Of the same data set. Groups of images stand in for images, which no record holds: four groups of each
        class. So units are matched by which classes they answer to, and less by differences inside a class. Two
        trainings of the same kind, matched in the same way, say what is left by chance.

    Raises
    ------
    ValueError
        If the groups are not the same in number.
    """
    return matching.match_units(unpack_rows(first["probe"]), unpack_rows(second["probe"]))


def matched_overlap(first: Latent, second: Latent, *, instances: str = _TP) -> np.ndarray:
    """Return the overlap of each class's top-K CE units between two networks after matching, (C,) float64.

    Test images; |S ∩ T| / K. K / D is what two random sets share on average.
    """
    partners, _ = match_units(first, second)
    mine, theirs = (top_table(latent, "CE", "test", instances)["identities"] for latent in (first, second))
    return paired_overlap(mine, matching.translate(partners, theirs))


def _overlap(latent: Latent, *places: tuple[str, str]) -> np.ndarray:
    first, second = (top_table(latent, "CE", *place)["identities"] for place in places)
    return paired_overlap(first, second)


def _nan_mean_rows(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(axis=1))
