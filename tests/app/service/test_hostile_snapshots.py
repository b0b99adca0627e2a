"""Snapshots from strangers, whose checksums are right: refused, or restored to what can be read.

Each case changes one thing in a snapshot that the service wrote. The restore must answer with a
sentence and leave nothing, or make a collection that every route can read.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load, save

from app.http.problems import _STATUS, problem
from app.main import create_app
from app.service.service import Service
from hashing import make_hasher
from index.storage import snapshot_format
from tests.app.conftest import fill, settings_in
from tests.index import snapshot_blocks

HUGE = [2**63, 2**64, 10**12, 10**4000]
NUMBERS = [*HUGE, -1, 0, 1, 11, 13, 16, 4096, 1 << 20, 12.0, 12.5, 1e999, -1e999, float("nan")]
OTHERS = [None, True, "12", "", [], [12], {}, {"a": 1}]
TEXTS = ["\ud800", "\x00", "a/b", "x" * 100_000, "é"]
DEEP = b'{"a":' * 500 + b"1" + b"}" * 500
# Of the first item; the service refuses each of them.
BAD_IDS = ["", "x" * 257, "\n", "\ud800", "\x00", "..", "a/./b", "b", 1, None, True, ["a"], {}]
BAD_PAYLOADS = [1, "x", [], [1], True, {"a": "x" * 70_000}, {"a": float("nan")}, {"a": 1e999}]
FIELDS = ["n_bits", "name", "encoder", "fingerprint", "keep_descriptors", "descriptor_type"]
FIELDS += ["has_encoder"]
QUERY = {"descriptors": [[1, 2, 3, 4]], "k": 10}


class Hostile:
    """A service with two snapshots, `c` with codes only and `k` with descriptors."""

    def __init__(self, client: TestClient, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.blocks: dict[str, list[bytes]] = {}
        fill(client)
        client.post("/v1/collections", json={"name": "k", "encoder": "e", "keep_descriptors": True})
        items = [
            {"id": letter, "descriptor": [i, 2, -3, 4.5], "label": i, "payload": {"n": [i]}}
            for i, letter in enumerate("abc")
        ]
        assert client.put("/v1/collections/k/items", json={"items": items}).status_code == 200
        for name in "ck":
            file = client.post(f"/v1/collections/{name}/snapshots").json()["snapshot"]
            first, self.encoder_file, *rest = snapshot_blocks.split((folder / file).read_bytes())
            # Without an encoder, unless a test adds one.
            about = json.loads(first) | {"has_encoder": False}
            self.blocks[name] = [json.dumps(about).encode(), *rest]
            (folder / file).unlink()
        self.service: Service = client.app.state.service  # type: ignore[attr-defined]
        self.database = self.service.database
        # Hundreds of restores need not survive a power cut.
        self.database._connection.execute("PRAGMA synchronous = OFF")
        self.encoder = client.get("/v1/encoders/e").json()["fingerprint"]

    def restore(self, data: bytes) -> tuple[int, str]:
        """Return status and detail of a restore, after checks that hold for every file."""
        (self.folder / "x.snapshot").write_bytes(data)
        try:
            self.service.snapshots.restore("d", "x.snapshot")
        except tuple(_STATUS) as error:
            answer = problem(_STATUS[type(error)], str(error))
        else:
            try:
                self.read_everything(self.client.get("/v1/collections/d").json())
            finally:
                self.service.collections.drop("d")
            return 201, ""
        assert [path.name for path in self.folder.iterdir()] == ["x.snapshot"]
        assert [one.name for one in self.service.collections.list()] == ["c", "k"]
        detail = json.loads(bytes(answer.body))["detail"]
        assert len(detail) > 20
        return answer.status_code, detail

    def read_everything(self, shown: dict[str, Any]) -> None:
        """Read a restored collection by every route that can, and compare what they say."""
        call, url = self.client.request, "/v1/collections/d"
        assert shown["fingerprint"] == self.encoder
        listed = call("GET", f"{url}/items").json()
        assert listed["of"] == len(listed["items"]) == shown["items"]
        for item in listed["items"]:
            assert call("GET", f"{url}/items/{quote(item['id'])}").json() == item
        found = [call("POST", f"{url}/query", json=QUERY | more) for more in ({}, {"rerank": 10})]
        for answer in found:
            assert {near["id"] for near in answer.json()["results"][0]} == {
                item["id"] for item in listed["items"]
            }
        answers = [
            call("POST", f"{url}/query", json=QUERY | {"filter": {"n": 1}}),
            call("GET", f"{url}/statistics"),
            call("GET", "/v1/collections"),
            call("GET", "/metrics"),
            written := call("POST", f"{url}/snapshots"),
        ]
        assert {answer.status_code for answer in answers} == {200, 201}, [a.text for a in answers]
        (self.folder / written.json()["snapshot"]).unlink()

    def check_nothing_is_left(self) -> None:
        self.service.collections._store.settle()
        keys = {key for (key,) in self.database.read("SELECT key FROM collections")}
        assert len(keys) == 2
        for table in ("parts", "deaths", "payloads", "descriptors", "vectors"):
            rows = self.database.read(f"SELECT collection FROM {table}")
            assert {key for (key,) in rows} <= keys


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    settings = settings_in(tmp_path_factory.mktemp("hostile"))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        hostile = Hostile(client, settings.data_dir / "snapshots")
        yield hostile
        hostile.check_nothing_is_left()


@pytest.mark.parametrize("name", ["c", "k"])
def test_what_is_written_is_restored(hostile: Hostile, name: str) -> None:
    assert hostile.restore(snapshot_blocks.join(hostile.blocks[name]))[0] == 201


def expected(field: str, value: Any, *, has_items: bool) -> int:
    """Return the status of a restore whose description has this value in a field."""
    if field == "name" and value in (None, "12"):
        return 201  # Files of the first versions have no name, and the name is not used.
    if field == "descriptor_type" and value is None:
        return 201
    if field == "has_encoder" and value is False:
        return 201
    if field == "encoder" and value == "":
        return 422  # Without an encoder there is no fingerprint.
    if field in ("encoder", "fingerprint") and value in ("12", "", "\x00", "a/b", "é"):
        return {"encoder": 404, "fingerprint": 409}[field]
    return 422


@pytest.mark.parametrize("field", FIELDS)
def test_a_description_that_says_anything_else_is_refused(hostile: Hostile, field: str) -> None:
    first, *rest = hostile.blocks["c"]
    about = json.loads(first)
    for value in [*NUMBERS, *OTHERS, *TEXTS]:
        changed = json.dumps(about | {field: value}).encode()
        # Without items, nothing else contradicts it.
        for items in (rest, []):
            status, _ = hostile.restore(snapshot_blocks.join([changed, *items]))
            assert (value, status) == (value, expected(field, value, has_items=bool(items)))
    del about[field]
    status, _ = hostile.restore(snapshot_blocks.join([json.dumps(about).encode(), *rest]))
    assert status == (201 if field == "name" else 422)


def test_a_description_of_given_codes_says_nothing_of_an_encoder(hostile: Hostile) -> None:
    about = json.loads(hostile.blocks["c"][0])
    given = about | {"encoder": "", "fingerprint": ""}
    for change, status in (
        ({"n_bits": 4096}, 201),
        ({"n_bits": 4097}, 422),
        ({"n_bits": 65536}, 422),
        ({"keep_descriptors": True}, 422),
        ({"keep_descriptors": True, "descriptor_type": "float32"}, 422),
        ({"has_encoder": True}, 422),
        ({"fingerprint": "f"}, 422),
    ):
        data = snapshot_blocks.join([json.dumps(given | change).encode()])
        (hostile.folder / "x.snapshot").write_bytes(data)
        answer = hostile.client.post("/v1/collections/d/restore", json={"snapshot": "x.snapshot"})
        assert (change, answer.status_code) == (change, status)
        if status == 201:
            assert answer.json()["n_bits"] == 4096
            hostile.service.collections.drop("d")


@pytest.mark.parametrize(
    "first", [b"", b"abc", b"null", b"[]", b"{}", b"\xff\xfe", DEEP, b"[" * 50_000, b" " * 100_000]
)
def test_a_first_block_that_is_no_description_is_refused(hostile: Hostile, first: bytes) -> None:
    _, *rest = hostile.blocks["c"]
    assert hostile.restore(snapshot_blocks.join([first, *rest]))[0] == 422


def changed_items(blocks: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield what is wrong, and blocks with items that the service would refuse."""
    about, block = blocks
    texts, codes, labels, descriptors = columns = snapshot_blocks.columns(block)
    ids, payloads = json.loads(texts)

    def with_texts(text: bytes) -> list[bytes]:
        return [about, snapshot_blocks.block_of([text, codes, labels, descriptors])]

    for bad in BAD_IDS:
        yield f"id {bad!r:.40}", with_texts(json.dumps([[bad, *ids[1:]], payloads]).encode())
    for bad in BAD_PAYLOADS:
        yield f"payload {bad!r:.40}", with_texts(json.dumps([ids, [bad, *payloads[1:]]]).encode())
    for levels in (101, 500, 985, 50_000):
        deep = b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
        text = json.dumps(ids).encode() + b",[" + deep + b",null,null"
        yield f"{levels} levels", with_texts(b"[" + text + b"]]")
    for text in (b"", b"[]", b"{}", b"[[],[]]", b"[1,2]", texts[:-1], texts + b" 1", texts + texts):
        yield f"texts {text!r:.40}", with_texts(text)
    for text in (b"\xff" + texts, texts.decode().encode("utf-16"), b"[" * 100_000, b"\xed\xa0\x80"):
        yield f"bytes {text!r:.40}", with_texts(text)
    for place, column in enumerate(columns):
        # Labels of 0xff are -1, which is allowed.
        wrong = (b"\x80" if place == 2 else b"\xff") * len(column)
        for other in (column[:-1], column + b"\0", column + column, b"", wrong):
            if other != column:
                changed = [*columns[:place], other, *columns[place + 1 :]]
                yield f"column {place} {other!r:.40}", [about, snapshot_blocks.block_of(changed)]
    for length in (1, 2**31, 2**63, 2**64 - 1):
        yield f"a column of {length}", [about, struct.pack("<Q", length) + block[8:]]
    last = len(block) - len(descriptors) - 8
    for length in (1 + len(descriptors), 2**63, 2**64 - 1):
        patched = block[:last] + struct.pack("<Q", length) + block[last + 8 :]
        yield f"a last column of {length}", [about, patched]
    yield "three columns", [about, snapshot_blocks.block_of(columns[:3])]
    yield "five columns", [about, snapshot_blocks.block_of([*columns, b""])]
    yield "many empty columns", [about, bytes(8 * 1000)]
    yield "three bytes", [about, b"abc"]
    yield "the same items again", [about, block, block]
    label = struct.pack("<q", -2)
    yield (
        "a label of -2",
        [
            about,
            snapshot_blocks.block_of([texts, codes, label + labels[8:], descriptors]),
        ],
    )
    yield "too many items", [about, many_items(len(codes) // len(ids), len(descriptors))]


def many_items(size: int, descriptors: int) -> bytes:
    n = 4097
    texts = json.dumps([[f"{i}" for i in range(n)], [None] * n]).encode()
    kept = bytes(descriptors // 3 * n)
    return snapshot_blocks.block_of([texts, bytes(size * n), bytes(8 * n), kept])


@pytest.mark.parametrize("name", ["c", "k"])
def test_items_that_a_put_would_refuse_are_refused(hostile: Hostile, name: str) -> None:
    cases = list(changed_items(hostile.blocks[name]))
    assert len(cases) > 50
    for what, blocks in cases:
        status, detail = hostile.restore(snapshot_blocks.join(blocks))
        assert (what, status, detail) == (what, 422, detail)


def test_descriptors_of_another_dimension_or_that_are_not_finite_are_refused(
    hostile: Hostile,
) -> None:
    about, block = hostile.blocks["k"]
    columns = snapshot_blocks.columns(block)
    for kept in (
        np.zeros((3, 5)),
        np.zeros((3, 1)),
        np.full((3, 4), np.nan),
        np.full((3, 4), np.inf),
    ):
        changed = [*columns[:3], kept.astype("<f2").tobytes()]
        status, _ = hostile.restore(
            snapshot_blocks.join([about, snapshot_blocks.block_of(changed)])
        )
        assert status == 422


def test_a_payload_as_deep_as_is_allowed_can_be_read(hostile: Hostile) -> None:
    about, block = hostile.blocks["c"]
    columns = snapshot_blocks.columns(block)
    for payload in (b'{"n":' * 100 + b"1" + b"}" * 100, b'{"\\ud800":"\\udfff"}', b'{"n":[{}]}'):
        text = b'[["a","b","c"],[' + payload + b",null,null]]"
        data = snapshot_blocks.join([about, snapshot_blocks.block_of([text, *columns[1:]])])
        assert hostile.restore(data)[0] == 201


def flips(hostile: Hostile, n: int) -> Iterator[bytes]:
    """Yield files with up to three bytes changed in a block, whose checksums are right."""
    rng = np.random.default_rng(0)
    for i in range(n):
        blocks = list(hostile.blocks["ck"[i % 2]])
        place = int(rng.integers(len(blocks)))
        changed = bytearray(blocks[place])
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
        if i % 5 == 0:
            del changed[int(rng.integers(len(changed))) :]
        blocks[place] = bytes(changed)
        yield snapshot_blocks.join(blocks)


def check_flips(hostile: Hostile, n: int) -> None:
    statuses = {hostile.restore(data)[0] for data in flips(hostile, n)}
    assert {201, 422} <= statuses <= {201, 404, 409, 422}


def test_changed_bytes_are_refused_or_harmless(hostile: Hostile) -> None:
    check_flips(hostile, 30)


@pytest.mark.slow
def test_many_changed_bytes_are_refused_or_harmless(hostile: Hostile) -> None:
    check_flips(hostile, 2000)


def encoder_with(header: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    """Return an encoder file with this header of ours and these arrays."""
    return save(arrays, metadata={"bitcell": json.dumps(header)})


def hostile_encoders(file: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what is wrong, and an encoder file that the service would refuse."""
    size = int.from_bytes(file[:8], "little")
    header = json.loads(json.loads(file[8 : 8 + size])["__metadata__"]["bitcell"])
    arrays = load(file)
    yield "no encoder", b"abc"
    yield "a pickle", pickle.dumps(header)
    yield "a header of 2**63 bytes", (2**63).to_bytes(8, "little") + file[8:]
    yield "half", file[: len(file) // 2]
    yield "another method", encoder_with(header | {"method": "none"}, arrays)
    yield "a newer format", encoder_with(header | {"format": 99}, arrays)
    yield "a claimed dimension", encoder_with(header | {"n_features": 10**9}, arrays)
    for params in ({"n_bits": 10**9}, {"n_bits": 13}, {"n_bits": "12"}, {"none": 1}):
        changed = header | {"params": header["params"] | params}
        yield f"params {params}", encoder_with(changed, arrays)
    yield "no arrays", encoder_with(header, {})
    first = sorted(arrays)[0]
    for other in (np.full_like(arrays[first], np.nan), np.zeros((1, 1), np.float32)):
        yield f"array {other.ravel()[0]}", encoder_with(header, arrays | {first: other})
    changed = arrays | {first: arrays[first] + 1}
    yield "another fingerprint", encoder_with(header, changed)
    other_hasher = make_hasher("lsh", n_bits=12, random_state=9).fit(np.eye(4))
    yield "another encoder", other_hasher.to_bytes()


@pytest.mark.parametrize("is_there", [True, False])
def test_an_encoder_that_an_upload_would_refuse_is_refused(
    hostile: Hostile, is_there: bool
) -> None:
    about, items = hostile.blocks["c"]
    name = "e" if is_there else "f"
    first = json.dumps(json.loads(about) | {"has_encoder": True, "encoder": name}).encode()
    for what, file in hostile_encoders(hostile.encoder_file):
        status, detail = hostile.restore(snapshot_blocks.join([first, file, items]))
        assert (what, status, detail) == (what, 422, detail)
        assert [one.name for one in hostile.service.encoders.list()] == ["e"]
    for blocks in ([first], [first, items], [first, hostile.encoder_file, items[:-1]]):
        assert hostile.restore(snapshot_blocks.join(blocks))[0] == 422
        assert [one.name for one in hostile.service.encoders.list()] == ["e"]
    whole = snapshot_blocks.join([first, hostile.encoder_file, items])
    assert hostile.restore(whole)[0] == 201
    if not is_there:
        hostile.service.encoders.drop("f")


def test_a_huge_encoder_is_refused_before_it_is_parsed(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_format, "MAX_ENCODER", len(hostile.encoder_file) - 1)
    about, items = hostile.blocks["c"]
    first = json.dumps(json.loads(about) | {"has_encoder": True}).encode()
    whole = snapshot_blocks.join([first, hostile.encoder_file, items])
    status, detail = hostile.restore(whole)
    assert status == 422
    assert "its encoder has" in detail


@pytest.mark.parametrize("payload", ['{"a":' * 300 + "1" + "}" * 300, '{"half":"\\ud800"}'])
def test_payloads_of_earlier_versions_can_be_read_by_every_route(
    hostile: Hostile, payload: str
) -> None:
    """A snapshot with the deep one is refused when it is written: it could not be restored."""
    client = hostile.client
    collection: Any = hostile.service.collections.create("d", "e")
    words = np.zeros((1, 1), np.uint64)
    collection._state.put(["a"], words, np.array([-1]), [payload], None)
    url = "/v1/collections/d"
    shown = client.get(f"{url}/items/a").json()
    assert client.get(f"{url}/items").json()["items"] == [shown]
    (near,) = client.post(f"{url}/query", json=QUERY).json()["results"][0]
    assert near["payload"] == shown["payload"]
    answer = client.post(f"{url}/snapshots")
    if "half" in payload:
        assert shown["payload"] == {"half": "\ufffd"}
        (hostile.folder / answer.json()["snapshot"]).unlink()
    else:
        assert shown["payload"] == json.loads(payload)
        assert answer.status_code == 422
        assert "that of item 'a' has more" in answer.json()["detail"]
        assert not list(hostile.folder.glob("d-*"))
    assert client.delete(url).status_code == 204


def test_json_that_is_large_once_parsed_takes_little_memory(hostile: Hostile) -> None:
    """A list of 9 MB of empty objects takes 220 MB if it is parsed as a whole."""
    import tracemalloc

    about, block = hostile.blocks["c"]
    columns = snapshot_blocks.columns(block)
    bomb = b'[["a","b","c"],[{"a":[' + b"{}," * 3_000_000 + b"1]},null,null]]"
    data = snapshot_blocks.join([about, snapshot_blocks.block_of([bomb, *columns[1:]])])
    tracemalloc.start()
    try:
        status, _ = hostile.restore(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 422
    assert peak < 60 << 20
