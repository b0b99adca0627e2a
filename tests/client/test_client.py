"""The client, against a service that runs, and against one that fails as it is told."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.client import (
    AsyncClient,
    BitcellError,
    Client,
    Conflict,
    InvalidRequest,
    JobFailed,
    NotFound,
    ServiceError,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from app.client.calls import Call, Calls
from app.client.connection import EVENTS
from app.http.schemas import Accepted, EncoderOut
from app.main import create_app
from app.service.keys import Keys
from app.service.settings import Settings
from hashing import HASHERS, make_hasher
from tests.app.http.test_serving import Process
from tests.test_imports import imported_by

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 16)) + 4 * np.eye(3, 16).repeat(100, 0)).astype(np.float32)
LABELS = np.repeat(np.arange(3), 100)
IDS = [f"item/{i} ü?" for i in range(len(X))]
LSH = make_hasher("lsh", n_bits=20, random_state=0).fit(X)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder: Path = tmp_path_factory.mktemp("client")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "bad.npz").write_bytes(b"no zip")
    process = Process(folder, BITCELL_DEMO="false")
    yield process
    process.stop()


def test_every_call_works(process: Process, tmp_path: Path) -> None:
    with Client(process.url) as bitcell:
        assert bitcell.health() == {"status": "ok"}
        assert bitcell.ready()["status"] == "ready"
        file = tmp_path / "lsh.safetensors"
        LSH.save(file)
        assert bitcell.upload_encoder("lsh", file.read_bytes()).n_bits == 20
        made = bitcell.create_encoder("made", "lsh", 12, {"random_state": 3}, dimension=16)
        assert isinstance(made, EncoderOut)
        assert made.params["random_state"] == 3
        job = bitcell.create_encoder("itq", "itq", 8, descriptors=X, labels=LABELS)
        assert isinstance(job, Accepted)
        shown = list(bitcell.events(job))
        assert shown[-1].state == "done"
        assert bitcell.wait(job, timeout=60).result == shown[-1].result
        assert [encoder.name for encoder in bitcell.encoders()] == ["itq", "lsh", "made"]
        assert bitcell.encoder("itq").method == "itq"
        assert {found.method for found in bitcell.methods()} == set(HASHERS)
        assert bitcell.datasets()[0] == "digits"
        image = io.BytesIO()
        Image.fromarray(RNG.integers(0, 255, (32, 32, 3), np.uint8)).save(image, "png")
        gist = bitcell.gist([image.getvalue()] * 2)
        assert gist.shape == (2, 384)
        assert gist.dtype == np.float32
        bitcell.create_encoder("gist", "lsh", 24, dimension=384)
        bitcell.create_collection("pictures", "gist")
        bitcell.upsert("pictures", ["one"], gist[:1])
        answer = bitcell.query("pictures", image=image.getvalue(), codes=True)
        assert answer.results[0][0].distance == 0
        assert answer.codes == [bitcell.encode("gist", gist[:1]).tobytes().hex()]
        bitcell.drop_collection("pictures")
        bitcell.drop_encoder("gist")
        bitcell.drop_encoder("made")
        codes = bitcell.encode("lsh", X)
        assert codes.dtype == np.uint8
        np.testing.assert_array_equal(codes, LSH.encode(X))

        assert bitcell.create_collection("c", "lsh", keep_descriptors=True).items == 0
        payloads = [{"n": i} for i in range(10)]
        assert bitcell.upsert("c", IDS[:10], X[:10], LABELS[:10], payloads).items == 10
        third = bitcell.item("c", IDS[3])
        assert (third.label, third.payload) == (LABELS[3], {"n": 3})
        for path in ("", ".", ".."):
            with pytest.raises(ValueError, match="cannot stand for item"):
                bitcell.delete_item("c", path)
        assert bitcell.load("c", IDS, X, LABELS, batch=70) == len(X)
        bits = np.unpackbits(codes, axis=1)
        distances = (bits[:1] != bits).sum(1)
        nearest = sorted(zip(distances.tolist(), IDS, strict=True))[:5]
        (near,) = bitcell.query("c", X[:1], k=5, payloads=False).results
        assert [(one.distance, one.id) for one in near] == nearest
        ones = bitcell.query("c", X[:2], k=300, filter={"label": 1}).results
        assert [len(one) for one in ones] == [100, 100]
        by_id = bitcell.query("c", ids=IDS[:1], k=3, radius=0, rerank=50, rerank_by="bits")
        assert IDS[0] in [one.id for one in by_id.results[0]]
        assert by_id.certificates[0].exact
        assert bitcell.item("c", IDS[3]).label == 0
        assert len(bitcell.items("c", limit=7).items) == 7
        assert bitcell.statistics("c").items == len(X)
        bitcell.delete_item("c", IDS[3])
        assert bitcell.delete_items("c", IDS[2:5]).deleted == 2
        assert bitcell.collection("c").items == len(X) - 3
        assert [collection.name for collection in bitcell.collections()] == ["c"]

        bitcell.wait(bitcell.reencode("c", "itq"))
        assert bitcell.collection("c").n_bits == 8
        kept = bitcell.snapshot("c")
        assert bitcell.restore("copy", kept.snapshot).items == kept.items == len(X) - 3
        bitcell.drop_collection("copy")

        started = bitcell.start_benchmark(["lsh"], [8], collection="c", seeds=[0])
        bitcell.wait(started.id)
        table = bitcell.benchmark(started.id).result
        assert table
        assert 0.3 < table["results"][0]["map"] <= 1
        assert "<html" in bitcell.report(started.id)
        assert [one.id for one in bitcell.benchmarks()] == [started.id]
        assert bitcell.job(started.id).state == "done"
        assert len(bitcell.jobs(limit=2)) == 2
        bitcell.remove_job(started.id)
        figures = bitcell.metrics()
    # Whatever there is in the document has been called, and answered well.
    for method, path in calls():
        route = path.replace("{item_id}", "{item_id:path}")
        answered = f'bitcell_requests_total{{method="{method}",route="{route}",status="2'
        assert answered in figures or path == "/metrics", (method, path)


def calls() -> set[tuple[str, str]]:
    methods = [found for found in vars(Calls).values() if isinstance(found, Call)]
    return {(call.method, call.path) for call in methods} | {("GET", EVENTS)}


def test_every_operation_of_the_document_is_a_call(tmp_path: Path) -> None:
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    operations = {(method.upper(), path) for path, of in paths.items() for method in of}
    assert calls() == operations


def test_all_of_it_is_awaited_by_the_async_client(process: Process) -> None:
    async def run() -> None:
        async with AsyncClient(process.url) as bitcell:
            encoder = await bitcell.create_encoder("async", "lsh", 16, dimension=16)
            assert isinstance(encoder, EncoderOut)
            await bitcell.create_collection("async", "async", keep_descriptors=True)
            assert await bitcell.load("async", IDS, X, LABELS, batch=100) == len(X)
            asked = [bitcell.query("async", X[i : i + 1], k=1) for i in range(20)]
            answers = await asyncio.gather(*asked)
            assert [answer.results[0][0].distance for answer in answers] == [0] * 20
            job = await bitcell.create_encoder("async2", "itq", 8, collection="async")
            assert isinstance(job, Accepted)
            assert (await bitcell.wait(job, timeout=60)).state == "done"
            assert [shown.state async for shown in bitcell.events(job.id)] == ["done"]
            with pytest.raises(NotFound, match="nowhere"):
                await bitcell.query("nowhere", X)

    asyncio.run(run())


def test_a_job_that_fails_says_why(process: Process) -> None:
    with Client(process.url) as bitcell:
        job = bitcell.create_encoder("bad", "itq", 8, dataset="bad")
        assert isinstance(job, Accepted)
        with pytest.raises(JobFailed, match=r"training\) failed: .*bad\.npz") as caught:
            bitcell.wait(job)
        assert caught.value.job.state == "failed"
        job = bitcell.start_benchmark(["lsh"], range(8, 58), dataset="digits")
        bitcell.remove_job(job.id)
        with pytest.raises(JobFailed, match=r"benchmark\) cancelled$"):
            bitcell.wait(job)


def test_errors_say_what_the_service_said(process: Process) -> None:
    with Client(process.url) as bitcell:
        with pytest.raises(NotFound, match="there is no encoder 'none'"):
            bitcell.encode("none", X)
        with pytest.raises(InvalidRequest, match="n_bits") as caught:
            bitcell.create_encoder("bad", "lsh", 0, dimension=3)
        assert caught.value.status == 422
        assert caught.value.request_id
        bitcell.create_encoder("twice", "lsh", 8, dimension=3)
        with pytest.raises(Conflict, match="twice"):
            bitcell.create_encoder("twice", "lsh", 8, dimension=3)
        with pytest.raises(NotFound):
            list(bitcell.events("none"))
        with pytest.raises(ValueError, match="one a descriptor: 300"):
            bitcell.upsert("c", IDS[:2], X)
        with pytest.raises(ValueError, match=r"shape \(n, d\), got \(16,\)"):
            bitcell.query("c", X[0])
        with pytest.raises(ValueError, match="one of descriptors, ids and image"):
            bitcell.query("c")
    with Client("http://127.0.0.1:1", retries=0) as nobody, pytest.raises(Unreachable):
        nobody.health()


def test_keys(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    _, secret = keys.create("one", "read")
    keys.close()
    process = Process(tmp_path, BITCELL_DEMO="false")
    try:
        with Client(process.url, secret) as bitcell:
            assert bitcell.collections() == []
            with pytest.raises(ServiceError, match="may only read"):
                bitcell.create_encoder("e", "lsh", 8, dimension=3)
        with Client(process.url) as bitcell, pytest.raises(Unauthorized):
            bitcell.collections()
    finally:
        process.stop()


QUERY: dict[str, Any] = {"results": [[]], "certificates": []}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would be slept, in place of sleeping."""
    slept: list[float] = []

    async def asleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("app.client.connection.time.sleep", slept.append)
    monkeypatch.setattr("app.client.connection.asyncio.sleep", asleep)
    return slept


class Failing:
    """A service that answers with what it is given, one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer[0], headers=answer[1], json=answer[2])

    def call(self, make: Callable[[Client], Any], **settings: Any) -> Any:
        with Client("http://x", transport=httpx2.MockTransport(self), **settings) as client:
            return make(client)


BUSY = (503, {"Retry-After": "7"}, {"detail": "full"})
TOO_MANY: tuple[int, dict[str, str], Any] = (429, {}, {"detail": "many"})


def test_what_is_safe_is_sent_again_when_it_may(pauses: list[float]) -> None:
    service = Failing(BUSY, TOO_MANY, httpx2.ReadError("broke"), (200, {}, QUERY))
    service.call(lambda client: client.query("c", X[:1]))
    assert len(service.asked) == 4
    assert pauses[0] == 7
    assert 0.1 <= pauses[1] <= 0.2
    assert 0.2 <= pauses[2] <= 0.4
    # The same request each time.
    assert len({(str(one.url), one.read()) for one in service.asked}) == 1


def test_the_async_client_does_so_too(pauses: list[float]) -> None:
    service = Failing(BUSY, (200, {}, {"upserted": 1, "items": 1}))

    async def run() -> None:
        async with AsyncClient("http://x", transport=httpx2.MockTransport(service)) as client:
            assert (await client.upsert("c", ["a"], X[:1])).items == 1

    asyncio.run(run())
    assert pauses == [7]


def test_it_gives_up_and_says_why(pauses: list[float]) -> None:
    service = Failing(*[TOO_MANY] * 3)
    with pytest.raises(TooMany, match="429 Too Many Requests: many"):
        service.call(lambda client: client.collections(), retries=2)
    assert len(pauses) == 2
    service = Failing((503, {"Retry-After": "3600"}, {"detail": "full"}))
    with pytest.raises(Unavailable):
        service.call(lambda client: client.collections())
    assert len(service.asked) == 1
    service = Failing((422, {}, {"detail": "no"}))
    with pytest.raises(InvalidRequest):
        service.call(lambda client: client.collections())
    assert len(service.asked) == 1


UNSAFE: dict[str, Callable[[Client], Any]] = {
    "create_encoder": lambda client: client.create_encoder("e", "lsh", 8, dimension=3),
    "start_benchmark": lambda client: client.start_benchmark(["lsh"], dataset="digits"),
    "drop_collection": lambda client: client.drop_collection("c"),
    "snapshot": lambda client: client.snapshot("c"),
    "delete_items": lambda client: client.delete_items("c", ["a"]),
}


@pytest.mark.parametrize("call", UNSAFE.values(), ids=UNSAFE)
def test_what_may_have_gone_through_is_not_sent_again(
    call: Callable[[Client], Any], pauses: list[float]
) -> None:
    for failure, error in ((httpx2.ReadError("broke"), Unreachable), (BUSY, Unavailable)):
        service = Failing(failure)
        with pytest.raises(error):
            service.call(call)
        assert len(service.asked) == 1
    # Without a connection nothing can have.
    service = Failing(httpx2.ConnectError("no"), TOO_MANY)
    with pytest.raises(TooMany):
        service.call(call)
    assert len(pauses) == 1


def test_what_takes_too_long_is_not_asked_for_twice(pauses: list[float]) -> None:
    service = Failing(httpx2.ReadTimeout("slow"))
    with pytest.raises(Unreachable, match="ReadTimeout: slow"):
        service.call(lambda client: client.query("c", X[:1]))
    assert (len(service.asked), pauses) == (1, [])


def test_an_answer_of_something_else_is_an_error_of_the_client() -> None:
    page = httpx2.MockTransport(lambda _: httpx2.Response(200, text="<html>a proxy</html>"))
    with Client("http://x", transport=page) as client:
        for call in (client.collections, lambda: client.encode("e", X)):
            with pytest.raises(BitcellError, match="expected an answer of Bitcell, got b'<html>"):
                call()
    with pytest.raises(ValueError, match="expected a URL with http:// or https://, got 'host:8"):
        Client("host:8000")


def test_long_descriptors_go_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.connection._BODY", 8 * 16 * 3)
    about = {"name": "c", "encoder": "e", "fingerprint": "f", "n_bits": 8, "items": 0}
    upserted: list[Any] = [(200, {}, {"upserted": 1, "items": n}) for n in (3, 6, 7)]
    service = Failing((200, {}, about | {"keep_descriptors": False}), *upserted)
    assert service.call(lambda client: client.load("c", IDS[:7], X[:7].astype(np.float64))) == 7
    heads = [np.load(io.BytesIO(one.read())).shape for one in service.asked[1:]]
    assert heads == [(3, 16), (3, 16), (1, 16)]


def test_a_job_is_looked_at_once_more_when_the_time_is_up(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 0.97, 2.0])
    monkeypatch.setattr("app.client.connection.time.monotonic", lambda: next(clock))
    running = {"id": "j", "kind": "training", "state": "running", "created": 0, "request": {}}
    service = Failing(*[(200, {}, running)] * 2, (200, {}, running | {"state": "done"}))
    assert service.call(lambda client: client.wait("j", timeout=1)).state == "done"
    assert pauses == pytest.approx([0.05, 0.03])


def test_it_loads_nothing_of_the_service() -> None:
    heavy = {"fastapi", "starlette", "uvicorn", "faiss", "scipy", "sklearn", "torch", "hashing"}
    assert not imported_by("import app.client") & (heavy | {"index", "sqlite3"})
