"""Queries that filter on many fields of payloads that no query has used before."""

from __future__ import annotations

import http.client
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.abuse.siege import LimitedService, Siege

ATTACKERS, FIELDS = 40, 64
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
    fields = {f"new{next(_numbers)}": {"in": [1, "a"]} for _ in range(FIELDS)}
    body = json.dumps({"descriptors": [[0.5] * 16], "filter": {"not": {"or": [fields]}}})
    address = urlsplit(service.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    try:
        path = "/v1/collections/filtered/query"
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
