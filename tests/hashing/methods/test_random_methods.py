"""The mathematics of the data-free methods: lsh, random-net-1 and random-net-2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.rank import rank_asymmetric
from app.benchmark.splits import Protocol, split
from app.benchmark.tied_rankings import harmonic_numbers
from app.datasets.dataset import Dataset
from bitcodes import unpack
from hashing import Hasher, InvalidInput, load_hasher, make_hasher
from hashing.parts.activations import NAMES
from tests.average_precision import mean_average_precision

DATA = Path(__file__).parents[1] / "data"
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
        length = np.sqrt((np.linalg.norm(x, axis=1) ** 2).mean())
        h = f(x / length @ rng.standard_normal((100, 384)).T)
        v = (h - h.mean(0)) @ (rng.standard_normal((16, 100)) / 4).T
    np.testing.assert_allclose(hasher.project(X), v, atol=2e-5)
    # The last ρ decides no bit.
    certain = np.abs(v) > 1e-4
    np.testing.assert_array_equal((f(v) > f(0.0))[certain], (hasher.project(X) > 0)[certain])


# The share of bits, in %, that differ from those of a net without ρ.
CHANGED = {"truncated-linear": (8, 12), "relu": (14, 20), "tanh": (7, 10), "sigmoid": (3, 5)}


def without_rho() -> Hasher:
    return make_hasher("random-net-2", n_bits=64, hidden=512, a=-1e9, b=1e9)


@pytest.mark.parametrize("rho", NAMES)
def test_every_activation_of_the_hidden_layer_changes_bits(rho: str, X: NDArray[Any]) -> None:
    X = X[:500]
    net = make_hasher("random-net-2", n_bits=64, hidden=512, activation=rho)
    changed = 100 * (net.fit(X).transform(X) != without_rho().fit(X).transform(X)).mean()
    low, high = CHANGED[rho]
    assert low < changed < high


@pytest.mark.parametrize("rho", NAMES)
def test_without_data_an_activation_acts_on_descriptors_of_unit_length(rho: str) -> None:
    unit = np.random.default_rng(1).normal(size=(500, 30))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    nothing = np.zeros((1, 30))  # what the service fits for a dimension
    net = make_hasher("random-net-2", n_bits=64, hidden=512, activation=rho).fit(nothing)
    # Without data, the mean of the hidden units after relu is not subtracted.
    linear = without_rho().fit(nothing)
    centred = net.project(unit) - net.project(unit).mean(axis=0)
    changed = 100 * ((centred > 0) != (linear.project(unit) > 0)).mean()
    assert changed > 0.8 * CHANGED[rho][0]
    short, long = (
        make_hasher("random-net-2", n_bits=64, hidden=512).fit(nothing).transform(size * unit)
        for size in (1e-3, 1e3)
    )
    np.testing.assert_array_equal(short, linear.transform(1e-3 * unit))
    assert 0.1 < (long != short).mean() < 0.4


@pytest.mark.parametrize("rho", NAMES)
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": True}])
def test_a_factor_of_all_descriptors_changes_no_bit(
    rho: str, options: dict[str, Any], X: NDArray[Any]
) -> None:
    X = X[:300]
    net = make_hasher("random-net-2", n_bits=64, hidden=256, activation=rho, **options)
    codes = net.fit(X).encode(X)
    for factor in (2.0**-20, 1e-3, 255.0, 1e6):
        scaled = X.astype(np.float64) * factor
        np.testing.assert_array_equal(net.fit(scaled).encode(scaled), codes)


def test_equal_descriptors_are_divided_by_their_length() -> None:
    # The mean of these three rows is not exactly 0.1.
    same = np.full((3, 40), 0.1)
    x = np.random.default_rng(0).normal(0.1, 0.1, (20, 40))
    net: Any = make_hasher("random-net-2", n_bits=64).fit(same)
    assert net.hidden_weights_.std() == pytest.approx(1 / np.linalg.norm(same[0]), rel=0.02)
    again = make_hasher("random-net-2", n_bits=64).fit(1000 * same)
    np.testing.assert_array_equal(net.encode(x), again.encode(1000 * x))


@pytest.mark.parametrize("rho", NAMES)
def test_descriptors_too_small_for_float32_are_refused(rho: str) -> None:
    tiny = np.random.default_rng(0).uniform(0, 1e-40, (60, 40))
    with pytest.raises(InvalidInput, match=r"overflow float32 .* is 1e-40; scale them"):
        make_hasher("random-net-2", activation=rho).fit(tiny)


@pytest.mark.parametrize("method", ["random-net-1", "random-net-2"])
@pytest.mark.parametrize("params", [{"activation": "relu"}, {"a": 0.0}])
def test_a_query_is_ranked_by_all_its_bits(
    method: str, params: dict[str, Any], digits: Dataset
) -> None:
    X, y = digits.descriptors, digits.labels
    parts = split(y, Protocol(), 0)
    hasher = make_hasher(method, n_bits=32, **params).fit(X[parts.database])
    Z, codes = hasher.project(X[parts.queries]), hasher.encode(X[parts.database])
    assert (np.abs(Z) > 0).all()
    labels = y[parts.queries], y[parts.database]
    by_bits = mean_average_precision(hasher.encode(X[parts.queries]), labels[0], codes, labels[1])
    rankings = rank_asymmetric(Z, labels[0], codes, labels[1])
    harmonic = harmonic_numbers(len(codes))
    asymmetric = mean(np.concatenate([one.average_precision(harmonic) for one in rankings]))
    assert asymmetric > by_bits + 0.02


@pytest.mark.parametrize("name", json.loads((DATA / "random-nets.json").read_text()))
def test_encoders_of_earlier_versions_keep_fingerprint_and_codes(name: str) -> None:
    """The hidden layer of these files was not divided by the length of the descriptors."""
    kept = json.loads((DATA / "random-nets.json").read_text())[name]
    hasher = load_hasher(DATA / f"{name}.safetensors")
    assert hasher.fingerprint == kept["fingerprint"]
    descriptors = (np.arange(240) * 37 % 101 / 10).reshape(40, 6)
    assert hasher.encode(descriptors).tobytes().hex() == kept["codes"]


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
        assert hasher.hidden_weights_.var() == pytest.approx(1, rel=0.02)


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
