"""The book: which notebooks it has, the folder that Jupyter Book builds from, and the build itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from imbal_book.build import notebooks
from imbal_book.build.deviations import register
from imbal_book.build.ledger import chapter_card, claim_rows, ledger_table, score, seeds_table
from imbal_book.build.parameters import read_notebook
from imbal_book.build.reference import command_reference, library_reference
from imbal_book.build.speed import speed_table
from imbal_book.run.provenance import checkout_folder
from imbal_book.run.records import RecordStore
from imbal_core._checks.names import unknown_name

__all__ = ["BookError", "build_book", "find_notebook", "list_notebooks", "stage_book", "status_table"]


class BookError(RuntimeError):
    """The book could not be staged or built."""


def list_notebooks(repo: Path | None = None) -> dict[str, Path]:
    """Return the notebooks of the book's table of contents, name to source file, in reading order.

    BookError if `repo` (default: the checkout that holds this package) is no checkout of the repository.
    """
    root = (repo or checkout_folder()).resolve()
    if not (root / "_config.yml").is_file():
        raise BookError(
            f"no _config.yml in {root.name}/: give a checkout of the repository, which has the book"
        )
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    files = [Path(chapter["file"]) for part in toc["parts"] for chapter in part["chapters"]]
    return {file.name: root / f"{file}.ipynb" for file in files if file.parent.name == "notebooks"}


def find_notebook(name: str, repo: Path | None = None) -> Path:
    """Return the source file of a chapter by its name, such as ``category_centers``."""
    known = list_notebooks(repo)
    stem = name.removesuffix(".ipynb")
    if stem not in known:
        raise unknown_name("notebook", name, known)
    return known[stem]


def stage_book(repo: Path, copies: Mapping[str, Path]) -> Path:
    """Return the folder that Jupyter Book builds from: pages, executed notebooks, settings, generated parts.

    ``copies`` maps the name of a chapter to its executed copy, in ``_build/book/notebooks``.
    """
    stage = repo / "_build" / "book"
    shutil.rmtree(stage / "book", ignore_errors=True)
    shutil.copytree(repo / "book", stage / "book", ignore=shutil.ignore_patterns("imbal_book", "__pycache__"))
    for name in ("_config.yml", "CHANGELOG.md", "CONTRIBUTING.md"):
        if (repo / name).is_file():
            shutil.copy2(repo / name, stage)
    generated = stage / "book" / "_generated"
    generated.mkdir()
    records = RecordStore(repo / "results").read()
    rows = claim_rows(copies, records)
    texts = {
        "status": status_table(copies),
        "speed": speed_table(repo / "benchmarks" / "speed.json"),
        "score": score(rows),
        "ledger": ledger_table(rows),
        "seeds": seeds_table(rows),
        "deviations": register(records, list(copies)),
        "library": library_reference(),
        "commands": command_reference(),
    }
    landing = (repo / "book" / "index.md").read_text(encoding="utf-8")
    for chapter in re.findall(r"_generated/card_(\w+)\.md", landing):
        own = [row for row in rows if row["paper"].study == chapter]
        texts[f"card_{chapter}"] = chapter_card(chapter, copies.get(chapter), own)
    for name, text in texts.items():
        (generated / f"{name}.md").write_text(text, encoding="utf-8")
    return stage


def status_table(executed: Mapping[str, Path]) -> str:
    """Return the status page's table as MyST, from the metadata in the executed copies by chapter.

    Seconds, times and parameters are papermill's, device and versions come from
    :func:`imbal_book.build.notebooks.run_notebook`.
    """
    words = {True: "yes", False: "no", None: ""}
    columns = ["Chapter", "Profile", "Live", "Trained", "Seconds", "Device", "Versions", "Executed (UTC)"]
    rows = [columns, ["---", "---", "---", "---", "---:", "---", "---", "---"]]
    for name, path in executed.items():
        metadata = read_notebook(path).metadata
        run, machine = metadata["papermill"], metadata["imbal"]
        versions = {"python": metadata["language_info"]["version"], **machine["versions"]}
        rows.append(
            [
                f"[](../notebooks/{name}.ipynb)",
                *(
                    str(words.get(value, value))
                    for value in map(run["parameters"].get, ("PROFILE", "LIVE", "TRAIN"))
                ),
                f"{run['duration']:.1f}",
                machine["device"],
                ", ".join(f"{package} {version}" for package, version in versions.items()),
                run["start_time"][:16].replace("T", " "),
            ]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def build_book(
    repo: Path | None = None,
    *,
    live: bool = True,
    profile: str = "best",
    train: bool = False,
    jobs: int | None = None,
) -> Path:
    """Return the index page of the built book: papermill runs each notebook, Jupyter Book builds the pages.

    Parameters
    ----------
    repo : Path, optional
        The checkout; default: the one that holds this package.
    live, profile, train
        The parameters that all notebooks have.
    jobs : int, optional
        How many notebooks run at once, each with its share of the cores; default: one per core, and one alone
        where `train` is set, since a training takes them all.

    Raises
    ------
    NotebookError
        If a cell fails.
    BookError
        If Jupyter Book reports an error or a warning.
    """
    root = (repo or checkout_folder()).resolve()
    folder = root / "_build" / "book" / "notebooks"
    copies = {source: folder / source.name for source in list_notebooks(root).values()}
    parameters = {"PROFILE": profile, "TRAIN": train, "LIVE": live}
    if jobs is None:
        jobs = 1 if train else os.cpu_count() or 1
    notebooks.run_notebooks(copies, parameters, jobs, repo=root, reuse=not train)
    stage = stage_book(root, {copy.stem: copy for copy in copies.values()})
    index = root / "_build" / "html" / "index.html"
    shutil.rmtree(index.parent, ignore_errors=True)
    # A fresh environment each time: a cached page repeats no warning, so that a second build would pass.
    arguments = ["build", str(stage), "--path-output", str(root), "--config", str(stage / "_config.yml")]
    arguments += ["--toc", str(stage / "book" / "_toc.yml"), "-W", "--keep-going", "--all", "-q"]
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *arguments]
    print("building the pages", flush=True)
    if subprocess.run(command, cwd=root).returncode or not index.is_file():
        raise BookError("Jupyter Book reported errors or warnings (above); the book counts only without them")
    print(f"the book is ready: {index.relative_to(root)}")
    return index
