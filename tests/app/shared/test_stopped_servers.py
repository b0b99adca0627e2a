"""A replica while PostgreSQL does not answer: 503 in time, and recovery by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.shared.conftest import Replica, made, recovered, unavailable
from tests.milvus_server import using
from tests.postgres import Server, running

# Noticing it takes up to 10 s. Shorter tests are in tests/app/service and test_replicas.py.
pytestmark = pytest.mark.slow

ITEM = {"items": [{"id": "x", "code": "55"}]}
QUERY = {"codes": ["55"], "k": 1}


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    """A server that no other test uses."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def replica(
    database: Server, milvus_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    """A replica with a collection `c` of one item."""
    with using(milvus_folder, alone=False) as index:
        servers = made(tmp_path_factory, database.new_database(), index.url)
        replica = servers.replica("a")
        replica.call("POST", "/v1/collections", {"name": "c", "n_bits": 8})
        replica.call("PUT", "/v1/collections/c/items", ITEM)
        yield replica
        replica.stop()


def test_a_stopped_postgresql(replica: Replica, database: Server) -> None:
    with database.paused():
        unavailable(replica, "POST", "/v1/collections/c/query", QUERY)
        unavailable(replica, "PUT", "/v1/collections/c/items", ITEM)
        assert replica.ask("GET", "/healthz").status == 200
        assert replica.ask("GET", "/readyz").status == 503
    assert recovered(replica, "PUT", "/v1/collections/c/items", ITEM).status == 200
    assert replica.call("POST", "/v1/collections/c/query", QUERY)["results"]
    assert recovered(replica, "GET", "/readyz").status == 200


def test_a_killed_postgresql(replica: Replica, database: Server) -> None:
    for _ in range(5):
        database.stop()
        unavailable(replica, "PUT", "/v1/collections/c/items", ITEM)
        database.start()
        assert recovered(replica, "PUT", "/v1/collections/c/items", ITEM).status == 200
