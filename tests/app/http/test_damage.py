"""Damaged data is a 500 and makes the service not ready; a damaged snapshot is a 422."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.problems import assert_problem

URL = "/v1/collections/c"


def service_of(client: TestClient) -> Any:
    return client.app.state.service  # type: ignore[attr-defined]


def test_damaged_data_is_a_fault_of_the_service(small: TestClient) -> None:
    assert small.get("/readyz").status_code == 200
    with service_of(small).database.transaction() as connection:
        connection.execute("UPDATE payloads SET payload = '{\"n\":1}' WHERE serial = 0")
    # The damage has not been noticed yet.
    assert small.get("/readyz").status_code == 200
    for _ in range(2):
        assert_problem(
            small.get(f"{URL}/items/a"), 500, "bitcell.db is damaged: the payload of item 0"
        )
        ready = small.get("/readyz")
        assert_problem(ready, 503, "bitcell.db is damaged: the payload of item 0")
        assert ready.headers["retry-after"]
    # Undamaged items can still be read.
    assert small.get(f"{URL}/items/b").status_code == 200
    assert small.get("/healthz").status_code == 200


def test_a_damaged_snapshot_is_a_fault_of_the_client(small: TestClient, settings: Settings) -> None:
    file = small.post(f"{URL}/snapshots").json()["snapshot"]
    path = settings.data_dir / "snapshots" / file
    for data in (path.read_bytes()[:-20], b"no snapshot at all"):
        path.write_bytes(data)
        assert_problem(small.post("/v1/collections/d/restore", json={"snapshot": file}), 422, file)
        assert small.get("/readyz").status_code == 200
    assert small.get("/v1/collections/d").status_code == 404


def test_a_disk_that_cannot_be_read_is_a_fault_of_the_service(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    database = service_of(small).database

    def fail(*_: Any) -> None:
        with database.reading():
            raise error

    with monkeypatch.context() as patch:
        patch.setattr("index.storage.record.Record.payload_bytes", fail)
        assert_problem(
            small.get(f"{URL}/items/a"), 500, "could not be read or written: disk I/O error"
        )
    assert small.get(f"{URL}/items/a").status_code == 200
