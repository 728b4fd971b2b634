"""Networks by name, each with named feature taps that a readout asks for."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imbal_core._checks.fields import checked_number, whole_number
from imbal_core._checks.names import unknown_name
from imbal_core.data.root import data_root
from imbal_core.models import architectures as nets
from imbal_core.models.networks import LinearHead, Network
from imbal_core.models.weights import (
    PUBLISHED,
    check_published,
    download_weights,
    find_weights,
    import_timm,
    read_weights,
)


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., Network]
    image_size: int
    smallest: int
    has_dropout: bool


_ENTRIES: dict[str, _Entry] = {
    "resnet20": _Entry(partial(nets.CifarResNet, depth=20), 32, 4, False),
    "resnet32": _Entry(partial(nets.CifarResNet, depth=32), 32, 4, False),
    "resnet56": _Entry(partial(nets.CifarResNet, depth=56), 32, 4, False),
    "small_cnn": _Entry(nets.SmallCNN, 32, 4, True),
    "all_cnn": _Entry(nets.AllCNN, 32, 9, True),
    "vgg16": _Entry(partial(nets.VGG, architecture="vgg16"), 224, 32, True),
    "vgg19": _Entry(partial(nets.VGG, architecture="vgg19"), 224, 32, True),
    "resnet34": _Entry(nets.ResNet34, 224, 32, False),
    "resnet34_small": _Entry(nets.SmallImageResNet34, 32, 8, False),
}


def list_models() -> list[str]:
    """Return the names that `build_model` knows, sorted; ``timm:NAME`` comes in addition.

    Examples
    --------
    >>> list_models()[:3]
    ['all_cnn', 'linear', 'resnet20']
    """
    return sorted([*_ENTRIES, "linear"])


def build_model(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    image_size: int | None = None,
    root: Path | str | None = None,
    dropout: float | None = None,
    in_features: int | None = None,
) -> Network:
    """Return a network, its weights drawn from torch's global generator (seed it for the same weights again).

    Parameters
    ----------
    name : str
        One of `list_models`, or ``timm:NAME`` (extra ``timm``, else an ImportError).
    num_classes : int
        Number of classes K, at least 2.
    pretrained : bool, default=False
        Start from ImageNet weights: ``<data root>/weights/<file>`` if it is there, else a download, else a
        `WeightsError`. The classifier is loaded only when its number of classes is K.
    image_size : int, optional
        Side in pixels to which the batch pipeline resizes. Default: 32 for the CIFAR networks, 224 for
        torchvision's, timm's own for ``timm:NAME``.
    root : path, optional
        Data root; see `imbal_core.data.root.data_root`.
    dropout : float, optional
        Dropout rate in [0, 1) in place of the network's own.
    in_features : int, optional
        Width D of the features, for ``linear`` only.

    Returns
    -------
    Network
        `fit` trains it, `predict` reads it: from uint8 images (N, H, W, 3), or features (N, D), to logits (N, K).
        An unknown name, or an option that does not fit the network, is a ValueError.

    Examples
    --------
    >>> network = build_model("resnet32", num_classes=10)
    >>> sum(p.numel() for p in network.parameters())
    464154
    """
    entry, from_timm = _ENTRIES.get(name), name.startswith("timm:")
    for option, given, least in (
        ("num_classes", num_classes, 2),
        ("image_size", image_size, 1),
        ("in_features", in_features, 1),
    ):
        if given is not None:
            whole_number(option, given, least)
    if dropout is not None:
        checked_number("dropout", dropout, "[0, 1)")
    if entry is None and not from_timm and name != "linear":
        raise unknown_name("model", name, [*list_models(), "timm:NAME"])
    if (in_features is not None) != (name == "linear"):
        raise ValueError(f"in_features is for 'linear', which needs it; got {in_features} for {name!r}")
    lacking = {
        "pretrained weights": pretrained and not from_timm and name not in PUBLISHED,
        "dropout": dropout is not None and not (from_timm or (entry and entry.has_dropout)),
        "image_size": image_size is not None and name == "linear",
    }
    for option in (option for option, asked in lacking.items() if asked):
        raise ValueError(f"{name!r} has no {option}: leave the option at its default, or take another model")
    if from_timm:
        network: Network = _build_timm(name, num_classes, image_size, dropout)
    elif entry is not None:
        size = entry.image_size if image_size is None else image_size
        if size < entry.smallest:
            raise ValueError(f"{name} needs image_size >= {entry.smallest} pixels, got {size}")
        network = entry.build(num_classes, size, **({"dropout": dropout} if entry.has_dropout else {}))
    else:
        network = LinearHead(num_classes, in_features)  # type: ignore[arg-type]
    network.name = name
    if pretrained:
        source = find_weights(name, root) or download_weights(name, data_root(root) / "weights")
        network.load_pretrained(read_weights(source), source)
        check_published(source)
        network.fixed_normalisation = True
    return network


def _build_timm(name: str, num_classes: int, image_size: int | None, dropout: float | None) -> Network:
    timm = import_timm(name)
    bare = name.removeprefix("timm:")
    if not timm.is_model(bare):
        known = timm.list_models()
        near = ", ".join(repr(f"timm:{match}") for match in difflib.get_close_matches(bare, known, n=3))
        hint = f"did you mean {near}? " if near else ""
        raise ValueError(f"unknown timm model {name!r}: {hint}timm.list_models() lists all {len(known)}.")
    options = {} if dropout is None else {"drop_rate": dropout}
    body = timm.create_model(bare, pretrained=False, num_classes=num_classes, **options)
    own_size = body.default_cfg["input_size"][-1]
    if body.default_cfg.get("fixed_input_size") and image_size not in (None, own_size):
        raise ValueError(f"{name!r} takes images of {own_size} pixels only, got image_size={image_size}")
    return nets.TimmNetwork(body, num_classes, own_size if image_size is None else image_size)
