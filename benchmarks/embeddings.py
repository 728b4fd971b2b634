"""Seconds and peak memory of the class top-K of classification embeddings, beside NumPy as one would write it.

All compute the same from float32 features of 100 classes: identity, magnitude, frequency of the top 10 and the
share of the logit for every K, by class means, for the true positives of every class. They run in
turns (A B C A B C ...) in one process, so that a machine that slows down slows all of them; the median of the
rounds' ratios counts. CPU seconds tell on a busy machine what was waiting.

- ours: `imbal_core.embeddings.top_k.class_top_k`.
- straightforward: what the published code of sibling papers (``topk_LG.py``, ``FE_idx_density.py``) does for two or
  ten classes: the embedding of every instance for the class, then the class's rows of it, then argsort. This is the
  form that the targets are about. Most of its time goes into the embeddings of other classes' instances.
- rows first: the same, but only the class's rows are multiplied, and partitioned. Good NumPy without a change of
  method; shown and not judged.

Run ``python -m benchmarks.embeddings``. The exit code is 1 when a target is missed or results differ.
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

from benchmarks.measured import Measured, across, report
from imbal_core.embeddings.top_k import class_top_k

K = 10

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Result = dict[str, np.ndarray]


def draw(rows: int, units: int, classes: int) -> Data:
    """Return features as a ReLU gives them, labels of imbalance ratio 100, predictions, 80 % right, and weights."""
    rng = np.random.default_rng(0)
    share = 100.0 ** (-np.arange(classes) / max(classes - 1, 1))
    labels = rng.choice(classes, size=rows, p=share / share.sum())
    labels[:classes] = np.arange(classes)
    predictions = np.where(rng.random(rows) < 0.8, labels, rng.integers(0, classes, rows))
    predictions[:classes] = labels[:classes]
    features = rng.standard_normal((rows, units), dtype=np.float32)
    np.maximum(features, 0, out=features)
    return features, labels, predictions, rng.standard_normal((classes, units), dtype=np.float32)


def ours(data: Data) -> Result:
    features, labels, predictions, weights = data
    right = labels == predictions
    top = class_top_k(features[right], labels[right], len(weights), weights=weights, k=K)
    return {
        "identities": top.identities,
        "magnitudes": top.magnitudes,
        "frequencies": top.frequencies,
        "shares": top.shares,
    }


def straightforward(data: Data) -> Result:
    features, labels, predictions, weights = data
    found: dict[str, list[np.ndarray]] = {}
    for c in range(len(weights)):
        embeddings = features * weights[c]
        embeddings = embeddings[labels == c]
        embeddings = np.abs(embeddings[predictions[labels == c] == c])
        order = np.argsort(embeddings, axis=1)[:, ::-1]
        counts = np.bincount(order[:, :K].ravel(), minlength=features.shape[1])
        keep(found, embeddings, counts)
    return {name: np.array(rows) for name, rows in found.items()}


def rows_first(data: Data) -> Result:
    features, labels, predictions, weights = data
    found: dict[str, list[np.ndarray]] = {}
    for c in range(len(weights)):
        embeddings = np.abs(features[(labels == c) & (predictions == c)] * weights[c])
        own = np.argpartition(embeddings, -K, axis=1)[:, -K:]
        counts = np.bincount(own.ravel(), minlength=features.shape[1])
        keep(found, embeddings, counts)
    return {name: np.array(rows) for name, rows in found.items()}


def keep(found: dict[str, list[np.ndarray]], embeddings: np.ndarray, counts: np.ndarray) -> None:
    """Append what follows from one class's embeddings and its counts."""
    means = embeddings.mean(axis=0, dtype=np.float64)
    order = np.argsort(-means, kind="stable")
    running = np.cumsum(means[order])
    for name, row in (
        ("identities", order[:K]),
        ("magnitudes", means[order[:K]]),
        ("frequencies", counts),
        ("shares", running / running[-1]),
    ):
        found.setdefault(name, []).append(row)


METHODS: dict[str, Callable[[Data], Result]] = {
    "ours": ours,
    "straightforward": straightforward,
    "rows first": rows_first,
}


def peak_bytes() -> int:
    """Return the largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_memory(method: str, size: tuple[int, int, int]) -> float:
    """Return by how many MB the peak of a fresh process grows beyond that before the computation."""
    command = [sys.executable, "-m", "benchmarks.embeddings", "--memory-of", method]
    for name, value in zip(("rows", "units", "classes"), size, strict=True):
        command += [f"--{name}", str(value)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(answer.stdout)["megabytes"])


def agree(first: Result, second: Result) -> bool:
    exact = all(np.array_equal(first[name], second[name]) for name in ("identities", "frequencies"))
    return exact and all(np.allclose(first[name], second[name], rtol=1e-6) for name in first)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the class top-K with plain NumPy.")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = (arguments.rows, arguments.units, arguments.classes)
    if arguments.memory_of:
        data = draw(*size)
        before = peak_bytes()
        METHODS[arguments.memory_of](data)
        print(json.dumps({"megabytes": (peak_bytes() - before) / 1e6}))
        return 0

    # First, while this process is small: on Linux a child starts with the peak of its parent.
    memory = {method: measure_memory(method, size) for method in METHODS}
    data = draw(*size)
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    cpu: dict[str, list[float]] = {method: [] for method in METHODS}
    results = {}
    for _ in range(arguments.rounds):
        for method, compute in METHODS.items():
            start, busy = time.perf_counter(), time.process_time()
            results[method] = compute(data)
            seconds[method].append(time.perf_counter() - start)
            cpu[method].append(time.process_time() - busy)
    same = all(agree(results["ours"], result) for result in results.values())

    rows, units, classes = size
    print(f"{rows:,} x {units:,} float32 ({data[0].nbytes / 1e6:.0f} MB), {classes} classes, K = {K}")
    print(f"{arguments.rounds} rounds, NumPy {np.__version__}")
    print(f"{'method':<18}{'best s':>9}{'median s':>10}{'best CPU s':>12}{'peak extra MB':>15}")
    for method, times in seconds.items():
        print(
            f"{method:<18}{min(times):>9.3f}{np.median(times):>10.3f}{min(cpu[method]):>12.3f}"
            f"{memory[method]:>15.1f}"
        )
    print(f"results agree: {'yes' if same else 'NO'}")
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["straightforward"], strict=True)]
    used = Measured(memory["ours"], memory["ours"], memory["ours"])
    return report({"embeddings-speed": across(ratios), "embeddings-memory": used}) or int(not same)


if __name__ == "__main__":
    sys.exit(main())
