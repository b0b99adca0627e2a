"""Attacks on connections: clients that do not read, pipeline, hold on, or go away."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.abuse.siege import LimitedService, Siege

MIB = 1 << 20
OPEN_FILES = 128
# Small buffers in the kernel, so that unread answers soon fill them, and few files.
CODE = f"""
import resource, socket
from app.http import server
resource.setrlimit(resource.RLIMIT_NOFILE, ({OPEN_FILES},) * 2)
listen = server._listen
def listen_with_small_buffers(*address):
    listening = listen(*address)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listening
server._listen = listen_with_small_buffers
"""
OPENAPI = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n\r\n"
SECRETS = b"secret-query", b"secret-key", b"secret-body"
POST = (
    b"POST /v1/encoders?name=secret-query HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nAuthorization: Bearer secret-key\r\n"
    b"Content-Length: %d\r\n\r\n"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LimitedService]:
    """A service with few places and a log in plain text. Slow readers must not delay its stop."""
    service = LimitedService(
        tmp_path_factory.mktemp("connections") / "data",
        CODE,
        BITCELL_LOG_FORMAT="text",
        BITCELL_MAX_CONCURRENT="4",
        BITCELL_MAX_STREAMS="2",
    )
    yield service
    with ExitStack() as stack:
        _stop_reading(service, stack)
        start = time.perf_counter()
        log = service.stop()
        assert time.perf_counter() - start < 5
    assert "Traceback" not in log, log
    for secret in SECRETS:
        assert secret.decode() not in log


def _stop_reading(service: LimitedService, stack: ExitStack) -> None:
    """Open connections that ask for much and read nothing."""
    for _ in range(20):
        stack.enter_context(service.connect()).sendall(OPENAPI * 8)
    for _ in range(20):
        service.get("/healthz")


def test_slow_readers_take_no_places(small: LimitedService) -> None:
    with ExitStack() as stack, Siege(small, megabytes=40, seconds=20):
        _stop_reading(small, stack)
        # If all places were taken, this would get 503.
        for _ in range(30):
            small.get("/v1/encoders")


def test_a_flood_of_pipelined_requests(small: LimitedService) -> None:
    flood = b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n" * 6000
    with ExitStack() as stack, Siege(small, megabytes=20, seconds=20):
        for _ in range(20):
            connection = stack.enter_context(small.connect())
            _send_until_refused(connection, flood, len(flood))


@pytest.mark.parametrize(
    ("first", "part"),
    [
        (b"2\r\n{}\r\n0\r\n", b"a:b\r\n" * 10_000),
        (b"2\r\n{}\r\n0\r\na: ", b"b" * 50_000),
        (b"2;a=", b"b" * 50_000),
        (b"", b"1\r\n \r\n" * 10_000),
    ],
    ids=["trailers", "one trailer", "extension", "short chunks"],
)
def test_40_megabytes_around_a_body(small: LimitedService, first: bytes, part: bytes) -> None:
    head = POST.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
    with Siege(small, megabytes=10, seconds=20), small.connect() as connection:
        connection.sendall(head + first)
        assert _send_until_refused(connection, part, 40 * MIB) < 8 * MIB


def _send_until_refused(connection: socket.socket, part: bytes, total: int) -> int:
    sent = 0
    try:
        while sent < total:
            connection.sendall(part)
            sent += len(part)
    except ConnectionError:
        pass
    return sent


def test_clients_that_go_away(small: LimitedService) -> None:
    """Each is one line of the log, whether it pipelines or not."""
    before = len(small.log)
    complete = POST % 2 + b"{}"
    parts = (
        POST % 20 + b'{"secret-body":',
        complete * 5,
        complete * 3 + POST % 20 + b"{",
        POST % 9,
    )
    with Siege(small, megabytes=10, seconds=20):
        for part in parts * 5:
            with small.connect() as connection:
                connection.sendall(part)
        for _ in range(20):
            small.get("/healthz")
    lines = [line for line in small.log[before:].splitlines() if "/v1/encoders" in line]
    assert any("status=499" in line for line in lines)
    assert all("[info" in line and len(line) < 250 for line in lines)


def test_idle_connections_keep_nobody_out(small: LimitedService) -> None:
    with ExitStack() as stack, Siege(small, megabytes=10, seconds=20):
        for _ in range(4 * OPEN_FILES):
            stack.enter_context(small.connect())
        for path in ("/", "/page/main.js", "/healthz", "/v1/encoders"):
            small.get(path)
        open_files = list(Path(f"/proc/{small.process.pid}/fd").iterdir())
        assert len(open_files) < OPEN_FILES - 10


def test_json_that_takes_45_times_its_size(small: LimitedService) -> None:
    body = b'{"descriptors":[[' + b"1," * (4 * MIB - 100) + b"1]]}"
    url = b"/v1/encoders/honest/encode"
    head = POST.replace(b"/v1/encoders?name=secret-query", url) % len(body)
    with Siege(small, megabytes=30, seconds=20), small.connect() as connection:
        connection.sendall(head + body)
        assert connection.recv(12) == b"HTTP/1.1 413"
