"""What HTTP adds to a query, and what jobs that run do to it: a service of its own, over loopback.

48-bit codes of 60,000 descriptors of 384 floats; they are random, which the time does not depend
on but for ties, and of those random ones have as many as others.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.client import Client
from app.service.service import Service
from app.service.settings import Settings
from index import SearchOptions

ITEMS, DIMENSION, BITS = 60_000, 384, 48
SINGLE, BATCH, BATCHES = 1000, 1000, 15
TEN = SearchOptions(k=10)
QUERY = "/v1/collections/c/query?k=10"


class Serving:
    """`bitcell serve` on a free port, and one connection that is kept alive."""

    def __init__(self, folder: Path) -> None:
        with (folder / "log").open("wb") as log_file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from app.cli.main import main; main()",
                    "serve",
                    "--port",
                    "0",
                ],
                env=os.environ
                | {
                    "BITCELL_DATA_DIR": str(folder),
                    "BITCELL_DEMO": "false",
                    "BITCELL_DRAIN_SECONDS": "0",
                },
                stderr=log_file,
            )
        while b"Bitcell is at" not in (log := (folder / "log").read_bytes()):
            if self.process.poll() is not None:
                raise RuntimeError(log.decode())
            time.sleep(0.05)
        port = int(log.partition(b"Bitcell is at http://127.0.0.1:")[2].partition(b'"')[0])
        self.url = f"http://127.0.0.1:{port}"
        # A bare socket: what a client library costs is not the service's.
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/x-npy"
    ) -> bytes:
        """The body of the answer; RuntimeError where it is a problem."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        length = f"Content-Length: {len(body)}\r\n\r\n"
        self._connection.sendall((head + length).encode() + body)
        came = self._connection.recv(1 << 20)
        head_end = came.index(b"\r\n\r\n") + 4
        found = re.search(rb"content-length: (\d+)", came[:head_end], re.IGNORECASE)
        parts, missing = [came], head_end + int(found[1] if found else 0) - len(came)
        while missing > 0:
            if not (part := self._connection.recv(1 << 20)):
                raise RuntimeError("the service has gone in the middle of an answer")
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)[head_end:]
        if int(came[9:12]) >= 400:
            raise RuntimeError(data.decode())
        return data

    def post(self, path: str, body: Any) -> Any:
        """The answer to JSON."""
        return json.loads(self.ask("POST", path, json.dumps(body).encode(), "application/json"))

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self.process.terminate()
        self.process.wait()


def npy(*arrays: Any) -> bytes:
    """An npy body."""
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


@contextmanager
def filled() -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """A data directory with the collection `c`, and queries."""
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


def in_turn(calls: list[Callable[[int], Any]], count: int, at_once: int = 1) -> NDArray[np.float64]:
    """Seconds of each call, (count, len(calls)), taken in turn: all see the same machine.

    `at_once` of one call follow one another, since a caller that asks on and on finds its data in
    the processor's caches, and the others would clear those in between.
    """
    found = np.empty((count, len(calls)))
    for first in range(-max(5, at_once), count, at_once):
        for j, call in enumerate(calls):
            for i in range(first, min(first + at_once, count)):
                start = time.perf_counter()
                call(i)
                if i >= 0:
                    found[i, j] = time.perf_counter() - start
    return found


@contextmanager
def both() -> Iterator[tuple[Service, Serving, NDArray[np.float32]]]:
    """A collection in process and the same one served, and queries."""
    with filled() as (folder, queries), tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        service = Service(Settings(data_dir=Path(copy), demo=False))
        serving = Serving(folder)
        try:
            yield service, serving, queries
        finally:
            serving.stop()
            service.close()


def single() -> dict[str, float]:
    """Milliseconds that HTTP adds to one query in the median."""
    with both() as (service, serving, queries):
        bodies = [npy(query[None]) for query in queries]
        with Client(serving.url) as client:
            found = in_turn(
                [
                    lambda i: service.searches.search("c", TEN, descriptors=queries[i][None]),
                    lambda i: serving.ask("POST", QUERY, bodies[i]),
                    lambda i: serving.ask("GET", "/healthz"),
                    lambda i: client.query("c", queries[i][None], k=10),
                ],
                SINGLE,
                at_once=50,
            )
    inside, over, alive, by_client = (1000 * np.median(found, axis=0)).tolist()
    p99 = 1000 * float(np.percentile(found[:, 1], 99))
    return {
        "added_ms": over - inside,
        "in_process_ms": inside,
        "over_http_ms": over,
        "over_http_p99_ms": p99,
        "healthz_ms": alive,
        "by_client_ms": by_client,
    }


def batch() -> dict[str, float]:
    """The rate of 1,000 queries in one npy body, as a share of that in process."""
    with both() as (service, serving, queries):
        body = npy(queries)
        found = in_turn(
            [
                lambda i: service.searches.search("c", TEN, descriptors=queries),
                lambda i: serving.ask("POST", QUERY, body),
            ],
            BATCHES,
        )
    return {
        "rate_share": float(np.median(found[:, 0] / found[:, 1])),
        "queries_per_second": BATCH / float(np.median(found[:, 1])),
    }


def beside_jobs() -> dict[str, float]:
    """The 99th percentile of single queries while a training and a benchmark run, and quiet."""
    rng = np.random.default_rng(1)
    with filled() as (folder, queries):
        (folder / "datasets").mkdir()
        labels = rng.integers(0, 10, 20_000)
        X = rng.normal(size=(20_000, DIMENSION)).astype(np.float32)
        np.savez(folder / "datasets" / "big.npz", descriptors=X, labels=labels)
        serving = Serving(folder)
        bodies = [npy(query[None]) for query in queries]

        def ask(i: int) -> bytes:
            return serving.ask("POST", QUERY, bodies[i % len(bodies)])

        try:
            quiet = in_turn([ask], 3 * SINGLE)
            new = {"name": "t", "method": "ksh", "n_bits": 64, "training": {"dataset": "big"}}
            benchmark = {"dataset": "big", "methods": ["itq", "ksh"], "bits": [48, 64]}
            jobs = [
                serving.post("/v1/encoders", new)["id"],
                serving.post("/v1/benchmarks", benchmark)["id"],
            ]

            def states() -> set[str]:
                return {json.loads(serving.ask("GET", f"/v1/jobs/{job}"))["state"] for job in jobs}

            while "queued" in states():
                time.sleep(0.1)
            time.sleep(3)  # Until they have read their data and compute.
            busy = in_turn([ask], 3 * SINGLE)
            if states() != {"running"}:
                raise RuntimeError("the jobs ended before the queries: give them more to do")
            for job in jobs:
                serving.ask("DELETE", f"/v1/jobs/{job}")
        finally:
            serving.stop()
    p99 = [1000 * float(np.percentile(found, 99)) for found in (quiet, busy)]
    return {
        "p99_ratio": p99[1] / p99[0],
        "quiet_p99_ms": p99[0],
        "busy_p99_ms": p99[1],
        "quiet_median_ms": 1000 * float(np.median(quiet)),
        "busy_median_ms": 1000 * float(np.median(busy)),
    }
