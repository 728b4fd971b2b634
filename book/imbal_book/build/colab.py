"""What the set-up cell of a notebook calls in Colab: the packages that are missing there."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from imbal_book.run.provenance import checkout_folder

__all__ = ["install_missing"]

#: From the extras: what a notebook imports beside the package's own requirements.
_NOTEBOOK_PACKAGES = ("mlxtend", "myst-nb", "timm")
#: Colab's own builds, which match its driver and each other: pinned while anything else is installed.
_KEPT = ("torch", "torchvision", "numpy")
#: A package of the lock, with its version and where it is needed, and its name.
_LOCKED = re.compile(r"(?m)^(([\w.-]+)==[^\\\n]*[^\\\s])")


def install_missing(repo: Path | None = None) -> list[str]:
    """Return the requirements of the checkout that were installed because no version of them was there.

    Nothing that is installed changes: PyTorch, torchvision and NumPy are pinned to what they are. What is missing, and
    what that brings, comes in the version that the checkout is tested with, as its ``requirements.lock`` says.
    """
    root = repo or checkout_folder()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = re.findall(_LOCKED, (root / "requirements.lock").read_text(encoding="utf-8"))
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    wanted = [*project["dependencies"], *(item for item in extras if _name(item) in _NOTEBOOK_PACKAGES)]
    missing = [item for item in wanted if _version(_name(item)) is None]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder, "constraints.txt")
            pins = [f"{name}=={_version(name)}" for name in _KEPT if _version(name)]
            pins += [pin for pin, name in locked if name not in _KEPT and _version(name) is None]
            constraints.write_text("\n".join(pins), encoding="utf-8")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "-c", str(constraints), *missing]
            subprocess.run(command, check=True)
    return missing


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
