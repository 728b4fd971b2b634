"""Images per second of reading image files through a frozen EfficientNet-Lite0, beside plain timm with a DataLoader.

Both read the same JPEG files and give the features that the classifier reads, in turns. Plain: PIL, Resize, ToTensor
and Normalize, a DataLoader with the best of 0, 1 and 2 workers, float32. Ours is `imbal_book.compare.features`, with
no cache. The weights are random: they change no time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measured import across, report
from imbal_book.compare.features import read_features
from imbal_core.models.build import build_model

NETWORK = "tf_efficientnet_lite0"
SIDE = 224


class Files(Dataset[Tensor]):
    """Each access decodes a file and transforms it."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        steps = [
            transforms.Resize((SIDE, SIDE)),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


def draw(folder: Path, number: int) -> list[Path]:
    """Write JPEG files of 400 x 300 pixels, smooth as photographs are, and return them."""
    generator = np.random.default_rng(0)
    files = [folder / f"{place}.jpg" for place in range(number)]
    for file in files:
        small = Image.fromarray(generator.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        small.resize((400, 300), Image.Resampling.BICUBIC).save(file, quality=90)
    return files


def plain(files: list[Path], workers: int) -> Callable[[], None]:
    network = timm.create_model(NETWORK, num_classes=0).eval()
    loader = DataLoader(Files(files), 32, num_workers=workers, persistent_workers=workers > 0)

    @torch.inference_mode()
    def run() -> None:
        torch.cat([network(batch) for batch in loader])

    return run


def ours(files: list[Path]) -> Callable[[], None]:
    network = build_model(f"timm:{NETWORK}", 2, image_size=SIDE).eval()

    def run() -> None:
        read_features(network, files, cache=None, progress=False)

    return run


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = draw(Path(folder), options.files)
        mine, theirs = ours(files), {workers: plain(files, workers) for workers in (0, 1, 2)}
        for run in (mine, *theirs.values()):
            run()
        best = min(theirs, key=lambda workers: seconds(theirs[workers]))
        print(f"{NETWORK}, {SIDE} px, {options.files} files; plain: {best} workers")
        print(f"{'ours':>8}{'plain':>8}   images/s")
        ratios = []
        for _ in range(options.rounds):
            here, there = seconds(mine), seconds(theirs[best])
            print(f"{options.files / here:>8.0f}{options.files / there:>8.0f}")
            ratios.append(there / here)
    return report({"features-vs-timm": across(ratios)})


if __name__ == "__main__":
    sys.exit(main())
