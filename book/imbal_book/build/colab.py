"""What a notebook needs in Colab: the repository, the missing packages, and the badges that lead there.

The repository's address stands in ``_config.yml`` alone. Badges and set-up cells are made from it, and a test
compares those in the notebooks with what these functions return.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

from imbal_book.run.checkout import checkout_folder

__all__ = ["badge_row", "install_missing", "repository_url", "setup_cell"]

#: From the extras: what a notebook imports beside the package's own requirements.
_NOTEBOOK_PACKAGES = ("mlxtend", "myst-nb", "timm")
#: Colab's own builds, which match its driver and each other: pinned while anything else is installed.
_KEPT = ("torch", "torchvision", "numpy")


def _root(repo: Path | None) -> Path:
    return repo or checkout_folder()


def repository_url(repo: Path | None = None) -> str:
    """Return the repository's address, from ``_config.yml``."""
    settings = yaml.safe_load((_root(repo) / "_config.yml").read_text(encoding="utf-8"))
    return settings["repository"]["url"]


def badge_row(name: str, repo: Path | None = None) -> str:
    """Return the Markdown that opens a chapter below its title: Colab, source and download badges.

    Parameters
    ----------
    name : str
        The notebook's name without its suffix.
    repo : Path, optional
        The checkout; default: the one that holds this package.
    """
    url = repository_url(repo)
    file = f"main/notebooks/{name}.ipynb"
    colab = url.replace("https://github.com", "https://colab.research.google.com/github")
    badges = [
        ("Open in Colab", "colab", f"{colab}/blob/{file}"),
        ("Source on GitHub", "source", f"{url}/blob/{file}"),
        ("Download notebook", "download", f"{url}/raw/{file}"),
    ]
    return "\n".join(
        f"[![{text}](../book/_static/badges/{image}.svg)]({link})" for text, image, link in badges
    )


def setup_cell(repo: Path | None = None) -> str:
    """Return the code of a notebook's set-up cell, which does something in Colab only."""
    url = repository_url(repo)
    folder = url.rsplit("/", 1)[1]
    return f"""\
# In Colab: fetch the book's repository and install what is missing. Elsewhere: nothing.
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules:
    url = "{url}"
    folder = pathlib.Path("{folder}").resolve()
    if not folder.is_dir():
        subprocess.run(["git", "clone", "-q", "--depth=1", url, str(folder)], check=True)
    sys.path[:0] = [str(folder), str(folder / "book")]
    from imbal_book.build.colab import install_missing

    install_missing()"""


def install_missing(repo: Path | None = None) -> list[str]:
    """Return the requirements that were installed because no version of them was there.

    Nothing that is installed changes: PyTorch, torchvision and NumPy are pinned to what they are.
    """
    project = tomllib.loads((_root(repo) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    wanted = [*project["dependencies"], *(item for item in extras if _name(item) in _NOTEBOOK_PACKAGES)]
    missing = [item for item in wanted if _version(_name(item)) is None]
    if missing:
        pins = [f"{name}=={_version(name)}" for name in _KEPT if _version(name)]
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder, "constraints.txt")
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
