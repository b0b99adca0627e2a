"""PCA hashing and spectral hashing, against independent implementations."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from hashing import InvalidInput, make_hasher
from hashing.methods.sh import SH, smoothest
from tests.hashing.ranking import ranking_quality

Array = NDArray[np.float64]


def components(X: NDArray[Any], k: int) -> tuple[Array, Array]:
    """The mean and the k first principal directions, by the singular value decomposition."""
    mean = X.mean(axis=0, dtype=float)
    return mean, np.linalg.svd(X - mean, full_matrices=False)[2][:k].T


def equal_up_to_sign(z: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compare columns, each of which may have either sign, as an eigenvector may."""
    signs = np.sign((z * expected).sum(axis=0))
    np.testing.assert_allclose(z * signs, expected, atol=2e-3 * np.abs(expected).max())


def test_bits_of_pcah_are_the_signs_of_the_singular_vectors(X: NDArray[Any]) -> None:
    few = X[:600, :40]
    mean, W = components(few, 20)
    equal_up_to_sign(make_hasher("pcah", n_bits=20).fit(few).project(few), (few - mean) @ W)


def test_pcah_has_no_more_bits_than_directions(X: NDArray[Any]) -> None:
    flat = X[:200, :3] @ np.ones((3, 9))
    with pytest.raises(InvalidInput, match="at most 1, got n_bits 2"):
        make_hasher("pcah", n_bits=2).fit(flat)
    with pytest.raises(InvalidInput, match="at most 4, got n_bits 5"):
        make_hasher("pcah", n_bits=5).fit(X[:5])


def published_spectral_hashing(X: NDArray[Any], n_bits: int) -> Array:
    """Spectral hashing as its authors' code writes it down: a table of modes, products of sines."""
    mean, W = components(X, min(n_bits, X.shape[1]))
    V = (X - mean) @ W
    low, high = V.min(axis=0), V.max(axis=0)
    width = high - low
    most = np.ceil((n_bits + 1) * width / width.max()).astype(int)
    table = [np.zeros(len(width))]
    for i, count in enumerate(most):
        for mode in range(1, count):
            table.append(np.zeros(len(width)))
            table[-1][i] = mode
    modes = np.array(table)
    omegas = modes * np.pi / width
    order = np.argsort((omegas**2).sum(axis=1), kind="stable")[1 : n_bits + 1]
    return np.stack(
        [np.prod(np.sin((V - low) * omegas[i] + np.pi / 2), axis=1) for i in order], axis=1
    )


@pytest.mark.parametrize("n_bits", [1, 6, 24, 60])
def test_spectral_hashing_is_that_of_the_authors(X: NDArray[Any], n_bits: int) -> None:
    few = X[:600, :40]
    z = make_hasher("sh", n_bits=n_bits).fit(few).project(few)
    equal_up_to_sign(z, published_spectral_hashing(few, n_bits))


def test_modes_are_the_smoothest_of_all() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 5, 40):
        widths = rng.uniform(0.05, 3, 6)
        directions, modes = smoothest(widths, n)
        every = sorted(
            (mode / width, i, mode)
            for (i, width), mode in product(enumerate(widths), range(1, n + 1))
        )
        expected = [(i, mode) for _, i, mode in every[:n]]
        assert list(zip(directions.tolist(), modes.tolist(), strict=True)) == expected


def test_a_rectangle_of_two_to_one_is_cut_as_the_paper_shows() -> None:
    """Figure 2 of the paper: the long side alone, its halves, then the short side."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(4000, 2)) * [2, 1.1]
    hasher = make_hasher("sh", n_bits=3).fit(X)
    assert isinstance(hasher, SH)
    assert hasher.modes_.tolist() == [1, 1, 2]
    bits = hasher.transform(X)
    long, short = X[:, 0] > 1, X[:, 1] > 0.55
    inner = np.abs(X[:, 0] - 1) < 0.5
    for column, cut in ((0, long), (1, short), (2, inner)):
        agree = np.mean((bits[:, column] > 0) == cut)
        assert max(agree, 1 - agree) > 0.98


def test_beyond_the_fitted_range_bits_are_those_of_its_ends() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(500, 1)) * 10
    hasher = make_hasher("sh", n_bits=5).fit(X)
    ends, far = np.array([[X.min()], [X.max()]]), np.array([[-1e6], [1e6]])
    np.testing.assert_array_equal(hasher.encode(far), hasher.encode(ends))


def test_the_seed_has_no_effect(X: NDArray[Any]) -> None:
    for method in ("pcah", "sh"):
        first, second = (
            make_hasher(method, n_bits=24, random_state=seed).fit(X) for seed in (0, 1)
        )
        np.testing.assert_array_equal(first.encode(X), second.encode(X))


def test_they_are_between_random_hyperplanes_and_itq(X: NDArray[Any], y: NDArray[Any]) -> None:
    """The order of the papers at short codes; itq repairs what pcah lacks."""
    parts = split(y, Protocol(), 0)
    quality = {
        method: ranking_quality(method, 16, X, y, parts) for method in ("lsh", "pcah", "sh", "itq")
    }
    assert quality["lsh"] < min(quality["pcah"], quality["sh"])
    assert max(quality["pcah"], quality["sh"]) < quality["itq"] - 0.1
