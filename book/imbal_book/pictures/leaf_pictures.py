"""A picture of real leaves of PlantVillage, where the data root holds them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from imbal_book.pictures.figures import SMALL, Drawing, panels
from imbal_core.data.image_folders import visible_files
from imbal_core.data.plantvillage import DISEASES, PLANT_FOLDERS

_SIDE = 72  # of a thumbnail, pixels


def has_leaves(root: Path) -> bool:
    """Return whether the data root has images of every class of every plant."""
    return all(folder.is_dir() for plant in PLANT_FOLDERS for folder in _folders(root, plant).values())


def _folders(root: Path, plant: str) -> dict[str, Path]:
    color = root / "plantvillage" / "color"
    return {kind: color / f"{PLANT_FOLDERS[plant]}___{kind}" for kind in ("healthy", *DISEASES[plant])}


def leaf_grid(
    root: Path,
    plants: Sequence[str] = tuple(PLANT_FOLDERS),
    *,
    per_class: int = 4,
    caption: str = "",
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
    return Drawing(figure, alt, table, caption)


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
