"""The book built around hand-made chapters: what is staged, and its pages: no network, no warning, every part there."""

import inspect
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from executed_copies import glued_verdict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import imbal_core
from imbal_book.build import book, notebooks
from imbal_book.build.book import BookError, build_book, find_notebook, list_notebooks, stage_book
from imbal_book.evidence.papers import list_papers, load_paper
from imbal_book.studies import STUDIES

ROOT = Path(__file__).parents[3]
PAGES = [
    "index",
    "claims",
    "deviations",
    "seeds",
    "library",
    "commands",
    "contributing",
    "changelog",
    "reading",
    "glossary",
    "status",
    "references",
]


def fake_run(source, destination, parameters, **options):
    """Write an executed chapter with a formula, a citation, a glued verdict and a glued number."""

    def glued(name, value):
        data = {"application/papermill.record/text/plain": repr(value)}
        scrapbook = {"name": name, "mime_prefix": "application/papermill.record/"}
        return new_output("display_data", data=data, metadata={"scrapbook": scrapbook})

    papers = [load_paper(name) for name in list_papers()]
    claims = [claim for paper in papers if paper.study == source.stem for claim in paper.claims]
    verdicts = json.dumps([glued_verdict(claim, "undecided") for claim in claims])
    outputs = [glued("verdicts", verdicts), glued("accuracy", 0.5)]
    opening = nbformat.read(ROOT / "notebooks" / source.name, as_version=4).cells[0].source
    badges = [line for line in opening.splitlines() if line.startswith("[![")]
    cells = [
        new_markdown_cell(f"# The chapter {source.stem}"),
        new_markdown_cell("\n".join(badges)),
        new_code_cell("1 + 1", outputs=outputs, execution_count=1),
        new_markdown_cell("Accuracy {glue}`accuracy`, as in {cite}`zhang2018`, with $x_i$."),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python", "version": "3.12.1"},
        "papermill": {"duration": 7.5, "start_time": "2026-01-02T03:04", "parameters": dict(parameters)},
        "imbal": {"device": "a device", "versions": {"torch": "2.6.0"}},
    }
    destination.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata), destination)


class Links(HTMLParser):
    """Collect what a page loads, what it links to, and its images without alt text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads, self.links, self.silent = [], [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") not in (
            "canonical",
            "next",
            "prev",
            "search",
            "index",
            "author",
        ):
            self.loads.append(values.get("href"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img" and not (values.get("alt") or "").strip():
            self.silent.append(values.get("src"))


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    repo = tmp_path_factory.mktemp("repo")
    shutil.copytree(ROOT / "book", repo / "book")
    for name in ("_config.yml", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy2(ROOT / name, repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "run_notebook", fake_run)
        index = build_book(repo, jobs=1)
    return index.parent


@pytest.fixture(scope="module")
def pages(html) -> dict[str, Links]:
    files = [*html.glob("book/*.html"), *html.glob("notebooks/*.html")]
    return {str(path.relative_to(html)): Links(path) for path in files}


def test_every_page_and_chapter_is_built_without_a_warning(pages):
    assert {f"book/{name}.html" for name in PAGES} <= set(pages)
    assert {f"notebooks/{name}.html" for name in list_notebooks(ROOT)} <= set(pages)


def test_the_entry_page_leads_to_the_landing_page(html):
    assert "book/index.html" in (html / "index.html").read_text()


def test_no_page_loads_anything_from_another_host(pages):
    assert {
        load for page in pages.values() for load in page.loads if re.match(r"(https?:)?//", load)
    } == set()


def test_no_page_names_a_content_network(html):
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"cdn|unpkg|googleapis|cloudflare|requirejs|thebe", text), path.name


def test_everything_that_a_page_loads_is_there(html, pages):
    for name, page in pages.items():
        for load in page.loads:
            target = (html / name).parent / load.split("?")[0].split("#")[0]
            assert target.exists(), (name, load)


def test_every_link_inside_the_book_leads_somewhere(html, pages):
    for name, page in pages.items():
        for link in page.links:
            path = link.split("#")[0].split("?")[0]
            if path and not re.match(r"[a-z]+:", path):
                assert ((html / name).parent / path).exists(), (name, link)


def test_every_image_has_an_alternative_text(pages):
    assert {name: page.silent for name, page in pages.items() if page.silent} == {}


def test_mathjax_is_the_vendored_one_with_its_fonts(html):
    page = (html / "book" / "reading.html").read_text(encoding="utf-8")
    assert re.search(r'<script[^>]*src="\.\./_static/mathjax/tex-chtml-full\.js', page)
    assert len(list((html / "_static" / "mathjax").rglob("*.woff"))) > 10


def test_the_landing_page_has_a_card_for_every_chapter_and_links_written_ones_only(html):
    page = (html / "book" / "index.html").read_text(encoding="utf-8")
    cards = re.findall(r"_generated/card_(\w+)\.md", (ROOT / "book" / "index.md").read_text(encoding="utf-8"))
    written = [name for name in list_notebooks(ROOT) if name in STUDIES]
    assert set(written) <= set(cards)
    assert page.count("paper-card") == len(cards)
    assert page.count("chapter in preparation") == len(cards) - len(written)
    for name in written:
        assert f'href="../notebooks/{name}.html"' in page
    claims = [claim for name in list_papers() for claim in load_paper(name).claims]
    assert len(re.findall(r'href="../notebooks/\w+.html#parts-[\w-]+">undecided</a>', page)) == len(claims)


def test_the_ledger_has_a_row_for_every_claim_and_its_filter_is_a_file(html):
    page = (html / "book" / "claims.html").read_text(encoding="utf-8")
    claims = [claim for name in list_papers() for claim in load_paper(name).claims]
    assert len(re.findall(r"<tr id=", page)) == len(claims)
    assert re.search(r'<script src="../_static/ledger.js" defer', page)
    assert '<form class="ledger-filter" id="ledger-filter" hidden' in page, "shown by its script alone"


def test_the_status_page_shows_how_each_chapter_was_executed(html):
    page = (html / "book" / "status.html").read_text(encoding="utf-8")
    for name in list_notebooks(ROOT):
        assert f"The chapter {name}" in page
    for text in ("best", "7.5", "a device", "python 3.12.1, torch 2.6.0", "2026-01-02 03:04"):
        assert text in page


def test_glued_numbers_and_citations_reach_the_page(html):
    for name in list_notebooks(ROOT):
        page = (html / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(r"Accuracy (<[^>]+>)*0\.5", page)
        assert "references.html#id" in page or "#zhang2018" in page or "Zhang" in page


def test_launch_and_download_buttons_point_at_files_that_exist(html, pages):
    for name in list_notebooks(ROOT):
        links = pages[f"notebooks/{name}.html"].links
        assert f"../_sources/notebooks/{name}.ipynb" in links
        assert json.loads((html / "_sources" / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        for link in links:
            if "/blob/main/" in link or "/raw/main/" in link:
                assert (ROOT / re.split("/(?:blob|raw)/main/", link)[1]).is_file(), link
        assert any("colab.research.google.com" in link for link in links)


def test_the_reference_has_every_public_name_and_every_command(html):
    library = (html / "book" / "library.html").read_text(encoding="utf-8")
    for name in imbal_core.__all__:
        assert f'id="imbal_core.{name}"' in library, name
        _, _, attributes = (inspect.getdoc(getattr(imbal_core, name)) or "").partition("Attributes\n---")
        listed = re.findall(r"^(\w+, .*) :", attributes, re.M)
        assert not listed, f"{name}: a line for each of {listed}, for Sphinx takes the first for a type"
    assert 'id="imbal_core.CategoryCenters.partial_fit"' in library and "set_fit_request" not in library
    commands = (html / "book" / "commands.html").read_text(encoding="utf-8")
    for command in ("imbal plan", "imbal run", "imbal data show", "imbal records add"):
        assert f"Usage: {command}" in commands, command


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """Return a checkout of one chapter and two pages, the second card of which has no notebook."""
    monkeypatch.setattr(notebooks, "run_notebook", empty_run)
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("title: small\n")
    (tmp_path / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n- caption: Chapters\n  chapters:\n"
        "  - file: notebooks/first\n- caption: About\n  chapters:\n  - file: book/status\n"
    )
    includes = [f"```{{include}} _generated/card_{name}.md\n```\n" for name in ("first", "second")]
    (tmp_path / "book" / "index.md").write_text("# Small\n\n" + "".join(includes))
    (tmp_path / "book" / "status.md").write_text("# Status\n\n```{include} _generated/status.md\n```\n")
    return tmp_path


def empty_run(source, destination, parameters, **options):
    """Stand in for papermill: a copy with the metadata that pages are made from."""
    metadata = {
        "language_info": {"name": "python", "version": "3.12.1"},
        "papermill": {"duration": 1.0, "start_time": "2026-01-02T03:04", "parameters": dict(parameters)},
        "imbal": {"device": "cpu", "versions": {}},
    }
    destination.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A chapter")], metadata=metadata), destination)


@pytest.fixture
def commands(small, monkeypatch) -> list[list[str]]:
    """Take the place of Jupyter Book, and return the commands that would have started it."""
    found = []

    def build(command, **options):
        found.append(command)
        index = small / "_build" / "html" / "index.html"
        index.parent.mkdir()
        index.touch()
        return subprocess.CompletedProcess(command, 0)

    # not subprocess.run itself, by which Python asks for the name of the processor
    monkeypatch.setattr(book, "subprocess", SimpleNamespace(run=build))
    return found


def test_a_notebook_is_found_by_name_and_a_typo_gets_the_nearest(small):
    assert list_notebooks(small) == {"first": small / "notebooks" / "first.ipynb"}
    assert find_notebook("first.ipynb", small) == small / "notebooks" / "first.ipynb"
    with pytest.raises(ValueError, match="unknown notebook 'frist': did you mean 'first'"):
        find_notebook("frist", small)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(BookError, match="no _config"):
        list_notebooks(tmp_path)


def test_the_stage_holds_the_pages_and_a_card_for_every_chapter(small):
    copy = small / "_build" / "book" / "notebooks" / "first.ipynb"
    empty_run(copy, copy, {"PROFILE": "best"})
    (small / "book" / "imbal_book").mkdir()
    for _ in range(2):  # a second stage replaces the first
        stage = stage_book(small, {"first": copy})
    assert stage == small / "_build" / "book"
    for name in ("index.md", "_toc.yml"):
        assert (stage / "book" / name).read_text() == (small / "book" / name).read_text()
    assert not (stage / "book" / "imbal_book").exists()
    assert "notebooks/first.ipynb" in (stage / "book" / "_generated" / "card_first.md").read_text()
    assert "in preparation" in (stage / "book" / "_generated" / "card_second.md").read_text()


def test_a_warning_of_the_page_build_fails_the_book(small, capfd):
    with (small / "book" / "status.md").open("a") as page:
        page.write("\nSee [nothing](nowhere.md).\n")
    with pytest.raises(BookError, match="errors or warnings"):
        build_book(small, jobs=1)
    assert re.search(r"status\.md.*nowhere", capfd.readouterr().err)


def test_every_build_reads_all_pages_again_so_that_a_warning_repeats(small, commands):
    for _ in range(2):
        assert build_book(small, jobs=1) == small.resolve() / "_build" / "html" / "index.html"
    assert len(commands) == 2 and {"-W", "--keep-going", "--all"} <= set(commands[1])


def test_a_book_without_chapters_is_built(small, commands):
    (small / "book" / "_toc.yml").write_text("root: book/index\nparts:\n- chapters:\n  - file: book/status\n")
    assert build_book(small).is_file()
