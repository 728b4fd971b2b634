"""A batch-normalisation layer after the last layer: the paper's arms, and those that ask how the layer works."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from imbal_book.run.config import RunConfig
from imbal_book.studies.grids import crossed

PLANTS = ("apple", "pepper", "tomato")
#: The paper's arms -> what they change in a plain run.
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "final BN": {"final_batch_norm": True},
    "weighted loss": {"loss": "inverse-frequency"},
    "final BN + weighted loss": {"final_batch_norm": True, "loss": "inverse-frequency"},
}
#: Arms that take the layer apart, or do without it what it may do.
MECHANISM_ARMS: dict[str, dict[str, Any]] = {
    "final BN, no affine": {"final_batch_norm": True, "final_batch_norm_affine": False},
    "final BN, momentum 0.1": {"final_batch_norm": True, "final_batch_norm_momentum": 0.1},
    "logit adjustment": {"loss": "logit-adjustment"},
    "label smoothing": {"loss": "label-smoothing"},
}
EVERY_ARM = ARMS | MECHANISM_ARMS
#: What the book calls the networks.
NETWORKS = {
    "small_cnn": "small network",
    "timm:tf_efficientnet_lite0": "EfficientNet-Lite0",
    "vgg19": "VGG19",
    "resnet34": "ResNet34",
}
BASE_BATCH_SIZE = 64
BASE_IMBALANCE = "1000:10"  # as `frame` calls it
#: What follows the name of a network whose head starts as timm draws it.
OWN_START = " (timm's start)"
_PAPER_RATIO = "rare-1000-10-150-7"
#: Without batch norm inside a network bears less. Of 1e-4 and 3e-4, and for SGD of 1e-2 and 3e-2, the rate with the
#: lower validation loss of the plain arm (apple, the first pair of seeds).
_FOLDED: dict[str, Any] = {"fold_batch_norm": True, "learning_rate": 3e-4}
#: The optimizer of profile paper.
_SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 3e-2, "weight_decay": 5e-4}
#: (split seed, training seed): four draws with two trainings each. Every beginning of the list has as many of the
#: one kind and of the other as it can, so that a grid that stops early still tells the two variances apart.
PAIRS = ((0, 0), (1, 1), (2, 0), (3, 1), (0, 1), (1, 0), (2, 1), (3, 0))
#: Timm's own start has runs of these pairs, for a split and its training shared their seed.
_OWN_PAIRS = ((0, 0), (1, 1), (2, 2))
_BOTH = [ARMS["plain"], ARMS["final BN"]]
_BASE = RunConfig(
    study="final_batch_norm",
    profile="smoke",
    dataset="mnist5k-8",
    imbalance=_PAPER_RATIO,
    model="small_cnn",
    epochs=5,
    optimizer="adamw",
    learning_rate=0.006,
    schedule="one-cycle",
    batch_size=BASE_BATCH_SIZE,
    head_start="linear",
)
_LAPTOP: dict[str, Any] = {
    "profile": "laptop",
    "model": "timm:tf_efficientnet_lite0",
    "pretrained": True,
    "image_size": 128,
    "epochs": 6,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "augment": "flip",
}
#: The paper's networks at 224 pixels; optimiser, rate, batch and augmentation are our choice.
_PAPER: dict[str, Any] = {
    "profile": "paper",
    "pretrained": True,
    "image_size": 224,
    "epochs": 10,
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "augment": "flip",
    "precision": "bf16",
    "float32_head": True,
}
#: Questions beside the paper's arms: a split by leaf, other imbalances, other batch sizes.
_SIDE_QUESTIONS: tuple[dict[str, Any], ...] = (
    {"split_groups": True},
    *({"imbalance": f"rare-1000-{rare}-150-7"} for rare in (100, 33, 3)),
    *({"batch_size": size} for size in (16, 256)),
)


def _of_plants(**changes: Any) -> list[RunConfig]:
    return [dataclasses.replace(_BASE, dataset=f"plantvillage-{plant}", **changes) for plant in PLANTS]


def _laptop() -> list[RunConfig]:
    """Return the runs that two CPU cores finish: the paper's arms first, then what explains them.

    The runs with timm's own start of the head come last: they show what that start does to the plain arm.
    """
    plants, few, arms, others = _of_plants(**_LAPTOP), PAIRS[:5], ARMS.values(), MECHANISM_ARMS.values()
    runs = crossed(plants, PAIRS, arms) + crossed(plants, _OWN_PAIRS[2:], _BOTH)
    runs += crossed(plants[:1], few, others)
    runs += crossed(_of_plants(**_LAPTOP | _FOLDED), few, _BOTH)
    runs += crossed(_of_plants(**_LAPTOP | _SGD)[:1], few, _BOTH)
    runs += _side_questions(plants[0], PAIRS[:3])
    own = _of_plants(**_LAPTOP, head_start="own")
    runs += crossed(own, _OWN_PAIRS, arms) + crossed(own[:1], _OWN_PAIRS, others)
    return runs + _side_questions(own[0], _OWN_PAIRS)


def _side_questions(base: RunConfig, pairs: Sequence[tuple[int, int]]) -> list[RunConfig]:
    bases = [dataclasses.replace(base, **changes) for changes in _SIDE_QUESTIONS]
    return [run for one in bases for run in crossed([one], pairs, _BOTH)]


def _paper() -> list[RunConfig]:
    pairs = [(split_seed, train_seed) for train_seed in range(2) for split_seed in range(5)]
    bases = [base for model in ("vgg19", "resnet34") for base in _of_plants(**_PAPER, model=model)]
    by_leaf = [dataclasses.replace(base, split_groups=True) for base in bases]
    parts = ((bases, ARMS.values()), (by_leaf, _BOTH), (bases, MECHANISM_ARMS.values()))
    return [run for group, arms in parts for base in group for run in crossed([base], pairs, arms)]


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study in profile "smoke", "laptop" or "paper", those most worth having first."""
    return {
        "smoke": lambda: crossed([_BASE], PAIRS[:2], ARMS.values()),
        "laptop": _laptop,
        "paper": _paper,
    }[profile]()


def arm(config: RunConfig) -> str:
    """Return the arm that a run belongs to; a ValueError says that none has its loss and its final layer."""
    names = ("loss", "final_batch_norm", "final_batch_norm_affine", "final_batch_norm_momentum")
    found = {name: getattr(config, name) for name in names}
    for name, changes in EVERY_ARM.items():
        if not config.loss_options and found == {key: getattr(_BASE, key) for key in names} | changes:
            return name
    raise ValueError(f"no arm of final_batch_norm has {found} with {dict(config.loss_options)}")


def form(config: RunConfig) -> str:
    """Return the network, and what else differs from the paper's arms: the batch size, a grouped split."""
    own = config.model.startswith("timm:") and config.head_start == "own"
    parts = {
        NETWORKS.get(config.model, config.model) + (OWN_START if own else ""): True,
        f"batch {config.batch_size}": config.batch_size != BASE_BATCH_SIZE,
        "leaf-grouped split": config.split_groups,
        "batch norms folded": config.fold_batch_norm,
        "SGD": config.optimizer == "sgd" and config.profile == "laptop",
    }
    return ", ".join(part for part, there in parts.items() if there)


def describe(config: RunConfig) -> dict[str, str]:
    """Return what the book calls a run: its arm, its form, and its imbalance, such as "1000:10"."""
    majority, rare = config.imbalance.split("-")[1:3]
    return {"arm": arm(config), "form": form(config), "imbalance": f"{majority}:{rare}"}
