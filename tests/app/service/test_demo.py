"""The demo collection of a new service."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.datasets.digits import read_digits
from app.main import create_app
from app.service import demo
from app.service.service import Service
from app.service.settings import Settings
from index import Database, Full
from tests.app.asgi_client import TestClient


def test_the_demo_is_created_at_the_first_start_only(tmp_path: Path, y: NDArray[np.int64]) -> None:
    settings = Settings(data_dir=tmp_path, allowed_hosts="testserver")
    with TestClient(create_app(settings)) as client:
        shown = client.get("/v1/collections/demo").json()
        assert (shown["items"], shown["encoder"], shown["n_bits"]) == (1797, "demo", 128)
        query = {"ids": [f"digit-{i:04d}" for i in range(200)], "k": 6}
        results = client.post("/v1/collections/demo/query", json=query).json()["results"]
        # Each item finds itself first, and then mostly digits of its own class.
        assert [near[0]["distance"] for near in results] == [0] * 200
        same = [found["label"] == y[i] for i, near in enumerate(results) for found in near[1:]]
        assert np.mean(same) > 0.8

        uri = results[0][0]["payload"]["thumbnail"]
        assert uri.startswith("data:image/png;base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        images, _ = read_digits()
        first = int(results[0][0]["id"].removeprefix("digit-"))
        np.testing.assert_array_equal(np.asarray(picture), images[first])
        assert client.delete("/v1/collections/demo").status_code == 204
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/collections").json() == []
        assert client.get("/readyz").json() == {"status": "ready", "collections": 0}


def test_a_full_disk_does_not_keep_the_service_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, allowed_hosts="testserver")
    filled: list[Service] = []

    def find_no_room(service: Service) -> None:
        raise Full("no room")

    for fill in (find_no_room, filled.append, find_no_room):
        monkeypatch.setattr(demo, "_fill", fill)
        with TestClient(create_app(settings)) as client:
            assert client.get("/readyz").status_code == 200
    assert len(filled) == 1


@pytest.mark.parametrize("own", ["encoder", "collection"])
def test_an_existing_encoder_or_collection_of_that_name_is_kept(
    own: str, settings: Settings
) -> None:
    new = {"name": "demo", "method": "lsh", "n_bits": 8, "dimension": 384}
    if own == "collection":
        new["name"] = "other"
    with TestClient(create_app(settings)) as client:
        assert client.post("/v1/encoders", json=new).status_code == 201
        if own == "collection":
            body = {"name": "demo", "encoder": "other"}
            assert client.post("/v1/collections", json=body).status_code == 201
        before = client.get("/v1/encoders").json(), client.get("/v1/collections").json()
    with TestClient(create_app(settings.model_copy(update={"demo": True}))) as client:
        assert (client.get("/v1/encoders").json(), client.get("/v1/collections").json()) == before


def test_an_interrupted_first_start_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, allowed_hosts="testserver")
    with monkeypatch.context() as patched:
        patched.setattr("app.service.collections.collections.Collections.upsert", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError), TestClient(create_app(settings)):
            pass
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/collections/demo").json()["items"] == 1797


def test_the_demo_can_be_turned_off(client: TestClient) -> None:
    assert client.get("/v1/collections").json() == []
    assert client.get("/v1/encoders").json() == []


def test_a_disk_without_room_for_the_first_table_does_not_keep_it_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def transaction(self: Database) -> NoReturn:
        raise Full("no room")

    settings = Settings(data_dir=tmp_path, allowed_hosts="testserver")
    service = Service(settings)
    with monkeypatch.context() as no_room:
        no_room.setattr(Database, "transaction", transaction)
        demo.make_demo(service)
    with TestClient(create_app(settings, service)) as client:
        assert client.get("/readyz").status_code == 200
