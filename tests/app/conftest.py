"""Fixtures for the tests of the service: clients of small services."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from app.main import create_app
from app.service.settings import Settings
from index import Database, Store
from tests.app.asgi_client import TestClient

NPY = {"Content-Type": "application/x-npy"}


def npy(*arrays: Any) -> bytes:
    """Return arrays as `numpy.save` writes them, one after the other."""
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


@pytest.fixture(autouse=True, scope="session")
def _plain_log() -> None:
    """Print plain tracebacks: formatting one with Rich takes seconds."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, plain])


def settings_in(folder: Path) -> Settings:
    """Return the settings of a small service with its data in a folder."""
    return Settings(
        data_dir=folder / "data",
        demo=False,
        max_body=1 << 20,
        max_k=500,
        allowed_hosts="testserver,localhost",
    )


def fill(client: TestClient) -> None:
    """Create an encoder `e` of dimension 4 and a collection `c` of 3 items."""
    new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 4}
    assert client.post("/v1/encoders", json=new).status_code == 201
    assert client.post("/v1/collections", json={"name": "c", "encoder": "e"}).status_code == 201
    items = [
        {"id": "a", "descriptor": [1, 2, 3, 4], "label": 7, "payload": {"n": None}},
        {"id": "b", "descriptor": [-1, 2, -3, 4.5]},
        {"id": "c/d e", "descriptor": [1, 2, 3, 4], "label": -1, "payload": {}},
    ]
    answer = client.put("/v1/collections/c/items", json={"items": items})
    assert answer.json() == {"upserted": 3, "items": 3}


def contents_of(client: TestClient) -> Any:
    """Return everything that a service stores, to compare before and after."""
    found: list[Any] = [client.get("/v1/encoders").json()]
    for collection in client.get("/v1/collections").json():
        query = {"descriptors": [[0.0] * 4], "k": 100}
        answer = client.post(f"/v1/collections/{collection['name']}/query", json=query)
        # Leave out the certificates: building tables changes the number of codes compared.
        found += [collection, answer.json()["results"]]
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def small(client: TestClient) -> TestClient:
    """A client of a service with an encoder `e` of dimension 4 and a collection `c` of 3 items."""
    fill(client)
    return client


@pytest.fixture
def contents(client: TestClient) -> Callable[[], Any]:
    """A function that returns everything the service stores, to compare before and after."""
    return lambda: contents_of(client)


def without_effort(answer: Any) -> Any:
    """Return an answer to a query without how much was compared, which building tables changes."""
    if "certificates" not in answer:
        return answer
    certificates = [
        {name: value for name, value in one.items() if name not in ("looked", "radius")}
        for one in answer["certificates"]
    ]
    return answer | {"certificates": certificates}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Collections of a record of their own."""
    database = Database(tmp_path / "bitcell.db")
    store = Store(database)
    yield store
    store.close()
    database.close()
