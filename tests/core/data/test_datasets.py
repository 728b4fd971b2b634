import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from imbal_core.data import sources
from imbal_core.data.datasets import ImageDataset, fingerprint, list_datasets, load_dataset
from imbal_core.data.prepared import DatasetError
from imbal_core.data.root import data_root


def random_images(num_images: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_images, side, side, 3), dtype=np.uint8)


@pytest.fixture
def digits(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root in which 'digits10' is known, 40 training images of 10 classes, and lies prepared."""
    source = sources.Source(num_classes=10, sizes={"train": 40, "test": 20})
    monkeypatch.setitem(sources.SOURCES, "digits10", source)
    for split, size in source.sizes.items():
        save_prepared(
            root / "digits10" / f"{split}.npz", images=random_images(size), labels=np.arange(size) % 10
        )
    return root


def save_prepared(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array([str(k) for k in range(10)])
    np.savez(path, **({"class_names": names} | arrays))


def test_the_data_root_is_the_argument_then_the_environment_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root() == tmp_path / "env"
    monkeypatch.setenv("IMBAL_DATA", "")
    assert data_root() == Path.home() / ".cache" / "imbal_core"
    assert data_root("~/x") == Path.home() / "x"


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_data_root_that_is_a_file_is_said(monkeypatch, tmp_path, below):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "file" / below))
    with pytest.raises(DatasetError, match=f"^IMBAL_DATA .*{tmp_path / 'file'} is a file; give a folder"):
        load_dataset("mnist5k", "train")
    with pytest.raises(DatasetError, match=f"^the data root .*{tmp_path / 'file'} is a file; give a folder"):
        load_dataset("mnist5k", "train", root=tmp_path / "file" / below)


def test_the_documented_datasets_are_listed():
    plants = ["plantvillage-apple", "plantvillage-pepper", "plantvillage-tomato"]
    assert list_datasets() == [
        "cifar10",
        "cifar100",
        "fashion_mnist",
        "inaturalist",
        "mnist5k",
        "mnist5k-8",
        "places",
        *plants,
        "scenes6",
        "svhn",
    ]


def test_a_mistyped_dataset_or_split_gets_the_nearest_name(root):
    with pytest.raises(DatasetError, match="unknown dataset 'cifar1O': did you mean 'cifar10'"):
        load_dataset("cifar1O", "train", root=root)
    with pytest.raises(DatasetError, match="unknown split 'tets': did you mean 'test'"):
        load_dataset("cifar10", "tets", root=root)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "fashion_mnist", "places", "inaturalist"])
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


def test_a_data_set_of_another_side_says_which_and_is_checked_for_it(root, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "wide10", sources.Source(num_classes=10, side=48))
    with pytest.raises(DatasetError, match="48 pixels a side, so image_size=32 cannot be given"):
        load_dataset("wide10", "train", root=root, image_size=32)
    for side, images in (("train", random_images(30, side=48)), ("test", random_images(30))):
        save_prepared(root / "wide10" / f"{side}.npz", images=images, labels=np.arange(30) % 10)
    assert load_dataset("wide10", "train", root=root, image_size=48).images.shape == (30, 48, 48, 3)
    with pytest.raises(
        DatasetError, match=r"expected images \(30, 48, 48, 3\) of 10 classes, found \(30, 32"
    ):
        load_dataset("wide10", "test", root=root)


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
    monkeypatch.setitem(sources.SOURCES["digits10"].fingerprints, "train", "0" * 64)
    with pytest.raises(DatasetError, match="these are not the images of digits10"):
        load_dataset("digits10", "train", root=digits)


def test_the_images_of_a_bundle_keep_the_fingerprint_of_the_whole(digits, monkeypatch):
    whole = load_dataset("digits10", "train", root=digits)
    monkeypatch.setitem(sources.SOURCES["digits10"].fingerprints, "train", whole.fingerprint)
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
