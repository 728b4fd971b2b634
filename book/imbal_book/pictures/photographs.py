"""The book's pictures of real photographs, drawn once where the data sets are and committed as pictures.

``python -m imbal_book.pictures.photographs book/_static/photographs`` draws them anew from the data root. Only what
may be shown is drawn: the tomato leaves of PlantVillage state no licence.
"""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from imbal_book.pictures.figures import SMALL, Drawing, panels, told
from imbal_core.data.class_counts import exponential_counts
from imbal_core.data.datasets import ImageDataset, load_dataset
from imbal_core.data.image_folders import visible_files
from imbal_core.data.plantvillage import DISEASES, PLANT_FOLDERS
from imbal_core.data.root import data_root

_SIDE = 72  # of a thumbnail, pixels


def _folders(root: Path, plant: str) -> dict[str, Path]:
    color = root / "plantvillage" / "color"
    return {kind: color / f"{PLANT_FOLDERS[plant]}___{kind}" for kind in ("healthy", *DISEASES[plant])}


def leaf_grid(
    root: Path,
    plants: Sequence[str] = ("apple", "pepper"),
    *,
    per_class: int = 4,
) -> Drawing:
    """Return thumbnails of leaves: a row for each plant, healthy ones on the left, diseased ones on the right.

    ``root`` is the data root, ``plants`` are out of :data:`imbal_core.data.plantvillage.PLANT_FOLDERS`; ``per_class``
    thumbnails of each class are evenly spread over the file names and over the diseases.
    """
    figure, axes = panels(
        2 * per_class, rows=len(plants), width=1.35 * 2 * per_class, height=1.75 * len(plants), share_y=False
    )
    rows = []
    for ax, (plant, kind, file) in zip(axes, _chosen(root, plants, per_class), strict=True):
        with Image.open(file) as image:
            small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        ax.imshow(small, interpolation="none")
        name = kind.replace("_", " ").removesuffix("Two-spotted spider mite").strip().lower()
        color = "#00704F" if kind == "healthy" else "#B04A00"
        ax.set_title(textwrap.fill(name, 15), fontsize=SMALL, color=color)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        rows.append((plant, name, file.name))
    for index, plant in enumerate(plants):
        axes[2 * per_class * index].set_ylabel(plant, fontsize=11)
    table = pd.DataFrame(rows, columns=["plant", "shows", "file"])
    shown = {plant: Counter(name for own, name, _ in rows if own == plant) for plant in plants}
    alt = "Photographs of single leaves on a grey ground. " + " ".join(
        f"{plant.capitalize()}: " + ", ".join(f"{n} {kind}" for kind, n in shown[plant].items()) + "."
        for plant in plants
    )
    return Drawing(figure, alt, table)


def _chosen(root: Path, plants: Sequence[str], per_class: int) -> list[tuple[str, str, Path]]:
    """Return (plant, what is shown, file) for every thumbnail, row by row."""
    chosen = []
    for plant in plants:
        folders = _folders(root, plant)
        diseases = [DISEASES[plant][i] for i in _spread(len(DISEASES[plant]), per_class)]
        for kind in ("healthy", *dict.fromkeys(diseases)):
            files = [file for file in visible_files(folders[kind]) if file.stat().st_size]
            count = per_class if kind == "healthy" else diseases.count(kind)
            chosen += [(plant, kind, files[i]) for i in _spread(len(files), count)]
    return chosen


def _spread(number: int, count: int) -> list[int]:
    """Return ``count`` places evenly spread over ``number``."""
    return [(2 * i + 1) * number // (2 * count) for i in range(count)]


def long_tail(data: ImageDataset, counts: Sequence[int], *, most: int = 12) -> Drawing:
    """Return a row of thumbnails for each class, as many as its share of ``counts``, and one at least.

    The largest class has ``most``. The images are the first of each class.
    """
    each = max(counts) / most
    numbers = [max(1, round(count / each)) for count in counts]
    height, width, _ = data.images.shape[1:]
    canvas = np.full((len(counts) * (height + 2), most * (width + 2), 3), 255, dtype=np.uint8)
    for row, number in enumerate(numbers):
        for column, place in enumerate(np.flatnonzero(data.labels == row)[:number]):
            top, left = row * (height + 2), column * (width + 2)
            canvas[top : top + height, left : left + width] = data.images[place]
    figure, (ax,) = panels(1, width=7.8, height=0.6 * len(counts) + 0.2)
    ax.imshow(canvas, interpolation="none")
    names = [f"{name}  {count:,}" for name, count in zip(data.class_names, counts, strict=True)]
    ax.set_yticks([(height + 2) * (row + 0.5) for row in range(len(counts))], names)
    ax.set(xticks=[])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    table = pd.DataFrame({"class": list(data.class_names), "images": counts, "thumbnails": numbers})
    said = told("{class}: {images:,} images.", table)
    return Drawing(figure, f"Thumbnails, one for {each:.0f} images and one at least. {said}", table)


def draw_all(root: Path, folder: Path) -> list[Path]:
    """Draw every picture of photographs into a folder and return the files."""
    cifar = load_dataset("cifar10", "train", root=root, download=False)
    drawn = {
        "leaves": leaf_grid(root),
        "long-tail": long_tail(cifar, exponential_counts(5000, num_classes=10, ratio=100).tolist()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawn.items():
        file, quality = folder / f"{name}.webp", {"quality": 88}
        drawing.figure.savefig(file, format="webp", dpi=144, bbox_inches="tight", pil_kwargs=quality)
    return [folder / f"{name}.webp" for name in drawn]


if __name__ == "__main__":
    print(*draw_all(data_root(), Path(sys.argv[1])), sep="\n")
