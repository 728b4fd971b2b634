import json
import os
import shutil
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
    monkeypatch.setattr(image_folders, "decode_image", lambda *_: pytest.fail("decoded again"))
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
    real = image_folders.decode_image
    monkeypatch.setattr(
        image_folders, "decode_image", lambda file, size: (decoded.append(file), real(file, size))[1]
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


def sides(folder: Path, *places: str) -> Path:
    for place in places:
        write_images(folder / place, 1)
    return folder


TWO_SIDES = ("train/a", "train/b", "test/a", "test/b")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ((*TWO_SIDES, "val/a"), "p: beside train/ and test/ there is val"),
        (("train/a", "train/b", "val/a", "val/b"), "beside train/ there is val; move its images into train/"),
        (("train/a", "train/b", "training/a", "training/b"), "beside train/ there is training"),
        (("train", "valid"), "beside train/ there is valid"),
        (("training", "test"), "training/000.png: lies outside the class folders"),
        (("test/a", "test/b"), "has test/ but no train/"),
        ((*TWO_SIDES, ""), "p/000.png: lies outside the class folders"),
        (
            ("cats/black", "cats/white", "dogs"),
            "p/cats: holds only sub-folders (black, white), no images of its own",
        ),
    ],
)
def test_no_side_class_or_image_is_silently_left_out(tmp_path, root, places, message):
    assert message in folder_error(sides(tmp_path / "p", *places), root)


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "TEST"), ("training", "testing"), ("TRAINING", "test")]
)
def test_sides_have_their_usual_names_in_any_case(tmp_path, root, train, test):
    folder = sides(tmp_path / "p", f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b")
    for side in ("train", "test"):
        assert load_dataset(f"folder:{folder}", side, root=root).class_names == ("a", "b")


def test_a_class_may_be_called_like_a_side(tmp_path, root):
    folder = sides(tmp_path / "p", "bus", "train")
    assert load_dataset(f"folder:{folder}", "train", root=root).class_names == ("bus", "train")


def test_linked_folders_and_files_are_read(photos, root, tmp_path):
    write_images(tmp_path / "elsewhere", 3, seed=7)
    (photos / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (photos / "dog" / "linked.png").symlink_to(tmp_path / "elsewhere" / "000.png")
    data = load_dataset(f"folder:{photos}", "train", root=root, image_size=16)
    assert data.class_counts.tolist() == [6, 5, 5]
    assert np.array_equal(data.images[3:6], random_images(3, 16, seed=7))


@pytest.mark.parametrize("target", [".", "..", "deep"])
def test_a_link_that_would_list_images_twice_is_named(photos, root, target):
    write_images(photos / "cat" / "deep", 1)
    (photos / "cat" / "again").symlink_to(target)
    message = folder_error(photos, root)
    assert str(photos / "cat" / "again") in message and "twice; remove the link" in message


@pytest.mark.parametrize(
    ("link", "target", "seen_from"),
    [
        ("train/c", "a", ["train"]),
        ("train/a/more", "../b", ["train"]),
        ("test", "train", ["train", "test"]),
        ("test/a", "../train/a", ["train", "test"]),
        ("test/b", "../train/b/deep", ["train"]),
    ],
)
def test_no_folder_is_of_two_classes_or_of_both_sides(tmp_path, root, link, target, seen_from):
    folder = sides(tmp_path / "p", "train/a", "train/b", "train/b/deep", "test/a", "test/b")
    if (folder / link).exists():
        shutil.rmtree(folder / link)
    (folder / link).symlink_to(target)
    if link == "train/c":
        write_images(folder / "test" / "c", 1)
    for side in seen_from:
        assert "twice; remove the link" in folder_error(folder, root, side)


@pytest.mark.parametrize("place", ["cat/gone.png", "gone"])
def test_a_link_that_leads_nowhere_is_named(photos, root, place):
    (photos / place).symlink_to(photos / "nothing")
    message = folder_error(photos, root)
    assert str(photos / place) in message and "a link that leads nowhere" in message


@pytest.mark.parametrize("place", ["", "cat", "cat/deep"])
def test_a_folder_that_cannot_be_read_is_named(photos, root, place, monkeypatch):
    write_images(photos / "cat" / "deep", 1)
    real = Path.iterdir

    def denied(self):
        if self == photos / place:
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    message = folder_error(photos, root)
    assert f"{photos / place}: cannot be read (Permission denied)" in message


def test_a_pipe_is_named_and_never_opened(photos, root):
    os.mkfifo(photos / "cat" / "pipe.png")
    assert f"{photos / 'cat' / 'pipe.png'}: neither a file nor a folder" in folder_error(photos, root)


def test_what_is_left_out_is_counted_by_name(photos, root):
    for junk in ("cat/@eaDir/000.png", "dog/@eaDir/000.png", "__MACOSX/cat/000.png", "cat/._000.png"):
        write_images((photos / junk).parent, 0)
        (photos / junk).write_bytes(b"junk")
    listing = image_folders.list_folder(f"folder:{photos}", "train")
    assert listing.ignored == {"@eaDir": 2, "__MACOSX": 1, "._*": 1}
    assert load_dataset(f"folder:{photos}", "train", root=root).class_counts.tolist() == [3, 4, 5]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_laid_on_white(photos, root, mode):
    def hidden(colour):
        """An image whose left half shows (10, 10, 10), and whose right half hides a colour."""
        image = Image.new("RGBA", (16, 16), (10, 10, 10, 255))
        image.paste((*colour, 0), (8, 0, 16, 16))
        if mode == "P":
            image = Image.new("P", (16, 16))
            image.putpalette((10, 10, 10, *colour))
            image.paste(1, (8, 0, 16, 16))
            image.info["transparency"] = 1
        return image.convert(mode)

    hidden((255, 0, 0)).save(photos / "cat" / "000.png")
    hidden((0, 0, 0)).save(photos / "cat" / "001.png")
    with Image.open(photos / "cat" / "000.png") as written:
        assert written.mode == mode
    red, black = load_dataset(f"folder:{photos}", "train", root=root, image_size=16).images[:2]
    assert np.array_equal(red, black)
    assert np.all(red[:, :8] == 10) and np.all(red[:, 8:] == 255)


def test_half_transparent_pixels_are_mixed_with_white(photos, root):
    Image.new("RGBA", (16, 16), (100, 0, 200, 51)).save(photos / "cat" / "000.png")
    pixel = load_dataset(f"folder:{photos}", "train", root=root, image_size=16).images[0, 5, 5]
    assert np.abs(pixel - (0.2 * np.array([100, 0, 200]) + 0.8 * 255)).max() <= 1


def test_pixels_of_an_older_decoder_are_not_taken_from_the_cache(photos, root, monkeypatch):
    name = f"folder:{photos}"
    monkeypatch.setattr(image_folders, "_DECODER", "")
    load_dataset(name, "train", root=root)
    monkeypatch.undo()
    decoded = []
    real = image_folders.decode_image
    monkeypatch.setattr(image_folders, "decode_image", lambda *given: decoded.append(given) or real(*given))
    load_dataset(name, "train", root=root)
    assert len(decoded) == 12


def badly_named(folder: Path, name: bytes) -> Path:
    try:
        return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    except ValueError:
        pytest.skip("this file system has only UTF-8 names")


def test_a_file_name_that_is_not_utf8_is_read_and_shown(photos, root):
    file = badly_named(photos / "cat", b"caf\xe9.png")
    Image.fromarray(random_images(1, 16)[0]).save(photos / "new.png")
    (photos / "new.png").rename(file)
    assert len(load_dataset(f"folder:{photos}", "train", root=root).labels) == 13
    file.write_bytes(b"no png")
    message = folder_error(photos, root)
    assert rf"{photos}/cat/caf\xe9.png: not an image" in message
    message.encode()


def test_a_class_name_that_is_not_utf8_is_refused(photos, root):
    (photos / "cat").rename(badly_named(photos, b"caf\xe9"))
    message = folder_error(photos, root)
    assert r"caf\\xe9': a class cannot have this name" in message
    message.encode()


def test_a_class_name_with_a_line_break_is_refused(photos, root):
    (photos / "cat").rename(photos / "c\nat")
    assert r"c\nat': a class cannot have this name" in folder_error(photos, root)


def test_class_names_in_any_script_are_read(photos, root):
    (photos / "cat").rename(photos / "猫\u00a0é <b>")
    assert load_dataset(f"folder:{photos}", "train", root=root).class_names[-1] == "猫\u00a0é <b>"


def test_a_folder_whose_path_is_not_utf8_is_read(photos, root):
    moved = badly_named(photos.parent, b"\xff")
    photos.rename(moved)
    assert len(load_dataset(f"folder:{moved}", "train", root=root).labels) == 12


def test_what_pillow_warns_of_is_said_with_the_name_of_the_file(photos, root):
    picture = Image.fromarray(random_images(1)[0])
    picture.save(photos / "dog" / "odd.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x12\x01")
    with pytest.warns(UserWarning) as caught:
        load_dataset(f"folder:{photos}", "train", root=root)
    (text,) = {str(warning.message) for warning in caught}
    assert text.startswith(f"{photos / 'dog' / 'odd.jpg'}: ") and "Corrupt EXIF data" in text


def test_a_large_image_is_not_called_damaged(photos, root, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    message = folder_error(photos, root)
    assert f"{photos / 'cat' / '000.png'}: too large to be decoded (Image size (256 pixels)" in message
    assert "damaged image" not in message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.warns(UserWarning, match=r"000\.png: Image size \(256 pixels\)"):
        assert len(load_dataset(f"folder:{photos}", "train", root=root).labels) == 12


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied)"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (MemoryError("no room for 3 GiB"), "too large to be decoded (no room for 3 GiB)"),
    ],
)
def test_a_file_that_the_machine_cannot_read_is_not_called_damaged(photos, root, monkeypatch, error, message):
    real = Image.open

    def fail(file):
        if file.name == "002.png":
            raise error
        return real(file)

    monkeypatch.setattr(Image, "open", fail)
    text = folder_error(photos, root)
    assert f"{photos / 'cat' / '002.png'}: {message}" in text and "damaged image" not in text


@pytest.mark.parametrize("name", ["folder:", "folder: "])
def test_a_folder_without_a_path_is_refused(root, name, photos, monkeypatch):
    monkeypatch.chdir(photos)
    with pytest.raises(DatasetError, match=f"'{name}' has no path; write it after the colon"):
        load_dataset(name, "train", root=root)
