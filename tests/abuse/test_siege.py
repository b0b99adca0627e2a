"""The harness itself: it accepts a quiet service, and notices what it looks for."""

from __future__ import annotations

import io
import json
from urllib.error import HTTPError

import numpy as np
import pytest

from tests.abuse.siege import LimitedService, Siege


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


LARGE_BATCH = _npy(np.zeros((200_000, 16), np.float32))


def test_quiet_service_passes(service: LimitedService) -> None:
    with Siege(service, megabytes=20, seconds=10) as siege:
        assert service.get("/healthz")
    assert 0 < siege.slowest < 10


def _send_large_batch(service: LimitedService) -> None:
    with Siege(service, megabytes=1), service.connect() as connection:
        connection.sendall(
            b"POST /v1/encoders/honest/encode HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-npy\r\nContent-Length: %d\r\n\r\n" % len(LARGE_BATCH)
        )
        connection.sendall(LARGE_BATCH)
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_growth_is_noticed(service: LimitedService) -> None:
    with pytest.raises(AssertionError, match="memory grew"):
        _send_large_batch(service)


def test_time_is_noticed(service: LimitedService) -> None:
    with pytest.raises(AssertionError, match="attack lasted"), Siege(service, seconds=0):
        service.get("/healthz")


def _put_item(service: LimitedService, sign: int) -> None:
    descriptor = (sign * service.oracle.X[0]).tolist()
    item = {"id": "0000", "descriptor": descriptor, "label": 0, "payload": {"i": 0}}
    service.call("PUT", "/v1/collections/honest/items", {"items": [item]})


def _move_item(service: LimitedService) -> None:
    with Siege(service) as siege:
        _put_item(service, -1)
        siege.client.join(10)


def test_wrong_answer_is_noticed(service: LimitedService) -> None:
    try:
        with pytest.raises(AssertionError, match="0000"):
            _move_item(service)
    finally:
        _put_item(service, 1)


def test_refusals_of_the_attacker_are_no_failure(service: LimitedService) -> None:
    with Siege(service), pytest.raises(HTTPError, match="422") as refused:
        service.call("POST", "/v1/collections/honest/query", {"descriptors": [[1]]})
    assert "dimension 16" in json.loads(refused.value.read())["detail"]
