import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from imbal_book.build import notebooks
from imbal_book.build.notebooks import run_notebook, run_notebooks
from imbal_book.build.parameters import NotebookError

PARAMETERS = 'PROFILE = "best"\nTRAIN = False\nLIVE = True'


def write(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    cells = [new_markdown_cell("# A chapter"), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def texts(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Execute one notebook for real, then again with reuse, then again after a record has appeared.

    A kernel of the name python3 is installed that is none, and the notebook was saved with one that is not installed.
    """
    repo = tmp_path_factory.mktemp("repo")
    foreign = repo / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    source = write(
        repo / "notebooks" / "chapter.ipynb",
        "import os, sys, time",
        "print('profile', PROFILE, 'live', LIVE, 'in', os.path.basename(os.getcwd()))\nprint(time.time())",
        "print(sys.executable)",
    )
    saved = nbformat.read(source, as_version=4)
    saved.metadata["kernelspec"] = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
    nbformat.write(saved, source)
    copy = repo / "_build" / "chapter.ipynb"
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(repo / "jupyter"))
        for step in range(3):
            if step == 2:
                (repo / "results").mkdir()
                (repo / "results" / "record.json").write_text("{}")
            run_notebook(source, copy, {"PROFILE": "smoke"}, repo=repo, reuse=True, progress=False)
            seen.append(texts(copy))
    return source, copy, seen


def test_a_notebook_runs_with_its_values_in_the_folder_of_its_source(copies):
    _, _, seen = copies
    assert seen[0].startswith("profile smoke live True in notebooks\n")


def test_the_interpreter_that_runs_this_runs_the_notebook_whatever_python3_is_installed(copies):
    _, _, seen = copies
    assert seen[0].endswith(f"\n{sys.executable}\n")


def test_a_copy_is_reused_until_a_record_changes(copies):
    _, _, (first, second, third) = copies
    assert first == second
    assert third != second


def test_the_copy_carries_papermills_metadata_and_the_machine(copies):
    source, copy, _ = copies
    metadata = nbformat.read(copy, as_version=4).metadata
    assert metadata.papermill.parameters == {"PROFILE": "smoke", "TRAIN": False, "LIVE": True}
    assert metadata.papermill.duration > 0
    assert metadata.imbal.device
    assert {"numpy", "torch", "papermill"} <= set(metadata.imbal.versions)
    assert not copy.with_name("chapter.failed.ipynb").exists()
    assert "outputs" not in source.read_text() or texts(source) == ""


def test_without_live_the_cells_tagged_so_are_left_out_and_the_page_says_so(tmp_path):
    source = write(
        tmp_path / "chapter.ipynb", "print('trained')", "print('trained again')", "print('replayed')"
    )
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells[2:4]:
        cell.metadata["tags"] = ["live"]
    nbformat.write(notebook, source)
    copy = run_notebook(source, tmp_path / "out.ipynb", {"LIVE": False}, progress=False)
    cells = nbformat.read(copy, as_version=4).cells
    assert texts(copy) == "replayed\n"
    assert ["LIVE = False" in str(cell.get("outputs")) for cell in cells].count(True) == 1
    assert "live" in nbformat.read(source, as_version=4).cells[2].metadata.tags
    assert nbformat.read(source, as_version=4) == notebook, "the source stays as it was"


@pytest.mark.parametrize(
    ("values", "error"), [({"PROFLIE": "smoke"}, ValueError), ({"LIVE": "no"}, TypeError)]
)
def test_nothing_runs_with_a_wrong_parameter(tmp_path, monkeypatch, values, error):
    import papermill

    monkeypatch.setattr(
        papermill, "execute_notebook", lambda *args, **options: pytest.fail("papermill was started")
    )
    with pytest.raises(error):
        run_notebook(write(tmp_path / "chapter.ipynb"), tmp_path / "out.ipynb", values)


def test_progress_bars_and_widgets_leave_the_page_and_everything_else_stays():
    bar = "train:   0%|          | 0/3 [00:00<?]\rtrain: 100%|██████████| 3/3 [00:01<00:00]\n"
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "  0%|  |"}
    cell = new_code_cell(
        "train()",
        outputs=[
            new_output("stream", name="stderr", text=bar),
            new_output("stream", name="stderr", text=bar + "UserWarning: odd\n"),
            new_output("stream", name="stdout", text="one\rtwo\nthree\n"),
            new_output("display_data", data=widget),
            new_output("display_data", data={"text/plain": "kept"}),
        ],
    )
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    notebooks._tidy(notebook, {})
    assert [out.get("text") or out.data["text/plain"] for out in cell.outputs] == [
        "UserWarning: odd\n",
        "two\nthree\n",
        "kept",
    ]
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize(
    ("tag", "said"),
    [("hide-input", "Code: The claims"), ("hide-cell", "A solution that runs"), ("live", None)],
)
def test_a_hidden_cell_is_opened_by_a_line_that_says_what_it_is(tag, said):
    cell = new_code_cell("# The claims\ntable(claims)", metadata={"tags": [tag]})
    notebooks._tidy(new_notebook(cells=[cell]), {})
    assert cell.metadata.get("mystnb", {}).get("code_prompt_show") == said


@pytest.mark.parametrize(("given", "hidden"), [("best", True), ("smoke", False)])
def test_the_injected_values_are_shown_only_where_they_differ(given, hidden):
    cell = new_code_cell("# Parameters", metadata={"tags": ["injected-parameters"]})
    notebook = new_notebook(cells=[cell], metadata={"papermill": {"parameters": {"PROFILE": given}}})
    notebooks._tidy(notebook, {"PROFILE": "best"})
    assert ("remove-cell" in cell.metadata["tags"]) is hidden


def run_at_once(folder: Path, source: str, jobs: int) -> list[str]:
    """Return the outputs of two notebooks with this cell that run at once."""
    sources = [write(folder / "notebooks" / f"{name}.ipynb", source) for name in ("first", "second")]
    copies = {source: folder / "_build" / source.name for source in sources}
    run_notebooks(copies, {}, jobs)
    return [texts(copy) for copy in copies.values()]


def test_notebooks_run_at_once_each_with_its_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    meet = """import os, pathlib, time
print(os.environ["OMP_NUM_THREADS"], "threads", pathlib.Path.cwd().name)
mine, deadline = pathlib.Path(f"{os.getpid()}.kernel"), time.monotonic() + 60
mine.touch()
while len(list(pathlib.Path().glob("*.kernel"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
print("both" if time.monotonic() < deadline else "alone")"""
    threads = max(1, joblib.cpu_count() // 2)
    assert run_at_once(tmp_path, meet, jobs=2) == [f"{threads} threads notebooks\nboth\n"] * 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_cell_is_named_with_the_tail_of_its_error_whatever_runs_beside_it(tmp_path, jobs):
    with pytest.raises(NotebookError) as caught:
        run_at_once(tmp_path, "def half(x):\n    return x / 0\nhalf(3)", jobs)
    message = str(caught.value)
    name = message.partition(".ipynb, cell 3: ZeroDivisionError: division by zero\n")[0]
    assert name in ("first", "second")
    assert "return x / 0" in message
    assert "\x1b" not in message
    assert not (tmp_path / "_build" / f"{name}.ipynb").exists()
    assert (tmp_path / "_build" / f"{name}.failed.ipynb").exists()


def test_no_notebooks_are_no_error_and_no_jobs_are_refused(tmp_path):
    run_notebooks({}, {}, 2)
    with pytest.raises(ValueError, match="jobs must be a positive number, got 0"):
        run_notebooks({}, {}, 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes live")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_kernel_outlives_the_command_that_started_it(tmp_path, number):
    source = write(
        tmp_path / "sleeping.ipynb",
        "import os, pathlib, time\npathlib.Path('number').write_text(str(os.getpid()))\ntime.sleep(600)",
    )
    call = f"notebooks.run_notebook(pathlib.Path({str(source)!r}), pathlib.Path({str(tmp_path / 'copy.ipynb')!r}))"
    code = f"import pathlib\nfrom imbal_book.build import cli, notebooks\nwith cli._stoppable():\n    {call}"
    command = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    said, deadline = tmp_path / "number", time.monotonic() + 300
    while not (said.exists() and said.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = Path(f"/proc/{said.read_text()}")
    assert kernel.exists()
    command.send_signal(number)
    command.wait(timeout=120)
    deadline = time.monotonic() + 30
    while kernel.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not kernel.exists()
