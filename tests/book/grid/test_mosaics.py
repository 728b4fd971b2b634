"""Mosaics: every pixel comes back, and a picture is neither too large for the format nor for a part."""

import io

import numpy as np
import pytest
from PIL import Image

from imbal_book.grid.mosaics import MOSAIC_BYTES, decode_mosaic, encode_mosaic, mosaic_layout


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (7, 5, 9, 3), (3, 224, 224, 3), (1500, 8, 8, 3)])
def test_a_mosaic_gives_every_pixel_back(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for columns in (1, 3, 60):  # more than there are images, too
        assert np.array_equal(decode_mosaic(encode_mosaic(images, columns), shape, columns), images)


def test_images_stand_row_by_row_and_the_rest_is_black():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 3, 3), 10, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_mosaic(images, 2))) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (3 * 2, 2 * 3, 3)
    assert pixels[::2, ::3, 0].tolist() == [[10, 20], [30, 40], [50, 0]]


@pytest.mark.parametrize("side", [8, 28, 32, 64, 224, 1500])
@pytest.mark.parametrize("most", [20_000, 400_000, 30_000_000])
def test_a_layout_is_about_square_and_keeps_to_both_limits(side, most):
    columns, rows = mosaic_layout(side, side, most)
    assert columns * side <= 16_383 and rows * side <= 16_383
    if columns * rows > columns:  # a single row cannot be made smaller
        assert columns * rows * side * side * 3 <= min(most, MOSAIC_BYTES)
    if most >= MOSAIC_BYTES and side <= 224:
        assert columns / 2 <= rows <= 2 * columns
