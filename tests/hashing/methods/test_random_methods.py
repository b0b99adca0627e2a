"""The mathematics of the data-free methods: lsh, random-net-1 and random-net-2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitcodes import unpack
from hashing import InvalidInput, make_hasher
from hashing.parts.activations import NAMES

RHO: dict[str, Any] = {
    "truncated-linear": lambda v: np.minimum(np.maximum(v, -1), 1),
    "relu": lambda v: v * (v > 0),
    "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
}


def test_lsh_bits_differ_with_probability_angle_over_pi() -> None:
    n_bits, d = 4096, 30
    hasher = make_hasher("lsh", n_bits=n_bits, center=False).fit(np.zeros((1, d)))
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 20, d))
    b[:10] = a[:10] + 0.3 * b[:10]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = np.arccos(cosine) / np.pi
    measured = (hasher.transform(a) != hasher.transform(b)).mean(axis=1)
    # Four standard deviations of a binomial share.
    assert np.all(np.abs(measured - expected) < 4 * np.sqrt(expected * (1 - expected) / n_bits))


@pytest.mark.parametrize("method", ["random-net-1", "random-net-2"])
@pytest.mark.parametrize("rho", NAMES)
@pytest.mark.parametrize("scale", [False, True])
def test_projections_are_the_formula(method: str, rho: str, scale: bool, X: NDArray[Any]) -> None:
    params = {"hidden": 100} if method == "random-net-2" else {}
    hasher: Any = make_hasher(method, n_bits=16, activation=rho, scale=scale, **params).fit(X)
    x = (X.astype(float) - X.mean(0, dtype=float)) / (X.std(0, dtype=float) if scale else 1)
    rng = np.random.default_rng(0)
    f = RHO[rho]
    if method == "random-net-1":
        v = x @ (rng.standard_normal((16, 384)) / 4).T
    else:
        h = f(x @ (rng.standard_normal((100, 384)) / 10).T)
        v = (h - h.mean(0)) @ (rng.standard_normal((16, 100)) / 4).T
    np.testing.assert_allclose(hasher.project(X), f(v) - f(0.0), atol=2e-5)


@pytest.mark.parametrize("method", ["random-net-1", "random-net-2"])
@pytest.mark.parametrize("rho", NAMES)
def test_bits_are_balanced_after_every_activation(method: str, rho: str, X: NDArray[Any]) -> None:
    hasher = make_hasher(method, n_bits=64, activation=rho).fit(X)
    share = unpack(hasher.encode(X), 64).mean(axis=0)
    assert share.min() > 0.35
    assert share.max() < 0.65


@pytest.mark.parametrize("method", ["lsh", "random-net-1", "random-net-2"])
def test_entries_have_the_stated_variance(method: str) -> None:
    hasher: Any = make_hasher(method, n_bits=64, center=False).fit(np.zeros((1, 500)))
    variance = 1 if method == "lsh" else 1 / 64
    assert hasher.weights_.var() == pytest.approx(variance, rel=0.05)
    assert hasher.weights_.mean() == pytest.approx(0, abs=0.02 * np.sqrt(variance))
    if method == "random-net-2":
        assert hasher.hidden_weights_.var() == pytest.approx(1 / 1024, rel=0.02)


@pytest.mark.parametrize("method", ["lsh", "random-net-1", "random-net-2"])
def test_with_scaling_units_do_not_matter(method: str, X: NDArray[Any]) -> None:
    units = np.random.default_rng(0).uniform(0.1, 10, 384)
    a = make_hasher(method, n_bits=32, scale=True).fit(X)
    b = make_hasher(method, n_bits=32, scale=True).fit(X * units)
    assert (a.transform(X) != b.transform(X * units)).mean() < 1e-3


@pytest.mark.parametrize("method", ["lsh", "random-net-1", "random-net-2"])
def test_constant_dimensions_do_no_harm(method: str, X: NDArray[Any]) -> None:
    constant = X.copy()
    constant[:, 5] = 0.1
    hasher = make_hasher(method, n_bits=32, scale=True).fit(constant)
    bits = hasher.transform(constant)
    share = (bits > 0).mean(axis=0)
    assert share.min() > 0.3
    assert share.max() < 0.7


def test_a_constant_dimension_of_small_integers_is_constant() -> None:
    X = np.full((10, 3), -128, np.int8)
    X[:, 0] = np.arange(10)
    hasher: Any = make_hasher("lsh", n_bits=8, scale=True).fit(X)
    assert np.abs(hasher.weights_[1:]).max() < 5


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (0.5, 1, "a <= 0 < b"),
        (-1, 0, "a <= 0 < b"),
        (1, -1, "a <= 0 < b"),
        (-np.inf, 1, "a must be finite"),
        (-1, np.nan, "b must be finite"),
        (-(10**400), 1, "a must be finite"),
        ("x", 1, "a must be a number"),
        (-1, True, "b must be a number"),
    ],
)
def test_the_interval_of_truncated_linear_is_checked(
    a: Any, b: Any, message: str, X: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher("random-net-1", a=a, b=b).fit(X)


def test_other_parameters_are_checked(X: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match="one of truncated-linear, relu, tanh, sigmoid"):
        make_hasher("random-net-2", activation="cos").fit(X)
    with pytest.raises(InvalidInput, match=r"got \['relu'\]"):
        make_hasher("random-net-2", activation=["relu"]).fit(X)
    with pytest.raises(InvalidInput, match="hidden must be from 1"):
        make_hasher("random-net-2", hidden=0).fit(X)
    with pytest.raises(InvalidInput, match="center must be true or false, got 1"):
        make_hasher("lsh", center=1).fit(X)
