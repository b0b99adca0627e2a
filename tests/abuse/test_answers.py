"""Small requests for large answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError

import pytest

from tests.abuse.siege import LimitedService, Siege

COLLECTION = "/v1/collections/large"
PAYLOAD = {"text": "a" * 65_000}


def test_one_payload_is_not_sent_6000_times(service: LimitedService) -> None:
    service.call("POST", "/v1/collections", {"name": "large", "encoder": "honest"})
    item = {"id": "a", "descriptor": [1.0] * 16, "payload": PAYLOAD}
    service.call("PUT", f"{COLLECTION}/items", {"items": [item]})
    query = {"ids": ["a"] * 6000, "k": 1}
    # Without a limit, the answer has 390 MB and takes 1.2 GB.
    with Siege(service, megabytes=20), pytest.raises(HTTPError, match="413") as refused:
        service.call("POST", f"{COLLECTION}/query", query)
    assert "BITCELL_MAX_ANSWER" in json.loads(refused.value.read())["detail"]
    with Siege(service, megabytes=150):
        results = service.call("POST", f"{COLLECTION}/query", query | {"ids": ["a"] * 900})
    found = {"id": "a", "distance": 0, "payload": PAYLOAD}
    assert results["results"] == [[found]] * 900


@pytest.mark.slow
def test_many_large_answers_at_once_have_a_limit_together(service: LimitedService) -> None:
    service.call("POST", "/v1/collections", {"name": "many", "encoder": "honest"})
    item = {"id": "a", "descriptor": [1.0] * 16, "payload": PAYLOAD}
    service.call("PUT", "/v1/collections/many/items", {"items": [item]})

    def ask(_: int) -> int:
        try:
            query = {"ids": ["a"] * 900, "k": 1}
            found = service.call("POST", "/v1/collections/many/query", query)
        except HTTPError as refused:
            return refused.code
        assert len(found["results"]) == 900
        return 200

    # 24 answers of 58 MB: 256 MiB of them are put together at a time, and as much is sent.
    with Siege(service, megabytes=900, seconds=60), ThreadPoolExecutor(24) as attackers:
        statuses = set(attackers.map(ask, range(24)))
    assert statuses <= {200, 503}
    assert 200 in statuses
