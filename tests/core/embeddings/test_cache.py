"""Cached feature embeddings: what hits the cache, what must miss it, and what is never read."""

import dataclasses

import numpy as np
import pytest
import torch

from imbal_core.data.datasets import ImageDataset, fingerprint
from imbal_core.embeddings import cache as embeddings
from imbal_core.embeddings.cache import cached_embeddings, network_digest
from imbal_core.models.build import build_model
from imbal_core.training.prediction import predict

TAP = "fully connected"


def make_network(seed=0):
    torch.manual_seed(seed)
    return build_model("small_cnn", 3, image_size=8)


def make_dataset(seed=0, count=7):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(count) % 3
    return ImageDataset("toy", "train", images, labels, ("a", "b", "c"), fingerprint(images, labels))


@pytest.fixture
def forwards(monkeypatch):
    """Count how often the images go through the network."""
    passes = []
    real = embeddings.iter_predict
    monkeypatch.setattr(
        embeddings, "iter_predict", lambda *a, **k: passes.append(k["precision"]) or real(*a, **k)
    )
    return passes


def embed(network, dataset, cache, **options):
    return cached_embeddings(network, dataset, TAP, cache=cache, progress=False, **options)


def test_embeddings_are_the_features_of_predict_in_half_precision(tmp_path):
    network, dataset = make_network(), make_dataset()
    found = embed(network, dataset, tmp_path / "new" / "folder")
    expected = predict(network, dataset.images, taps=(TAP,))[TAP].numpy()
    assert found.dtype == np.float16 and found.shape == (7, 128)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_the_second_time_nothing_goes_through_the_network(tmp_path, forwards):
    first = embed(make_network(), make_dataset(), tmp_path)
    again = embed(make_network(), make_dataset(), tmp_path)
    assert forwards == ["fp32"]
    np.testing.assert_array_equal(first, again)
    assert first.dtype == again.dtype


def change_one_weight(network, dataset):
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-3
    return network, dataset, {}


def change_a_buffer(network, dataset):
    network.mean += 0.01
    return network, dataset, {}


def change_the_input_size(network, dataset):
    network.image_size = 16
    return network, dataset, {}


def change_one_pixel(network, dataset):
    images = dataset.images.copy()
    images[0, 0, 0, 0] ^= 1
    changed = dataclasses.replace(dataset, images=images, fingerprint=fingerprint(images, dataset.labels))
    return network, changed, {}


def change_the_precision(network, dataset):
    return network, dataset, {"precision": "bf16"}


@pytest.mark.parametrize(
    "change",
    [
        change_one_weight,
        change_a_buffer,
        change_the_input_size,
        change_one_pixel,
        change_the_precision,
    ],
)
def test_another_input_misses_the_cache(tmp_path, forwards, change):
    embed(make_network(), make_dataset(), tmp_path)
    network, dataset, options = change(make_network(), make_dataset())
    embed(network, dataset, tmp_path, **options)
    assert len(forwards) == 2
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_another_tap_misses_the_cache(tmp_path, forwards):
    network, dataset = make_network(), make_dataset()
    embed(network, dataset, tmp_path)
    other = cached_embeddings(network, dataset, "last convolution", cache=tmp_path, progress=False)
    assert len(forwards) == 2 and other.shape == (7, 96)


def test_the_digest_sees_names_shapes_and_values():
    network = make_network()
    assert network_digest(network) == network_digest(make_network())
    assert len(network_digest(network)) == 64
    assert network_digest(network) != network_digest(make_network(seed=1))
    assert network_digest(network.to(memory_format=torch.channels_last)) == network_digest(make_network())


def test_a_write_that_breaks_off_leaves_nothing_to_be_read(tmp_path, forwards, monkeypatch):
    def full_disk(file, **arrays):
        file.write(b"\x93NUMPY half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(embeddings.np, "savez", full_disk)
        with pytest.warns(RuntimeWarning, match="No space left"):
            first = embed(make_network(), make_dataset(), tmp_path)
    assert list(tmp_path.iterdir()) == [], "neither half a file nor a temporary one stays behind"
    second = embed(make_network(), make_dataset(), tmp_path)
    assert len(forwards) == 2
    np.testing.assert_array_equal(first, second)


def test_temporary_files_of_another_writer_are_not_read(tmp_path, forwards):
    (tmp_path / "abandoned.tmp").write_bytes(b"half a file")
    embed(make_network(), make_dataset(), tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.rename(path.with_suffix(".npz.tmp"))
    embed(make_network(), make_dataset(), tmp_path)
    assert len(forwards) == 2


@pytest.mark.parametrize("damage", ["a flipped bit", "torn", "of another form"])
def test_a_damaged_file_is_warned_of_and_made_again(tmp_path, forwards, damage):
    first = embed(make_network(), make_dataset(), tmp_path)
    (path,) = tmp_path.glob("*.npz")
    content = bytearray(path.read_bytes())
    content[content.index(first.tobytes()[-64:])] ^= 1  # a feature, which only a checksum can tell
    if damage == "of another form":
        np.savez(path, others=first)
    else:
        path.write_bytes(content if damage == "a flipped bit" else content[:-100])
    with pytest.warns(RuntimeWarning, match=rf"{path.name} is damaged .* and made again"):
        again = embed(make_network(), make_dataset(), tmp_path)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(embed(make_network(), make_dataset(), tmp_path), first)
    assert len(forwards) == 2
