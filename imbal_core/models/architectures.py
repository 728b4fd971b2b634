"""The architectures: networks for small images, those of torchvision with feature taps, and any of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imbal_core.models.networks import FULLY_CONNECTED, LAST_CONVOLUTION, Network
from imbal_core.models.weights import load_state, rename_keys

IMAGENET: dict[str, Sequence[float]] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


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


class CifarResNet(Network):
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
        """Return the pooled last map (N, 64), and the logits."""
        pooled = self.blocks(F.relu(self.bn(self.conv(x)))).mean((2, 3))
        return {LAST_CONVOLUTION: pooled, "logits": self.head(pooled)}


class SmallCNN(Network):
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
        """Return the pooled last map (N, 96), the hidden vector (N, 128), and the logits."""
        pooled = self.body(x).mean((2, 3))
        hidden = F.relu(self.fc(pooled))
        return {LAST_CONVOLUTION: pooled, FULLY_CONNECTED: hidden, "logits": self.head(self.dropout(hidden))}


class AllCNN(Network):
    """All-CNN as printed in Zhang et al. 2018, Table IV: Conv+ReLU+BN in that order, the last one too.

    The tap is the last 6x6xK map after its batch normalisation, flattened (360 values for K = 10); the
    logits are its maxima. `dropout` replaces both rates of .5; the input's rate is a fifth of it, as printed.
    """

    def __init__(self, num_classes: int, image_size: int, *, dropout: float | None = None) -> None:
        super().__init__(num_classes, image_size=image_size, taps=(LAST_CONVOLUTION,))
        self.embedding_tap = None
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
        """Return the last map (N, K, 6, 6 at 32 pixels), and the logits."""
        scores = self.last(self.body(x))
        return {LAST_CONVOLUTION: scores, "logits": scores.amax((2, 3))}

    def classifier(self) -> nn.Module:
        """Return the last convolution, 1x1 with K outputs."""
        return self.last[0]


class VGG(Network):
    """VGG with the head of Zhang et al. 2018, Table III: fc6 as a 7x7 convolution to 4096.

    Both taps are read after the ReLU and before the dropout. At 224 pixels the adaptive pooling is the
    identity; it lets smaller images through, as torchvision's own VGG does.
    """

    def __init__(
        self, num_classes: int, image_size: int, *, architecture: str, dropout: float | None = None
    ) -> None:
        taps = (LAST_CONVOLUTION, FULLY_CONNECTED)
        super().__init__(num_classes, image_size=image_size, taps=taps, **IMAGENET)
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
        """Return fc6 and fc7 after the ReLU, (N, 4096) each, and the logits."""
        convolved = F.relu(self.fc6(self.pool(self.body(x)))).flatten(1)
        hidden = F.relu(self.fc7(self.dropout(convolved)))
        logits = self.head(self.dropout(hidden))
        return {LAST_CONVOLUTION: convolved, FULLY_CONNECTED: hidden, "logits": logits}

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        """Load torchvision's weights; its fully connected fc6 becomes the 7x7 convolution."""
        renamed = rename_keys(
            state, {"features": "body", "classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "head"}
        )
        fc6 = renamed.get("fc6.weight")
        if fc6 is not None and fc6.shape == (4096, 512 * 7 * 7):
            renamed["fc6.weight"] = fc6.view(4096, 512, 7, 7)
        load_state(self, renamed, ("head",), source)


class ResNet34(Network):
    """torchvision's ResNet-34. Tap: the pooled 512-vector."""

    normalisation: ClassVar[dict[str, Sequence[float]]] = IMAGENET

    def __init__(self, num_classes: int, image_size: int) -> None:
        from torchvision.models import resnet34  # here: it takes seconds, which a page without networks saves

        super().__init__(num_classes, image_size=image_size, taps=(LAST_CONVOLUTION,), **self.normalisation)
        self.body = resnet34(num_classes=num_classes)
        self.head = self.body.fc
        self.body.fc = nn.Identity()

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the pooled last map (N, 512), and the logits."""
        pooled = self.body(x)
        return {LAST_CONVOLUTION: pooled, "logits": self.head(pooled)}

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        """Load torchvision's weights."""
        body = {key if key.startswith("fc.") else f"body.{key}": value for key, value in state.items()}
        load_state(self, rename_keys(body, {"fc": "head"}), ("head",), source)


class SmallImageResNet34(ResNet34):
    """ResNet-34 for images of 32 pixels: a 3x3 stem with stride 1 and no pooling after it (21.3 M for K = 10).

    The form of Kim et al. 2021, repository Complement-Cross-Entropy, ``resnet_for_tiny.py``.
    """

    normalisation: ClassVar[dict[str, Sequence[float]]] = {}

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__(num_classes, image_size)
        self.body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.body.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.body.maxpool = nn.Identity()


class TimmNetwork(Network):
    """Any timm classifier. Taps: the last feature map, flattened, and the vector the classifier reads.

    `embedding_tap` is None where timm's classifier is not one linear layer. A few networks (VOLO) add a second
    head to a linear classifier; their logits are more than the classifier gives for that tap.
    """

    def __init__(self, body: nn.Module, num_classes: int, image_size: int) -> None:
        config: Mapping[str, Any] = body.default_cfg  # type: ignore[assignment]
        taps = (LAST_CONVOLUTION, FULLY_CONNECTED)
        super().__init__(
            num_classes, image_size=image_size, taps=taps, mean=config["mean"], std=config["std"]
        )
        self.body: Any = body
        self.embedding_tap = FULLY_CONNECTED if isinstance(self.classifier(), nn.Linear) else None

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the last map, the vector that the classifier reads, and the logits."""
        maps = self.body.forward_features(x)
        vector = self.body.forward_head(maps, pre_logits=True)
        return {LAST_CONVOLUTION: maps, FULLY_CONNECTED: vector, "logits": self.body.forward_head(maps)}

    def architecture_logits(self, x: Tensor) -> Tensor:
        """Return the logits, as timm's own forward pass computes them."""
        return self.body(x)

    def classifier(self) -> nn.Module:
        """Return timm's own classifier."""
        return self.body.get_classifier()

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        """Load timm's weights."""
        heads = self.body.default_cfg["classifier"]
        load_state(self.body, state, (heads,) if isinstance(heads, str) else tuple(heads), source)


def _kaiming(module: nn.Module) -> None:
    """Draw convolution and linear weights from He's normal distribution (fan in), biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _vgg_body(architecture: str) -> nn.Sequential:
    from torchvision import models

    with torch.device("meta"):
        shape_only = getattr(models, architecture)(init_weights=False)
    body: nn.Sequential = shape_only.features.to_empty(device="cpu")
    for layer in body:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return body
