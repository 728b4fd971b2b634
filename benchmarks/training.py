"""Images per second of the training loop, of the standard recipe and of the bare network.

All three train ResNet-32 with SGD and batches of 128, in turns (A B C A B C ...) in one process, so
that a machine that slows down slows all of them. The median of the rounds' ratios counts.

- ours: `imbal_core.fit` with crop and flip, validation left out.
- standard: PIL images, RandomCrop + RandomHorizontalFlip + ToTensor + Normalize, a DataLoader with the
  best of 0, 1 and 2 workers, float32, default memory layout.
- bare: forward, backward and step on one resident random batch, in the precision and layout of ours.

The precision is the faster one of fp32 and bf16 for the bare network on this machine; our loop in
fp32 is shown as well, so that the share of the precision in the gain is visible.

Run as ``python -m benchmarks.training``. The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from benchmarks.measured import across, report
from imbal_core.data.datasets import load_dataset
from imbal_core.data.prepared import DatasetError
from imbal_core.models.build import build_model
from imbal_core.training.fit import fit
from imbal_core.training.prediction import default_device, device_label
from imbal_core.training.recipe import Recipe
from imbal_core.training.start import seeded_init

BATCH = 128


class PillowImages(Dataset[tuple[Tensor, int]]):
    """Like torchvision's CIFAR10: each access decodes an array row to PIL and transforms it."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        mean, std = images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean.tolist(), std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def images_and_labels() -> tuple[np.ndarray, np.ndarray, str]:
    try:
        dataset = load_dataset("cifar10", "train")
    except DatasetError:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
        return images, generator.integers(0, 10, 10_000), "random images"
    return dataset.images, dataset.labels, "CIFAR-10"


def network() -> nn.Module:
    with seeded_init(0):
        return build_model("resnet32", 10)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, fused=True)


def train(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], precision: str) -> float:
    """Return the seconds of one pass over the batches."""
    device = next(model.parameters()).device
    optimizer = sgd(model)
    model.train()
    started = time.perf_counter()
    for images, labels in batches:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ours(
    images: np.ndarray, labels: np.ndarray, steps: int, precision: str, device: torch.device
) -> Callable[[], float]:
    model = network()
    recipe = Recipe(
        epochs=1,
        learning_rate=0.01,
        augment="crop-flip",
        precision=precision,
        epoch_images=steps * BATCH,
    )
    return lambda: fit(model, images, labels, recipe, device=device, progress=False).seconds[0]


def bare(steps: int, precision: str, device: torch.device) -> Callable[[], float]:
    model = network().to(device).to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,), device=device)
    return lambda: train(model, ((images, labels) for _ in range(steps)), precision)


def fastest_precision(device: torch.device) -> str:
    warm = {p: bare(2, p, device) for p in ("fp32", "bf16")}
    return min(warm, key=lambda p: (warm[p](), warm[p]())[1])


def standard(
    images: np.ndarray, labels: np.ndarray, steps: int, workers: int, device: torch.device
) -> Callable[[], float]:
    model, dataset = network().to(device), PillowImages(images, labels)
    # The workers stay alive between the rounds, so that their start is not counted.
    loader = DataLoader(
        dataset,
        BATCH,
        sampler=RandomSampler(dataset, replacement=True, num_samples=steps * BATCH),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    return lambda: train(model, iter(loader), "fp32")


def best_workers(images: np.ndarray, labels: np.ndarray, steps: int, device: torch.device) -> int:
    runs = {workers: standard(images, labels, steps, workers, device) for workers in (0, 1, 2)}
    seconds = {workers: [run() for _ in range(3)][1:] for workers, run in runs.items()}
    return min(seconds, key=lambda workers: min(seconds[workers]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the training loop with the standard recipe.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=None, help="steps a round; default: 4, on a GPU 100")
    parser.add_argument("--minutes", type=float, default=1.2, help="begin no further round after this time")
    options = parser.parse_args()
    device = default_device()
    steps = options.steps or (100 if device.type == "cuda" else 4)
    started = time.monotonic()
    images, labels, source = images_and_labels()

    precision = fastest_precision(device)
    workers = best_workers(images, labels, steps, device)
    rows = {
        f"ours, {precision}": ours(images, labels, steps, precision, device),
        "ours, fp32": ours(images, labels, steps, "fp32", device),
        f"bare, {precision}": bare(steps, precision, device),
        f"standard, fp32, {workers} workers": standard(images, labels, steps, workers, device),
    }
    for run in rows.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for done in range(options.rounds):
        if done and time.monotonic() - started > 60 * options.minutes:
            break
        for name, run in rows.items():
            seconds[name].append(run())

    mine = seconds[f"ours, {precision}"]
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"ResNet-32, batch {BATCH}, {source}, {len(mine)} rounds of {steps} steps")
    print(f"{device_label(device)}{threads}, torch {torch.__version__}\n")
    print(f"{'images per second':32s} {'median':>9s} {'best':>9s} {'worst':>9s}")
    for name, times in seconds.items():
        speeds = [steps * BATCH / t for t in (statistics.median(times), min(times), max(times))]
        print(f"{name:32s} {speeds[0]:9.0f} {speeds[1]:9.0f} {speeds[2]:9.0f}")
    print()
    found = {}
    for kind in ("standard", "bare"):
        other = next(times for name, times in seconds.items() if name.startswith(kind))
        found[f"training-vs-{kind}"] = across([b / a for a, b in zip(mine, other, strict=True)])
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
