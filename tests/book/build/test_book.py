"""The pages of the book, built around hand-made chapters: no network, no warning, every part there."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from imbal_book.build import execute
from imbal_book.build.colab import badge_row
from imbal_book.build.execute import list_notebooks

ROOT = Path(__file__).parents[3]
PAGES = ["index", "reading", "glossary", "status", "references"]


def fake_run(source, destination, parameters, **options):
    """Write an executed chapter with a formula, a citation, a glued verdict and a glued number."""

    def glued(name, value):
        data = {"application/papermill.record/text/plain": repr(value)}
        scrapbook = {"name": name, "mime_prefix": "application/papermill.record/"}
        return new_output("display_data", data=data, metadata={"scrapbook": scrapbook})

    outputs = [glued("verdict_D-1", "undecided"), glued("accuracy", 0.5)]
    cells = [
        new_markdown_cell(f"# The chapter {source.stem}"),
        new_markdown_cell(badge_row(source.stem)),
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
    shutil.copy2(ROOT / "_config.yml", repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "run_notebook", fake_run)
        index = execute.build_book(repo)
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


def test_the_landing_page_has_four_cards_and_links_written_chapters_only(html):
    page = (html / "book" / "index.html").read_text(encoding="utf-8")
    assert page.count("paper-card") == 4
    written = list(list_notebooks(ROOT))
    assert page.count("chapter in preparation") == 4 - len(written)
    for name in written:
        assert f'href="../notebooks/{name}.html"' in page
    assert page.count("D-1 undecided") == len(written)


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
