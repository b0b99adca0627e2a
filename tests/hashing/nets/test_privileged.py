"""Nets that are taught by features that queries do not have, and teachers that nets share."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing import Hasher, InvalidInput, load_hasher, make_hasher
from hashing.nets.teacher import Teacher
from hashing.nets.views import scaled
from tests.average_precision import mean_average_precision
from tests.methods import needs_torch, quick

METHODS = ["net-1", "net-2"]


def small_net(method: str, **params: Any) -> Any:
    return make_hasher(method, **{"n_bits": 16, **quick(method), **params})


N = 300
"""Rows of the tests in which the quality does not matter."""


@pytest.fixture(scope="module")
def X(digits: Dataset) -> NDArray[np.float32]:
    return digits.descriptors[:N, ::4]


@pytest.fixture(scope="module")
def y(digits: Dataset) -> NDArray[np.int64]:
    return digits.labels[:N]


@pytest.fixture(scope="module")
def all_pixels(digits: Dataset) -> NDArray[np.float32]:
    assert digits.images is not None
    return digits.images[..., 0].reshape(len(digits), -1).astype(np.float32)


@pytest.fixture(scope="module")
def pixels(all_pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return all_pixels[:N]


@pytest.fixture(scope="module")
def poor(digits: Dataset) -> NDArray[np.float32]:
    """Descriptors of the digits that say less than GIST: every twelfth dimension of it."""
    return digits.descriptors[:, ::12]


def score(hasher: Hasher, X: NDArray[Any], labels: NDArray[Any], parts: Any) -> float:
    codes = hasher.encode(X)
    return mean_average_precision(
        codes[parts.queries], labels[parts.queries], codes[parts.database], labels[parts.database]
    )


@pytest.mark.parametrize("share", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_privileged_features_improve_the_teacher_and_the_codes_of_poor_descriptors(
    share: float, digits: Dataset, poor: NDArray[Any], all_pixels: NDArray[Any]
) -> None:
    """`share` of the rows have privileged features."""
    needs_torch()
    labels = digits.labels
    parts = split(labels, Protocol(queries_per_class=40, labels_per_class=5), 0)
    X, y, F = poor[parts.database], parts.y, all_pixels[parts.database].copy()
    F[np.random.default_rng(1).random(len(F)) >= share] = np.nan
    options = {"n_bits": 16, "hidden": 128, "noise": 0.1, "teacher_steps": 100, "steps": 150}
    accuracies, scores = [], []
    for privileged in (None, F):
        net: Any = make_hasher("net-2", **options)
        teacher = net.new_teacher().fit(X, y, privileged)
        guessed = teacher.probabilities_.argmax(axis=1) == labels[parts.database]
        accuracies.append(guessed[y < 0].mean())
        scores.append(score(net.fit(X, y, teacher=teacher), poor, labels, parts))
    assert accuracies[1] > accuracies[0] + 0.1 * share, accuracies
    assert scores[1] > scores[0] + 0.04 * share, scores


@pytest.mark.parametrize("method", METHODS)
def test_unknown_rows_everywhere_are_as_no_privileged_features(
    method: str, X: NDArray[Any], y: NDArray[Any]
) -> None:
    unknown = np.full((len(X), 3), np.nan, np.float32)
    expected = small_net(method).fit(X, y).fingerprint
    assert small_net(method).fit(X, y, unknown).fingerprint == expected


@pytest.mark.parametrize("known", ["one", "unlabelled", "labelled"])
def test_any_rows_may_lack_privileged_features(
    known: str, X: NDArray[Any], y: NDArray[Any], pixels: NDArray[Any]
) -> None:
    partly = np.where(np.arange(len(y)) % 4 == 0, y, -1)
    F = pixels.copy()
    F[{"one": np.arange(len(y)) != 5, "unlabelled": partly >= 0, "labelled": partly < 0}[known]] = (
        np.nan
    )
    net = small_net("net-2").fit(X, partly, F)
    assert np.isfinite(net.project(X)).all()
    assert net.fingerprint == small_net("net-2").fit(X, partly, F).fingerprint
    assert net.fingerprint != small_net("net-2").fit(X, partly).fingerprint


@pytest.mark.parametrize("kind", [np.float16, np.uint8, np.float64])
def test_the_dtype_of_privileged_features_does_not_matter(
    kind: Any, X: NDArray[Any], y: NDArray[Any], pixels: NDArray[Any]
) -> None:
    expected = small_net("net-1").fit(X, y, pixels).fingerprint
    assert small_net("net-1").fit(X, y, pixels.astype(kind).tolist()).fingerprint == expected
    assert small_net("net-1").fit(X, y, pixels.astype(kind)).fingerprint == expected


@pytest.mark.parametrize(
    ("privileged", "message"),
    [
        (np.zeros((5, 2)), "expected 6 rows of privileged features, one per descriptor, got 5"),
        (np.zeros(6), r"privileged features must have shape \(n, d\) with d > 0, got \(6,\)"),
        (np.zeros((6, 0)), "privileged features must have shape"),
        ([["a"]] * 6, "privileged features must be real numbers"),
        ([[1], [2, 3]], "privileged features must be a matrix of numbers"),
        (
            np.ma.masked_equal(np.arange(12).reshape(6, 2), 5),
            "privileged features must be complete",
        ),
        ([[0, 1]] * 5 + [[0, np.nan]], "row 5 of the privileged features is NaN in some columns"),
        ([[0, 1]] * 5 + [[0, np.inf]], "at most 1e.15 in size, or NaN: row 5, column 1 is inf"),
        ([[0, 1]] * 5 + [[2e15, 1]], "row 5, column 0 is 20000"),
    ],
)
def test_privileged_features_are_checked(privileged: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        small_net("net-1").fit(np.eye(6), [0, 0, 1, 1, -1, -1], privileged)


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ([0, 1, 2], "privileged_mirror must name each of the 2 privileged features once, got 3"),
        ([0, 0], "privileged_mirror must name each dimension once"),
        ([0, 2], "each entry of privileged_mirror must be from 0 to 1"),
        ("flip", "privileged_mirror must be a list"),
    ],
)
def test_the_mirror_of_privileged_features_is_checked(mirror: Any, message: str) -> None:
    net = small_net("net-1", privileged_mirror=mirror)
    with pytest.raises(InvalidInput, match=message):
        net.fit(np.eye(6), [0, 0, 1, 1, -1, -1], np.zeros((6, 2)))


def test_a_batch_mirrors_all_views_of_a_row_together() -> None:
    needs_torch()
    from hashing.nets.augmentation import augmented
    from hashing.nets.views import View

    a, b = View(np.eye(3, dtype=np.float32), np.array([2, 1, 0])), np.arange(6, dtype=np.float32)
    views = [a, View(b.reshape(3, 2), np.array([1, 0])), View(np.ones((3, 1), np.float32))]
    rows = np.tile(np.arange(3), 100)
    batch = augmented(views, rows, 0.0, np.random.default_rng(0)).cpu().numpy()
    straight = np.concatenate([view.images(rows)[0] for view in views], axis=1)
    mirrored = np.concatenate([view.images(rows)[-1] for view in views], axis=1)
    is_straight = (batch == straight).all(axis=1)
    is_mirrored = (batch == mirrored).all(axis=1)
    assert (is_straight ^ is_mirrored).all()
    assert 0.4 < is_mirrored.mean() < 0.6


@pytest.mark.parametrize("method", METHODS)
def test_a_shared_teacher_gives_the_same_net_as_its_own(
    method: str, X: NDArray[Any], y: NDArray[Any], pixels: NDArray[Any]
) -> None:
    net = small_net(method)
    teacher = net.new_teacher().fit(X, y, pixels)
    assert teacher.seconds_ > 0
    shared = clone(net).fit(X, y, teacher=teacher)
    assert shared.fingerprint == net.fit(X, y, pixels).fingerprint
    longer = small_net(method, n_bits=24)
    assert longer.fit(X, y, teacher=teacher).fingerprint == longer.fit(X, y, pixels).fingerprint


def test_a_teacher_of_other_data_or_parameters_is_refused(X: NDArray[Any], y: NDArray[Any]) -> None:
    net = small_net("net-2")
    with pytest.raises(InvalidInput, match="the teacher has not been fitted"):
        net.fit(X, y, teacher=net.new_teacher())
    teacher = net.new_teacher().fit(X, y)
    with pytest.raises(InvalidInput, match="go to `fit` of the teacher"):
        net.fit(X, y, X, teacher=teacher)
    with pytest.raises(InvalidInput, match="fitted to other descriptors or labels"):
        net.fit(X[1:], y[1:], teacher=teacher)
    with pytest.raises(InvalidInput, match="fitted to other descriptors or labels"):
        net.fit(X[:, 1:], y, teacher=teacher)
    with pytest.raises(InvalidInput, match="fitted to other descriptors or labels"):
        net.fit(2 * X, y, teacher=teacher)
    other = r"must have the parameters of the net: its random_state is 0, that of the net 1$"
    with pytest.raises(InvalidInput, match=other):
        small_net("net-2", random_state=1).fit(X, y, teacher=teacher)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mirror": [0]}, "mirror must name each of the 6 dimensions once, got 1"),
        ({"mirror": list(range(7))}, "mirror must name each of the 6 dimensions once, got 7"),
        ({"hidden": 0}, "hidden must be"),
        ({"steps": 0}, "steps must be"),
        ({"power": 2}, "power must be above 0"),
        ({"noise": -1}, "noise must be 0 or more"),
        ({"random_state": -1}, "random_state must be"),
    ],
)
def test_a_teacher_checks_its_own_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Teacher(**params).fit(np.eye(6), [0, 0, 1, 1, -1, -1])


def test_large_privileged_features_keep_their_differences() -> None:
    seconds = 1.7e9 + np.arange(100.0)[:, None]
    centred = np.arange(100.0) - 49.5
    np.testing.assert_allclose(scaled(seconds)[:, 0], centred / centred.std(), rtol=1e-6)


def test_a_clone_that_routes_does_not_hold_the_fitted_hasher(X: NDArray[Any]) -> None:
    fitted = make_hasher("lsh", n_bits=4096).set_fit_request(privileged=True).fit(X)
    assert len(pickle.dumps(clone(fitted))) < 10_000


@pytest.fixture
def _routing() -> Any:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("_routing")
@pytest.mark.parametrize("method", ["net-1", "lsh"])
def test_a_pipeline_routes_privileged_features(
    method: str, X: NDArray[Any], y: NDArray[Any], pixels: NDArray[Any]
) -> None:
    standardised = StandardScaler().fit_transform(X)
    pipeline = make_pipeline(StandardScaler(), small_net(method).set_fit_request(privileged=True))
    fitted = clone(pipeline).fit(X, y, privileged=pixels)[-1]
    assert fitted.fingerprint == small_net(method).fit(standardised, y, pixels).fingerprint
    named = make_pipeline(StandardScaler(), small_net(method).set_fit_request(privileged="pixels"))
    assert named.fit(X, y, pixels=pixels)[-1].fingerprint == fitted.fingerprint
    silent = make_pipeline(StandardScaler(), small_net(method).set_fit_request(privileged=False))
    with pytest.raises(TypeError):
        silent.fit(X, y, privileged=pixels)
    unasked = make_pipeline(StandardScaler(), small_net(method))
    with pytest.raises(ValueError, match="privileged"):
        unasked.fit(X, y, privileged=pixels)


def test_files_of_nets_without_privileged_mirror_keep_their_fingerprint(
    X: NDArray[Any], y: NDArray[Any], pixels: NDArray[Any], tmp_path: Path
) -> None:
    plain = small_net("net-1").fit(X, y, pixels)
    assert b"privileged_mirror" not in plain.to_bytes()
    order = list(range(pixels.shape[1]))[::-1]
    mirrored = small_net("net-1", privileged_mirror=order).fit(X, y, pixels)
    for net in (plain, mirrored):
        net.save(tmp_path / "net.safetensors")
        loaded = load_hasher(tmp_path / "net.safetensors")
        assert loaded.fingerprint == net.fingerprint
        assert loaded.get_params() == net.get_params()
