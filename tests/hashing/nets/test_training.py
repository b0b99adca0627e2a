"""The parts of the nets' training: the loss on the average precision, and the teacher."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing.nets.teacher import Teacher
from tests.methods import needs_torch


def average_precision(distances: NDArray[Any], relevance: NDArray[Any], n_bins: int) -> float:
    """Compute the formula of `AveragePrecision` item by item and bin by bin."""
    values = []
    for row, relevant in zip(distances, relevance, strict=True):
        N, R = np.zeros(n_bins + 1), np.zeros(n_bins + 1)
        for distance, p in zip(row, relevant, strict=True):
            if np.isnan(distance):
                continue
            for t in range(n_bins + 1):
                weight = max(0.0, 1 - abs(distance * n_bins - t))
                N[t] += weight
                R[t] += weight * p
        terms = [
            R[t] * (R[:t].sum() + (R[t] + 1) / 2) / (N[:t].sum() + (N[t] + 1) / 2)
            for t in range(n_bins + 1)
        ]
        values.append(sum(terms) / R.sum())
    return float(np.mean(values))


def distances_and_relevance() -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(0)
    distances = rng.random((4, 9))
    distances[1, 3] = np.nan
    return distances, rng.random((4, 9))


def test_average_precision_and_its_gradient_agree_with_the_formula() -> None:
    torch = needs_torch()
    from hashing.nets.ranking_loss import AveragePrecision

    distances, relevance = distances_and_relevance()
    tensor = torch.from_numpy(distances.copy()).requires_grad_()
    result = AveragePrecision.apply(tensor, torch.from_numpy(relevance), 5)
    np.testing.assert_allclose(
        result.item(), average_precision(distances, relevance, 5), rtol=1e-12
    )
    result.backward()
    step = 1e-6
    for at in np.ndindex(distances.shape):
        if np.isnan(distances[at]):
            assert tensor.grad[at] == 0
            continue
        ends = []
        for moved in (step, -step):
            changed = distances.copy()
            changed[at] += moved
            ends.append(average_precision(changed, relevance, 5))
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(tensor.grad[at].item(), slope, rtol=1e-5, atol=1e-9)


def test_without_ties_it_is_the_usual_average_precision() -> None:
    torch = needs_torch()
    from sklearn.metrics import average_precision_score

    from hashing.nets.ranking_loss import AveragePrecision

    rng = np.random.default_rng(0)
    distances = np.array([rng.permutation(21) for _ in range(6)]) / 20
    relevance = (rng.random(distances.shape) < 0.3).astype(float)
    result = AveragePrecision.apply(torch.from_numpy(distances), torch.from_numpy(relevance), 20)
    expected = [average_precision_score(r, -d) for r, d in zip(relevance, distances, strict=True)]
    np.testing.assert_allclose(result.item(), np.mean(expected), rtol=1e-12)


@pytest.mark.parametrize("hidden", [0, 3])
def test_gradient_of_the_loss_agrees_with_finite_differences(hidden: int) -> None:
    torch = needs_torch()
    from hashing.nets.ranking_loss import loss
    from hashing.nets.torch_helpers import forward

    rng = np.random.default_rng(1)
    widths = [5, *([hidden] if hidden else []), 4]
    arrays = [
        array
        for d, m in pairwise(widths)
        for array in (rng.normal(0, 1.0, (d, m)), rng.normal(0, 0.3, m))
    ]
    x = torch.from_numpy(rng.normal(size=(8, 5)))
    P = torch.from_numpy(rng.dirichlet(np.ones(3), 8))

    def loss_of(arrays: list[Any]) -> Any:
        layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        return loss(forward(x, layers), P, 1.3)

    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    loss_of(tensors).backward()
    step = 1e-6
    for i, tensor in enumerate(tensors):
        for at in np.ndindex(arrays[i].shape):
            ends = []
            for moved in (step, -step):
                changed = [array.copy() for array in arrays]
                changed[i][at] += moved
                ends.append(loss_of([torch.from_numpy(array) for array in changed]).item())
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(tensor.grad[at].item(), slope, rtol=1e-4, atol=1e-8)


def test_balanced_probabilities_have_the_given_frequencies() -> None:
    from hashing.nets.first_guess import balance

    rng = np.random.default_rng(0)
    P = rng.dirichlet([5, 1, 0.2], 500).astype(np.float32)
    frequencies = np.array([0.2, 0.3, 0.5], np.float32)
    balanced = balance(P, frequencies, rounds=200)
    np.testing.assert_allclose(balanced.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(balanced.mean(axis=0), frequencies, atol=1e-3)
    # Each class has one factor, so all odds change by the same ratio.
    odds = (balanced[:, 0] / balanced[:, 1]) / (P[:, 0] / P[:, 1])
    np.testing.assert_allclose(odds, odds[0], rtol=1e-3)


def test_the_teacher_learns_from_rows_without_labels(digits: Dataset) -> None:
    needs_torch()
    parts = split(digits.labels, Protocol(queries_per_class=40, labels_per_class=5), 0)
    X, y = digits.descriptors[parts.database], parts.y
    hidden_labels = digits.labels[parts.database]
    accuracies = []
    for steps in (1, 150):
        P = Teacher(hidden=64, noise=0.1, steps=steps).fit(X, y).probabilities_
        np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(P[y >= 0].argmax(axis=1), y[y >= 0])
        assert set(np.unique(P[y >= 0])) == {0, 1}
        accuracies.append((P.argmax(axis=1) == hidden_labels)[y < 0].mean())
    assert accuracies[1] > accuracies[0] + 0.03, accuracies
