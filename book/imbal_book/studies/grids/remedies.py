"""Every remedy of the book: draws of the training images, on frozen features, or with a network trained on each."""

from __future__ import annotations

import dataclasses
from typing import Any

from imbal_book.heads import LENGTHS
from imbal_book.run.config import RunConfig
from imbal_book.studies.grids import crossed, same

#: Draws of each cell of profile laptop, and of the one whose heads take as long as those of all others.
DRAWS, FEW_DRAWS = 10, 5
#: What a network is trained with where it is not frozen: name -> fields of the recipe.
ARMS: dict[str, dict[str, Any]] = {
    "cross entropy": {},
    "balanced softmax": {"loss": "balanced-softmax"},
    "class-balanced weights": {"loss": "class-balanced"},
    "LDAM, deferred weights": {
        "loss": "ldam",
        "loss_options": (("reweight_from", 12),),
        "head_start": "own",
    },
    "final batch norm": {"final_batch_norm": True},
}
#: How such a network is trained, whatever its images are.
TRAINED: dict[str, Any] = {
    "epochs": 15,
    "learning_rate": 0.02,
    "batch_size": 64,
    "schedule": "one-cycle",
    "augment": "flip",
    "precision": "bf16",
    "float32_head": True,
    "head_start": "linear",
}
_BACKBONE = "timm:tf_efficientnet_lite0"


def _smoke() -> list[RunConfig]:
    base = RunConfig(
        study="remedies",
        profile="smoke",
        dataset="mnist5k",
        imbalance="exponential-20",
        imbalance_scale=0.4,
        valid_share=0.25,
        model="small_cnn",
        epochs=3,
        learning_rate=0.05,
        batch_size=64,
    )
    return crossed([base], same(2), [{}, ARMS["balanced softmax"]])


def _laptop() -> list[RunConfig]:
    """Return the runs on frozen features: each data set's are read once, then a run is a minute or less."""
    base = RunConfig(
        study="remedies",
        profile="laptop",
        dataset="cifar10",
        imbalance="exponential-100",
        model=_BACKBONE,
        pretrained=True,
        frozen=True,
        image_size=96,
        epochs=max(LENGTHS),
        precision="bf16",
    )
    cells: list[dict[str, Any]] = [
        {"dataset": "scenes6", "imbalance": "exponential-20", "image_size": 128},
        {"dataset": "plantvillage-tomato:by-disease", "imbalance": "natural", "image_size": 128},
        {"imbalance_scale": 0.4},
        {"imbalance": "exponential-10", "imbalance_scale": 0.2},
        {"dataset": "cifar100", "imbalance": "exponential-10", "imbalance_scale": 0.2},
    ]
    long_tail = dataclasses.replace(base, dataset="cifar100")
    runs = crossed([dataclasses.replace(base, **cell) for cell in cells], same(DRAWS))
    return [*runs, *crossed([long_tail], same(FEW_DRAWS))]


def _paper() -> list[RunConfig]:
    """Return the runs that train the whole network, for a GPU: they ask whether frozen features foretell the order."""
    base = RunConfig(
        study="remedies",
        profile="paper",
        dataset="scenes6",
        imbalance="exponential-20",
        imbalance_scale=0.75,  # leaves images of the largest class for validation
        valid_share=0.25,
        model=_BACKBONE,
        pretrained=True,
        image_size=128,
        **TRAINED,
    )
    leaves: dict[str, Any] = {
        "dataset": "plantvillage-tomato:by-disease",
        "imbalance": "natural",
        "imbalance_scale": 1.0,
    }
    cells = [base, dataclasses.replace(base, **leaves)]
    return crossed(cells, same(5), ARMS.values())


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale ("smoke", "laptop", "paper"), the most wanted first."""
    return {"smoke": _smoke, "laptop": _laptop, "paper": _paper}[profile]()


def arm(config: RunConfig) -> str:
    """Return the key of `ARMS` that says what a network was trained with; "cross entropy" for frozen features."""
    if config.final_batch_norm:
        return "final batch norm"
    return next(name for name, fields in ARMS.items() if fields.get("loss", "cross-entropy") == config.loss)
