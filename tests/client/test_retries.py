"""Retries, errors and batches, against a service that answers as each test says."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from bitcell_client import (
    AsyncClient,
    BitcellError,
    Client,
    Encoder,
    InvalidRequest,
    Job,
    JobFailed,
    NotFound,
    TooMany,
    Unavailable,
    Unreachable,
    __version__,
)

X = np.random.default_rng(0).normal(size=(7, 16)).astype(np.float32)
IDS = [f"item-{i}" for i in range(len(X))]
QUERY: dict[str, Any] = {"results": [[]], "certificates": []}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would sleep; it does not."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("bitcell_client.client.time.sleep", slept.append)
    monkeypatch.setattr("bitcell_client.async_client.asyncio.sleep", sleep)
    return slept


class Scripted:
    """A service that gives the answers of a list, one after the other, or raises them."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers, body = answer
        return httpx2.Response(status, headers=headers, json=body)

    def call(self, make: Callable[[Client], Any], **settings: Any) -> Any:
        with Client("http://x", transport=httpx2.MockTransport(self), **settings) as client:
            return make(client)


BUSY = (503, {"Retry-After": "7"}, {"detail": "full"})
TOO_MANY: tuple[int, dict[str, str], Any] = (429, {}, {"detail": "many"})


def test_safe_calls_are_sent_again(pauses: list[float]) -> None:
    service = Scripted(BUSY, TOO_MANY, httpx2.ReadError("broke"), (200, {}, QUERY))
    service.call(lambda client: client.query("c", X[:1]))
    assert len(service.requests) == 4
    assert pauses[0] == 7
    assert 0.1 <= pauses[1] <= 0.2
    assert 0.2 <= pauses[2] <= 0.4
    # The same request each time.
    assert len({(str(request.url), request.read()) for request in service.requests}) == 1


def test_the_async_client_sends_again_too(pauses: list[float]) -> None:
    service = Scripted(BUSY, (200, {}, {"upserted": 1, "items": 1}))

    async def run() -> None:
        async with AsyncClient("http://x", transport=httpx2.MockTransport(service)) as client:
            assert (await client.upsert("c", ["a"], X[:1])).items == 1

    asyncio.run(run())
    assert pauses == [7]


def test_it_gives_up_after_the_retries_or_when_told_to_wait_long(pauses: list[float]) -> None:
    service = Scripted(*[TOO_MANY] * 3)
    with pytest.raises(TooMany, match="429 Too Many Requests: many"):
        service.call(lambda client: client.collections(), retries=2)
    assert len(pauses) == 2
    service = Scripted((503, {"Retry-After": "3600"}, {"detail": "full"}))
    with pytest.raises(Unavailable):
        service.call(lambda client: client.collections())
    assert len(service.requests) == 1
    service = Scripted((422, {}, {"detail": "no"}))
    with pytest.raises(InvalidRequest):
        service.call(lambda client: client.collections())
    assert len(service.requests) == 1


UNSAFE: dict[str, Callable[[Client], Any]] = {
    "create_encoder": lambda client: client.create_encoder("e", "lsh", 8, dimension=3),
    "start_benchmark": lambda client: client.start_benchmark(["lsh"], dataset="digits"),
    "start_explanation": lambda client: client.start_explanation(dataset="digits"),
    "drop_collection": lambda client: client.drop_collection("c"),
    "snapshot": lambda client: client.snapshot("c"),
    "delete_items": lambda client: client.delete_items("c", ["a"]),
}


@pytest.mark.parametrize("call", UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_call_is_sent_again_only_without_a_connection(
    call: Callable[[Client], Any], pauses: list[float]
) -> None:
    for failure, error in ((httpx2.ReadError("broke"), Unreachable), (BUSY, Unavailable)):
        service = Scripted(failure)
        with pytest.raises(error):
            service.call(call)
        assert len(service.requests) == 1
    service = Scripted(httpx2.ConnectError("no"), TOO_MANY)
    with pytest.raises(TooMany):
        service.call(call)
    assert len(pauses) == 1


def test_a_timeout_is_not_retried(pauses: list[float]) -> None:
    service = Scripted(httpx2.ReadTimeout("slow"))
    with pytest.raises(Unreachable, match="ReadTimeout: slow"):
        service.call(lambda client: client.query("c", X[:1]))
    assert (len(service.requests), pauses) == (1, [])


@pytest.mark.parametrize("content", [b"<html>a proxy</html>", b"", b"PK\x03\x04", b"\xff"])
def test_an_answer_of_something_else_is_an_error_of_the_client(content: bytes) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=content))
    with Client("http://x", transport=transport) as client:
        for call in (client.collections, lambda: client.encode("e", X)):
            with pytest.raises(BitcellError, match="expected an answer of Bitcell, got b'"):
                call()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


CODES = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize(
    "content",
    [
        npy(CODES.astype(float)),
        npy(CODES.astype(np.int8)),
        npy(CODES[0]),
        npy(CODES[None]),
        npy(np.array([["a"]])),
        npy(CODES) + b"more",
        npy(CODES)[:-1],
        npy_header("(10000000000000, 1000)"),
        npy_header("(-1, 3)") + bytes(6),
    ],
)
def test_only_a_matrix_of_the_right_type_is_codes(content: bytes) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=content))
    with (
        Client("http://x", transport=transport) as client,
        pytest.raises(BitcellError, match="expected an answer of Bitcell, got b"),
    ):
        client.encode("e", X)


@pytest.mark.parametrize("codes", [CODES, CODES.T, CODES[:0]])
def test_codes_are_read_as_they_were_written(codes: np.ndarray) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=npy(codes)))
    with Client("http://x", transport=transport) as client:
        read = client.encode("e", X)
    np.testing.assert_array_equal(read, codes)
    assert read.dtype == np.dtype(np.uint8)
    assert read.flags.writeable


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("content", [b"[" * 100_000, b"[NaN]", b"[-Infinity]"])
def test_what_is_no_json_is_an_error_of_the_client(status: int, content: bytes) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=content))
    with (
        Client("http://x", transport=transport) as client,
        pytest.raises(BitcellError, match=r"expected JSON|500 Internal Server Error"),
    ):
        client.collections()


def test_a_pause_that_is_no_number_is_ignored(pauses: list[float]) -> None:
    service = Scripted((503, {b"Retry-After": b"\xb2"}, {}), (200, {}, []))
    assert service.call(lambda client: client.collections()) == []
    assert len(pauses) == 1


def test_a_field_that_is_missing_is_named() -> None:
    service = Scripted((200, {}, [{"name": "e", "method": "lsh", "n_bits": 8}]))
    with pytest.raises(BitcellError, match=r"\[0\]: expected a field 'dimension' of Encoder; it"):
        service.call(lambda client: client.encoders())


def test_an_event_that_is_no_job_is_an_error_of_the_client() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, text='data: {"id": "j"}\n\n'))
    with (
        Client("http://x", transport=transport) as client,
        pytest.raises(BitcellError, match="expected a field 'kind' of Job"),
    ):
        list(client.events("j"))


def test_a_url_needs_a_scheme() -> None:
    with pytest.raises(ValueError, match="expected a URL with http:// or https://, got 'host:8"):
        Client("host:8000")


def test_it_says_who_it_is() -> None:
    service = Scripted((200, {}, []))
    service.call(lambda client: client.collections())
    assert service.requests[0].headers["User-Agent"] == f"bitcell-client/{__version__}"


COLLECTION = {"name": "c", "encoder": "e", "fingerprint": "f", "n_bits": 8, "items": 0}
COLLECTION |= {"keep_descriptors": False}
STORED: list[Any] = [
    (200, {}, COLLECTION),
    *[(200, {}, {"upserted": 2, "items": n}) for n in (2, 4)],
]
PUT = r"\(PUT http://x/v1/collections/c/items\)"
REFUSED = {"detail": "row 1, column 0 is nan", "row": 1}
LOADS: list[Any] = [
    (
        (422, {}, REFUSED),
        f"column 0 is nan {PUT}; this is row 5 of the input; 4 rows are stored$",
        5,
    ),
    ((409, {}, {"detail": "no"}), f"Conflict: no {PUT}; 4 rows are stored$", None),
    ((500, {}, {"detail": "no"}), "; 4 rows are stored; those from 4 to 5 may be stored$", None),
    (
        httpx2.ReadTimeout("slow"),
        f"slow {PUT}; 4 rows are stored; those from 4 to 5 may be st",
        None,
    ),
]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("answer", "message", "row"), LOADS)
def test_an_error_of_load_says_what_is_stored(
    answer: Any, message: str, row: int | None, is_async: bool
) -> None:
    service = Scripted(*STORED, answer)

    async def run() -> None:
        async with AsyncClient("http://x", transport=httpx2.MockTransport(service)) as client:
            await client.load("c", IDS, X, batch=2)

    def load() -> None:
        if is_async:
            asyncio.run(run())
        else:
            service.call(lambda client: client.load("c", IDS, X, batch=2))

    with pytest.raises(BitcellError, match=message) as caught:
        load()
    assert caught.value.stored == 4
    assert getattr(caught.value, "row", None) == row


def test_what_json_cannot_hold_is_named_with_its_row_of_the_whole_input() -> None:
    service, payloads = Scripted(*STORED), [{"a": 1.0} for _ in IDS]
    payloads[5]["a"] = float("nan")
    with pytest.raises(ValueError, match=r"; this is row 5 of the input; 4 rows are stored$"):
        service.call(lambda client: client.load("c", IDS, X, payloads=payloads, batch=2))
    with pytest.raises(ValueError, match=r"JSON compliant.*; in row 5$"):
        service.call(lambda client: client.upsert("c", IDS, X, payloads=payloads))


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("ids", [[*IDS[:6], IDS[3]], [0, 1, 2, 3, 4, 5, "3"]])
def test_an_id_that_occurs_twice_is_refused_whatever_the_batch(batch: int, ids: Any) -> None:
    service = Scripted(*STORED)
    with pytest.raises(ValueError, match=r"ids must be distinct; '(item-)?3' is in rows 3 and 6"):
        service.call(lambda client: client.load("c", ids, X, batch=batch))
    assert service.requests == []


def test_errors_name_the_url_without_its_secrets() -> None:
    url = "http://user:secret@x:81/base"
    call = r"\(GET http://x:81/base/v1/collections/a%2Fb/items\)$"
    moved = (302, {"Location": "/y"}, None)
    answers: list[Any] = [(404, {}, {"detail": "no"}), moved, (200, {}, [])]
    for answer in (*answers, httpx2.ReadTimeout("slow")):
        transport = httpx2.MockTransport(Scripted(answer))
        with (
            Client(url, retries=0, transport=transport) as client,
            pytest.raises(BitcellError, match=call),
        ):
            client.items("a/b", limit=5)
    service = Scripted((404, {}, {"detail": "no"}))
    with pytest.raises(NotFound, match=r"no \(GET http://x/v1/jobs/j/events\)$") as caught:
        service.call(lambda client: list(client.events("j")))
    assert caught.value.detail == "no"


def test_rerank_by_without_rerank_is_refused() -> None:
    with pytest.raises(ValueError, match="rerank_by needs rerank"):
        Scripted().call(lambda client: client.query("c", X, rerank_by="bits"))


def test_long_descriptors_go_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitcell_client.batches._BODY", 8 * 16 * 3)
    collection = {"name": "c", "encoder": "e", "fingerprint": "f", "n_bits": 8, "items": 0}
    upserted: list[Any] = [(200, {}, {"upserted": 1, "items": n}) for n in (3, 6, 7)]
    service = Scripted((200, {}, collection | {"keep_descriptors": False}), *upserted)
    assert service.call(lambda client: client.load("c", IDS, X.astype(np.float64))) == 7
    shapes = [np.load(io.BytesIO(request.read())).shape for request in service.requests[1:]]
    assert shapes == [(3, 16), (3, 16), (1, 16)]


def test_wait_looks_once_more_when_the_time_is_up(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 0.97, 2.0])
    monkeypatch.setattr("bitcell_client.following.time.monotonic", lambda: next(clock))
    running = {"id": "j", "kind": "training", "state": "running", "created": 0, "request": {}}
    service = Scripted(*[(200, {}, running)] * 2, (200, {}, running | {"state": "done"}))
    assert service.call(lambda client: client.wait("j", timeout=1)).state == "done"
    assert pauses == pytest.approx([0.05, 0.03])


LSH = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 3, "params": {}, "fingerprint": "f"}
JOB: dict[str, Any] = {"id": "j", "kind": "training", "created": 0, "request": {}}
STARTED = {"id": "j", "url": "/v1/jobs/j"}


def test_what_create_encoder_returns_can_be_waited_for(pauses: list[float]) -> None:
    """These lines are also checked by mypy: `wait` takes both types that they have."""
    service = Scripted((201, {}, LSH), (202, {}, STARTED), (200, {}, JOB | {"state": "done"}))
    with Client("http://x", transport=httpx2.MockTransport(service)) as client:
        made = client.wait(client.create_encoder("e", "lsh", 8, dimension=3))
        trained = client.wait(client.create_encoder("e", "itq", 8, dataset="digits"))
    assert isinstance(made, Encoder)
    assert made.method == "lsh"
    assert isinstance(trained, Job)
    assert trained.state == "done"
    assert len(service.requests) == 3

    async def run() -> None:
        service = Scripted((201, {}, LSH), (202, {}, STARTED), (200, {}, JOB | {"state": "done"}))
        async with AsyncClient("http://x", transport=httpx2.MockTransport(service)) as client:
            made = await client.wait(await client.create_encoder("e", "lsh", 8, dimension=3))
            assert isinstance(made, Encoder)
            trained = await client.wait(await client.create_encoder("e", "itq", 8, dataset="d"))
            assert isinstance(trained, Job)

    asyncio.run(run())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("is_terminal", "progress", "is_shown"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_wait_shows_progress_where_somebody_sees_it(
    is_async: bool,
    is_terminal: bool,
    progress: bool | None,
    is_shown: bool,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    step: dict[str, Any] = {"done": 1, "of": 3, "now": "fitting " + 100 * "x", "seconds_left": 7.4}
    states: list[dict[str, Any]] = [
        {"state": "queued"},
        {"state": "running", "progress": step},
        {"state": "done"},
    ]
    service = Scripted(*[(200, {}, JOB | state) for state in states])

    async def run() -> None:
        async with AsyncClient("http://x", transport=httpx2.MockTransport(service)) as client:
            await client.wait("j", progress=progress)

    if is_async:
        asyncio.run(run())
    else:
        service.call(lambda client: client.wait("j", progress=progress))
    shown = capsys.readouterr()
    assert shown.out == ""
    line = f"training: running, 1 of 3, fitting {100 * 'x'}"[:79]
    assert shown.err == (f"\rtraining: queued\r{line}\r{79 * ' '}\r" if is_shown else "")


def test_the_line_of_progress_is_gone_after_an_error(
    pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"state": "failed", "error": "no"}
    service = Scripted((200, {}, JOB | {"state": "running"}), (200, {}, JOB | failed))
    with pytest.raises(JobFailed, match="failed: no"):
        service.call(lambda client: client.wait("j", progress=True))
    assert capsys.readouterr().err.endswith(f"\r{len('training: running') * ' '}\r")
