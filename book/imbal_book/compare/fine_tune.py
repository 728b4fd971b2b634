"""The two best remedies and plain training again with the whole network trained: the same splits, in a given time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.compare.aim import Aim
from imbal_book.compare.measured import Measured
from imbal_book.heads.parts import Parts
from imbal_book.heads.remedies import PLAIN, Remedy
from imbal_book.heads.scores import Metric, compare_with_plain, confusions
from imbal_book.studies.grids.remedies import TRAINED
from imbal_core import adjust_logits
from imbal_core.centers import CategoryCenters
from imbal_core.data.image_folders import decode_all
from imbal_core.models.networks import Network
from imbal_core.post_hoc import tau_normalized_logits
from imbal_core.training.fit import DivergedError, fit
from imbal_core.training.prediction import default_device, device_label, predict
from imbal_core.training.recipe import Recipe
from imbal_core.training.start import build_network, seeded_init

__all__ = ["FineTuned", "fine_tune"]

#: Objective of a head -> what a recipe says instead, and beside, of a network that is trained.
_FIELDS: dict[str, dict[str, Any]] = {
    "cross entropy": {},
    "class weights": {"loss": "inverse-frequency"},
    "class-balanced": {"loss": "class-balanced", "loss_options": {"beta": 0.99}},
    "focal": {"loss": "focal", "loss_options": {"alpha": 1.0}},
    "cce": {"loss": "cce"},
    "ldam": {"loss": "ldam", "head_start": "own"},
    "balanced softmax": {"loss": "balanced-softmax"},
    "final bn": {"final_batch_norm": True},
}
#: The least that is begun: epochs of a training, and splits.
_EPOCHS, _SPLITS = 3, 3
#: Bytes of all images together; more images are kept smaller.
_MOST_BYTES = 5e8


@dataclass(frozen=True)
class FineTuned:
    """What came out of training the whole network.

    Attributes
    ----------
    table : DataFrame or None
        As `imbal_book.heads.scores.compare_with_plain`, with a column ``frozen``: the mean score of the heads on fixed
        features of the same splits. None if the time was too short for an interval.
    sentence : str
        How far it got.
    """

    table: pd.DataFrame | None
    sentence: str


def fine_tune(
    network: Network,
    files: Sequence[Path],
    labels: np.ndarray,
    parts: Parts,
    measured: Measured,
    aim: Aim,
    *,
    minutes: float,
    seed: int,
    step: Callable[[str], None],
) -> FineTuned:
    """Return plain training and the two best remedies, as they are when the whole network is trained.

    Every network starts from the given one with a new classifier, and is trained as those of the chapter of all
    remedies, with fewer epochs if three splits do not fit into the time otherwise; nothing is chosen on validation
    images. Remedies that differ after training alone share their networks.

    Parameters
    ----------
    network : Network
        It stays as it is.
    files : sequence of Path
    labels : ndarray of shape (N,), int64
    parts : Parts
        Its repeated splits are trained one after the other, as many as fit into the time.
    measured : Measured
        On fixed features; it says which remedies are best.
    aim : Aim
        What counts.
    minutes : float
        Time, that of decoding the images included.
    seed : int
        Of the trainings.
    step : callable
        Told each split when it is done.
    """
    start, where = perf_counter(), device_label(default_device())

    def spent() -> float:
        return (perf_counter() - start) / 60

    side = min(network.image_size, int((_MOST_BYTES / (3 * len(files))) ** 0.5))
    work = _Work(network, decode_all(files, side), labels, _chosen(measured, network), aim.shares)
    begun = spent()
    work.confusions(parts, 0, epochs=1, seed=seed)
    epoch = spent() - begun
    epochs = min(TRAINED["epochs"], int((minutes - spent()) / (_SPLITS * epoch)))
    if epochs < _EPOCHS:
        least = math.ceil(spent() + _SPLITS * _EPOCHS * epoch)
        text = f"the least is {_EPOCHS} epochs of {_SPLITS} splits, about {least} minutes (--minutes {least})"
        return FineTuned(None, f"{minutes:g} minutes are too few on {where}: {text}.")
    tables: list[dict[str, np.ndarray]] = []
    longest, repeats, ended = 0.0, len(parts.train) - 1, ""
    while len(tables) < repeats and spent() + longest <= minutes and not ended:
        begun = spent()
        try:
            tables.append(work.confusions(parts, len(tables), epochs=epochs, seed=seed + len(tables)))
        except DivergedError as error:
            ended = f" It ended there: {error}"
        longest = max(longest, spent() - begun)
        step(f"whole network: {len(tables)} of {repeats} splits, {spent():.1f} minutes")
    sentence = (
        f"{len(tables)} of {repeats} splits, {epochs} epochs of each training, {spent():.1f} of {minutes:g} minutes on "
        f"{where}, images of {side} pixels.{ended}"
    )
    return FineTuned(_table(tables, measured, aim.score, parts.test_over_train), sentence)


def _chosen(measured: Measured, network: Network) -> dict[str, Remedy]:
    """Return plain training and the two best remedies that a trained network can have."""
    able = {}
    for key in map(str, measured.table.index):
        remedy = measured.remedies[key]
        trained = key == "centers" or remedy.objective in _FIELDS
        if trained and (remedy.after != "normalise" or network.embedding_tap):
            able[key] = remedy
    return {PLAIN: able.pop(PLAIN)} | dict(list(able.items())[:2])


def _table(
    tables: Sequence[Mapping[str, np.ndarray]], measured: Measured, metric: Metric, test_over_train: float
) -> pd.DataFrame | None:
    if len(tables) < 2:
        return None
    scores = {key: np.array([metric(table[key]) for table in tables]) for key in tables[0]}
    table = compare_with_plain(scores, PLAIN, test_over_train)
    frozen = {key: np.mean([metric(one) for one in measured.tables[key][: len(tables)]]) for key in scores}
    return table.assign(frozen=pd.Series(frozen))


@dataclass(frozen=True)
class _Work:
    """The images and remedies of which networks are trained."""

    network: Network
    images: np.ndarray
    labels: np.ndarray
    remedies: Mapping[str, Remedy]
    shares: np.ndarray

    def confusions(self, parts: Parts, split: int, *, epochs: int, seed: int) -> dict[str, np.ndarray]:
        """Return the confusion matrix (K, K) of each remedy on the images that measure a split."""
        train, measure = parts.train[split], parts.measure[split]
        networks: dict[str, Network] = {}
        found = {}
        for key, remedy in self.remedies.items():
            objective = remedy.objective or self.remedies[PLAIN].objective
            if objective not in networks:
                networks[objective] = self._trained(objective, train, epochs, seed)
            predicted = self._predictions(networks[objective], remedy, train, measure)
            found[key] = confusions(self.labels[measure], predicted, len(parts.measured))
        return found

    def _trained(self, objective: str, train: np.ndarray, epochs: int, seed: int) -> Network:
        slow = {} if default_device().type == "cuda" else {"precision": "fp32", "float32_head": False}
        fields = TRAINED | slow | _FIELDS[objective] | {"epochs": epochs, "train_seed": seed}
        recipe = Recipe(model=self.network.name, image_size=self.network.image_size, **fields)
        with seeded_init(seed):
            network = build_network(recipe, len(self.shares))
        head = next(name for name, module in network.named_modules() if module is network.classifier())
        own = {
            key: value for key, value in self.network.state_dict().items() if not key.startswith(f"{head}.")
        }
        assert not network.load_state_dict(own, strict=False).unexpected_keys
        network.fixed_normalisation = True
        fit(network, self.images[train], self.labels[train], recipe, progress=False)
        return network

    def _predictions(
        self, network: Network, remedy: Remedy, train: np.ndarray, measure: np.ndarray
    ) -> np.ndarray:
        tap = network.embedding_tap or network.taps[-1]
        found = predict(network, self.images[measure], taps=(tap,))
        if not remedy.objective:
            known = predict(network, self.images[train], taps=(tap,))[tap]
            centers = CategoryCenters().fit(known.numpy(), self.labels[train])
            return np.asarray(centers.predict(found[tap].numpy()))
        logits = found["logits"].numpy()
        if remedy.after == "adjust":
            logits = adjust_logits(logits, np.bincount(self.labels[train])) + np.log(self.shares)
        if remedy.after == "normalise":
            weight = next(network.classifier().parameters()).detach().cpu()
            logits = tau_normalized_logits(found[tap].numpy(), weight, 1.0)
        return logits.argmax(1)
