"""Complement cross entropy (Kim, Lee and Jeon, 2021) beside the losses that the field compares it with.

Every arm trains the same network on the same images in the same order, with another loss. The network trained
with cross entropy is also read by the remedies that need no other training: logit adjustment, a tau-normalised
classifier, a classifier that is trained anew, and category centers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from imbal_book.run import long_frames
from imbal_book.run.config import RunConfig
from imbal_book.run.prepared import PreparedRun
from imbal_book.run.trained import TrainedRun, train_run
from imbal_core import metrics
from imbal_core.centers import CategoryCenters
from imbal_core.losses.complement import complement_entropy
from imbal_core.losses.functional import adjust_logits
from imbal_core.post_hoc import choose_tau, retrain_classifier, tau_normalized_logits

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
#: The readout that needs images for validation.
TAU = "CE, tau-normalised"
#: Readouts of the network trained with cross entropy.
POST_HOC = ("CE, logit adjusted", TAU, "CE, classifier re-trained", "CE, category centers")
#: What the book calls the networks.
NETWORKS = {"small_cnn": "small network", "resnet32": "ResNet-32", "resnet34_small": "ResNet-34"}
#: The arms of the paper's question, then those that the field would ask for; of profile paper.
_FIRST = ("CE", "CCE (paper)", "CCE (released)")
_SECOND = ("Balanced softmax", "LDAM-DRW")
#: (split seed, training seed) of profile paper: three pairs that share nothing, then two that complete a square of
#: two draws and two trainings, from which the two variances are told apart.
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 0))
_SOFTMAX = "softmax"


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
    """Return every arm for each pair of split and training seed, whole pairs first."""
    return [
        dataclasses.replace(base, split_seed=split, train_seed=training, **_loss(name, base.epochs))
        for split, training in pairs
        for name in arms
    ]


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


def minority(num_classes: int) -> np.ndarray:
    """Return which labels are the minority, bool of shape (K,): the rarer half, the later labels.

    For a step imbalance these are the classes with few images; for an exponential one it is our choice.
    """
    return np.arange(num_classes) >= num_classes // 2


def measure(prepared: PreparedRun, **options: Any) -> dict[str, Any]:
    """Return the measurements of one run, see `imbal_book.studies.Study.measure`.

    ``train_counts``, ``valid_counts``, ``test_counts``; ``history`` per epoch, with ``test_accuracy`` and
    ``test_recall_few``, which choose nothing; ``readouts``: "softmax" and, of a run with cross entropy, the remedies of
    `POST_HOC`, each with accuracy and recall and precision per class; ``p_true`` and ``wrong_class_entropy``, per
    class, the mean over test images of the true class's softmax probability and of the entropy (nats) of the wrong
    classes; ``tau``, chosen on validation images.
    """
    run = train_run(prepared, score=epoch_scores, **options)
    labels, num_classes = run.sides["test"][1], prepared.train.num_classes
    plain = prepared.config.loss == "cross-entropy"
    found = run.predict("test", run.network.taps[-1:] if plain else ())
    logits, measurements = found["logits"], run.measurements()
    readouts = {_SOFTMAX: logits.argmax(1)}
    if plain:
        measurements["tau"], post_hoc = _post_hoc(run, found)
        readouts |= post_hoc
    measurements["readouts"] = {
        name: metrics.class_scores(labels, predicted, num_classes) for name, predicted in readouts.items()
    }
    targets, wide = torch.from_numpy(labels), torch.from_numpy(logits).double()
    by_image = {
        "p_true": wide.softmax(1).gather(1, targets[:, None]).squeeze(1).numpy(),
        "wrong_class_entropy": complement_entropy(wide, targets, reduction="none").numpy(),
    }
    for name, values in by_image.items():
        measurements[name] = [float(values[labels == label].mean()) for label in range(num_classes)]
    return measurements


def epoch_scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return accuracy and the mean recall of the minority; the same for all studies that share networks."""
    recall = metrics.per_class_recall(metrics.confusion_counts(labels, logits.argmax(1), logits.shape[1]))
    return {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "recall_few": float(np.nanmean(recall[minority(len(recall))])),
    }


def _post_hoc(run: TrainedRun, test: Mapping[str, np.ndarray]) -> tuple[float | None, dict[str, np.ndarray]]:
    """Return the tau that was chosen, and the labels that each remedy of `POST_HOC` predicts, int64 (N,)."""
    predicted = {POST_HOC[0]: adjust_logits(test["logits"], run.prepared.train_counts).argmax(1)}
    tap, tau = run.network.taps[-1], None
    weight = run.network.classifier().get_parameter("weight").detach().cpu().numpy()
    if len(run.sides["valid"][1]):
        tau = choose_tau(run.predict("valid", (tap,))[tap], weight, run.sides["valid"][1])
        predicted[TAU] = tau_normalized_logits(test[tap], weight, tau).argmax(1)
    features, labels = run.predict("train", (tap,))[tap], run.sides["train"][1]
    seed, num_classes = run.prepared.config.train_seed, run.network.num_classes
    classifier = retrain_classifier(features, labels, num_classes, seed=seed, device=run.device)
    with torch.no_grad():
        inputs = torch.from_numpy(test[tap]).to(run.device)
        predicted[POST_HOC[2]] = classifier(inputs).argmax(1).cpu().numpy()
    predicted[POST_HOC[3]] = np.asarray(CategoryCenters().fit(features, labels).predict(test[tap]))
    return tau, predicted


def frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of all arms and readouts in long form, see `imbal_book.run.long_frames.score_frame`.

    Readouts are arms and those of `POST_HOC`. Metrics of each: accuracy; recall_few and recall_many, the mean recall of
    the minority and of the other classes; precision. Of an arm's own softmax also p_true, p_true_few,
    wrong_class_entropy (nats) and best_test_accuracy, the largest of any epoch.
    """
    return long_frames.score_frame(records, _describe, _readouts, _scores)


def _readouts(
    identity: Mapping[str, Any], arm_name: str, measured: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, scores in measured["readouts"].items():
        yield arm_name if name == _SOFTMAX else name, scores


def _scores(readout: str, scores: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, float]:
    recall, few = np.asarray(scores["recall"]), minority(len(measured["train_counts"]))
    values = {
        "accuracy": scores["accuracy"],
        "recall_few": recall[few].mean(),
        "recall_many": recall[~few].mean(),
        "precision": np.mean(scores["precision"]),
    }
    if readout in ARMS:
        p_true = np.asarray(measured["p_true"])
        values |= {
            "p_true": p_true.mean(),
            "p_true_few": p_true[few].mean(),
            "wrong_class_entropy": np.mean(measured["wrong_class_entropy"]),
            "best_test_accuracy": max(measured["history"]["test_accuracy"]),
        }
    return values


def label_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of every label, see `imbal_book.run.long_frames.label_frame`."""
    return long_frames.label_frame(records, _describe, _readouts)


def epoch_frame(records: pd.DataFrame) -> pd.DataFrame:
    """Return the history of every run, see `imbal_book.run.long_frames.epoch_frame`."""
    return long_frames.epoch_frame(records, _describe)


def _describe(config: RunConfig) -> dict[str, str]:
    return {"arm": arm(config), "form": network(config), "imbalance": config.imbalance.replace("-", " ")}
