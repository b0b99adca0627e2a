"""Choosing parameters: on held-out labels, by brute force, and without the queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark import tuning
from app.benchmark.measure import Task, measure
from app.benchmark.rows import Row
from app.benchmark.run import run
from app.benchmark.splits import Protocol, split
from app.benchmark.tuning import GRIDS, hold_out, precision_among_others, tune
from app.datasets.dataset import Dataset
from bitcodes import pack
from hashing import HASHERS, InvalidInput, make_hasher
from hashing.estimator import parameters
from tests.average_precision import average_precision

LSH = Row("lsh", 16)


def classes_in(scales: list[float], n: int = 400) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Two classes that differ in the first half of the dimensions, each of a scale."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, len(scales)))
    X[:, : len(scales) // 2] += 3 * y[:, None]
    return (X * scales).astype(np.float32), y


@pytest.mark.parametrize(
    ("scales", "scale"), [([1.0] * 4 + [50.0] * 4, True), ([50.0] * 4 + [1.0] * 4, False)]
)
def test_the_better_parameters_are_chosen(scales: list[float], scale: bool) -> None:
    """Dividing by the standard deviation helps if the useful dimensions are the small ones."""
    X, y = classes_in(scales)
    y[::3] = -1
    assert tune(LSH, X, y, 0, {}) == {"scale": scale}


def test_candidates_are_judged_on_labels_that_they_have_not_seen() -> None:
    X, y = classes_in([1.0] * 8)
    y[::2] = -1
    held_out = hold_out(y, 3)
    assert np.bincount(y[held_out]).tolist() == [n // 4 for n in np.bincount(y[y >= 0])]
    seen: list[Any] = []
    fit = HASHERS["sdh"].fit

    def spy(self: Any, X: Any, y: Any = None) -> Any:
        seen.append((X, y))
        return fit(self, X, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HASHERS["sdh"], "fit", spy)
        tune(Row("sdh", 8), X, y, 3, {})
    assert len(seen) == len(GRIDS["sdh"])
    for fitted, labels in seen:
        np.testing.assert_array_equal(fitted, X[~held_out])
        np.testing.assert_array_equal(labels, y[~held_out])


def test_the_quality_is_that_of_ranking_all_others() -> None:
    rng = np.random.default_rng(0)
    codes, labels = pack(rng.normal(size=(60, 5))), rng.integers(0, 3, 60)
    labels[0] = 9  # alone in its class
    measured = precision_among_others(codes, labels)
    for i, value in enumerate(measured):
        others = np.arange(60) != i
        one = slice(i, i + 1)
        (expected,) = average_precision(codes[one], labels[one], codes[others], labels[others])
        assert value == pytest.approx(expected, nan_ok=True)
    assert np.isnan(measured).sum() == 1


def test_queries_do_not_matter() -> None:
    """With other queries and other hidden labels, the choice is the same."""
    X, y = classes_in([1.0] * 4 + [50.0] * 4)
    dataset = Dataset("d", X, y, np.arange(len(y)).astype(str))
    parts = split(y, Protocol(queries_per_class=30, labels_per_class=40), 0)
    rng = np.random.default_rng(0)
    spoiled, descriptors = y.copy(), X.copy()
    hidden = np.ones(len(y), bool)
    hidden[parts.training[parts.y >= 0]] = False
    spoiled[hidden] = rng.permutation(spoiled[hidden])
    descriptors[parts.queries] = rng.normal(size=(len(parts.queries), X.shape[1]))
    other = replace(dataset, labels=spoiled, descriptors=descriptors)
    for row in (LSH, Row("sdh", 8)):
        first, second = (
            measure(row, Task(each, parts, 0), search=True) for each in (dataset, other)
        )
        assert first.tuned is not None
        assert first.tuned == second.tuned
        assert (first.precisions != second.precisions).any()


def test_every_grid_starts_with_the_defaults_and_can_be_fitted() -> None:
    for method, grid in GRIDS.items():
        defaults = {name: each.default for name, each in parameters(HASHERS[method]).items()}
        assert {**defaults, **grid[0]} == defaults
        for params in grid:
            make_hasher(method, **params).check_parameters()
            assert len(params) <= 2


def test_a_candidate_that_cannot_be_fitted_is_passed_over(X: NDArray[Any], y: NDArray[Any]) -> None:
    # 100 anchors allow 198 bits, 300 allow 598.
    chosen = tune(Row("agh", 220), X[:600, :20], y[:600], 0, {})
    assert chosen["n_anchors"] > 100
    assert tune(Row("agh", 4000), X[:600, :20], y[:600], 0, {}) == {}
    assert tune(Row("itq", 8), X[:600, :20], y[:600], 0, {}) == {}


def test_a_quarter_of_too_few_labels_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 4 labels"):
        hold_out(np.array([0, 0, 0, 1, 1, 1, -1]), 0)
    assert hold_out(np.array([0, 0, 0, 0, 1, -1]), 0).sum() == 2


def test_a_run_reports_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = classes_in([1.0] * 4 + [50.0] * 4)
    dataset = Dataset("d", X, y, np.arange(len(y)).astype(str))
    table = [Row("raw", None), LSH, Row("itq", 4)]
    monkeypatch.setattr(tuning, "GRIDS", {"lsh": GRIDS["lsh"]})
    tuned, plain = (
        run(dataset, table, Protocol(), [0, 1], tune=tune)["results"] for tune in (True, False)
    )
    assert [row["tuned"] for row in tuned] == [None, [{"scale": True}] * 2, None]
    assert [row["tuned"] for row in plain] == [None] * 3
    assert tuned[1]["map"] > plain[1]["map"] + 0.1
    assert tuned[2]["map"] == plain[2]["map"]
