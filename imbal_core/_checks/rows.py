"""Rows of features chunk by chunk with their lengths; a row without a direction is refused by number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

# Values in a chunk of rows: 4 MiB in float32, so that its second reading comes from the CPU's cache.
_CHUNK_VALUES = 2**20
_FEWEST_ROWS = 64


def chunks_with_lengths(
    X: np.ndarray | Tensor, num_scores: int, *, widen: bool = False
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (index of first row, rows, their L2 lengths) of X (N, D) as tensors; a row may come scaled by a factor.

    Float16 and bfloat16 come as float32, integers, and with `widen` all types, as float64. Chunks of rows have room for
    `num_scores` numbers that the caller computes for each row, too. A row that is all zeros, or not finite, is a
    ValueError that names it by number.
    """
    step = max(_FEWEST_ROWS, _CHUNK_VALUES // max(X.shape[1], num_scores))
    for start in range(0, len(X), step):
        if isinstance(X, Tensor):
            rows = X[start : start + step]
            if rows.dtype in (torch.float16, torch.bfloat16):
                rows = rows.float()
            elif rows.dtype != torch.float32:
                rows = rows.double()
        else:
            dtype = np.float32 if X.dtype.kind == "f" and X.dtype.itemsize <= 4 else np.float64
            # A tensor shares only writable memory; anything else is copied, one chunk at a time.
            rows = torch.from_numpy(np.require(X[start : start + step], dtype, ["C", "W", "E"]))
        if widen:
            rows = rows.double()
        yield start, *_with_lengths(rows, start)


def _with_lengths(rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Return the rows and their lengths, rescaling rows whose squares leave the floating range."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    doubtful = ~((lengths > torch.finfo(rows.dtype).tiny ** (1 / 3)) & torch.isfinite(lengths))
    if not doubtful.any():
        return rows, lengths
    where = doubtful.nonzero()[:, 0]
    some = rows[where].double()
    largest = some.abs().amax(1)
    for bad, problem in (
        (~torch.isfinite(largest), "contains NaN or infinity"),
        (largest == 0, "is all zeros and has no direction (a dead ReLU layer gives such rows)"),
    ):
        if bad.any():
            first = start + int(where[bad][0])
            raise ValueError(
                f"Input X {problem}: {int(bad.sum())} such row(s), the first is row {first}. Drop or repair."
            )
    rows = rows.clone()
    rows[where] = (some / largest[:, None]).to(rows.dtype)
    lengths[where] = torch.linalg.vector_norm(rows[where], dim=1)
    return rows, lengths
