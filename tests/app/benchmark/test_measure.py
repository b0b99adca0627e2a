"""The figures of a row, against brute force over the items that `fit` and rankings see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.benchmark import measure as measuring
from app.benchmark.classifier import OneHotClassifier
from app.benchmark.measure import Measured, Task, curve_ranks, measure
from app.benchmark.rows import Row
from app.benchmark.splits import UNSEEN_ONLY, Protocol, Split, split
from app.datasets.dataset import Dataset
from bitcodes import hamming, unpack
from hashing import InvalidInput, make_hasher
from hashing.methods.lsh import LSH

LSH_8 = Row("lsh", 8)


def clusters(
    n_classes: int = 3, size: int = 60, d: int = 12, distance: float = 1.5, seed: int = 0
) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(n_classes), size))
    X = rng.normal(size=(len(labels), d)) + distance * np.eye(n_classes, d)[labels]
    return Dataset("c", X.astype(np.float32), labels, np.arange(len(labels)).astype(str))


def task_of(dataset: Dataset, protocol: Protocol | None = None) -> Task:
    return Task(dataset, split(dataset.labels, protocol or Protocol(), 0), 0)


@pytest.fixture(scope="module")
def task() -> Task:
    return task_of(clusters())


def sorted_by(distances: NDArray[Any], n_orders: int = 200) -> list[NDArray[np.intp]]:
    """Random orders of the items that are sorted by distance."""
    rng = np.random.default_rng(0)
    return [np.lexsort((rng.random(len(distances)), distances)) for _ in range(n_orders)]


def nearest_first(task: Task) -> NDArray[np.intp]:
    queries, database = task.queries.astype(float), task.database.astype(float)
    return np.argsort(((queries[:, None] - database) ** 2).sum(axis=2), axis=1)


def test_precision_within_each_radius_is_that_of_counting(task: Task) -> None:
    found = measure(LSH_8, task)
    hasher = make_hasher("lsh", n_bits=8).fit(task.database)
    distances = hamming(hasher.encode(task.queries), hasher.encode(task.database))
    assert found.radius_curve is not None
    assert len(found.radius_curve) == 9
    for radius, precision in enumerate(found.radius_curve):
        near = distances <= radius
        right = near & (task.query_labels[:, None] == task.labels)
        # A query that finds nothing counts as 0.
        shares = [r.sum() / n.sum() if n.any() else 0.0 for r, n in zip(right, near, strict=True)]
        assert precision == pytest.approx(np.mean(shares))
    assert found.figures["precision_radius_2"] == pytest.approx(found.radius_curve[2])
    assert found.figures["empty_radius_2"] == np.mean((distances > 2).all(axis=1))
    assert measure(Row("lsh", 1), task).figures["recall_radius_2"] == 1.0


def test_recall_of_neighbours_is_the_expectation_over_orders_of_ties(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "NEIGHBOURS", 20)
    small = task_of(task.dataset)
    hasher = make_hasher("lsh", n_bits=8).fit(small.database)
    distances = hamming(hasher.encode(small.queries), hasher.encode(small.database))
    expected = []
    for query, row in zip(small.queries, distances, strict=True):
        true = np.argsort(((small.database - query) ** 2).sum(axis=1))[:20]
        expected.append(np.mean([np.isin(order[:20], true).mean() for order in sorted_by(row)]))
    measured = measure(LSH_8, small).figures["recall_neighbours_100"]
    assert measured == pytest.approx(np.mean(expected), abs=0.005)


def test_a_perfect_ranking_of_duplicates_has_perfect_recall_of_neighbours() -> None:
    """150 items at the distance of the 100th: any 100 of them are right."""
    X = np.repeat(np.eye(2, dtype=np.float32), 200, axis=0)
    labels = np.repeat([0, 1], 200)
    dataset = Dataset("twins", X, labels, np.arange(400).astype(str))
    twins = task_of(dataset, Protocol(queries_per_class=50, labels_per_class=50))
    assert [len(found) for found in twins.neighbours] == [150] * 100
    for row in (Row("raw", None), Row("raw-cosine", None), Row("lsh", 16)):
        assert measure(row, twins).figures["recall_neighbours_100"] == pytest.approx(1.0)


def test_queries_without_a_relevant_item_are_left_out_of_every_mean(task: Task) -> None:
    """They are left out as if they had never been queries."""
    parts = split(task.dataset.labels, Protocol(), 0)
    gone = task.dataset.labels[parts.database] == 2
    database, y = parts.database[~gone], parts.y[~gone]
    kept = parts.queries[task.dataset.labels[parts.queries] != 2]
    with_them, without = (
        Task(
            task.dataset, Split(queries, database, database, y, [], task.dataset.labels[queries]), 0
        )
        for queries in (parts.queries, kept)
    )
    rows = (LSH_8, Row("raw", None), Row("raw-cosine", None), Row("classifier", None))
    for row in rows:
        first, second = measure(row, with_them), measure(row, without)
        assert np.isnan(first.precisions).sum() == len(parts.queries) - len(kept)
        for name in ("precision_100", "precision_radius_2", "empty_radius_2", "map_asymmetric"):
            assert first.figures[name] == second.figures[name], (row, name)
        np.testing.assert_array_equal(first.curve, second.curve)


def test_precision_at_n_is_that_of_sorting(task: Task) -> None:
    found = measure(Row("raw", None), task)
    ranks = curve_ranks(len(task.database))
    order = nearest_first(task)
    right = (task.labels[order] == task.query_labels[:, None]).cumsum(axis=1)
    np.testing.assert_allclose(found.curve[:, 1], (right[:, ranks - 1] / ranks).mean(axis=0))
    assert found.figures["precision_100"] == pytest.approx(right[:, 99].mean() / 100)
    assert found.radius_curve is None


def test_map_of_the_first_5000_needs_more_items_than_that(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure(LSH_8, task).figures["map_5000"] is None
    monkeypatch.setattr(measuring, "FIRST", 30)
    found = measure(Row("raw", None), task)
    order = nearest_first(task)
    right = task.labels[order[:, :30]] == task.query_labels[:, None]
    precision = right.cumsum(axis=1) / np.arange(1, 31)
    expected = (precision * right).sum(axis=1) / np.maximum(right.sum(axis=1), 1)
    assert found.figures["map_5000"] == pytest.approx(expected.mean())


def test_cosine_ignores_lengths() -> None:
    dataset = clusters()
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.2, 5, (len(dataset), 1)).astype(np.float32)
    scaled = Dataset("s", dataset.descriptors * lengths, dataset.labels, dataset.ids)
    cosine, raw = (
        [measure(Row(method, None), task_of(each)) for each in (dataset, scaled)]
        for method in ("raw-cosine", "raw")
    )
    np.testing.assert_allclose(cosine[0].precisions, cosine[1].precisions, rtol=1e-6)
    assert np.abs(raw[0].precisions - raw[1].precisions).max() > 0.1


def test_the_classifier_is_as_good_as_its_accuracy(digits: Dataset) -> None:
    """The published finding: it needs no hashing where all classes are known."""
    task = task_of(digits)
    found = measure(Row("classifier", None), task)
    predicted = OneHotClassifier(0).fit(task.training, task.y)
    bits = unpack(predicted.encode(task.database), 10)
    np.testing.assert_array_equal(bits.sum(axis=1), 1)
    assert (bits.argmax(axis=1) == task.labels).mean() > 0.98
    assert found.figures["bytes_per_item"] == 2
    assert np.mean(found.precisions) > 0.95
    asymmetric = found.figures["map_asymmetric"]
    assert asymmetric is not None
    assert asymmetric > np.mean(found.precisions) - 0.01


def test_the_classifier_knows_nothing_of_unseen_classes(digits: Dataset) -> None:
    task = task_of(digits, Protocol(UNSEEN_ONLY))
    classifier, raw = (measure(Row(name, None), task) for name in ("classifier", "raw"))
    assert np.mean(classifier.precisions) < np.mean(raw.precisions) - 0.1
    with pytest.raises(InvalidInput, match="at least two classes"):
        OneHotClassifier(0).fit(task.training, np.full(len(task.training), -1))


def test_fit_sees_what_the_split_allows_and_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, NDArray[Any]] = {}
    fit = LSH.fit

    def spy(self: LSH, X: Any, y: Any = None) -> LSH:
        seen["X"], seen["y"] = X, y
        return fit(self, X, y)

    monkeypatch.setattr(LSH, "fit", spy)
    dataset = clusters(n_classes=6)
    for protocol in (Protocol(), Protocol("unseen-classes"), Protocol(UNSEEN_ONLY)):
        parts = split(dataset.labels, protocol, 0)
        measured: Measured = measure(LSH_8, Task(dataset, parts, 0))
        assert len(measured.precisions) == len(parts.queries)
        np.testing.assert_array_equal(seen["X"], dataset.descriptors[parts.training])
        np.testing.assert_array_equal(seen["y"], parts.y)
        assert not set(map(bytes, seen["X"])) & set(map(bytes, dataset.descriptors[parts.queries]))
