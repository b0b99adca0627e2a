"""Requests that are too slow, too large or too many are refused, in bounded time and memory.

The tests use raw sockets, because client libraries do not send such requests.
"""

from __future__ import annotations

import gzip
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.main import create_app
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.problems import assert_problem
from tests.app.service_process import Process

MIB = 1 << 20


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(
        tmp_path_factory.mktemp("limits"),
        BITCELL_DEMO="false",
        BITCELL_MAX_BODY="16MiB",
        BITCELL_MAX_BODIES="24MiB",
        BITCELL_BODY_TIMEOUT="0.5",
    )
    yield process
    process.stop()


@pytest.fixture
def connection(serving: Process) -> Iterator[socket.socket]:
    with connect(serving) as connection:
        yield connection


def connect(serving: Process) -> socket.socket:
    host, port = serving.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(*lines: str, method: str = "POST", path: str = "/v1/encoders") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *lines)
    return "\r\n".join([*lines, "", ""]).encode()


JSON = "Content-Type: application/json"


def answer(connection: socket.socket) -> bytes:
    """Return everything that the service sends until it closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass  # It was closed while data was on its way.
    return b"".join(parts)


def memory(serving: Process) -> float:
    """Return the resident memory of the service in MiB."""
    status = Path(f"/proc/{serving.process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident
    return int(resident[1]) / 1024


def test_a_slow_body(serving: Process, connection: socket.socket) -> None:
    start = time.perf_counter()
    connection.sendall(head(JSON, "Content-Length: 100") + b"{")
    received = answer(connection)
    assert b"408 Request Timeout" in received
    assert b"BITCELL_BODY_TIMEOUT" in received
    assert time.perf_counter() - start < 5


def test_a_body_in_slow_parts(connection: socket.socket) -> None:
    """Each part arrives in time, but the whole does not."""
    connection.sendall(head(JSON, "Transfer-Encoding: chunked"))
    connection.settimeout(0.05)
    received = b""
    for _ in range(200):
        try:
            connection.sendall(b"1\r\n \r\n")
            received += connection.recv(65536)
            break
        except TimeoutError:
            continue
    assert b"408 Request Timeout" in received


def test_an_endless_body(serving: Process, connection: socket.socket) -> None:
    before = memory(serving)
    connection.sendall(head(JSON, "Transfer-Encoding: chunked"))
    sent = 0
    try:
        while sent < 1024 * MIB:
            connection.sendall(b"100000\r\n" + b" " * MIB + b"\r\n")
            sent += MIB
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sent < 64 * MIB
    assert memory(serving) - before < 64


def test_an_endless_head(serving: Process, connection: socket.socket) -> None:
    before = memory(serving)
    connection.sendall(b"GET / HTTP/1.1\r\n")
    sent = 0
    try:
        while sent < 64 * MIB:
            connection.sendall(b"X-A: " + b"a" * 65000 + b"\r\n")
            sent += 65000
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sent < 16 * MIB
    assert memory(serving) - before < 32


def test_an_unfinished_head(tmp_path: Path) -> None:
    short = "import app.http.connection; app.http.connection.HEAD_SECONDS = 0.2"
    process = Process(tmp_path, short, BITCELL_DEMO="false")
    try:
        with connect(process) as silent, connect(process) as unfinished:
            unfinished.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
            assert answer(unfinished) == b""
            assert answer(silent) == b""
        assert process.get("/healthz") == '{"status":"ok"}'
    finally:
        process.stop()


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_nested_brackets(serving: Process, connection: socket.socket, bracket: bytes) -> None:
    """A billion brackets are refused for their length, fewer for their depth."""
    start, before = time.perf_counter(), memory(serving)
    connection.sendall(head(JSON, f"Content-Length: {10**9 * len(bracket)}"))
    assert b"413" in answer(connection)[:20]
    with connect(serving) as second:
        body = bracket * 100_000
        second.sendall(head(JSON, f"Content-Length: {len(body)}", "Connection: close") + body)
        assert b"422 Unprocessable" in answer(second)
    assert time.perf_counter() - start < 5
    assert memory(serving) - before < 64


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_not_unpacked(
    serving: Process, connection: socket.socket, encoding: str
) -> None:
    before = memory(serving)
    bomb = gzip.compress(b" " * (64 * MIB), 9)
    assert len(bomb) < MIB
    connection.sendall(
        head(JSON, f"Content-Encoding: {encoding}", f"Content-Length: {len(bomb)}") + bomb
    )
    received = answer(connection)
    assert b"415 Unsupported" in received
    assert b"without compression" in received
    assert memory(serving) - before < 16


def test_an_npy_header_with_a_false_shape(serving: Process, connection: socket.socket) -> None:
    start, before = time.perf_counter(), memory(serving)
    lie = npy(np.ones((2, 4))).replace(b"(2, 4), }" + b" " * 17, b"(70000, 400000000), }     ")
    assert b"400000000" in lie
    lines = ("Content-Type: application/x-npy", f"Content-Length: {len(lie)}", "Connection: close")
    connection.sendall(head(*lines, path="/v1/encoders/e/encode") + lie)
    received = answer(connection)
    assert b"400 Bad Request" in received
    assert b"which takes 2.24e+14 bytes; there are 64" in received
    assert time.perf_counter() - start < 5
    assert memory(serving) - before < 16


def test_bodies_that_exceed_the_memory_for_bodies(serving: Process) -> None:
    body = b" " * (14 * MIB)
    connections = [connect(serving) for _ in range(4)]
    try:
        for each in connections:
            # One byte more than is sent, so that no request is complete.
            each.setblocking(True)
            each.sendall(head(JSON, f"Content-Length: {len(body) + 1}"))
        received = []
        for each in connections:
            try:
                each.sendall(body)
                received.append(b"")
            except (BrokenPipeError, ConnectionResetError):
                received.append(b"503")
        received = [answer(each) or was for each, was in zip(connections, received, strict=True)]
    finally:
        for each in connections:
            each.close()
    assert sum(b"503" in each[:20] for each in received) >= 1
    # The memory is free again.
    assert serving.get("/v1/encoders") == "[]"


# Tests that need no raw socket.


@pytest.fixture
def strict(settings: Settings) -> Iterator[TestClient]:
    change = {"max_batch": 3, "max_concurrent": 1}
    with TestClient(create_app(settings.model_copy(update=change))) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 4}
        client.post("/v1/encoders", json=new)
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        yield client


def test_a_batch_over_the_limit(strict: TestClient) -> None:
    four = np.ones((4, 4))
    ids = np.array(list("abcd"))
    message = "at most 3 descriptors or items (BITCELL_MAX_BATCH); this one has 4"
    url = "/v1/collections/c"
    assert_problem(strict.put(f"{url}/items", content=npy(four, ids), headers=NPY), 413, message)
    assert_problem(strict.post(f"{url}/query", content=npy(four), headers=NPY), 413, message)
    assert_problem(strict.post(f"{url}/query", json={"ids": list("abcd")}), 413, message)
    assert_problem(
        strict.post("/v1/encoders/e/encode", content=npy(four), headers=NPY), 413, message
    )
    assert strict.get(url).json()["items"] == 0
    three = npy(four[:3])
    assert strict.post(f"{url}/query", content=three, headers=NPY).status_code == 200


def test_too_many_concurrent_requests(strict: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []

    def send_more_requests(*_: Any) -> list[Any]:
        answers.append(strict.get("/v1/encoders"))
        answers.append(strict.get("/healthz"))
        return []

    monkeypatch.setattr("index.Store.list", send_more_requests)
    assert strict.get("/v1/collections").status_code == 200
    assert_problem(answers[0], 503, "BITCELL_MAX_CONCURRENT")
    assert answers[0].headers["retry-after"] == "1"
    assert answers[1].status_code == 200


UPLOAD = "/v1/snapshots/new"


def test_an_upload_that_stalls_is_cut_off_and_leaves_nothing(
    serving: Process, connection: socket.socket
) -> None:
    connection.sendall(head("Content-Length: 100000000", method="PUT", path=UPLOAD))
    connection.sendall(bytes(3 * MIB))
    assert answer(connection).startswith(b"HTTP/1.1 408 ")
    assert serving.call("GET", "/v1/snapshots") == []


def test_an_upload_takes_little_memory(serving: Process, connection: socket.socket) -> None:
    """It may be larger than a body, and longer on its way than one, as long as it moves."""
    before = memory(serving)
    size = 40 * MIB
    connection.sendall(head(f"Content-Length: {size}", method="PUT", path=UPLOAD))
    for part in range(40):
        connection.sendall(bytes(MIB))
        if part in (10, 20, 30):
            time.sleep(0.3)
    assert connection.recv(4096).startswith(b"HTTP/1.1 422 ")
    assert memory(serving) - before < 20
    assert serving.call("GET", "/v1/snapshots") == []


def test_an_upload_whose_client_goes_away_leaves_nothing(serving: Process) -> None:
    with connect(serving) as connection:
        connection.sendall(head("Content-Length: 100000000", method="PUT", path=UPLOAD))
        connection.sendall(bytes(MIB))
    # The name is free as soon as the service has noticed.
    for _ in range(1000):
        with connect(serving) as connection:
            connection.sendall(head("Content-Length: 3", method="PUT", path=UPLOAD) + b"abc")
            if b" 409 " not in (received := connection.recv(4096)):
                break
    assert received.startswith(b"HTTP/1.1 422 ")
    assert serving.call("GET", "/v1/snapshots") == []
