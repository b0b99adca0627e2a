"""The choice of items to label, where the right choice is plain."""

from __future__ import annotations

import numpy as np
import pytest

from hashing import InvalidInput
from hashing.theory.labels import closeness, label_next


def test_boundary_items_come_first() -> None:
    x = np.linspace(0, 10, 101)
    y = np.full(101, -1)
    y[0], y[100] = 0, 1
    chosen = label_next(x[:, None], y, 3)
    # The middle is the farthest from both labels, and on the boundary.
    assert chosen[0] == 50
    assert (np.abs(x[chosen] - 5) <= 2.6).all()


def test_without_labels_every_cluster_gets_one() -> None:
    rng = np.random.default_rng(0)
    centres = 20 * np.eye(6)
    X = np.repeat(centres, 30, axis=0) + rng.standard_normal((180, 6))
    assert sorted(label_next(X, None, 6) // 30) == list(range(6))


def test_outliers_are_left_out() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 4))
    X[:20] *= 30
    assert label_next(X, None, 10).min() >= 20


def test_labelled_items_are_not_chosen_again() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), rng.integers(-1, 3, 60)
    chosen = label_next(X, y, 10)
    assert len(set(chosen)) == 10
    assert (y[chosen] == -1).all()


def test_closeness_is_the_ratio_of_the_nearest_two_classes() -> None:
    labelled = np.array([[0.0], [1], [10]])
    found = closeness(np.array([[0.0], [4], [5.5], [7]]), labelled, np.array([0, 0, 1]))
    assert found == pytest.approx([0, 3 / 6, 1, 3 / 6], abs=1e-6)


@pytest.mark.parametrize(
    ("y", "n", "message"),
    [
        ([0, 1, -1, -1], 3, "at least 3 items without a label, got 2 of 4"),
        ([0, 1, 1, 0], 1, "at least 1 items without a label, got 0 of 4"),
        (None, 5, "n must be from 1 to 4"),
    ],
)
def test_what_is_needed_is_said(y: list[int] | None, n: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        label_next(np.eye(4), y, n)


def test_constant_descriptors_are_refused() -> None:
    with pytest.raises(InvalidInput, match="differ from each other"):
        label_next(np.ones((20, 3)), None, 5)
