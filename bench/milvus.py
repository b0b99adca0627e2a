"""Compare an index in Milvus with the embedded one, and with Milvus asked through pymilvus.

    python -m bench.milvus [--items 1000000] [--bits 64] [--url milvus://127.0.0.1:19530]

Without a URL the server of the wheel `milvus` is started on this machine. The state is in a SQLite
database of its own. All get the same codes, labels and queries; queries take turns, so that what
else the machine does falls on all of them. pymilvus returns any of the items at equal distances,
and its ingest has no record from which a crash is repaired.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine

from bench.measuring import in_turn
from index import Database, SearchOptions, Store, backend
from index.milvus.store import MilvusStore
from index.milvus.tables import metadata
from tests.milvus_server import running

BATCH, QUERIES, K = 10_000, 200, 10
MOST_ADDED = 1.3
"""A query through the store takes at most this many times as long as one through pymilvus."""


class Direct:
    """A collection of the same fields, through pymilvus."""

    def __init__(self, url: str, bits: int) -> None:
        from pymilvus import DataType, MilvusClient

        self.client = MilvusClient(uri=url.replace("milvus://", "http://"))
        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=1024)
        schema.add_field("code", DataType.BINARY_VECTOR, dim=bits)
        schema.add_field("label", DataType.INT64)
        schema.add_field("serial", DataType.INT64)
        schema.add_field("payload", DataType.JSON)
        index = self.client.prepare_index_params()
        index.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
        self.name = f"bench_{os.getpid()}"
        self.client.create_collection(
            self.name, schema=schema, index_params=index, num_shards=1, consistency_level="Strong"
        )

    def load(self, ids: list[str], codes: NDArray[np.uint8], labels: list[int]) -> None:
        """Insert or replace items, which pymilvus takes row by row."""
        rows = [
            {"id": name, "code": code.tobytes(), "label": label, "serial": 0, "payload": {}}
            for name, code, label in zip(ids, codes, labels, strict=True)
        ]
        self.client.upsert(self.name, rows)

    def search(self, code: NDArray[np.uint8], level: str, k: int = K) -> Any:
        """Return the nearest, with ties in any order."""
        return self.client.search(
            self.name,
            [code.tobytes()],
            limit=k,
            output_fields=["label", "payload"],
            search_params={"metric_type": "HAMMING"},
            consistency_level=level,
        )


def batches(n: int, bits: int) -> Iterator[tuple[list[str], NDArray[np.uint8], list[int]]]:
    """Yield ids, codes and labels."""
    rng = np.random.default_rng(0)
    for first in range(0, n, BATCH):
        size = min(BATCH, n - first)
        codes = rng.integers(0, 256, (size, bits // 8), np.uint8)
        yield (
            [f"{i:08d}" for i in range(first, first + size)],
            codes,
            [i % 100 for i in range(size)],
        )


def ingest(load: Callable[..., Any], n: int, bits: int) -> float:
    """Return items per second, without the time of making them."""
    taken = 0.0
    for ids, codes, labels in batches(n, bits):
        start = perf_counter()
        load(ids, codes, labels)
        taken += perf_counter() - start
    return n / taken


def measure(url: str, folder: Path, n: int, bits: int) -> dict[str, tuple[float, ...]]:
    """Return ingest and milliseconds of a query of each way."""
    engine = create_engine(f"sqlite:///{folder / 'milvus.db'}")
    metadata.create_all(engine)
    with ExitStack() as closing:
        database = Database(folder / "bitcell.db")
        closing.callback(database.close)
        embedded = Store(database)
        closing.callback(embedded.close)
        stores: list[backend.Store] = [embedded]
        for consistency in ("strong", "session"):
            store = MilvusStore(url, engine, consistency=consistency, timeout=120)
            closing.callback(store.close)
            stores.append(store)
        embedded.create("c", bits)
        stores[1].create("c", bits)
        collections = [store.get("c") for store in stores]
        closing.callback(stores[1].settle)
        closing.callback(stores[1].drop, "c")
        direct = Direct(url, bits)
        closing.callback(lambda: direct.client.drop_collection(direct.name))
        rates = [
            ingest(collections[0].upsert, n, bits),
            ingest(collections[1].upsert, n, bits),
            ingest(direct.load, n, bits),
        ]
        for each in stores:
            each.settle()
        direct.client.flush(direct.name)
        queries = np.random.default_rng(1).integers(0, 256, (QUERIES, 1, bits // 8), np.uint8)
        options = SearchOptions(K)
        calls: list[Callable[[int], Any]] = [
            lambda i: collections[0].search(queries[i % QUERIES], options),
            lambda i: collections[1].search(queries[i % QUERIES], options),
            lambda i: direct.search(queries[i % QUERIES][0], "Strong"),
            lambda i: collections[2].search(queries[i % QUERIES], options),
            lambda i: direct.search(queries[i % QUERIES][0], "Session"),
        ]
        ms = (1000 * np.median(in_turn(calls, QUERIES), axis=0)).tolist()
        assert collections[0].search(queries[0], options)[0].neighbours == (
            collections[1].search(queries[0], options)[0].neighbours
        )
        return {
            "ingest, items per second": (rates[0], rates[1], rates[2]),
            "one query under strong consistency, median ms": (ms[0], ms[1], ms[2]),
            "one query under session consistency, median ms": (ms[0], ms[3], ms[4]),
        }


def main() -> int:
    """Print the table; return 1 if the store adds more than 30 % to a query."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=64, help="a multiple of 8")
    parser.add_argument("--url", help="of a running server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = options.url or running(Path(name) / "server", os.getpid()).url
        figures = measure(url, Path(name), options.items, options.bits)
    table = Table(f"{options.items:,} codes", "embedded", "Milvus", "pymilvus", "Milvus/pymilvus")
    for row, (embedded, store, direct) in figures.items():
        ratio = f"{store / direct:.3g}"
        table.add_row(row, f"{embedded:,.4g}", f"{store:,.4g}", f"{direct:,.4g}", ratio)
    Console().print(table)
    return int(any(s > MOST_ADDED * d for name, (_, s, d) in figures.items() if "query" in name))


if __name__ == "__main__":
    raise SystemExit(main())
