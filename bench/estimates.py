"""Queries of a collection that ranks by estimated distances, compared with Faiss asked directly.

Run `python -m bench.estimates` for a million items, or with another number of items.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.collection import item_ids
from bench.measuring import in_turn, resident_mb
from bench.service import ServiceProcess, npy
from hashing.methods.rabitq import RaBitQ

DIMENSION, BITS, CENTRES, K = 384, 384, 2000, 10
BATCH, QUERIES, ROUNDS = 10_000, 200, 5
QUERY = f"/v1/collections/c/query?k={K}"


def descriptors(seed: int, n: int) -> NDArray[np.float32]:
    """Return n random descriptors of length one around some centres."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSION)).astype(np.float32)
    rng = np.random.default_rng([1, seed])
    X = centres[rng.integers(0, CENTRES, n)]
    X += 0.7 * rng.standard_normal((n, DIMENSION), np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X


def faiss_index(n: int) -> Any:
    """Return Faiss's index of the same items, rotated at random."""
    rotation: Any = faiss.RandomRotationMatrix(DIMENSION, BITS)
    rotation.init(0)
    inner: Any = faiss.IndexRaBitQ(BITS)
    inner.qb = 8
    index: Any = faiss.IndexPreTransform(rotation, inner)
    index.train(descriptors(0, BATCH))
    for first in range(0, n, BATCH):
        index.add(descriptors(first // BATCH, min(BATCH, n - first)))
    return index


def load(served: ServiceProcess, n: int) -> float:
    """Make the collection `c` of n items, and return the seconds of the writes."""
    hasher = RaBitQ(BITS).fit(descriptors(0, BATCH))
    served.reconnect()
    served.request("PUT", "/v1/encoders/e", hasher.to_bytes(), "application/octet-stream")
    served.post("/v1/collections", {"name": "c", "encoder": "e", "ranking": "estimate"})
    ids, total = item_ids(n), 0.0
    for first in range(0, n, BATCH):
        X = descriptors(first // BATCH, min(BATCH, n - first))
        body = npy(X, np.array(ids[first : first + len(X)]))
        served.reconnect()
        start = time.perf_counter()
        served.request("PUT", "/v1/collections/c/items", body)
        total += time.perf_counter() - start
    return total


def settle(served: ServiceProcess) -> None:
    """Wait until the service needs no more processor time: its background work is done."""
    before = -1.0
    while (now := cpu_seconds(served.process.pid)) > before + 0.05:
        before = now
        time.sleep(1)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(n: int = 10**6) -> dict[str, float]:
    """Return `rate_share`, the rate of a batch of queries as a share of that of Faiss.

    Faiss uses all processors, as the service does, and both have the same queries in turn.
    `cpu_share` is the same of processor time. `bytes_per_item` is memory, and `ready_seconds` the
    time from a start of the service to its first answer.
    """
    queries = descriptors(10**6, QUERIES)
    index = faiss_index(n)
    with tempfile.TemporaryDirectory() as folder:
        served = ServiceProcess(Path(folder))
        try:
            written = load(served, n)
        finally:
            served.stop()
        start = time.perf_counter()
        served = ServiceProcess(Path(folder), settings={"BITCELL_QUERY_TIMEOUT": "600"})
        try:
            first = json.loads(served.request("POST", QUERY, npy(queries[:1])))
            ready = time.perf_counter() - start
            if first["certificates"][0]["looked"] != n:
                raise AssertionError("an answer does not regard every item")
            settle(served)
            resident = resident_mb(served.process.pid)
            times, cpu = _alternate(served, index, queries)
        finally:
            served.stop()
    direct, through = np.median(times, axis=0).tolist()
    return {
        "rate_share": direct / through,
        "cpu_share": cpu[0] / cpu[1],
        "queries_per_second": QUERIES / through,
        "faiss_queries_per_second": QUERIES / direct,
        "items_per_second": n / written,
        "ready_seconds": ready,
        "bytes_per_item": (resident - _resident_without_items()) * 2**20 / n,
    }


def _alternate(
    served: ServiceProcess, index: Any, queries: NDArray[np.float32]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the seconds of Faiss and of the service, (rounds, 2), and their processor times."""
    body = npy(queries)

    def through(_: int) -> None:
        served.reconnect()
        served.request("POST", QUERY, body)

    before = time.process_time(), cpu_seconds(served.process.pid)
    times = in_turn([lambda _: index.search(queries, K), through], ROUNDS, warm_up=1)
    after = time.process_time(), cpu_seconds(served.process.pid)
    return times, (after[0] - before[0], after[1] - before[1])


def _resident_without_items() -> float:
    with tempfile.TemporaryDirectory() as folder:
        served = ServiceProcess(Path(folder))
        try:
            load(served, 100)
            served.request("POST", QUERY, npy(descriptors(10**6, 1)))
            return resident_mb(served.process.pid)
        finally:
            served.stop()


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if sys.argv[1:] else 10**6), indent=2))
