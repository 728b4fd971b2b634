"""Notebooks run by papermill, and the book that Jupyter Book builds from the executed copies.

Every parameter passes :func:`check_parameters` first, since papermill ignores a name that it does not know.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml

import imbal_book
import imbal_core
from imbal_book.build.pages import chapter_card, status_table
from imbal_book.build.parameters import (
    NotebookError,
    check_parameters,
    inspect_parameters,
    parse_parameters,
    read_notebook,
)
from imbal_book.run.checkout import checkout_folder
from imbal_core._checks.names import unknown_name

__all__ = [
    "BookError",
    "NotebookError",
    "build_book",
    "check_parameters",
    "find_notebook",
    "inspect_parameters",
    "list_notebooks",
    "parse_parameters",
    "run_notebook",
    "stage_book",
]

# A progress bar as tqdm leaves it in a text output, and its warning that there are no widgets.
_NO_WIDGETS = re.compile(r"^.*TqdmWarning: IProgress not found.*\n.*\n?", flags=re.MULTILINE)
_BAR = re.compile(r"^.*\d+%\|.*\|.*$|^\s*\d+it \[.*\]$")


class BookError(RuntimeError):
    """The book could not be staged or built."""


def _repository(repo: Path | None) -> Path:
    root = (repo or checkout_folder()).resolve()
    if not (root / "_config.yml").is_file():
        raise BookError(
            "no _config.yml here: the book is built from a checkout of the repository; give that folder"
        )
    return root


def list_notebooks(repo: Path | None = None) -> dict[str, Path]:
    """Return the notebooks of the book's table of contents, name to source file, in reading order.

    Raises
    ------
    BookError
        If `repo` (default: the checkout that holds this package) is no checkout of the repository.
    """
    root = _repository(repo)
    files = [chapter["file"] for part in _read_toc(root)["parts"] for chapter in part["chapters"]]
    names = [file.removeprefix("notebooks/") for file in files if file.startswith("notebooks/")]
    return {name: root / "notebooks" / f"{name}.ipynb" for name in names}


def _read_toc(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))


def find_notebook(name: str, repo: Path | None = None) -> Path:
    """Return the source file of a chapter by its name, such as ``category_centers``."""
    notebooks = list_notebooks(repo)
    stem = name.removesuffix(".ipynb")
    if stem not in notebooks:
        raise unknown_name("notebook", name, notebooks)
    return notebooks[stem]


def _inputs_digest(source: Path, values: Mapping[str, Any], repo: Path | None) -> str:
    """Return the sha256 of all that a replayed notebook depends on: cells, values, packages, records, lock."""
    digest = hashlib.sha256(json.dumps([_cell_texts(source), values], sort_keys=True).encode())
    packages = [Path(folder) for package in (imbal_core, imbal_book) for folder in package.__path__]
    files = [p for package in packages for p in package.rglob("*") if p.suffix in (".py", ".yml")]
    if repo is not None:
        files += [*(repo / "results").rglob("*.json"), *repo.glob("requirements.lock")]
    for path in sorted(files):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _cell_texts(notebook: Path) -> list[list[Any]]:
    cells = read_notebook(notebook).cells
    return [[cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in cells]


def _tidy(notebook: Any, defaults: Mapping[str, Any]) -> None:
    """Remove from an executed copy what a page cannot show: widgets and finished progress bars."""
    notebook.metadata.pop("widgets", None)
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and given == defaults:  # it repeats the cell above it
            cell.metadata["tags"] = [*tags, "remove-cell"]
        kept = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                text = _NO_WIDGETS.sub("", output.text.replace("\r\n", "\n"))
                lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
                if output.name == "stderr":
                    lines = [line for line in lines if not _BAR.match(line)]
                output.text = "\n".join(lines)
                if not output.text.strip():
                    continue
            elif output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None) is not None:
                continue
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept


def run_notebook(
    source: Path,
    destination: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    repo: Path | None = None,
    reuse: bool = False,
    progress: bool = True,
) -> Path:
    """Return the executed copy of a notebook, made by papermill in the folder of its source.

    Parameters
    ----------
    source, destination : Path
        The notebook with its outputs stripped, and where the executed copy goes. The copy appears there only
        when every cell has run; a failed one is left beside it as ``<name>.failed.ipynb``.
    parameters : mapping of str to object, optional
        Values for the ``parameters`` cell, checked by :func:`check_parameters`.
    repo : Path, optional
        The checkout whose records and lock count when a copy is reused.
    reuse : bool, default=False
        Keep a copy that the same cells, parameters, package and records have made before.
    progress : bool, default=True
        Show papermill's bar over the cells.

    Raises
    ------
    NotebookError
        If a cell fails or the kernel dies: names the notebook and the cell, ends with the traceback's tail.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    from imbal_core.training.prediction import default_device, device_label

    defaults = {name: parameter.default for name, parameter in inspect_parameters(source).items()}
    values = check_parameters(source, parameters or {})
    digest = _inputs_digest(source, values, repo)
    if reuse and destination.is_file() and _made_from(destination) == digest:
        print(f"{source.stem}: nothing changed since the last execution, kept")
        return destination
    shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
    print(f"{source.stem}: executing with {shown}", flush=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    failed = destination.with_name(f"{destination.stem}.failed.ipynb")
    start = time.perf_counter()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else the kernel warns about frozen modules
    try:
        papermill.execute_notebook(
            str(source),
            str(failed),
            parameters=values,
            kernel_name="python3",
            language="python",
            start_timeout=600,  # seconds; a busy machine starts a kernel slowly
            cwd=str(source.parent),
            progress_bar=progress,
            extra_arguments=["--log-level=40"],  # ipykernel's errors only
        )
    except papermill.PapermillExecutionError as error:
        tail = "\n".join(_plain("\n".join(error.traceback)).splitlines()[-15:])
        raise NotebookError(
            f"{source.name}, cell {_source_cell(source, error.cell_index)}: "
            f"{error.ename}: {_plain(str(error.evalue))}\n"
            f"{tail}\n(executed up to there: {failed.name})"
        ) from None
    except DeadKernelError as error:
        raise NotebookError(f"{source.name}: the kernel died ({error}); is there enough memory?") from None
    executed = read_notebook(failed)
    _tidy(executed, defaults)
    executed.metadata["imbal"] = {
        "inputs": digest,
        "device": device_label(default_device()),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "torch", "papermill")},
    }
    nbformat.write(executed, failed)
    failed.replace(destination)
    print(f"{source.stem}: executed in {time.perf_counter() - start:.0f} s", flush=True)
    return destination


def _run_notebooks(
    copies: Mapping[Path, Path], parameters: Mapping[str, Any], jobs: int, *, progress: bool, **options: Any
) -> None:
    """Execute notebooks, several at once where `jobs` says so; the first that fails ends the rest."""
    if jobs < 1:
        raise ValueError(f"jobs must be a positive number, got {jobs}.")
    jobs = min(jobs, len(copies))
    if jobs <= 1:
        for source, copy in copies.items():
            run_notebook(source, copy, parameters, progress=progress, **options)
        return
    # Processes, since papermill changes the folder of the whole process while a notebook runs.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_share_cores, initargs=(threads,)
    )
    try:
        running = [
            pool.submit(run_notebook, source, copy, parameters, progress=False, **options)
            for source, copy in copies.items()
        ]
        for future in as_completed(running):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _share_cores(threads: int) -> None:
    """Let the kernels that this process starts use so many threads, unless the user has set a number."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def _made_from(executed: Path) -> str | None:
    return read_notebook(executed).metadata.get("imbal", {}).get("inputs")


def _source_cell(source: Path, executed_index: int) -> int:
    """Return the number, from 1, of a cell in the source: papermill's cell of values is not there."""
    texts = _cell_texts(source)
    tagged = next(index for index, (_, _, tags) in enumerate(texts) if "parameters" in tags)
    return executed_index + (executed_index <= tagged)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def stage_book(repo: Path, build: Path, executed: Iterable[str]) -> Path:
    """Return the folder that Jupyter Book builds from: pages, executed notebooks, settings, generated parts.

    Parameters
    ----------
    repo : Path
        The checkout.
    build : Path
        The build folder; ``build/book/notebooks`` holds the executed copies already.
    executed : iterable of str
        Names of the chapters to include; the others leave the table of contents.
    """
    stage = build / "book"
    names = list(executed)
    copies = {name: stage / "notebooks" / f"{name}.ipynb" for name in names}
    shutil.rmtree(stage / "book", ignore_errors=True)
    shutil.copytree(repo / "book", stage / "book", ignore=shutil.ignore_patterns("imbal_book", "__pycache__"))
    shutil.copy2(repo / "_config.yml", stage / "_config.yml")
    toc = _read_toc(repo)
    for part in toc["parts"]:
        part["chapters"] = [
            chapter
            for chapter in part["chapters"]
            if not chapter["file"].startswith("notebooks/") or chapter["file"].split("/")[1] in copies
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    (stage / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    generated = stage / "book" / "_generated"
    generated.mkdir()
    (generated / "status.md").write_text(status_table(copies), encoding="utf-8")
    landing = (repo / "book" / "index.md").read_text(encoding="utf-8")
    for chapter in re.findall(r"_generated/card_(\w+)\.md", landing):
        card = chapter_card(chapter, copies.get(chapter))
        (generated / f"card_{chapter}.md").write_text(card, encoding="utf-8")
    return stage


def build_book(
    repo: Path | None = None,
    *,
    live: bool = True,
    profile: str = "best",
    train: bool = False,
    only: Iterable[str] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Return the index page of the built book: papermill runs each notebook, Jupyter Book builds the pages.

    Parameters
    ----------
    repo : Path, optional
        The checkout; default: the one that holds this package.
    live : bool, default=True
        Train each chapter's *Run it here* section on the embedded digits.
    profile : str, default="best"
        Which records the pages show.
    train : bool, default=False
        Train what that profile lacks, each record saved as soon as it exists.
    only : iterable of str, optional
        Build a book of these chapters only.
    jobs : int, optional
        How many notebooks run at once, each with its share of the cores; default: one per core, and one alone
        where `train` is set, since a training takes them all.
    progress : bool, default=True
        Show papermill's bars, where one notebook runs at a time.

    Raises
    ------
    NotebookError
        If a cell fails.
    BookError
        If Jupyter Book reports an error or a warning.
    """
    root = _repository(repo)
    notebooks = list_notebooks(root)
    if only is not None:
        notebooks = {find_notebook(name, root).stem: find_notebook(name, root) for name in only}
    build = root / "_build"
    if jobs is None:
        jobs = 1 if train else os.cpu_count() or 1
    copies = {source: build / "book" / "notebooks" / f"{name}.ipynb" for name, source in notebooks.items()}
    parameters = {"PROFILE": profile, "TRAIN": train, "LIVE": live}
    _run_notebooks(copies, parameters, jobs, repo=root, reuse=not train, progress=progress)
    stage = stage_book(root, build, notebooks)
    shutil.rmtree(build / "html", ignore_errors=True)
    # A fresh environment each time: a cached page repeats no warning, so that a second build would pass.
    arguments = ["build", str(stage), "--path-output", str(root), "--config", str(stage / "_config.yml")]
    arguments += ["--toc", str(stage / "_toc.yml"), "-W", "--keep-going", "--all", "-q"]
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *arguments]
    print("building the pages", flush=True)
    index = build / "html" / "index.html"
    if subprocess.run(command, cwd=root).returncode or not index.is_file():
        raise BookError("Jupyter Book reported errors or warnings (above); the book counts only without them")
    print(f"the book is ready: {index.relative_to(root)}")
    return index
