"""The protocol on one connection, with clients that pipeline, do not read, or go away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.http import connection
from app.http.connection import HEADERS, PIPELINED, Protocol
from app.http.open_connections import OpenConnections

MIB = 1 << 20
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """A server in this process, whose application a test can look into."""

    def __init__(self) -> None:
        self.state = ServerState()
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.disconnects: list[str] = []
        self.gate = asyncio.Event()
        self.address = ("", 0)
        self.writers: list[asyncio.StreamWriter] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the path; `/slow` when the gate opens, `/parts` until the client goes."""
        path = scope["path"]
        self.paths.append(path)
        if path == "/body":
            self.bodies.append(await self._body(path, receive))
        if path == "/slow":
            await self.gate.wait()
        if path == "/parts":
            await self._send_parts(receive, send)
            self.disconnects.append(path)
            return
        body = b"x" * (8 * MIB) if path == "/large" else path.encode()
        length = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    async def _send_parts(self, receive: Receive, send: Send) -> None:
        """Send parts of an answer until the client has gone."""
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            await asyncio.sleep(0.001)

    async def _body(self, path: str, receive: Receive) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects.append(path)
                return body
            body += message["body"]
            more = message["more_body"]
        return body

    @property
    def connections(self) -> list[Any]:
        return list(self.state.connections)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection with a small buffer, so that it is soon full."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self.address)
        reader, writer = await asyncio.open_connection(sock=client)
        self.writers.append(writer)
        return reader, writer


@asynccontextmanager
async def serving(limit: int = 100, answer_seconds: float = 60) -> AsyncIterator[Server]:
    server = Server()
    config = uvicorn.Config(server.app, interface="asgi3", proxy_headers=False, log_config=None)
    make = partial(
        Protocol,
        OpenConnections(limit),
        answer_seconds,
        config=config,
        server_state=server.state,
        app_state={},
    )
    listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    server.address = listening.sockets[0].getsockname()[:2]
    async with listening:
        try:
            yield server
        finally:
            for each in (*server.connections, *(writer.transport for writer in server.writers)):
                each.abort()
            await until(lambda: not server.state.connections and not server.state.tasks)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test()

    uvloop.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection, orderly or not."""
    parts = []
    try:
        while part := await reader.read(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(b"".join(GET % path for path in (b"/a", b"/b", b"/c")))
            assert [await answer(reader) for _ in "abc"] == [
                (200, b"/a"),
                (200, b"/b"),
                (200, b"/c"),
            ]
            writer.write(GET % b"/d")
            assert await answer(reader) == (200, b"/d")

    run(test)


def test_the_connection_closes_after_the_most_pipelined_requests() -> None:
    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(GET % b"/a" * 5000)
            received = await rest(reader)
            assert received.count(b"HTTP/1.1 200") == received.count(b"HTTP/1.1") == PIPELINED
            assert received.endswith(b"/a")
            assert len(server.paths) == PIPELINED

    run(test)


def test_a_faulty_request_is_answered_only_if_no_earlier_answer_is_due() -> None:
    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(GET % b"/slow" + GET % b"/a" + b"FAULTY\r\n\r\n")
            await until(lambda: server.paths == ["/slow"])
            server.gate.set()
            assert (await rest(reader)).count(b"HTTP/1.1 200") == 2
            reader, writer = await server.connect()
            writer.write(b"FAULTY\r\n\r\n")
            assert b"HTTP/1.1 400" in await rest(reader)

    run(test)


def test_no_request_is_processed_behind_an_unread_answer() -> None:
    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(GET % b"/large" + GET % b"/a")
            await until(lambda: bool(server.connections) and server.connections[0]._held)
            writer.write(GET % b"/b")
            for _ in range(20):
                other_reader, other = await server.connect()
                other.write(GET % b"/other")
                assert await answer(other_reader) == (200, b"/other")
            assert "/a" not in server.paths
            assert (await answer(reader))[1] == b"x" * (8 * MIB)
            assert [await answer(reader) for _ in "ab"] == [(200, b"/a"), (200, b"/b")]

    run(test)


def test_a_client_that_does_not_read_is_disconnected() -> None:
    async def test() -> None:
        async with serving(answer_seconds=0.1) as server:
            reader, writer = await server.connect()
            # The connection is to be closed after the answer, which must not last for ever either.
            writer.write((GET % b"/large").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await until(lambda: bool(server.paths) and not server.connections)
            assert len(await rest(reader)) < 8 * MIB

    run(test)


def test_an_empty_line_after_a_request_does_not_keep_the_connection_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some clients end a body with one. It is no head, and it ends uvicorn's timer."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)

    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(GET % b"/a")
            assert await answer(reader) == (200, b"/a")
            writer.write(b"\r\n")
            assert await rest(reader) == b""
            # While an answer is due, the connection stays open.
            reader, writer = await server.connect()
            writer.write(GET % b"/slow" + b"\r\n")
            await until(lambda: "/slow" in server.paths)
            writer.write(b"\r\n")
            await asyncio.sleep(0.2)
            server.gate.set()
            assert await answer(reader) == (200, b"/slow")

    run(test)


def test_a_client_that_reads_in_time_gets_all() -> None:
    async def test() -> None:
        async with serving(answer_seconds=5) as server:
            reader, writer = await server.connect()
            for _ in range(2):
                writer.write(GET % b"/large")
                assert len((await answer(reader))[1]) == 8 * MIB

    run(test)


def test_a_stop_waits_only_for_clients_that_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.3)

    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(GET % b"/large")
            _, silent = await server.connect()
            silent.write(GET % b"/large" + GET % b"/a")
            await until(lambda: [each._held for each in server.connections] == [True, True])
            for each in server.connections:
                each.shutdown()
            assert len((await answer(reader))[1]) == 8 * MIB
            await until(lambda: not server.connections)
            assert "/a" not in server.paths

    run(test)


def test_a_pipelined_request_does_not_hide_that_the_client_has_gone() -> None:
    """Uvicorn tells only the newest request; the others would write to a closed connection."""

    async def test() -> None:
        async with serving() as server:
            _, writer = await server.connect()
            writer.write(GET % b"/parts")
            await until(lambda: server.paths == ["/parts"])
            writer.write(GET % b"/a")
            await until(lambda: len(server.connections[0]._due) == 2)
            writer.transport.abort()
            await until(lambda: server.disconnects == ["/parts"])
            assert server.paths == ["/parts"]

    run(test)


FRAMING = {
    "trailers": (b"2\r\n{}\r\n0\r\n", b"a:b\r\n" * 1000),
    "one trailer": (b"2\r\n{}\r\n0\r\na: ", b"b" * 5000),
    "an extension": (b"2;a=", b"b" * 5000),
    "short chunks": (b"", b"1\r\n \r\n" * 1000),
}


@pytest.mark.parametrize("case", FRAMING)
def test_framing_that_exceeds_the_body_is_refused(case: str) -> None:
    first, part = FRAMING[case]

    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(CHUNKED + first)
            for _ in range(100):
                writer.write(part)
            assert b"HTTP/1.1 400" in await rest(reader)
            assert server.disconnects == ["/body"]

    run(test)


def test_ordinary_framing_is_accepted() -> None:
    """Trailers too; they are dropped, and do not become headers."""

    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            for _ in range(2):
                chunks = b"".join(b"400;a=b\r\n%b\r\n" % (b"x" * 1024) for _ in range(300))
                writer.write(CHUNKED + chunks + b"0\r\nA: b\r\nHost: evil\r\n\r\n")
                assert await answer(reader) == (200, b"/body")
            assert server.bodies == [b"x" * (300 * 1024)] * 2

    run(test)


@pytest.mark.parametrize(("n", "status"), [(HEADERS - 1, b"200"), (HEADERS, b"400")])
def test_many_headers(n: int, status: bytes) -> None:
    async def test() -> None:
        async with serving() as server:
            reader, writer = await server.connect()
            writer.write(
                b"GET /a HTTP/1.1\r\nConnection: close\r\n" + b"a:\r\n" * (n - 1) + b"b:\r\n\r\n"
            )
            assert (await rest(reader)).startswith(b"HTTP/1.1 " + status)

    run(test)


def test_the_connection_that_rests_longest_gives_way() -> None:
    async def test() -> None:
        async with serving(limit=3) as server:
            clients = []
            for name in (b"/0", b"/1", b"/2"):
                reader, writer = await server.connect()
                writer.write(GET % name)
                await answer(reader)
                clients.append((reader, writer))
            clients[0][1].write(GET % b"/0")
            await answer(clients[0][0])
            reader, writer = await server.connect()
            assert await rest(clients[1][0]) == b""
            for each, its_writer in (clients[0], clients[2], (reader, writer)):
                its_writer.write(GET % b"/again")
                assert await answer(each) == (200, b"/again")

    run(test)


async def start_slow(server: Server) -> asyncio.StreamReader:
    """Return a new connection with a request in progress."""
    before = len(server.paths)
    reader, writer = await server.connect()
    writer.write(GET % b"/slow")
    await until(lambda: len(server.paths) > before)
    return reader


def test_unread_answers_give_way_after_idle_connections_and_requests_never() -> None:
    async def test() -> None:
        async with serving(limit=3) as server:
            _, unread = await server.connect()
            unread.write(GET % b"/large")
            await until(lambda: bool(server.connections) and server.connections[0]._held)
            busy = await start_slow(server)
            idle, _ = await server.connect()
            await start_slow(server)
            assert await rest(idle) == b""
            assert any(each._held for each in server.connections)
            await start_slow(server)
            assert not any(each._held for each in server.connections)
            # All have requests in progress now.
            refused, _ = await server.connect()
            status, body = await answer(refused)
            assert status == 503
            assert b"BITCELL_MAX_CONNECTIONS" in body
            assert await rest(refused) == b""
            server.gate.set()
            assert await answer(busy) == (200, b"/slow")

    run(test)
