"""Complement cross entropy: one network and the same images with each loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from imbal_book.run.config import RunConfig
from imbal_book.studies.grids import crossed

#: Arm -> (loss, its options). The focal loss has the CCE repository's gamma and alpha.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "CE": ("cross-entropy", {}),
    "CCE (paper)": ("cce", {"form": "paper"}),
    "CCE (released)": ("cce", {"form": "released"}),
    "COT": ("cot", {}),
    "Focal": ("focal", {}),
    "Class-balanced": ("class-balanced", {}),
    "LDAM-DRW": ("ldam", {"reweight_from": None}),
    "Balanced softmax": ("balanced-softmax", {}),
    "Logit adjustment": ("logit-adjustment", {}),
}
#: What the book calls the networks.
NETWORKS = {"small_cnn": "small network", "resnet32": "ResNet-32", "resnet34_small": "ResNet-34"}
#: The arms of the paper's question, then those that the field would ask for; of profile paper.
_FIRST = ("CE", "CCE (paper)", "CCE (released)")
_SECOND = ("Balanced softmax", "LDAM-DRW")
#: (split seed, training seed) of profile paper: three pairs that share nothing, then two that complete a square of
#: two draws and two trainings, from which the two variances are told apart.
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 0))


#: The recipe of the long-tail literature, that of LDAM's repository, which other studies of the same data share.
LITERATURE = RunConfig(
    study="complement_cross_entropy",
    profile="paper",
    dataset="cifar10",
    imbalance="exponential-100",
    model="resnet32",
    epochs=200,
    learning_rate=0.1,
    schedule="step",
    milestones=(160, 180),
    decay=0.01,
    warmup_epochs=5,
    weight_decay=2e-4,
    augment="crop-flip",
    precision="bf16",
    float32_head=True,
    score_every=5,
)


def _loss(name: str, epochs: int) -> dict[str, Any]:
    """Return the fields of an arm's loss; deferred weights begin after four fifths of the epochs (160 of 200)."""
    loss, options = ARMS[name]
    if "reweight_from" in options:
        options = {**options, "reweight_from": epochs * 4 // 5}
    return {"loss": loss, "loss_options": tuple(options.items())}


def _arms(base: RunConfig, arms: Iterable[str], pairs: Iterable[tuple[int, int]]) -> list[RunConfig]:
    return crossed([base], pairs, [_loss(name, base.epochs) for name in arms])


_LAPTOP = RunConfig(
    study="complement_cross_entropy",
    profile="laptop",
    dataset="cifar10",
    imbalance="exponential-100",
    imbalance_scale=0.9,  # leaves images of the largest class for validation
    valid_share=0.1,
    model="small_cnn",
    epochs=10,
    learning_rate=0.1,
    warmup_epochs=1,
    weight_decay=2e-4,
    augment="crop-flip",
    precision="bf16",
)
#: The two kinds of imbalance have as many images each.
_LAPTOP_STEP = dataclasses.replace(_LAPTOP, imbalance="step-10", imbalance_scale=0.4)
_DIGITS: dict[str, Any] = {"profile": "smoke", "dataset": "mnist5k", "augment": "none", "precision": "fp32"}
_SMOKE = dataclasses.replace(
    _LAPTOP,
    **_DIGITS,
    imbalance="exponential-50",
    imbalance_scale=0.5,
    epochs=5,
    learning_rate=0.05,
    batch_size=64,
)


def _laptop() -> list[RunConfig]:
    """Return the runs that two CPU cores finish."""
    rest = [name for name in ARMS if name not in _FIRST]
    return [
        run
        for arms in (_FIRST, rest)
        for seed in range(5)
        for base in (_LAPTOP, _LAPTOP_STEP)
        for run in _arms(base, arms, [(seed, seed)])
    ]


def _paper() -> list[RunConfig]:
    """Return the runs of ResNet-32 and of the paper's ResNet-34."""
    cells = [
        (dataset, f"{kind}-{ratio}")
        for kind in ("exponential", "step")
        for dataset in ("cifar10", "cifar100")
        for ratio in (100, 10, 50)
    ]
    first = [("cifar10", "exponential-100"), ("cifar10", "exponential-10"), ("cifar100", "exponential-100")]
    both = (*_FIRST, *_SECOND)
    rest = [name for name in ARMS if name not in both]
    in_turn = ((_FIRST, PAIRS[:3]), (_SECOND, PAIRS[:3]), (both, PAIRS[3:]), (rest, PAIRS))
    runs = []
    for model in ("resnet32", "resnet34_small"):
        for dataset, imbalance in first + [cell for cell in cells if cell not in first]:
            here = dataclasses.replace(LITERATURE, model=model, dataset=dataset, imbalance=imbalance)
            blocks = in_turn if (dataset, imbalance) in first else ((tuple(ARMS), PAIRS),)
            for arms, pairs in blocks:
                runs += _arms(here, arms, pairs)
    return runs


def grid(profile: str) -> list[RunConfig]:
    """Return every run of the study at one scale ("smoke", "laptop", "paper"), the most wanted first."""
    plans = {"smoke": lambda: _arms(_SMOKE, ARMS, PAIRS[:2]), "laptop": _laptop, "paper": _paper}
    return plans[profile]()


def arm(config: RunConfig) -> str:
    """Return the arm that a run belongs to; a ValueError says that none has its loss with these options."""
    for name in ARMS:
        if dataclasses.replace(config, **_loss(name, config.epochs)) == config:
            return name
    given = f"loss={config.loss!r} with {dict(config.loss_options)}"
    raise ValueError(f"no arm of complement_cross_entropy has {given}")


def network(config: RunConfig) -> str:
    """Return what the book calls a run's network."""
    return NETWORKS.get(config.model, config.model)


def has_tau(config: RunConfig) -> bool:
    """Return whether a network of this run can be read with tau-normalisation: tau is chosen on validation images."""
    return config.valid_share > 0
