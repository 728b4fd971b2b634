"""Rows come in chunks of a bounded size that share the caller's memory."""

import numpy as np
import pytest

from imbal_core._checks import rows


@pytest.mark.parametrize("count", [5_000, 20_000])
def test_memory_beside_the_input_does_not_grow_with_the_rows(count):
    values = np.ones((count, 256), np.float32)
    largest, seen = 0, 0
    for start, part, lengths in rows.chunks_with_lengths(values, 3):
        assert start == seen and np.shares_memory(part.numpy(), values)
        assert (lengths == 16).all()
        largest, seen = max(largest, part.numel() + lengths.numel()), seen + len(part)
    assert seen == count and largest <= 1.01 * rows._CHUNK_VALUES
