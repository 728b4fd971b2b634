"""The protocol of the chapter of all remedies, as tables and words made from the code and the records."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd

from imbal_book.chapters.remedies import DATA, NAMES, in_order
from imbal_book.heads import LENGTHS, RATES
from imbal_book.heads.baselines import BASELINES, STRENGTHS
from imbal_book.heads.remedies import FURTHER, OBJECTIVES, PLAIN, REMEDIES
from imbal_book.heads.scores import rare_classes
from imbal_book.heads.side_by_side import WIDTH
from imbal_book.studies import build_grid
from imbal_core.losses.functional import ldam

_FORMS = {"linear": "linear", "cosine": "cosines", "normalised": "linear, normalised over the batch"}
_AFTER = {"": "", "adjust": "logits adjusted", "normalise": "weights of length 1, no bias"}


def remedy_table(shown: pd.DataFrame) -> pd.DataFrame:
    """Return what each remedy is: its name on the page, what it tells to do, its head, and what is done afterwards.

    Parameters
    ----------
    shown : DataFrame
        Long frame; a baseline that no record has is said to be skipped.
    """
    rows = []
    for key, remedy in {**REMEDIES, **FURTHER, **BASELINES}.items():
        skipped = key in BASELINES and not (shown["readout"] == NAMES[key]).any()
        head = _FORMS[OBJECTIVES[remedy.objective].form] if remedy.objective else ""
        rows.append(
            {
                "remedy": NAMES[key],
                "what it does": remedy.advice
                + (" (skipped: the package is not installed)" if skipped else ""),
                "head": head or ("centers" if key == "centers" else "its own"),
                "after training": _AFTER[remedy.after],
            }
        )
    return pd.DataFrame(rows)


def settings_in_words() -> dict[str, str]:
    """Return the constants of the protocol as text."""
    held = {
        setting.rate for name in ("weight decay", "weight balancing") for setting in OBJECTIVES[name].settings
    }
    network = build_grid("remedies", "laptop")[0].model
    return {
        "network": str(network).partition(":")[2] + " with ImageNet weights",
        "width": str(WIDTH),
        "scale": f"{inspect.signature(ldam).parameters['scale'].default:g}",
        "settings": str(len(LENGTHS) * len(OBJECTIVES[REMEDIES[PLAIN].objective].settings)),
        "rates": ", ".join(f"{rate:g}" for rate in RATES),
        "held": ", ".join(f"{rate:g}" for rate in sorted(held)),
        "steps": ", ".join(map(str, LENGTHS)),
        "strengths": ", ".join(f"{strength:g}" for strength in STRENGTHS),
    }


def cell_table(records: pd.DataFrame) -> pd.DataFrame:
    """Return what each cell is: data, imbalance, image size, classes, images, draws and the cut of the pool.

    A cell that is planned for the profile of the records, and has none yet, is a row that says so.
    """
    rows: list[dict[str, object]] = []
    for (data, imbalance), part in in_order(records).groupby(["dataset", "imbalance"], sort=False):
        first = part.iloc[0]
        train, test = (np.array(first["measurements"][f"{side}_counts"]) for side in ("train", "test"))
        rows.append(
            {
                "data": DATA.get(str(data), data),
                "imbalance": str(imbalance).replace("-", " "),
                "image size": first["image_size"] or "its own",
                "classes": len(train),
                "rare": int(rare_classes(train).sum()),
                "training images": f"{train.sum():,}, {train.max():,} to {train.min():,} of a class",
                "test images": f"{test.sum():,}",
                "draws": part["split_seed"].nunique(),
                "share of the pool's largest class": f"{first['imbalance_scale']:g}",
            }
        )
    planned = [
        config for profile in records["profile"].unique() for config in build_grid("remedies", profile)
    ]
    seen = set(records[["dataset", "imbalance"]].itertuples(index=False, name=None))
    for data, imbalance in dict.fromkeys((config.dataset, config.imbalance) for config in planned):
        if (data, imbalance) not in seen:
            words = {"data": DATA.get(data, data), "imbalance": imbalance.replace("-", " ")}
            rows.append({**words, "draws": "not attempted"})
    return pd.DataFrame(rows, dtype=object).fillna("")
