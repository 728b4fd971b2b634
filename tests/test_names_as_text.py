"""What a class or a file is called reaches no page as markup, wherever one is written."""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure

from imbal_book.chapters import table
from imbal_book.pictures.figures import Drawing

ROOT = Path(__file__).parents[1]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(2)>',
    "</td><script>alert(3)</script>",
    "'><b>",
]
#: What a page may be made of.
OURS = set("figure figcaption picture source img details summary table thead tbody tr th td div".split())


class Tags(HTMLParser):
    """The tags and attributes of a piece of HTML, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.events, self.text, self.sources = set(), set(), "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.events |= {name for name, _ in attrs if name.startswith("on")}
        self.sources += [value for name, value in attrs if name in ("src", "srcset")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_drawing_shows_names_as_text(name):
    figure = Figure()
    figure.subplots().set_title(name)
    rows = pd.DataFrame({name: [1.0, 2.0], "class": [name, "cat"]})
    drawing = Drawing(figure, f"Recall of {name}.", rows, f"Below: {name}")
    seen = Tags(drawing._repr_html_())
    assert seen.tags <= OURS and not seen.events
    assert all(source.startswith("data:image/svg+xml;base64,") for source in seen.sources)
    assert seen.text.count(name) == 3, "the caption, a column's name and a cell"
    for element in ElementTree.fromstring(drawing.svg()).iter():
        assert element.tag.split("}")[-1] not in ("script", "img", "b", "foreignObject")
        assert not [attribute for attribute in element.attrib if attribute.startswith("on")]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("indexed", [False, True])
def test_a_table_shows_names_as_text_in_cells_columns_and_index(name, indexed):
    frame = pd.DataFrame({name: [name, "cat"], "recall": [0.5, 1.0]}, index=pd.Index([name, 1], name=name))
    seen = Tags(str(table(frame if indexed else frame.reset_index(drop=True))))
    assert seen.tags <= OURS and not seen.events and not seen.sources
    assert seen.text.count(name) == (4 if indexed else 2)


def test_the_notebook_of_your_own_images_makes_markup_of_fixed_text_only():
    """A sentence with the name of a class is printed: as Markdown or HTML it would be markup."""
    cells = nbformat.read(ROOT / "notebooks" / "your_own_images.ipynb", as_version=4).cells
    calls = [
        call
        for cell in cells
        if cell.cell_type == "code"
        for call in ast.walk(ast.parse(cell.source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("Markdown", "HTML", "Html")
    ]
    assert calls
    for call in calls:
        assert all(isinstance(argument, ast.Constant) for argument in call.args), ast.unparse(call)


def test_the_packages_make_html_of_names_in_known_places_only():
    """Each is tested: above, with the report of `imbal compare`, with the ledger, or has nothing but fixed text."""
    known = {"build/deviations.py", "build/ledger.py", "chapters/__init__.py", "pictures/figures.py"}
    known |= {"chapters/final_batch_norm.py"}  # the command that trains its runs
    known |= {"build/speed.py"}  # its words are those of benchmarks/measured.py, escaped
    package = ROOT / "book" / "imbal_book"
    tags = "td|th|tr|b|p|a|li|ul|div|span|code|small|figure|details|table|dl"
    pattern = re.compile(rf"</?({tags})[ >]|text/html")
    found = set()
    for path in package.rglob("*.py"):
        strings = [
            node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]  # fmt: skip
        if any(map(pattern.search, strings)) or "to_html" in path.read_text(encoding="utf-8"):
            found.add(path.relative_to(package).as_posix())
    assert found == known
