"""The service beside Chroma, both over HTTP, in one run on one machine.

Chroma goes into an environment of its own, which has nothing to do with the project's:

    python3 -m venv /tmp/chroma && /tmp/chroma/bin/pip install chromadb
    .venv/bin/python -m bench.chroma --chroma /tmp/chroma/bin [--data cifar10.npz] [--items 60000]

Both get the same descriptors and the same queries. Chroma keeps float32 and searches its default
graph (HNSW), approximately; Bitcell keeps 48-bit codes and finds the nearest of those exactly: the
two answer different questions, and what is compared is how long a client waits.
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
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.latency import Serving, in_turn, npy
from bitcell_client import Client

SINGLE, BATCH, CLIENTS, BATCHES = 300, 1000, 8, 3
CHROMA_BATCH = 1000
"""Descriptors in one request to Chroma, as JSON has them."""
BITS, K = 48, 10


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

    def make(self) -> None:
        """Wait until it answers, and make the collection."""
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
        """The answer to JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http.post(path, content=content, headers={"Content-Type": "application/json"})
        if answer.status_code >= 400:
            raise RuntimeError(answer.text[:1000])
        return answer.json()

    def load(self, X: NDArray[np.float32]) -> None:
        """Put all descriptors in."""
        for start in range(0, len(X), CHROMA_BATCH):
            part = X[start : start + CHROMA_BATCH]
            ids = [f"item-{i:05d}" for i in range(start, start + len(part))]
            self.post(f"{self.path}/add", {"ids": ids, "embeddings": part.tolist()})

    def body(self, queries: NDArray[np.float32]) -> bytes:
        """A query, ready to be sent."""
        asked = {"query_embeddings": queries.tolist(), "n_results": K, "include": ["distances"]}
        return json.dumps(asked).encode()

    def stop(self) -> None:
        """End it."""
        self.http.close()
        self.process.terminate()
        self.process.wait()


def rate(ask: Callable[[int], Any], count: int) -> float:
    """Calls a second of several clients at a time."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        start = time.perf_counter()
        list(clients.map(ask, range(count)))
        return count / (time.perf_counter() - start)


def measure(commands: Path, X: NDArray[np.float32], queries: NDArray[np.float32]) -> dict[str, Any]:
    """Of each figure the one of Bitcell and the one of Chroma."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bitcell").mkdir()
        with ExitStack() as running:
            serving = Serving(folder / "bitcell")
            running.callback(serving.stop)
            bitcell = running.enter_context(Client(serving.url))
            chroma = Chroma(commands, folder)
            running.callback(chroma.stop)
            chroma.make()
            bitcell.create_encoder("e", "lsh", BITS, descriptors=X[:1000])
            bitcell.create_collection("c", "e")
            ids = [f"item-{i:05d}" for i in range(len(X))]
            start = time.perf_counter()
            bitcell.load("c", ids, X)
            ours = len(X) / (time.perf_counter() - start)
            start = time.perf_counter()
            chroma.load(X)
            theirs = len(X) / (time.perf_counter() - start)
            found: dict[str, Any] = {"ingest, items a second": (ours, theirs)}

            path, npys = f"/v1/collections/c/query?k={K}", [npy(query[None]) for query in queries]
            jsons = [chroma.body(query[None]) for query in queries]
            headers = {"Content-Type": "application/x-npy"}

            def ask(i: int) -> None:
                content = npys[i % len(npys)]
                bitcell._http.post(path, content=content, headers=headers).raise_for_status()

            def ask_chroma(i: int) -> None:
                chroma.post(f"{chroma.path}/query", jsons[i % len(jsons)])

            both = 1000 * np.median(in_turn([ask, ask_chroma], SINGLE), axis=0)
            found["one query, median ms"] = tuple(both.tolist())
            found[f"{CLIENTS} clients, queries a second"] = (
                rate(ask, SINGLE * 4),
                rate(ask_chroma, SINGLE * 4),
            )
            batch, batch_json = npy(queries), chroma.body(queries)
            calls = [
                lambda i: bitcell._http.post(
                    path, content=batch, headers=headers
                ).raise_for_status(),
                lambda i: chroma.post(f"{chroma.path}/query", batch_json),
            ]
            both = len(queries) / np.median(in_turn(calls, BATCHES), axis=0)
            found[f"{len(queries):,} queries in a body, queries a second"] = tuple(both.tolist())
            return found


def main() -> int:
    """Print the table; 1 where ingest is not twenty times Chroma's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chroma", type=Path, required=True, help="the folder with `chroma`")
    parser.add_argument("--data", type=Path, help="an .npz with descriptors; by default random")
    parser.add_argument("--items", type=int, default=60_000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    if given.data is None:
        X = rng.normal(size=(given.items, 384)).astype(np.float32)
    else:
        X = np.load(given.data)["descriptors"][: given.items].astype(np.float32)
    queries = X[rng.choice(len(X), min(BATCH, len(X)), replace=False)]
    queries = queries + 0.01 * rng.normal(size=queries.shape).astype(np.float32)
    found = measure(given.chroma, X, queries)
    table = Table(f"{len(X):,} descriptors of {X.shape[1]}", "Bitcell", "Chroma", "ratio")
    for name, (ours, theirs) in found.items():
        table.add_row(name, f"{ours:,.4g}", f"{theirs:,.4g}", f"{ours / theirs:.3g}")
    Console().print(table)
    ours, theirs = found["ingest, items a second"]
    return int(ours < 20 * theirs)


if __name__ == "__main__":
    raise SystemExit(main())
