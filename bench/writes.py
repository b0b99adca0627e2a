"""Searches during continuous writes: their rate, and that none gives a wrong answer."""

from __future__ import annotations

import tempfile
import threading
import time

import numpy as np

from bench.collection import load, neighbours, opened
from bench.index import Codes, clustered
from index import Collection, SearchOptions

_PLACES = np.array([[0] * 8, [255] * 8], np.uint8)
_MOVING = [f"moving-{i}" for i in range(20)]


class Writer(threading.Thread):
    """Writes without pause until it is told to stop.

    It replaces codes in whole batches, and moves the items `_MOVING` together between two places
    that no other code is near. A search that saw part of a batch would find some of them in one
    place and some in the other.
    """

    def __init__(self, collection: Collection, codes: Codes) -> None:
        super().__init__()
        self.collection, self.codes = collection, codes
        self.stopped = threading.Event()
        self.rounds = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Write until stopped. An error is kept for the thread that joins."""
        try:
            self._write()
        except Exception as error:  # noqa: BLE001  `finish` raises it.
            self.error = error

    def finish(self) -> None:
        """Stop writing and wait for the end; raise the error that ended the thread, if any."""
        self.stopped.set()
        self.join()
        if self.error is not None:
            raise self.error

    def _write(self) -> None:
        rng = np.random.default_rng(1)
        while not self.stopped.is_set():
            place = self.rounds % 2
            self.collection.upsert(_MOVING, np.repeat(_PLACES[place : place + 1], 20, axis=0))
            # Complements of codes, far from all queries, are added, replaced and deleted.
            rows = rng.integers(0, len(self.codes), 20)
            names = [f"far-{i}" for i in rng.choice(5000, 20, replace=False)]
            self.collection.upsert(names, (~self.codes[rows] | 1).astype(np.uint8))
            self.collection.delete(names[:5])
            self.rounds += 1


def searches_per_second(
    collection: Collection, queries: Codes, expected: list[list[tuple[int, str]]], duration: float
) -> float:
    """Search for `duration` seconds and return the rate.

    Raises
    ------
    AssertionError
        An answer is wrong, or a batch was seen in part.
    """
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < duration:
        i = done % len(queries)
        (found,) = neighbours(collection, queries[i : i + 1])
        if found != expected[i]:
            raise AssertionError(f"query {i}: expected {expected[i]}, got {found}")
        if done % 10 == 0:
            _check_whole_batches(collection)
        done += 1
    return done / (time.perf_counter() - start)


def _check_whole_batches(collection: Collection) -> None:
    answers = collection.search(_PLACES, SearchOptions(len(_MOVING), radius=0))
    counts = sorted(sum(near.id in _MOVING for near in answer.neighbours) for answer in answers)
    if counts != [0, len(_MOVING)]:
        raise AssertionError(f"a batch was seen in part: {counts}")


def measure(duration: float = 60.0, n: int = 10**6) -> dict[str, float]:
    """Measure the searches of one thread during continuous writes, and without them.

    All answers are checked: see `searches_per_second`.
    """
    with tempfile.TemporaryDirectory() as folder, opened(folder) as store:
        codes, queries = clustered(np.random.default_rng(0), n)
        collection, queries = load(store, "c", codes), queries[:100]
        store.settle()
        collection.upsert(_MOVING, np.repeat(_PLACES[:1], len(_MOVING), axis=0))
        expected = neighbours(collection, queries)
        quiet = searches_per_second(collection, queries, expected, min(10.0, duration))
        writer = Writer(collection, codes)
        writer.start()
        try:
            busy = searches_per_second(collection, queries, expected, duration)
        finally:
            writer.finish()
    return {
        "ratio": busy / quiet,
        "searches_per_second": busy,
        "quiet": quiet,
        "write_rounds_per_second": writer.rounds / duration,
    }
