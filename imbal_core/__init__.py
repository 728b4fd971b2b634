"""Imbalanced image classification: data sets, class counts, splits, networks, losses, training, remedies, metrics.

Every name below is loaded when it is first used, so ``import imbal_core`` costs nothing.

Examples
--------
Cut the embedded digits so that the last classes are rare, train, and score each class:

>>> from imbal_core import Recipe, build_model, confusion_counts, exponential_counts, fit, load_dataset
>>> from imbal_core import draw_split, per_class_recall, predict
>>> digits = load_dataset("mnist5k", "train")
>>> split = draw_split(digits.labels, exponential_counts(100, 10, ratio=10), [0] * 10, seed=0, num_test=0)
>>> images, labels = digits.images[split.train], digits.labels[split.train]
>>> network = build_model("small_cnn", num_classes=10, image_size=16)
>>> result = fit(network, images, labels, Recipe(epochs=1, batch_size=32), progress=False)
>>> logits = predict(network, images)["logits"]
>>> per_class_recall(confusion_counts(labels, logits.argmax(1), 10)).shape
(10,)
"""

# ruff: noqa: F401 -- the imports below tell type checkers what __getattr__ gives
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imbal_core.centers import CategoryCenters
    from imbal_core.corrections import LogitAdjuster, TauNormalizer, TemperatureScaler, ThresholdShifter
    from imbal_core.data.class_counts import counts_from_name, exponential_counts, step_counts
    from imbal_core.data.datasets import ImageDataset, list_datasets, load_dataset
    from imbal_core.data.splits import Split, draw_split
    from imbal_core.losses.functional import adjust_logits
    from imbal_core.losses.modules import build_loss
    from imbal_core.losses.options import list_losses
    from imbal_core.metrics import (
        balanced_accuracy,
        confusion_counts,
        expected_calibration_error,
        per_class_recall,
    )
    from imbal_core.models.build import build_model, list_models
    from imbal_core.models.heads import add_final_batch_norm
    from imbal_core.post_hoc import (
        choose_tau,
        fit_temperature,
        retrain_classifier,
        shifted_threshold,
        tau_normalized_logits,
    )
    from imbal_core.training.fit import fit
    from imbal_core.training.prediction import predict
    from imbal_core.training.recipe import Recipe
    from imbal_core.training.sampling import ClassBalancedSampler

#: Public name -> the module that defines it.
_HOMES = {
    "CategoryCenters": "centers",
    "ClassBalancedSampler": "training.sampling",
    "ImageDataset": "data.datasets",
    "LogitAdjuster": "corrections",
    "Recipe": "training.recipe",
    "Split": "data.splits",
    "TauNormalizer": "corrections",
    "TemperatureScaler": "corrections",
    "ThresholdShifter": "corrections",
    "add_final_batch_norm": "models.heads",
    "adjust_logits": "losses.functional",
    "balanced_accuracy": "metrics",
    "build_loss": "losses.modules",
    "build_model": "models.build",
    "choose_tau": "post_hoc",
    "confusion_counts": "metrics",
    "counts_from_name": "data.class_counts",
    "draw_split": "data.splits",
    "expected_calibration_error": "metrics",
    "exponential_counts": "data.class_counts",
    "fit": "training.fit",
    "fit_temperature": "post_hoc",
    "list_datasets": "data.datasets",
    "list_losses": "losses.options",
    "list_models": "models.build",
    "load_dataset": "data.datasets",
    "per_class_recall": "metrics",
    "predict": "training.prediction",
    "retrain_classifier": "post_hoc",
    "shifted_threshold": "post_hoc",
    "step_counts": "data.class_counts",
    "tau_normalized_logits": "post_hoc",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from imbal_core._checks.names import unknown_name

        raise unknown_name(f"attribute of {__name__}", name, __all__, AttributeError)
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
