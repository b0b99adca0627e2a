"""Small requests for large answers."""

from __future__ import annotations

import json
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
