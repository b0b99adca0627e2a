"""The memory for bodies, JSON and unread answers, and the limit on open files."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.http.bodies import json_memory
from app.http.middleware.limits import SMALL_ANSWER, SMALL_BODY, Limits
from app.http.open_connections import RESERVED_FILES, possible_connections
from app.http.schemas import Query
from app.main import create_app
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.problems import assert_problem

KIB, MIB = 1 << 10, 1 << 20


class Exchange:
    """One request that `Limits` passes on, whose answer the client reads when `read` is set."""

    def __init__(self, limits: Limits, path: str, body: bytes = b"") -> None:
        self.messages: list[Message] = []
        self.read = asyncio.Event()
        self._body = body
        headers = [(b"content-length", b"%d" % len(body))]
        scope: Scope = {"type": "http", "path": path, "headers": headers, "method": "GET"}
        scope["bitcell.until_read"] = self.read.wait
        self.task = asyncio.ensure_future(limits(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)

    async def status(self) -> int:
        """Return the status of the answer once it is complete."""
        while len(self.messages) < 2:
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0)
        return int(self.messages[0]["status"])


def limits_of(tmp_path: Path, answer: Callable[[], int], **change: Any) -> Limits:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"x" * answer())(scope, receive, send)

    return Limits(app, Settings(data_dir=tmp_path, max_body=KIB, **change))


def test_unread_answers_count_as_bodies(tmp_path: Path) -> None:
    size = 400 * KIB
    limits = limits_of(tmp_path, lambda: size, max_bodies=MIB, max_concurrent=1)

    async def test() -> None:
        nonlocal size
        # An unread answer holds no place among the concurrent requests, of which one is allowed.
        unread = [Exchange(limits, "/v1/x") for _ in range(1)]
        assert [await each.status() for each in unread] == [200]
        unread.append(Exchange(limits, "/v1/x"))
        assert await unread[1].status() == 200
        refused = Exchange(limits, "/v1/x")
        assert await refused.status() == 503
        assert b"BITCELL_MAX_BODIES" in refused.messages[1]["body"]
        assert (b"retry-after", b"1") in refused.messages[0]["headers"]
        # A write has been done when it is answered, so its small answer is not refused.
        size = SMALL_ANSWER
        assert await Exchange(limits, "/v1/x").status() == 200
        size = 400 * KIB
        assert await Exchange(limits, "/").status() == 200
        unread[0].read.set()
        await unread[0].task
        assert await Exchange(limits, "/v1/x").status() == 200

    asyncio.run(test())


def test_small_bodies_are_accepted_while_there_is_no_memory(tmp_path: Path) -> None:
    """Otherwise one large upload, or one unread answer, would keep all queries out."""
    answers = iter([MIB, 1, 1])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        assert len(body) in (0, SMALL_BODY)
        await Response(b"x" * next(answers))(scope, receive, send)

    limits = Limits(app, Settings(data_dir=tmp_path, max_body=2 * SMALL_BODY, max_bodies=MIB))

    async def test() -> None:
        unread = Exchange(limits, "/v1/x")
        assert await unread.status() == 200
        assert limits.bytes_held == MIB
        query = Exchange(limits, "/v1/x", b" " * SMALL_BODY)
        assert await query.status() == 200
        query.read.set()
        with pytest.raises(HTTPException, match="BITCELL_MAX_BODIES") as refused:
            await Exchange(limits, "/v1/x", b" " * (SMALL_BODY + 1)).task
        assert refused.value.status_code == 503
        unread.read.set()
        await asyncio.gather(unread.task, query.task)
        assert limits.bytes_held == 0

    asyncio.run(test())


def test_one_answer_may_exceed_the_memory(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, lambda: 3 * MIB, max_bodies=MIB)

    async def test() -> None:
        only = Exchange(limits, "/v1/x")
        assert await only.status() == 200
        only.read.set()
        await only.task
        assert limits.bytes_held == 0

    asyncio.run(test())


START, END = b'{"ids":["a"],"filter":{"a":[', b"1]}}"
BODIES = {
    "ones": b'{"descriptors":[[' + b"1," * (MIB // 4) + b"1]]}",
    "numbers": b'{"descriptors":[[' + b"-0.12345678901234567," * 50_000 + b"1]]}",
    "ids": b'{"ids":[' + b'"ab",' * (MIB // 8) + b'"a"]}',
    "empty lists": START + b"[]," * (MIB // 16) + END,
    "nested lists": START + (b"[" * 150 + b"]" * 150 + b",") * 500 + END,
    "fields": START + b"{" + b"".join(b'"%x":1,' % i for i in range(50_000)) + b'"x":1},' + END,
    "wide text": b'{"ids":["' + b"a" * (2 * MIB) + "\N{PILE OF POO}".encode() + b'"]}',
    "escapes": b'{"ids":["' + b"a" * (2 * MIB) + rb"\ud83d\udca9" + b'"]}',
}


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * KIB


@pytest.mark.parametrize("case", BODIES)
def test_the_memory_of_json_is_not_underestimated(case: str) -> None:
    body = BODIES[case]
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    parsed = Query.model_validate_json(body)
    taken = _status("VmHWM") - before + len(body)
    del parsed
    assert taken < 1.2 * json_memory(body)


def test_descriptors_as_json_count_about_what_they_take() -> None:
    X = np.random.default_rng(0).normal(size=(100, 384))
    body = b'{"descriptors":' + str(X.tolist()).encode() + b"}"
    assert 4 * len(body) < json_memory(body) < 6 * len(body)


@pytest.fixture
def small_memory(settings: Settings) -> Any:
    change = {"max_body": MIB, "max_bodies": MIB}
    with TestClient(create_app(settings.model_copy(update=change))) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 4}
        client.post("/v1/encoders", json=new)
        yield client


def test_json_that_takes_too_much_memory(small_memory: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    url = "/v1/encoders/e/encode"
    ones = b'{"descriptors":[' + b"[1,1,1,1]," * 4000 + b"[1,1,1,1]]}"
    assert len(ones) < MIB // 20
    refused = small_memory.post(url, content=ones, headers=headers)
    assert_problem(refused, 413, "send fewer values at a time, or send npy")
    few = b'{"descriptors":[' + b"[1,1,1,1]," * 1000 + b"[1,1,1,1]]}"
    assert len(few) // 2 < SMALL_BODY
    assert small_memory.post(url, content=few, headers=headers).status_code == 200
    same = npy(np.ones((4001, 4), np.float32))
    assert small_memory.post(url, content=same, headers=NPY).status_code == 200


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "possible", "raised_to"),
    [
        (1024, 4096, 1000, 1000, 1000 + RESERVED_FILES),
        (20_000, 20_000, 1000, 1000, 20_000),
        (1024, 1024, 1000, 1024 - RESERVED_FILES, 1024),
        (64, 64, 1000, 32, 64),
        (64, resource.RLIM_INFINITY, 1000, 1000, 1000 + RESERVED_FILES),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1000, 1000, resource.RLIM_INFINITY),
    ],
)
def test_connections_within_the_limit_on_open_files(
    soft: int,
    hard: int,
    wanted: int,
    possible: int,
    raised_to: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = (soft, hard)

    def set_limits(_: int, new: tuple[int, int]) -> None:
        nonlocal limits
        limits = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    assert possible_connections(wanted) == possible
    assert limits == (raised_to, hard)


def test_a_limit_on_open_files_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert possible_connections(1000) == 128
