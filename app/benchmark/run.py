"""The benchmark: methods × code lengths on one split of a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.benchmark.datasets import Dataset
from app.benchmark.metrics import average_precision, average_precision_euclidean, mean
from app.benchmark.protocol import Retrieval, Split, split
from hashing import HASHERS, InvalidInput, make_hasher
from hashing.base import MAX_BITS, check_int
from hashing.codes import code_size

RAW = "raw"
METHODS = (RAW, *HASHERS)

Progress = Callable[[int, int, str], None]
"""Called with the rows done, the rows in all, and what runs now."""


@dataclass(frozen=True)
class Row:
    """One row to be measured: a method at a code length; `raw` has none."""

    method: str
    n_bits: int | None

    def __str__(self) -> str:
        return self.method if self.n_bits is None else f"{self.method}, {self.n_bits} bits"


def rows(methods: Sequence[str], bits: Sequence[int]) -> list[Row]:
    """The rows of a table; InvalidInput for an unknown method, a bad length or none at all."""
    if not methods or not bits:
        raise InvalidInput("a benchmark needs at least one method and one code length")
    for method in methods:
        if method not in METHODS:
            raise InvalidInput(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    for n_bits in bits:
        check_int("bits", n_bits, 1, MAX_BITS)
    table = (
        [Row(method, None)] if method == RAW else [Row(method, n_bits) for n_bits in bits]
        for method in dict.fromkeys(methods)
    )
    return [row for part in table for row in part]


def run(
    dataset: Dataset,
    table: Iterable[Row],
    protocol: Retrieval,
    progress: Progress = lambda done, of, now: None,
) -> dict[str, Any]:
    """Measure every row on one split.

    Returns
    -------
    dict
        JSON: `protocol` as it was carried out, `dataset`, and `results`, one a row, with `map` in
        0 to 1 and times in seconds.
    """
    table = list(table)
    parts = split(dataset.labels, protocol)
    results = []
    for done, row in enumerate(table):
        progress(done, len(table), str(row))
        results.append(_measure(row, dataset, parts, protocol.seed))
    progress(len(table), len(table), "done")
    return {
        "protocol": parts.protocol,
        "dataset": {
            "name": dataset.name,
            "items": len(dataset),
            "dimension": dataset.descriptors.shape[1],
            "classes": len(np.unique(dataset.labels[dataset.labels >= 0])),
            "queries": len(parts.queries),
            "database": len(parts.database),
        },
        "results": results,
    }


def _measure(row: Row, dataset: Dataset, parts: Split, seed: int) -> dict[str, Any]:
    queries, database = dataset.descriptors[parts.queries], dataset.descriptors[parts.database]
    labels = dataset.labels[parts.queries], dataset.labels[parts.database]
    if row.n_bits is None:
        precisions = average_precision_euclidean(queries, labels[0], database, labels[1])
        size, fit_seconds, encode_seconds = 4 * queries.shape[1], 0.0, 0.0
    else:
        start = time.perf_counter()
        hasher = make_hasher(row.method, n_bits=row.n_bits, random_state=seed)
        hasher.fit(database, parts.y)
        fitted = time.perf_counter()
        codes = hasher.encode(database)
        encode_seconds = time.perf_counter() - fitted
        fit_seconds = fitted - start
        precisions = average_precision(hasher.encode(queries), labels[0], codes, labels[1])
        size = code_size(row.n_bits)
    return {
        "method": row.method,
        "n_bits": row.n_bits,
        "map": mean(precisions),
        "queries": int(np.count_nonzero(~np.isnan(precisions))),
        "queries_without_relevant": int(np.count_nonzero(np.isnan(precisions))),
        "fit_seconds": fit_seconds,
        "encode_seconds": encode_seconds,
        "bytes_per_item": size,
    }
