"""Values from a caller become NumPy arrays of their own type, and what no measure can use is named."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from imbal_core._checks.arrays import checked_classes, checked_scores, on_host


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.bool])
def test_a_tensor_keeps_its_type_and_values(dtype):
    tensor = torch.tensor([[0, 1], [1, 1]]).to(dtype)
    array = on_host(tensor)
    assert isinstance(array, np.ndarray)
    assert array.dtype == str(dtype).removeprefix("torch.")
    assert_array_equal(array, [[0, 1], [1, 1]])


def test_bfloat16_becomes_float32_without_rounding():
    tensor = torch.tensor([1 / 3, 257.0]).bfloat16()
    assert on_host(tensor).dtype == np.float32
    assert on_host(tensor).tolist() == tensor.tolist()


def test_a_tensor_with_a_gradient_is_read_and_lists_are_taken():
    assert on_host(torch.ones(2, requires_grad=True) * 2).tolist() == [2.0, 2.0]
    assert on_host([[1, 2]]).shape == (1, 2)


def test_a_mask_of_the_rare_class_or_ones_may_mark_it():
    scores = torch.tensor([0.5, 0.25, 0.75])
    for labels in ([False, True, False], np.array([0, 1, 0], np.uint8), torch.tensor([0, 1, 0])):
        rare, values = checked_scores(labels, scores)
        assert rare.tolist() == [False, True, False]
        assert values.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checked_classes("labels", [0.0], 2), "labels must be integers.*float64"),
        (lambda: checked_classes("labels", np.zeros(0, np.int64), 2), "labels is empty"),
        (lambda: checked_classes("labels", [0, 5], 3), r"labels must lie in \[0, 3\), got .* 0 to 5"),
        (lambda: checked_scores([1, 2], [0.5, 0.5]), "labels == rare_class"),
        (lambda: checked_scores([[1], [0]], [0.5, 0.5]), r"of shape \(2, 1\)"),
        (lambda: checked_scores([1, 0], [[0.5, 0.5]]), "column of the rare class"),
        (lambda: checked_scores([1, 0], [1, 0]), "scores must be floating-point"),
        (lambda: checked_scores([1, 0, 0], [np.nan, 0.5, -np.inf]), "got 2 of 3 that are not"),
        (lambda: checked_scores([1, 1], [0.5, 0.5]), "got 2 images of the rare class and 0 others"),
        (lambda: checked_scores([False, False], [0.5, 0.5]), "got 0 images of the rare class and 2 others"),
        (lambda: checked_scores(np.zeros(0, np.int64), np.zeros(0)), "both classes are needed"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
