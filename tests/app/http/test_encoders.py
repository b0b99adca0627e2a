from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from app.main import create_app
from app.service.settings import Settings
from hashing import HASHERS, make_hasher
from hashing.storage import to_bytes
from tests.app.conftest import NPY, npy
from tests.app.jobs.waiting import ended
from tests.methods import quick


@pytest.mark.parametrize("method", [m for m, cls in HASHERS.items() if cls.needs_torch])
def test_a_net_trained_elsewhere_is_brought(
    method: str, client: TestClient, X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher = make_hasher(method, n_bits=20, **quick(method)).fit(X[:100], y[:100])
    made = client.put("/v1/encoders/mine", content=to_bytes(hasher))
    assert made.status_code == 201
    assert made.json()["fingerprint"] == hasher.fingerprint
    answer = client.post("/v1/encoders/mine/encode", json={"descriptors": X[:9].tolist()}).json()
    assert answer["codes"] == [code.tobytes().hex() for code in hasher.encode(X[:9])]


def test_a_file_that_is_no_encoder_is_refused(small: TestClient) -> None:
    before = small.get("/v1/encoders").json()
    for file in (b"", b"no encoder", pickle.dumps([1])):
        answer = small.put("/v1/encoders/mine", content=file)
        assert answer.status_code == 400
        assert "no safetensors file" in answer.json()["detail"]
    good = to_bytes(make_hasher("lsh", n_bits=8).fit(np.ones((1, 3))))
    assert small.put("/v1/encoders/e", content=good).status_code == 409
    assert small.get("/v1/encoders").json() == before


@pytest.mark.parametrize("method", HASHERS)
def test_fitted_inline_it_encodes_as_the_library_does(
    method: str, client: TestClient, X: NDArray[Any], y: NDArray[Any]
) -> None:
    X, y = X[:100], y[:100]
    training = {"descriptors": X.tolist(), "labels": y.tolist()}
    new = {"name": "mine", "method": method, "n_bits": 20, "training": training}
    params = quick(method) | {"random_state": 3}
    made = client.post("/v1/encoders", json=new | {"params": params})
    assert made.status_code == (201 if HASHERS[method].data_free else 202)
    if made.status_code == 202:
        assert ended(client, made.json()["id"])["state"] == "done"
    hasher = make_hasher(method, n_bits=20, **params).fit(X, y)
    shown = client.get("/v1/encoders/mine").json()
    assert shown["fingerprint"] == hasher.fingerprint
    assert (shown["name"], shown["method"], shown["n_bits"]) == ("mine", method, 20)
    assert shown["dimension"] == 384
    assert shown["params"]["random_state"] == 3
    assert client.get("/v1/encoders").json() == [shown]

    expected = hasher.encode(X)
    url = "/v1/encoders/mine/encode"
    answer = client.post(url, json={"descriptors": X.tolist()}).json()
    assert answer == {"codes": [code.tobytes().hex() for code in expected], "n_bits": 20}
    answer = client.post(url, content=npy(X), headers=NPY)
    assert answer.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), expected)


def test_what_comes_back_is_what_is_accepted(small: TestClient) -> None:
    body = npy(np.ones((2, 4)))
    json = small.post("/v1/encoders/e/encode", content=body, headers=NPY | {"Accept": "text/json"})
    assert json.json()["n_bits"] == 12
    back = small.post(
        "/v1/encoders/e/encode",
        json={"descriptors": [[1, 1, 1, 1]]},
        headers={"Accept": "application/x-npy"},
    )
    assert np.load(io.BytesIO(back.content)).shape == (1, 2)


def test_of_a_dimension_alone_is_not_centred(client: TestClient) -> None:
    new = {"name": "e", "method": "lsh", "n_bits": 64, "dimension": 9}
    assert client.post("/v1/encoders", json=new).status_code == 201
    x = np.random.default_rng(0).normal(size=(5, 9))
    hasher = make_hasher("lsh", n_bits=64, center=False).fit(np.ones((1, 9)))
    codes = client.post("/v1/encoders/e/encode", json={"descriptors": x.tolist()}).json()["codes"]
    assert codes == [code.tobytes().hex() for code in hasher.encode(x)]


def test_in_use_it_cannot_be_dropped(small: TestClient) -> None:
    refused = small.delete("/v1/encoders/e")
    assert refused.status_code == 409
    assert "used by c" in refused.json()["detail"]
    assert small.delete("/v1/collections/c").status_code == 204
    assert small.delete("/v1/encoders/e").status_code == 204
    assert small.get("/v1/encoders/e").status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"descriptors": [[3e38] * 40]}},
        {"training": {"descriptors": [[1e25] * 4]}},
        {"method": "random-net-1", "training": {"descriptors": [[1e25] * 4]}},
        {"method": "random-net-2", "training": {"descriptors": [[1e25] * 4]}},
    ],
)
def test_what_is_accepted_does_not_stop_the_next_start(change: Any, settings: Settings) -> None:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 8} | change
        made = client.post("/v1/encoders", json=new)
        assert made.status_code in (201, 422), made.text
        before = client.get("/v1/encoders").json()
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/encoders").json() == before


def test_another_encoder_than_a_collections_is_refused_naming_both(small: TestClient) -> None:
    service = small.app.state.service  # type: ignore[attr-defined]
    other = make_hasher("lsh", n_bits=12, random_state=9).fit(np.zeros((1, 4)))
    ours = service.encoders.get("e").fingerprint
    # No call of the service replaces an encoder that a collection uses.
    store = service.encoders._store
    store.drop("e", lambda: None)
    store.add("e", other)
    answer = small.post("/v1/collections/c/query", json={"descriptors": [[1, 2, 3, 4]]})
    assert answer.status_code == 409
    assert ours in answer.json()["detail"]
    assert other.fingerprint in answer.json()["detail"]


def test_survives_a_restart(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        new = {"name": "e", "method": "random-net-2", "n_bits": 24, "dimension": 4}
        before = client.post("/v1/encoders", json=new).json()
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/encoders").json() == [before]
