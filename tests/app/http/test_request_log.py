"""Request ids, security headers, the log and the metrics."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from typing import Any

import numpy as np
import pytest
import structlog
from fastapi import Request
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Scope

from app.http import log_setup
from app.service.settings import LogFormat, Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.jobs.waiting import ended


def samples(client: TestClient) -> dict[tuple[Any, ...], float]:
    """Return all metrics by name and labels, as Prometheus reads them."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_valid_request_ids_are_kept_and_others_replaced(client: TestClient) -> None:
    kept = client.get("/healthz", headers={"X-Request-ID": "Trace.1-a_b"})
    assert kept.headers["x-request-id"] == "Trace.1-a_b"
    replaced = {
        client.get("/healthz", headers={"X-Request-ID": invalid}).headers["x-request-id"]
        for invalid in ("", "a" * 65, "a b", 'a"b', "a\tb")
    }
    assert len(replaced) == 5
    assert all(len(request_id) == 32 for request_id in replaced)


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/encoders", "/v1/nothing", "/metrics"])
def test_every_answer_has_security_headers(path: str, client: TestClient) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_the_page_may_run_only_its_own_scripts(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert page.text.count("<script") == page.text.count('<script type="module" src="page/') == 1
    assert "<style" not in page.text
    assert " style=" not in page.text


def test_internal_errors_have_security_headers_and_are_counted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("index.Store.list", fail)
    answer = client.get("/v1/collections", headers={"X-Request-ID": "abc"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["x-content-type-options"] == "nosniff"
    monkeypatch.undo()
    route = (("method", "GET"), ("route", "/v1/collections"))
    assert samples(client)["bitcell_requests_total", *route, ("status", "500")] == 1


def test_requests_are_counted_by_route_not_by_path(client: TestClient) -> None:
    for name in ("a", "b", "c"):
        client.get(f"/v1/collections/{name}")
        client.get(f"/{name}")
        client.request(name.upper() * 3, "/healthz")
    found = samples(client)
    route = (("method", "GET"), ("route", "/v1/collections/{name}"))
    assert found["bitcell_requests_total", *route, ("status", "404")] == 3
    assert found["bitcell_request_seconds_count", *route] == 3
    nowhere = (("method", "GET"), ("route", "none"), ("status", "404"))
    assert found["bitcell_requests_total", *nowhere] == 3
    assert {dict(key[1:]).get("method", "GET") for key in found} == {"GET", "other"}
    assert found["bitcell_requests_in_flight",] == 1  # This request.


def test_metrics_of_distances_and_ties_match_the_answers(small: TestClient) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    ids = np.array([f"i{i}" for i in range(40)])
    small.put("/v1/collections/c/items", content=npy(X, ids), headers=NPY)
    url = "/v1/collections/c/query"
    results = small.post(f"{url}?k=9", content=npy(rng.normal(size=(25, 4))), headers=NPY).json()
    distances = [[near["distance"] for near in one] for one in results["results"]]
    for other in ("k=2&offset=5", "k=2&rerank=40"):
        # Not counted: the first neighbour is not the nearest.
        assert small.post(f"{url}?{other}", content=npy(X[:1]), headers=NPY).status_code == 200
    found = samples(small)
    label = ("collection", "c")
    for name, values in (
        ("bitcell_query_nearest_distance", [one[0] for one in distances]),
        ("bitcell_query_ties", [one.count(one[-1]) for one in distances]),
    ):
        assert found[f"{name}_count", label] == 25
        assert found[f"{name}_sum", label] == sum(values)
        bounds = [key for key in found if key[0] == f"{name}_bucket"]
        assert len(bounds) > 5
        for key in bounds:
            bound = float(dict(key[1:])["le"])
            assert found[key] == sum(value <= bound for value in values)
    assert found["bitcell_items", label] == 43
    assert small.delete("/v1/collections/c").status_code == 204
    assert not [key for key in samples(small) if label in key]


def test_jobs_are_counted_and_timed(client: TestClient) -> None:
    new = {"name": "t", "method": "itq", "n_bits": 4}
    X = np.random.default_rng(0).normal(size=(50, 5)).tolist()
    job = client.post("/v1/encoders", json=new | {"training": {"descriptors": X}}).json()["id"]
    ended(client, job)
    found = samples(client)
    label = (("kind", "training"), ("state", "done"))
    assert found["bitcell_jobs", *label] == 1
    assert found["bitcell_job_seconds_count", *label] == 1
    assert found["bitcell_encoders",] == 1
    assert found["bitcell_record_bytes",] > 0
    assert found["process_resident_memory_bytes",] > 0


Log = Callable[[LogFormat], Callable[[], str]]


@pytest.fixture
def log_as(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Return a function that takes a format and returns another that returns the log."""
    stream = StringIO()
    before, root = structlog.get_config(), logging.getLogger()
    handlers = root.handlers
    # Loggers that are cached would keep this format after the test.
    uncached = partial(_configure_uncached, structlog.configure)
    monkeypatch.setattr(structlog, "configure", uncached)

    def configure(log_format: LogFormat) -> Callable[[], str]:
        monkeypatch.setattr(sys, "stderr", stream)
        log_setup.configure(settings.model_copy(update={"log_format": log_format}))
        return stream.getvalue

    yield configure
    structlog.configure(**before)
    root.handlers = handlers


def _configure_uncached(configure: Callable[..., None], **options: Any) -> None:
    configure(**options | {"cache_logger_on_first_use": False})


def test_the_log_is_json_with_request_ids(
    log_as: Log, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a reason")

    log = log_as("json")
    monkeypatch.setattr("index.Store.list", fail)
    client.get("/v1/collections", headers={"X-Request-ID": "r1", "X-Other": "secret"})
    logging.getLogger("uvicorn.error").warning("from %s", "uvicorn")
    logging.getLogger("asyncio").warning("from %s", "asyncio")
    failed, request, *foreign = [json.loads(line) for line in log().splitlines()]
    assert (failed["level"], failed["event"]) == ("error", "request failed")
    assert "RuntimeError: a reason" in failed["exception"]
    assert request["event"] == "request"
    assert request["request_id"] == failed["request_id"] == "r1"
    assert (request["method"], request["path"]) == ("GET", "/v1/collections")
    assert request["status"] == 500
    assert request["ms"] > 0
    assert "secret" not in json.dumps(request)
    assert [line["event"] for line in foreign] == ["from uvicorn", "from asyncio"]


def _fail_with_the_request(self: Any, request: Request) -> Any:
    """Raise errors that quote all of a request, with the request in local variables."""
    everything = str(request.headers) + str(request.url)
    error = ValueError(everything)
    try:
        raise ExceptionGroup(everything, [KeyError(everything), error])
    except ExceptionGroup as group:
        raise UnicodeError(everything) from group


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_failure_shows_what_was_in_the_request(
    log_format: LogFormat, log_as: Log, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_as(log_format)

    async def fail(request: Request) -> Any:
        body = await request.body()
        _fail_with_the_request(body, request)

    monkeypatch.setattr("app.http.routes.items.raw_body", fail)
    url = "/v1/collections/c/query?offset=987654321"
    headers = {"Authorization": "Bearer secret-key", "X-Header": "secret-header"}
    assert client.post(url, content=b"secret-body", headers=headers).status_code == 500
    asyncio.run(_fail_unhandled())
    found = log()
    assert found.count("request failed") == 1
    assert "never retrieved" in found
    for name in ("ExceptionGroup", "KeyError", "ValueError", "UnicodeError", "_fail_with_the_req"):
        assert name in found
    assert "secret" not in found
    assert "987654321" not in found
    assert len(found) < 20_000


async def _fail_unhandled() -> None:
    """Leave a failed future behind, which asyncio reports with its value."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_setup.log_loop_failure)
    failed = loop.create_future()
    failed.set_exception(ValueError("secret-body"))
    del failed
    gc.collect()


def test_a_path_cannot_forge_lines_of_the_log(log_as: Log, client: TestClient) -> None:
    log = log_as("text")
    client.get("/v1/%0A2026-01-01T00:00:00Z%20%5Binfo%5D%20forged%1B%5B2J")
    assert log().count("\n") == 1
    assert "\x1b" not in log()
    assert "forged" in log()


def test_a_client_that_closes_in_mid_body_is_one_ordinary_line(
    log_as: Log, client: TestClient
) -> None:
    log = log_as("text")
    app, status = client.app, []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        status.append(message)

    headers = [(b"host", b"localhost"), (b"content-length", b"9")]
    headers += [(b"content-type", b"application/json"), (b"authorization", b"Bearer secret-key")]
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/encoders",
        "raw_path": b"/v1/encoders",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": ("localhost", 80),
    }

    async def disconnect() -> None:
        await app(scope, receive, send)
        await asyncio.sleep(0)  # The line comes after the answer.

    client.portal.call(disconnect)  # type: ignore[union-attr]
    assert not status
    (line,) = log().splitlines()
    assert "request" in line
    assert "status=499" in line
    assert "[info" in line
    assert "secret" not in line
    route = (("method", "POST"), ("route", "/v1/encoders"), ("status", "499"))
    assert samples(client)["bitcell_requests_total", *route] == 1


def test_only_long_json_is_gzipped(small: TestClient) -> None:
    X, ids = np.ones((400, 4)), np.array([f"item-{i}" for i in range(400)])
    small.put("/v1/collections/c/items", content=npy(X, ids), headers=NPY)
    url = "/v1/collections/c/query?k=400"
    long = small.post(url, content=npy(X[:1]), headers=NPY)
    assert long.headers["content-encoding"] == "gzip"
    assert len(long.json()["results"][0]) == 400
    plain = small.post(url, content=npy(X[:1]), headers=NPY | {"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == long.json()
    short = small.post("/v1/collections/c/query?k=3", content=npy(X[:1]), headers=NPY)
    assert "content-encoding" not in short.headers
    packed = small.post("/v1/encoders/e/encode", content=npy(np.ones((5000, 4))), headers=NPY)
    assert "content-encoding" not in packed.headers
