"""Whether what remedies do to heads on frozen features foretells what they do to networks that are trained whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imbal_book.chapters import number
from imbal_book.chapters.remedies import DATA, NAMES, changes
from imbal_book.evidence.rank_correlation import partial_spearman
from imbal_book.evidence.statistics import CONFIDENCE
from imbal_book.evidence.verbs import minus, summarise

_CELL = ["dataset", "imbalance"]
#: Readout of the study on complement cross entropy -> the remedy of this page that is the same step.
TRAINED = {
    "CCE (paper)": "CCE (paper)",
    "CCE (released)": "CCE (released)",
    "COT": "COT",
    "Focal": "Focal",
    "Class-balanced": "Class-balanced",
    "LDAM-DRW": "LDAM-DRW",
    "Balanced softmax": "Balanced softmax",
    "CE, logit adjusted": "plain, logit adjusted",
    "CE, tau-normalised": "plain, tau-normalised",
    "CE, classifier re-trained": "class weights",
    "CE, category centers": "category centers",
}
_FEWEST = 6
_REPLICATES = 2000


def foretold(frozen: pd.DataFrame, trained: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the paired changes of remedies on frozen features and of trained networks, for each network that has them.

    Parameters
    ----------
    frozen : DataFrame
        Of `in_words`.
    trained : DataFrame
        Long frame of the study on complement cross entropy.

    Returns
    -------
    dict of str to DataFrame
        Network, data and imbalance -> columns method, side ("x" on frozen features, "y" trained), split_seed and value,
        the change of balanced accuracy. Networks with fewer than 6 of the remedies are left out.
    """
    here = minus(frozen[frozen["metric"] == "balanced"], "plain").assign(side="x")
    there = minus(trained[trained["metric"] == "accuracy"], "CE")
    there = there.assign(readout=there["readout"].map(TRAINED), side="y").dropna(subset="readout")
    found = {}
    for (form, profile, *place), part in there.groupby(["form", "profile", *_CELL], sort=False):
        mine = here[(here["dataset"] == place[0]) & (here["imbalance"] == place[1])]
        shared = [name for name in NAMES.values() if name in set(part["readout"]) & set(mine["readout"])]
        if len(shared) < _FEWEST or part.groupby("readout")["value"].size().min() < 2:
            continue
        both = pd.concat([mine, part]).rename(columns={"readout": "method"})
        title = f"{form}, {DATA.get(str(place[0]), place[0])}, {place[1]} ({profile})"
        found[title] = both.loc[both["method"].isin(shared), ["method", "side", "split_seed", "value"]]
    return found


def rank_interval(pairs: pd.DataFrame) -> tuple[float, float, float]:
    """Return Spearman's correlation of the mean changes of the two sides, with a 95 % interval.

    The interval is the bootstrap's: every resample takes as many remedies, and of each side as many draws, with
    replacement. A resample with fewer than four different remedies is taken again.
    """
    wide = {
        side: part.pivot_table(index="split_seed", columns="method", values="value")
        for side, part in pairs.groupby("side")
    }
    methods = [name for name in wide["x"] if name in wide["y"]]
    sides = [wide[side][methods].to_numpy(float) for side in "xy"]
    rng = np.random.default_rng(0)
    replicas: list[float] = []
    while len(replicas) < _REPLICATES:
        chosen = rng.integers(len(methods), size=len(methods))
        if len(set(chosen.tolist())) < 4:
            continue
        means = [np.nanmean(side[rng.integers(len(side), size=len(side))], 0)[chosen] for side in sides]
        replicas.append(float(partial_spearman(*means)))
    rest = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(replicas, [rest, 1 - rest])
    return float(partial_spearman(*(side.mean(0) for side in sides))), float(low), float(high)


def points(others: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the means of `foretold` with their intervals for `pictures.remedy_pictures.ranks`."""
    parts = []
    for title, pairs in others.items():
        found = summarise(pairs, ["method", "side"]).set_index(["method", "side"])
        wide = pd.DataFrame(
            {
                f"{side}{end}": found.xs(side, level="side")[name]
                for side in "xy"
                for end, name in (("", "mean"), ("_low", "low"), ("_high", "high"))
            }
        )
        parts.append(wide.rename_axis("method").reset_index().assign(panel=title))
    return pd.concat(parts, ignore_index=True)


def in_words(others: Mapping[str, pd.DataFrame]) -> str:
    """Return the rank correlations of `foretold` as sentences."""
    if not others:
        return "There are no records of both yet: not attempted."
    said = []
    for title, pairs in others.items():
        rho, low, high = rank_interval(pairs)
        draws = pairs.groupby("side")["split_seed"].nunique()
        said.append(
            f"{title}: Spearman's rank correlation of {pairs['method'].nunique()} remedies is {rho:.2f} "
            f"({low:.2f} to {high:.2f}; {draws['x']} draws here, {draws['y']} there)"
        )
    return "; ".join(said) + "."


def fine_tuned_in_words(frame: pd.DataFrame) -> str:
    """Return how many draws of whole networks are recorded, or that they are not attempted."""
    mine = frame[frame["readout"].str.startswith("network, ") & (frame["profile"] == "paper")]
    draws = mine.groupby("dataset")["split_seed"].nunique()
    if draws.empty:
        return "not attempted yet"
    return "in " + " and ".join(
        f"{count} draws of {DATA.get(str(data), data)}" for data, count in draws.items()
    )


def fine_tuned_table(frame: pd.DataFrame, overlap: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """Return what each way of training changes in the balanced accuracy of the whole network, in points."""
    mine = frame[frame["readout"].str.startswith("network, ")]
    mine = mine.assign(readout=mine["readout"].str.removeprefix("network, "))
    found = changes(mine, "balanced", overlap, "cross entropy")
    said = [number(*ends, sign=True) for ends in found[["mean", "low", "high"]].to_numpy()]
    text = found.assign(cell=found["panel"].str.replace("\n", ", "), points=said)
    return text[["cell", "method", "points", "n"]].rename(columns={"method": "trained with", "n": "draws"})
