"""Changes of distances under maps for which they are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hashing import InvalidInput
from hashing.theory.samples import relu_layer
from hashing.theory.training import Ratios, change

N = 400


def classes() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    X = rng.standard_normal((N, 8))
    X[:, 0] = 6 * y + 0.5 * rng.standard_normal(N)
    return X, y


def test_an_isometry_changes_nothing() -> None:
    X, y = classes()
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    found = change(X, 5 * X @ Q + 3, y)
    for each in (
        found.random_within,
        found.random_between,
        found.boundary_within,
        found.boundary_between,
    ):
        assert each.mean.value == pytest.approx(1)
        assert each.quantiles == pytest.approx((1,) * 5)


def test_the_ratios_of_a_map_that_keeps_the_class_alone() -> None:
    # All items of a class become one point, those of two classes are 1 apart.
    X, y = classes()
    found = change(X, y[:, None].astype(float), y)
    assert found.random_within.mean.value == 0
    assert found.boundary_within.mean.value == 0
    # At the boundary, 1 over the least distance to the other class, in units of the scale.
    i, j = np.triu_indices(N, 1)
    scale = np.sqrt((y[i] != y[j]).mean() / np.square(X[i] - X[j]).sum(axis=1).mean())
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    nearest = np.where(y[:, None] == y, np.inf, distances).min(axis=1)
    expected = (1 / nearest).mean() / scale
    assert found.boundary_between.mean.value == pytest.approx(expected, rel=0.02)
    assert found.boundary_between.mean.value > found.random_between.mean.value > 1


def test_a_random_layer_treats_pairs_within_and_between_alike() -> None:
    X, y = classes()
    X -= X.mean(axis=0)
    found = change(X, relu_layer(X, 512, np.random.default_rng(0)), y)

    def middle(ratios: Ratios) -> float:
        return ratios.quantiles[2]

    for each in (found.random_within, found.random_between, found.boundary_within):
        assert middle(each) == pytest.approx(1, abs=0.2)


def test_items_without_a_label_and_lone_ones_do_not_count() -> None:
    X, y = classes()
    more = np.concatenate([X, 100 * np.ones((3, 8)), [[-100.0] * 8]])
    labels = np.concatenate([y, [-1, -1, -1, 9]])
    assert change(more, more, labels) == change(X, X, y)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs labels: no item has one"),
        ([-1] * 8, "needs labels: no item has one"),
        ([3] * 8, "two classes with 2 labelled items each: 1 class has labels, the largest 8"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "two classes with 2 labelled items each: 8 classes"),
    ],
)
def test_what_is_needed_is_said(labels: list[int] | None, message: str) -> None:
    X = np.random.default_rng(0).standard_normal((8, 3))
    with pytest.raises(InvalidInput, match=message):
        change(X, X, labels)


def test_constant_data_are_refused() -> None:
    with pytest.raises(InvalidInput, match="these are constant"):
        change(np.ones((8, 2)), np.ones((8, 2)), [0, 0, 0, 0, 1, 1, 1, 1])
    with pytest.raises(InvalidInput, match="needs at least 4 descriptors, got 3"):
        change(np.eye(3), np.eye(3), [0, 0, 1])
