"""Encoders over HTTP: creating, uploading, encoding and dropping."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.jobs.training import pack
from app.main import create_app
from app.service.settings import Settings
from hashing import HASHERS, Hasher, make_hasher
from hashing.storage import EncoderFile
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.jobs.waiting import ended
from tests.app.problems import assert_problem
from tests.methods import quick


@pytest.mark.parametrize("labelled", [False, True])
def test_descriptors_to_learn_from_may_be_npy(client: TestClient, labelled: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 6)).astype(np.float32)
    body = npy(X, np.arange(50) % 3) if labelled else npy(X)
    url = '/v1/encoders?name=mine&method=lsh&n_bits=20&params={"random_state":3}'
    answer = client.post(url, content=body, headers=NPY)
    assert answer.status_code == 201, answer.text
    expected = make_hasher("lsh", n_bits=20, random_state=3).fit(X)
    assert answer.json()["fingerprint"] == expected.fingerprint
    job = client.post("/v1/encoders?name=t&method=itq&n_bits=4", content=body, headers=NPY)
    assert job.status_code == 202
    request = client.get(job.json()["url"]).json()["request"]
    assert request["training"] == {"descriptors": 50}
    material = client.app.state.service.jobs._record.material(job.json()["id"])  # type: ignore[attr-defined]
    assert material == pack(X, np.arange(50) % 3 if labelled else None)
    client.delete(job.json()["url"])


LSH = "name=x&method=lsh&n_bits=8"
EYE = npy(np.eye(2))


@pytest.mark.parametrize(
    ("status", "message", "url", "body"),
    [
        (400, "the descriptors must be npy of numbers", LSH, npy(["a"])),
        (400, "the labels must be npy of integers", LSH, npy(np.eye(2), np.ones(2))),
        (400, "the descriptors are missing", LSH, b""),
        (422, "labels", "name=x&method=itq&n_bits=1", npy(np.eye(2), np.ones(1, int))),
        (422, "ksh learns from labels", "name=x&method=ksh&n_bits=1", EYE),
        (422, "query.name: Field required", "method=lsh&n_bits=8", EYE),
        (422, "query.n_bits: Input should be a valid integer", "name=x&method=lsh&n_bits=8.0", EYE),
        (422, "query.params", "name=x&method=lsh&n_bits=8&params=[1]", EYE),
        (422, "nbits (did you mean 'n_bits'?)", "name=x&method=lsh&nbits=8", EYE),
    ],
)
def test_npy_that_cannot_be_learnt_from_is_refused(
    client: TestClient, status: int, message: str, url: str, body: bytes
) -> None:
    answer = client.post(f"/v1/encoders?{url}", content=body, headers=NPY)
    assert_problem(answer, status, message)
    in_json = {"name": "x", "method": "lsh", "n_bits": 8, "dimension": 2}
    assert_problem(client.post("/v1/encoders?name=x", json=in_json), 422, "not in the URL")
    assert client.get("/v1/encoders").json() == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["net-1", "net-2"])
def test_a_net_trained_elsewhere_can_be_uploaded(
    method: str, client: TestClient, X: NDArray[Any], y: NDArray[Any]
) -> None:
    hasher = make_hasher(method, n_bits=20, **quick(method)).fit(X[:100], y[:100])
    uploaded = client.put("/v1/encoders/mine", content=hasher.to_bytes())
    assert uploaded.status_code == 201
    assert uploaded.json()["fingerprint"] == hasher.fingerprint
    answer = client.post("/v1/encoders/mine/encode", json={"descriptors": X[:9].tolist()}).json()
    assert answer["codes"] == [code.tobytes().hex() for code in hasher.encode(X[:9])]


def test_a_file_that_is_not_an_encoder_is_refused(small: TestClient) -> None:
    before = small.get("/v1/encoders").json()
    for file in (b"", b"no encoder", pickle.dumps([1])):
        answer = small.put("/v1/encoders/mine", content=file)
        assert answer.status_code == 400
        assert "no safetensors file" in answer.json()["detail"]
    good = make_hasher("lsh", n_bits=8).fit(np.ones((1, 3))).to_bytes()
    assert small.put("/v1/encoders/e", content=good).status_code == 409
    assert small.get("/v1/encoders").json() == before


def claiming(hasher: Hasher, n_features: int) -> bytes:
    """The file of a fitted hasher whose header claims another dimension."""
    return replace(EncoderFile.from_bytes(hasher.to_bytes()), n_features=n_features).to_bytes()


def test_a_false_dimension_is_refused_without_reserving_memory(small: TestClient) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 1)), np.arange(20) % 2
    ksh = make_hasher("ksh", n_bits=1, n_anchors=1).fit(X, y)
    # The arrays of ssh do not depend on the dimension: here the claim contradicts nothing.
    ssh = make_hasher("ssh", n_bits=1, n_pairs=10).fit(X, y)
    for hasher, status, message in (
        (ksh, 400, "anchors_ must have shape"),
        (ssh, 422, "dimension must be from 1 to 16384, got 134217728"),
    ):
        file = claiming(hasher, 134_217_728)
        assert len(file) < 1000
        tracemalloc.start()
        answer = small.put("/v1/encoders/mine", content=file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10e6  # one vector of the claimed dimension takes 512 MiB
        assert answer.status_code == status
        assert message in answer.json()["detail"]
    assert [encoder["name"] for encoder in small.get("/v1/encoders").json()] == ["e"]


def test_the_limit_of_learned_values_holds_for_uploads(
    settings: Settings,
) -> None:
    arrays = {
        "weights_": np.zeros((16_384, 1024), np.float32),
        "bias_": np.zeros(1024, np.float32),
        "offset_": np.zeros(1, np.float32),
    }
    file = EncoderFile("lsh", {"n_bits": 1024}, 16_384, arrays).to_bytes()
    roomy = settings.model_copy(update={"max_body": 1 << 27})
    with TestClient(create_app(roomy), raise_server_exceptions=False) as client:
        answer = client.put("/v1/encoders/mine", content=file)
    assert answer.status_code == 413
    assert "learned values; this one would have 16,778,241" in answer.json()["detail"]


def test_the_limit_of_learned_values_holds_before_training(small: TestClient) -> None:
    new = {"name": "x", "method": "ksh", "n_bits": 16, "params": {"n_anchors": 10_000}}
    training = {"descriptors": [[0.0] * 16_384, [1.0] * 16_384], "labels": [0, 1]}
    answer = small.post("/v1/encoders", json=new | {"training": training})
    assert answer.status_code == 413
    assert "this one would have 164,000,017" in answer.json()["detail"]


# One method for each way: at once with one and two layers, and by a job without labels, with labels
# and with torch. The process of a job takes seconds to start.
@pytest.mark.parametrize("method", ["lsh", "random-net-2", "itq", "ksh", "net-1"])
def test_an_encoder_fitted_over_http_encodes_like_the_library(
    method: str, client: TestClient, X: NDArray[Any], y: NDArray[Any]
) -> None:
    X, y = X[:100], y[:100]
    training = {"descriptors": X.tolist(), "labels": y.tolist()}
    new = {"name": "mine", "method": method, "n_bits": 20, "training": training}
    params = quick(method) | {"random_state": 3}
    created = client.post("/v1/encoders", json=new | {"params": params})
    assert created.status_code == (201 if HASHERS[method].data_free else 202)
    if created.status_code == 202:
        assert ended(client, created.json()["id"])["state"] == "done"
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


def test_the_accept_header_chooses_the_format(small: TestClient) -> None:
    body = npy(np.ones((2, 4)))
    json = small.post("/v1/encoders/e/encode", content=body, headers=NPY | {"Accept": "text/json"})
    assert json.json()["n_bits"] == 12
    back = small.post(
        "/v1/encoders/e/encode",
        json={"descriptors": [[1, 1, 1, 1]]},
        headers={"Accept": "application/x-npy"},
    )
    assert np.load(io.BytesIO(back.content)).shape == (1, 2)


def test_an_encoder_made_for_a_dimension_does_not_centre(client: TestClient) -> None:
    new = {"name": "e", "method": "lsh", "n_bits": 64, "dimension": 9}
    assert client.post("/v1/encoders", json=new).status_code == 201
    x = np.random.default_rng(0).normal(size=(5, 9))
    hasher = make_hasher("lsh", n_bits=64, center=False).fit(np.ones((1, 9)))
    codes = client.post("/v1/encoders/e/encode", json={"descriptors": x.tolist()}).json()["codes"]
    assert codes == [code.tobytes().hex() for code in hasher.encode(x)]


def test_an_encoder_in_use_cannot_be_dropped(small: TestClient) -> None:
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
def test_an_accepted_encoder_does_not_prevent_the_next_start(
    change: Any, settings: Settings
) -> None:
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 8} | change
        created = client.post("/v1/encoders", json=new)
        assert created.status_code in (201, 422), created.text
        before = client.get("/v1/encoders").json()
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/encoders").json() == before


def test_an_encoder_that_does_not_match_its_collection_is_refused(small: TestClient) -> None:
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


def test_encoders_survive_a_restart(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        new = {"name": "e", "method": "random-net-2", "n_bits": 24, "dimension": 4}
        before = client.post("/v1/encoders", json=new).json()
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/encoders").json() == [before]
