"""The common part of ksh and sdh: features, labelled rows, and degenerate inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_info, threadpool_limits

from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing import InvalidInput, make_hasher
from hashing.parts.blas import one_blas_thread
from hashing.parts.kernel_features import class_sums
from tests.hashing.ranking import ranking_quality

METHODS = ["ksh", "sdh"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Any:
    return request.param


def first_labels(y: NDArray[Any], n: int = 300) -> NDArray[Any]:
    """Return the labels of the first n rows, and -1 for the others."""
    return np.where(np.arange(len(y)) < n, y, -1)


def test_projections_are_the_formula(method: str, X: NDArray[Any], y: NDArray[Any]) -> None:
    hasher: Any = make_hasher(method, n_bits=12, n_anchors=40).fit(X, first_labels(y))
    anchors = hasher.anchors_
    assert (cdist(anchors, X).min(axis=1) == 0).all()
    squared = cdist(X, anchors, "sqeuclidean")
    assert hasher.width_.item() ** 2 == pytest.approx(squared.mean(), rel=1e-6)
    z = np.exp(-squared / (2 * squared.mean())) @ hasher.weights_.astype(float) + hasher.bias_
    np.testing.assert_allclose(hasher.project(X), z, atol=1e-5 * np.abs(z).max())


def test_projections_of_ksh_are_centred_over_all_rows(X: NDArray[Any], y: NDArray[Any]) -> None:
    z = make_hasher("ksh", n_bits=12, n_anchors=40).fit(X, first_labels(y)).project(X)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4 * np.abs(z).max())


def test_it_beats_lsh_with_few_labels(method: str, digits: Dataset) -> None:
    parts = split(digits.labels, Protocol(queries_per_class=20, labels_per_class=20), seed=1)
    assert (parts.y >= 0).sum() == 200
    learned, lsh = (
        ranking_quality(name, 24, digits.descriptors, digits.labels, parts)
        for name in (method, "lsh")
    )
    assert learned > lsh + 0.25


def test_descriptors_far_from_the_origin_are_not_called_the_same(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher = make_hasher(method, n_bits=12)
    with pytest.raises(InvalidInput, match="too far for exact distances: subtract their mean"):
        hasher.fit(X.astype(np.float64) + 1e7, y)
    with pytest.raises(InvalidInput, match=f"all {len(X)} descriptors are the same"):
        hasher.fit(np.full_like(X, 0.1), y)


@pytest.mark.parametrize(("factor", "offset"), [(1, 1024.0), (2.0**-40, 0), (2.0**40, 0)])
def test_neither_unit_nor_origin_of_descriptors_matters(
    factor: float, offset: float, method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    """Powers of two: nothing but the distances is rounded."""
    few, labels = np.round(X[:200] * 64) / 64, y[:200]
    plain = make_hasher(method, n_bits=8).fit(few, labels)
    moved = factor * few + offset
    other = make_hasher(method, n_bits=8).fit(moved, labels)
    assert (plain.encode(few) != other.encode(moved)).mean() < 0.01


def test_the_numbers_of_the_classes_do_not_matter(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    X, y = X[:80], y[:80]
    hidden = first_labels(y, 60)
    one = make_hasher(method, n_bits=8).fit(X, hidden)
    other = make_hasher(method, n_bits=8).fit(X, np.where(hidden >= 0, hidden * 7 + 3, -1))
    assert (one.transform(X) == other.transform(X)).all()


def test_all_rows_may_have_labels(method: str, X: NDArray[Any], y: NDArray[Any]) -> None:
    bits = make_hasher(method, n_bits=16, n_anchors=100).fit_transform(X[:200], y[:200])
    same = y[:200, None] == y[:200]
    agreement = bits.astype(float) @ bits.T / 16
    assert agreement[same].mean() > agreement[~same].mean() + 0.5


def test_a_limit_on_labelled_rows_draws_some_of_them(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    params = {"n_bits": 4, "n_anchors": 30}
    limited: Any = make_hasher(method, max_labelled=50, **params)
    rows, classes = limited._draw_labelled(first_labels(y), np.random.default_rng(0))
    assert len(np.unique(rows)) == 50
    assert rows.max() < 300
    np.testing.assert_array_equal(np.unique(y[rows])[classes], y[rows])
    unlimited = make_hasher(method, **params).fit(X, first_labels(y))
    assert limited.fit(X, first_labels(y)).fingerprint != unlimited.fingerprint
    assert (limited.transform(X) != unlimited.transform(X)).any()
    one_left = np.where(np.arange(len(y)) == 0, 1, 0)
    with pytest.raises(InvalidInput, match="two classes are needed, got 1"):
        limited.set_params(max_labelled=2).fit(X, one_left)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"learns from labels: fit\(X, y\) needs y"),
        ([-1] * 8, "at least two classes are needed, got 0"),
        ([4] * 8, "at least two classes are needed, got 1"),
        ([-1, 4, -1, -1, 4, 4, -1, -1], "at least two classes are needed, got 1"),
    ],
)
def test_too_few_labels_are_refused(
    method: str, labels: Any, message: str, X: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher(method).fit(X[:8], labels)


@pytest.mark.parametrize("value", [0, 1, 0.1, -1e14])
def test_equal_descriptors_are_refused(method: str, value: float) -> None:
    with pytest.raises(InvalidInput, match="all 8 descriptors are the same"):
        make_hasher(method).fit(np.full((8, 5), value), [0, 1] * 4)


def test_a_constant_dimension_changes_hardly_a_bit(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    wide = np.column_stack([X[:300], np.full(300, 0.25)])
    bits = make_hasher(method, n_bits=16, n_anchors=50).fit_transform(X[:300], y[:300])
    wide_bits = make_hasher(method, n_bits=16, n_anchors=50).fit_transform(wide, y[:300])
    assert (bits != wide_bits).mean() < 1e-2


def test_repeated_rows_are_separated_by_class(method: str) -> None:
    """Every anchor is there many times: the Gram matrix of the features has rank two."""
    X = np.repeat([[0.0, 0, 1], [5, 0, 0], [0, 5, 0]], 40, axis=0)
    y = np.repeat([3, 8, 8], 40)
    bits = make_hasher(method, n_bits=40).fit_transform(X, y)
    a, b, c = bits[::40]
    assert (bits == np.repeat(bits[::40], 40, axis=0)).all()
    assert (b != c).mean() + 0.3 < min((a != b).mean(), (a != c).mean())


def test_equal_rows_of_two_classes_get_one_code(method: str) -> None:
    X = np.array([[0.0, 0], [0, 0], [3, 4], [3, 4]])
    hasher = make_hasher(method, n_bits=9).fit(X, [0, 1, -1, -1])
    codes = hasher.encode(X)
    assert np.isfinite(hasher.project(X)).all()
    assert (codes[0] == codes[1]).all()


def test_two_rows_and_more_bits_than_anchors(method: str) -> None:
    hasher: Any = make_hasher(method, n_bits=70).fit(np.array([[0.0, 1], [2, 0]]), [5, 2])
    assert hasher.anchors_.shape == (2, 2)
    bits = hasher.transform([[0.0, 1], [2, 0], [0.1, 1], [1.9, 0]])
    assert (bits[0] == bits[2]).all()
    assert (bits[1] == bits[3]).all()
    # One bit separates the two rows, and `sdh` needs no more.
    assert (bits[0] != bits[1]).mean() > (0.9 if method == "ksh" else 0.3)


def test_classes_of_one_row_each_get_different_codes(method: str, X: NDArray[Any]) -> None:
    bits = make_hasher(method, n_bits=32).fit_transform(X[:12], np.arange(12))
    assert len(np.unique(bits, axis=0)) == 12


def test_integers_and_large_values_are_accepted(method: str) -> None:
    X = np.random.default_rng(0).integers(0, 255, (60, 9), np.uint8)
    y = np.arange(60) % 3
    bits = make_hasher(method, n_bits=8).fit(X, y).transform(X)
    large = make_hasher(method, n_bits=8).fit(X * np.float32(2.0**40), y)
    np.testing.assert_array_equal(large.transform(X * np.float32(2.0**40)), bits)


def test_a_descriptor_far_from_every_anchor_still_has_a_code(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher: Any = make_hasher(method, n_bits=8, n_anchors=50).fit(X[:200], y[:200])
    np.testing.assert_allclose(hasher.project(np.full((1, 384), 1e6))[0], hasher.bias_)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_anchors", 0, "n_anchors must be from 1 to 10000, got 0"),
        ("n_anchors", 2.5, "n_anchors must be an integer"),
        ("max_labelled", 1, "max_labelled must be from 2"),
    ],
)
def test_parameters_are_checked(
    method: str, name: str, value: Any, message: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher(method, **{name: value}).fit(X, y)


def test_class_sums_add_the_rows_of_each_class() -> None:
    F = np.array([[1.0, 2], [10, 20], [100, 200]])
    np.testing.assert_array_equal(class_sums(F, np.array([1, 0, 1])), [[10, 20], [101, 202]])


def test_the_last_fit_to_end_lifts_the_limit_on_threads() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert threads() == {1}
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {2}
        with pytest.raises(InvalidInput), one_blas_thread():
            raise InvalidInput
        assert threads() == {2}
