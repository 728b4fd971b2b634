"""A fitted model to take home: one folder with the network, its head and what is needed to use both, without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save
from scipy.special import softmax
from torch import Tensor

from imbal_book.compare.features import read_features
from imbal_book.compare.script import plain_script
from imbal_book.heads.side_by_side import unit_rows
from imbal_core._checks.files import read_json, regular, write_atomically
from imbal_core._checks.forms import check_form
from imbal_core.data.image_folders import visible_files
from imbal_core.models.build import build_model
from imbal_core.models.networks import Network
from imbal_core.training.prediction import predict

__all__ = ["Pipeline", "PipelineError", "load_pipeline", "predict_folder"]

TENSORS, DESCRIPTION, SCRIPT, FORMAT = "model.safetensors", "pipeline.json", "predict.py", 1
#: What a description is made of, beside what is only shown.
_FORM = {
    "backbone": str,
    "image_size": range(1, 4097),
    "classes": [str],
    "temperature": float,
    "least_similar": float,
}
#: Training images that "unlike the training images" is measured against.
REFERENCES = 2000


class PipelineError(ValueError):
    """A saved model cannot be read; the message says which file and what to do."""


@dataclass
class Pipeline:
    """A frozen network and a linear head on its unit-length features.

    Attributes
    ----------
    network : Network
    weight, bias : ndarray of shape (D, K) and (K,), float32
        The head, any adjustment after training included.
    temperature : float
        What logits are divided by before the softmax.
    references : ndarray of shape (M, D), float16
        Unit-length features of training images.
    least_similar : float
        An image whose largest cosine with `references` is below this is unlike the training images.
    description : dict
        Plain values: classes, remedy, counts, versions, ...
    """

    network: Network
    weight: np.ndarray
    bias: np.ndarray
    temperature: float
    references: np.ndarray
    least_similar: float
    description: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the columns of `predict_proba`."""
        return list(self.description["classes"])

    def predict_proba(self, images: np.ndarray | Sequence[Path | str]) -> np.ndarray:
        """Return probabilities, float64 (N, K), of uint8 images (N, H, W, 3) or of image files.

        Raises
        ------
        PipelineError
            If a file cannot be read as an image.
        """
        return self._probabilities(self._features(images))

    def predict(self, images: np.ndarray | Sequence[Path | str]) -> np.ndarray:
        """Return class names, shape (N,), of what `predict_proba` takes."""
        return np.array(self.classes)[self.predict_proba(images).argmax(1)]

    def table(self, features: np.ndarray, names: Iterable[str]) -> pd.DataFrame:
        """Return a row per image: file, label, unlike_training, and the probability of each class, to 6 decimals.

        Parameters
        ----------
        features : ndarray of shape (N, D), float16
            Of the images, as `read_features` gives them.
        names : iterable of str
        """
        found = self._probabilities(features)
        frame = pd.DataFrame({"file": list(names), "label": np.array(self.classes)[found.argmax(1)]})
        frame["unlike_training"] = self.similarity(features) < self.least_similar
        columns = pd.DataFrame(found.round(6), columns=[f"p:{name}" for name in self.classes])
        return pd.concat([frame, columns], axis=1)

    def similarity(self, features: np.ndarray) -> np.ndarray:
        """Return the largest cosine of each image with a training image, shape (N,)."""
        wide = self.references.astype(np.float32).T
        units = unit_rows(features)
        return np.concatenate([(units[i : i + 500] @ wide).max(1) for i in range(0, len(units), 500)])

    def _features(self, images: np.ndarray | Sequence[Path | str]) -> np.ndarray:
        if isinstance(images, np.ndarray) and images.dtype.kind not in "OU":
            tap = self.network.embedding_tap or self.network.taps[-1]
            return predict(self.network, images, taps=(tap,), batch_size=32)[tap].to(torch.float16).numpy()
        files = [Path(image) for image in images]
        features, facts = read_features(self.network, files, cache=None, progress=False)
        bad = facts["problem"] != ""
        if bad.any():
            first = int(bad.to_numpy().argmax())
            raise PipelineError(f"{files[first]}: {facts['problem'][first]}; leave it out")
        return features

    def _probabilities(self, features: np.ndarray) -> np.ndarray:
        logits = unit_rows(features) @ self.weight + self.bias
        return softmax(logits.astype(np.float64) / self.temperature, axis=1)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors``, ``pipeline.json`` and, see `plain_script`, ``predict.py`` into a folder."""
        tensors: dict[str, Tensor] = {
            f"network.{key}": value.cpu().contiguous() for key, value in self.network.state_dict().items()
        }
        tensors["head.weight"] = torch.from_numpy(np.ascontiguousarray(self.weight))
        tensors["head.bias"] = torch.from_numpy(self.bias)
        tensors["references"] = torch.from_numpy(self.references)
        description = self.description | {
            "format": FORMAT,
            "backbone": self.network.name,
            "image_size": self.network.image_size,
            "mean": self.network.mean.tolist(),
            "std": self.network.std.tolist(),
            "temperature": self.temperature,
            "least_similar": self.least_similar,
        }
        write_atomically(folder / TENSORS, save(tensors))
        text = json.dumps(description, indent=1, ensure_ascii=False)
        write_atomically(folder / DESCRIPTION, text.encode())
        if script := plain_script(self.network.name):
            write_atomically(folder / SCRIPT, script.encode())


def load_pipeline(path: Path | str) -> Pipeline:
    """Return the model that `imbal compare` saved: with `predict` and `predict_proba`, on files or arrays.

    Parameters
    ----------
    path : path
        The folder ``model`` of a comparison, or the folder of the comparison.

    Raises
    ------
    PipelineError
        If there is no model, or it is damaged or of a later version of this package.
    """
    folder = Path(path).expanduser()
    folder = folder / "model" if (folder / "model" / DESCRIPTION).is_file() else folder
    if not (folder / DESCRIPTION).is_file():
        raise PipelineError(f"{folder}: holds no {DESCRIPTION}; give the folder that `imbal compare` wrote")
    try:
        description = read_json(folder / DESCRIPTION)
        check_form(description, {"format": int})
        if description["format"] != FORMAT:
            raise PipelineError(
                f"{folder}: has format {description['format']}, this version reads {FORMAT}: update imbal-core"
            )
        check_form(description, _FORM)
        tensors = load_file(regular(folder / TENSORS))
        with torch.random.fork_rng(devices=[]):
            network = build_model(description["backbone"], 2, image_size=description["image_size"]).eval()
        own = {key.removeprefix("network."): t for key, t in tensors.items() if key.startswith("network.")}
        network.load_state_dict(own)
        weight, bias, references = (
            tensors[key].numpy() for key in ("head.weight", "head.bias", "references")
        )
        expected = [(weight.shape[0], len(description["classes"])), (len(description["classes"]),)]
        if [weight.shape, bias.shape, references.shape[1:]] != [*expected, weight.shape[:1]]:
            raise ValueError(
                f"a head of shape {weight.shape}, {bias.shape} for {expected}, {references.shape}"
            )
        temperature, least = float(description["temperature"]), float(description["least_similar"])
    except PipelineError:
        raise
    except Exception as error:  # damage can fail in any layer of the readers
        raise PipelineError(
            f"{folder}: {TENSORS} or {DESCRIPTION} is missing or damaged ({type(error).__name__}: {error}): copy the "
            "whole folder again, or run `imbal compare` again"
        ) from error
    return Pipeline(network, weight, bias, temperature, references, least, description)


def predict_folder(
    model: Path, folder: Path, *, cache: Path | None = None, progress: bool = True
) -> tuple[pd.DataFrame, list[str]]:
    """Return a row per image of a folder, see `Pipeline.table`, and a sentence per file that cannot be read.

    Raises
    ------
    PipelineError
        If the model cannot be read, or there is no image in the folder.
    """
    pipeline = load_pipeline(model)
    if not folder.is_dir():
        raise PipelineError(f"there is no folder {str(folder)!r}: give a folder with images")
    files = visible_files(folder)
    if not files:
        raise PipelineError(f"{folder} holds no file: give a folder with images")
    features, facts = read_features(pipeline.network, files, cache=cache, progress=progress)
    names = [file.relative_to(folder).as_posix() for file in files]
    good = (facts["problem"] == "").to_numpy()
    problems = [f"{name}: {facts['problem'][i]}" for i, name in enumerate(names) if not good[i]]
    if not good.any():
        raise PipelineError(f"{folder} holds no image: {problems[0]}")
    return pipeline.table(
        features[good], [name for name, ok in zip(names, good, strict=True) if ok]
    ), problems
