"""Records of the final batch norm without training: logits are drawn, scores are computed as the study does."""

import zlib

import numpy as np
from sample_records import record_of
from scipy.special import softmax

from imbal_book.studies import build_grid
from imbal_book.studies.grids.final_batch_norm import ARMS, BASE_BATCH_SIZE, OWN_START, PAIRS, arm, form
from imbal_book.studies.rare_class_scores import class_margins, epoch_scores, readout_scores

NAME = "final_batch_norm"
LITE = "EfficientNet-Lite0"
LABELS = np.repeat([0, 1], 150)
#: Arm -> how far apart the classes are, where the boundary lies, and how large the logits are.
DRAWN = {
    "plain": (2.4, 2.6, 3.0),
    "final BN": (3.2, 0.4, 0.5),
    "weighted loss": (2.5, 1.2, 2.0),
    "final BN + weighted loss": (3.1, -0.1, 0.5),
    "final BN, no affine": (3.0, 0.6, 0.3),
    "final BN, momentum 0.1": (3.1, 0.5, 0.5),
    "logit adjustment": (2.6, 0.9, 2.5),
    "label smoothing": (2.4, 2.2, 1.0),
}


def drawn_logits(config, *, sharpness=1.0, stretch=1.0, shift=0.0):
    """Return logits of the test images, the same for the same configuration."""
    apart, boundary, scale = DRAWN[arm(config)]
    rng = np.random.default_rng(
        zlib.crc32(f"{config.dataset} {config.split_seed} {config.batch_size}".encode())
    )
    apart = apart * sharpness + rng.normal(0, 0.15) - 0.4 * config.dataset.endswith("tomato")
    rare = int(config.imbalance.split("-")[2])
    center = boundary * (0.5 + 0.5 * np.log10(1000 / rare) / 2) - apart / 2 + rng.normal(0, 0.1)
    margin = scale * stretch * (rng.normal(0, 1, 300) + apart * (LABELS - 0.5) - center - shift)
    return np.stack([-margin / 2, margin / 2], axis=1)


def measurements(config):
    """Return what a record of this run holds."""
    logits = drawn_logits(config)
    readouts = {"softmax": readout_scores(LABELS, logits)}
    found = {
        "train_counts": [1000, 10],
        "valid_counts": [150, 7],
        "test_counts": [150, 150],
        "readouts": readouts,
    }
    if config.final_batch_norm:
        readouts["removed at inference"] = readout_scores(LABELS, drawn_logits(config, stretch=3, shift=0.1))
        found["layer"] = {
            "running_mean": [3.0, -3.0], "running_var": [1.5, 1.5], "weight": [1.1, 1.1], "bias": [0.2, -0.2]
        }  # fmt: skip
    else:
        readouts["logit adjusted"] = readout_scores(LABELS, logits + [0, np.log(100)])
    readouts["threshold moved"] = readout_scores(LABELS, logits + [0, 2.0])
    readouts["balanced threshold"] = readout_scores(LABELS, logits + [0, 3.0])
    found["thresholds"] = {"threshold moved": -2.0, "balanced threshold": -3.0}
    found["margins"] = {"softmax": {"test": class_margins(LABELS, logits)}}
    readouts["temperature"] = readout_scores(LABELS, logits / 2)
    grouped = config.split_groups
    if "apple" in config.dataset or "tomato" in config.dataset:
        found["shared_groups"] = {
            "test": 0.0 if grouped else 0.48, "valid": 0.0, "test_groups": 200, "test_groups_shared": 90,
            "test_by_class": [0.0, 0.0] if grouped else [0.93, 0.03],
        }  # fmt: skip
    found["history"] = history(config)
    return found


def history(config):
    kept = {}
    for epoch in range(1, config.epochs + 1):
        logits = drawn_logits(config, sharpness=epoch / config.epochs)
        scores = epoch_scores(LABELS, logits)
        p = softmax(logits, axis=1)[:157, 0]
        loss = -np.log(p).mean() + 0.08 * (epoch - 3) ** 2
        for side in ("valid", "test"):
            for name, value in scores.items():
                kept.setdefault(f"{side}_{name}", []).append(value)
        kept.setdefault("valid_loss", []).append(float(loss))
        kept.setdefault("train_loss", []).append(float(loss))
    return kept


def fill(store, profile="laptop", keep=lambda config: True):
    """Write a record for every run of a profile that is to be kept."""
    for config in build_grid(NAME, profile):
        if keep(config):
            store.write(record_of(config, measurements(config)))
    return store


#: Kind of runs of the laptop profile -> which those are; of each kind three pairs of seeds.
KINDS = {
    "fair": lambda c: form(c) == LITE and c.imbalance.startswith("rare-1000-10-") and arm(c) in ARMS,
    "timm's start": lambda c: form(c) == f"{LITE}{OWN_START}" and c.imbalance.startswith("rare-1000-10-"),
    "mechanism": lambda c: form(c) == LITE and arm(c) not in ARMS,
    "folded": lambda c: c.fold_batch_norm,
    "SGD": lambda c: c.optimizer == "sgd",
    "imbalances": lambda c: not c.imbalance.startswith("rare-1000-10-") and c.head_start == "linear",
    "timm's imbalances": lambda c: not c.imbalance.startswith("rare-1000-10-") and c.head_start == "own",
    "batch sizes": lambda c: c.batch_size != BASE_BATCH_SIZE and c.head_start == "linear",
    "timm's batch sizes": lambda c: c.batch_size != BASE_BATCH_SIZE and c.head_start == "own",
    "leaves": lambda c: c.split_groups and c.head_start == "linear",
    "timm's leaves": lambda c: c.split_groups and c.head_start == "own",
}


def kinds(*names):
    """Return whether a run is of one of these kinds, and of the first three pairs of seeds of its start."""

    def keep(config):
        few = PAIRS[:3] if config.head_start == "linear" else [(seed, seed) for seed in range(3)]
        return (config.split_seed, config.train_seed) in few and any(KINDS[name](config) for name in names)

    return keep
