"""Recall of true neighbours, against a search that really ranks again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from app.benchmark.averages import confidence_interval
from app.benchmark.neighbours.faiss_indexes import FaissIndex
from app.benchmark.neighbours.protocol import NeighbourProtocol, Task
from app.benchmark.neighbours.run import run_neighbours
from app.benchmark.report.render import render
from app.benchmark.rows import NEIGHBOURS, Row, rows
from app.datasets.dataset import Dataset, Given, unlabelled
from hashing import InvalidInput, make_hasher
from hashing.methods.rabitq import RaBitQ
from hashing.parts.estimate import Metric

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 16)).astype(np.float32) + 1
QUERIES = RNG.normal(size=(25, 16)).astype(np.float32) + 1
EUCLIDEAN = cdist(QUERIES, X).argsort(axis=1)
COSINE = cdist(QUERIES, X, "cosine").argsort(axis=1)
PLAIN = unlabelled("plain", X)
WITH_QUERIES = replace(PLAIN, given=Given(QUERIES, None, "euclidean"))
TEN = NeighbourProtocol()


def row(result: dict[str, Any], method: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in result["results"] if each["method"] == method)
    return found


def searched(bits: NDArray[Any], query_bits: NDArray[Any], k: int, rerank: int) -> float:
    """Mean recall of searches in databases in random order; equal distances are in that order."""
    rng = np.random.default_rng(1)
    recalls = []
    for _ in range(100):
        order = rng.permutation(len(X))
        distances = (query_bits[:, None] != bits[order]).sum(axis=2)
        first = order[distances.argsort(axis=1, kind="stable")[:, : rerank or k]]
        for query, candidates, truth in zip(QUERIES, first, EUCLIDEAN, strict=True):
            if rerank:
                candidates = candidates[((X[candidates] - query) ** 2).sum(axis=1).argsort()]
            recalls.append(len(set(candidates[:k]) & set(truth[:k])) / k)
    return float(np.mean(recalls))


@pytest.mark.parametrize("k", [1, 10])
def test_recall_is_that_of_a_search_that_ranks_again(k: int) -> None:
    hasher = make_hasher("lsh", n_bits=12, random_state=3).fit(X)
    bits, query_bits = hasher.transform(X), hasher.transform(QUERIES)
    found = run_neighbours(WITH_QUERIES, rows(["lsh"], [12]), NeighbourProtocol(k=k), [3])
    lsh = row(found, "lsh")
    assert lsh["recall"] == pytest.approx(searched(bits, query_bits, k, 0), abs=0.02)
    assert lsh["recall_rerank_100"] == pytest.approx(searched(bits, query_bits, k, 100), abs=0.02)
    assert lsh["recall_rerank_1000"] == 1.0
    assert 0 < lsh["recall"] < lsh["recall_rerank_100"] < 1
    assert lsh["recall_interval"][0] <= lsh["recall"] <= lsh["recall_interval"][1]


def test_the_baseline_of_the_distance_finds_all_neighbours() -> None:
    for distance, exact, other in (
        ("euclidean", "raw", "raw-cosine"),
        ("cosine", "raw-cosine", "raw"),
    ):
        protocol = NeighbourProtocol(distance=distance)
        found = run_neighbours(WITH_QUERIES, rows(["raw", "raw-cosine"], [8]), protocol)
        assert row(found, exact)["recall"] == 1.0
        same = [len(set(a[:10]) & set(b[:10])) / 10 for a, b in zip(EUCLIDEAN, COSINE, strict=True)]
        assert row(found, other)["recall"] == pytest.approx(np.mean(same))
        assert row(found, "raw")["bytes_per_item"] == 64


def test_given_neighbours_are_the_truth() -> None:
    wrong = np.argsort(-EUCLIDEAN, axis=1)[:, :10]
    given = replace(PLAIN, given=Given(QUERIES, wrong, "cosine"))
    task = Task(given, TEN, 0)
    np.testing.assert_array_equal(task.neighbours, wrong)
    result = run_neighbours(given, rows(["raw"], [8]), TEN)
    assert result["protocol"]["given_neighbours"]
    assert result["protocol"]["distance"] == "cosine"
    assert row(result, "raw")["recall"] < 0.5
    # Those of another distance are not.
    result = run_neighbours(given, rows(["raw"], [8]), NeighbourProtocol(distance="euclidean"))
    assert not result["protocol"]["given_neighbours"]
    assert row(result, "raw")["recall"] == 1.0
    with pytest.raises(InvalidInput, match="k must be at most 10, the true neighbours that plain"):
        run_neighbours(given, rows(["raw"], [8]), NeighbourProtocol(k=11))


def test_queries_are_drawn_from_a_seed_and_not_in_the_database() -> None:
    first, again, other = (Task(PLAIN, NeighbourProtocol(40), seed) for seed in (1, 1, 2))
    assert (len(first.queries), len(first.database)) == (40, 560)
    assert not set(map(bytes, first.queries)) & set(map(bytes, first.database))
    np.testing.assert_array_equal(first.queries, again.queries)
    assert (first.queries != other.queries).any()
    assert len(Task(PLAIN, TEN, 0).queries) == 300  # Half of the items, at most.


def test_duplicates_all_count_as_neighbours() -> None:
    same = unlabelled("same", np.tile(X[:30], (20, 1)))
    for method in ("raw", "lsh"):
        found = run_neighbours(same, rows([method], [64]), NeighbourProtocol(100, 5))
        assert row(found, method)["recall"] == pytest.approx(1.0)


def test_labels_are_used_if_there_are_any(digits: Dataset) -> None:
    few = replace(digits, descriptors=digits.descriptors[:300], labels=digits.labels[:300])
    table = rows(["ksh", "classifier"], [8])
    assert "recall" in row(run_neighbours(few, table, TEN), "ksh")
    unlabelled_error = run_neighbours(PLAIN, [*table, Row("raw", None)], TEN)
    assert "labels of at least two classes" in row(unlabelled_error, "ksh")["error"]


def test_a_row_with_privileged_features_is_one_of_labels() -> None:
    table = rows(["raw", "net-1+privileged"], [8])
    error = row(run_neighbours(PLAIN, table, TEN), "net-1+privileged")["error"]
    assert error == "net-1+privileged can only be measured by a protocol with labels"


def test_an_interrupted_benchmark_keeps_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(hasher: object, X: object, y: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hashing.methods.pcah.PCAH.fit", interrupt)
    result = run_neighbours(PLAIN, rows(["lsh", "pcah"], [8]), TEN)
    assert "Not measured: pcah, 8 bits (seed 0)" in result["interrupted"]
    assert "recall" in row(result, "lsh")
    assert "interrupted" in row(result, "pcah")["error"]
    assert "Not measured: pcah" in render(result, PLAIN)


def test_an_interrupt_during_the_statistics_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    interruptions = iter([KeyboardInterrupt])

    def interrupted(*given: Any) -> Any:
        for interruption in interruptions:
            raise interruption
        return confidence_interval(*given)

    monkeypatch.setattr("app.benchmark.neighbours.run.confidence_interval", interrupted)
    result = run_neighbours(PLAIN, rows(["lsh"], [8]), TEN)
    assert "recall" in row(result, "lsh")
    assert "interrupted" not in result


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_rabitq_is_ranked_by_its_estimate(distance: str) -> None:
    truth = EUCLIDEAN if distance == "euclidean" else COSINE
    normalize = distance == "cosine"
    hasher = make_hasher("rabitq", n_bits=40, random_state=3, normalize=normalize).fit(X)
    assert isinstance(hasher, RaBitQ)
    metric: Metric = "cosine" if normalize else "euclidean"
    codes, factors = hasher.encode(X), hasher.factors(X, metric)
    first = hasher.estimate(QUERIES, codes, factors, metric).argsort(axis=1)
    protocol = NeighbourProtocol(distance=distance, rerank=(50, 20))
    found = row(run_neighbours(WITH_QUERIES, rows(["rabitq"], [40]), protocol, [3]), "rabitq")
    for key, n in (("recall", 10), ("recall_rerank_20", 20), ("recall_rerank_50", 50)):
        shares = [np.isin(t[:10], f[:n]).mean() for t, f in zip(truth, first, strict=True)]
        assert found[key] == pytest.approx(np.mean(shares))
    assert found["bytes_per_item"] == codes.shape[1] + factors.nbytes // len(X)
    assert found["ranking"] == "estimate"
    assert found["queries_per_second"] > 0


@pytest.mark.parametrize(
    ("method", "n_bits", "size"),
    [("faiss-rabitq", 16, 10), ("faiss-rabitq", 40, 13), ("faiss-sq", 8, 8), ("faiss-sq", 64, 16)],
)
def test_an_index_of_faiss_is_measured_by_what_it_finds(
    method: str, n_bits: int, size: int
) -> None:
    index = FaissIndex(method, n_bits, Task(WITH_QUERIES, TEN, 0))
    index.fit()
    index.add()
    table = rows([method], [n_bits], neighbours=True)
    result = row(run_neighbours(WITH_QUERIES, table, TEN), method)
    assert (result["bytes_per_item"], result["ranking"]) == (size, "faiss")
    found = index.search(QUERIES, 10)
    shares = [np.isin(t[:10], f).mean() for t, f in zip(EUCLIDEAN, found, strict=True)]
    assert result["recall"] == pytest.approx(np.mean(shares))
    assert result["recall"] > (0.9 if size == 16 else 0.3)  # 16 bytes: 8 bits per dimension
    assert result["recall_rerank_1000"] == 1.0


def test_rabitq_finds_as_much_as_that_of_faiss() -> None:
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(2200, 64)) * np.geomspace(1, 0.1, 64)).astype(np.float32)
    table = rows(["rabitq", "faiss-rabitq"], [64], neighbours=True)
    result = run_neighbours(unlabelled("X", X), table, NeighbourProtocol(200), [0, 1, 2])
    own, faiss = (row(result, method)["recall"] for method in ("rabitq", "faiss-rabitq"))
    assert own == pytest.approx(faiss, abs=0.02)
    assert own > 0.4


def test_equal_codes_of_faiss_are_in_random_order() -> None:
    same = unlabelled("same", np.repeat(X[:2], 300, axis=0))
    given = replace(same, given=Given(X[:1].repeat(20, axis=0), None, "euclidean"))
    task = Task(given, TEN, 0)
    index = FaissIndex("faiss-rabitq", 16, task)
    index.fit()
    index.add()
    found = index.search(task.queries, 10)
    assert (found < 300).all()
    assert found.max() > 100


def test_too_few_items_for_faiss_are_an_error_of_the_row() -> None:
    table = rows(["faiss-pq", "faiss-sq"], [8], neighbours=True)
    found = run_neighbours(unlabelled("few", X[:100]), table, NeighbourProtocol(20, 5))
    assert "Number of training points (80)" in row(found, "faiss-pq")["error"]
    assert row(found, "faiss-sq")["recall"] > 0.5


def test_indexes_of_faiss_are_for_neighbours_only() -> None:
    with pytest.raises(InvalidInput, match="faiss-sq can only be measured with the protocol neigh"):
        rows(["lsh", "faiss-sq"], [8])


def test_the_report_shows_the_figures() -> None:
    methods = ["raw", "lsh", "itq", "faiss-sq"]
    result = run_neighbours(PLAIN, rows(methods, [8, 16], neighbours=True), TEN, [0, 1])
    page = render(result, PLAIN)
    for each in result["results"]:
        for key in ("recall", "recall_rerank_100"):
            assert f">{100 * each[key]:.2f}</td>" in page
    assert page.count("<figure>") == 3
    assert page.count(" in % by bytes per item. ") == 3
    lsh = [each for each in result["results"] if each["method"] == "lsh"]
    at = ", ".join(f"{100 * e['recall']:.1f} at {e['bytes_per_item']} bytes" for e in lsh)
    assert f"lsh: {at};" in page
    assert "k 10, euclidean distance, true neighbours by exact search, seed 0, 1" in page
    assert "mAP" not in page
    assert result["protocol"]["name"] == NEIGHBOURS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NeighbourProtocol(0), "queries must be from 1"),
        (lambda: NeighbourProtocol(rerank=(5, 0)), "rerank must be from 1 to 10000, got 0"),
        (lambda: NeighbourProtocol(k=1001), "k must be from 1 to 1000"),
        (lambda: NeighbourProtocol(distance="dot"), "euclidean, cosine; got 'dot'"),
        (lambda: run_neighbours(unlabelled("one", X[:1]), [Row("raw", None)], TEN), "two items"),
        (lambda: run_neighbours(unlabelled("few", X[:9]), [Row("raw", None)], TEN), "at most 5"),
        (lambda: run_neighbours(PLAIN, [Row("raw", None)], TEN, []), "at least one seed"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
