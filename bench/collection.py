"""The life of a collection: loading, start-up, writes, snapshots and filters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.index import Codes, K, clustered, uniform
from bench.measuring import seconds
from hashing.atomic_file import atomic_write
from index import BadSnapshot, Collection, Database, Filter, SearchOptions, Store, snapshot


@contextmanager
def opened(folder: str) -> Iterator[Store]:
    """Yield the store of a folder, and close it at the end."""
    database = Database(Path(folder) / "bitcell.db")
    store = Store(database)
    try:
        yield store
    finally:
        store.close()
        database.close()


def item_ids(n: int) -> list[str]:
    """Return n ids, from item-0000000."""
    return [f"item-{i:07d}" for i in range(n)]


def load(store: Store, name: str, codes: Codes, batch: int = 50_000) -> Collection:
    """Make a collection of codes, in batches; `store.settle` then waits for its tables."""
    collection = store.create(name, 8 * codes.shape[1])
    ids = item_ids(len(codes))
    labels = np.arange(len(codes)) % 10
    for first in range(0, len(codes), batch):
        part = slice(first, first + batch)
        collection.upsert(ids[part], codes[part], labels[part])
    return collection


# Run in a process of its own: seconds to open a collection, bytes per item, number of items.
_OPEN_MILLION = """
import os, sys, time
from pathlib import Path
import numpy as np
from bench.measuring import resident_mb
from index import Database, SearchOptions, Store

ten = SearchOptions(10)
path, query = Path(sys.argv[1]), np.zeros((1, 8), np.uint8)
# Everything that a first search loads or allocates comes before the measurement.
other = Store(Database(path.with_name("empty.db")))
other.create("c", 64).upsert(["a"], query)
other.get("c").search(query, ten)
other.settle()
before = resident_mb()
start = time.perf_counter()
database = Database(path)
store = Store(database)
collection = store.get("c")
collection.search(query, ten)
ready = time.perf_counter() - start
store.settle()
print(ready, (resident_mb() - before) * 2**20 / len(collection), len(collection))
os._exit(0)
"""


def million(n: int = 10**6) -> dict[str, float]:
    """Measure the load, the start-up, the memory and single writes of a million items.

    The `…_factor` figures compare single writes with those to a collection of 10,000 items.
    """
    codes, _ = clustered(np.random.default_rng(0), n)
    with tempfile.TemporaryDirectory() as folder:
        with opened(folder) as store:
            start = time.perf_counter()
            large = load(store, "c", codes, batch=10_000)
            load_seconds = time.perf_counter() - start
            store.settle()
            small = load(store, "small", codes[:10_000])
            store.settle()
            upsert, delete = write_seconds(large, codes)
            small_upsert, small_delete = write_seconds(small, codes)
        run = subprocess.run(
            [sys.executable, "-c", _OPEN_MILLION, str(Path(folder) / "bitcell.db")],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )
        ready, bytes_per_item, items = map(float, run.stdout.split())
    return {
        "items_per_second": n / load_seconds,
        "ready_seconds": ready,
        "bytes_per_item": bytes_per_item,
        "items": items,
        "upsert_ms": 1e3 * upsert,
        "upsert_factor": upsert / small_upsert,
        "delete_ms": 1e3 * delete,
        "delete_factor": delete / small_delete,
    }


def write_seconds(collection: Collection, codes: Codes, rounds: int = 300) -> tuple[float, float]:
    """Return the median seconds of an upsert of one item, every other one new, and of a delete."""
    upserts, deletes = [], []
    for i in range(rounds):
        name = f"item-{i:07d}" if i % 2 else f"new-{i}"
        upserts.append(seconds(partial(collection.upsert, [name], codes[i : i + 1])))
        deletes.append(seconds(partial(collection.delete, [name])))
    return float(np.median(upserts)), float(np.median(deletes))


def neighbours(collection: Collection, queries: Codes) -> list[list[tuple[int, str]]]:
    """Return the distances and ids of the neighbours of each query."""
    answers = collection.search(queries, SearchOptions(K))
    if not all(answer.certificate.exact for answer in answers):
        raise AssertionError("an answer is not exact")
    return [[(near.distance, near.id) for near in answer.neighbours] for answer in answers]


def write_snapshot(collection: Collection, path: Path) -> None:
    """Write a snapshot to a file and sync it."""
    with atomic_write(path) as file:
        snapshot.write(collection, file)


def snapshots(n: int = 10**6) -> dict[str, float]:
    """Snapshot and restore a million items during queries.

    `refused` is 1 if a snapshot with one flipped byte is refused, else 0.
    """
    with tempfile.TemporaryDirectory() as folder, opened(folder) as store:
        codes, queries = clustered(np.random.default_rng(0), n)
        collection, path = load(store, "c", codes), Path(folder) / "c.snapshot"
        store.settle()
        stopped, searched = threading.Event(), [0]

        def search() -> None:
            while not stopped.is_set():
                collection.search(queries[:1], SearchOptions(K))
                searched[0] += 1

        searcher = threading.Thread(target=search)
        searcher.start()
        try:
            snapshot_seconds = seconds(lambda: write_snapshot(collection, path))
            restore_seconds = seconds(lambda: snapshot.read(store, path, "restored"))
        finally:
            stopped.set()
            searcher.join()
        if neighbours(collection, queries[:50]) != neighbours(store.get("restored"), queries[:50]):
            raise AssertionError("the restored collection gives other answers")
        size = path.stat().st_size
        refused = _refuses_a_flipped_byte(store, path)
    return {
        "snapshot_seconds": snapshot_seconds,
        "restore_seconds": restore_seconds,
        "megabytes": size / 1e6,
        "refused": float(refused),
        "searches_meanwhile": float(searched[0]),
    }


def _refuses_a_flipped_byte(store: Store, path: Path) -> bool:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    try:
        snapshot.read(store, path, "damaged")
    except BadSnapshot:
        return True
    return False


# One condition of each kind on fields of a payload.
FILTERS: tuple[dict[str, Any], ...] = (
    {"maker.name": "m3"},
    {"maker.name": {"in": ["m1", "m2", "m3"]}},
    {"price": {"gte": 0.1, "lt": 0.5}},
    {"and": [{"maker.name": "m3"}, {"price": {"lt": 0.5}}]},
    {"or": [{"maker.name": "m3"}, {"price": {"lt": 0.1}}]},
    {"not": {"maker.name": "m3"}},
)


def filters(n: int = 10**5) -> dict[str, float]:
    """Compare the slowest of some filters on the payload with no filter.

    `first_ms` is the first filtered query, which reads the field of all items.
    """
    with tempfile.TemporaryDirectory() as folder, opened(folder) as store:
        rng = np.random.default_rng(0)
        codes, queries = uniform(rng, n)
        prices, makers = rng.random(n).round(3).tolist(), rng.integers(0, 50, n).tolist()
        payloads = [
            {"price": price, "maker": {"name": f"m{maker}"}, "text": "x" * 60}
            for price, maker in zip(prices, makers, strict=True)
        ]
        collection = store.create("c", 64)
        collection.upsert([f"{i}" for i in range(n)], codes, None, payloads)
        store.settle()

        def search_seconds(condition: dict[str, Any] | None, rounds: int) -> float:
            options = SearchOptions(K, where=None if condition is None else Filter(condition))
            return seconds(lambda: collection.search(queries[:1], options), rounds)

        first = search_seconds(FILTERS[0], 1)
        unfiltered = search_seconds(None, 30)
        slowest = max(search_seconds(condition, 30) for condition in FILTERS)
    return {
        "ratio": slowest / unfiltered,
        "filtered_ms": 1e3 * slowest,
        "unfiltered_ms": 1e3 * unfiltered,
        "first_ms": 1e3 * first,
    }
