import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import test_browser
import torch
from PIL import Image
from tinted_images import SIZES, untrained_network, write_images

from imbal_book.compare import compare, comparison, load_pipeline
from imbal_book.compare.aim import aim_at
from imbal_book.compare.decide import decide
from imbal_book.compare.look import CompareError
from imbal_book.compare.measured import measure_remedies
from imbal_book.compare.pipeline import PipelineError, predict_folder
from imbal_book.heads.parts import draw_parts
from imbal_book.heads.remedies import PLAIN


def test_the_report_asks_for_nothing_else_and_says_what_the_decision_says(compared):
    found, place = compared
    page = (place / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(?!data:)|url\(|@import|<script|https?://""", page)
    summary = json.loads((place / "report" / "report.json").read_text())
    assert summary["sentence"] == found.decision.sentence
    table = pd.read_csv(place / "report" / "remedies.csv", index_col=0)
    assert list(table.index) == list(found.measured.table.index)
    for remedy in found.measured.remedies.values():
        assert remedy.name in page
    assert "Shorter sides of 20 to 20 pixels (median 20), of which the network sees 16; RGB 102." in page


def test_predict_repeats_the_test_predictions_of_the_report_exactly(compared):
    found, place = compared
    expected = pd.read_csv(place / "report" / "test.csv")
    table, problems = predict_folder(place / "report", place / "images", progress=False)
    assert problems == []
    table = table.set_index("file").loc[expected["file"]].reset_index()
    pd.testing.assert_frame_equal(
        table, expected.drop(columns="true_label"), check_dtype=False, atol=0, rtol=0
    )
    confusion = pd.crosstab(expected["true_label"], expected["label"]).reindex(
        index=sorted(SIZES), columns=sorted(SIZES)
    )
    np.testing.assert_array_equal(confusion.fillna(0), found.measured.tables[found.decision.remedy][-1])


def test_a_loaded_pipeline_predicts_files_and_arrays(compared):
    found, place = compared
    pipeline = load_pipeline(place / "report" / "model")
    files = sorted((place / "images" / "common").iterdir())[:5]
    chance = pipeline.predict_proba(files)
    np.testing.assert_allclose(chance.sum(1), 1)
    assert pipeline.predict(files).tolist() == [pipeline.classes[i] for i in chance.argmax(1)]
    from imbal_core.data.image_folders import decode_all

    np.testing.assert_allclose(pipeline.predict_proba(decode_all(files, 16)), chance, atol=1e-3)


def test_validation_images_without_a_mistake_leave_the_logits_as_they_are():
    """As on few photographs: the temperature went to its lower end, and every probability was 0 or 1."""
    labels = torch.tensor([0, 1, 1])
    logits = 5 * torch.nn.functional.one_hot(labels, 2).float()
    assert comparison._temperature((logits, labels)) == 1.0 == comparison._temperature(None)
    assert comparison._temperature((logits, torch.tensor([0, 1, 0]))) > 1


def test_an_image_of_another_kind_is_flagged(compared):
    found, place = compared
    (place / "strange").mkdir()
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (20, 20), colour).save(place / "strange" / f"{name}.png")
    table, _ = predict_folder(place / "report", place / "strange", progress=False)
    assert table["unlike_training"].all()
    known, _ = predict_folder(place / "report", place / "images", progress=False)
    assert known["unlike_training"].mean() < 0.1


def test_a_report_is_never_overwritten_silently(compared):
    _, place = compared
    with pytest.raises(CompareError, match="--overwrite"):
        compare(place / "images", place / "report")


def test_a_damaged_model_is_named(compared, tmp_path):
    _, place = compared
    (tmp_path / "pipeline.json").write_bytes((place / "report" / "model" / "pipeline.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(PipelineError, match="damaged"):
        load_pipeline(tmp_path)
    with pytest.raises(PipelineError, match="holds no pipeline.json"):
        load_pipeline(tmp_path / "nothing")


HOSTILE = "<img src=x onerror=document.title=1>"
HOSTILE_FILES = '"><svg onload=document.title=2>.png', "'><iframe srcdoc=x>.png"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Return the report on a folder whose own name, classes and files are markup."""
    place = tmp_path_factory.mktemp("hostile")
    # so noisy that there are mistakes, which the report shows with the names of their files
    folder = write_images(place / "<b>images", {HOSTILE: 40, "größer & 'schöner'": 14, "日本": 30}, noise=500)
    for label in folder.iterdir():
        for image in label.iterdir():
            image.rename(image.with_name(image.stem + HOSTILE_FILES[0]))
    (folder / HOSTILE / HOSTILE_FILES[1]).write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "load_backbone", untrained_network)
        options = {"repeats": 3, "cache": None, "root": place, "progress": False, "say": lambda text: None}
        return compare(folder, place / "out", **options).out / "report.html"


def test_hostile_names_are_text_in_the_report(hostile):
    page = hostile.read_text(encoding="utf-8")
    for markup in ("<img src=x", "<b>", "<svg onload", "<iframe"):
        assert markup not in page
    assert "&lt;img src=x onerror=document.title=1&gt;" in page and "日本" in page
    assert "&#34;&gt;&lt;svg onload" in page and "&lt;iframe srcdoc=x&gt;" in page


@pytest.mark.skipif(
    test_browser.CHROMIUM is None, reason="no Chromium here: install it to look at the report"
)
def test_hostile_names_stay_text_in_a_browser(hostile, tmp_path):
    dom, console, hosts = test_browser.open_page(hostile.as_uri(), tmp_path)
    assert console == "", "not even refused by the page's policy: there is nothing to refuse"
    seen = Elements(dom)
    assert not {"script", "iframe", "b"} & seen.tags
    assert not [name for name in seen.attributes if name.startswith("on")] and "srcdoc" not in seen.attributes
    assert all(source.startswith("data:image/jpeg") for source in seen.sources) and seen.sources
    assert seen.title.startswith("Which remedy for <b>images")
    assert HOSTILE in seen.text and HOSTILE_FILES[1] in seen.text


class Elements(HTMLParser):
    """What a browser has made of a page: its tags, attributes, sources of pictures, title and text."""

    def __init__(self, dom):
        super().__init__()
        self.tags, self.attributes, self.sources, self.title, self.text = set(), set(), [], "", ""
        self.inside = ""
        self.feed(dom)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value for name, value in attrs if name == "src"]
        self.inside = tag

    def handle_data(self, data):
        self.title += data if self.inside == "title" else ""
        self.inside = "" if self.inside == "title" else self.inside
        self.text += data


def decision_on(labels, features, seed):
    parts = draw_parts(labels, np.arange(len(labels)), None, repeats=10, validations=2, seed=seed)
    classes = int(labels.max()) + 1
    names = list("abcd")[:classes]
    aim = aim_at("balanced-accuracy", None, None, None, classes=names, measured=parts.measured, known=names)
    measured = measure_remedies(features, labels, parts, aim, seed=seed)
    recalls = {name: measured.recalls(name) for name in measured.tables}
    return decide(
        measured.table,
        measured.by_validation,
        recalls,
        np.bincount(labels),
        parts.measured,
        names,
        measured.remedies,
        metric="balanced accuracy",
        portable=list(measured.fitted),
    )


@pytest.mark.slow
def test_on_shuffled_labels_nothing_helps():
    decisions = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(4), (120, 40, 20, 12))
        features = rng.normal(0, 1, (len(labels), 16)) + np.eye(4, 16)[labels] * 2
        decisions.append(decision_on(rng.permutation(labels), features, seed))
    assert sum(decision.remedy == PLAIN for decision in decisions) >= 19
    assert all("no remedy differs" in d.sentence for d in decisions if d.remedy == PLAIN)
