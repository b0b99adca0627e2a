"""Measure the recall of one row on the queries of one seed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.benchmark.classifier import OneHotClassifier
from app.benchmark.neighbours import scan
from app.benchmark.neighbours.faiss_indexes import FaissIndex
from app.benchmark.neighbours.protocol import Task
from app.benchmark.rank import (
    Blocks,
    cosine_distances,
    euclidean_distances,
    rank_by_neighbours,
    rank_codes,
    unit,
)
from app.benchmark.rows import CLASSIFIER, COSINE, FAISS, RAW, Row
from app.benchmark.tied_rankings import Reals, TiedRankings
from bitcodes import Codes, code_size
from hashing import Hasher, InvalidInput, make_hasher
from hashing.methods.rabitq import RaBitQ
from hashing.parts.estimate import Metric, estimates
from index import Scan

_VECTORS = {RAW: euclidean_distances, COSINE: cosine_distances}
# Estimated distances in memory at a time.
_ESTIMATES = 1 << 24


@dataclass(frozen=True)
class Recall:
    """The figures of one row.

    Attributes
    ----------
    recalls : (q, 1 + r) float64
        Share of the true neighbours that each query finds: among the first k, and after reranking.
    ranking : str
        By what the items are ranked first: `descriptors`, `hamming`, `estimate` or `faiss`.
    fit_seconds, encode_seconds : float
    bytes_per_item : int
        Of codes and factors, or of descriptors.
    queries_per_second : float
        Of a scan of the whole database for the first k by one thread, from the descriptors of the
        queries on.
    """

    recalls: Reals
    ranking: str
    fit_seconds: float
    encode_seconds: float
    bytes_per_item: int
    queries_per_second: float


def measure_recall(row: Row, task: Task) -> Recall:
    """Measure a row; InvalidInput if the method cannot be fitted."""
    if row.method in _VECTORS:
        return _measure_vectors(row, task)
    if row.method in FAISS and row.n_bits is not None:
        return _measure_faiss(row.method, row.n_bits, task)
    hasher: Hasher | OneHotClassifier
    if row.method == CLASSIFIER:
        hasher = OneHotClassifier(task.seed)
    else:
        if row.privileged:
            raise InvalidInput(f"{row.method} can only be measured by a protocol with labels")
        given = task.dataset.without_privileged().parameters(row.method)
        if row.method == RaBitQ.method:
            given["normalize"] = task.distance == "cosine"
        hasher = make_hasher(row.method, n_bits=row.n_bits, random_state=task.seed, **given)
    start = time.perf_counter()
    hasher.fit(task.database, task.y)
    fitted = time.perf_counter()
    codes = hasher.encode(task.database)
    fit_seconds = fitted - start
    if isinstance(hasher, RaBitQ):
        metric: Metric = "cosine" if hasher.normalize else "euclidean"
        factors = hasher.factors(task.database, metric)
        encode_seconds = time.perf_counter() - fitted
        return Recall(
            _recalls(_rank_by_estimate(hasher, codes, factors, metric, task), task),
            "estimate",
            fit_seconds,
            encode_seconds,
            code_size(hasher.n_bits) + factors.dtype.itemsize * factors.shape[1],
            _speed_by_estimate(hasher, codes, factors, metric, task),
        )
    encode_seconds = time.perf_counter() - fitted
    query_codes = hasher.encode(task.queries)
    none = [np.full(len(each), -1) for each in (query_codes, codes)]
    _, ranking = rank_codes(query_codes, none[0], codes, none[1], task.neighbours)
    return Recall(
        _recalls([ranking], task),
        "hamming",
        fit_seconds,
        encode_seconds,
        code_size(hasher.n_bits),
        scan.queries_per_second(
            lambda queries: scan.hamming(hasher.encode(queries), codes, task.k), task.queries
        ),
    )


def _measure_vectors(row: Row, task: Task) -> Recall:
    distances = _VECTORS[row.method](task.queries, task.database)
    rankings = list(rank_by_neighbours(distances, task.neighbours))
    size = task.database.dtype.itemsize * task.database.shape[1]
    cosine = row.method == COSINE
    database = unit(task.database).astype(np.float32) if cosine else task.database
    speed = scan.queries_per_second(
        lambda queries: scan.flat(
            unit(queries).astype(np.float32) if cosine else queries, database, task.k
        ),
        task.queries,
    )
    return Recall(_recalls(rankings, task), "descriptors", 0.0, 0.0, size, speed)


def _measure_faiss(method: str, n_bits: int, task: Task) -> Recall:
    start = time.perf_counter()
    index = FaissIndex(method, n_bits, task)
    index.fit()
    fitted = time.perf_counter()
    index.add()
    added = time.perf_counter()
    ranks = _ranks(task)
    found = index.search(task.queries, int(ranks.max()))
    counts = np.empty((len(found), len(ranks)))
    for row_counts, own, near in zip(counts, found, task.neighbours, strict=True):
        row_counts[:] = np.isin(own, near).cumsum()[ranks - 1]
    return Recall(
        np.minimum(counts / task.k, 1.0),
        "faiss",
        fitted - start,
        added - fitted,
        index.bytes_per_item,
        scan.queries_per_second(lambda queries: index.search(queries, task.k), task.queries),
    )


def _rank_by_estimate(
    hasher: RaBitQ, codes: Codes, factors: NDArray[np.float32], metric: Metric, task: Task
) -> list[TiedRankings]:
    def blocks() -> Blocks:
        step = max(1, _ESTIMATES // len(codes))
        for first in range(0, len(task.queries), step):
            block = slice(first, min(first + step, len(task.queries)))
            terms = hasher.query_terms(task.queries[block], metric)
            yield block, estimates(terms, codes, factors)

    return list(rank_by_neighbours(blocks(), task.neighbours))


def _speed_by_estimate(
    hasher: RaBitQ, codes: Codes, factors: NDArray[np.float32], metric: Metric, task: Task
) -> float:
    rows = Scan.of(codes, factors, hasher.n_bits)
    return scan.queries_per_second(
        lambda queries: scan.by_estimate(rows, hasher.query_terms(queries, metric).vectors, task.k),
        task.queries,
    )


def _ranks(task: Task) -> NDArray[np.int64]:
    """Return how many first items count: k, and the candidates of each reranking."""
    return np.array([min(max(n, task.k), len(task.database)) for n in (task.k, *task.rerank)])


def _recalls(rankings: list[TiedRankings], task: Task) -> Reals:
    """Return the recall of each query, among the first k and after each reranking.

    Ranked again by the distance that makes true neighbours, these come first. So recall with
    `rerank` is the share of true neighbours among the candidates.
    """
    found = np.concatenate([one.relevant_in_first(_ranks(task)) for one in rankings])
    # Several items may tie at the k-th true distance: any k of them are right.
    return np.minimum(found / task.k, 1.0)
