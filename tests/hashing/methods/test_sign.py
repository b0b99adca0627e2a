"""Plain binary quantization."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput, make_hasher


@pytest.fixture
def X() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(3, 1, (200, 24)).astype(np.float32)


def test_bits_are_set_above_the_mean_of_each_dimension(X: NDArray[np.float32]) -> None:
    codes = make_hasher("sign", n_bits=24).fit(X).encode(X)
    above = X.mean(axis=0, dtype=np.float64) < X
    np.testing.assert_array_equal(codes, np.packbits(above, axis=1))


def test_without_centring_bits_are_set_above_zero(X: NDArray[np.float32]) -> None:
    hasher = make_hasher("sign", n_bits=16, center=False).fit(X)
    shifted = X - 3
    expected = np.packbits(shifted[:, :16] > 0, axis=1)
    np.testing.assert_array_equal(hasher.encode(shifted), expected)
    assert np.unpackbits(hasher.encode(X), axis=1).mean() > 0.99


def test_there_are_no_more_bits_than_dimensions(X: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidInput, match="at most 24, got n_bits 25"):
        make_hasher("sign", n_bits=25).fit(X)


def test_a_nan_in_a_dimension_without_a_bit_is_refused(X: NDArray[np.float32]) -> None:
    hasher = make_hasher("sign", n_bits=8).fit(X)
    X[0, 20] = np.nan
    with pytest.raises(InvalidInput, match="row 0"):
        hasher.encode(X)
