"""Prediction in batches, and the name of the device."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import TinyHead, config, images_and_labels, tiny

from imbal_core.training.fit import fit
from imbal_core.training.prediction import device_label, iter_predict, predict


def test_prediction_does_not_depend_on_the_batch_size_and_restores_the_mode():
    images, _ = images_and_labels()
    network = tiny(dropout=0.5).train()
    whole = predict(network, images, taps=("pooled",), device="cpu")
    parts = predict(network, torch.from_numpy(images), taps=("pooled",), batch_size=5, device="cpu")
    assert network.training
    assert whole["logits"].shape == (37, 3)
    assert whole["pooled"].shape == (37, 4)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name])
    assert [len(b["logits"]) for b in iter_predict(network, images, batch_size=20, device="cpu")] == [20, 17]
    plain = predict(network, images, device="cpu")
    assert set(plain) == {"logits"}
    torch.testing.assert_close(plain["logits"], whole["logits"])


def test_predicted_features_can_be_trained_on():
    images, labels = images_and_labels()
    features = predict(tiny(), images, taps=("pooled",), precision="bf16", device="cpu")["pooled"]
    assert features.dtype == torch.float32
    head = TinyHead(width=4)
    fit(head, features, labels, config(), device="cpu", progress=False)
    F.cross_entropy(head(features), torch.from_numpy(labels)).backward()


def test_prediction_refuses_nothing_and_wrong_batches():
    with pytest.raises(ValueError, match="empty"):
        predict(tiny(), np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="batch_size"):
        predict(tiny(), np.zeros((2, 8, 8, 3), np.uint8), batch_size=0)


def test_device_label_names_the_processor_and_not_the_host():
    assert device_label("cpu").endswith("(cpu)")
    assert os.uname().nodename not in device_label("cpu")
