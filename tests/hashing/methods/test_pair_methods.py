"""What diffhash and ssh, which learn from pairs, have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput, make_hasher

METHODS = ["diffhash", "ssh"]


@pytest.mark.parametrize("method", METHODS)
def test_unlabelled_rows_do_not_matter(method: str, X: NDArray[Any], y: NDArray[Any]) -> None:
    partly = np.where(np.arange(len(y)) % 3 == 0, y, -1)
    with_unlabelled = make_hasher(method, n_bits=4, n_pairs=500).fit(X, partly)
    without = make_hasher(method, n_bits=4, n_pairs=500).fit(X[partly >= 0], partly[partly >= 0])
    assert with_unlabelled.fingerprint == without.fingerprint


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"learns from labels: fit\(X, y\) needs y"),
        ([-1] * 6, "at least two classes are needed, got 0"),
        ([3] * 6, "at least two classes are needed, got 1"),
        ([3, 3, -1, -1, 3, 3], "at least two classes are needed, got 1"),
        ([0, 1, 2, -1, -1, -1], "each class has one"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_too_few_labels_are_refused(method: str, y: Any, message: str) -> None:
    X = np.random.default_rng(0).normal(size=(6, 4))
    with pytest.raises(InvalidInput, match=message):
        make_hasher(method, n_bits=1).fit(X, y)
