"""Compare `CategoryCenters` with scikit-learn's Normalizer + NearestCentroid: seconds, memory, predictions.

Run ``python -m benchmarks.centers``: 50,000 x 4,096 float32 features of 100 classes, the size of VGG-16's on
CIFAR-100. Needs about 8 GB of memory, most of it for scikit-learn. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from benchmarks.measured import Measured, across, report
from imbal_core.centers import CategoryCenters

NEAR_TIE = 1e-6


def draw_features(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 features as a ReLU layer gives them and labels of imbalance ratio 100."""
    rng = np.random.default_rng(0)
    share = 100.0 ** (-np.arange(classes) / max(classes - 1, 1))
    labels = rng.choice(classes, size=rows, p=share / share.sum())
    labels[:classes] = np.arange(classes)
    means = 0.1 * rng.standard_normal((classes, features), dtype=np.float32)
    values = rng.standard_normal((rows, features), dtype=np.float32)
    # Row by row: a temporary as large as the features would hide what the estimators use.
    for row, label in zip(values, labels, strict=True):
        row += means[label]
        np.maximum(row, 0, out=row)
    return values, labels


METHODS: dict[str, Callable[[], object]] = {
    "CategoryCenters": CategoryCenters,
    "Normalizer + NearestCentroid": lambda: make_pipeline(Normalizer(), NearestCentroid()),
}


def fit_and_predict(method: str, values: np.ndarray, labels: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return the seconds of fit, the seconds of predict, and the predictions."""
    model = METHODS[method]()
    start = time.perf_counter()
    model.fit(values, labels)
    fitted = time.perf_counter()
    predictions = model.predict(values)
    return fitted - start, time.perf_counter() - fitted, predictions


def peak_bytes() -> int:
    """Return the largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_memory(method: str, size: tuple[int, int, int]) -> float:
    """Return the peak memory of fit + predict in a fresh process, less that before, over the input's."""
    command = [sys.executable, "-m", "benchmarks.centers", "--memory-of", method]
    for name, value in zip(("rows", "features", "classes"), size, strict=True):
        command += [f"--{name}", str(value)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(answer.stdout)["fraction"])


def differences(
    values: np.ndarray, labels: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[int, int]:
    """Return how many predictions differ, and how many of these where the nearest two centers do not tie."""
    rows = np.flatnonzero(first != second)
    if len(rows) == 0:
        return 0, 0
    model = CategoryCenters().fit(values, labels)
    distances = np.sort(model.transform(values[rows].astype(np.float64)), axis=1)
    return len(rows), int((distances[:, 1] - distances[:, 0] > NEAR_TIE).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=4_096)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--memory-of", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = (arguments.rows, arguments.features, arguments.classes)
    if arguments.memory_of:
        values, labels = draw_features(*size)
        before = peak_bytes()
        fit_and_predict(arguments.memory_of, values, labels)
        print(json.dumps({"fraction": (peak_bytes() - before) / values.nbytes}))
        return 0

    # First, while this process is small: on Linux a child starts with the peak of its parent.
    memory = {method: measure_memory(method, size) for method in METHODS}
    values, labels = draw_features(*size)
    seconds: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    predictions = {}
    for _ in range(arguments.repeats):
        for method in METHODS:
            *taken, predictions[method] = fit_and_predict(method, values, labels)
            seconds[method].append(tuple(taken))
    ours, theirs = METHODS
    differing, beyond_ties = differences(values, labels, predictions[ours], predictions[theirs])
    accuracy = float(np.mean(predictions[ours] == labels))

    rows, features, classes = size
    print(f"{rows:,} x {features:,} float32 ({values.nbytes / 1e9:.2f} GB), {classes} classes")
    print(f"median of {arguments.repeats} interleaved rounds")
    print(f"{'method':<30}{'fit s':>9}{'predict s':>11}{'extra memory / input':>22}")
    for method in METHODS:
        fit, predict = np.median(seconds[method], axis=0)
        print(f"{method:<30}{fit:>9.3f}{predict:>11.3f}{memory[method]:>22.3f}")
    print(f"predictions that differ: {differing}, away from ties: {beyond_ties}; accuracy {accuracy:.3f}")
    ratios = [sum(b) / sum(a) for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    used = Measured(memory[ours], memory[ours], memory[ours])
    return report({"centers-speed": across(ratios), "centers-memory": used}) or int(beyond_ties > 0)


if __name__ == "__main__":
    sys.exit(main())
