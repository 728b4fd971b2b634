import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imbal_core.data import image_folders
from imbal_core.data.datasets import load_dataset, prepared_path
from imbal_core.data.prepared import DatasetError


def random_images(num_images: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_images, side, side, 3), dtype=np.uint8)


def write_images(
    folder: Path, num_images: int, *, side: int = 16, suffix: str = "png", seed: int = 0
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(random_images(num_images, side, seed)):
        Image.fromarray(image).save(folder / f"{i:03}.{suffix}")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, name in enumerate(("cat", "dog", "emu")):
        write_images(tmp_path / "photos" / name, 3 + k, seed=k)
    return tmp_path / "photos"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_folder_is_read_by_class_and_file_name(photos, root):
    data = load_dataset(f"folder:{photos}", "train", root=root, image_size=16)
    assert data.class_names == ("cat", "dog", "emu")
    assert data.class_counts.tolist() == [3, 4, 5]
    expected = np.concatenate([random_images(3 + k, 16, seed=k) for k in range(3)])
    assert np.array_equal(data.images, expected), "images that have the size already are unchanged"
    assert data.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5


def test_the_fingerprint_of_a_folder_is_the_same_for_ever(photos, root):
    data = load_dataset(f"folder:{photos}", "train", root=root, image_size=16)
    assert data.fingerprint == "757771afe33569afaaff8af631ac1716318676c119bc8f43086d2747dc632076"


def test_a_folders_images_have_64_pixels_unless_asked_otherwise(photos, root):
    assert load_dataset(f"folder:{photos}", "train", root=root).images.shape == (12, 64, 64, 3)
    for size in (4, 5000, 32.0, True):
        with pytest.raises(DatasetError, match="image_size must be an integer from 8 to 1024"):
            load_dataset(f"folder:{photos}", "train", root=root, image_size=size)


def test_images_are_cut_to_the_central_square_and_turned_upright(tmp_path, root):
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = 200
    for name in ("a", "b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        Image.fromarray(wide).save(tmp_path / "p" / name / "1.png")
    half = np.zeros((32, 32, 3), np.uint8)
    half[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(half).save(tmp_path / "p" / "b" / "2.png", exif=exif)
    images = load_dataset(f"folder:{tmp_path / 'p'}", "train", root=root, image_size=16).images
    # The filter that scales reaches one pixel across the cut.
    assert np.all(images[0, :, 1:-1] == 200)
    assert np.all(images[2, :7] == 0) and np.all(images[2, 9:] == 255), "EXIF orientation 3 is upside down"


def test_grey_and_transparent_images_become_rgb(photos, root):
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(photos / "cat" / "000.png")
    Image.new("RGBA", (16, 16), (10, 20, 30, 255)).save(photos / "cat" / "001.png")
    images = load_dataset(f"folder:{photos}", "train", root=root, image_size=16).images
    assert np.all(images[0] == 90) and np.all(images[1] == (10, 20, 30))


def test_train_and_test_folders_are_the_two_sides(tmp_path, root):
    for side, count in (("train", 3), ("test", 2)):
        for k, name in enumerate("ab"):
            write_images(tmp_path / "p" / side / name, count, seed=k)
    name = f"folder:{tmp_path / 'p'}"
    assert load_dataset(name, "train", root=root).class_counts.tolist() == [3, 3]
    assert load_dataset(name, "test", root=root).class_counts.tolist() == [2, 2]


def test_nothing_is_written_into_the_users_folder(photos, root):
    before = sorted(photos.rglob("*"))
    load_dataset(f"folder:{photos}", "train", root=root, image_size=32)
    assert sorted(photos.rglob("*")) == before
    path = prepared_path(f"folder:{photos}", "train", root=root, image_size=32)
    assert path.exists() and path.parent.parent == root / "folders" and path.name == "prepared-32-train.npz"


def test_a_folder_is_decoded_once_per_size(photos, root, monkeypatch):
    name = f"folder:{photos}"
    first = load_dataset(name, "train", root=root, image_size=16)
    load_dataset(name, "train", root=root, image_size=32)
    monkeypatch.setattr(image_folders, "_decode", lambda *_: pytest.fail("decoded again"))
    assert load_dataset(name, "train", root=root, image_size=16).fingerprint == first.fingerprint
    assert load_dataset(name, "train", root=root, image_size=32).images.shape[1] == 32


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "edited", "touched", "class renamed"])
def test_a_stale_cache_is_noticed(photos, root, change, monkeypatch):
    name = f"folder:{photos}"
    before = load_dataset(name, "train", root=root, image_size=16)
    victim = photos / "dog" / "002.png"
    if change == "added":
        Image.fromarray(random_images(1, 16, seed=9)[0]).save(photos / "cat" / "zebra.png")
    elif change == "removed":
        victim.unlink()
    elif change == "renamed":
        victim.rename(photos / "dog" / "999.png")
    elif change == "edited":
        Image.fromarray(random_images(1, 16, seed=9)[0]).save(victim)
    elif change == "touched":
        os.utime(victim, ns=(time.time_ns(), victim.stat().st_mtime_ns + 1_000_000))
    else:
        (photos / "dog").rename(photos / "doe")
    decoded = []
    real = image_folders._decode
    monkeypatch.setattr(
        image_folders, "_decode", lambda file, size: (decoded.append(file), real(file, size))[1]
    )
    after = load_dataset(name, "train", root=root, image_size=16)
    assert len(decoded) == len(after.labels)
    assert (after.fingerprint == before.fingerprint) == (change in ("touched", "class renamed"))
    assert after.class_names == (("cat", "doe", "emu") if change == "class renamed" else before.class_names)


def test_a_damaged_cache_of_a_folder_is_made_again(photos, root):
    name = f"folder:{photos}"
    before = load_dataset(name, "train", root=root)
    path = prepared_path(name, "train", root=root)
    path.write_bytes(path.read_bytes()[:100])
    assert load_dataset(name, "train", root=root).fingerprint == before.fingerprint
    assert path.stat().st_size > 100


def test_the_images_of_a_folder_travel_in_a_bundle_without_the_folder(photos, root):
    name = f"folder:{photos}"
    before = load_dataset(name, "train", root=root)
    path = prepared_path(name, "train", root=root)
    (path.parent / "partial.json").write_text(
        json.dumps({path.stem: {"fingerprint": before.fingerprint, "present": "all"}})
    )
    photos.rename(photos.with_name("gone"))
    assert load_dataset(name, "train", root=root).fingerprint == before.fingerprint


def test_what_a_desktop_leaves_in_a_folder_is_ignored(photos, root):
    for junk in ("cat/.DS_Store", "dog/Thumbs.db", "leaves.csv"):
        (photos / junk).write_bytes(b"junk")
    (photos / ".cache").mkdir()
    assert len(load_dataset(f"folder:{photos}", "train", root=root).labels) == 12


def folder_error(photos: Path, root: Path, split: str = "train") -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DatasetError) as caught:
            load_dataset(f"folder:{photos}", split, root=root)
    return str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_corrupt_jpeg_is_named(photos, root, keep):
    victim = photos / "dog" / "bad.jpg"
    Image.fromarray(random_images(1, 64)[0]).save(victim)
    content = victim.read_bytes()
    victim.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    message = folder_error(photos, root)
    assert str(victim) in message and "Replace or remove it" in message
    assert not list(root.rglob("*.npz"))


def test_every_bad_file_is_counted_and_the_first_five_named(photos, root):
    for i in range(7):
        (photos / "emu" / f"bad{i}.png").write_bytes(b"no png")
    message = folder_error(photos, root)
    assert (
        message.count("not an image") == 5
        and "… and 2 more" in message
        and "Replace or remove them" in message
    )


def test_a_file_that_is_no_image_is_named(photos, root):
    (photos / "cat" / "notes.txt").write_text("shot in May")
    message = folder_error(photos, root)
    assert str(photos / "cat" / "notes.txt") in message
    assert "not an image that Pillow can read" in message


def test_an_image_of_16_bits_is_refused_rather_than_clipped(photos, root):
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(photos / "cat" / "deep.png")
    assert "more than 8 bits" in folder_error(photos, root)


def test_folders_that_cannot_be_a_dataset_say_what_to_do(photos, root, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "found 0 class folder(s), need at least 2" in folder_error(tmp_path / "empty", root)
    write_images(tmp_path / "one" / "cat", 2)
    assert "found 1 class folder(s), need at least 2" in folder_error(tmp_path / "one", root)
    assert "there is no folder" in folder_error(tmp_path / "nowhere", root)
    (photos / "fox").mkdir()
    message = folder_error(photos, root)
    assert str(photos / "fox") in message and "the class folder is empty" in message
    (photos / "fox").rmdir()
    write_images(photos, 1)
    assert "000.png: lies outside the class folders" in folder_error(photos, root)


def test_a_folder_without_test_images_says_how_to_add_them(photos, root):
    message = folder_error(photos, root, "test")
    assert "has no test images" in message and "test/CLASS/" in message


def test_a_class_that_only_one_side_has_is_named(tmp_path, root):
    folder = tmp_path / "p"
    for place in ("train/a", "train/b", "train/c", "test/a", "test/b"):
        write_images(folder / place, 1)
    for split in ("train", "test"):
        message = folder_error(folder, root, split)
        assert str(folder / "test") in message and "no images of class 'c', which train/ has" in message
    (folder / "train" / "c").rename(folder / "test" / "d")
    assert "no images of class 'd', which test/ has" in folder_error(folder, root)


def test_a_third_side_is_not_silently_left_out(tmp_path, root):
    for place in ("train/a", "train/b", "test/a", "test/b", "val/a"):
        write_images(tmp_path / "p" / place, 1)
    assert "beside train/ and test/ there is val" in folder_error(tmp_path / "p", root)
