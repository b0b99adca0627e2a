"""What codes keep, for codes of which it is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bitcodes import pack
from hashing import InvalidInput
from hashing.theory.compression import kept, neighbours_found, neighbours_nearest


def test_neighbours_are_found_by_codes_that_count_along_a_line() -> None:
    # Thermometer codes: the Hamming distance is the distance on the line.
    x = np.arange(65.0)
    codes = pack(x[:, None] - np.arange(64) - 0.5)
    assert neighbours_found(x[:, None] + 0.001 * x[:, None] ** 2, codes, 2).value > 0.95


def test_the_true_distances_find_every_neighbour() -> None:
    X = np.random.default_rng(0).standard_normal((80, 3))
    true = np.linalg.norm(X[:, None] - X[None], axis=2)
    assert neighbours_nearest(X, lambda queries: true[queries]).value == 1
    # The farthest instead of the nearest.
    assert neighbours_nearest(X, lambda queries: -true[queries], k=3).value == 0


def test_equal_codes_find_neighbours_by_chance() -> None:
    X = np.random.default_rng(0).standard_normal((201, 5))
    assert neighbours_found(X, np.zeros((201, 2), np.uint8), 10).value == pytest.approx(10 / 200)


def test_longer_codes_keep_more() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 6))
    A = rng.standard_normal((6, 128))
    found = [kept(X, pack(X @ A[:, :m]), m) for m in (8, 32, 128)]
    assert [each.n_bits for each in found] == [8, 32, 128]
    for a, b in pairwise(found):
        assert a.reconstruction.value < b.reconstruction.value
        assert a.neighbours.value < b.neighbours.value
    for each in found:
        assert each.reconstruction.low < each.reconstruction.value < each.reconstruction.high


def test_what_is_needed_is_said() -> None:
    with pytest.raises(InvalidInput, match="at least 20 descriptors, got 19"):
        kept(np.eye(19), np.zeros((19, 1), np.uint8), 8)
    with pytest.raises(InvalidInput, match="these are constant"):
        kept(np.ones((30, 4)), np.zeros((30, 1), np.uint8), 8)
