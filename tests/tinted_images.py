"""A folder of small tinted images in classes of very different sizes, and a network that needs no weights."""

import numpy as np
import torch
from PIL import Image

from imbal_core.models.build import build_model

SIZES = {"common": 60, "less common": 30, "rare": 12}


def write_images(folder, sizes=SIZES, *, seed=0, noise=70):
    """Write noisy images, one tint per class, into class folders."""
    rng = np.random.default_rng(seed)
    tints = np.random.default_rng(5).integers(60, 200, (len(sizes), 1, 1, 3))
    for tint, (name, count) in zip(tints, sizes.items(), strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.clip(tint + rng.normal(0, noise, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")
    return folder


def untrained_network(*_, **__):
    """Return a small network with seeded first weights, in the place of one with published weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model("small_cnn", 2, image_size=16).eval()
