"""The life of a collection: a million items loaded, started, written to, copied and filtered."""

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

from bench.index import Codes, K, clustered, seconds, uniform
from hashing.atomic_file import atomic_write
from index import BadSnapshot, Collection, Database, Filter, SearchOptions, Store, snapshot


@contextmanager
def opened(folder: str) -> Iterator[Store]:
    """A store of its own in a folder."""
    database = Database(Path(folder) / "bitcell.db")
    store = Store(database)
    try:
        yield store
    finally:
        store.close()
        database.close()


def load(store: Store, codes: Codes) -> Collection:
    """A collection of these codes, its tables built."""
    collection = store.create("c", 8 * codes.shape[1])
    for first in range(0, len(codes), 50_000):
        part = codes[first : first + 50_000]
        collection.upsert([f"item-{first + i:07d}" for i in range(len(part))], part)
    store.settle()
    return collection


_MILLION = """
import os, re, sys, time
from pathlib import Path
import numpy as np
from index import Database, SearchOptions, Store

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

path, query = Path(sys.argv[1]), np.zeros((1, 8), np.uint8)
ten = SearchOptions(10)
other = Store(Database(path.with_name("empty.db")))
other.create("c", 64).upsert(["a"], query)
other.get("c").search(query, ten)
other.settle()
empty = resident()
start = time.perf_counter()
database = Database(path)
store = Store(database)
collection = store.get("c")
collection.search(query, ten)
ready = time.perf_counter() - start
store.settle()
print(ready, (resident() - empty) * 2**20 / len(collection), len(collection))
os._exit(0)
"""


def million(n: int = 10**6) -> dict[str, float]:
    """Bulk load, start-up and memory of a million items; the time of a write among few and many."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bitcell.db"
        codes, _ = clustered(np.random.default_rng(0), n)
        ids = [f"item-{i:07d}" for i in range(n)]
        labels = np.arange(n) % 10
        database = Database(path)
        store = Store(database)
        collection = store.create("c", 64)
        start = time.perf_counter()
        for first in range(0, n, 10_000):
            part = slice(first, first + 10_000)
            collection.upsert(ids[part], codes[part], labels[part])
        load = time.perf_counter() - start
        store.settle()
        small = store.create("small", 64)
        small.upsert(ids[:10_000], codes[:10_000])
        store.settle()
        many, few = write_times(collection, codes), write_times(small, codes)
        store.close()
        database.close()
        run = subprocess.run(
            [sys.executable, "-c", _MILLION, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )
        ready, memory, left = map(float, run.stdout.split())
    return {
        "items_a_second": n / load,
        "ready_seconds": ready,
        "bytes_an_item": memory,
        "items": left,
        "upsert_ms": 1e3 * many[0],
        "upsert_factor": many[0] / few[0],
        "delete_ms": 1e3 * many[1],
        "delete_factor": many[1] / few[1],
    }


def write_times(collection: Any, codes: Codes, rounds: int = 300) -> tuple[float, float]:
    """Median seconds of an upsert of one item, new or not, and of a delete."""
    upserts, deletes = [], []
    for i in range(rounds):
        name = f"item-{i:07d}" if i % 2 else f"new-{i}"
        upserts.append(seconds(partial(collection.upsert, [name], codes[i : i + 1]), 1))
        deletes.append(seconds(partial(collection.delete, [name]), 1))
    return float(np.median(upserts)), float(np.median(deletes))


_PLACES = np.array([[0] * 8, [255] * 8], np.uint8)
_MOVING = [f"moving-{i}" for i in range(20)]


class Writer(threading.Thread):
    """Writes without pause until it is told to stop.

    It replaces codes whole batches at a time, and moves `_MOVING` between two places that no other
    code is near: a batch seen in part would show some in one place and some in the other.
    """

    def __init__(self, collection: Collection, codes: Codes) -> None:
        super().__init__()
        self.collection, self.codes = collection, codes
        self.stopped = threading.Event()
        self.rounds = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Write; an error is kept."""
        try:
            self._write()
        except Exception as error:  # noqa: BLE001  Raised by who joins.
            self.error = error

    def _write(self) -> None:
        rng = np.random.default_rng(1)
        while not self.stopped.is_set():
            turn = self.rounds % 2
            self.collection.upsert(_MOVING, np.repeat(_PLACES[turn : turn + 1], 20, axis=0))
            # Far from all queries: complements of codes; they come, are replaced and go.
            rows = rng.integers(0, len(self.codes), 20)
            names = [f"far-{i}" for i in rng.choice(5000, 20, replace=False)]
            self.collection.upsert(names, (~self.codes[rows] | 1).astype(np.uint8))
            self.collection.delete(names[:5])
            self.rounds += 1


def found(collection: Collection, queries: Codes) -> list[list[tuple[int, str]]]:
    """Distances and ids."""
    answers = collection.search(queries, SearchOptions(K))
    if not all(answer.certificate.exact for answer in answers):
        raise AssertionError("an answer is not exact")
    return [[(near.distance, near.id) for near in answer.neighbours] for answer in answers]


def searches(
    collection: Collection, queries: Codes, right: list[list[tuple[int, str]]], duration: float
) -> float:
    """Searches a second, none of them wrong, and no batch seen in part."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < duration:
        at = done % len(queries)
        (got,) = found(collection, queries[at : at + 1])
        if got != right[at]:
            raise AssertionError(f"query {at}: expected {right[at]}, got {got}")
        if done % 10 == 0:
            here = collection.search(_PLACES, SearchOptions(len(_MOVING), radius=0))
            sizes = sorted(sum(near.id in _MOVING for near in one.neighbours) for one in here)
            if sizes != [0, len(_MOVING)]:
                raise AssertionError(f"a batch was seen in part: {sizes}")
        done += 1
    return done / (time.perf_counter() - start)


def beside_writes(seconds_: float = 60.0, n: int = 10**6) -> dict[str, float]:
    """A search thread, quiet and under continuous writes: its throughput, and no wrong answer."""
    with tempfile.TemporaryDirectory() as folder, opened(folder) as store:
        codes, queries = clustered(np.random.default_rng(0), n)
        collection, queries = load(store, codes), queries[:100]
        collection.upsert(_MOVING, np.repeat(_PLACES[:1], len(_MOVING), axis=0))
        right = found(collection, queries)
        quiet = searches(collection, queries, right, min(10.0, seconds_))
        writer = Writer(collection, codes)
        writer.start()
        try:
            busy = searches(collection, queries, right, seconds_)
        finally:
            writer.stopped.set()
            writer.join()
        if writer.error is not None:
            raise writer.error
    return {
        "ratio": busy / quiet,
        "searches_a_second": busy,
        "quiet": quiet,
        "write_rounds_a_second": writer.rounds / seconds_,
    }


def write_snapshot(collection: Collection, path: Path) -> None:
    """Write a snapshot to a file and sync it."""
    with atomic_write(path) as file:
        snapshot.write(collection, file)


def snapshots(n: int = 10**6) -> dict[str, float]:
    """A snapshot of a million items and its restore while queries run; one flipped byte refused."""
    with tempfile.TemporaryDirectory() as folder, opened(folder) as store:
        codes, queries = clustered(np.random.default_rng(0), n)
        collection, path = load(store, codes), Path(folder) / "c.snapshot"
        stopped, searched = threading.Event(), [0]

        def run() -> None:
            while not stopped.is_set():
                collection.search(queries[:1], SearchOptions(K))
                searched[0] += 1

        runner = threading.Thread(target=run)
        runner.start()
        try:
            writing = seconds(lambda: write_snapshot(collection, path), 1)
            reading = seconds(lambda: snapshot.read(store, path, "back"), 1)
        finally:
            stopped.set()
            runner.join()
        if found(collection, queries[:50]) != found(store.get("back"), queries[:50]):
            raise AssertionError("the restored collection answers otherwise")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        try:
            snapshot.read(store, path, "bad")
        except BadSnapshot:
            refused = 1.0
        else:
            refused = 0.0
    return {
        "snapshot_seconds": writing,
        "restore_seconds": reading,
        "megabytes": len(data) / 1e6,
        "refused": refused,
        "searches_meanwhile": float(searched[0]),
    }


# A condition of each kind on fields of a payload.
FILTERS: tuple[dict[str, Any], ...] = (
    {"maker.name": "m3"},
    {"maker.name": {"in": ["m1", "m2", "m3"]}},
    {"price": {"gte": 0.1, "lt": 0.5}},
    {"and": [{"maker.name": "m3"}, {"price": {"lt": 0.5}}]},
    {"or": [{"maker.name": "m3"}, {"price": {"lt": 0.1}}]},
    {"not": {"maker.name": "m3"}},
)


def filters(n: int = 10**5) -> dict[str, float]:
    """A query with the slowest of some filters on the payload, against one without."""
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

        def ask(condition: dict[str, Any] | None, rounds: int) -> float:
            options = SearchOptions(K, where=None if condition is None else Filter(condition))
            return seconds(lambda: collection.search(queries[:1], options), rounds)

        first = ask(FILTERS[0], 1)
        bare, slowest = ask(None, 30), max(ask(condition, 30) for condition in FILTERS)
    return {
        "ratio": slowest / bare,
        "filtered_ms": 1e3 * slowest,
        "unfiltered_ms": 1e3 * bare,
        "first_ms": 1e3 * first,
    }
