from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcodes import code_size, distances_to, from_hex, hamming, pack, to_words, unpack
from bitcodes.near_groups import near_groups


def test_a_bit_is_set_strictly_above_zero() -> None:
    z = np.array([[-1.0, -0.0, 0.0, 1e-45, 1.0, np.nan, 2.0, -3.0]], np.float32)
    assert pack(z).tolist() == [[0b00011010]]


@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_unpack_inverts_pack_and_the_padding_is_zero(n_bits: int, n: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (n, n_bits), np.uint8)
    codes = pack(bits.astype(np.float32))
    assert codes.shape == (n, code_size(n_bits))
    np.testing.assert_array_equal(unpack(codes, n_bits), bits)
    padding = np.unpackbits(codes, axis=1)[:, n_bits:]
    assert not padding.any()


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_hamming_counts_differing_bits(n_bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(7, n_bits)), rng.normal(size=(5, n_bits))
    differing = ((a[:, None, :] > 0) != (b[None, :, :] > 0)).sum(axis=2)
    np.testing.assert_array_equal(hamming(pack(a), pack(b)), differing)


@pytest.mark.parametrize("size", [512, 8192])
def test_distances_of_long_codes_do_not_overflow(size: int) -> None:
    codes = np.repeat(np.array([[0], [255]], np.uint8), size, axis=1)
    words = to_words(codes)
    assert hamming(codes, codes).tolist() == [[0, 8 * size], [8 * size, 0]]
    assert distances_to(words[0], words).tolist() == [0, 8 * size]
    for radius, distances in ((8 * size - 1, []), (8 * size, [8 * size])):
        found = near_groups(words, radius, 10, lambda rows: rows)
        assert found.distances.tolist() == distances


def test_codes_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes cannot be compared with 3 bytes"):
        hamming(np.zeros((1, 2), np.uint8), np.zeros((1, 3), np.uint8))


@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_codes_are_read_from_hex_in_either_case(n_bits: int, n: int, seed: int) -> None:
    codes = pack(np.random.default_rng(seed).normal(size=(n, n_bits)))
    texts = [code.tobytes().hex() for code in codes]
    read = from_hex(texts, n_bits)
    assert read.shape == (n, code_size(n_bits))
    np.testing.assert_array_equal(read, codes)
    np.testing.assert_array_equal(from_hex([text.upper() for text in texts], n_bits), codes)


@pytest.mark.parametrize(
    "wrong",
    ["", "00", "000000", "0x00", " 000", "00 0", "000g", "00\n0", "\u0661\u0661\u0661\u0661"],
)
def test_the_first_code_that_is_no_hex_of_its_length_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"12 bits as 4 hexadecimal digits each; code 2 is"):
        from_hex(["00f0", "ABC0", wrong, "x"], 12)
