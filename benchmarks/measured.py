"""What is measured, against what and with which target; and how a benchmark prints it.

A benchmark ends with a line ``NAME: VALUE (target at least T)`` for each of its goals, before which stands the spread:
the 10th and the 90th percentile of its rounds. ``python -m benchmarks`` reads these lines.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_LINE = re.compile(r"^(spread of )?(\S+): (\S+) (?:to (\S+)|\(target at (?:least|most) \S+\))$", re.MULTILINE)


@dataclass(frozen=True)
class Goal:
    """One number: what it is of, what a user would pick instead, and its target."""

    what: str
    against: str
    target: float
    #: Module of this folder that measures it; "" where none does.
    benchmark: str
    at_least: bool = True
    unit: str = "times"
    cuda: bool = False

    def met(self, value: float) -> bool:
        """Return whether a value reaches the target."""
        return (operator.ge if self.at_least else operator.le)(value, self.target)


@dataclass(frozen=True)
class Measured:
    """A number with its spread."""

    value: float
    low: float
    high: float


def across(rounds: Sequence[float]) -> Measured:
    """Return the median of the rounds and their spread."""
    low, middle, high = np.percentile(rounds, [10, 50, 90])
    return Measured(float(middle), float(low), float(high))


_STANDARD = "the standard recipe: PIL images, DataLoader, float32"
_CE = "F.cross_entropy, forward and backward"
_NEAREST = "scikit-learn, Normalizer and NearestCentroid"
_NUMPY = "NumPy, as published code has it"
_NOTHING = "nothing"

GOALS = {
    "training-vs-standard": Goal("one ResNet-32, images per second", _STANDARD, 1.9, "training"),
    "training-vs-bare": Goal(
        "one ResNet-32, images per second", "the bare network's steps", 0.95, "training"
    ),
    "training-vs-start": Goal(
        "one ResNet-32 of the evidence grid, 200 epochs", "the same before the work on speed", 1.3, ""
    ),
    "grid-vs-standard": Goal("a grid of ResNet-32, images per second in total", _STANDARD, 3.0, "grid"),
    "features-vs-timm": Goal(
        "features of image files, EfficientNet-Lite0", "timm and a DataLoader, float32", 2.5, "features"
    ),
    "cce-vs-cross-entropy": Goal("cce on 4,096 x 1,000 logits", _CE, 1.4, "losses", at_least=False),
    "cce-vs-cross-entropy-small": Goal("cce on 128 x 10 logits", _CE, 2.5, "losses", at_least=False),
    "asl-vs-cross-entropy": Goal("asl on 4,096 x 1,000 logits", _CE, 1.4, "losses", at_least=False),
    "asl-vs-cross-entropy-small": Goal("asl on 128 x 10 logits", _CE, 2.5, "losses", at_least=False),
    "cce-vs-released": Goal("cce on 4,096 x 1,000 logits", "the released expression", 3.0, "losses"),
    "centers-speed": Goal("category centers, 50,000 x 4,096, fit and predict", _NEAREST, 12.0, "centers"),
    "centers-memory": Goal(
        "category centers, memory beside the input", _NOTHING, 0.03, "centers", False, "of the input"
    ),
    "embeddings-speed": Goal("class top-K of 50,000 embeddings", _NUMPY, 5.0, "embeddings"),
    "embeddings-memory": Goal(
        "class top-K of 50,000 embeddings, memory", _NOTHING, 200.0, "embeddings", False, "MB"
    ),
    "records-plan": Goal("plan over 10,000 records", _NOTHING, 5.0, "records", False, "s"),
    "records-frame": Goal("frame of 10,000 records", _NOTHING, 5.0, "records", False, "s"),
    "records-missing": Goal("missing runs among 10,000 records", _NOTHING, 5.0, "records", False, "s"),
    "replay-book": Goal("the whole book without live training", _NOTHING, 45.0, "replay", False, "s"),
    "start-plan": Goal("imbal plan, processor time", _NOTHING, 0.3, "start", False, "s"),
    "start-records-list": Goal("imbal records list, processor time", _NOTHING, 0.3, "start", False, "s"),
    "start-help": Goal("imbal --help, processor time", _NOTHING, 0.3, "start", False, "s"),
    "start-import": Goal("import imbal_core, processor time", _NOTHING, 0.1, "start", False, "s"),
    "start-tests": Goal("the whole test suite", _NOTHING, 240.0, "", False, "s"),
    "allocator": Goal("training with freed memory kept", "glibc's default", 1.05, "allocator"),
    "cuda-run": Goal("one ResNet-32 on a GPU", _STANDARD, 15.0, "", cuda=True),
    "cuda-full": Goal("ResNet-32 on a full GPU, in total", _STANDARD, 40.0, "", cuda=True),
    "cuda-200-epochs": Goal("200 epochs of ResNet-32 on a GPU", _NOTHING, 60.0, "", False, "s", cuda=True),
}


def report(found: Mapping[str, Measured]) -> int:
    """Print what was found, and return the exit code: 1 if a target is missed."""
    for name, measured in found.items():
        print(f"spread of {name}: {measured.low:.3g} to {measured.high:.3g}")
    for name, measured in found.items():
        goal = GOALS[name]
        print(
            f"{name}: {measured.value:.3g} (target at {'least' if goal.at_least else 'most'} {goal.target:g})"
        )
    return int(not all(GOALS[name].met(measured.value) for name, measured in found.items()))


def reported(text: str) -> dict[str, Measured]:
    """Return what `report` printed."""
    values, spreads = {}, {}
    for spread, name, first, second in _LINE.findall(text):
        if spread:
            spreads[name] = (float(first), float(second))
        else:
            values[name] = float(first)
    return {name: Measured(value, *spreads[name]) for name, value in values.items()}
