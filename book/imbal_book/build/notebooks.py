"""Notebooks run by papermill: one, or several at once, each leaving an executed copy."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

import imbal_book
import imbal_core
from imbal_book.build.parameters import NotebookError, check_parameters, declared_parameters, read_notebook
from imbal_book.grid.workers import end_with_parent
from imbal_core._checks.files import patiently

__all__ = ["run_notebook", "run_notebooks"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A progress bar as tqdm leaves it in a text output.
_BAR = re.compile(r"^.*\d+%\|.*\|.*$|^\s*\d+it \[.*\]$")


def _inputs_digest(source: Path, values: Mapping[str, Any], repo: Path | None) -> str:
    """Return the sha256 of all that a replayed notebook depends on: cells, values, packages, records, lock."""
    cells = read_notebook(source).cells
    texts = [[cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in cells]
    digest = hashlib.sha256(json.dumps([texts, values], sort_keys=True).encode())
    packages = [Path(folder) for package in (imbal_core, imbal_book) for folder in package.__path__]
    files = [p for package in packages for p in package.rglob("*") if p.suffix in (".py", ".yml")]
    if repo is not None:
        files += [*(repo / "results").rglob("*.json"), *repo.glob("requirements.lock")]
    for path in sorted(files):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _tidy(notebook: Any, defaults: Mapping[str, Any]) -> None:
    """Take out of a copy what a page cannot show, widgets and finished bars; name hidden cells and what was not run."""
    import nbformat

    notebook.metadata.pop("widgets", None)
    skipped = [c for c in notebook.cells if "skip-execution" in c.metadata.get("tags", [])]
    for cell in skipped[:1]:
        said = {"text/markdown": "*Cells that train were not executed here: `LIVE = False`.*"}
        cell.outputs = [nbformat.v4.new_output("display_data", data=said)]
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and given == defaults:  # it repeats the cell above it
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _shown(output)]
        if "hide-input" in tags:  # its first line says what it draws
            first = cell.source.partition("\n")[0].removeprefix("# ")
            cell.metadata["mystnb"] = {"code_prompt_show": f"Code: {first}"}
        elif "hide-cell" in tags:
            cell.metadata["mystnb"] = {"code_prompt_show": "A solution that runs"}


def _shown(output: Any) -> bool:
    """Return whether anything of an output is left for a page, after taking the bars out of a stream."""
    if output.output_type != "stream":
        return "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
    lines = [line.rsplit("\r", 1)[-1] for line in output.text.replace("\r\n", "\n").split("\n")]
    output.text = "\n".join(line for line in lines if output.name != "stderr" or not _BAR.match(line))
    return bool(output.text.strip())


def run_notebook(
    source: Path,
    destination: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    repo: Path | None = None,
    reuse: bool = False,
    progress: bool = True,
    device: str = "",
) -> Path:
    """Return the executed copy of a notebook, made by papermill in the folder of its source.

    Parameters
    ----------
    source, destination : Path
        The notebook with its outputs stripped, and where the executed copy goes. The copy appears there only
        when every cell has run; a failed one is left beside it as ``<name>.failed.ipynb``.
    parameters : mapping of str to object, optional
        Values for the ``parameters`` cell, see :func:`imbal_book.build.parameters.check_parameters`.
    repo, reuse : Path, optional, and bool, default=False
        Keep a copy that the same cells, parameters, package, and records and lock of this checkout have made before.
    progress : bool, default=True
        Show papermill's bar over the cells.
    device : str, optional
        What the copy names; by default this machine's, as torch, which takes seconds to import, tells it.

    Raises
    ------
    NotebookError
        If a cell fails or the kernel dies: names the notebook and the cell, ends with the traceback's tail.
    """
    import nbformat

    values = check_parameters(source, parameters or {})
    digest = _inputs_digest(source, values, repo)
    before = read_notebook(destination).metadata if reuse and destination.is_file() else {}
    if before.get("imbal", {}).get("inputs") == digest:
        print(f"{source.stem}: nothing changed since the last execution, kept")
        return destination
    shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
    print(f"{source.stem}: executing with {shown}", flush=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    failed = destination.with_name(f"{destination.stem}.failed.ipynb")
    start = time.perf_counter()
    _execute(source, failed, values, progress)
    executed = read_notebook(failed)
    _tidy(executed, declared_parameters(source))
    executed.metadata["imbal"] = {
        "inputs": digest,
        "device": device or _device(),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "torch", "papermill")},
    }
    nbformat.write(executed, failed)
    patiently(lambda: failed.replace(destination), destination)
    print(f"{source.stem}: executed in {time.perf_counter() - start:.0f} s", flush=True)
    return destination


def _device() -> str:
    from imbal_core.training.prediction import default_device, device_label

    return device_label(default_device())


def _execute(source: Path, copy: Path, values: dict[str, Any], progress: bool) -> None:
    """Let papermill run a notebook; raise NotebookError where a cell fails or the kernel dies."""
    import papermill
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError

    class OwnKernel(AsyncKernelManager):
        """Starts the interpreter that runs this, whatever kernels of the name python3 are installed."""

        kernel_spec = KernelSpec(**get_kernel_dict())

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else the kernel warns about frozen modules
    notebook = read_notebook(source)
    for cell in notebook.cells:
        if "live" in (tags := cell.metadata.get("tags", [])) and not values.get("LIVE", True):
            cell.metadata["tags"] = [*tags, "skip-execution"]
    try:
        papermill.execute_notebook(
            notebook,
            str(copy),
            parameters=values,
            kernel_name="python3",
            kernel_manager_class=OwnKernel,
            language="python",
            start_timeout=600,  # seconds; a busy machine starts a kernel slowly
            cwd=str(source.parent),
            progress_bar=progress,
            extra_arguments=["--log-level=40"],  # ipykernel's errors only
        )
    except papermill.PapermillExecutionError as error:
        # papermill counts from 0, and its own cell of values, which the source lacks, stands before any that fails
        text = f"{source.name}, cell {error.cell_index}: {error.ename}: {error.evalue}"
        tail = "\n".join(error.traceback).splitlines()[-15:]
        message = "\n".join([text, *tail, f"(executed up to there: {copy.name})"])
        raise NotebookError(_COLOUR.sub("", message)) from None
    except DeadKernelError as error:
        raise NotebookError(f"{source.name}: the kernel died ({error}); is there enough memory?") from None


def run_notebooks(
    copies: Mapping[Path, Path], parameters: Mapping[str, Any], jobs: int, **options: Any
) -> None:
    """Execute notebooks, source to executed copy, `jobs` at once, each with its share of the cores.

    The first that fails ends the rest; parameters and options are those of :func:`run_notebook`. Papermill's bars are
    shown where one notebook runs at a time.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be a positive number, got {jobs}.")
    jobs = max(1, min(jobs, len(copies)))
    options |= {"parameters": parameters, "progress": jobs == 1, "device": _device() if copies else ""}
    run = delayed(functools.partial(_run_as_worker, **options))
    # Processes, since papermill changes the folder of the whole process while a notebook runs.
    Parallel(n_jobs=jobs)(run(*pair) for pair in copies.items())


def _run_as_worker(source: Path, destination: Path, **options: Any) -> None:
    end_with_parent()
    run_notebook(source, destination, **options)
