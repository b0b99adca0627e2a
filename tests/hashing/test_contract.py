"""The guarantees of every method in HASHERS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from app.datasets.dataset import Dataset
from bitcodes import pack, unpack
from hashing import HASHERS, Hasher, InvalidInput, NotFitted, load_hasher, make_hasher
from tests.methods import NEED_TORCH, each_method, quick

N_BITS = 20  # not a multiple of 8
# The least share of either value of a bit, if it is not 0.35. The eigenvectors of AGH have mean 0
# but not median 0: some of them separate a small part from the rest. Spectral hashing cuts between
# the extremes of a component, not at its mean. The single dimensions of GIST are skewed.
LEAST_SHARE = {"agh": 0.15, "sh": 0.15, "sign": 0.2}
# Methods that draw nothing.
NO_SEED = {"sign", "pcah", "sh"}


@pytest.fixture(scope="module")
def X(digits: Dataset) -> NDArray[np.float32]:
    """Descriptors of digits, enough that a product of matrices takes several threads."""
    return digits.descriptors[:800]


@pytest.fixture(scope="module")
def y(digits: Dataset) -> NDArray[np.int64]:
    return digits.labels[:800]


@pytest.fixture(scope="module", params=each_method())
def hasher(request: pytest.FixtureRequest, X: NDArray[Any], y: NDArray[Any]) -> Hasher:
    params = quick(request.param)
    new = make_hasher(request.param, n_bits=N_BITS, random_state=3, **params)
    with threadpool_limits(1):
        return new.fit(X, y)


@pytest.fixture(scope="module")
def normal() -> NDArray[np.float64]:
    """Descriptors that fill several blocks."""
    return np.random.default_rng(0).normal(size=(5000, 384))


def test_the_method_name_is_its_key(hasher: Hasher) -> None:
    assert HASHERS[hasher.method] is type(hasher)


def test_codes_are_the_signs_of_the_projections(hasher: Hasher, X: NDArray[Any]) -> None:
    z = hasher.project(X)
    assert z.shape == (len(X), N_BITS)
    assert z.dtype == np.float32
    codes = hasher.encode(X)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, pack(z))
    np.testing.assert_array_equal(hasher.transform(X), unpack(codes, N_BITS).astype(int) * 2 - 1)


def test_every_bit_is_close_to_balanced(hasher: Hasher, X: NDArray[Any]) -> None:
    share = unpack(hasher.encode(X), N_BITS).mean(axis=0)
    # A bit learned from labels has whole classes on one side, perhaps only one of ten.
    least = 0.05 if hasher.needs_labels else LEAST_SHARE.get(hasher.method, 0.35)
    assert share.min() > least
    assert share.max() < 1 - least


def test_neighbours_get_closer_codes_than_other_items(hasher: Hasher, X: NDArray[Any]) -> None:
    rng = np.random.default_rng(0)
    neighbours = X[:300] + rng.normal(0, 0.05 * X.std(), (300, X.shape[1]))
    bits, neighbour_bits = hasher.transform(X[:300]), hasher.transform(neighbours)
    to_neighbour = (bits != neighbour_bits).mean()
    to_others = (bits != np.roll(neighbour_bits, 1, axis=0)).mean()
    assert to_neighbour < 0.25 * to_others


def test_the_seed_decides_the_bits(hasher: Hasher, X: NDArray[Any], y: NDArray[Any]) -> None:
    other = clone(hasher).set_params(random_state=4).fit(X, y)
    assert other.fingerprint != hasher.fingerprint
    assert (other.encode(X) != hasher.encode(X)).any() == (hasher.method not in NO_SEED)


def test_fit_is_the_same_on_one_thread_and_on_two(
    hasher: Hasher, X: NDArray[Any], y: NDArray[Any]
) -> None:
    with threadpool_limits(2):
        again = clone(hasher).fit(X, y)
    assert again.fingerprint == hasher.fingerprint
    np.testing.assert_array_equal(again.encode(X), hasher.encode(X))


def test_bits_do_not_depend_on_batch_or_threads(hasher: Hasher, X: NDArray[Any]) -> None:
    codes = hasher.encode(X)
    for size, rows in ((1, 400), (2, 400), (7, 400), (64, 800), (500, 800)):
        parts = [hasher.encode(X[i : i + size]) for i in range(0, rows, size)]
        np.testing.assert_array_equal(np.concatenate(parts)[:rows], codes[:rows])
    for threads in (1, 2):
        with threadpool_limits(threads):
            np.testing.assert_array_equal(hasher.encode(X), codes)


def test_bits_do_not_depend_on_batch_where_large_terms_cancel(hasher: Hasher) -> None:
    # The mean is far larger than the spread: in float32 a projection is mostly rounding.
    far = np.random.default_rng(0).normal(1000, 0.1, (600, hasher.n_features_in_))
    y = np.arange(600) % 3
    far_hasher = clone(hasher).set_params(n_bits=64).fit(far, y)
    codes = far_hasher.encode(far)
    parts = [far_hasher.encode(far[i : i + 1]) for i in range(600)]
    np.testing.assert_array_equal(np.concatenate(parts), codes)


@pytest.mark.parametrize("value", [3e38, 1e15, 1e-39])
def test_an_encoder_of_extreme_values_can_be_saved_and_loaded(
    hasher: Hasher, value: float, tmp_path: Path
) -> None:
    extreme = np.random.default_rng(0).uniform(0.5, 1, (60, 40)) * value
    fresh = clone(hasher)
    try:
        fresh.fit(extreme, np.arange(60) % 3)
    except InvalidInput:  # values that are too large, or too small to differ
        with pytest.raises(NotFitted):
            fresh.encode(extreme)
        return
    fresh.save(tmp_path / "e.safetensors")
    assert load_hasher(tmp_path / "e.safetensors").fingerprint == fresh.fingerprint


def test_input_is_not_overwritten_and_layout_and_dtype_do_not_matter(
    hasher: Hasher, X: NDArray[Any]
) -> None:
    before = X[:50].copy()
    codes = hasher.encode(before)
    np.testing.assert_array_equal(before, X[:50])
    np.testing.assert_array_equal(hasher.encode(np.asfortranarray(before)), codes)
    np.testing.assert_array_equal(hasher.encode(before.astype(np.float64)), codes)
    np.testing.assert_array_equal(hasher.encode(before.tolist()), codes)
    half = before.astype(np.float16)
    np.testing.assert_array_equal(hasher.encode(half), hasher.encode(half.astype(np.float32)))
    integers = (before * 1000).astype(np.int32)
    np.testing.assert_array_equal(hasher.encode(integers), hasher.encode(integers.astype(float)))
    for X_fit in (half, integers):
        clone(hasher).fit(X_fit, np.arange(50) % 2)
    assert hasher.encode(X[:0]).shape == (0, codes.shape[1])


def test_a_loaded_encoder_equals_the_saved_one(
    hasher: Hasher, X: NDArray[Any], tmp_path: Path
) -> None:
    hasher.save(tmp_path / "encoder.safetensors")
    loaded = load_hasher(tmp_path / "encoder.safetensors")
    assert type(loaded) is type(hasher)
    assert loaded.get_params() == hasher.get_params()
    assert loaded.fingerprint == hasher.fingerprint
    np.testing.assert_array_equal(loaded.encode(X), hasher.encode(X))
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.safetensors"]


def test_works_in_a_pipeline(hasher: Hasher, X: NDArray[Any], y: NDArray[Any]) -> None:
    X, y = X[:300], y[:300]
    pipeline = make_pipeline(StandardScaler(), clone(hasher))
    signs = pipeline.fit(X, y).transform(X)
    assert signs.shape == (len(X), N_BITS)
    assert set(np.unique(signs)) == {-1, 1}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 4999])
def test_a_value_that_is_not_finite_is_refused_with_its_row(
    hasher: Hasher, wrong: float, row: int, normal: NDArray[np.float64]
) -> None:
    bad = normal.copy()
    bad[row, 7] = wrong
    labels = np.arange(5000) % 10
    for call in (hasher.encode, hasher.project, lambda X: clone(hasher).fit(X, labels)):
        with pytest.raises(InvalidInput, match=f"row {row}, column 7 is (-?inf|nan)"):
            call(bad)


def test_values_beyond_float32_are_refused(hasher: Hasher) -> None:
    bad = np.zeros((2, hasher.n_features_in_))
    bad[1, 0] = 1e39
    with pytest.raises(InvalidInput, match=r"row 1, column 0 is 1e\+39"):
        hasher.encode(bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, 3)), "expected descriptors of dimension 384, got 3"),
        (np.zeros(384), r"shape \(n, d\) with d > 0, got \(384,\)"),
        (np.zeros((2, 0)), r"got \(2, 0\)"),
        ([[1.0, 2.0], [1.0]], "row 0 has 2 numbers, row 1 has 1"),
        ([[10**400] * 384], "real numbers, got dtype object"),
        ([["a"] * 384], "real numbers, got dtype <U1"),
        (np.zeros((2, 384), complex), "real numbers, got dtype complex128"),
    ],
)
def test_malformed_descriptors_are_refused(hasher: Hasher, bad: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        hasher.encode(bad)


def test_an_unfitted_hasher_says_so(hasher: Hasher, X: NDArray[Any]) -> None:
    with pytest.raises(NotFitted, match="call fit"):
        clone(hasher).encode(X)
    with pytest.raises(NotFitted, match="call fit"):
        _ = clone(hasher).fingerprint


def test_fit_refuses_no_descriptors_and_wrong_labels(hasher: Hasher, X: NDArray[Any]) -> None:
    fresh = clone(hasher)
    with pytest.raises(InvalidInput, match="at least one descriptor"):
        fresh.fit(X[:0])
    with pytest.raises(InvalidInput, match="expected 3 labels"):
        fresh.fit(X[:3], [1, 2])
    with pytest.raises(InvalidInput, match="must be integers"):
        fresh.fit(X[:3], [0.5, 1, 2])
    with pytest.raises(InvalidInput, match="that of row 2 is -2"):
        fresh.fit(X[:3], [0, 1, -2])


def test_labels_are_required_or_ignored(hasher: Hasher, X: NDArray[Any]) -> None:
    fresh = clone(hasher)
    if hasher.needs_labels:
        with pytest.raises(InvalidInput, match=f"{hasher.method} learns from labels.*needs y"):
            fresh.fit(X)
    else:
        assert fresh.fit(X).fingerprint == hasher.fingerprint


@pytest.mark.parametrize("n_bits", [0, -1, 4097, 12.0, True, "12", None])
def test_n_bits_is_checked(hasher: Hasher, X: NDArray[Any], n_bits: Any) -> None:
    with pytest.raises(InvalidInput, match="n_bits"):
        clone(hasher).set_params(n_bits=n_bits).fit(X)


def test_unknown_methods_and_parameters_are_refused(hasher: Hasher) -> None:
    with pytest.raises(InvalidInput, match="no method 'md5'; there are lsh"):
        make_hasher("md5")
    with pytest.raises(InvalidInput, match="no parameter 'method'"):
        make_hasher(hasher.method, method="lsh")
    with pytest.raises(InvalidInput, match=r"no parameter 'bits' .*; it has n_bits"):
        make_hasher(hasher.method, bits=3)
    with pytest.raises(InvalidInput, match="no parameter 'bits'"):
        clone(hasher).set_params(bits=3)


@pytest.mark.parametrize("method", sorted(set(HASHERS) - NEED_TORCH))
def test_privileged_features_are_taken_and_ignored_by_methods_that_do_not_use_them(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    """Nets use them: tests/hashing/nets/test_privileged.py."""
    X, y = X[:300], y[:300]
    plain, given = (make_hasher(method, n_bits=8, **quick(method)) for _ in range(2))
    assert given.fit(X, y, privileged=X[:, :3]).fingerprint == plain.fit(X, y).fingerprint
