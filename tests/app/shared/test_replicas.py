"""Two replicas over one PostgreSQL and one Milvus, and one of them while Milvus does not answer.

This is one test, so that only one process of the tests starts the replicas.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.app.shared.conftest import (
    Replica,
    ids_in,
    items,
    made,
    make,
    recovered,
    stopped,
    unavailable,
)
from tests.milvus_server import using


def test_replicas_see_each_others_writes_and_outlast_a_stopped_milvus(
    database_url: str, milvus_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as started:
        with using(milvus_folder, alone=False) as index:
            servers = made(tmp_path_factory, database_url, index.url)
            a = servers.replica("a")
            started.callback(a.stop)
            b = servers.replica("b", BITCELL_INDEX_TIMEOUT="1")
            started.callback(b.stop)
            check_writes(a, b)
        # No other test uses it now.
        with using(milvus_folder, alone=True) as index:
            check_stopped(a, b, index.pid)


def check_writes(a: Replica, b: Replica) -> None:
    """Check that each sees at once what the other does."""
    make(a, "seen")
    assert b.call("GET", "/v1/encoders/seen")["n_bits"] == 64
    for number, (writer, reader) in enumerate([(a, b), (b, a)]):
        new = items(10 * number, 5)
        path = "/v1/collections/seen/items"
        assert recovered(writer, "PUT", path, {"items": new}).body["upserted"] == 5
        query = {"descriptors": [item["descriptor"] for item in new], "k": 1}
        found = recovered(reader, "POST", "/v1/collections/seen/query", query).body["results"]
        assert [hits[0]["distance"] for hits in found] == [0] * 5
        assert {item["id"] for item in new} <= ids_in(reader, "seen")
        gone = f"/v1/collections/seen/items/{new[0]['id']}"
        assert recovered(writer, "DELETE", gone).status == 204
        assert recovered(reader, "GET", gone).status == 404
    recovered(b, "DELETE", "/v1/collections/seen")
    assert a.ask("GET", "/v1/collections/seen").status == 404
    assert a.ask("POST", "/v1/collections/seen/query", query).status == 404
    a.call("POST", "/v1/collections", {"name": "c", "n_bits": 8})
    one = {"items": [{"id": "x", "code": "55"}]}
    assert recovered(b, "PUT", "/v1/collections/c/items", one).status == 200


def check_stopped(a: Replica, b: Replica, milvus: int) -> None:
    """Check that 503 comes in time, and that a write without an answer is not lost."""
    new = {"items": [{"id": "y", "code": "00"}]}
    query = {"codes": ["55"], "k": 1}
    with stopped(milvus):
        unavailable(b, "POST", "/v1/collections/c/query", query)
        unsure = unavailable(b, "PUT", "/v1/collections/c/items", new)
        assert "safe" in unsure.body["detail"]
        assert b.ask("GET", "/healthz").status == 200
    # The write had been recorded before Milvus was asked.
    assert recovered(a, "GET", "/v1/collections/c/items/y").status == 200
    assert recovered(b, "PUT", "/v1/collections/c/items", new).status == 200
    found = recovered(b, "POST", "/v1/collections/c/query", query).body["results"]
    assert [(hit["id"], hit["distance"]) for hit in found[0]] == [("x", 0)]
