"""Published weights: where their files lie, how they are downloaded and read, and how a network takes them.

A model's file lies in ``<data root>/weights``, by its publisher's name or as safetensors. No code in it is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from imbal_core._checks.files import regular, sha256_of_file, write_atomically
from imbal_core.data.root import data_root

#: Where torchvision's weights are, by model name; those of ``timm:NAME`` come from timm.
PUBLISHED = {
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
}


class WeightsError(RuntimeError):
    """Pretrained weights are missing, damaged, or of another network; the message names file and folder."""


def find_weights(name: str, root: Path | str | None = None) -> Path | None:
    """Return the file under ``<data root>/weights`` that holds a model's weights, None if none is there."""
    if not name.startswith("timm:") and name not in PUBLISHED:
        return None
    file = data_root(root) / "weights" / _file_and_address(name)[0]
    return next((place for place in (file, file.with_suffix(".safetensors")) if place.is_file()), None)


def _file_and_address(name: str) -> tuple[str, str]:
    if name.startswith("timm:"):
        return f"{name.removeprefix('timm:')}.safetensors", "https://huggingface.co/timm"
    return PUBLISHED[name].rpartition("/")[2], PUBLISHED[name]


def check_published(source: Path) -> None:
    """Raise WeightsError for a file of torchvision's whose SHA-256 does not begin as its name says, after the dash."""
    digest = source.stem.rpartition("-")[2]
    if source.name in {address.rpartition("/")[2] for address in PUBLISHED.values()}:
        if not (found := sha256_of_file(source)).startswith(digest):
            raise WeightsError(
                f"{source} is damaged: its SHA-256 begins with {found[:8]}, and that of the published file with "
                f"{digest}. Delete it to download it again."
            )


def import_timm(name: str) -> ModuleType:
    """Return timm; raise ImportError, naming the extra that the model `name` needs, if it is missing."""
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{name!r} needs timm, an extra: pip install 'imbal-core[timm]'") from error
    return timm


def download_weights(name: str, folder: Path) -> Path:
    """Download a model's weights into `folder`; the next run, or a machine without network, finds them."""
    file, address = _file_and_address(name)
    target = folder / file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if name.startswith("timm:"):
            timm = import_timm(name)
            with torch.random.fork_rng(devices=[]):  # a download must not change the caller's random numbers
                state = timm.create_model(name.removeprefix("timm:"), pretrained=True).state_dict()
            write_atomically(target, save({key: value.contiguous() for key, value in state.items()}))
        else:
            prefix = target.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(address, str(target), hash_prefix=prefix, progress=False)
    except Exception as error:  # the hub clients raise classes of their own for the same lost network
        raise WeightsError(
            f"the weights of {name!r} are not in {folder} and could not be downloaded from {address} "
            f"({type(error).__name__}: {error}). Put the file {file} into {folder} and start again."
        ) from error
    return target


def read_weights(source: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file, in its own precision; no code in the file is ever run."""
    try:
        if regular(source).suffix == ".safetensors":
            return load_file(source)
        state = torch.load(source, map_location="cpu", weights_only=True)
        if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
            raise TypeError("not a dictionary of tensors")
        return state
    except Exception as error:  # a torn file can fail in any layer of the readers
        raise WeightsError(
            f"{source} cannot be read as a file of weights ({type(error).__name__}): it is damaged or of "
            "another kind. Delete it to download it again, or replace it."
        ) from error


def rename_keys(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors under other names: a key that begins with an old prefix gets the new one."""
    renamed = {}
    for key, value in state.items():
        old = next((prefix for prefix in prefixes if key.startswith(f"{prefix}.")), None)
        renamed[key if old is None else prefixes[old] + key.removeprefix(old)] = value
    return renamed


def load_state(module: nn.Module, state: Mapping[str, Tensor], heads: tuple[str, ...], source: Path) -> None:
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
