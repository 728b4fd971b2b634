"""Networks by name, each with named feature taps that a readout asks for.

A tap is a layer whose output is a feature vector: "last convolution" (readout C of the category centers)
or "fully connected" (readout F). The logits are readout D, so one trained network gives all three.

Examples
--------
>>> import torch
>>> network = build_model("resnet20", num_classes=10).eval()
>>> {name: tuple(out.shape) for name, out in network.forward_taps(torch.zeros(2, 3, 32, 32)).items()}
{'last convolution': (2, 64), 'logits': (2, 10)}
"""

from __future__ import annotations

import difflib
import os
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet34_Weights, VGG16_Weights, VGG19_Weights

from imbal_core.datasets import data_root
from imbal_core.names import unknown_name

__all__ = ["LinearHead", "Network", "WeightsError", "build_model", "find_weights", "list_models"]

LAST_CONVOLUTION = "last convolution"
FULLY_CONNECTED = "fully connected"
_READ_ERRORS = (pickle.UnpicklingError, SafetensorError)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class WeightsError(RuntimeError):
    """Pretrained weights are missing, damaged, or of another network; the message names file and folder."""


class Network(nn.Module):
    """A classifier whose inner features can be read by name.

    Parameters
    ----------
    num_classes : int
        Number of classes K.
    image_size : int
        Side S in pixels that the network wants; the batch pipeline resizes to it. 0: inputs are not images.
    taps : sequence of str
        Names of the feature taps.
    mean, std : sequence of float
        Per channel, of inputs scaled to [0, 1]. The caller normalises with them; `forward` does not.

    Attributes
    ----------
    name : str
        The name that `build_model` was given.
    num_classes, image_size, taps
        As given.
    mean, std : Tensor
        Buffers, float32, shape (3,).
    fixed_normalisation : bool
        True when pretrained weights fix `mean` and `std`.
    """

    mean: Tensor
    std: Tensor
    head: nn.Module

    def __init__(
        self,
        num_classes: int,
        *,
        image_size: int,
        taps: Sequence[str],
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.name = type(self).__name__
        self.num_classes = num_classes
        self.image_size = image_size
        self.taps = tuple(taps)
        self.fixed_normalisation = False
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return every tap, not flattened, and "logits" (N, K) of a normalised batch."""
        raise NotImplementedError

    def classifier(self) -> nn.Module:
        """Return the last layer with weights, a linear layer or a 1x1 convolution with K outputs."""
        return self.head

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        """Load the published weights of this architecture, read from the file `source`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, shape (N, K), of a normalised float batch of shape (N, 3, S, S)."""
        return self.features(x)["logits"]

    def forward_taps(self, x: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the named features, each flattened to (N, D), and "logits" (N, K), from one forward pass.

        Parameters
        ----------
        x : Tensor
            Normalised batch, shape (N, 3, S, S).
        names : iterable of str, optional
            Names out of `taps`; all of them by default.

        Raises
        ------
        ValueError
            If a name is not one of `taps`.
        """
        wanted = self.taps if names is None else tuple(names)
        for name in wanted:
            if name not in (*self.taps, "logits"):
                raise unknown_name(f"feature tap of {self.name}", name, self.taps)
        features = self.features(x)
        return {name: features[name].flatten(1) for name in dict.fromkeys((*wanted, "logits"))}

    def set_normalisation(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        """Set the channel means and standard deviations of the training images, in units of [0, 1].

        Raises
        ------
        ValueError
            If pretrained weights fix the normalisation, a shape is wrong, or a deviation is not positive.
        """
        if self.fixed_normalisation:
            raise ValueError(
                f"{self.name} is pretrained: its weights fix mean and std, leave them as they are"
            )
        new_mean, new_std = (torch.as_tensor(value, dtype=torch.float32) for value in (mean, std))
        if new_mean.shape != self.mean.shape or new_std.shape != self.std.shape:
            raise ValueError(
                f"mean and std must have shape {tuple(self.mean.shape)}, "
                f"got {tuple(new_mean.shape)} and {tuple(new_std.shape)}"
            )
        if not (bool(torch.isfinite(new_mean).all()) and bool(((new_std > 0) & new_std.isfinite()).all())):
            raise ValueError(
                f"mean must be finite and std positive, got {new_mean.tolist()}, {new_std.tolist()}"
            )
        self.mean.copy_(new_mean)
        self.std.copy_(new_std)


class LinearHead(Network):
    """Softmax regression on given features: x is float (N, D), tap "fully connected" is x itself."""

    def __init__(self, num_classes: int, in_features: int) -> None:
        ones = [1.0] * in_features
        super().__init__(
            num_classes, image_size=0, taps=(FULLY_CONNECTED,), mean=[0.0] * in_features, std=ones
        )
        self.head = nn.Linear(in_features, num_classes)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the input as the tap "fully connected", and the logits."""
        return {FULLY_CONNECTED: x, "logits": self.head(x)}


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and the parameter-free shortcut, option A of He et al. 2016, section 4.2."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.padding:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class _CifarResNet(Network):
    """ResNet with 6n + 2 layers for 32x32 images: He et al. 2016, section 4.2. Tap: the pooled 64-vector."""

    def __init__(self, num_classes: int, image_size: int, *, depth: int) -> None:
        super().__init__(num_classes, image_size=image_size, taps=(LAST_CONVOLUTION,))
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        widths = [16] + [width for width in (16, 32, 64) for _ in range((depth - 2) // 6)]
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.Sequential(*(_BasicBlock(a, b, stride=1 if a == b else 2) for a, b in pairs))
        self.head = nn.Linear(64, num_classes)
        _kaiming(self)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        pooled = self.blocks(F.relu(self.bn(self.conv(x)))).mean((2, 3))
        return {LAST_CONVOLUTION: pooled, "logits": self.head(pooled)}


class _SmallCNN(Network):
    """Five Conv+BN+ReLU, global average pooling, FC-128 + ReLU, classifier: a net for two CPU cores."""

    def __init__(self, num_classes: int, image_size: int, *, dropout: float | None = None) -> None:
        super().__init__(num_classes, image_size=image_size, taps=(LAST_CONVOLUTION, FULLY_CONNECTED))
        layers: list[nn.Module] = []
        before = 3
        for channels, stride in ((32, 1), (48, 2), (48, 1), (96, 2), (96, 1)):
            convolution = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            before = channels
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(before, 128)
        self.dropout = nn.Dropout(0.0 if dropout is None else dropout)
        self.head = nn.Linear(128, num_classes)
        _kaiming(self)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        pooled = self.body(x).mean((2, 3))
        hidden = F.relu(self.fc(pooled))
        return {LAST_CONVOLUTION: pooled, FULLY_CONNECTED: hidden, "logits": self.head(self.dropout(hidden))}


class _AllCNN(Network):
    """All-CNN as printed in Zhang et al. 2018, Table IV: Conv+ReLU+BN in that order, the last one too.

    The tap is the last 6x6xK map after its batch normalisation, flattened (360 values for K = 10); the
    logits are its maxima. `dropout` replaces both rates of .5; the input's rate is a fifth of it, as printed.
    """

    def __init__(self, num_classes: int, image_size: int, *, dropout: float | None = None) -> None:
        super().__init__(num_classes, image_size=image_size, taps=(LAST_CONVOLUTION,))
        rate = 0.5 if dropout is None else dropout

        def unit(
            before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 1
        ) -> nn.Sequential:
            convolution = nn.Conv2d(before, after, kernel, stride, padding)
            return nn.Sequential(convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(after))

        self.body = nn.Sequential(
            nn.Dropout(rate / 5),
            *(unit(3, 96), unit(96, 96), unit(96, 96, stride=2)),
            nn.Dropout(rate),
            *(unit(96, 192), unit(192, 192), unit(192, 192, stride=2)),
            nn.Dropout(rate),
            unit(192, 192, padding=0),
            unit(192, 192, kernel=1, padding=0),
        )
        self.last = unit(192, num_classes, kernel=1, padding=0)
        _kaiming(self)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        scores = self.last(self.body(x))
        return {LAST_CONVOLUTION: scores, "logits": scores.amax((2, 3))}

    def classifier(self) -> nn.Module:
        return self.last[0]


class _VGG(Network):
    """VGG with the head of Zhang et al. 2018, Table III: fc6 as a 7x7 convolution to 4096.

    Both taps are read after the ReLU and before the dropout. At 224 pixels the adaptive pooling is the
    identity; it lets smaller images through, as torchvision's own VGG does.
    """

    def __init__(
        self, num_classes: int, image_size: int, *, architecture: str, dropout: float | None = None
    ) -> None:
        taps = (LAST_CONVOLUTION, FULLY_CONNECTED)
        super().__init__(num_classes, image_size=image_size, taps=taps, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        self.body = _vgg_body(architecture)
        self.pool = nn.AdaptiveAvgPool2d(7)
        # skip_init: the draws of PyTorch's default would be thrown away, 120 million of them.
        self.fc6 = nn.utils.skip_init(nn.Conv2d, 512, 4096, 7)
        self.fc7 = nn.utils.skip_init(nn.Linear, 4096, 4096)
        self.dropout = nn.Dropout(0.5 if dropout is None else dropout)
        self.head = nn.Linear(4096, num_classes)
        for layer in (self.fc6, self.fc7, self.head):
            nn.init.normal_(layer.weight, 0.0, 0.01)  # as torchvision initialises these layers
            nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        convolved = F.relu(self.fc6(self.pool(self.body(x)))).flatten(1)
        hidden = F.relu(self.fc7(self.dropout(convolved)))
        logits = self.head(self.dropout(hidden))
        return {LAST_CONVOLUTION: convolved, FULLY_CONNECTED: hidden, "logits": logits}

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        renamed = _rename(
            state, {"features": "body", "classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "head"}
        )
        fc6 = renamed.get("fc6.weight")
        if fc6 is not None and fc6.shape == (4096, 512 * 7 * 7):
            renamed["fc6.weight"] = fc6.view(4096, 512, 7, 7)
        _load_state(self, renamed, ("head",), source)


class _ResNet34(Network):
    """torchvision's ResNet-34. Tap: the pooled 512-vector."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__(
            num_classes, image_size=image_size, taps=(LAST_CONVOLUTION,), mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
        self.body = torchvision.models.resnet34(num_classes=num_classes)
        self.head = self.body.fc
        self.body.fc = nn.Identity()

    def features(self, x: Tensor) -> dict[str, Tensor]:
        pooled = self.body(x)
        return {LAST_CONVOLUTION: pooled, "logits": self.head(pooled)}

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        body = {key if key.startswith("fc.") else f"body.{key}": value for key, value in state.items()}
        _load_state(self, _rename(body, {"fc": "head"}), ("head",), source)


class _TimmNetwork(Network):
    """Any timm classifier. Taps: the last feature map, flattened, and the vector the classifier reads."""

    def __init__(self, body: nn.Module, num_classes: int, image_size: int) -> None:
        config: Mapping[str, Any] = body.default_cfg  # type: ignore[assignment]
        taps = (LAST_CONVOLUTION, FULLY_CONNECTED)
        super().__init__(
            num_classes, image_size=image_size, taps=taps, mean=config["mean"], std=config["std"]
        )
        self.body: Any = body

    def features(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body.forward_features(x)
        vector = self.body.forward_head(maps, pre_logits=True)
        return {LAST_CONVOLUTION: maps, FULLY_CONNECTED: vector, "logits": self.body.forward_head(maps)}

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def classifier(self) -> nn.Module:
        return self.body.get_classifier()

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        heads = self.body.default_cfg["classifier"]
        _load_state(self.body, state, (heads,) if isinstance(heads, str) else tuple(heads), source)


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., Network]
    image_size: int
    smallest: int
    has_dropout: bool
    weights: Any = None


_ENTRIES: dict[str, _Entry] = {
    "resnet20": _Entry(lambda *a: _CifarResNet(*a, depth=20), 32, 4, False),
    "resnet32": _Entry(lambda *a: _CifarResNet(*a, depth=32), 32, 4, False),
    "small_cnn": _Entry(_SmallCNN, 32, 4, True),
    "all_cnn": _Entry(_AllCNN, 32, 9, True),
    "vgg16": _Entry(
        lambda *a, **k: _VGG(*a, architecture="vgg16", **k), 224, 32, True, VGG16_Weights.DEFAULT
    ),
    "vgg19": _Entry(
        lambda *a, **k: _VGG(*a, architecture="vgg19", **k), 224, 32, True, VGG19_Weights.DEFAULT
    ),
    "resnet34": _Entry(_ResNet34, 224, 32, False, ResNet34_Weights.DEFAULT),
}


def list_models() -> list[str]:
    """Return the names that `build_model` knows, sorted; ``timm:NAME`` comes in addition."""
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
        One of `list_models`, or ``timm:NAME`` (extra ``timm``).
    num_classes : int
        Number of classes K, at least 2.
    pretrained : bool, default=False
        Start from ImageNet weights: ``<data root>/weights/<file>`` if it is there, else a download. The
        classifier is loaded only when its number of classes is K.
    image_size : int, optional
        Side in pixels to which the batch pipeline resizes. Default: 32 for the CIFAR networks, 224 for
        torchvision's, timm's own for ``timm:NAME``.
    root : path, optional
        Data root; see `imbal_core.datasets.data_root`.
    dropout : float, optional
        Dropout rate in [0, 1) in place of the network's own.
    in_features : int, optional
        Width D of the features, for ``linear`` only.

    Raises
    ------
    ValueError
        If a name is unknown or an option does not fit the network.
    ImportError
        If ``timm:NAME`` is asked for and timm is not installed.
    WeightsError
        If pretrained weights are neither found nor downloaded, or the file is not of this network.
    """
    _check_options(num_classes, image_size, dropout)
    if (in_features is not None) != (name == "linear"):
        raise ValueError(f"in_features is for 'linear', which needs it; got {in_features} for {name!r}")
    if name == "linear":
        _refuse(name, "dropout", dropout is not None)
        _refuse(name, "image_size", image_size is not None)
        _refuse(name, "pretrained weights", pretrained)
        if in_features is None or in_features < 1:
            raise ValueError(f"in_features must be at least 1, got {in_features}")
        network: Network = LinearHead(num_classes, in_features)
    elif name.startswith("timm:"):
        network = _build_timm(name, num_classes, image_size, dropout)
    elif name in _ENTRIES:
        entry = _ENTRIES[name]
        _refuse(name, "pretrained weights", pretrained and entry.weights is None)
        _refuse(name, "dropout", dropout is not None and not entry.has_dropout)
        size = entry.image_size if image_size is None else image_size
        if size < entry.smallest:
            raise ValueError(f"{name} needs image_size >= {entry.smallest} pixels, got {size}")
        network = entry.build(num_classes, size, **({"dropout": dropout} if entry.has_dropout else {}))
    else:
        raise unknown_name("model", name, [*list_models(), "timm:NAME"])
    network.name = name
    if pretrained:
        source = find_weights(name, root) or _download(name, data_root(root) / "weights")
        network.load_pretrained(_read_weights(source), source)
        network.fixed_normalisation = True
    return network


def find_weights(name: str, root: Path | str | None = None) -> Path | None:
    """Return the file under ``<data root>/weights`` that holds a model's weights, None if none is there."""
    folder = data_root(root) / "weights"
    if name.startswith("timm:"):
        names = [f"{name.removeprefix('timm:')}.safetensors"]
    elif name in _ENTRIES and _ENTRIES[name].weights is not None:
        published = Path(_ENTRIES[name].weights.url)
        names = [published.name, f"{published.stem}.safetensors"]
    else:
        names = []
    return next((folder / file for file in names if (folder / file).is_file()), None)


def _check_options(num_classes: int, image_size: int | None, dropout: float | None) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be a positive number of pixels, got {image_size}")
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")


def _refuse(name: str, option: str, given: bool) -> None:
    if given:
        raise ValueError(f"{name!r} has no {option}: leave the option at its default, or take another model")


def _kaiming(module: nn.Module) -> None:
    """Draw convolution and linear weights from He's normal distribution (fan in), biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _vgg_body(architecture: str) -> nn.Sequential:
    with torch.device("meta"):
        shape_only = getattr(torchvision.models, architecture)(init_weights=False)
    body: nn.Sequential = shape_only.features.to_empty(device="cpu")
    for layer in body:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return body


def _import_timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f"{name!r} needs timm, which is an extra: pip install 'imbal-core[timm]'"
        ) from error
    return timm


def _build_timm(name: str, num_classes: int, image_size: int | None, dropout: float | None) -> Network:
    timm = _import_timm(name)
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
    return _TimmNetwork(body, num_classes, own_size if image_size is None else image_size)


def _download(name: str, folder: Path) -> Path:
    """Download a model's weights into `folder`; the next run, or a machine without network, finds them."""
    if name.startswith("timm:"):
        file, address = f"{name.removeprefix('timm:')}.safetensors", "https://huggingface.co/timm"
    else:
        address = _ENTRIES[name].weights.url
        file = address.rsplit("/", 1)[-1]
    target = folder / file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if name.startswith("timm:"):
            _save_timm_weights(name, target)
        else:
            prefix = target.stem.rsplit("-", 1)[-1]
            torch.hub.download_url_to_file(address, str(target), hash_prefix=prefix, progress=False)
    except Exception as error:  # the hub clients raise classes of their own for the same lost network
        raise WeightsError(
            f"the weights of {name!r} are not in {folder} and could not be downloaded from {address} "
            f"({type(error).__name__}: {error}). Put the file {file} into {folder} and start again."
        ) from error
    return target


def _save_timm_weights(name: str, target: Path) -> None:
    timm = _import_timm(name)
    with torch.random.fork_rng(devices=[]):  # a download must not change the caller's random numbers
        state = timm.create_model(name.removeprefix("timm:"), pretrained=True).state_dict()
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        save_file({key: value.contiguous() for key, value in state.items()}, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _read_weights(source: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file, in its own precision; no code in the file is ever run."""
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        state = torch.load(source, map_location="cpu", weights_only=True)
        if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
            raise TypeError("not a dictionary of tensors")
        return state
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, *_READ_ERRORS) as error:
        raise WeightsError(
            f"{source} cannot be read as a file of weights ({type(error).__name__}): it is damaged or of "
            "another kind. Delete it to download it again, or replace it."
        ) from error


def _rename(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        old = next((prefix for prefix in prefixes if key.startswith(f"{prefix}.")), None)
        renamed[key if old is None else prefixes[old] + key.removeprefix(old)] = value
    return renamed


def _load_state(module: nn.Module, state: Mapping[str, Tensor], heads: tuple[str, ...], source: Path) -> None:
    """Load `state` into `module`; a classifier (key under one of `heads`) of another shape is left out."""
    own = module.state_dict()
    heads = tuple(f"{head}." for head in heads)
    kept = {
        key: value
        for key, value in state.items()
        if not (key.startswith(heads) and key in own and own[key].shape != value.shape)
    }
    # Not in every file: a counter that PyTorch has had since 0.4.1, a classifier, this package's two buffers.
    optional = {"mean", "std", *(key for key in own if key.startswith(heads) or key.endswith("_tracked"))}
    missing = [key for key in own if key not in kept and key not in optional]
    wrong = [key for key, value in kept.items() if key not in own or own[key].shape != value.shape]
    if missing or wrong:
        raise WeightsError(
            f"{source} holds the weights of another network: {len(missing)} tensors are missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(wrong)} do not fit "
            f"({', '.join(wrong[:3]) or 'none'}). Put the file of the right network there."
        )
    module.load_state_dict(kept, strict=False)  # copies, so half precision becomes float32
