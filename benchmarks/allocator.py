"""Training speed of a run's worker process with glibc keeping freed memory, and with glibc's default.

``imbal_book.grid.workers`` starts its workers with two glibc settings; this compares fine-tuning steps of a small timm
network in processes with and without them, in turn, and prints images per second.
"""

import os
import platform
import statistics
import subprocess
import sys

from benchmarks.measured import across, report
from imbal_book.grid.workers import KEEP_FREED_MEMORY

ROUNDS = 4
STEPS = """
import time, torch
from torch.nn.functional import cross_entropy
from imbal_core.models.build import build_model
torch.manual_seed(0)
network = build_model("timm:tf_efficientnet_lite0", 10, image_size=64).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
images = torch.randn(128, 3, 64, 64).to(memory_format=torch.channels_last)
labels = torch.randint(0, 10, (128,))
for step in range(8):
    if step == 2:
        start = time.perf_counter()
    optimizer.zero_grad()
    cross_entropy(network(images), labels).backward()
    optimizer.step()
print(6 * 128 / (time.perf_counter() - start))
"""


def images_per_second(settings: dict[str, str]) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in KEEP_FREED_MEMORY}
    answer = subprocess.run(
        [sys.executable, "-c", STEPS],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(answer.stdout)


def main() -> int:
    if platform.libc_ver()[0] != "glibc":
        print("allocator: skipped, the settings are glibc's and this system has another C library")
        return 0
    speeds: dict[str, list[float]] = {"default": [], "kept": []}
    for _ in range(ROUNDS):
        speeds["default"].append(images_per_second({}))
        speeds["kept"].append(images_per_second(KEEP_FREED_MEMORY))
    print(f"{'freed memory':<14}{'median':>10}{'lowest':>10}{'highest':>10}   images/s")
    for name, values in speeds.items():
        print(f"{name:<14}{statistics.median(values):>10.0f}{min(values):>10.0f}{max(values):>10.0f}")
    gains = [b / a for a, b in zip(speeds["default"], speeds["kept"], strict=True)]
    return report({"allocator": across(gains)})


if __name__ == "__main__":
    sys.exit(main())
