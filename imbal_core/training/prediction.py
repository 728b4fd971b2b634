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

__all__ = ["Inputs", "default_device", "device_label", "iter_predict", "predict"]

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
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    device = default_device() if device is None else torch.device(device)
    network.to(device)
    for start in range(0, len(inputs), batch_size):
        batch = as_tensor(inputs[start : start + batch_size]).to(device)
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
    network : Network
        Moved to ``device``; its train or evaluation mode is left as it was.
    inputs : array or Tensor
        Images, uint8 (N, H, W, 3), or features, floating (N, D).
    taps : sequence of str, default=()
        Names from ``network.taps``.
    batch_size : int, default=500
        Images at a time.
    precision : {"fp32", "bf16"}, default="fp32"
        bf16 is autocast.
    device : torch.device or str, optional
        Default: `default_device`.

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
        images = input_pipeline(network, batch)(batch)
        with autocast(batch.device, precision):
            if taps:
                return network.forward_taps(images, tuple(taps))  # type: ignore[operator]
            return {"logits": network(images)}
    finally:
        network.train(training)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network computes in that precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def as_tensor(inputs: Inputs) -> Tensor:
    """Return images as a channels-first view of their bytes, features as float32."""
    # A copy, since a read-only array (a memory map) must not be shared with torch.
    tensor = torch.tensor(inputs) if isinstance(inputs, np.ndarray) else inputs.detach()
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
