"""The figures of the final batch norm: what is drawn, against torch's layer, counting and the tables behind."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from leaf_photos import write_plant

from imbal_book.pictures import batch_norm_pictures as pictures
from imbal_book.pictures import batch_norm_sketches as sketches
from imbal_book.pictures.photographs import draw_all, leaf_grid, long_tail
from imbal_core.data.datasets import ImageDataset
from imbal_core.data.plantvillage import DISEASES, PLANT_FOLDERS


@pytest.mark.parametrize(("large", "rare"), [(50, 50), (90, 10), (990, 10)])
def test_the_confidence_behind_a_perfect_separation_is_that_of_torchs_layer(large, rare):
    """Logits of any two values, one for each class, through a batch norm with scale 1 and shift 0."""
    labels = torch.tensor([0] * large + [1] * rare)
    logits = torch.where(labels[:, None] == torch.arange(2), 7.0, -3.0).double()
    layer = torch.nn.BatchNorm1d(2, eps=1e-12, dtype=torch.float64)
    sure = torch.softmax(layer(logits), dim=1).max(1).values
    found = sketches.normalised_confidence(rare / (large + rare))
    assert [float(value) for value in found] == pytest.approx([sure[0].item(), sure[-1].item()])
    row = sketches.perfect_separation([1, 9, 99]).table.set_index("rare : others").loc[f"1:{large // rare}"]
    assert row["confidence, large class"] == pytest.approx(sure[0].item())
    assert row["cross entropy, large class (nats)"] == pytest.approx(-np.log(sure[0].item()))


def test_a_batch_without_a_rare_image_is_as_likely_as_in_many_drawn_batches():
    drawn = np.random.default_rng(0).random((40_000, 64)) < 0.01
    assert sketches.without_rare(0.01, 64) == pytest.approx((~drawn.any(axis=1)).mean(), abs=0.01)


def test_the_layer_stands_between_the_logits_and_the_softmax():
    drawing = sketches.layer_sketch(caption="where")
    parts = drawing.table["part"].tolist()
    assert parts.index("last layer") + 1 == parts.index("final batch norm") == parts.index("softmax") - 1
    assert "removed at inference" in drawing.alt and "\n" not in "".join(drawing.table["what it gives"])


def test_the_rings_of_the_curves_are_at_each_runs_lowest_loss():
    epochs = pd.DataFrame(
        [
            ("apple", method, key, epoch, f1, loss)
            for method, key, f1s, losses in (
                ("plain", "a", (0.1, 0.2, 0.3), (0.5, 0.1, 0.4)),
                ("plain", "c", (0.6, 0.4, 0.3), (0.2, 0.3, 0.4)),
                ("final BN", "b", (0.5, 0.7, 0.9), (0.9, 0.8, 0.7)),
            )
            for epoch, (f1, loss) in enumerate(zip(f1s, losses, strict=True), 1)
        ],
        columns=["dataset", "method", "key", "epoch", "f1", "loss"],
    )
    drawing = pictures.curves(epochs)
    rings = {
        (row, line.get_label().split(":")[0]): line.get_xydata().tolist()
        for row, ax in enumerate(drawing.figure.axes)
        for line in ax.lines
        if "lowest loss" in line.get_label()
    }
    assert rings == {
        (0, "plain"): [[2, 0.2], [1, 0.6]],
        (1, "plain"): [[2, 0.1], [1, 0.2]],
        (0, "final BN"): [[3, 0.9]],
        (1, "final BN"): [[3, 0.7]],
    }
    thin = [line.get_ydata().tolist() for line in drawing.figure.axes[0].lines if line.get_linewidth() == 0.9]
    assert sorted(thin) == [[0.1, 0.2, 0.3], [0.5, 0.7, 0.9], [0.6, 0.4, 0.3]], "a thin line for each run"
    assert "apple, plain: after epoch 3 F1 0.30, loss 0.40; lowest mean loss after epoch 2." in drawing.alt
    assert "dotted" not in drawing.alt
    with_line = pictures.curves(epochs, baseline=0.25)
    above, below = with_line.figure.axes
    assert [line.get_ydata() for line in above.lines if line.get_linestyle() == ":"] == [[0.25, 0.25]]
    assert not [line for line in below.lines if line.get_linestyle() == ":"]
    assert with_line.alt.endswith("A dotted line at 0.25: the F1 of calling every image rare.")


PLACE = {"dataset": "apple", "method": "plain", "lower": [0.4, 0.5, 0.9], "upper": [0.5, 0.9, 1.0]}


def test_confidence_and_reliability_say_what_their_bins_hold():
    bins = pd.DataFrame({**PLACE, "count": [0, 20, 80], "share": [0.0, 0.2, 0.8]})
    drawing = pictures.confidence(bins)
    assert "apple, plain: 80% of the test images have a confidence above 0.9." in drawing.alt
    assert drawing.table["count"].tolist() == [20, 80]
    (ax,) = drawing.figure.axes
    (steps,) = ax.collections
    assert steps.get_paths()[0].vertices[:, 1].max() == pytest.approx(80), "percent of the images"
    filled = bins.assign(confidence=[np.nan, 0.7, 0.95], accuracy=[np.nan, 0.5, 0.75])
    # 0.2 times 0.2 too sure, and 0.8 times 0.2
    assert "on average 0.20 less accurate than confident" in pictures.reliability(filled).alt


def test_margins_count_the_images_on_both_sides_of_both_thresholds():
    images = pd.DataFrame(
        [("apple", "plain", 0, m, -2.0) for m in (-5, -4, -3, -1)]
        + [("apple", "plain", 1, m, -2.0) for m in (-3, -1, 1, 2)],
        columns=["dataset", "method", "label", "margin", "balanced"],
    )
    drawing = pictures.margins(images)
    assert drawing.table["class"].tolist() == list(pictures.CLASSES)
    assert drawing.table["share above 0"].tolist() == [0.0, 0.5]
    assert drawing.table["share above threshold"].tolist() == [0.25, 0.75]
    (ax,) = drawing.figure.axes
    assert sorted(line.get_xdata()[0] for line in ax.lines) == [-2.0, 0.0]
    assert "50% of the images of the rare class lie above 0" in drawing.alt


def test_the_grid_shows_healthy_and_diseased_leaves_of_every_plant(tmp_path):
    for plant in PLANT_FOLDERS:
        write_plant(tmp_path / "plantvillage" / "color", plant)
    drawing = leaf_grid(tmp_path, tuple(PLANT_FOLDERS), per_class=3)
    assert drawing.table["plant"].tolist() == [plant for plant in PLANT_FOLDERS for _ in range(6)]
    for _, own in drawing.table.groupby("plant"):
        assert (own["shows"] == "healthy").sum() == 3 and own["file"].is_unique
    assert drawing.table.query("plant == 'apple'")["shows"].nunique() == 1 + len(DISEASES["apple"])
    assert all(ax.images for ax in drawing.figure.axes)
    assert "Apple: 3 healthy, 1 apple scab, 1 black rot, 1 cedar apple rust." in drawing.alt


def test_an_empty_file_is_never_drawn(tmp_path):
    files = write_plant(tmp_path / "plantvillage" / "color", "pepper", healthy=2, diseased=2)
    files[0].write_bytes(b"")
    drawing = leaf_grid(tmp_path, ("pepper",), per_class=1)
    assert drawing.table["file"].tolist() == [files[1].name, drawing.table["file"].iloc[1]]


def test_a_row_of_the_long_tail_has_its_share_of_the_largest_class_and_one_at_least():
    images = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), dtype=np.uint8)
    data = ImageDataset("made", "train", images, np.arange(60) % 3, ("cat", "dog", "owl"), "")
    drawing = long_tail(data, (100, 50, 1), most=4)
    assert drawing.table["thumbnails"].tolist() == [4, 2, 1]
    (ax,) = drawing.figure.axes
    shown = ax.images[0].get_array()
    assert [shown[1, 6 * i + 1, 0] for i in range(4)] == [0, 3, 6, 9], "the first cats"
    assert shown[7, 1, 0] == 1 and shown[7, 7, 0] == 4 and shown[7, 13, 0] == 255
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat  100", "dog  50", "owl  1"]
    assert drawing.alt.endswith("cat: 100 images. dog: 50 images. owl: 1 images.")


def test_the_pictures_of_photographs_are_drawn_from_a_data_root(tmp_path, monkeypatch):
    for plant in ("apple", "pepper"):
        write_plant(tmp_path / "plantvillage" / "color", plant)
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    data = ImageDataset("made", "train", noise, np.arange(50) % 10, tuple(f"kind {i}" for i in range(10)), "")
    monkeypatch.setattr("imbal_book.pictures.photographs.load_dataset", lambda *_, **__: data)
    files = draw_all(tmp_path, tmp_path / "drawn")
    committed = Path(__file__).parents[3] / "book" / "_static" / "photographs"
    assert sorted(file.name for file in files) == sorted(file.name for file in committed.iterdir())
    assert all(file.read_bytes()[8:12] == b"WEBP" for file in files)
