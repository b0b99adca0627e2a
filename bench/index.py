"""The index: exact search against a full pass, and the life of a collection of a million items.

`python -m bench.index` prints the growth from 1 to 16 million codes, and with a dataset, an .npz
with `descriptors` and `labels`, the comparison on trained codes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from hashing import make_hasher
from index import Database, Store, Unreadable, snapshot
from index.ids import pack
from index.rows import Rows
from index.search import search
from index.segment import Batch
from index.words import to_words

K = 10
QUERIES = 1000
Codes = NDArray[np.uint8]


def clustered(
    rng: np.random.Generator, n: int, n_bits: int = 64, centres: int = 20_000, flip: float = 0.05
) -> tuple[Codes, Codes]:
    """Codes around random centres, each bit flipped with a probability; and queries like them."""
    middle = rng.integers(0, 2, (centres, n_bits), np.uint8)

    def draw(n: int) -> Codes:
        bits = middle[rng.integers(0, centres, n)]
        return np.packbits(bits ^ (rng.random(bits.shape, np.float32) < flip), axis=1)

    return np.concatenate([draw(min(n, 10**5)) for _ in range(0, n, 10**5)])[:n], draw(QUERIES)


def uniform(rng: np.random.Generator, n: int, n_bits: int = 64) -> tuple[Codes, Codes]:
    """Random codes and queries."""
    size = n_bits // 8
    return rng.integers(0, 256, (n, size), np.uint8), rng.integers(
        0, 256, (QUERIES, size), np.uint8
    )


def seconds(call: Callable[[], Any], rounds: int = 3) -> float:
    """The best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def compare(codes: Codes, queries: Codes, k: int = K, rounds: int = 3) -> dict[str, float]:
    """Our queries a second against those of Faiss's IndexBinaryFlat, in turn, answers equal."""
    data, lengths = pack([f"{i:08d}" for i in range(len(codes))])
    none = np.full(len(codes), -1, np.int64)
    n_bits = 8 * codes.shape[1]
    rows = Rows(n_bits, Batch(data, lengths, to_words(codes), none, np.arange(len(codes))))
    view = rows.view()
    start = time.perf_counter()
    view.segment.prepare()
    build = time.perf_counter() - start
    flat: Any = faiss.IndexBinaryFlat(n_bits)
    flat.add(codes)
    words = to_words(queries)
    apart, _ = flat.search(queries, k)
    answers = search(view, words, k, None)
    for answer, expected in zip(answers, apart, strict=True):
        if not answer.certificate.exact or (answer.distances != expected).any():
            raise AssertionError(f"expected distances {expected}, got {answer.distances}")
    times = [
        (
            seconds(lambda: flat.search(queries, k), 1),
            seconds(lambda: search(view, words, k, None), 1),
        )
        for _ in range(rounds)
    ]
    theirs, ours = (min(column) for column in zip(*times, strict=True))
    return {
        "ratio": theirs / ours,
        "ms_a_query": 1e3 * ours / len(queries),
        "faiss_ms_a_query": 1e3 * theirs / len(queries),
        "looked": float(np.mean([answer.certificate.looked for answer in answers])),
        "bytes_an_item": view.segment.nbytes / len(codes),
        "build_seconds": build,
    }


def clusters() -> dict[str, float]:
    """A million clustered 64-bit codes."""
    return compare(*clustered(np.random.default_rng(0), 10**6))


def random_codes() -> dict[str, float]:
    """A million uniform 64-bit codes."""
    return compare(*uniform(np.random.default_rng(0), 10**6))


def growth(millions: tuple[int, ...] = (1, 4, 16)) -> Iterator[dict[str, float]]:
    """Clustered codes, more and more of them: in 20,000 clusters, and in clusters of 50."""
    for million in millions:
        for centres in (20_000, million * 20_000):
            codes, queries = clustered(np.random.default_rng(0), million * 10**6, centres=centres)
            figures = compare(codes, queries, rounds=1)
            yield {"millions": million, "centres": centres} | figures


def skewed(
    descriptors: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """48-bit codes of trained and random hashers, and of ten noisy copies of the descriptors."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(descriptors))
    queries, base = descriptors[chosen[:QUERIES]], descriptors[chosen[QUERIES:]]
    few = rng.choice(len(base), 2000, replace=False)
    figures = {}
    for method in ("lsh", "ksh", "net-2"):
        hasher = make_hasher(method, n_bits=48, random_state=0)
        learned = np.full(len(base), -1)
        learned[few] = labels[chosen[QUERIES:]][few]
        if method == "ksh":
            hasher.fit(base[few], learned[few])
        else:
            hasher.fit(base, learned)
        codes, asked = hasher.encode(base), hasher.encode(queries)
        figures[f"{method} x1"] = compare(codes, asked)
        noise = 0.1 * base.std()
        copies = [
            hasher.encode(base + noise * rng.standard_normal(base.shape, np.float32))
            for _ in range(10)
        ]
        figures[f"{method} x10"] = compare(np.concatenate(copies), asked)
        distinct = len(np.unique(codes, axis=0))
        figures[f"{method} x1"]["distinct"] = distinct
    return figures


_MILLION = """
import os, re, sys, time
from pathlib import Path
import numpy as np
from index import Database, Store

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

path, query = Path(sys.argv[1]), np.zeros((1, 8), np.uint8)
other = Store(Database(path.with_name("empty.db")))
other.create("c", 64).upsert(["a"], query)
other.get("c").search(query, 10)
other.settle()
empty = resident()
start = time.perf_counter()
database = Database(path)
store = Store(database)
collection = store.get("c")
collection.search(query, 10)
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


def beside_writes(seconds_: float = 60.0, n: int = 10**6) -> dict[str, float]:
    """A search thread, quiet and under continuous writes: its throughput, and no wrong answer.

    Writers replace codes whole batches at a time, and move them between two places that no other
    code is near: a batch seen in part would show some in one place and some in the other.
    """
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "bitcell.db")
        store = Store(database)
        collection = store.create("c", 64)
        codes, queries = clustered(np.random.default_rng(0), n)
        for first in range(0, n, 50_000):
            part = codes[first : first + 50_000]
            collection.upsert([f"item-{first + i:07d}" for i in range(len(part))], part)
        places = np.array([[0] * 8, [255] * 8], np.uint8)
        moving = [f"moving-{i}" for i in range(20)]
        collection.upsert(moving, np.repeat(places[:1], 20, axis=0))
        store.settle()
        expected = [
            [(near.distance, near.id) for near in found.neighbours]
            for found in collection.search(queries[:100], K)
        ]
        state = {"writing": True, "writes": 0}

        def write() -> None:
            rng = np.random.default_rng(1)
            while state["writing"]:
                turn = state["writes"] % 2
                collection.upsert(moving, np.repeat(places[turn : turn + 1], 20, axis=0))
                # Far from all queries: complements of codes; they come, are replaced and go.
                rows = rng.integers(0, n, 20)
                names = [f"far-{i}" for i in rng.choice(5000, 20, replace=False)]
                collection.upsert(names, (~codes[rows] | 1).astype(np.uint8))
                collection.delete(names[:5])
                state["writes"] += 1

        def searches(duration: float) -> float:
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < duration:
                at = done % 100
                found = collection.search(queries[at : at + 1], K)[0]
                got = [(near.distance, near.id) for near in found.neighbours]
                if not found.certificate.exact or got[: len(expected[at])] != expected[at]:
                    far = {near.id for near in found.neighbours if near.id[:4] == "item"}
                    raise AssertionError(f"query {at}: expected {expected[at]}, got {got}, {far}")
                if done % 10 == 0:
                    here = collection.search(places, 20, 0)
                    sizes = [
                        sum(near.id.startswith("moving") for near in one.neighbours) for one in here
                    ]
                    if sorted(sizes)[1] not in (0, 20) or sizes[0] not in (0, 20):
                        raise AssertionError(f"a batch was seen in part: {sizes}")
                done += 1
            return done / (time.perf_counter() - start)

        quiet = searches(min(10.0, seconds_))
        writer = threading.Thread(target=write)
        writer.start()
        try:
            busy = searches(seconds_)
        finally:
            state["writing"] = False
            writer.join()
        store.close()
        database.close()
    return {
        "ratio": busy / quiet,
        "searches_a_second": busy,
        "quiet": quiet,
        "write_rounds_a_second": state["writes"] / seconds_,
    }


def snapshots(n: int = 10**6) -> dict[str, float]:
    """A snapshot of a million items and its restore while queries run; one flipped byte refused."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "bitcell.db")
        store = Store(database)
        collection = store.create("c", 64)
        codes, queries = clustered(np.random.default_rng(0), n)
        for first in range(0, n, 50_000):
            part = codes[first : first + 50_000]
            collection.upsert([f"item-{first + i:07d}" for i in range(len(part))], part)
        store.settle()
        state = {"running": True, "searches": 0}

        def run() -> None:
            while state["running"]:
                collection.search(queries[:1], K)
                state["searches"] += 1

        runner = threading.Thread(target=run)
        runner.start()
        path = Path(folder) / "c.snapshot"
        start = time.perf_counter()
        snapshot.write(collection, path)
        written = time.perf_counter()
        restored = snapshot.read(store, path, "back")
        read = time.perf_counter()
        state["running"] = False
        runner.join()
        same = [c.search(queries[:50], K) for c in (collection, restored)]
        near = [[one.neighbours for one in found] for found in same]
        if near[0] != near[1]:
            raise AssertionError("the restored collection answers otherwise")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        try:
            snapshot.read(store, path, "bad")
        except Unreadable:
            refused = 1.0
        else:
            refused = 0.0
        store.close()
        database.close()
    return {
        "snapshot_seconds": written - start,
        "restore_seconds": read - written,
        "megabytes": len(data) / 1e6,
        "refused": refused,
        "searches_meanwhile": float(state["searches"]),
    }


def main() -> None:
    """Print what takes too long for `python -m bench`."""
    for row in growth():
        print(row, flush=True)
    for path in sys.argv[1:]:
        with np.load(path, allow_pickle=False) as data:
            X, y = data["descriptors"].astype(np.float32), data["labels"].astype(np.int64)
        for name, figures in skewed(X, y).items():
            print(name, figures, flush=True)


if __name__ == "__main__":
    main()
