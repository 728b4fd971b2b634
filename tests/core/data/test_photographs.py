"""Photographs as their publishers lay them out: scenes, Places and iNaturalist through torchvision's own readers."""

import os
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from imbal_core.data import sources
from imbal_core.data.datasets import load_dataset
from imbal_core.data.prepared import DatasetError
from imbal_core.data.root import data_root


def paint(path: Path, shade: int, size: tuple[int, int] = (80, 70)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 255 - shade, 7)).save(path, quality=95)


def shades(images: np.ndarray) -> list[int]:
    """Return the red value in the middle of each image, to the nearest ten: JPEG changes it a little."""
    assert images.shape[1:] == (64, 64, 3)
    return [round(int(value) / 10) * 10 for value in images[:, 32, 32, 0]]


@pytest.fixture
def places(root, monkeypatch):
    """Places365 as torchvision leaves it: lists of categories and files, and images below a folder per side."""
    folder, cls = root / "places", torchvision.datasets.Places365
    categories = [
        "/a/airfield",
        "/a/alley",
        "/a/amusement_park",
        "/a/aquarium",
        "/b/barn",
        "/s/stadium/baseball",
    ]
    # torchvision checks the md5 of the real lists
    monkeypatch.setattr(cls, "_CATEGORIES_META", (cls._CATEGORIES_META[0], None))
    lists = {side: (name, None) for side, (name, _) in cls._FILE_LIST_META.items()}
    monkeypatch.setattr(cls, "_FILE_LIST_META", lists)
    train = [(f"{category}/{n:08d}.jpg", k) for k, category in enumerate(categories) for n in (1, 2, 3)]
    val = [(f"Places365_val_{n:08d}.jpg", n % 6) for n in range(1, 13)]
    for side, entries in (("data_256_standard", train), ("val_256", val)):
        for file, k in entries:
            paint(folder / side / file.lstrip("/"), 40 * k, (256, 256))
    for name, entries in (
        (cls._CATEGORIES_META[0], [(category, k) for k, category in enumerate(categories)]),
        (lists["train-standard"][0], train),
        (lists["val"][0], val),
    ):
        (folder / name).write_text("".join(f"{file} {k}\n" for file, k in entries))
    return folder


def test_places_is_five_categories_of_the_standard_training_and_validation_images(root, places):
    train, test = (load_dataset("places", side, root=root) for side in ("train", "test"))
    names = ("airfield", "amusement park", "aquarium", "baseball stadium", "barn")
    assert train.class_names == test.class_names == names
    # the third category of the list, an alley, is left out, and the stadium is listed last
    expected = [0, 80, 120, 200, 160]
    assert shades(train.images) == [shade for shade in expected for _ in range(3)]
    assert shades(test.images) == [shade for shade in expected for _ in range(2)]
    assert train.class_counts.tolist() == [3] * 5
    assert (places / "train.npz").is_file(), "prepared once"
    for entry in places.rglob("*.jpg"):
        entry.unlink()
    assert load_dataset("places", "train", root=root).fingerprint == train.fingerprint


def test_a_category_without_images_is_named(root, places):
    file = places / "places365_val.txt"
    file.write_text("".join(line for line in file.open() if not line.endswith(" 4\n")))
    with pytest.raises(DatasetError, match="no test images of 'barn'"):
        load_dataset("places", "test", root=root)


SPECIES = (
    "00000_Animalia_Arthropoda_Insecta_Diptera_Syrphidae_Eristalis_tenax",
    "00001_Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_pica",
    "00002_Animalia_Chordata_Aves_Passeriformes_Paridae_Parus_major",
    "00003_Animalia_Chordata_Mammalia_Carnivora_Canidae_Vulpes_vulpes",
    "00004_Animalia_Chordata_Reptilia_Squamata_Lacertidae_Lacerta_agilis",
    "00005_Animalia_Mollusca_Gastropoda_Stylommatophora_Helicidae_Helix_pomatia",
    "00006_Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa_canina",
)


@pytest.fixture
def inaturalist(root):
    """iNaturalist 2021 as torchvision leaves it: a folder per species below one per version."""
    for version, count in (("2021_train_mini", 4), ("2021_valid", 2)):
        for k, species in enumerate(SPECIES):
            for n in reversed(range(count)):
                paint(root / "inaturalist" / version / species / f"{n}{k}.jpg", 30 * k + n)
    return root / "inaturalist"


def test_inaturalist_is_five_taxa_of_the_small_training_and_the_validation_images(root, inaturalist):
    train, test = (load_dataset("inaturalist", side, root=root) for side in ("train", "test"))
    assert train.class_names == ("plant", "insect", "bird", "reptile", "mammal")
    assert train.class_counts.tolist() == [4, 4, 8, 4, 4]
    assert test.class_counts.tolist() == [2, 2, 4, 2, 2]
    assert shades(test.images) == [180, 180, 0, 0, 30, 30, 60, 60, 120, 120, 90, 90]


def test_at_most_so_many_images_of_a_class_are_taken_from_all_its_species_alike(
    root, inaturalist, monkeypatch
):
    monkeypatch.setattr(sources, "_MOST", {"train": 4, "test": 100})
    birds = load_dataset("inaturalist", "train", root=root)
    assert birds.class_counts.tolist() == [4] * 5
    assert shades(birds.images[birds.labels == 2]) == [30, 30, 60, 60]


@pytest.mark.parametrize("name", ["places", "inaturalist"])
def test_torchvision_downloads_where_it_may_and_its_failure_says_what_to_copy(root, monkeypatch, name):
    asked = []

    def fail(url, *args, **kwargs):
        asked.append(url)
        raise OSError("no route to host")

    module = {"places": "places365", "inaturalist": "inaturalist"}[name]
    monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fail)
    with pytest.raises(DatasetError, match=f"could not download {name} .no route to host.*{name}/test.npz"):
        load_dataset(name, "train", root=root, download=True)
    assert len(asked) == 1
    with pytest.raises(DatasetError, match=f"`imbal data {name}` downloads them"):
        load_dataset(name, "train", root=root)
    assert len(asked) == 1, "nothing is downloaded unasked"


def test_a_failed_download_of_places_says_what_is_at_hand(root, places, monkeypatch):
    (places / "places365_val.txt").unlink()
    monkeypatch.setattr(
        "torchvision.datasets.places365.download_and_extract_archive",
        lambda *_, **__: (_ for _ in ()).throw(OSError("no route to host")),
    )
    at_hand = r"places/val_256: incomplete or damaged \(.*, and could not download places \(no route to host"
    with pytest.raises(DatasetError, match=at_hand):
        load_dataset("places", "test", root=root, download=True)
    assert load_dataset("places", "train", root=root, download=True).class_counts.tolist() == [3] * 5


def test_scenes_are_a_folder_for_each_side_and_class(root, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "scenes6", sources.Source(num_classes=2, side=64))
    for side, count in (("train", 3), ("test", 2)):
        for k, label in enumerate(("forest", "sea")):
            for n in range(count):
                paint(root / "scenes6" / side / label / f"{n}.jpg", 100 * k + 10 * n)
        (root / "scenes6" / side / "@eaDir" / "forest").mkdir(parents=True)
    train, test = (load_dataset("scenes6", side, root=root) for side in ("train", "test"))
    assert train.class_names == ("forest", "sea")
    assert shades(train.images) == [0, 10, 20, 100, 110, 120]
    assert test.labels.tolist() == [0, 0, 1, 1]


def test_scenes_that_are_missing_cannot_be_downloaded_and_the_message_offers_places(root):
    with pytest.raises(DatasetError, match=r"stands in for Places.*cannot be downloaded.*'places'"):
        load_dataset("scenes6", "train", root=root, download=True)


@pytest.mark.real_data
def test_real_scenes_are_the_recorded_ones():
    if not os.environ.get("IMBAL_DATA") or not (data_root() / "scenes6").is_dir():
        pytest.skip("IMBAL_DATA holds no scenes6")
    for side, count in (("train", 500), ("test", 100)):
        data = load_dataset("scenes6", side)
        assert data.class_names == ("buildings", "forest", "glacier", "mountain", "sea", "street")
        assert data.class_counts.tolist() == [count] * 6
        assert data.fingerprint == sources.SOURCES["scenes6"].fingerprints[side]
