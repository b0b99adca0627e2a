"""The mathematics of AGH: the anchor graph's eigenvectors, their extension, their thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from app.benchmark.splits import Protocol, split
from hashing import InvalidInput, load_hasher, make_hasher
from hashing.methods.agh import AGH
from hashing.parts.spectral import coarse, eigenvectors
from tests.hashing.ranking import ranking_quality

N = 500


def mixtures(hasher: AGH, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return Z, dense, by the formula of the paper, with the hasher's anchors and width."""
    squares = cdist(X, hasher.anchors_, "sqeuclidean")
    near = squares <= np.sort(squares, axis=1)[:, [hasher.n_nearest - 1]]
    Z = near * np.exp(-squares / float(hasher.width_[0]) ** 2)
    return np.asarray(Z / Z.sum(axis=1, keepdims=True))


def adjacency(Z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(Z / Z.sum(axis=0) @ Z.T)


@pytest.fixture(scope="module")
def rows(X: NDArray[Any]) -> NDArray[Any]:
    return X[:N]


@pytest.fixture(scope="module")
def one_layer(rows: NDArray[Any]) -> AGH:
    return AGH(n_bits=12, layers=1, n_anchors=40, n_nearest=4).fit(rows)


@pytest.fixture(scope="module")
def two_layers(rows: NDArray[Any]) -> AGH:
    return AGH(n_bits=24, layers=2, n_anchors=40, n_nearest=4).fit(rows)


def test_projections_are_eigenvectors_of_the_anchor_graph(
    one_layer: AGH, rows: NDArray[Any]
) -> None:
    A = adjacency(mixtures(one_layer, rows))
    np.testing.assert_allclose(A.sum(axis=1), 1)
    y = one_layer.project(rows).astype(float)
    values = np.linalg.eigvalsh(A)[::-1]
    assert values[0] == pytest.approx(1)
    np.testing.assert_allclose(A @ y, y * values[1:13], atol=1e-3)
    np.testing.assert_allclose(y.T @ y / N, np.eye(12), atol=1e-3)


def test_the_constant_eigenvector_is_left_out(one_layer: AGH, rows: NDArray[Any]) -> None:
    np.testing.assert_allclose(one_layer.project(rows).mean(axis=0), 0, atol=1e-3)


def test_weights_are_the_closed_form(one_layer: AGH, rows: NDArray[Any]) -> None:
    Z = mixtures(one_layer, rows)
    mass = Z.sum(axis=0)
    M = Z.T @ Z / np.sqrt(np.outer(mass, mass))
    values, V = np.linalg.eigh(M)
    values, V = values[::-1][1:13], V[:, ::-1][:, 1:13]
    W = np.sqrt(N) * V / np.sqrt(mass)[:, None] / np.sqrt(values)
    W *= np.sign((W * one_layer.weights_).sum(axis=0))
    np.testing.assert_allclose(one_layer.weights_, W, atol=1e-4 * np.abs(W).max())


def test_a_new_descriptor_is_projected_by_the_formula(one_layer: AGH, X: NDArray[Any]) -> None:
    new = X[N : N + 200]
    np.testing.assert_allclose(
        one_layer.project(new), mixtures(one_layer, new) @ one_layer.weights_, atol=1e-4
    )


def test_fitted_descriptors_encoded_alone_get_the_same_codes(
    two_layers: AGH, rows: NDArray[Any]
) -> None:
    codes = two_layers.encode(rows)
    for i in range(0, N, 50):
        np.testing.assert_array_equal(two_layers.encode(rows[i : i + 1])[0], codes[i])


def test_the_width_is_the_mean_distance_to_the_last_of_the_nearest_anchors(
    one_layer: AGH, rows: NDArray[Any]
) -> None:
    distances = np.sort(cdist(rows, one_layer.anchors_), axis=1)
    assert one_layer.width_.item() == pytest.approx(distances[:, 3].mean(), rel=1e-6)


def test_the_first_layer_of_two_equals_one_layer(
    one_layer: AGH, two_layers: AGH, rows: NDArray[Any]
) -> None:
    np.testing.assert_array_equal(two_layers.project(rows)[:, :12], one_layer.project(rows))
    assert one_layer.thresholds_.shape == (2, 0)
    assert two_layers.thresholds_.shape == (2, 12)


def test_the_thresholds_are_balanced_and_minimise_the_cut_of_the_graph(
    two_layers: AGH, rows: NDArray[Any]
) -> None:
    L = np.eye(N) - adjacency(mixtures(two_layers, rows))
    z = two_layers.project(rows).astype(float)
    for y, v, (above, below) in zip(
        z[:, :12].T, z[:, 12:].T, two_layers.thresholds_.T, strict=True
    ):
        up = y > 0
        np.testing.assert_allclose(v, np.where(up, y - above, below - y), atol=1e-5)
        assert v.mean() == pytest.approx(0, abs=1e-5)

        def cut(b: float, y: Any = y, up: Any = up) -> float:
            """Return vᵀ L v for b⁺ = b and the b⁻ that balances it."""
            c = (b * up.sum() - np.abs(y).sum()) / (~up).sum()
            v = np.where(up, y - b, c - y)
            return float(v @ L @ v)

        assert minimize_scalar(cut).x == pytest.approx(above, abs=1e-3)
        assert cut(above) == pytest.approx(v @ L @ v, rel=1e-3)


def test_an_odd_number_of_bits_leaves_the_last_eigenvector_one(
    two_layers: AGH, rows: NDArray[Any]
) -> None:
    odd = AGH(n_bits=23, layers=2, n_anchors=40, n_nearest=4).fit(rows)
    np.testing.assert_array_equal(odd.project(rows), two_layers.project(rows)[:, :23])


def test_labels_are_ignored(rows: NDArray[Any], two_layers: AGH) -> None:
    y = np.arange(N) % 7
    assert AGH(24, n_anchors=40, n_nearest=4).fit(rows, y).fingerprint == two_layers.fingerprint


def test_no_dense_matrix_of_all_rows_and_anchors_is_needed(rows: NDArray[Any]) -> None:
    import tracemalloc

    many = np.random.default_rng(0).normal(size=(30_000, 8)).astype(np.float32)
    tracemalloc.start()
    AGH(n_bits=8, n_anchors=300, rounds=1).fit(many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000 * 300 * 8


@pytest.mark.parametrize("n_bits", [24, 48])
def test_it_beats_lsh_on_the_digits(n_bits: int, X: NDArray[Any], y: NDArray[np.int64]) -> None:
    parts = split(y, Protocol(), 0)
    lsh, agh = (ranking_quality(method, n_bits, X, y, parts) for method in ("lsh", "agh"))
    assert agh > lsh + 0.2


def clusters(*sizes: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return np.concatenate(
        [100.0 * i + rng.normal(size=(size, 5)) for i, size in enumerate(sizes, 1)]
    )


def test_parts_that_the_graph_does_not_join_get_different_codes() -> None:
    X = clusters(60, 90, 150)
    part = np.repeat([0, 1, 2], [60, 90, 150])
    for layers in (1, 2):
        hasher = AGH(n_bits=4, layers=layers, n_anchors=30, n_nearest=2).fit(X)
        first = hasher.transform(X)[:, :2]
        codes = [np.unique(first[part == i], axis=0) for i in range(3)]
        assert [len(code) for code in codes] == [1, 1, 1]
        assert len(np.unique(np.concatenate(codes), axis=0)) == 3


def test_rounding_does_not_decide_the_basis_of_a_multiple_eigenvalue() -> None:
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    values = np.repeat([3.0, 2.0, 1.0], [4, 1, 25])
    found = []
    for noise in (0, 1e-14):
        A = Q * values @ Q.T + noise * rng.normal(size=(30, 30))
        found.append(eigenvectors((A + A.T) / 2))
    for (v, U), (w, V) in [found]:
        np.testing.assert_allclose(v, w, atol=1e-12)
        np.testing.assert_allclose(U, V, atol=1e-9)
        np.testing.assert_allclose(U.T @ U, np.eye(30), atol=1e-12)
        np.testing.assert_allclose(U * v @ U.T, Q * values @ Q.T, atol=1e-12)


def test_coarse_rounds_little_and_removes_noise() -> None:
    rng = np.random.default_rng(0)
    W = rng.normal(size=(50, 7)) * 10.0 ** np.arange(-3, 4)
    W[3] = 1e-17
    rounded = coarse(W)
    assert (np.abs(rounded - W) <= 2.0**-16 * np.abs(W).max(axis=0)).all()
    np.testing.assert_array_equal(rounded, coarse(W * (1 + 1e-14)))
    np.testing.assert_array_equal(rounded, rounded.astype(np.float32))
    W[3] = -1e-17
    assert coarse(W).tobytes() == rounded.tobytes()
    assert not coarse(np.zeros((3, 2))).any()


def test_far_away_descriptors_have_codes(two_layers: AGH, rows: NDArray[Any]) -> None:
    far = two_layers.project(rows[:5] * np.float32(1e6))
    assert np.isfinite(far).all()
    # Far away the mixture consists of the nearest anchor alone.
    assert (np.abs(far[:, :12][:, None] - two_layers.weights_).max(axis=2).min(axis=1) < 1e-3).all()
    assert np.isfinite(two_layers.project(np.full((1, 384), 3e38, np.float32))).all()


def test_fewer_rows_than_anchors_are_all_anchors(X: NDArray[Any]) -> None:
    hasher = AGH(n_bits=20, n_anchors=300).fit(X[:30])
    np.testing.assert_array_equal(hasher.anchors_, np.unique(X[:30], axis=0))
    assert len(np.unique(hasher.encode(X[:30]), axis=0)) > 20


def test_repeated_rows_are_one_anchor(X: NDArray[Any]) -> None:
    hasher = AGH(n_bits=10, n_anchors=40).fit(np.repeat(X[:10], 20, axis=0))
    assert len(hasher.anchors_) <= 10
    assert len(np.unique(hasher.anchors_, axis=0)) == len(hasher.anchors_)


def test_constant_dimensions_do_not_matter(rows: NDArray[Any], two_layers: AGH) -> None:
    wider = np.concatenate([rows, np.full((N, 3), 0.5, np.float32)], axis=1)
    hasher = AGH(24, n_anchors=40, n_nearest=4).fit(wider)
    np.testing.assert_array_equal(hasher.encode(wider), two_layers.encode(rows))


@pytest.mark.parametrize("n", [1, 9])
def test_equal_descriptors_are_refused(n: int) -> None:
    with pytest.raises(InvalidInput, match="at most 0 bits from 1 anchors"):
        AGH(n_bits=2).fit(np.full((n, 3), 0.1))


def test_two_different_rows_give_one_bit() -> None:
    X = np.array([[0.0, 0], [0, 0], [1, 0], [1, 0]])
    bits = AGH(n_bits=1).fit(X).transform(X)[:, 0]
    assert bits[0] == bits[1] == -bits[2] == -bits[3]


@pytest.mark.parametrize(("layers", "most"), [(1, 9), (2, 18)])
def test_too_many_bits_are_refused(layers: int, most: int, X: NDArray[Any]) -> None:
    message = f"agh of {layers} layers makes at most {most} bits from 10 anchors"
    for params in ({"n_anchors": 10, "n_nearest": 3}, {}):
        rows = X if params else X[:10]
        assert AGH(most, layers=layers, **params).fit(rows).encode(rows).shape[0] == len(rows)
        with pytest.raises(InvalidInput, match=message):
            AGH(most + 1, layers=layers, **params).fit(rows)


def test_distances_below_float32_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not a float32; scale the descriptors"):
        AGH(n_bits=1).fit(np.diag([1e-39] * 3))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers": 3}, "layers must be from 1 to 2, got 3"),
        ({"n_anchors": 1}, "n_anchors must be from 2"),
        ({"n_nearest": 1}, "n_nearest must be from 2 to 300, got 1"),
        ({"n_anchors": 4}, "n_nearest must be from 2 to 4, got 5"),
        ({"rounds": 1.5}, "rounds must be an integer"),
    ],
)
def test_parameters_are_checked(params: dict[str, Any], message: str, X: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_hasher("agh", n_bits=2, **params).fit(X)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("weights_", np.zeros((39, 12), np.float32)),
        ("width_", np.zeros(1, np.float32)),
        ("width_", np.ones(2, np.float32)),
        ("thresholds_", np.zeros((3, 12), np.float32)),
        ("thresholds_", np.zeros((2, 13), np.float32)),
        ("anchors_", np.zeros((40, 5), np.float32)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(
    name: str, array: NDArray[Any], rows: NDArray[Any], tmp_path: Any
) -> None:
    hasher = AGH(n_bits=24, n_anchors=40, n_nearest=4).fit(rows)
    setattr(hasher, name, array)
    hasher.save(tmp_path / "bad")
    with pytest.raises(ValueError, match=f"{name} must"):
        load_hasher(tmp_path / "bad")


def test_one_layer_is_saved_without_thresholds(
    one_layer: AGH, rows: NDArray[Any], tmp_path: Any
) -> None:
    one_layer.save(tmp_path / "one")
    np.testing.assert_array_equal(
        load_hasher(tmp_path / "one").encode(rows), one_layer.encode(rows)
    )
