"""The parsers of the library, and intact files for them: prepared images, weights, checkpoints, folders, archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from benchmarks.faults.fuzz import Parser, Refused
from imbal_book.compare.features import read_features
from imbal_book.run.networks import borrow_network
from imbal_core.data import plantvillage_files
from imbal_core.data.archives import safe_extract
from imbal_core.data.datasets import ImageDataset, fingerprint, load_dataset, prepared_path
from imbal_core.data.plantvillage import read_leaves
from imbal_core.data.prepared import DatasetError, read_prepared
from imbal_core.embeddings.cache import cached_embeddings
from imbal_core.models.build import build_model
from imbal_core.models.weights import WeightsError, load_state, read_weights
from imbal_core.training.checkpoints import read_checkpoint, write_checkpoint

BUNDLED = "folder:gone"
#: Suffixes of images and the modes that they are written in.
FORMATS = {
    ".png": "P",
    ".jpg": "RGB",
    ".gif": "P",
    ".webp": "RGBA",
    ".tif": "RGB",
    ".bmp": "L",
    ".ppm": "RGB",
}
FORMATS |= {".tiff": "CMYK", ".jp2": "RGB", ".ico": "RGBA", ".tga": "RGB", ".pcx": "L"}


def arrays() -> dict[str, np.ndarray]:
    """Return the parts of a prepared side: ten images of two classes."""
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    groups = np.array([f"g{number // 2}" for number in range(10)])
    return {
        "images": images,
        "labels": np.arange(10) % 2,
        "class_names": np.array(["a", "b"]),
        "groups": groups,
    }


def read_side(folder: Path, _: Path) -> object:
    images, labels, names, groups = read_prepared(folder / "train.npz", "make it again")
    return images.tolist(), labels.tolist(), names, None if groups is None else groups.tolist()


def write_bundled(folder: Path) -> None:
    parts = arrays()
    path = prepared_path(BUNDLED, "train", root=folder, image_size=8)
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **parts)
    told = {path.stem: {"fingerprint": fingerprint(parts["images"], parts["labels"]), "present": "all"}}
    (path.parent / "partial.json").write_text(json.dumps(told))


def read_bundled(folder: Path, _: Path) -> object:
    """Read a side whose two files vouch for each other: what is wrong with one can be seen in the other alone."""
    try:
        side = load_dataset(BUNDLED, "train", root=folder, image_size=8)
    except DatasetError as error:
        named = any(name in str(error) for name in ("partial.json", "prepared-8-train.npz", "'gone'"))
        raise Refused(f"partial.json and prepared-8-train.npz: {error}") if named else error from None
    return side.images.tolist(), side.labels.tolist()


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(3, generator=generator)}


def read_network(name: str) -> object:
    def read(folder: Path, _: Path) -> object:
        module = nn.Linear(4, 3)
        load_state(module, read_weights(folder / name), (), folder / name)
        return None

    return read


def write_state(folder: Path) -> None:
    state = {"network": weights(), "seconds": [1.0, 2.0], "history": {"train_loss": [0.5, 0.25]}}
    write_checkpoint(folder / "run.pt", state, "this run")


def read_state(folder: Path, scratch: Path) -> object:
    """Read a file as a run's own checkpoint, and as the network of another study."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        borrow_network(folder / "run.pt", scratch / "borrowed.pt")
        state = read_checkpoint(folder / "run.pt", "this run")
    if state is None:
        if not caught and not (folder / "run.pt").is_file():
            raise Refused("run.pt is no file, and nothing was begun")
        raise Refused("; ".join(str(warning.message) for warning in caught))
    tensors = {name: value.tolist() for name, value in state.pop("network").items()}
    return tensors, state


def write_photos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for suffix, mode in FORMATS.items():
            images = [
                Image.fromarray(rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)).convert(mode)
                for _ in range(2)
            ]
            more = (
                {"save_all": True, "append_images": images[1:]} if suffix in (".gif", ".tif", ".webp") else {}
            )
            exif = {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}
            more |= exif if suffix == ".jpg" else {}
            images[0].save(folder / "photos" / name / f"{name}{suffix}", **more)


def read_photos(folder: Path, scratch: Path) -> object:
    return load_dataset(
        f"folder:{folder / 'photos'}", "train", root=scratch, image_size=8
    ).class_counts.tolist()


def read_compared(folder: Path, _: Path) -> object:
    """Read images as a comparison does, which leaves out what it cannot read and says so."""
    files = sorted((folder / "photos").rglob("*.*"))
    _, facts = read_features(
        build_model("small_cnn", 2, image_size=8).eval(), files, cache=None, progress=False
    )
    problems = [f"{path.name}: {text}" for path, text in zip(files, facts["problem"], strict=True) if text]
    if problems:
        raise Refused(str(problems))
    return None


def write_features(folder: Path) -> None:
    write_photos(folder)
    read_kept(folder, folder)


def read_kept(folder: Path, _: Path) -> object:
    """Read features through their caches, of which a damaged one is made again."""
    network = build_small()
    files = sorted((folder / "photos").rglob("*.png"))
    compared, _ = read_features(network, files, cache=folder / "compared", progress=False)
    side = ImageDataset("made up", "train", *list(arrays().values())[:2], ("a", "b"), "aa" * 32, None, None)
    embedded = cached_embeddings(network, side, network.taps[-1], cache=folder / "embedded", progress=False)
    return compared.tobytes(), embedded.tobytes()


def build_small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model("small_cnn", 2, image_size=8).eval()


MEMBERS = {"x/one.txt": b"1" * 300, "x/y/two.bin": bytes(range(256)) * 8, "three.json": b'{"a": [1, 2]}'}


def write_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)


def write_tar(folder: Path) -> None:
    with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
        for name, content in MEMBERS.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_700_000_000
            archive.addfile(entry, io.BytesIO(content))


def read_unpacked(name: str) -> object:
    def read(folder: Path, scratch: Path) -> object:
        safe_extract(folder / name, scratch / "out")
        files = (path for path in (scratch / "out").rglob("*") if path.is_file())
        return sorted(
            (path.relative_to(scratch).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
            for path in files
        )

    return read


def write_leaves(folder: Path) -> None:
    place = folder / "Apple___healthy"
    place.mkdir()
    (place / "0a___RS_HL 1.JPG").write_bytes(b"")
    known = {"rs_hl 1": ["Apple___healthy:::1"], "rs_hl 2": ["a", "b"]}
    (folder / "leaf-map.json").write_text(json.dumps(known))
    (folder / "leaves.csv").write_text("file,leaf\nApple___healthy/0a___RS_HL 1.JPG,1\nb/c.jpg,\n")


def read_leaf_tables(folder: Path, _: Path) -> object:
    read_leaves(folder / "leaves.csv")
    if (folder / "leaf-map.json").is_file():  # as it is looked for
        plantvillage_files._leaves_csv(folder, folder / "leaf-map.json", folder, ["Apple___healthy"])
    elif not (folder / "leaf-map.json").exists() or (folder / "leaf-map.json").is_dir():
        raise Refused("leaf-map.json is no file")
    return None


def data_parsers() -> list[Parser]:
    """Return the parsers of imbal_core."""
    by_bytes = ("bytes",)
    unpacked = (DatasetError,)
    return [
        Parser(
            "prepared images",
            lambda folder: np.savez_compressed(folder / "train.npz", **arrays()),
            read_side,
            (DatasetError,),
            summed=by_bytes,
        ),
        Parser(
            "images of a bundle", write_bundled, read_bundled, (DatasetError,), summed=("bytes", "fields")
        ),
        Parser(
            "safetensors",
            lambda folder: save_file(weights(), folder / "net.safetensors"),
            read_network("net.safetensors"),
            (WeightsError,),
        ),
        Parser(
            "weights of PyTorch",
            lambda folder: torch.save(weights(), folder / "net.pth"),
            read_network("net.pth"),
            (WeightsError,),
        ),
        Parser("checkpoint", write_state, read_state, summed=by_bytes),
        Parser("folder of images", write_photos, read_photos, (DatasetError,), damaged="photos/**/*"),
        Parser("images to compare", write_photos, read_compared, damaged="photos/**/*"),
        Parser("kept features", write_features, read_kept, damaged="[ce]*/**/*.np*", share=0.5),
        Parser("zip archive", write_zip, read_unpacked("data.zip"), unpacked, summed=by_bytes),
        Parser("tar archive", write_tar, read_unpacked("data.tar.gz"), unpacked, summed=by_bytes),
        Parser("tables of leaves", write_leaves, read_leaf_tables, (DatasetError,), damaged="leaf-map.json"),
        Parser("table of leaves", write_leaves, read_leaf_tables, (DatasetError,), damaged="leaves.csv"),
    ]
