import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tinted_images import SIZES, write_images

from imbal_book.compare import compare, load_pipeline
from imbal_book.compare.decide import decide
from imbal_book.compare.look import CompareError
from imbal_book.compare.measured import measure_remedies
from imbal_book.compare.pipeline import PipelineError, predict_folder
from imbal_book.heads.parts import draw_parts
from imbal_book.heads.remedies import PLAIN
from imbal_book.heads.scores import metric_of


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


def test_hostile_names_are_text_in_the_report(tmp_path, small_network):
    hostile = "<img src=x onerror=alert(1)>"
    names = {hostile: 40, "größer & 'schöner'": 14, "日本": 30}
    found = compare(
        write_images(tmp_path / "<b>images", names),
        tmp_path / "out",
        repeats=3,
        cache=None,
        root=tmp_path,
        progress=False,
        say=lambda text: None,
    )
    page = (found.out / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "<b>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page and "日本" in page


def decision_on(labels, features, seed):
    parts = draw_parts(labels, np.arange(len(labels)), None, repeats=10, validations=2, seed=seed)
    classes = int(labels.max()) + 1
    score = metric_of("balanced-accuracy", measured=parts.measured)
    measured = measure_remedies(features, labels, parts, score, seed=seed)
    recalls = {name: measured.recalls(name) for name in measured.tables}
    return decide(
        measured.table,
        measured.by_validation,
        recalls,
        np.bincount(labels),
        parts.measured,
        list("abcd")[:classes],
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
