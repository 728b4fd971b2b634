"""The grids of the study of the final batch norm: which arms on which data sets with which pairs of seeds."""

import dataclasses
import itertools
from collections import Counter

import pytest

from imbal_book.run.config import RunConfig
from imbal_book.studies import PROFILES, build_grid
from imbal_book.studies.grids import final_batch_norm as study

NAME = "final_batch_norm"
PLAIN = {
    "loss": "cross-entropy",
    "final_batch_norm": False,
    "final_batch_norm_affine": True,
    "final_batch_norm_momentum": 0.01,
}
BOTH = ("plain", "final BN")
EVERY_ARM = study.EVERY_ARM


def cells(profile):
    """Return, for everything but the arm, the arms that are run with it."""
    found = {}
    for config in build_grid(NAME, profile):
        found.setdefault(dataclasses.replace(config, **PLAIN), []).append(study.arm(config))
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_the_arms_of_a_pair_of_seeds_share_all_but_what_they_change(profile):
    sets = (set(BOTH), set(study.ARMS), set(EVERY_ARM))
    for config, arms in cells(profile).items():
        assert len(arms) == len(set(arms)) and set(arms) in sets
        own_question = config.split_groups or config.batch_size != 64 or "1000-10-" not in config.imbalance
        assert not own_question or set(arms) == set(BOTH)


def test_draws_and_trainings_are_crossed_from_the_first_pairs_on():
    """Both seeds vary early, and not together, so that a grid that stops early tells their variances apart."""
    assert len(set(study.PAIRS)) == 8
    assert {split for split, _ in study.PAIRS[:4]} == {0, 1, 2, 3} and {t for _, t in study.PAIRS[:2]} == {
        0,
        1,
    }
    for profile in ("laptop", "paper"):
        fair = [c for c in build_grid(NAME, profile) if c.head_start == "linear"]
        plain = {(c.split_seed, c.train_seed) for c in fair if study.arm(c) == "plain"}
        assert len({s for s, _ in plain}) > 2 and len({t for _, t in plain}) > 1
    first = build_grid(NAME, "laptop")[: len(study.ARMS) * len(LEAVES) * len(study.PAIRS)]
    assert tuple(dict.fromkeys((c.split_seed, c.train_seed) for c in first)) == study.PAIRS


LITE, OWN = "EfficientNet-Lite0", "EfficientNet-Lite0 (timm's start)"
LEAVES = [f"plantvillage-{plant}" for plant in study.PLANTS]
APPLE, FEW, EQUAL = LEAVES[:1], study.PAIRS[:3], [(0, 0), (1, 1), (2, 2)]
CROSSED = [(split, training) for split in range(5) for training in range(2)]


def sides(name, pairs):
    """Return the laws of the side questions of a network: both arms on one plant."""
    others = {f"{name}, leaf-grouped split": 10, f"{name}, batch 16": 10, f"{name}, batch 256": 10}
    return {(other, rare): [(BOTH, APPLE, pairs)] for other, rare in others.items()} | {
        (name, rare): [(BOTH, APPLE, pairs)] for rare in (100, 33, 3)
    }


#: Profile -> network and rare images of training -> which arms on which data sets with which pairs of seeds.
LAWS = {
    "smoke": {("small network", 10): [(study.ARMS, ["mnist5k-8"], study.PAIRS[:2])]},
    "laptop": {
        (LITE, 10): [
            (study.ARMS, LEAVES, study.PAIRS),
            (BOTH, LEAVES, EQUAL[2:]),
            (study.MECHANISM_ARMS, APPLE, study.PAIRS[:5]),
        ],
        (f"{LITE}, batch norms folded", 10): [(BOTH, LEAVES, study.PAIRS[:5])],
        (f"{LITE}, SGD", 10): [(BOTH, APPLE, study.PAIRS[:5])],
        **sides(LITE, FEW),
        (OWN, 10): [(study.ARMS, LEAVES, EQUAL), (study.MECHANISM_ARMS, APPLE, EQUAL)],
        **sides(OWN, EQUAL),
    },
    "paper": {
        (name + ending, 10): [(arms, LEAVES, CROSSED)]
        for name in ("VGG19", "ResNet34")
        for ending, arms in (("", EVERY_ARM), (", leaf-grouped split", BOTH))
    },
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_grid_holds_every_arm_on_every_plant_with_every_pair_of_seeds(profile):
    found = {}
    for c in build_grid(NAME, profile):
        place = (study.form(c), int(c.imbalance.split("-")[2]))
        found.setdefault(place, []).append((study.arm(c), c.dataset, (c.split_seed, c.train_seed)))
    expected = {
        place: [run for law in laws for run in itertools.product(*law)]
        for place, laws in LAWS[profile].items()
    }
    assert {place: Counter(runs) for place, runs in found.items()} == {
        place: Counter(runs) for place, runs in expected.items()
    }


def test_the_laptop_profile_ends_with_what_was_recorded_with_timms_own_start():
    grid = [config for config in build_grid(NAME, "laptop") if config.head_start == "own"]
    assert build_grid(NAME, "laptop")[-len(grid) :] == grid
    base = RunConfig(
        study=NAME, profile="laptop", dataset="plantvillage-apple", imbalance="rare-1000-10-150-7",
        model="timm:tf_efficientnet_lite0", pretrained=True, image_size=128, epochs=6, optimizer="adamw",
        learning_rate=1e-3, weight_decay=1e-2, schedule="one-cycle", batch_size=64, augment="flip",
    )  # fmt: skip
    assert grid[0] == base
    free = ("dataset", "imbalance", "batch_size", "split_groups", "split_seed", "train_seed", *PLAIN)
    same = {name: getattr(base, name) for name in free}
    assert {dataclasses.replace(config, **same) for config in grid} == {base}


@pytest.mark.parametrize(
    ("profile", "names", "values"),
    [
        ("paper", ("image_size", "epochs", "pretrained", "imbalance"), (224, 10, True, "rare-1000-10-150-7")),
        ("smoke", ("imbalance", "model", "pretrained"), ("rare-1000-10-150-7", "small_cnn", False)),
    ],
)
def test_the_papers_scale_and_the_digits_keep_the_papers_counts(profile, names, values):
    assert {tuple(getattr(c, name) for name in names) for c in build_grid(NAME, profile)} == {values}


def test_a_run_of_no_arm_is_named():
    config = build_grid(NAME, "smoke")[0]
    with pytest.raises(ValueError, match="no arm of final_batch_norm has .*'focal'"):
        study.arm(dataclasses.replace(config, loss="focal"))
    with pytest.raises(ValueError, match="no arm of final_batch_norm"):
        study.arm(dataclasses.replace(config, final_batch_norm=True, final_batch_norm_momentum=0.5))
