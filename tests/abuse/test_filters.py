"""Queries that filter on many fields of payloads that no query has used before."""

from __future__ import annotations

import http.client
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.abuse.siege import LimitedService, Siege

ATTACKERS, FIELDS = 40, 63
_numbers = count()


def fill(service: LimitedService, n: int) -> None:
    """Make a collection `filtered` of n items with payloads."""
    service.call("POST", "/v1/collections", {"name": "filtered", "encoder": "honest"})
    x = [0.5] * 16
    for first in range(0, n, 5000):
        items = [
            {"id": f"{i}", "descriptor": x, "payload": {"price": i % 97, "text": "x" * 60}}
            for i in range(first, min(first + 5000, n))
        ]
        service.call("PUT", "/v1/collections/filtered/items", {"items": items})


def query(service: LimitedService) -> int:
    """Send a query that filters on new fields; return the status of its answer, 0 for none."""
    return send(service, "query", {"descriptors": [[0.5] * 16], "filter": new_fields()})


def new_fields() -> Any:
    """Return a filter on fields that no filter has used before."""
    return {"not": {"or": [{f"new{next(_numbers)}": {"in": [1, "a"]} for _ in range(FIELDS)}]}}


def send(service: LimitedService, call: str, content: Any) -> int:
    """Send a call on the collection; return the status of the answer, 0 for none."""
    body = content if isinstance(content, str) else json.dumps(content)
    address = urlsplit(service.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    try:
        path = f"/v1/collections/filtered/{call}"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (ConnectionError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_filters_on_new_fields_do_not_starve_other_queries(service: LimitedService) -> None:
    """Each of these queries scanned the payloads once a field, and they held all threads."""
    fill(service, 500)
    with (
        Siege(service, megabytes=100, seconds=30, patience=5),
        ThreadPoolExecutor(ATTACKERS) as pool,
    ):
        statuses = list(pool.map(query, [service] * ATTACKERS))
    assert set(statuses) <= {200, 503}
    service.call("DELETE", "/v1/collections/filtered")


def test_deletions_by_filters_on_new_fields_starve_no_other_write(service: LimitedService) -> None:
    fill(service, 500)
    deletion = {"filter": {"and": [{"price": -1}, new_fields()]}}
    waited = 0.0
    with (
        Siege(service, megabytes=100, seconds=30, patience=5),
        ThreadPoolExecutor(ATTACKERS) as pool,
    ):
        calls = [("items/delete", deletion), ("items/count", deletion), ("items/list", deletion)]
        sent = [pool.submit(send, service, *calls[i % 3]) for i in range(ATTACKERS)]
        while not all(each.done() for each in sent):
            start = time.perf_counter()
            item = {"id": "polite", "descriptor": [0.5] * 16}
            service.call("PUT", "/v1/collections/filtered/items", {"items": [item]})
            waited = max(waited, time.perf_counter() - start)
    assert waited < 5
    assert {each.result() for each in sent} <= {200, 503}
    assert service.call("GET", "/v1/collections/filtered")["items"] == 501
    service.call("DELETE", "/v1/collections/filtered")


def test_filters_of_very_many_values_or_levels_stay_cheap(service: LimitedService) -> None:
    fill(service, 500)
    many = [f"value-{i}" for i in range(100_000)]
    some = many[:1500]
    hostile: list[Any] = [
        {"id": {"in": many}},
        {"text": {"all": many}},
        {"not": {"price": {"in": [*range(50_000)]}, "label": {"in": [*range(50_000)]}}},
        {"or": [{f"field{i}": {"any": some}} for i in range(64)]},
    ]
    contents = [json.dumps({"filter": each}) for each in hostile]
    too_much = [
        json.dumps({"filter": {"id": {"in": [*many, "one more"]}}}),
        '{"filter":' + '{"not":' * 50_000 + '{"a":1}' + "}" * 50_001,
        '{"filter":{"a":{"any":' + "[" * 50_000 + "]" * 50_000 + "}}}",
        json.dumps({"filter": {"." * 500_000: 1}}),
        json.dumps({"filter": {'."' + "\\" * 500_000: 1}}),
    ]
    with (
        Siege(service, megabytes=400, seconds=60, patience=5),
        ThreadPoolExecutor(20) as pool,
    ):
        sent = [pool.submit(send, service, "items/count", contents[i % 4]) for i in range(40)]
        refused = [pool.submit(send, service, "items/count", each) for each in too_much]
        statuses = [each.result() for each in sent]
    assert 200 in statuses
    assert set(statuses) <= {200, 503}
    assert {each.result() for each in refused} <= {422, 503}
    service.call("DELETE", "/v1/collections/filtered")


@pytest.mark.slow
def test_such_queries_end_in_time_and_do_not_delay_a_stop(tmp_path: Path) -> None:
    settings = {"BITCELL_QUERY_TIMEOUT": "20", "BITCELL_DRAIN_SECONDS": "1"}
    service = LimitedService(tmp_path / "data", **settings)
    try:
        fill(service, 60_000)
        with Siege(service, seconds=60, patience=5), ThreadPoolExecutor(ATTACKERS) as pool:
            statuses = list(pool.map(query, [service] * ATTACKERS))
        assert {200, 503} >= set(statuses) > {503}
        with ThreadPoolExecutor(ATTACKERS) as pool:
            last = [pool.submit(query, service) for _ in range(ATTACKERS)]
            assert any(query.result() == 200 for query in last[:1])
            start = time.perf_counter()
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(30) == -signal.SIGTERM
            assert time.perf_counter() - start < 10
        # Those that had not been answered got 503, or no answer if they were not read any more.
        assert {query.result() for query in last} <= {0, 200, 503}
        assert "queries are still running" not in service.log
    finally:
        service.stop()
