"""The calls of both clients, against a running service."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.main import create_app
from app.service.keys import Keys
from app.service.settings import Settings
from bitcell_client import (
    Accepted,
    AsyncClient,
    Client,
    Conflict,
    Encoder,
    InvalidRequest,
    JobFailed,
    NotFound,
    ServiceError,
    Unauthorized,
    Unreachable,
)
from hashing import HASHERS, make_hasher
from tests.app.service_process import Process
from tests.client.described import CALLS

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
        assert bitcell.encoder_file("lsh") == file.read_bytes()
        made = bitcell.create_encoder("made", "lsh", 12, {"random_state": 3}, dimension=16)
        assert isinstance(made, Encoder)
        assert made.params["random_state"] == 3
        assert bitcell.wait(made) is made
        job = bitcell.create_encoder("itq", "itq", 8, descriptors=X, labels=LABELS)
        assert isinstance(job, Accepted)
        shown = list(bitcell.events(job))
        assert shown[-1].state == "done"
        assert bitcell.wait(job, timeout=60).result == shown[-1].result
        assert [encoder.name for encoder in bitcell.encoders()] == ["itq", "lsh", "made"]
        assert bitcell.encoder("itq").method == "itq"
        assert {method.method for method in bitcell.methods()} == set(HASHERS)
        assert bitcell.datasets()[0] == "digits"
        np.save(tmp_path / "mine.npy", X)
        stored = bitcell.upload_dataset(tmp_path / "mine.npy")
        assert (stored.dataset, stored.items, stored.dimension) == ("mine", len(X), 16)
        assert bitcell.dataset("mine").bytes == (tmp_path / "mine.npy").stat().st_size
        assert bitcell.dataset("digits").bytes is None
        with pytest.raises(Conflict, match="already a dataset 'mine'"):
            bitcell.upload_dataset(tmp_path / "mine.npy")
        bitcell.delete_dataset("mine")
        assert "mine" not in bitcell.datasets()
        (tmp_path / "mine.npy").unlink()
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
        (found,) = bitcell.query("c", X[:1], k=5, payloads=False).results
        assert [(neighbour.distance, neighbour.id) for neighbour in found] == nearest
        filtered = bitcell.query("c", X[:2], k=300, filter={"label": 1}).results
        assert [len(neighbours) for neighbours in filtered] == [100, 100]
        by_id = bitcell.query("c", ids=IDS[:1], k=3, radius=0, rerank=50, rerank_by="bits")
        assert IDS[0] in [neighbour.id for neighbour in by_id.results[0]]
        assert by_id.certificates[0].exact
        meant = bitcell.query("c", X[:1], k=3, calibrated=True, false_match_rate=0.2)
        (certificate,) = meant.certificates
        assert certificate.calibration is not None
        assert certificate.calibration.law == "pairs"
        assert certificate.false_matches is not None
        assert certificate.false_matches.bound <= 0.2
        for neighbour in meant.results[0]:
            assert neighbour.angle is not None
        assert bitcell.item("c", IDS[3]).label == 0
        assert len(bitcell.items("c", limit=7).items) == 7
        assert bitcell.statistics("c").items == len(X)
        bitcell.create_collection("many", n_bits=8)
        many = np.random.default_rng(0).integers(0, 256, (2000, 1), np.uint8)
        bitcell.upsert("many", range(2000), codes=many)
        assert bitcell.accept_drift("many") == bitcell.statistics("many").drift
        bitcell.drop_collection("many")
        assert bitcell.get_or_create_collection("c", "lsh", keep_descriptors=True).items == len(X)
        with pytest.raises(Conflict, match=r"expected collection 'c' to have \{'encoder': 'lsh'"):
            bitcell.get_or_create_collection("c", "lsh")
        where = {"label": 1, "id": {"in": IDS[:150]}}
        assert bitcell.count_items("c", where).count == 50
        page = bitcell.list_items("c", where, limit=3, offset=48)
        assert ([item.id for item in page.items], page.of) == (IDS[148:150], 50)
        changed = bitcell.change_item("c", IDS[4], {"payload": {"tags": ["a", None]}})
        assert changed == bitcell.item("c", IDS[4])
        assert (changed.label, changed.payload) == (0, {"tags": ["a", None]})
        changes: dict[str, dict[str, Any]] = {
            IDS[4]: {"label": None},
            IDS[3]: {"payload": {"tags": ["a"], "n": None}},
        }
        assert bitcell.change_items("c", changes).changed == 2
        assert bitcell.count_items("c", {"tags": {"all": ["a"]}}).count == 2
        assert bitcell.delete_items("c", filter={"tags": {"contains": None}}).deleted == 1
        bitcell.upsert("c", IDS[4:5], X[4:5], LABELS[4:5])
        with pytest.raises(ValueError, match="either ids or filter"):
            bitcell.delete_items("c")
        bitcell.delete_item("c", IDS[3])
        assert bitcell.delete_items("c", IDS[2:5]).deleted == 2
        assert bitcell.collection("c").items == len(X) - 3
        assert [collection.name for collection in bitcell.collections()] == ["c"]

        labelled = {"label": {"lte": 2}}
        search = bitcell.find_duplicates("c", 3, filter=labelled, max_pairs=10**6)
        about = bitcell.wait(search).result
        groups = bitcell.duplicate_groups(search)
        assert about
        assert len(groups) == about["groups"] > 0
        assert len(groups.ids) == about["grouped"]
        for first, second, distance in groups[0].pairs[:20]:
            assert (bits[IDS.index(first)] != bits[IDS.index(second)]).sum() == distance <= 3

        bitcell.wait(bitcell.reencode("c", "itq"))
        assert bitcell.collection("c").n_bits == 8
        snapshot = bitcell.snapshot("c")
        assert snapshot.items == len(X) - 3
        assert bitcell.restore("copy", snapshot.snapshot).items == len(X) - 3
        bitcell.drop_collection("copy")
        copy = tmp_path / "a copy.snapshot"
        bitcell.download_snapshot(snapshot.snapshot, copy)
        (listed,) = bitcell.snapshots()
        assert (listed.snapshot, listed.bytes) == (snapshot.snapshot, copy.stat().st_size)
        uploaded = bitcell.upload_snapshot(copy)
        assert (uploaded.snapshot, uploaded.bytes) == (copy.name, listed.bytes)
        assert bitcell.restore("copy", copy.name, encoder="copied").encoder == "copied"
        bitcell.drop_collection("copy")
        newer = bitcell.snapshot("c", keep=1)
        assert newer.removed == [snapshot.snapshot]
        bitcell.delete_snapshot(newer.snapshot)
        assert [one.snapshot for one in bitcell.snapshots()] == [copy.name]
        with pytest.raises(NotFound, match="no snapshot"):
            bitcell.download_snapshot(newer.snapshot, tmp_path / "none")
        copy.write_bytes(copy.read_bytes()[:-1])
        with pytest.raises(InvalidRequest, match="is damaged"):
            bitcell.upload_snapshot(copy, "cut.snapshot")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a copy.snapshot", file.name]

        started = bitcell.start_benchmark(["lsh"], [8], collection="c", seeds=[0])
        bitcell.wait(started.id)
        table = bitcell.benchmark(started).result
        assert table
        assert 0.3 < table["results"][0]["map"] <= 1
        assert "<html" in bitcell.report(started)
        assert [benchmark.id for benchmark in bitcell.benchmarks()] == [started.id]
        recommended = bitcell.start_recommendation(
            dataset="digits", recall=0.1, methods=["lsh"], max_bits=8, items=200
        )
        assert bitcell.wait(recommended).kind == "recommendation"
        answer = (bitcell.recommendation(recommended).result or {})["answer"]
        assert answer.startswith("Use `lsh` with 8 bits")
        assert answer.replace("`", "") in bitcell.recommendation_report(recommended)
        assert bitcell.make_recommended(recommended, "small").n_bits == 8
        assert [one.id for one in bitcell.recommendations()] == [recommended.id]
        assert bitcell.job(bitcell.job(started)).state == "done"
        assert len(bitcell.jobs(limit=2)) == 2
        bitcell.remove_job(started)

        started = bitcell.start_explanation(dataset="digits", laws=["labels"], items=50)
        bitcell.wait(started)
        explained = bitcell.explanation(started).result
        assert explained
        assert [each["law"]["key"] for each in explained["findings"]] == ["labels"]
        assert "<html" in bitcell.explanation_report(started)
        assert [one.id for one in bitcell.explanations()] == [started.id]
        figures = bitcell.metrics()
    # Every call has been made, and answered without an error.
    for method, path in CALLS:
        route = path.replace("{item_id}", "{item_id:path}")
        answered = f'bitcell_requests_total{{method="{method}",route="{route}",status="2'
        assert answered in figures or path == "/metrics", (method, path)


def own_codes(n_bits: int = 20) -> np.ndarray:
    bits = np.random.default_rng(1).integers(0, 2, (50, n_bits), np.uint8)
    return np.packbits(bits, axis=1)


def test_codes_of_your_own_are_loaded_and_queried(process: Process) -> None:
    codes, ids = own_codes(), IDS[:50]
    in_hex = [code.tobytes().hex() for code in codes]
    bits = np.unpackbits(codes, axis=1)
    distances = (bits[:3, None] != bits).sum(axis=2)
    expected = [
        sorted((d, item) for d, item in zip(row, ids, strict=True) if d <= 8)
        for row in distances.tolist()
    ]
    ways: dict[str, dict[str, Any]] = {
        "packed": {"codes": codes, "labels": LABELS[:50]},
        "hex": {"codes": in_hex, "payloads": [{"n": i} for i in range(50)]},
        "text": {"codes": np.array(in_hex), "labels": LABELS[:50], "payloads": [None] * 50},
    }
    with Client(process.url) as bitcell:
        for name, way in ways.items():
            made = bitcell.create_collection(name, n_bits=20)
            assert (made.encoder, made.fingerprint, made.n_bits) == (None, None, 20)
            assert bitcell.load(name, ids, **way, batch=20) == 50
            assert bitcell.item(name, ids[7]).code == in_hex[7]
            for queries in (codes[:3], in_hex[:3]):
                answer = bitcell.query(name, codes=queries, radius=8)
                found = [[(near.distance, near.id) for near in one] for one in answer.results]
                assert found == expected
                assert answer.codes is None
                assert [cut.within for cut in answer.certificates] == list(map(len, expected))
            filtered = bitcell.query(name, codes=codes[:1], filter={"label": 1}, return_codes=True)
            assert filtered.results == [[]]
            assert filtered.codes == in_hex[:1]
            by_id = bitcell.query(name, ids=ids[:1], k=2, codes=True)
            assert by_id.codes == in_hex[:1]
            assert by_id.results[0][0].code == in_hex[0]
            assert bitcell.upsert(name, [f"new-{name}"], codes=codes[:1]).items == 51
            bitcell.drop_collection(name)
        # By code in a collection that has an encoder.
        bitcell.upload_encoder("own", LSH.to_bytes())
        bitcell.create_collection("coded", "own")
        bitcell.load("coded", IDS, X)
        by_code = bitcell.query("coded", codes=LSH.encode(X[:4]), k=5)
        assert by_code.results == bitcell.query("coded", X[:4], k=5).results
        with pytest.raises(InvalidRequest, match="give descriptors instead of codes"):
            bitcell.upsert("coded", ids, codes=own_codes(20))
        codes = LSH.encode(X[:4])
        assert (
            bitcell.load("coded", list("abcd"), codes=codes, fingerprint=LSH.fingerprint)
            == len(X) + 4
        )
        with pytest.raises(Conflict, match="which has"):
            bitcell.upsert("coded", list("abcd"), codes=codes, fingerprint=64 * "0")
        bitcell.drop_collection("coded")
        bitcell.drop_encoder("own")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 3), np.float32), "got float32 of shape"),
        (np.zeros((2, 20), bool), r"numpy.packbits\(bits, axis=1\)"),
        (np.zeros(2, np.uint64), "got uint64 of shape"),
        (np.zeros(2, np.uint8), "got uint8 of shape"),
        ("00ff00", "expected a list of codes, got '00ff00'"),
        (["00ff00", "00ff"], "of one length"),
        (["00ff00", "00ff0g"], "two digits for each byte"),
        (["00ff0 ", " 0ff00"], "in hex"),
        ([], "got float64"),
    ],
)
def test_codes_of_another_form_are_refused(codes: Any, message: str) -> None:
    with Client("http://127.0.0.1:1", retries=0) as bitcell:
        with pytest.raises(ValueError, match=message):
            bitcell.upsert("c", ["a", "b"], codes=codes)
        with pytest.raises(ValueError, match="either descriptors or codes"):
            bitcell.upsert("c", ["a"])
        with pytest.raises(ValueError, match="either descriptors or codes"):
            bitcell.load("c", IDS, X, codes=own_codes())


def test_there_is_a_call_for_every_operation_of_the_service(tmp_path: Path) -> None:
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    operations = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert set(CALLS) == operations


def test_calls_of_the_async_client_are_awaited(process: Process, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(process.url) as bitcell:
            encoder = await bitcell.create_encoder("async", "lsh", 16, dimension=16)
            assert isinstance(encoder, Encoder)
            await bitcell.create_collection("async", "async", keep_descriptors=True)
            assert await bitcell.load("async", IDS, X, LABELS, batch=100) == len(X)
            queries = [bitcell.query("async", X[i : i + 1], k=1) for i in range(20)]
            answers = await asyncio.gather(*queries)
            assert [answer.results[0][0].distance for answer in answers] == [0] * 20
            assert await bitcell.wait(encoder) is encoder
            job = await bitcell.create_encoder("async2", "itq", 8, collection="async")
            assert isinstance(job, Accepted)
            assert (await bitcell.wait(job, timeout=60)).state == "done"
            assert [shown.state async for shown in bitcell.events(job.id)] == ["done"]
            made, copy = await bitcell.snapshot("async"), tmp_path / "copy.snapshot"
            await bitcell.download_snapshot(made.snapshot, copy)
            assert (await bitcell.upload_snapshot(copy)).bytes == copy.stat().st_size
            np.save(tmp_path / "x.npy", X)
            assert (await bitcell.upload_dataset(tmp_path / "x.npy", "async")).items == len(X)
            await bitcell.delete_dataset("async")
            with pytest.raises(Conflict, match="already a snapshot"):
                await bitcell.upload_snapshot(copy)
            with pytest.raises(NotFound, match="nowhere"):
                await bitcell.query("nowhere", X)
            await bitcell.create_collection("own", n_bits=20)
            assert await bitcell.load("own", IDS[:50], codes=own_codes(), batch=20) == 50
            answer = await bitcell.query("own", codes=own_codes()[:1], k=1)
            assert answer.results[0][0].distance == 0
            with pytest.raises(ValueError, match="per code: 50 codes, 2 ids"):
                await bitcell.upsert("own", IDS[:2], codes=own_codes())

    asyncio.run(run())


def test_wait_raises_why_a_job_failed(process: Process) -> None:
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


def test_errors_have_the_detail_of_the_service(process: Process) -> None:
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
        with pytest.raises(ValueError, match="one of each per descriptor: 300 descriptors, 2 ids"):
            bitcell.upsert("c", IDS[:2], X)
        with pytest.raises(ValueError, match=r"shape \(n, d\), got \(16,\)"):
            bitcell.query("c", X[0])
        with pytest.raises(ValueError, match="one of descriptors, ids, image and codes"):
            bitcell.query("c")
    with Client("http://127.0.0.1:1", retries=0) as bitcell, pytest.raises(Unreachable):
        bitcell.health()


def test_the_key_is_sent(tmp_path: Path) -> None:
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
