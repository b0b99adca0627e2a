"""Input that is too large for one request goes in several, with one answer."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from bitcell_client import AsyncClient, Client, InvalidRequest, QueryResult
from hashing import make_hasher

X = np.random.default_rng(0).normal(size=(25, 8)).astype(np.float32)
IDS = [f"item-{i}" for i in range(len(X))]
LSH = make_hasher("lsh", n_bits=12, random_state=0).fit(X)
HEX = [code.tobytes().hex() for code in LSH.encode(X)]


class Service:
    """Encodes, and answers each query with itself; it records how many rows a request has."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.headers["Content-Type"] == "application/json":
            body = json.loads(request.read())
            queries = (
                body.get("ids") or body.get("codes") or np.array(body["descriptors"], np.float32)
            )
            with_codes = body["return_codes"]
        else:
            queries = np.load(io.BytesIO(request.read()))
            with_codes = request.url.params.get("return_codes") == "true"
        self.rows.append(len(queries))
        if isinstance(queries, np.ndarray) and np.isnan(queries).any():
            row = int(np.isnan(queries).any(1).argmax())
            detail = f"row {row}, column 0 is nan"
            return httpx2.Response(422, json={"detail": detail, "row": row})
        if request.url.path.endswith("/encode"):
            file = io.BytesIO()
            np.save(file, LSH.encode(queries))
            return httpx2.Response(200, content=file.getvalue())
        names = queries if isinstance(queries, list) else [str(query[0]) for query in queries]
        certificate = {"exact": True, "radius": 12, "looked": 25, "tie": 1}
        answer: dict[str, Any] = {
            "results": [[{"id": name, "distance": 0}] for name in names],
            "certificates": [certificate] * len(names),
        }
        if with_codes:
            answer["codes"] = [f"{name:>4.4}" for name in names]
        return httpx2.Response(200, json=answer)

    def call(self, make: Callable[[Any], Any], *, is_async: bool) -> Any:
        transport = httpx2.MockTransport(self)

        async def run() -> Any:
            async with AsyncClient("http://x", transport=transport) as client:
                return await make(client)

        if is_async:
            return asyncio.run(run())
        with Client("http://x", transport=transport) as client:
            return make(client)


@pytest.fixture(params=[False, True], ids=["blocking", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("expected", [[10, 10, 5], [10, 10], [10], [1]])
def test_encode_takes_any_number_of_descriptors(expected: list[int], is_async: bool) -> None:
    service, n = Service(), sum(expected)
    codes = service.call(lambda client: client.encode("e", X[:n], batch=10), is_async=is_async)
    np.testing.assert_array_equal(codes, LSH.encode(X[:n]))
    assert service.rows == expected


QUERIES: dict[str, Callable[[Any], Any]] = {
    "descriptors": lambda client: client.query("c", X, codes=True, batch=10),
    "descriptors with a filter": lambda client: client.query(
        "c", X, codes=True, filter={"a": 1}, batch=10
    ),
    "ids": lambda client: client.query("c", ids=IDS, codes=True, batch=10),
    "codes": lambda client: client.query("c", codes=HEX, return_codes=True, batch=10),
    "packed codes": lambda client: client.query(
        "c", codes=LSH.encode(X), return_codes=True, batch=10
    ),
}


@pytest.mark.parametrize("what", QUERIES)
def test_query_takes_any_number_of_queries(what: str, is_async: bool) -> None:
    service = Service()
    answer = service.call(QUERIES[what], is_async=is_async)
    names = IDS if what == "ids" else HEX if "codes" in what else [str(x[0]) for x in X]
    assert [row[0].id for row in answer.results] == names
    assert answer.codes == [f"{name:>4.4}" for name in names]
    assert len(answer.certificates) == 25
    assert service.rows == [10, 10, 5]
    service = Service()
    answer = service.call(lambda client: client.query("c", X[:20], batch=10), is_async=is_async)
    assert (len(answer.results), answer.codes) == (20, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"k": 40_000}, [5] * 5),
        ({"k": 25_000, "offset": 25_000}, [4] * 6 + [1]),
        ({"k": 5, "rerank": 100_000}, [2] * 12 + [1]),
        ({"k": 10**6}, [1] * 25),
        ({"radius": 3}, [10, 10, 5]),
    ],
)
def test_a_request_asks_for_no_more_neighbours_than_the_service_returns(
    options: dict[str, int], expected: list[int], is_async: bool
) -> None:
    service = Service()
    answer = service.call(
        lambda client: client.query("c", X, **options, batch=10), is_async=is_async
    )
    assert isinstance(answer, QueryResult)
    assert len(answer.results) == 25
    assert service.rows == expected


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [(X, 4), (X.astype(float), 2), (X.astype(np.int8), 2), (X.astype(np.float16), 2)],
)
def test_a_request_is_no_larger_than_the_service_takes(
    matrix: Any, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitcell_client.batches._BODY", 4 * 8 * 4)
    service = Service()
    service.call(lambda client: client.encode("e", matrix), is_async=False)
    assert service.rows[0] == expected
    assert sum(service.rows) == 25
    service = Service()
    service.call(lambda client: client.query("c", matrix, filter={}), is_async=False)
    assert service.rows == [1] * 25


def test_an_error_names_the_row_of_the_whole_input(is_async: bool) -> None:
    wrong = X.copy()
    wrong[13, 0] = np.nan
    calls: list[Callable[[Any], Any]] = [
        lambda client: client.encode("e", wrong, batch=10),
        lambda client: client.query("c", wrong, batch=10),
    ]
    for call in calls:
        message = r"row 3, column 0 is nan \(POST .*\); this is row 13 of the input$"
        with pytest.raises(InvalidRequest, match=message) as caught:
            Service().call(call, is_async=is_async)
        assert caught.value.row == 13
