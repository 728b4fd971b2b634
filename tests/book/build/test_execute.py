import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from imbal_book.build import execute
from imbal_book.build.execute import BookError, find_notebook, list_notebooks, run_notebook, stage_book
from imbal_book.build.parameters import NotebookError

ROOT = Path(__file__).parents[3]
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
    """Execute one notebook for real, then again with reuse, then again after a record has appeared."""
    repo = tmp_path_factory.mktemp("repo")
    source = write(
        repo / "notebooks" / "chapter.ipynb",
        "import os, time",
        "print('profile', PROFILE, 'live', LIVE, 'in', os.path.basename(os.getcwd()))\nprint(time.time())",
    )
    copy = repo / "_build" / "chapter.ipynb"
    seen = []
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


def test_a_failing_cell_is_named_with_the_tail_of_its_error(tmp_path):
    source = write(tmp_path / "chapter.ipynb", "x = 1", "def half(x):\n    return x / 0\nhalf(3)")
    copy = tmp_path / "out" / "chapter.ipynb"
    with pytest.raises(NotebookError) as caught:
        run_notebook(source, copy, progress=False)
    message = str(caught.value)
    assert message.startswith("chapter.ipynb, cell 4: ZeroDivisionError: division by zero")
    assert "return x / 0" in message
    assert "\x1b" not in message
    assert not copy.exists()
    assert copy.with_name("chapter.failed.ipynb").exists()


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
    execute._tidy(notebook, {})
    assert [out.get("text") or out.data["text/plain"] for out in cell.outputs] == [
        "UserWarning: odd\n",
        "two\nthree\n",
        "kept",
    ]
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize(("given", "hidden"), [("best", True), ("smoke", False)])
def test_the_injected_values_are_shown_only_where_they_differ(given, hidden):
    cell = new_code_cell("# Parameters", metadata={"tags": ["injected-parameters"]})
    notebook = new_notebook(cells=[cell], metadata={"papermill": {"parameters": {"PROFILE": given}}})
    execute._tidy(notebook, {"PROFILE": "best"})
    assert ("remove-cell" in cell.metadata["tags"]) is hidden


def small_repository(root: Path) -> Path:
    (root / "book").mkdir(parents=True)
    (root / "_config.yml").write_text("title: small\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n- caption: Chapters\n  chapters:\n"
        "  - file: notebooks/first\n  - file: notebooks/second\n"
        "- caption: About\n  chapters:\n  - file: book/status\n"
    )
    includes = "".join(
        f"```{{include}} _generated/card_{name}.md\n```\n" for name in ("first", "second", "third")
    )
    (root / "book" / "index.md").write_text("# Small\n\n" + includes)
    (root / "book" / "status.md").write_text("# Status\n\n```{include} _generated/status.md\n```\n")
    return root


def fake_run(source, destination, parameters, **options):
    """Stand in for papermill: a copy with the metadata that pages are made from."""
    metadata = {
        "language_info": {"name": "python", "version": "3.12.1"},
        "papermill": {"duration": 1.0, "start_time": "2026-01-02T03:04", "parameters": dict(parameters)},
        "imbal": {"device": "cpu", "versions": {}},
    }
    destination.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell(f"# {source.stem}")]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), destination)


def test_a_notebook_is_found_by_name_and_a_typo_gets_the_nearest(tmp_path):
    root = small_repository(tmp_path / "repo")
    assert list(list_notebooks(root)) == ["first", "second"]
    assert find_notebook("first.ipynb", root) == root / "notebooks" / "first.ipynb"
    with pytest.raises(ValueError, match="unknown notebook 'frist': did you mean 'first'"):
        find_notebook("frist", root)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(BookError, match="no _config"):
        list_notebooks(tmp_path)


def test_the_stage_keeps_source_paths_and_leaves_out_what_was_not_executed(tmp_path):
    root = small_repository(tmp_path / "repo")
    build = root / "_build"
    fake_run(
        root / "notebooks" / "first.ipynb", build / "book" / "notebooks" / "first.ipynb", {"PROFILE": "best"}
    )
    for _ in range(2):  # a second stage replaces the first
        stage = stage_book(root, build, ["first"])
    assert (stage / "book" / "index.md").read_text() == (root / "book" / "index.md").read_text()
    toc = (stage / "_toc.yml").read_text()
    assert "notebooks/first" in toc
    assert "notebooks/second" not in toc
    assert "notebooks/first.ipynb" in (stage / "book" / "_generated" / "card_first.md").read_text()
    for absent in ("second", "third"):
        assert "in preparation" in (stage / "book" / "_generated" / f"card_{absent}.md").read_text()


def test_a_warning_of_the_page_build_fails_the_book(tmp_path, monkeypatch, capfd):
    root = small_repository(tmp_path / "repo")
    monkeypatch.setattr(execute, "run_notebook", fake_run)
    with (root / "book" / "status.md").open("a") as page:
        page.write("\nSee [nothing](nowhere.md).\n")
    with pytest.raises(BookError, match="errors or warnings"):
        execute.build_book(root, only=["first"], jobs=1)
    assert re.search(r"status\.md.*nowhere", capfd.readouterr().err)


def built_at_once(root: Path, monkeypatch, *cells: str, jobs: int) -> list[str]:
    """Return the outputs of two notebooks that `build_book` has executed, without building pages of them."""
    index = root / "_build" / "html" / "index.html"

    def build(command, **options):
        index.parent.mkdir()
        index.touch()
        return subprocess.CompletedProcess(command, 0)

    sources = [write(root / "notebooks" / f"{name}.ipynb", *cells) for name in ("first", "second")]
    monkeypatch.setattr(subprocess, "run", build)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    execute.build_book(root, jobs=jobs, progress=False)
    return [texts(root / "_build" / "book" / "notebooks" / source.name) for source in sources]


def test_notebooks_run_at_once_each_with_its_share_of_the_cores(tmp_path, monkeypatch):
    meet = """import os, pathlib, time
print(os.environ["OMP_NUM_THREADS"], "threads", pathlib.Path.cwd().name)
mine, deadline = pathlib.Path(f"{os.getpid()}.kernel"), time.monotonic() + 60
mine.touch()
while len(list(pathlib.Path().glob("*.kernel"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
print("both" if time.monotonic() < deadline else "alone")"""
    outputs = built_at_once(small_repository(tmp_path / "repo"), monkeypatch, meet, jobs=2)
    assert outputs == ["3 threads notebooks\nboth\n"] * 2


def test_the_error_of_a_notebook_that_runs_beside_another_is_the_one_of_a_single_run(tmp_path, monkeypatch):
    root = small_repository(tmp_path / "repo")
    with pytest.raises(NotebookError, match=r"\.ipynb, cell 3: ZeroDivisionError"):
        built_at_once(root, monkeypatch, "1 / 0", jobs=2)
    assert not (root / "_build" / "html").exists()


def test_every_build_reads_all_pages_again_so_that_a_warning_repeats(tmp_path, monkeypatch):
    root = small_repository(tmp_path / "repo")
    commands = []

    def build(command, **options):
        commands.append(command)
        (root / "_build" / "html").mkdir()
        (root / "_build" / "html" / "index.html").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(execute, "run_notebook", fake_run)
    monkeypatch.setattr(subprocess, "run", build)
    assert execute.build_book(root, jobs=1) == root.resolve() / "_build" / "html" / "index.html"
    assert {"-W", "--keep-going", "--all"} <= set(commands[0])


def test_a_book_without_chapters_is_built_and_no_jobs_are_refused(tmp_path, monkeypatch):
    root = small_repository(tmp_path / "repo")
    with pytest.raises(ValueError, match="jobs must be a positive number, got 0"):
        execute.build_book(root, jobs=0)
    (root / "_build" / "html").mkdir(parents=True)

    def build(command, **options):
        (root / "_build" / "html").mkdir()
        (root / "_build" / "html" / "index.html").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", build)
    assert execute.build_book(root, only=[]).is_file()
