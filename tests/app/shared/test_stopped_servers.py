"""A replica while Milvus or PostgreSQL does not answer: 503 in time, and recovery by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from tests import postgres as postgresql
from tests.app.shared.conftest import Answer, Replica, index_server, made
from tests.milvus_server import Server as Milvus

ITEM = {"items": [{"id": "x", "code": "55"}]}
QUERY = {"codes": ["55"], "k": 1}
# Milvus is given a second here. PostgreSQL is given two for each connection of the pool and three
# for a new one, 10 in all. The rest is for a machine that is busy.
SECONDS = 20.0


@pytest.fixture(scope="module")
def both(milvus_folder: Path) -> Iterator[tuple[postgresql.Server, Milvus]]:
    """Servers that no other test uses meanwhile."""
    with postgresql.running() as database, index_server(milvus_folder, alone=True) as index:
        yield database, index


@pytest.fixture(scope="module")
def replica(
    both: tuple[postgresql.Server, Milvus], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    """A replica with a collection `c` of one item."""
    database, index = both
    servers = made(tmp_path_factory, database.new_database(), index.url)
    replica = servers.replica("a", BITCELL_INDEX_TIMEOUT="1")
    replica.call("POST", "/v1/collections", {"name": "c", "n_bits": 8})
    replica.call("PUT", "/v1/collections/c/items", ITEM)
    yield replica
    replica.stop()


@contextmanager
def stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def unavailable(replica: Replica, method: str, path: str, body: object = None) -> Answer:
    """Return an answer, which must be 503 with Retry-After and come in time."""
    start = monotonic()
    answer = replica.ask(method, path, body)
    assert monotonic() - start < SECONDS
    assert answer.status == 503, answer
    assert int(answer.headers.get("Retry-After", answer.headers.get("retry-after", "0"))) > 0
    return answer


def recovered(replica: Replica, method: str, path: str, body: object = None) -> Answer:
    """Return the first answer that is not 503."""
    while (answer := replica.ask(method, path, body)).status == 503:
        Event().wait(0.1)
    return answer


def test_a_stopped_milvus(replica: Replica, both: tuple[postgresql.Server, Milvus]) -> None:
    new = {"items": [{"id": "y", "code": "00"}]}
    with stopped(both[1].pid):
        unavailable(replica, "POST", "/v1/collections/c/query", QUERY)
        unsure = unavailable(replica, "PUT", "/v1/collections/c/items", new)
        assert "safe" in unsure.body["detail"]
        assert replica.ask("GET", "/healthz").status == 200
    # The write had been recorded before Milvus was asked.
    assert recovered(replica, "GET", "/v1/collections/c/items/y").status == 200
    assert recovered(replica, "PUT", "/v1/collections/c/items", new).status == 200
    found = replica.call("POST", "/v1/collections/c/query", QUERY)["results"]
    assert [(hit["id"], hit["distance"]) for hit in found[0]] == [("x", 0)]


@pytest.mark.slow  # Noticing it takes 10 s; shorter tests are in tests/app/service.
def test_a_stopped_postgresql(replica: Replica, both: tuple[postgresql.Server, Milvus]) -> None:
    with both[0].paused():
        unavailable(replica, "POST", "/v1/collections/c/query", QUERY)
        unavailable(replica, "PUT", "/v1/collections/c/items", ITEM)
        assert replica.ask("GET", "/healthz").status == 200
        assert replica.ask("GET", "/readyz").status == 503
    assert recovered(replica, "PUT", "/v1/collections/c/items", ITEM).status == 200
    assert replica.call("POST", "/v1/collections/c/query", QUERY)["results"]
    assert recovered(replica, "GET", "/readyz").status == 200


@pytest.mark.slow
def test_a_killed_postgresql(replica: Replica, both: tuple[postgresql.Server, Milvus]) -> None:
    database = both[0]
    for _ in range(5):
        database.stop()
        unavailable(replica, "PUT", "/v1/collections/c/items", ITEM)
        database.start()
        assert recovered(replica, "PUT", "/v1/collections/c/items", ITEM).status == 200
