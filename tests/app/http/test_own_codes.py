"""Collections without an encoder: items and queries come with codes, as hex or packed in npy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.main import create_app
from app.service.service import Service
from app.service.settings import Settings
from hashing import make_hasher
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy, without_effort
from tests.app.problems import assert_problem

URL = "/v1/collections/c"


def random_codes(rng: np.random.Generator, n: int, n_bits: int) -> NDArray[np.uint8]:
    """Return codes in clusters, packed, with clear padding bits."""
    centres = rng.integers(0, 2, (20, n_bits), np.uint8)
    bits = centres[rng.integers(0, 20, n)] ^ (rng.random((n, n_bits)) < 0.1)
    return np.packbits(bits, axis=1)


def as_hex(codes: NDArray[np.uint8]) -> list[str]:
    return [code.tobytes().hex() for code in codes]


def put(client: TestClient, codes: NDArray[np.uint8], how: str) -> Any:
    """Put codes as the items 0 to n - 1, the number modulo 3 their label."""
    ids, labels = np.arange(len(codes)).astype(str), np.arange(len(codes)) % 3
    if how == "npy":
        return client.put(f"{URL}/items", content=npy(codes, ids, labels), headers=NPY)
    items = [
        {"id": item_id, "code": code, "label": label, "payload": {"place": int(item_id)}}
        for item_id, code, label in zip(ids.tolist(), as_hex(codes), labels.tolist(), strict=True)
    ]
    return client.put(f"{URL}/items", json={"items": items})


def expected(
    codes: NDArray[np.uint8], query: NDArray[np.uint8], radius: int, label: int | None = None
) -> list[tuple[int, str]]:
    """Return distances and ids within a radius, by counting bits in Python."""
    found = [
        (sum((a ^ b).bit_count() for a, b in zip(code, query.tolist(), strict=True)), str(place))
        for place, code in enumerate(codes.tolist())
        if label is None or place % 3 == label
    ]
    return sorted(pair for pair in found if pair[0] <= radius)


@pytest.mark.parametrize("n_bits", [1, 12, 64, 256, 4096])
@pytest.mark.parametrize("how", ["hex", "npy"])
def test_answers_equal_those_of_counting_bits(client: TestClient, n_bits: int, how: str) -> None:
    rng = np.random.default_rng(n_bits)
    codes = random_codes(rng, 150, n_bits)
    made = client.post("/v1/collections", json={"name": "c", "n_bits": n_bits})
    assert made.status_code == 201
    about = {"name": "c", "encoder": None, "fingerprint": None, "n_bits": n_bits, "items": 0}
    assert made.json() == about | {
        "keep_descriptors": False,
        "descriptor_type": None,
        "ranking": "hamming",
        "metric": None,
    }
    assert put(client, codes, how).json() == {"upserted": 150, "items": 150}
    queries, radius = codes[::50], n_bits // 4
    body: dict[str, Any] = {"codes": as_hex(queries), "radius": radius, "return_codes": True}
    answer = client.post(f"{URL}/query", json=body).json()
    assert answer["codes"] == body["codes"]
    for query, found, certificate in zip(
        queries, answer["results"], answer["certificates"], strict=True
    ):
        near = expected(codes, query, radius)
        assert [(one["distance"], one["id"]) for one in found] == near
        assert [one["code"] for one in found] == as_hex(codes[[int(i) for _, i in near]])
        assert certificate["exact"]
        assert (certificate["within"], certificate["truncated"]) == (len(near), False)
    by_npy = f"{URL}/query?radius={radius}&return_codes=true"
    same = client.post(by_npy, content=npy(queries), headers=NPY).json()
    assert without_effort(same) == without_effort(answer)
    by_id = client.post(f"{URL}/query", json={"ids": ["0", "50", "100"], "radius": radius}).json()
    assert [len(found) for found in by_id["results"]] == list(map(len, answer["results"]))
    (found,) = client.post(
        f"{URL}/query", json={"codes": as_hex(codes[:1]), "k": 150, "filter": {"label": 2}}
    ).json()["results"]
    assert [(one["distance"], one["id"]) for one in found] == expected(codes, codes[0], 4096, 2)


@pytest.fixture
def own(client: TestClient) -> Iterator[TestClient]:
    """A collection `c` of four codes of 12 bits; no request may change it."""
    client.post("/v1/collections", json={"name": "c", "n_bits": 12})
    codes = np.array([[0, 0], [0, 16], [0, 48], [255, 240]], np.uint8)
    assert put(client, codes, "hex").status_code == 200
    before = client.get(f"{URL}/items").json()
    yield client
    assert client.get(f"{URL}/items").json() == before


def test_items_have_the_code_that_was_given(own: TestClient) -> None:
    assert own.get(f"{URL}/items/2").json() == {
        "id": "2",
        "code": "0030",
        "label": 2,
        "payload": {"place": 2},
    }
    statistics = own.get(f"{URL}/statistics").json()
    assert statistics["bits"]["ones"] == [0.25] * 10 + [0.5, 0.75]
    assert statistics["buckets"]["codes"] == 4


@pytest.mark.parametrize(
    ("message", "item"),
    [
        ("'c' has no encoder: give codes of 12 bits instead of desc", {"descriptor": [1, 2]}),
        ("codes of 12 bits as 4 hexadecimal digits each; code 0 is '00'", {"code": "00"}),
        ("code 0 is '0x00', of 4 characters", {"code": "0x00"}),
        ("the lowest 4 bits of the last byte are zero; those of code 0", {"code": "0001"}),
        ("has neither", {}),
    ],
)
def test_items_with_anything_else_are_refused(own: TestClient, message: str, item: Any) -> None:
    items = [{"id": "x"} | item]
    assert_problem(own.put(f"{URL}/items", json={"items": items}), 422, message)


@pytest.mark.parametrize(
    ("status", "message", "matrix"),
    [
        (400, "the codes must be npy of uint8, got dtype float32", np.zeros((2, 2), np.float32)),
        (400, "the codes must be npy of uint8, got dtype bool", np.zeros((2, 12), bool)),
        (422, "12-bit codes as uint8 of shape (2, 2), got uint64", np.zeros((2, 1), np.uint64)),
        (422, "of shape (2, 2), got uint8 of shape (2, 3)", np.zeros((2, 3), np.uint8)),
        (422, "codes must have shape (n, d)", np.zeros(2, np.uint8)),
        (422, "codes must have shape (n, d)", np.zeros((0, 2), np.uint8)),
        (422, "those of code 1 are not", np.array([[0, 0], [0, 8]], np.uint8)),
    ],
)
def test_other_arrays_are_refused(
    own: TestClient, status: int, message: str, matrix: NDArray[Any]
) -> None:
    ids = np.array(["x", "y"])
    answer = own.put(f"{URL}/items", content=npy(matrix, ids), headers=NPY)
    assert_problem(answer, status, message)
    assert_problem(own.post(f"{URL}/query", content=npy(matrix), headers=NPY), status, message)


def test_an_id_is_needed_for_each_code(own: TestClient) -> None:
    body = npy(np.zeros((2, 2), np.uint8), np.array(["x"]))
    answer = own.put(f"{URL}/items", content=body, headers=NPY)
    assert_problem(answer, 422, "expected one id per code (2), got 1")


@pytest.mark.parametrize(
    ("message", "new"),
    [
        ("either encoder, which makes the codes, or n_bits", {}),
        ("either encoder, which makes the codes, or n_bits", {"encoder": "e", "n_bits": 8}),
        ("n_bits must be from 1 to 4096, got 0", {"n_bits": 0}),
        ("n_bits must be from 1 to 4096, got 4097", {"n_bits": 4097}),
        ("n_bits: Input should be a valid integer", {"n_bits": "64"}),
        ("of given codes keeps no descriptors", {"n_bits": 8, "keep_descriptors": True}),
    ],
)
def test_collections_that_make_no_sense_are_refused(
    client: TestClient, message: str, new: Any
) -> None:
    answer = client.post("/v1/collections", json={"name": "d"} | new)
    assert_problem(answer, 422, message)
    assert client.get("/v1/collections").json() == []


def test_what_needs_an_encoder_or_descriptors_is_refused_in_a_sentence(own: TestClient) -> None:
    own.post("/v1/encoders", json={"name": "e", "method": "lsh", "n_bits": 12, "dimension": 4})
    no_descriptors = "has no encoder: its codes were given, and there are no descriptors"
    new = {"name": "t", "method": "itq", "n_bits": 2, "training": {"collection": "c"}}
    benchmark = {"collection": "c", "methods": ["lsh"], "bits": [8]}
    for path, body, message in (
        (f"{URL}/reencode", {"encoder": "e"}, no_descriptors),
        ("/v1/encoders", new, no_descriptors),
        ("/v1/benchmarks", benchmark, no_descriptors),
        (f"{URL}/query", {"descriptors": [[1, 2]]}, "has no encoder: give codes of 12 bits"),
        (f"{URL}/query", {"codes": "0000"}, "Input should be a valid array; got '0000'"),
        (f"{URL}/query", {"codes": ["0000"], "k": 1, "rerank": 2}, "nothing to rerank by"),
        (f"{URL}/query", {"ids": ["0"], "k": 1, "rerank": 2}, "nothing to rerank by"),
    ):
        assert_problem(own.post(path, json=body), 422, message)
    image = own.post(f"{URL}/query", content=b"x", headers={"Content-Type": "image/png"})
    assert_problem(image, 422, "instead of descriptors or images")


def test_a_collection_with_an_encoder_is_queried_by_codes_too(small: TestClient) -> None:
    x = [[1, 2, 3, 4], [-1, 2, -3, 4.5]]
    by_descriptors = small.post(f"{URL}/query", json={"descriptors": x, "codes": True}).json()
    body = {"codes": by_descriptors["codes"], "return_codes": True}
    assert small.post(f"{URL}/query", json=body).json() == by_descriptors
    # An npy body holds descriptors unless it says otherwise: uint8 can be either.
    packed = np.array([list(bytes.fromhex(code)) for code in body["codes"]], np.uint8)
    url = f"{URL}/query?holds=codes&return_codes=true"
    assert small.post(url, content=npy(packed), headers=NPY).json() == by_descriptors
    wrong = small.post(f"{URL}/query", content=npy(packed), headers=NPY)
    assert_problem(wrong, 422, "expected descriptors of dimension 4, got 2")
    # Unless asked for, no codes come back.
    bare = small.post(f"{URL}/query", json={"codes": body["codes"]}).json()
    assert "codes" not in bare
    assert "code" not in bare["results"][0][0]


def test_codes_are_never_taken_for_descriptors(small: TestClient) -> None:
    """Of an encoder for descriptors of 2 bytes' worth of numbers, whose codes have 2 bytes."""
    new = {"name": "f", "method": "lsh", "n_bits": 12, "dimension": 2}
    assert small.post("/v1/encoders", json=new).status_code == 201
    small.post("/v1/collections", json={"name": "d", "encoder": "f"})
    body, url = npy(np.zeros((1, 2), np.uint8), np.array(["x"])), "/v1/collections/d/items"
    refused = small.put(f"{url}?holds=codes", content=body, headers=NPY)
    assert_problem(refused, 422, "are made by its encoder 'f': give descriptors instead of codes")
    assert small.put(f"{url}?holds=descriptors", content=body, headers=NPY).status_code == 200
    refused = small.put(f"{url}?holds=neither", content=body, headers=NPY)
    assert_problem(refused, 422, "holds: Input should be 'descriptors' or 'codes'")
    item = {"id": "x", "descriptor": [1, 2]}
    refused = small.put(f"{url}?holds=descriptors", json={"items": [item]})
    assert_problem(refused, 422, "`holds` says what an npy body holds")


@pytest.mark.parametrize("kind", ["npy", "json"])
def test_codes_of_the_same_encoder_are_taken_with_its_fingerprint(
    kind: str, small: TestClient
) -> None:
    hasher = make_hasher("lsh", n_bits=12, random_state=5).fit(np.eye(4))
    assert small.put("/v1/encoders/f", content=hasher.to_bytes()).status_code == 201
    X = np.random.default_rng(0).normal(size=(3, 4))
    codes, ids = hasher.encode(X), np.array(["x", "y", "z"])

    def put(name: str, fingerprint: str) -> Any:
        url = f"/v1/collections/{name}/items?fingerprint={fingerprint}"
        if kind == "npy":
            return small.put(f"{url}&holds=codes", content=npy(codes, ids), headers=NPY)
        items = [{"id": i, "code": bytes(c).hex()} for i, c in zip(ids, codes, strict=True)]
        return small.put(url, json={"items": items})

    small.post("/v1/collections", json={"name": "d", "encoder": "f"})
    assert put("d", hasher.fingerprint).json() == {"upserted": 3, "items": 3}
    answer = small.post("/v1/collections/d/query", json={"descriptors": X.tolist(), "k": 1}).json()
    assert [[(near["id"], near["distance"]) for near in one] for one in answer["results"]] == [
        [("x", 0)],
        [("y", 0)],
        [("z", 0)],
    ]
    assert_problem(put("d", 64 * "0"), 409, f"with fingerprint {64 * '0'}; collection 'd' holds")
    assert_problem(put("d", "0"), 422, "fingerprint: String should match pattern")
    kept = {"name": "kept", "encoder": "f", "keep_descriptors": True}
    small.post("/v1/collections", json=kept)
    assert_problem(put("kept", hasher.fingerprint), 422, "'kept' keeps descriptors: give")
    small.post("/v1/collections", json={"name": "bare", "n_bits": 12})
    assert_problem(put("bare", hasher.fingerprint), 422, "'bare' has no encoder that could have")
    item = {"id": "x", "descriptor": X[0].tolist()}
    url = f"/v1/collections/d/items?fingerprint={hasher.fingerprint}"
    assert_problem(small.put(url, json={"items": [item]}), 422, "descriptors are given")


def test_writes_snapshots_and_a_restart_work_as_with_an_encoder(settings: Settings) -> None:
    codes = random_codes(np.random.default_rng(0), 50, 100)
    query = {"codes": as_hex(codes[:3]), "k": 20, "return_codes": True}
    with TestClient(create_app(settings)) as client:
        client.post("/v1/collections", json={"name": "c", "n_bits": 100})
        put(client, codes, "hex")
        file = client.post(f"{URL}/snapshots").json()["snapshot"]
        before = client.post(f"{URL}/query", json=query).json()
        restored = client.post("/v1/collections/d/restore", json={"snapshot": file})
        assert restored.status_code == 201
        assert restored.json() == client.get(URL).json() | {"name": "d"}
        assert client.post("/v1/collections/d/query", json=query).json() == before
        codes[7] = codes[3]
        put(client, codes[:10], "npy")
        assert client.post(f"{URL}/items/delete", json={"ids": ["9"]}).json() == {"deleted": 1}
        after = client.post(f"{URL}/query", json=query).json()["results"]
        listed = client.get("/v1/collections").json()
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/collections").json() == listed
        assert client.post(f"{URL}/query", json=query).json()["results"] == after
        assert client.get(f"{URL}/items/7").json()["code"] == codes[3].tobytes().hex()
        assert client.delete(URL).status_code == 204


def hashes(rng: np.random.Generator, n: int, kind: str) -> NDArray[np.uint8]:
    """Return n codes of 256 bits: random ones, or copies of n / 100 codes with 4 % of bits changed.

    Two copies of one code differ in 20 bits on average, and in more than 31 now and then.
    """
    if kind == "random":
        return rng.integers(0, 256, (n, 32), np.uint8)
    centres = rng.integers(0, 256, (n // 100, 32), np.uint8)
    changes = np.packbits(rng.random((n, 256), np.float32) < 0.04, axis=1)
    return centres[rng.integers(0, len(centres), n)] ^ changes


def compare_within_31_bits(client: TestClient, n: int, kind: str) -> None:
    """Compare what is within 31 bits with a count of bits, for codes loaded as hex and as npy."""
    rng = np.random.default_rng(n)
    codes = hashes(rng, n, kind)
    n_queries = min(n // 10, 300)
    # Items with up to 50 bits changed.
    queries = codes[rng.choice(n, n_queries, replace=False)]
    flips = rng.random((n_queries, 256)).argsort(axis=1) < rng.integers(0, 50, n_queries)[:, None]
    queries = queries ^ np.packbits(flips, axis=1)
    words = codes.view(np.uint64)
    expected = []
    for query in queries.view(np.uint64):
        distances = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.int64)
        near = np.flatnonzero(distances <= 31)
        expected.append(sorted((int(distances[i]), f"{i}") for i in near))
    sizes = list(map(len, expected))
    assert 0 in sizes
    assert max(sizes) >= (1 if kind == "random" else 20)

    service: Service = client.app.state.service  # type: ignore[attr-defined]
    body = {"codes": as_hex(queries), "radius": 31, "payloads": False}
    for how in ("hex", "npy"):
        client.post("/v1/collections", json={"name": "c", "n_bits": 256})
        for first in range(0, n, 5000):
            part = range(first, min(first + 5000, n))
            ids = [f"{i}" for i in part]
            if how == "npy":
                content = npy(codes[part], np.array(ids))
                answer = client.put(f"{URL}/items?holds=codes", content=content, headers=NPY)
            else:
                pairs = zip(ids, as_hex(codes[part]), strict=True)
                items = [{"id": item_id, "code": code} for item_id, code in pairs]
                answer = client.put(f"{URL}/items", json={"items": items})
            assert answer.status_code == 200, answer.text
        for is_settled in (False, True):
            if is_settled:
                service.collections._store.settle()
            by_hex = client.post(f"{URL}/query", json=body).json()
            url = f"{URL}/query?radius=31&payloads=false"
            by_npy = client.post(url, content=npy(queries), headers=NPY).json()
            assert by_npy["results"] == by_hex["results"]
            found = [[(one["distance"], one["id"]) for one in each] for each in by_hex["results"]]
            assert found == expected
            for certificate, size in zip(by_hex["certificates"], sizes, strict=True):
                assert certificate["exact"]
                assert (certificate["within"], certificate["truncated"]) == (size, False)
                assert certificate["radius"] >= 31
        client.delete(URL)


@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_codes_within_31_of_256_bits_equal_an_oracle(settings: Settings, kind: str) -> None:
    with TestClient(create_app(settings)) as client:
        compare_within_31_bits(client, 1000, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_100_000_codes_within_31_of_256_bits_equal_an_oracle(settings: Settings, kind: str) -> None:
    settings = settings.model_copy(update={"max_body": 64 << 20, "max_k": 10_000})
    with TestClient(create_app(settings)) as client:
        compare_within_31_bits(client, 100_000, kind)
