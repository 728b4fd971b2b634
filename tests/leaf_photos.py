"""A tiny PlantVillage for tests: the class folders of a plant, with images of 8 x 8 random pixels."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from imbal_core.data.plantvillage import DISEASES, PLANT_FOLDERS


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write_plant(color: Path, plant: str = "apple", healthy: int = 6, diseased: int = 3) -> list[Path]:
    """Write `healthy` images and `diseased` of each disease; return the files in the pool's order."""
    files = []
    for k, kind in enumerate(("healthy", *DISEASES[plant])):
        folder = color / f"{PLANT_FOLDERS[plant]}___{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(diseased if k else healthy):
            files.append(folder / f"{i:04x}-{k}___CAM_{plant} {1000 * k + i:04}.JPG")
            files[-1].write_bytes(jpeg(100_000 * len(plant) + 10_000 * k + i))
    return files


def write_leaves(root: Path, files: list[Path], per_leaf: int) -> None:
    """Write leaves.csv: so many files in a row show one leaf; a leaf lies in one class folder."""
    with (root / "plantvillage" / "leaves.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(("file", "leaf"))
        for i, file in enumerate(files):
            writer.writerow((f"{file.parent.name}/{file.name}", f"{file.parent.name}:{i // per_leaf}"))
