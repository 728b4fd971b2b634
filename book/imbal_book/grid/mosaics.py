"""Many images of one size as one lossless WebP picture, which is far smaller than each image by itself."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# A mosaic of about 3 MB of pixels: large enough for the compressor, small enough to fill parts evenly.
MOSAIC_BYTES = 3_000_000
WEBP_SIDE = 16_383


def mosaic_layout(height: int, width: int, most: int) -> tuple[int, int]:
    """Return (columns, rows) of a mosaic of images of height x width, about square, at most ``most`` bytes."""
    columns = max(1, min(round(MOSAIC_BYTES**0.5 / 3**0.5 / width), WEBP_SIDE // width))
    rows = max(1, min(most, MOSAIC_BYTES) // (columns * height * width * 3))
    return columns, rows


def encode_mosaic(images: np.ndarray, columns: int) -> bytes:
    """Return images, uint8 (N, H, W, 3), as one lossless WebP mosaic, filled up with black."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = np.zeros((rows * columns, height, width, 3), dtype=np.uint8)
    grid[:count] = images
    mosaic = grid.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(mosaic.reshape(rows * height, columns * width, 3))
    picture.save(buffer, "WEBP", lossless=True, quality=75, method=2)
    return buffer.getvalue()


def decode_mosaic(data: bytes, shape: tuple[int, ...], columns: int) -> np.ndarray:
    """Return the images, uint8 ``shape`` = (N, H, W, 3), of a mosaic of that many columns.

    ValueError if the picture is of another size; nothing is decoded then.
    """
    count, height, width, _ = shape
    columns = min(columns, count)
    size = (columns * width, -(-count // columns) * height)
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
        if picture.size != size:
            raise ValueError(f"a mosaic of {picture.size} pixels, expected {size}")
        mosaic = np.asarray(picture.convert("RGB"))
    tiles = mosaic.reshape(-1, height, columns, width, 3).swapaxes(1, 2)
    return tiles.reshape(-1, height, width, 3)[:count]
