"""A saved model without this package: its script, run as it is, and its ONNX file, against `imbal predict`."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tinted_images import write_images
from typer.testing import CliRunner

from imbal_book.build.cli import app
from imbal_book.compare import onnx_file
from imbal_book.compare.pipeline import Pipeline, load_pipeline, predict_folder
from imbal_core.data.image_folders import decode_all
from imbal_core.models.build import build_model


@pytest.fixture
def saved(tmp_path, request):
    """Return the folder of a model with drawn weights on a network of 64 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, images = build_model(request.param, 2, image_size=64).eval(), torch.randn(6, 3, 64, 64)
    tap = network.embedding_tap or network.taps[-1]
    with torch.no_grad():
        mean = F.normalize(network.forward_taps(images, (tap,))[tap]).mean(0).numpy()
    weight = np.random.default_rng(0).normal(0, 6, (len(mean), 3)).astype(np.float32)
    bias, references = -mean @ weight, np.zeros((1, len(mean)), np.float16)
    classes = {"classes": ["a", "größer 'b'", "c"]}
    Pipeline(network, weight, bias, 1.5, references, 0.0, classes).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("saved", ["timm:tf_efficientnet_lite0", "resnet34"], indirect=True)
def test_the_script_repeats_the_predictions_in_plain_torch(saved, tmp_path, monkeypatch, capsys):
    if "timm" in (saved / "predict.py").read_text(encoding="utf-8"):
        pytest.importorskip("timm", reason="the extra `timm` is not installed")
    images = write_images(tmp_path / "images", {"a": 3, "b": 3})
    large = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 500, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(images / "a" / "turned.jpg", exif=exif)
    table, problems = predict_folder(saved, images, progress=False)
    assert problems == [] and table["p:a"].std() > 0.01
    assert "imbal" not in (saved / "predict.py").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["predict.py", *(str(images / name) for name in table["file"])])
    printed = runpy.run_path(str(saved / "predict.py"))
    assert len(capsys.readouterr().out.splitlines()) == len(table)
    for row in table.to_dict("records"):
        chances = printed["predict"](images / row["file"])
        assert max(chances, key=chances.get) == row["label"]
        np.testing.assert_allclose(list(chances.values()), [row[f"p:{name}"] for name in chances], atol=2e-4)


@pytest.mark.parametrize("saved", ["small_cnn"], indirect=True)
def test_a_network_of_this_package_has_no_script(saved):
    assert not (saved / "predict.py").exists()


@pytest.mark.parametrize("saved", ["small_cnn"], indirect=True)
def test_the_onnx_file_gives_the_probabilities_of_any_number_of_images(saved, tmp_path, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra `onnx` is not installed")
    import onnxruntime

    command = ["export", str(saved), "--out", str(tmp_path / "model.onnx")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    files = sorted((write_images(tmp_path / "images", {"a": 4}) / "a").iterdir())
    expected = load_pipeline(saved).predict_proba(files)
    assert expected.std(0).max() > 0.01
    for part in (files[:1], files):
        (found,) = session.run(["probabilities"], {"images": decode_all(part, 64)})
        np.testing.assert_allclose(found, expected[: len(part)], atol=5e-3)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == load_pipeline(saved).classes
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "--overwrite" in again.output
    monkeypatch.setattr(onnx_file, "TOLERANCE", -1)
    with pytest.raises(RuntimeError, match="differ by .* no file was written"):
        onnx_file.write_onnx(load_pipeline(saved), tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize("saved", ["small_cnn"], indirect=True)
def test_without_the_extra_the_export_says_which_one_to_install(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = CliRunner().invoke(app, ["export", str(saved), "--out", str(tmp_path / "model.onnx")])
    assert result.exit_code == 2 and "pip install 'imbal-core[onnx]'" in result.output
