"""Invalid requests get a problem that says why, and change nothing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError

from app.http.middleware.parameters import known_parameters
from app.http.schemas import Body
from app.main import create_app
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, contents_of, fill, npy, settings_in
from tests.app.problems import assert_problem

ITEM = {"id": "x", "descriptor": [1.0, 2.0, 3.0, 4.0]}
ENCODER = {"name": "x", "method": "lsh", "n_bits": 8, "dimension": 4}
DEEP = '{"a":' * 101 + "1" + "}" * 101
IDS = np.array(["x", "y"])
X = np.ones((2, 4))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of one small service for all tests: none of them changes it."""
    settings = settings_in(tmp_path_factory.mktemp("bad_input"))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        fill(client)
        yield client


@pytest.fixture(scope="module")
def before(small: TestClient) -> Any:
    """What the service stores before the first test, and therefore before each."""
    return contents_of(small)


@pytest.fixture(autouse=True)
def unchanged(small: TestClient, before: Any) -> Iterator[None]:
    yield
    assert contents_of(small) == before


@pytest.mark.parametrize(
    ("status", "message", "change"),
    [
        (422, "items: List should have at least 1 item", {"items": []}),
        (422, "items: Field required; got nothing", {}),
        (422, "dimension 4, got 3", {"items": [ITEM | {"descriptor": [1, 2, 3]}]}),
        (422, "row 0 has 4 numbers, row 1 has 3", {"items": [ITEM, {"id": "y", "descriptor": [1, 2, 3]}]}),
        (422, "items.0.descriptor: List should have at least 1", {"items": [ITEM | {"descriptor": []}]}),
        (422, "valid number; got '1'", {"items": [ITEM | {"descriptor": ["1", 2, 3, 4]}]}),
        (422, "valid number; got null", {"items": [ITEM | {"descriptor": [None, 2, 3, 4]}]}),
        (422, "valid number; got True", {"items": [ITEM | {"descriptor": [True, 2, 3, 4]}]}),
        (422, "valid number; got a list of 1", {"items": [ITEM | {"descriptor": [[1]]}]}),
        (422, "row 0, column 1 is nan", {"items": [ITEM | {"descriptor": [1, float("nan"), 3, 4]}]}),
        (422, "row 0, column 3 is inf", {"items": [ITEM | {"descriptor": [1, 2, 3, float("inf")]}]}),
        (422, "row 0, column 0 is 1e+39", {"items": [ITEM | {"descriptor": [1e39, 2, 3, 4]}]}),
        (422, "'x' occurs twice", {"items": [ITEM, {**ITEM}]}),
        (422, "1 to 256 characters", {"items": [ITEM | {"id": ""}]}),
        (422, "1 to 256 characters", {"items": [ITEM | {"id": "x" * 257}]}),
        (422, "printable characters", {"items": [ITEM | {"id": "a\u0000b"}]}),
        (422, "valid string or integer; got 5.0", {"items": [ITEM | {"id": 5.0}]}),
        (422, "id: Field required", {"items": [{"descriptor": [1, 2, 3, 4]}]}),
        (422, "valid integer; got 1.5", {"items": [ITEM | {"label": 1.5}]}),
        (422, "put several labels of an item as a list into its payload; got a list of 2", {"items": [ITEM | {"label": [1, 2]}]}),
        (422, "label: Input should be greater than or equal to -1", {"items": [ITEM | {"label": -2}]}),
        (422, "label: Input should be less than", {"items": [ITEM | {"label": 2**63}]}),
        (422, "payload: Input should be an object", {"items": [ITEM | {"payload": [1]}]}),
        (422, "is not JSON", {"items": [ITEM | {"payload": {"a": float("nan")}}]}),
        (422, "has at most 100 levels", {"items": [ITEM | {"payload": json.loads(DEEP)}]}),
        (422, "has at most 65536 bytes", {"items": [ITEM | {"payload": {"a": "x" * 70_000}}]}),
        (422, "items.0.lable: no field of this name", {"items": [ITEM | {"lable": 1}]}),
        (422, "made by its encoder 'e': give descriptors instead", {"items": [{"id": "y", "code": "0000"}]}),
        (422, "or a code for each; item 1 has neither", {"items": [ITEM, {"id": "y"}]}),
        (422, "or a code for each; item 0 has neither", {"items": [{"id": "y"}, ITEM]}),
        (422, "or a code for each; item 1 has code", {"items": [ITEM, {"id": "y", "code": "0000"}]}),
        (422, "item 0 has descriptor and code", {"items": [ITEM | {"code": "0000"}]}),
        (422, "items.0.code: Input should be a valid string; got 7", {"items": [{"id": "y", "code": 7}]}),
    ],
)  # fmt: skip
def test_items(small: TestClient, status: int, message: str, change: Any) -> None:
    body = json.dumps(change)
    answer = small.put("/v1/collections/c/items", content=body, headers={"Content-Type": "application/json"})  # fmt: skip
    assert_problem(answer, status, message)


@pytest.mark.parametrize(
    ("status", "message", "query"),
    [
        (422, "one of descriptors, ids of items, and codes; got none of them", {}),
        (422, "and codes; got descriptors and ids", {"descriptors": [[1, 2, 3, 4]], "ids": ["a"]}),
        (422, "and codes; got ids and codes", {"ids": ["a"], "codes": ["0000"]}),
        (422, "codes of 12 bits as 4 hexadecimal digits each; code 1 is '00', of 2", {"codes": ["0000", "00"]}),
        (422, "code 0 is '0x00', of 4 characters", {"codes": ["0x00"]}),
        (422, "code 1 is ' 000', of 4 characters", {"codes": ["0000", " 000"]}),
        (422, "lowest 4 bits of the last byte are zero; those of code 1 are not", {"codes": ["fff0", "0001"], "radius": 2}),
        (422, "codes.hex: List should have at least 1 item", {"codes": []}),
        (422, "codes.hex.1: Input should be a valid string; got 7", {"codes": ["0000", 7]}),
        (422, "codes.hex: Input should be a valid array", {"ids": ["a"], "codes": "0000"}),
        (422, "descriptors of the queries instead of codes", {"codes": ["0000"], "k": 1, "rerank": 2}),
        (422, "descriptors: List should have at least 1", {"descriptors": []}),
        (422, "shape (n, d) with d > 0, got (1, 0)", {"descriptors": [[]]}),
        (422, "ids: List should have at least 1", {"ids": []}),
        (404, "no item 'nobody' in collection 'c'", {"ids": ["nobody"]}),
        (422, "dimension 4, got 5", {"descriptors": [[1, 2, 3, 4, 5]]}),
        (422, "row 0 has 4 numbers, row 1 has 2", {"descriptors": [[1, 2, 3, 4], [1, 2]]}),
        (422, "row 1, column 0 is nan", {"descriptors": [[1, 2, 3, 4], [float("nan")] * 4]}),
        (422, "k: Input should be greater than or equal to 1; got 0", {"ids": ["a"], "k": 0}),
        (422, "k is at most 500", {"ids": ["a"], "k": 1_000_000}),
        (422, "k is at most 500", {"ids": ["a"], "k": 10**30}),
        (422, "k: Input should be a valid integer", {"ids": ["a"], "k": 1.5}),
        (422, "radius: Input should be greater than or equal to 0", {"ids": ["a"], "radius": -1}),
        (422, "radius: Input should be less than", {"ids": ["a"], "radius": 2**31}),
        (422, "expected a filter, an object with at least one field", {"ids": ["a"], "filter": {}}),
        (
            422,
            "a value of 'a' is a string, number, boolean or null, got [1]",
            {"ids": ["a"], "filter": {"a": [1]}},
        ),
        (422, "filters: no field of this name", {"ids": ["a"], "filters": {}}),
    ],
)  # fmt: skip
def test_queries(small: TestClient, status: int, message: str, query: Any) -> None:
    body = json.dumps(query)
    answer = small.post("/v1/collections/c/query", content=body, headers={"Content-Type": "application/json"})  # fmt: skip
    assert_problem(answer, status, message)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("no method 'md5'; there are lsh", {"method": "md5"}),
        ("n_bits must be from 1 to 4096, got 0", {"n_bits": 0}),
        ("n_bits must be from 1 to 4096, got 100000", {"n_bits": 100_000}),
        ("n_bits: Input should be a valid integer", {"n_bits": "8"}),
        ("dimension must be from 1 to", {"dimension": 0}),
        ("dimension must be from 1 to", {"dimension": 10**9}),
        ("lsh needs a `dimension`, or descriptors in `training`", {"dimension": None}),
        ("expected either training or dimension, got both", {"training": {"descriptors": [[1]]}}),
        ("at least 1 item", {"dimension": None, "training": {"descriptors": []}}),
        ("row 1 has 1", {"dimension": None, "training": {"descriptors": [[1, 2], [1]]}}),
        ("is nan", {"dimension": None, "training": {"descriptors": [[1, float("nan")]]}}),
        ("1 labels", {"dimension": None, "training": {"descriptors": [[1.0]], "labels": [1, 2]}}),
        ("no parameter 'bits'", {"params": {"bits": 9}}),
        ("no parameter 'method'", {"params": {"method": "x"}}),
        ("b must be finite", {"method": "random-net-1", "params": {"b": 10**400}}),
        (
            "dimension must be from 1",
            {"dimension": None, "training": {"descriptors": [[1] * 17_000]}},
        ),
        ("no method 'xxx", {"method": "x" * 100_000}),
        ("no field of this name", {"x" * 100_000: 1}),
        ("next to params", {"params": {"n_bits": 9}}),
        ("center must be true or false", {"params": {"center": "yes"}}),
        ("random_state must be an integer", {"params": {"random_state": None}}),
        ("hidden must be from 1", {"method": "random-net-2", "params": {"hidden": 10**9}}),
        ("a must be finite", {"method": "random-net-1", "params": {"a": float("nan")}}),
        ("a name has 1 to 64", {"name": "a/b"}),
        ("a name has 1 to 64", {"name": ""}),
    ],
)
def test_encoders(small: TestClient, message: str, change: Any) -> None:
    body = json.dumps(ENCODER | change)
    answer = small.post("/v1/encoders", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, message)


@pytest.mark.parametrize(
    ("status", "message", "body"),
    [
        (400, "the descriptors are missing: expected npy of numbers", b""),
        (400, "cannot be read", b"no npy at all"),
        (400, "cannot be read", npy(X, IDS)[:5]),
        (400, "cannot be read", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000),
        (400, "cannot be read", b"\x93NUMPY\x01\x00\x10\x00" + b"__import__('os')"),
        (400, "format 1.0 or 2.0", b"\x93NUMPY\x09\x00" + npy(X)[8:]),
        (400, "impossible shape", npy(X, IDS).replace(b"(2, 4), }" + b" " * 17, b"(0, 9999999999, 9999999),}")),
        (400, "not a valid dtype descriptor", npy(X, IDS).replace(b"'<f8'", b"'<q8'", 1)),
        (400, "has dtype datetime64[s], which is not read here", npy(X.astype("M8[s]"), IDS)),
        (400, "has dtype [('f0', '<f8')], which is not read here", npy(X.view("f8,"), IDS)),
        (400, "pickled objects", npy(np.array([{}, {}]), IDS)),
        (400, "cannot be read", pickle.dumps([X, IDS])),
        (400, "the descriptors must be npy of numbers, got dtype <U1", npy(IDS, X)),
        (400, "the descriptors must be npy of numbers, got dtype complex", npy(X + 0j, IDS)),
        (400, "the ids must be npy of strings or integers, got dtype f", npy(X, np.ones(2))),
        (400, "the ids are missing: expected npy of strings", npy(X)),
        (400, "the labels must be npy of integers", npy(X, IDS, np.ones(2))),
        (400, "bytes are left over after descriptors, ids, labels", npy(X, IDS, np.ones(2, int), X)),
        (400, "which takes 8e+12 bytes; there are", npy(X, IDS).replace(b"(2, 4), }" + b" " * 8, b"(1000000000000,)}")),
        (400, "an id is not Unicode: it holds 0xffffffff", npy(X, IDS)[:-4] + b"\xff" * 4),
        (422, "shape (n, d) with n and d > 0", npy(X[:0], IDS[:0])),
        (422, "shape (n, d) with n and d > 0", npy(X[0], IDS)),
        (422, "ids must have shape (n,)", npy(X, IDS[:, None])),
        (422, "dimension 4, got 3", npy(X[:, :3], IDS)),
        (422, "expected one id per descriptor (2)", npy(X, IDS[:1])),
        (422, "'x' occurs twice", npy(X, np.array(["x", "x"]))),
        (422, "row 1, column 2 is nan", npy(np.where(np.arange(8).reshape(2, 4) == 6, np.nan, X), IDS)),
        (422, "expected 2 labels", npy(X, IDS, np.arange(3))),
        (422, "that of row 1 is np.int64(-5)", npy(X, IDS, np.array([0, -5]))),
    ],
)  # fmt: skip
def test_npy_items(small: TestClient, status: int, message: str, body: bytes) -> None:
    assert_problem(small.put("/v1/collections/c/items", content=body, headers=NPY), status, message)


@pytest.mark.parametrize("url", ["/v1/collections/c/query", "/v1/encoders/e/encode"])
@pytest.mark.parametrize(
    ("status", "message", "body"),
    [
        (400, "the descriptors are missing", b""),
        (400, "left over", npy(X, IDS)),
        (422, "shape (n, d) with n and d > 0", npy(X[:0])),
        (400, "got dtype bool", npy(X > 0)),
        (422, "dimension 4, got 8", npy(np.ones((1, 8)))),
        (422, "is inf", npy(X * np.inf)),
    ],
)
def test_npy_matrices(small: TestClient, url: str, status: int, message: str, body: bytes) -> None:
    assert_problem(small.post(url, content=body, headers=NPY), status, message)


@pytest.mark.parametrize("k", ["0", "-1", "x", "1.5", "1000000"])
def test_k_in_the_url(small: TestClient, k: str) -> None:
    answer = small.post(f"/v1/collections/c/query?k={k}", content=npy(X), headers=NPY)
    assert_problem(answer, 422, "k")


def test_unknown_url_parameters(small: TestClient) -> None:
    url = "/v1/collections/c/query"
    assert_problem(
        small.post(f"{url}?kk=3", content=npy(X), headers=NPY), 422, "unknown URL parameters: kk"
    )
    assert_problem(small.post(f"{url}?k=3", json={"ids": ["a"]}), 422, "not in the URL")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/v1/collections/c/items", "GET, HEAD, PATCH, PUT"),
        ("PATCH", "/v1/encoders", "GET, HEAD, POST"),
        ("POST", "/v1/encoders/e", "DELETE, GET, HEAD, PUT"),
        ("PUT", "/v1/collections/c/items/delete", "DELETE, GET, HEAD, PATCH, POST"),
    ],
)
def test_a_method_that_is_not_allowed_gets_the_allowed_ones(
    small: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = small.request(method, path, json={"items": [ITEM]})
    assert_problem(answer, 405, f"Method not allowed; use {allowed}.")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("method", "url", "message"),
    [
        ("GET", "/v1/encoders/nobody", "no encoder 'nobody'"),
        ("DELETE", "/v1/encoders/nobody", "no encoder 'nobody'"),
        ("GET", "/v1/collections/nobody", "no collection 'nobody'"),
        ("DELETE", "/v1/collections/nobody", "no collection 'nobody'"),
        ("GET", "/v1/collections/c/items/nobody", "no item 'nobody'"),
        ("DELETE", "/v1/collections/c/items/nobody", "no item 'nobody'"),
        ("GET", "/v1/benchmarks/nobody", "no benchmark 'nobody'"),
        ("GET", "/v1/nothing", "no path /v1/nothing"),
        ("GET", "/v1/collections/../../etc/passwd", "no path"),
    ],
)
def test_unknown_names(small: TestClient, method: str, url: str, message: str) -> None:
    assert_problem(small.request(method, url), 404, message)


@pytest.mark.parametrize("url", ["query", "items/delete"])
def test_unknown_collections(small: TestClient, url: str) -> None:
    assert_problem(
        small.post(f"/v1/collections/nobody/{url}", json={"ids": ["a"]}), 404, "'nobody'"
    )


def test_unknown_collection_of_items(small: TestClient) -> None:
    assert_problem(
        small.put("/v1/collections/nobody/items", json={"items": [ITEM]}), 404, "'nobody'"
    )


def test_unknown_encoders(small: TestClient) -> None:
    assert_problem(
        small.post("/v1/encoders/nobody/encode", json={"descriptors": [[1]]}), 404, "'nobody'"
    )
    assert_problem(
        small.post("/v1/collections", json={"name": "n", "encoder": "nobody"}), 404, "'nobody'"
    )


def test_taken_names(small: TestClient) -> None:
    assert_problem(
        small.post("/v1/encoders", json=ENCODER | {"name": "e"}), 409, "already an encoder 'e'"
    )
    assert_problem(
        small.post("/v1/collections", json={"name": "c", "encoder": "e"}),
        409,
        "already a collection 'c'",
    )


def test_a_collection_with_an_invalid_name(small: TestClient) -> None:
    assert_problem(
        small.post("/v1/collections", json={"name": "../x", "encoder": "e"}), 422, "a name has"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "got a list of 0"),
        (b"5", "got 5"),
    ],
)
@pytest.mark.parametrize(
    "url", ["/v1/encoders", "/v1/collections", "/v1/collections/c/query", "/v1/benchmarks"]
)
def test_malformed_json(small: TestClient, url: str, body: bytes, message: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert_problem(small.post(url, content=body, headers=headers), 422, message)


def test_parsing_stops_at_the_first_of_many_errors(small: TestClient) -> None:
    for body in ({"ids": [None] * 100_000}, {"descriptors": [[None] * 100_000]}):
        answer = small.post("/v1/collections/c/query", json=body)
        assert len(answer.json()["errors"]) == 1
        assert_problem(answer, 422, "should be a valid")


QUERY = "/v1/collections/c/query"
ITEMS = "/v1/collections/c/items"
FIELDS = (
    "there are descriptors, ids, k, radius, false_match_rate, calibrated, max_score, payloads, codes, "
    "return_codes, offset, filter"
)


@pytest.mark.parametrize(
    ("method", "url", "body", "message"),
    [
        ("POST", QUERY, {"top_k": 3}, f"top_k: no field of this name (did you mean 'k'?); {FIELDS}, "),
        ("POST", QUERY, {"limit": 3}, "limit: no field of this name (did you mean 'k'?)"),
        ("POST", QUERY, {"vector": [1]}, "vector: no field of this name (did you mean 'descriptors'?"),
        ("POST", QUERY, {"Radus": 3}, "Radus: no field of this name (did you mean 'radius'?)"),
        ("POST", QUERY, {"zzz": 3}, f"zzz: no field of this name; {FIELDS}, "),
        (
            "PUT",
            ITEMS,
            {"items": [ITEM, ITEM | {"vector": 1}]},
            "items.1.vector: no field of this name (did you mean 'descriptor'?); there are id, desc",
        ),
        ("PUT", ITEMS, {"points": []}, "points: no field of this name (did you mean 'items'?)"),
        (
            "POST",
            "/v1/encoders",
            {"training": {"vectors": []}},
            "training.vectors: no field of this name (did you mean 'descriptors'?); there are descr",
        ),
        ("POST", "/v1/encoders", {"dim": 3}, "dim: no field of this name (did you mean 'dimension'?"),
    ],
)  # fmt: skip
def test_a_field_that_is_not_known_comes_with_those_that_are(
    small: TestClient, method: str, url: str, body: Any, message: str
) -> None:
    answer = small.request(method, url, json=body)
    assert_problem(answer, 422, message)
    assert answer.json().get("row") == (1 if "items" in body else None)


@pytest.mark.parametrize(
    ("method", "url", "message"),
    [
        ("POST", "/v1/collections/c/snapshots?keeep=3", "keeep (did you mean 'keep'?); there are keep"),
        ("GET", "/v1/jobs?limt=3", "limt (did you mean 'limit'?); there are limit"),
        ("GET", "/v1/collections/c/items?skip=3", "skip (did you mean 'offset'?); there are limit, offset"),
        ("PUT", "/v1/collections/c/items?hold=codes", "hold (did you mean 'holds'?); there are holds"),
        ("DELETE", "/v1/collections/c?force=true", "unknown URL parameters: force; this call takes none"),
        ("DELETE", "/v1/collections/c/items/a?x=", "unknown URL parameters: x; this call takes none"),
        ("POST", "/v1/collections/c/items/delete?dry_run=1", "unknown URL parameters: dry_run"),
        ("GET", "/metrics?name=x", "unknown URL parameters: name"),
        ("GET", "/v1/collections/c/items?limit=1&limit=2", "URL parameter limit is given more than once"),
        ("GET", "/v1/collections/c/items?limit=1_0", "query.limit: Input should be a valid integer; got '1_0'"),
        ("GET", "/v1/collections/c/items?offset=1.0", "query.offset: Input should be a valid integer"),
        ("POST", "/v1/collections/c/snapshots?keep=%201", "query.keep: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_parameters_of_the_url_count_or_are_refused(
    small: TestClient, method: str, url: str, message: str
) -> None:
    items = small.get("/v1/collections/c/items").json()
    assert_problem(small.request(method, url), 422, message)
    assert small.get("/v1/collections/c/items").json() == items
    assert small.get("/v1/snapshots").json() == []


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        *(
            (f"{name}={value}", f"query.{name}: Input should be true or false; got '{value}'")
            for name in ("payloads", "return_codes", "codes")
            for value in ("1", "0", "yes", "on", "t", "True", "FALSE", "")
        ),
        *(
            (
                f"max_score={value}",
                f"query.max_score: Input should be a valid number; got '{value}'",
            )
            for value in ("1_0", "nan", "inf", "-Infinity", ".5", "1.", "0x1")
        ),
        ("max_score=%201", "query.max_score: Input should be a valid number; got ' 1'"),
        ("max_score=1e999", "query.max_score: Input should be a finite number"),
        ("confidence=0_1", "query.confidence: Input should be a valid number; got '0_1'"),
    ],
)
def test_parameters_of_a_query_in_the_url_are_not_cast(
    small: TestClient, parameter: str, message: str
) -> None:
    answer = small.post(f"/v1/collections/c/query?{parameter}", content=npy(X), headers=NPY)
    assert_problem(answer, 422, message)


def test_true_and_false_in_the_url_count(small: TestClient) -> None:
    for value in ("true", "false"):
        url = f"/v1/collections/c/query?return_codes={value}&payloads={value}&k=1"
        answer = small.post(url, content=npy(X), headers=NPY)
        assert answer.status_code == 200, answer.text
        assert ("code" in answer.json()["results"][0][0]) == (value == "true")


def test_every_parameter_that_is_described_is_known(small: TestClient) -> None:
    paths = small.app.openapi()["paths"]  # type: ignore[attr-defined]
    described = {
        f"{method} {path}": {
            one["name"] for one in call.get("parameters", ()) if one["in"] == "query"
        }
        for path, methods in paths.items()
        for method, call in methods.items()
    }
    known = {
        f"{method.lower()} {route.path_format}": set(known_parameters(route))
        for route in small.app.routes  # type: ignore[attr-defined]
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert known == described
    assert sum(map(len, known.values())) > 10


def test_pages_may_be_linked_with_parameters(small: TestClient) -> None:
    assert small.get("/?utm_source=mail").status_code == 200


def bodies(kind: type[Body] = Body) -> Iterator[type[Body]]:
    for body in kind.__subclasses__():
        yield body
        yield from bodies(body)


def test_no_field_of_a_body_casts_what_it_gets() -> None:
    """A field takes a value only if its type is one that the JSON schema of the field names."""
    models = [body for body in bodies() if body.model_config["strict"]]  # Not those in URLs.
    assert len(models) > 15
    for model in models:
        described = model.model_json_schema()
        for name in model.model_fields:
            schema = described["properties"][name] | {"$defs": described.get("$defs", {})}
            for value in ("yes", "on", "1", "1.5", True, False, 1, 1.5, ["1"], [True]):
                try:
                    model.model_validate_json(json.dumps({name: value}))
                    errors = []
                except ValidationError as error:
                    errors = [each for each in error.errors() if each["loc"][:1] == (name,)]
                if not errors:
                    assert jsonschema_rs.is_valid(schema, value), (model, name, value)


@pytest.mark.parametrize("value", ["yes", "on", "1", "true", 1, 0, 1.0, None, [], {}])
def test_whether_descriptors_are_kept_is_not_guessed(small: TestClient, value: Any) -> None:
    for method, url, new in (
        ("POST", "/v1/collections", {"name": "n", "encoder": "e"}),
        ("PUT", "/v1/collections/n", {"encoder": "e"}),
    ):
        answer = small.request(method, url, json=new | {"keep_descriptors": value})
        message = "keep_descriptors: Input should be true, false, 'float16' or 'float32'; got"
        assert_problem(answer, 422, message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payloads", "no"),
        ("payloads", 0),
        ("return_codes", "on"),
        ("return_codes", 1.0),
        ("codes", 1),
        ("k", "1"),
        ("k", 1.0),
        ("k", True),
        ("offset", False),
        ("radius", "1"),
    ],
)
def test_options_of_queries_are_not_cast(small: TestClient, field: str, value: Any) -> None:
    answer = small.post(QUERY, json={"ids": ["a"], field: value})
    assert_problem(answer, 422, f"{field}")
    assert "Input should be a valid" in answer.json()["detail"]


def test_a_parameter_that_is_not_known_comes_with_those_that_are(small: TestClient) -> None:
    answer = small.post(f"{QUERY}?top_k=3&zz=1", content=npy(X), headers=NPY)
    message = "unknown URL parameters: top_k, zz (did you mean 'k'?); there are "
    assert_problem(answer, 422, message)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": 1.5}, "items.1.label: "),
        ({"id": ""}, "1 to 256 characters"),
        ({"id": "a\nb"}, "printable"),
        ({"id": "a/.."}, "no part '.' or '..'"),
        ({"descriptor": [1, 2, 3, 1e39]}, "row 1, column 3"),
        ({"payload": {"a": "x" * 70_000}}, "at most 65536 bytes"),
    ],
)
def test_the_row_that_is_wrong_is_a_member_of_the_problem(
    small: TestClient, item: Any, message: str
) -> None:
    answer = small.put(ITEMS, json={"items": [ITEM | {"id": "new"}, ITEM | item, ITEM | item]})
    assert_problem(answer, 422, message)
    assert answer.json()["row"] == 1


@pytest.mark.parametrize("ids", [np.zeros(100_001, np.uint8), np.zeros((400, 400), np.uint8)])
def test_too_many_ids_are_refused_before_they_are_strings(
    small: TestClient, ids: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("app.http.npy.strings")
    answer = small.put(ITEMS, content=npy(X, ids), headers=NPY)
    assert_problem(answer, 413, "at most 100000 descriptors or items")


@pytest.mark.parametrize("url", ["", "?rerank_by=bits"])
def test_rerank_by_without_rerank(small: TestClient, url: str) -> None:
    if url:
        answer = small.post(QUERY + url, content=npy(X), headers=NPY)
    else:
        answer = small.post(QUERY, json={"ids": ["a"], "rerank_by": "bits"})
    assert_problem(answer, 422, "rerank_by needs rerank, the number of items to reorder by bits")


@pytest.mark.parametrize("method", ["lhs", "LSH", "ls"])
def test_a_method_that_is_not_known_may_be_a_misspelt_one(small: TestClient, method: str) -> None:
    new = {"name": "n", "method": method, "n_bits": 8, "dimension": 4}
    start = f"there is no method '{method}' (did you mean 'lsh'?); there are "
    assert_problem(small.post("/v1/encoders", json=new), 422, start + "lsh, rabitq, random-net-1")
    benchmark = {"dataset": "digits", "methods": [method]}
    assert_problem(small.post("/v1/benchmarks", json=benchmark), 422, start + "raw, raw-cosine")
    new |= {"method": "lsh", "params": {"centre": True}}
    assert_problem(
        small.post("/v1/encoders", json=new),
        422,
        "no parameter 'centre' (did you mean 'center'?); ",
    )


IN_JSON = {"Content-Type": "application/json"}
TWICE = [
    '{"label": 1, "label": 2}',
    '{"price": {"gte": 1}, "label": 1, "price": {"lt": 5}}',
    '{"and": [{"a": 1}, {"a": {"gte": 1, "gte": 2}}]}',
    '{"not": {"label": 1, "l\\u0061bel": 2}}',
    '{"a": "\\":", "label": 1, "label" : 2}',
]


@pytest.mark.parametrize("condition", TWICE)
@pytest.mark.parametrize(
    "call", ["query", "items/delete", "items/count", "items/list", "duplicates"]
)
def test_a_filter_that_gives_a_name_twice_loses_no_condition(
    small: TestClient, call: str, condition: str
) -> None:
    more = {"query": '"ids": ["a"], ', "duplicates": '"radius": 1, '}.get(call, "")
    body = f'{{{more}"filter": {condition}}}'
    answer = small.post(f"/v1/collections/c/{call}", content=body, headers=IN_JSON)
    assert_problem(answer, 422, "is given twice in one object")


def test_a_filter_that_is_given_twice_is_refused(small: TestClient) -> None:
    body = '{"filter": {"label": 1}, "filter": {"id": {"in": ["a"]}}}'
    answer = small.post("/v1/collections/c/items/delete", content=body, headers=IN_JSON)
    assert_problem(answer, 422, "'filter' is given twice")


@pytest.mark.parametrize(
    "condition",
    [
        '{"or": [{"label": 1}, {"label": 2}, {"and": [{"label": 1}, {"a": 1}]}]}',
        '{"a": "\\":\\":", "b": "x\\\\"}',
        '{"a" : {"in": ["b", "\\"", ":"]}, ".b" : {"contains": "\\" : "}}',
        '{"a": {"in": []}}',
    ],
)
def test_names_in_different_objects_may_be_the_same(small: TestClient, condition: str) -> None:
    body = f'{{"filter": {condition}}}'
    answer = small.post("/v1/collections/c/items/count", content=body, headers=IN_JSON)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("url", "body", "detail"),
    [
        ("benchmarks", {"methods": ["lsh"]}, "expected one of dataset and collection"),
        (
            "benchmarks",
            {"dataset": "digits", "methods": ["lsh"], "protocol": "neighbours", "seeds": [0]}
            | {"queries_per_class": 5},
            "queries_per_class: only for a protocol with labels, and the protocol is 'neighbours'",
        ),
        ("recommendations", {"dataset": "digits"}, "expected one of within, recall and bytes"),
    ],
)
def test_what_fields_say_together_is_refused_in_a_sentence(
    small: TestClient, url: str, body: dict[str, Any], detail: str
) -> None:
    answer = small.post(f"/v1/{url}", json=body)
    assert answer.json()["detail"] == detail


@pytest.mark.parametrize("body", [{"keep": 1}, {"snapshot": "x"}, [1]])
def test_an_option_of_a_snapshot_in_a_body_is_not_ignored(small: TestClient, body: Any) -> None:
    answer = small.post("/v1/collections/c/snapshots", json=body)
    assert_problem(answer, 422, "this call takes no body: give keep in the URL")
    answer = small.post("/v1/collections/c/drift/reference", json=body)
    assert_problem(answer, 422, "this call takes no body")


def test_many_unknown_fields_are_only_counted(small: TestClient) -> None:
    few = {"ids": ["a"]} | {f"x{i}": 1 for i in range(1000)}
    answer = small.post("/v1/collections/c/query", json=few)
    assert_problem(answer, 422, "x0: no field of this name; there are descriptors, ids, k, ")
    answer = small.post("/v1/collections/c/query", json=few | {"y": 1})
    assert_problem(answer, 422, "expected the fields of this call, got 1001 wrong or unknown ones")
    assert "errors" not in answer.json()


def test_an_encoder_with_too_many_learned_values(small: TestClient) -> None:
    new = {"name": "x", "method": "random-net-2", "n_bits": 4096, "dimension": 16384}
    answer = small.post("/v1/encoders", json=new | {"params": {"hidden": 8192}})
    assert_problem(
        answer, 413, "at most 16,777,216 learned values; this one would have 167,784,448"
    )


def test_other_content_types(small: TestClient) -> None:
    assert_problem(
        small.post("/v1/collections/c/items/delete", content=b'{"ids": ["a"]}'), 415, "got ''"
    )
    for url in ("/v1/collections/c/query", "/v1/encoders/e/encode", "/v1/encoders"):
        answer = small.post(url, content=b"a,b", headers={"Content-Type": "text/csv"})
        assert_problem(answer, 415, "got 'text/csv'")
    answer = small.post("/v1/encoders", content=npy(X), headers=NPY)
    assert_problem(answer, 422, "query.name: Field required")


def test_a_body_over_the_limit(small: TestClient) -> None:
    body = b" " * (1 << 20) + b"{}"
    for url in ("/v1/collections/c/query", "/v1/collections", "/v1/nothing"):
        assert_problem(small.post(url, content=body), 413, "at most 1048576 bytes")


@pytest.mark.parametrize("url", ["/v1/collections/c/query", "/v1/collections"])
def test_a_body_over_the_limit_without_a_length(small: TestClient, url: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * (1 << 17)

    headers = {"Content-Type": "application/json"}
    assert_problem(small.post(url, content=pieces(), headers=headers), 413, "at most 1048576 bytes")


def test_too_many_results(small: TestClient) -> None:
    ids = np.array([str(i) for i in range(500)])
    body = npy(np.ones((500, 4)), ids)
    assert small.put("/v1/collections/c/items", content=body, headers=NPY).status_code == 200
    url = "/v1/collections/c/query?k=500"
    answer = small.post(url, content=npy(np.ones((401, 4))), headers=NPY)
    assert_problem(answer, 413, "at most 200000 neighbours")
    small.post("/v1/collections/c/items/delete", json={"ids": ids.tolist()})


@pytest.mark.parametrize(
    ("status", "message", "change"),
    [
        (404, "no dataset 'mnist'; there are digits", {"dataset": "mnist"}),
        (404, "no dataset '../x.npz'", {"dataset": "../x.npz"}),
        (404, "no dataset '/etc/x.npz'", {"dataset": "/etc/x.npz"}),
        (422, "no method 'md5'; there are raw, raw-cosine, classifier, lsh", {"methods": ["md5"]}),
        (422, "methods: List should have at least 1", {"methods": []}),
        (422, "bits must be from 1 to 4096, got 0", {"bits": [0]}),
        (422, "seed: Input should be greater", {"seed": -1}),
        (422, "queries_per_class: Input should be greater", {"queries_per_class": 0}),
    ],
)
def test_benchmarks(small: TestClient, status: int, message: str, change: Any) -> None:
    new = {"dataset": "digits", "methods": ["lsh"]} | change
    assert_problem(small.post("/v1/benchmarks", json=new), status, message)


def test_an_internal_error_does_not_show_its_cause(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret")

    with monkeypatch.context() as patched:
        patched.setattr("app.service.collections.searches.Searches.search", fail)
        answer = small.post("/v1/collections/c/query", json={"ids": ["a"]})
    assert_problem(answer, 500, "its log says why")
    assert "secret" not in answer.text
