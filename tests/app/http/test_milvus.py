"""The service over an index in Milvus."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from time import monotonic, sleep

from pydantic import SecretStr

from app.main import create_app
from tests.app.asgi_client import TestClient
from tests.app.conftest import settings_in
from tests.app.problems import assert_problem
from tests.milvus_server import PATIENCE, Server

COLLECTION = "/v1/collections/c"


def test_the_service_answers_from_milvus_and_says_when_it_cannot(
    milvus_alone: Server, tmp_path: Path
) -> None:
    update = {"index_url": SecretStr(milvus_alone.url), "index_timeout": 1.0}
    settings = settings_in(tmp_path).model_copy(update=update)
    items = [
        {"id": f"x{i}", "code": f"{i % 4:02x}", "label": i % 3, "payload": {"n": i}}
        for i in range(40)
    ]
    query = {"codes": ["00"], "k": 3, "filter": {"n": {"gte": 4}}}
    with TestClient(create_app(settings)) as client:
        made = client.post("/v1/collections", json={"name": "c", "n_bits": 8})
        assert made.status_code == 201
        answer = client.put(f"{COLLECTION}/items", json={"items": items})
        assert answer.json() == {"upserted": 40, "items": 40}
        found = client.post(f"{COLLECTION}/query", json=query).json()
        assert [each["id"] for each in found["results"][0]] == ["x12", "x16", "x20"]
        about = {"exact": True, "radius": 8, "looked": None, "tie": 9}
        assert found["certificates"] == [about]
        assert_problem(
            client.post(f"{COLLECTION}/query", json=query | {"filter": {"n": None}}),
            422,
            "cannot look for null",
        )
        beyond = query | {"offset": 16_382}
        assert_problem(client.post(f"{COLLECTION}/query", json=beyond), 422, "16")
        os.kill(milvus_alone.pid, signal.SIGSTOP)
        try:
            for method, path, body in (
                ("POST", "query", query),
                ("PUT", "items", {"items": items[:1]}),
            ):
                start = monotonic()
                refused = client.request(method, f"{COLLECTION}/{path}", json=body)
                assert monotonic() - start < 5
                assert_problem(refused, 503, "Milvus")
                assert int(refused.headers["Retry-After"]) >= 1
        finally:
            os.kill(milvus_alone.pid, signal.SIGCONT)
        end = monotonic() + PATIENCE
        while (again := client.post(f"{COLLECTION}/query", json=query)).status_code == 503:
            assert monotonic() < end
            sleep(0.05)
        assert again.json() == found
        assert client.delete(COLLECTION).status_code == 204
