"""Networks by name: the seed gives the weights, and what does not fit is refused by name."""

from __future__ import annotations

import sys

import pytest
import torch
from sample_networks import make

from imbal_core.models.build import list_models

LIGHT = ["resnet20", "resnet32", "small_cnn", "all_cnn"]
TIMM_NAME = "test_efficientnet"


@pytest.mark.parametrize("name", LIGHT)
def test_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    first, again, other = (make(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_image_size_is_what_the_pipeline_resizes_to() -> None:
    assert [make(name).image_size for name in LIGHT] == [32] * 4
    assert make("resnet34").image_size == 224
    assert make("small_cnn", image_size=64).image_size == 64


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'resnet23': did you mean .*'timm:NAME'"):
        make("resnet23")


def test_every_listed_model_is_known_and_named() -> None:
    assert list_models() == sorted(
        {*LIGHT, "linear", "resnet34", "resnet34_small", "resnet56", "vgg16", "vgg19"}
    )
    assert make("small_cnn").name == "small_cnn"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet20", {"pretrained": True}, "'resnet20' has no pretrained weights"),
        ("resnet20", {"dropout": 0.5}, "'resnet20' has no dropout"),
        ("small_cnn", {"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ("small_cnn", {"image_size": 0}, "image_size must be at least 1"),
        ("all_cnn", {"image_size": 8}, "all_cnn needs image_size >= 9"),
        ("vgg16", {"image_size": 16}, "vgg16 needs image_size >= 32"),
        ("small_cnn", {"num_classes": 1}, "num_classes must be at least 2"),
        ("small_cnn", {"in_features": 4}, "in_features is for 'linear'"),
        ("linear", {}, "in_features is for 'linear', which needs it"),
        ("linear", {"in_features": 0}, "in_features must be at least 1"),
        ("linear", {"in_features": 4, "pretrained": True}, "'linear' has no pretrained weights"),
        ("linear", {"in_features": 4, "image_size": 32}, "'linear' has no image_size"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **options)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'imbal-core\[timm\]'"):
        make(f"timm:{TIMM_NAME}")


def test_unknown_timm_model_names_the_nearest() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"unknown timm model 'timm:tf_efficientnet_lite': did you mean"):
        make("timm:tf_efficientnet_lite")


def test_timm_network_of_one_size_refuses_another() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="takes images of 160 pixels only, got image_size=64"):
        make("timm:test_vit", image_size=64)
