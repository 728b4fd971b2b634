"""A saved model as one ONNX file, for programs without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbal_book.compare.pipeline import Pipeline
from imbal_core._checks.files import write_atomically
from imbal_core.training.prediction import input_pipeline

__all__ = ["TOLERANCE", "write_onnx"]

#: Largest difference between ONNX Runtime and PyTorch with which a file is written: of probabilities, and of logits as
#: a part of the largest, for probabilities near 0 and 1 hide an error.
TOLERANCE = 1e-4


class _Whole(nn.Module):
    """All of a pipeline in float32: from uint8 images (N, S, S, 3) to probabilities and logits (N, K)."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self.network = pipeline.network.cpu()
        self.tap = self.network.embedding_tap or self.network.taps[-1]
        self.weight = nn.Parameter(torch.from_numpy(pipeline.weight / np.float32(pipeline.temperature)))
        self.bias = nn.Parameter(torch.from_numpy(pipeline.bias / np.float32(pipeline.temperature)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2)
        features = self.network.forward_taps(input_pipeline(self.network, pixels)(pixels), (self.tap,))
        logits = F.normalize(features[self.tap]) @ self.weight + self.bias
        return logits.softmax(1), logits


def write_onnx(pipeline: Pipeline, path: Path) -> float:
    """Write a pipeline as ONNX, and return by how much it differs from PyTorch at most, see `TOLERANCE`.

    The file reads ``images``, uint8 (N, S, S, 3) with S the network's ``image_size``, and gives ``probabilities``,
    float32 (N, K), and ``logits``; its metadata has ``classes``, a JSON list of the K names. It computes in float32
    throughout, where `Pipeline` rounds features to float16, so the two differ from about the third decimal on.

    Raises
    ------
    ImportError
        If the extra ``onnx`` is not installed.
    RuntimeError
        If ONNX Runtime and PyTorch differ by more than `TOLERANCE` on drawn images; no file is written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise ImportError(
            f"ONNX export needs {error.name}, which is an extra: pip install 'imbal-core[onnx]'"
        ) from error
    whole, side = _Whole(pipeline).eval(), pipeline.network.image_size
    drawn = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    images = torch.from_numpy(drawn)
    program = torch.onnx.export(
        whole,
        (images[:2],),
        input_names=["images"],
        output_names=["probabilities", "logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "torch's newer exporter returns what it made"
    model = program.model_proto
    onnx.helper.set_model_props(model, {"classes": json.dumps(pipeline.classes, ensure_ascii=False)})
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for part in (drawn[:1], drawn):
        with torch.no_grad():
            expected = [output.numpy() for output in whole(torch.from_numpy(part))]
        for ours, theirs in zip(session.run(None, {"images": part}), expected, strict=True):
            largest = max(largest, float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max())))
    if largest > TOLERANCE:
        raise RuntimeError(
            f"ONNX Runtime and PyTorch differ by {largest:.1e} on drawn images, more than {TOLERANCE:.0e}: no file "
            "was written; try other versions of onnx, onnxscript and onnxruntime"
        )
    write_atomically(path, content)
    return largest
