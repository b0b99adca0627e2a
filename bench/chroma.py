"""Compare the service with Chroma, both over HTTP, in one run on one machine.

Install Chroma into an environment of its own:

    python3 -m venv /tmp/chroma && /tmp/chroma/bin/pip install chromadb
    .venv/bin/python -m bench.chroma --chroma /tmp/chroma/bin [--data cifar10.npz] [--items 60000]

Both get the same descriptors and the same queries. Chroma keeps float32 and searches its default
graph (HNSW) approximately; Bitcell keeps 48-bit codes and finds the exact nearest codes. The two
answer different questions: the comparison is of how long a client waits.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.measuring import in_turn, seconds
from bench.service import ServiceProcess, npy
from bitcell_client import Client

SINGLE, BATCH, CLIENTS, BATCHES = 300, 1000, 8, 3
CHROMA_BATCH = 1000
"""Descriptors in one request to Chroma, which takes JSON."""
BITS, K = 48, 10
INGEST = "ingest, items per second"
INGEST_FLOOR = 20
"""Bitcell must ingest at least this many times as fast."""


class Chroma:
    """`chroma run` on a free port, with one collection of Euclidean distance."""

    def __init__(self, commands: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (folder / "chroma.log").open("wb") as log:
            self.process = subprocess.Popen(
                [commands / "chroma", "run", "--path", folder / "chroma", "--port", str(port)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
            )
        base = f"http://127.0.0.1:{port}/api/v2"
        self.http = httpx2.Client(base_url=base, timeout=600)
        self.path = ""

    def create_collection(self) -> None:
        """Wait until Chroma answers, and create the collection."""
        while True:
            try:
                if self.http.get("/heartbeat").status_code == 200:
                    break
            except httpx2.TransportError:
                if self.process.poll() is not None:
                    raise RuntimeError("chroma has stopped; its log says why") from None
                time.sleep(0.1)
        root = "/tenants/default_tenant/databases/default_database/collections"
        new = {"name": "items", "configuration": {"hnsw": {"space": "l2"}}}
        self.path = f"{root}/{self.post(root, new)['id']}"

    def post(self, path: str, body: Any) -> Any:
        """Send JSON, encoded or not, and return the answer's JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http.post(path, content=content, headers={"Content-Type": "application/json"})
        if answer.status_code >= 400:
            raise RuntimeError(answer.text[:1000])
        return answer.json()

    def load(self, X: NDArray[np.float32]) -> None:
        """Add all descriptors."""
        for start in range(0, len(X), CHROMA_BATCH):
            part = X[start : start + CHROMA_BATCH]
            ids = [f"item-{i:05d}" for i in range(start, start + len(part))]
            self.post(f"{self.path}/add", {"ids": ids, "embeddings": part.tolist()})

    def query(self, body: bytes) -> Any:
        """Send a query that `query_body` encoded."""
        return self.post(f"{self.path}/query", body)

    def stop(self) -> None:
        """Stop Chroma and wait for its end."""
        self.http.close()
        self.process.terminate()
        self.process.wait()


def query_body(queries: NDArray[np.float32]) -> bytes:
    """Encode queries for Chroma."""
    body = {"query_embeddings": queries.tolist(), "n_results": K, "include": ["distances"]}
    return json.dumps(body).encode()


class Bitcell:
    """`bitcell serve` with one collection of `lsh` codes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.process = ServiceProcess(folder)
        self.client = Client(self.process.url)

    def create_collection(self, X: NDArray[np.float32]) -> None:
        """Create the encoder, from some of the descriptors, and the collection."""
        self.client.create_encoder("e", "lsh", BITS, descriptors=X[:1000])
        self.client.create_collection("c", "e")

    def load(self, X: NDArray[np.float32]) -> None:
        """Put in all descriptors."""
        self.client.load("c", [f"item-{i:05d}" for i in range(len(X))], X)

    def query(self, body: bytes) -> None:
        """Send queries encoded as npy; the answer is not decoded."""
        path, headers = f"/v1/collections/c/query?k={K}", {"Content-Type": "application/x-npy"}
        self.client._http.post(path, content=body, headers=headers).raise_for_status()

    def stop(self) -> None:
        """Stop the service and wait for its end."""
        self.client.close()
        self.process.stop()


def rate(query: Callable[[int], Any], count: int) -> float:
    """Return the calls per second of several concurrent clients."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return count / seconds(lambda: list(clients.map(query, range(count))))


def measure(
    commands: Path, X: NDArray[np.float32], queries: NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    """Return each figure for Bitcell and for Chroma."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        bitcell = Bitcell(folder / "bitcell")
        running.callback(bitcell.stop)
        chroma = Chroma(commands, folder)
        running.callback(chroma.stop)
        bitcell.create_collection(X)
        chroma.create_collection()
        ingest_seconds = [seconds(partial(system.load, X)) for system in (bitcell, chroma)]
        return {
            INGEST: (len(X) / ingest_seconds[0], len(X) / ingest_seconds[1]),
            **_query_figures(bitcell, chroma, queries),
        }


def _query_figures(
    bitcell: Bitcell, chroma: Chroma, queries: NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    bitcell_bodies = [npy(query[None]) for query in queries]
    chroma_bodies = [query_body(query[None]) for query in queries]
    single: list[Callable[[int], Any]] = [
        lambda i: bitcell.query(bitcell_bodies[i % len(queries)]),
        lambda i: chroma.query(chroma_bodies[i % len(queries)]),
    ]
    bitcell_batch, chroma_batch = npy(queries), query_body(queries)
    batch: list[Callable[[int], Any]] = [
        lambda _: bitcell.query(bitcell_batch),
        lambda _: chroma.query(chroma_batch),
    ]
    median_ms = (1000 * np.median(in_turn(single, SINGLE), axis=0)).tolist()
    rates = [rate(query, SINGLE * 4) for query in single]
    batch_rates = (len(queries) / np.median(in_turn(batch, BATCHES), axis=0)).tolist()
    return {
        "one query, median ms": (median_ms[0], median_ms[1]),
        f"{CLIENTS} clients, queries per second": (rates[0], rates[1]),
        f"{len(queries):,} queries in one body, queries per second": (
            batch_rates[0],
            batch_rates[1],
        ),
    }


def main() -> int:
    """Print the table; return 1 unless ingest is at least twenty times as fast as Chroma's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chroma", type=Path, required=True, help="the folder with `chroma`")
    parser.add_argument("--data", type=Path, help="an .npz with descriptors (default: random)")
    parser.add_argument("--items", type=int, default=60_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    if options.data is None:
        X = rng.normal(size=(options.items, 384)).astype(np.float32)
    else:
        X = np.load(options.data)["descriptors"][: options.items].astype(np.float32)
    queries = X[rng.choice(len(X), min(BATCH, len(X)), replace=False)]
    queries = queries + 0.01 * rng.normal(size=queries.shape).astype(np.float32)
    figures = measure(options.chroma, X, queries)
    table = Table(f"{len(X):,} descriptors of {X.shape[1]}", "Bitcell", "Chroma", "ratio")
    for name, (bitcell, chroma) in figures.items():
        table.add_row(name, f"{bitcell:,.4g}", f"{chroma:,.4g}", f"{bitcell / chroma:.3g}")
    Console().print(table)
    bitcell, chroma = figures[INGEST]
    return int(bitcell < INGEST_FLOOR * chroma)


if __name__ == "__main__":
    raise SystemExit(main())
