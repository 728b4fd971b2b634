import numpy as np
import pytest
import torch

from imbal_book.compare.curve import Curve, learning_curves
from imbal_book.compare.decide import Decision, with_more_images
from imbal_book.heads.parts import draw_parts
from imbal_book.heads.remedies import PLAIN, REMEDIES
from imbal_book.heads.scores import Change


def test_the_recall_of_a_class_of_many_kinds_grows_with_its_images():
    """Class 2 is of eight kinds, each a direction of its own: with a quarter of its images some are never seen."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (200, 100, 64))
    kinds = np.where(labels == 2, 2 + np.arange(len(labels)) % 8, labels)
    features = torch.tensor(np.eye(12)[kinds] + rng.normal(0, 0.15, (len(labels), 12)), dtype=torch.float32)
    parts = draw_parts(labels, np.arange(len(labels)), None, repeats=6, validations=1, seed=0)
    recalls, rows = np.array([1.0, 1.0, 0.5]), np.arange(len(labels))
    given = REMEDIES[PLAIN], [(6.0, 20)] * 7, features, torch.from_numpy(labels)
    curves = learning_curves(*given, rows, parts, recalls, shares=np.full(3, 1 / 3), seed=0)
    assert (curves[0].label, curves[0].remedy) == (2, REMEDIES[PLAIN].name)
    train = np.bincount(labels[parts.train[0]])[2]
    assert curves[0].images == [round(train / 4), round(train / 2), train]
    assert curves[0].doubling.mean == pytest.approx(curves[0].recall[2] - curves[0].recall[1])
    assert [curve.recall[2] for curve in curves[1:]] == pytest.approx([1.0, 1.0], abs=0.05)
    # where images of one kind are one group, a quarter of the images has a quarter of the kinds
    grouped = learning_curves(*given, kinds, parts, recalls, shares=np.full(3, 1 / 3), seed=0)[0]
    assert grouped.recall[0] < curves[0].recall[0] - 0.2
    assert grouped.recall[0] < grouped.recall[1] - 0.05 < grouped.recall[2]


@pytest.mark.parametrize("remedy", [PLAIN, "weights"])
def test_the_sentence_names_the_class_of_which_more_images_would_help(remedy):
    sure = Curve(1, [5, 10, 20], [0.2, 0.4, 0.6], Change(0.2, 0.1, 0.3, 0.001), "focal loss")
    unsure = Curve(0, [5, 10, 20], [0.2, 0.4, 0.7], Change(0.3, -0.1, 0.7, 0.1), "focal loss")
    found = with_more_images(Decision(remedy, "Do this."), [unsure, sure], ["a", "b"])
    assert "more images of 'b': when its training images went from 10 to 20" in found.sentence
    assert (
        "rose by 20 points (10 points to 30 points); if that goes on, 20 more buy as much" in found.sentence
    )
    assert found.sentence.startswith("Collect" if remedy == PLAIN else "Do this.")
    assert with_more_images(Decision(remedy, "Do this."), [unsure], ["a", "b"]).sentence == "Do this."
