"""What HTTP adds to a query, and how jobs slow queries down: a service over loopback.

The collection holds 48-bit codes of 60,000 random descriptors of 384 floats. The time depends on
the descriptors only through ties, and random ones tie as often as others.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.service.checks import Size
from app.service.service import Service
from app.service.settings import Settings
from bench.measuring import in_turn
from bench.service import ServiceProcess, npy
from bitcell_client import Client
from index import SearchOptions

ITEMS, DIMENSION, BITS = 60_000, 384, 48
SINGLE, BATCH, BATCHES = 1000, 1000, 15
TEN = SearchOptions(k=10)
QUERY = "/v1/collections/c/query?k=10"


@contextmanager
def filled() -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """Yield a data directory with the collection `c`, and queries."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ITEMS, DIMENSION)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        service = Service(Settings(data_dir=Path(name), demo=False))
        service.encoders.create("e", "lsh", BITS, {}, descriptors=X[:1000])
        service.collections.create("c", "e")
        ids = [f"item-{i:05d}" for i in range(ITEMS)]
        service.collections.upsert("c", ids, X, rng.integers(0, 10, ITEMS))
        service.close()
        yield Path(name), rng.normal(size=(BATCH, DIMENSION)).astype(np.float32)


@contextmanager
def both() -> Iterator[tuple[Service, ServiceProcess, NDArray[np.float32]]]:
    """Yield a collection in this process, the same one served by another, and queries."""
    with filled() as (folder, queries), tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        in_process = Service(Settings(data_dir=Path(copy), demo=False))
        served = ServiceProcess(folder)
        try:
            yield in_process, served, queries
        finally:
            served.stop()
            in_process.close()


def single() -> dict[str, float]:
    """Return the milliseconds that HTTP adds to the median of a single query."""
    with both() as (in_process, served, queries):
        size = Size(in_process.answers, "")
        bodies = [npy(query[None]) for query in queries]
        with Client(served.url) as client:
            times = in_turn(
                [
                    lambda i: in_process.searches.search(
                        "c", TEN, size, descriptors=queries[i][None]
                    ),
                    lambda i: served.request("POST", QUERY, bodies[i]),
                    lambda i: served.request("GET", "/healthz"),
                    lambda i: client.query("c", queries[i][None], k=10),
                ],
                SINGLE,
                run=50,
            )
    in_process_ms, over_http_ms, healthz_ms, by_client_ms = (
        1000 * np.median(times, axis=0)
    ).tolist()
    return {
        "added_ms": over_http_ms - in_process_ms,
        "in_process_ms": in_process_ms,
        "over_http_ms": over_http_ms,
        "over_http_p99_ms": 1000 * float(np.percentile(times[:, 1], 99)),
        "healthz_ms": healthz_ms,
        "by_client_ms": by_client_ms,
    }


def batch() -> dict[str, float]:
    """Return the rate of 1,000 queries in one npy body, as a share of the rate in process."""
    with both() as (in_process, served, queries):
        size = Size(in_process.answers, "")
        body = npy(queries)
        times = in_turn(
            [
                lambda i: in_process.searches.search("c", TEN, size, descriptors=queries),
                lambda i: served.request("POST", QUERY, body),
            ],
            BATCHES,
        )
    return {
        "rate_share": float(np.median(times[:, 0] / times[:, 1])),
        "queries_per_second": BATCH / float(np.median(times[:, 1])),
    }


def during_jobs() -> dict[str, float]:
    """Return the p99 of single queries while a training and a benchmark run, and without them."""
    with filled() as (folder, queries):
        _write_dataset(folder)
        served = ServiceProcess(folder)
        bodies = [npy(query[None]) for query in queries]

        def query(i: int) -> bytes:
            return served.request("POST", QUERY, bodies[i % len(bodies)])

        try:
            quiet = in_turn([query], 3 * SINGLE)
            jobs = _start_jobs(served)
            busy = in_turn([query], 3 * SINGLE)
            if _states(served, jobs) != {"running"}:
                raise RuntimeError("the jobs ended before the queries: give them more to do")
            for job in jobs:
                served.request("DELETE", f"/v1/jobs/{job}")
        finally:
            served.stop()
    quiet_p99, busy_p99 = (1000 * float(np.percentile(times, 99)) for times in (quiet, busy))
    return {
        "p99_ratio": busy_p99 / quiet_p99,
        "quiet_p99_ms": quiet_p99,
        "busy_p99_ms": busy_p99,
        "quiet_median_ms": 1000 * float(np.median(quiet)),
        "busy_median_ms": 1000 * float(np.median(busy)),
    }


def _write_dataset(folder: Path) -> None:
    """Write the dataset `big`, which keeps the jobs busy, to a data directory."""
    rng = np.random.default_rng(1)
    (folder / "datasets").mkdir()
    labels = rng.integers(0, 10, 20_000)
    X = rng.normal(size=(20_000, DIMENSION)).astype(np.float32)
    np.savez(folder / "datasets" / "big.npz", descriptors=X, labels=labels)


def _start_jobs(served: ServiceProcess) -> list[str]:
    """Start a training and a benchmark; return their ids once both compute."""
    encoder = {"name": "t", "method": "ksh", "n_bits": 64, "training": {"dataset": "big"}}
    benchmark = {"dataset": "big", "methods": ["itq", "ksh"], "bits": [48, 64]}
    jobs = [
        served.post("/v1/encoders", encoder)["id"],
        served.post("/v1/benchmarks", benchmark)["id"],
    ]
    while "queued" in _states(served, jobs):
        time.sleep(0.1)
    time.sleep(3)  # Time to read the data before they compute.
    return jobs


def _states(served: ServiceProcess, jobs: list[str]) -> set[str]:
    return {json.loads(served.request("GET", f"/v1/jobs/{job}"))["state"] for job in jobs}
