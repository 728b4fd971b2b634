"""The base class of all networks: a classifier whose inner features are read by name.

A tap is a layer whose output is a feature vector: "last convolution" (readout C of the category centers) or "fully
connected" (readout F). The logits are readout D, so one trained network gives all three. A batch normalisation of the
logits (`imbal_core.models.heads.add_final_batch_norm`) comes after all of these; what it reads can be read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from imbal_core._checks.names import unknown_name

LAST_CONVOLUTION = "last convolution"
FULLY_CONNECTED = "fully connected"
#: What a final batch norm reads: the logits that the network gives without that layer.
LOGITS_BEFORE_FINAL_BATCH_NORM = "logits before final batch norm"


class Network(nn.Module):
    """A classifier whose inner features can be read by name.

    Attributes
    ----------
    name : str
        The name that `build_model` was given.
    num_classes : int
        Number of classes K.
    image_size : int
        Side S in pixels that the network wants; the batch pipeline resizes to it. 0: inputs are not images.
    taps : tuple of str
        Names of the feature taps.
    mean, std : Tensor
        Per channel, of inputs scaled to [0, 1]; float32 buffers. The caller normalises with them; `forward` does not.
    embedding_tap : str or None
        Name of the tap that the classifier reads, dropout between them aside; None if there is no such tap.
    final_batch_norm : Module or None
        What normalises the logits over the batch, where `imbal_core.models.heads.add_final_batch_norm` added it.
    fixed_normalisation : bool
        True when pretrained weights fix `mean` and `std`.
    """

    mean: Tensor
    std: Tensor
    head: nn.Module
    final_batch_norm: nn.Module | None

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
        self.embedding_tap: str | None = self.taps[-1]
        self.fixed_normalisation = False
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.register_module("final_batch_norm", None)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return every tap, not flattened, and "logits" (N, K) of a normalised batch.

        Each architecture defines it; logits are those before a final batch norm. `forward_taps` reads features.
        """
        raise NotImplementedError

    def architecture_logits(self, x: Tensor) -> Tensor:
        """Return the logits of `features`, shape (N, K), for an architecture with a shorter way to them."""
        return self.features(x)["logits"]

    def classifier(self) -> nn.Module:
        """Return the last linear layer or convolution; it has K outputs."""
        return self.head

    def load_pretrained(self, state: Mapping[str, Tensor], source: Path) -> None:
        """Load the published weights of this architecture, read from the file `source`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, shape (N, K), of a normalised float batch of shape (N, 3, S, S)."""
        logits = self.architecture_logits(x)
        return logits if self.final_batch_norm is None else self.final_batch_norm(logits)

    def forward_taps(self, x: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the named features, each flattened to (N, D), and "logits" (N, K), from one forward pass.

        x is a normalised batch (N, 3, S, S). Without names all of `taps` are returned. A network with a final batch
        norm also has `LOGITS_BEFORE_FINAL_BATCH_NORM`, its logits without that layer. An unknown tap is a ValueError.
        """
        norm = self.final_batch_norm
        known = self.taps if norm is None else (*self.taps, LOGITS_BEFORE_FINAL_BATCH_NORM)
        wanted = self.taps if names is None else tuple(names)
        for name in wanted:
            if name not in (*known, "logits"):
                raise unknown_name(f"feature tap of {self.name}", name, known)
        features = self.features(x)
        if norm is not None:
            before = features["logits"]
            features = {**features, LOGITS_BEFORE_FINAL_BATCH_NORM: before, "logits": norm(before)}
        return {name: features[name].flatten(1) for name in dict.fromkeys((*wanted, "logits"))}

    def set_normalisation(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        """Set the channel means and standard deviations of the training images, in units of [0, 1].

        A ValueError if pretrained weights fix them, a shape is wrong, or a deviation is not positive.
        """
        if self.fixed_normalisation:
            raise ValueError(f"{self.name} is pretrained: its weights fix mean and std, leave them")
        new_mean, new_std = (torch.as_tensor(value, dtype=torch.float32) for value in (mean, std))
        if new_mean.shape != self.mean.shape or new_std.shape != self.std.shape:
            raise ValueError(
                f"mean and std must have shape {tuple(self.mean.shape)}, "
                f"got {tuple(new_mean.shape)} and {tuple(new_std.shape)}"
            )
        if not (bool(torch.isfinite(new_mean).all()) and bool(((new_std > 0) & new_std.isfinite()).all())):
            raise ValueError(f"need finite mean, positive std, got {new_mean.tolist()}, {new_std.tolist()}")
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
