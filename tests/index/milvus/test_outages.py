"""Milvus that is stopped or killed: nothing acknowledged is lost, and callers learn it in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import TypeVar

import numpy as np
import pytest

from index import Filter, SearchOptions, Unavailable, backend
from tests.index.milvus.conftest import Opening
from tests.milvus_server import PATIENCE, Server, await_ready

T = TypeVar("T")
CODES = np.zeros((1, 1), np.uint8)
SIZE = 300


def until_available(call: Callable[[], T]) -> T:
    """Return what a call returns once the index can be asked."""
    end = monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Unavailable:
            if monotonic() > end:
                raise
            sleep(0.05)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_a_stopped_server_is_unavailable_in_time(milvus_alone: Server, opened: Opening) -> None:
    collection = opened(milvus_alone).create("c", 8)
    collection.upsert(["a", "b"], CODES.repeat(2, 0))
    impatient = opened(milvus_alone, timeout=1.0).get("c")
    assert len(impatient) == 2
    calls: list[tuple[str, Callable[[], object]]] = [
        ("again later", lambda: impatient.search(CODES, SearchOptions(1))),
        ("repeating it is safe", lambda: impatient.upsert(["c"], CODES)),
        ("waits until its last writes are repeated", lambda: impatient.get("a")),
        ("waits until its last writes are repeated", lambda: impatient.upsert(["d"], CODES)),
    ]
    with stopped(milvus_alone):
        for message, call in calls:
            start = monotonic()
            with pytest.raises(Unavailable, match=message) as raised:
                call()
            # Twice the timeout where a lock is waited for as well.
            assert monotonic() - start < 2.5
            assert raised.value.retry_after > 0
    # What was not acknowledged is there, since it had been recorded.
    found = until_available(lambda: [item.id for item in impatient.items(0, 9)[0]])
    assert found == ["a", "b", "c"]
    assert impatient.written == 3


class Writer(Thread):
    """Upserts batches of one label each, and deletes some of them, until a call fails."""

    def __init__(self, collection: backend.Collection, first: int) -> None:
        super().__init__()
        self.collection, self.next = collection, first
        self.acknowledged: list[int] = []
        self.deleted: set[int] = set()
        self.doubtful: set[int] = set()
        self.enough = Event()

    def run(self) -> None:
        codes = np.random.default_rng(0).integers(0, 256, (SIZE, 1), np.uint8)
        try:
            while True:
                batch = self.next
                self.next += 1
                self.doubtful = {batch}
                ids = [f"{batch}-{i}" for i in range(SIZE)]
                self.collection.upsert(ids, codes, [batch] * SIZE)
                self.acknowledged.append(batch)
                if batch % 3 == 2:
                    self.doubtful = {batch - 1}
                    self.collection.delete([f"{batch - 1}-{i}" for i in range(SIZE)])
                    self.deleted.add(batch - 1)
                if len(self.acknowledged) > 3:
                    self.enough.set()
        except Unavailable:
            return
        finally:
            self.enough.set()


def kill_while_writing(store: backend.Store, folder: Path, server: Server, rounds: int) -> None:
    collection = store.create("killed", 8)
    acknowledged: set[int] = set()
    deleted: set[int] = set()
    rng = np.random.default_rng(0)
    first = 0
    for _ in range(rounds):
        writer = Writer(collection, first)
        writer.start()
        assert writer.enough.wait(PATIENCE)
        sleep(rng.uniform(0, 0.1))
        os.kill(server.pid, signal.SIGKILL)
        writer.join(PATIENCE)
        assert not writer.is_alive()
        server = await_ready(folder, after=server.pid)
        acknowledged |= set(writer.acknowledged)
        deleted |= writer.deleted
        first = writer.next
        counts = until_available(
            lambda writer=writer: {  # type: ignore[misc]
                batch: collection.count(Filter({"label": batch})) for batch in range(writer.next)
            }
        )
        assert set(counts.values()) <= {0, SIZE}
        present = {batch for batch, n in counts.items() if n}
        assert present - writer.doubtful == acknowledged - deleted - writer.doubtful
        # A write that was recorded is there after all, and a deletion is done.
        acknowledged |= present
        deleted |= acknowledged - present
    assert len(collection) == SIZE * len(acknowledged - deleted)


_WRITE = """
import sys
import numpy as np
from sqlalchemy import create_engine
from index.milvus.store import MilvusStore
url, path, batch, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
collection = MilvusStore(url, create_engine(f"sqlite:///{path}"), timeout=60).get("killed")
codes = np.zeros((size, 1), np.uint8)
while True:
    ids = [f"{batch}-{i}" for i in range(size)]
    print("wants", batch, flush=True)
    collection.upsert(ids, codes, [batch] * size)
    print("wrote", batch, flush=True)
    batch += 1
"""


def kill_the_writer(server: Server, path: Path, opened: Opening, rounds: int) -> None:
    collection = opened(server, path, timeout=60.0).create("killed", 8)
    rng = np.random.default_rng(0)
    n_wanted = n_written = 0
    for _ in range(rounds):
        command = [sys.executable, "-c", _WRITE, server.url, path, n_wanted, SIZE]
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(4)]
            sleep(rng.uniform(0, 0.05))
            writer.kill()
            lines += writer.stdout.readlines()
        wrote = [int(line.split()[1]) for line in lines if line.startswith("wrote")]
        wants = [int(line.split()[1]) for line in lines if line.startswith("wants")]
        assert wrote
        n_written, n_wanted = max(wrote) + 1, max(wants) + 1
        # The next write repeats what the killed one recorded.
        collection.delete(["nobody"])
        counts = [collection.count(Filter({"label": batch})) for batch in range(n_wanted)]
        assert counts[:n_written] == [SIZE] * n_written
        assert set(counts) <= {0, SIZE}
        # A batch that did not get as far as the database is written in the next round.
        n_wanted = sum(map(bool, counts))
    assert len(collection) == SIZE * n_wanted


def test_a_killed_writer_loses_nothing(milvus: Server, tmp_path: Path, opened: Opening) -> None:
    kill_the_writer(milvus, tmp_path / "killed.db", opened, rounds=1)


@pytest.mark.slow
def test_a_writer_that_is_killed_again_and_again_loses_nothing(
    milvus: Server, tmp_path: Path, opened: Opening
) -> None:
    kill_the_writer(milvus, tmp_path / "killed.db", opened, rounds=20)


# A server takes up to half a minute to start again.
@pytest.mark.slow
def test_a_killed_server_loses_nothing(
    milvus_alone: Server, milvus_folder: Path, opened: Opening
) -> None:
    kill_while_writing(opened(milvus_alone), milvus_folder, milvus_alone, rounds=1)


@pytest.mark.slow
def test_a_server_that_is_killed_again_and_again_loses_nothing(
    milvus_alone: Server, milvus_folder: Path, opened: Opening
) -> None:
    kill_while_writing(opened(milvus_alone), milvus_folder, milvus_alone, rounds=20)
