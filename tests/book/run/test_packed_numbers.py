"""Rows of numbers as text: what was written is read, to the digits that were kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imbal_book.run.packed_numbers import pack_rows, unpack_rows

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=finite))
def test_numbers_are_kept_to_four_digits(values):
    found = unpack_rows(pack_rows(values))
    np.testing.assert_allclose(found, values, rtol=5.01e-4)
    assert pack_rows(found) == pack_rows(values)


def test_integers_stay_whole_and_nan_stays_nan():
    found = unpack_rows(pack_rows(np.array([[123456, -1], [0, 7]])))
    assert found.dtype == np.int64
    assert found.tolist() == [[123456, -1], [0, 7]]
    assert np.isnan(unpack_rows(pack_rows([[np.nan, 0.5]]))).tolist() == [[True, False]]
    assert unpack_rows(pack_rows([[2.0, 0.5]])).tolist() == [[2.0, 0.5]]
    assert pack_rows([[1 / 3]], digits=2) == ["0.33"]


def test_other_shapes_and_torn_rows_are_refused():
    with pytest.raises(ValueError, match=r"shape \(N, D\), got \(2,\)"):
        pack_rows([1.0, 2.0])
    with pytest.raises(ValueError, match="one length"):
        unpack_rows(["1 2", "1"])
