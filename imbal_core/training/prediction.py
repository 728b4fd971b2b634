"""Prediction in batches, and the one way from stored bytes to what a network reads."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbal_core._checks.fields import whole_number
from imbal_core._checks.names import unknown_name
from imbal_core.models.heads import last_linear
from imbal_core.models.networks import FULLY_CONNECTED

Inputs = np.ndarray | Tensor


def default_device() -> torch.device:
    """Return the CUDA device when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_label(device: torch.device | str) -> str:
    """Return the name of the processor or accelerator, such as ``"NVIDIA H100"``; never the host's."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} ({device.type})"


def iter_predict(
    network: nn.Module,
    inputs: Inputs,
    *,
    taps: Sequence[str] = (),
    batch_size: int = 500,
    precision: str = "fp32",
    device: torch.device | str | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Yield what `predict` returns, one batch after the other, for data that fits no memory at once."""
    whole_number("batch_size", batch_size, 1)
    device = default_device() if device is None else torch.device(device)
    network.to(device)
    for start in range(0, len(inputs), batch_size):
        batch = as_tensor(inputs[start : start + batch_size], own=_is_own(network)).to(device)
        outputs = forward_batch(network, batch, taps, precision)
        yield {name: value.float().cpu() for name, value in outputs.items()}


def predict(
    network: nn.Module,
    inputs: Inputs,
    *,
    taps: Sequence[str] = (),
    batch_size: int = 500,
    precision: str = "fp32",
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """Return logits, and features where asked for, without dropout and with fixed batch statistics.

    Parameters
    ----------
    network : Network or torch.nn.Module
        Moved to ``device``, by default `default_device`; its train or evaluation mode is left as it was. Any module
        with logits (N, K) will do.
    inputs : array or Tensor
        Images, uint8 (N, H, W, 3), or features, floating (N, D). A module that `imbal_core.build_model` did not make
        knows no normalisation: give it what it reads, floating (N, ...).
    taps : sequence of str, default=()
        Names from ``network.taps``; of any other module "fully connected", what its last `torch.nn.Linear` reads.
    precision : {"fp32", "bf16"}, default="fp32"
        bf16 is autocast.

    Returns
    -------
    dict of str to Tensor
        ``"logits"``, float32 (N, K), and each tap, float32 (N, D); on the CPU.

    Raises
    ------
    ValueError
        No inputs, or inputs of another shape or type; an unknown tap.

    Examples
    --------
    >>> from imbal_core import build_model, load_dataset
    >>> network = build_model("small_cnn", num_classes=10, image_size=16)
    >>> predict(network, load_dataset("mnist5k", "test").images[:2])["logits"].shape
    torch.Size([2, 10])

    A network of torchvision, and images as its own transform gives them:

    >>> import torchvision
    >>> out = predict(torchvision.models.resnet18(num_classes=5), torch.zeros(2, 3, 64, 64), taps=["fully connected"])
    >>> {name: tuple(value.shape) for name, value in out.items()}
    {'fully connected': (2, 512), 'logits': (2, 5)}
    """
    batches = list(
        iter_predict(network, inputs, taps=taps, batch_size=batch_size, precision=precision, device=device)
    )
    if not batches:
        raise ValueError("nothing to predict: inputs are empty.")
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@torch.no_grad()
def forward_batch(
    network: nn.Module, batch: Tensor, taps: Sequence[str], precision: str
) -> dict[str, Tensor]:
    """Return logits and taps of one resident batch, in evaluation mode."""
    training = network.training
    network.eval()
    try:
        if not _is_own(network):
            with autocast(batch.device, precision):
                return _forward_any(network, batch, taps)
        images = input_pipeline(network, batch)(batch)
        with autocast(batch.device, precision):
            if taps:
                return network.forward_taps(images, tuple(taps))  # type: ignore[operator]
            return {"logits": network(images)}
    finally:
        network.train(training)


def _is_own(network: nn.Module) -> bool:
    """Return whether the network knows the size and normalisation of its images, or its taps."""
    return hasattr(network, "image_size") or hasattr(network, "taps")


def _forward_any(network: nn.Module, batch: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
    """Return the logits of any module, and what its last linear layer reads if that is asked for."""
    for name in taps:
        if name not in (FULLY_CONNECTED, "logits"):
            raise unknown_name(f"feature tap of {type(network).__name__}", name, [FULLY_CONNECTED])
    found: dict[str, Tensor] = {}
    watch = None
    if FULLY_CONNECTED in taps:
        watch = last_linear(network).register_forward_pre_hook(
            lambda _, given: found.update({FULLY_CONNECTED: given[0].flatten(1)})
        )
    try:
        logits = network(batch)
    finally:
        if watch is not None:
            watch.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{type(network).__name__} must give logits of shape (N, K), it gave {shape}.")
    return {**found, "logits": logits}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network computes in that precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def as_tensor(inputs: Inputs, *, own: bool = True) -> Tensor:
    """Return images as a channels-first view of their bytes, features as float32.

    For a network that is not the library's `own`, anything floating as it is.
    """
    # A copy, since a read-only array (a memory map) must not be shared with torch.
    tensor = torch.tensor(inputs) if isinstance(inputs, np.ndarray) else inputs.detach()
    if not own:
        if tensor.ndim < 2 or not tensor.is_floating_point():
            raise ValueError(
                "a network that build_model did not make reads what its own transform gives, floating of shape "
                f"(N, ...): got {tensor.dtype} of shape {tuple(tensor.shape)}."
            )
        return tensor.float()
    if tensor.ndim == 4 and tensor.dtype == torch.uint8 and tensor.shape[-1] == 3:
        return tensor.permute(0, 3, 1, 2)
    if tensor.ndim == 2 and tensor.is_floating_point():
        return tensor.float()
    found = f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
    raise ValueError(f"inputs must be uint8 images (N, H, W, 3) or floating features (N, D), {found}.")


def input_pipeline(network: nn.Module, example: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a resident batch to what the network reads."""
    if example.ndim == 2:
        return lambda batch: batch
    side = int(network.image_size)  # type: ignore[arg-type]
    mean, std = (b.detach().view(1, 3, 1, 1) for b in (network.mean, network.std))  # type: ignore[operator]
    scale, shift = 1 / (255 * std), -mean / std

    def prepare(batch: Tensor) -> Tensor:
        images = batch.float().mul_(scale).add_(shift)
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=False)
        return images

    return prepare
