"""Scores of two classes, the second rare, against counting by hand, one image at a time."""

import json
import math

import numpy as np
import pytest

from imbal_book.studies.rare_class_scores import (
    class_margins,
    epoch_scores,
    long_scores,
    rare_margin,
    readout_scores,
)


@pytest.fixture(params=[0, 1, 2])
def example(request):
    """Return labels, logits and, per image, (label, margin, probability of the rare class)."""
    rng = np.random.default_rng(request.param)
    labels = (rng.random(60) < 0.4).astype(np.int64)
    logits = rng.normal(0, 2, (60, 2)) + np.stack([-labels, labels], axis=1)
    images = [
        (int(label), float(b - a), 1 / (1 + math.exp(a - b)))
        for label, (a, b) in zip(labels, logits, strict=True)
    ]
    return labels, logits, images


def f1_at(images, threshold):
    hits = sum(label == 1 and margin > threshold for label, margin, _ in images)
    called = sum(margin > threshold for _, margin, _ in images)
    rare = sum(label == 1 for label, _, _ in images)
    return 2 * hits / (called + rare)


def test_an_epoch_is_scored_image_by_image(example):
    labels, logits, images = example
    found = epoch_scores(labels, logits.astype(np.float32))
    called = [label for label, margin, _ in images if margin > 0]
    assert found["f1_minority"] == pytest.approx(f1_at(images, 0))
    assert found["precision_minority"] == pytest.approx(sum(called) / len(called))
    assert found["recall_minority"] == pytest.approx(sum(called) / labels.sum())
    assert found["confidence"] == pytest.approx(np.mean([max(p, 1 - p) for *_, p in images]), rel=1e-5)
    nats = [-math.log(p if label else 1 - p) for label, _, p in images]
    assert found["cross_entropy"] == pytest.approx(np.mean(nats), rel=1e-5)


def test_the_margins_of_a_class_are_those_of_its_images_in_their_order(example):
    labels, logits, images = example
    found = class_margins(labels, logits.astype(np.float32))
    for k in range(2):
        own = [margin for label, margin, _ in images if label == k]
        assert found[k] == pytest.approx(own, rel=6e-4), "four digits"
    assert max(len(repr(abs(value)).strip("0.").replace(".", "")) for side in found for value in side) <= 4
    json.dumps(found)


def test_the_loss_of_a_hopeless_image_stays_finite():
    assert math.isfinite(epoch_scores(np.array([0, 1]), np.array([[0, 9e3], [0, 1.0]]))["cross_entropy"])


def test_a_readout_is_scored_image_by_image(example):
    labels, logits, images = example
    found = readout_scores(labels, logits)
    confusion = [[0, 0], [0, 0]]
    pairs = []
    for label, margin, _ in images:
        confusion[label][margin > 0] += 1
    for _, rare, _ in (image for image in images if image[0] == 1):
        for _, other, _ in (image for image in images if image[0] == 0):
            pairs.append(1.0 if rare > other else 0.5 if rare == other else 0.0)
    assert found["confusion"] == confusion
    assert found["auroc"] == pytest.approx(np.mean(pairs))
    ranked = [label for label, *_ in sorted(images, key=lambda image: -image[1])]
    precisions = [sum(ranked[: i + 1]) / (i + 1) for i, label in enumerate(ranked) if label]
    assert found["auprc"] == pytest.approx(np.mean(precisions))
    thresholds = [-math.inf, *(margin for _, margin, _ in images)]
    assert found["f1_best"] == pytest.approx(max(f1_at(images, threshold) for threshold in thresholds))
    confidences = [max(p, 1 - p) for *_, p in images]
    assert found["confidence"] == pytest.approx(np.mean(confidences))
    assert found["confidence_histogram"] == [
        sum(lower / 20 < c <= (lower + 1) / 20 for c in confidences) for lower in range(20)
    ]
    assert found["reliability"]["count"] == [
        sum(lower / 15 < c <= (lower + 1) / 15 for c in confidences) for lower in range(15)
    ]
    gap = sum(
        abs(
            sum(
                c - (label == (margin > 0))
                for c, (label, margin, _) in zip(confidences, images, strict=True)
                if lower / 15 < c <= (lower + 1) / 15
            )
        )
        for lower in range(15)
    )
    assert found["ece"] == pytest.approx(gap / len(images))
    json.dumps(found, allow_nan=False)


def test_the_best_f1_is_that_of_another_threshold_only():
    """Rare images that rank first have the best F1, wherever the boundary of the softmax is."""
    labels = np.array([0, 0, 0, 1, 1])
    margin = np.array([-5.0, -4, -3, -2, -1])
    found = readout_scores(labels, np.stack([-margin / 2, margin / 2], axis=1))
    assert long_scores(found)["f1_minority"] == 0 and found["f1_best"] == 1 and found["auroc"] == 1


def test_long_scores_follow_from_the_confusion():
    recorded = {"confusion": [[140, 10], [30, 120]], "auroc": 0.9, "auprc": 0.8, "f1_best": 0.95, "ece": 0.1}
    found = long_scores({**recorded, "confidence": 0.7})
    assert found["f1_minority"] == pytest.approx(2 * 120 / (2 * 120 + 30 + 10))
    assert found["f1_majority"] == pytest.approx(2 * 140 / (2 * 140 + 30 + 10))
    assert (found["recall_minority"], found["recall_majority"]) == pytest.approx((0.8, 140 / 150))
    assert found["precision_minority"] == pytest.approx(120 / 130)
    assert found["accuracy"] == pytest.approx(260 / 300)
    assert (found["auroc"], found["f1_best"], found["confidence"]) == (0.9, 0.95, 0.7)


def test_the_margin_is_that_of_the_second_class():
    assert rare_margin(np.array([[1.0, 4.0]])).tolist() == [3.0]
