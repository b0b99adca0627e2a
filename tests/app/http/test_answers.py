"""The form and the size of large answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from app.errors import TooLarge
from app.http import answers
from app.main import create_app
from index import Certificate, Found, Item, Neighbour
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy, settings_in, without_effort
from tests.app.problems import assert_problem
from tests.app.service.test_images import PNG, encoded, picture

QUERY, ITEMS, ENCODE = "/v1/collections/c/query", "/v1/collections/c/items", "/v1/encoders/e/encode"
MAX = 1 << 20
N = 40
X = np.random.default_rng(0).normal(size=(N, 4)).round(3)
PAYLOAD = {"text": 'a "quote", ü and \N{HUGGING FACE}', "large": "b" * 40_000}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service whose answers have at most 1 MiB, with 40 items of large payloads."""
    settings = settings_in(tmp_path_factory.mktemp("large"))
    limits = {"max_answer": MAX, "max_body": 2 * MAX, "max_bodies": 2 * MAX}
    settings = settings.model_copy(update=limits)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 4096, "dimension": 4}
        client.post("/v1/encoders", json=new)
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        items = [
            {"id": f"i{i:02}", "descriptor": x, "payload": PAYLOAD}
            for i, x in enumerate(X.tolist())
        ]
        for first in range(0, N, 4):
            assert client.put(ITEMS, json={"items": items[first : first + 4]}).is_success
        yield client


@pytest.mark.parametrize(
    "query",
    [
        {"ids": ["i00"], "k": N},
        {"ids": ["i00"], "radius": 4096},
        {"ids": ["i00"] * N, "k": 1},
        {"ids": [f"i{i:02}" for i in range(N)], "k": 1},
        {"descriptors": X.tolist(), "k": N, "codes": True, "payloads": False},
    ],
)
def test_queries_for_too_many_bytes_are_refused(large: TestClient, query: dict[str, Any]) -> None:
    assert_problem(large.post(QUERY, json=query), 413, "(BITCELL_MAX_ANSWER)")
    detail = large.post(QUERY, json=query).json()["detail"]
    assert "at most 1048576 bytes" in detail
    assert "fewer queries or neighbours (k), or leave out payloads or codes" in detail
    less = {"payloads": False, "codes": False}
    assert large.post(QUERY, json=query | less).status_code == 200


def test_an_answer_just_within_the_limit_is_sent(large: TestClient) -> None:
    whole = large.post(QUERY, json={"ids": ["i00"], "k": 26})
    assert 26 * 40_000 < len(whole.content) <= MAX
    assert all(near["payload"] == PAYLOAD for near in whole.json()["results"][0])
    assert large.post(QUERY, json={"ids": ["i00"], "k": 27}).status_code == 413


def test_pages_of_too_many_bytes_are_refused(large: TestClient) -> None:
    assert_problem(large.get(ITEMS), 413, "ask for fewer items than `limit` = 100")
    page = large.get(f"{ITEMS}?limit=20").json()["items"]
    assert [item["payload"] for item in page] == [PAYLOAD] * 20
    assert large.get(f"{ITEMS}/i00").json() == page[0]


def test_codes_of_too_many_bytes_are_refused(large: TestClient) -> None:
    many = npy(np.zeros((1100, 4), np.float32))
    as_npy = large.post(ENCODE, content=many, headers=NPY)
    assert as_npy.status_code == 200
    as_json = {"Accept": "application/json"}
    answer = large.post(ENCODE, content=many, headers=NPY | as_json)
    assert_problem(answer, 413, "encode fewer descriptors in one request, or ask for npy")
    body = {"descriptors": [[0.0] * 4] * 1100}
    assert_problem(large.post(ENCODE, json=body), 413, "or ask for npy")
    more = npy(np.zeros((2100, 4), np.float32))
    assert_problem(
        large.post(ENCODE, content=more, headers=NPY),
        413,
        "encode fewer descriptors in one request",
    )


def test_descriptors_of_too_many_bytes_are_refused(
    large: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.http.routes.gist._NUMBER_BYTES", MAX)
    file = encoded(picture())
    answer = large.post("/v1/gist", content=file, headers=PNG)
    assert_problem(answer, 413, "send fewer images in one request")
    accept = {"Accept": "application/x-npy"}
    assert large.post("/v1/gist", content=file, headers=PNG | accept).status_code == 200


def test_equal_queries_are_searched_once(
    small: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.search import exact

    searched: list[int] = []
    by_scan = exact._Search.by_scan

    def counted(self: Any, queries: Any) -> Any:
        searched.append(len(queries))
        return by_scan(self, queries)

    monkeypatch.setattr(exact._Search, "by_scan", counted)
    ids = ["b", "a", "b", "c/d e", "a", "b"]
    answer = small.post(QUERY, json={"ids": ids}).json()
    assert searched == [2]  # The codes of `a` and `c/d e` are the same.
    alone = {name: small.post(QUERY, json={"ids": [name]}).json() for name in set(ids)}
    expected = {
        part: [alone[name][part][0] for name in ids] for part in ("results", "certificates")
    }
    assert without_effort(answer) == without_effort(expected)


def test_answers_in_progress_have_a_limit_together(large: TestClient) -> None:
    made = large.app.state.service.answers  # type: ignore[attr-defined]
    query = {"ids": ["i00"], "k": 20}
    with made.counted("") as first, made.counted("") as second:
        first(MAX)
        second(MAX - 500_000)
        refused = large.post(QUERY, json=query)
        assert_problem(refused, 503, "answers that are being put together exceed 2097152 bytes")
        assert refused.headers["retry-after"]
        assert large.post(QUERY, json=query | {"k": 10}).status_code == 200
        with pytest.raises(TooLarge):
            first(1)
        second.restart()
        assert large.post(QUERY, json=query).status_code == 200
    assert made._bytes == 0


def test_a_search_that_begins_again_is_counted_once(large: TestClient) -> None:
    service = large.app.state.service  # type: ignore[attr-defined]
    counted = service.answers.counted("")
    with counted as size:
        size(MAX)
        page, of = service.collections.items("c", 0, 20, size)
        assert (len(page), of) == (20, N)
    assert service.answers._bytes == 0


@pytest.mark.parametrize("payload", [None, b"{}", b'{"a":"\xc3\xbc"}', b'{"a":"\\ud83e\\udd17"}'])
@pytest.mark.parametrize("label", [None, 0, 2**63 - 1])
def test_answers_equal_those_of_the_json_module(payload: bytes | None, label: int | None) -> None:
    item_id = 'a "b" \\ ü \N{HUGGING FACE} /'
    shown: dict[str, Any] = {"id": item_id}
    rest: dict[str, Any] = {} if label is None else {"label": label}
    rest |= {} if payload is None else {"payload": json.loads(payload)}
    item = Item(item_id, b"\x0a\xff", label, payload)
    assert json.loads(answers.of_item(item)) == shown | {"code": "0aff"} | rest
    assert json.loads(answers.of_items([item] * 2, 7)) == {
        "items": [shown | {"code": "0aff"} | rest] * 2,
        "of": 7,
    }
    plain = Neighbour(item_id, 3, label, payload)
    full = Neighbour(item_id, 3, label, payload, 1e-7, b"\x0a\xff")
    certificate = Certificate(True, 16, 2, 1)
    found = [Found([plain, full], certificate, b"\x01"), Found([], certificate, b"\x02")]
    about = {"exact": True, "radius": 16, "looked": 2, "tie": 1}
    near = shown | {"distance": 3} | rest
    assert json.loads(answers.of_query(found, codes=True)) == {
        "results": [[near, near | {"score": 1e-7, "code": "0aff"}], []],
        "certificates": [about] * 2,
        "codes": ["01", "02"],
    }
    assert "codes" not in json.loads(answers.of_query(found, codes=False))
    unknown = [Found([], Certificate(True, 16, None, None))]
    assert json.loads(answers.of_query(unknown, codes=False))["certificates"] == [
        about | {"looked": None, "tie": None}
    ]
    assert json.loads(answers.of_items([], 0)) == {"items": [], "of": 0}


def test_lone_surrogates_of_earlier_versions_are_replaced() -> None:
    payload = rb'{"a":"\ud800","b":"\\ud800 \ud83e\udd17"}'
    shown = json.loads(answers.of_item(Item("a", b"", None, payload)))
    assert shown["payload"] == {"a": "\ufffd", "b": "\\ud800 \N{HUGGING FACE}"}
