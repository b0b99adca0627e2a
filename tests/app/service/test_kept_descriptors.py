"""Kept descriptors give the codes of their items again, or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.service.service import Service
from app.service.settings import Settings
from hashing import InvalidInput
from index import DescriptorBatch, InvalidItems, SearchOptions
from tests.app.asgi_client import TestClient
from tests.app.jobs.waiting import ended

N = 400
IDS = [f"{i}" for i in range(N)]
X = np.random.default_rng(0).normal(size=(N, 16))
# Each of them is too much for float16: too small, too far from zero, too large, or of several
# scales.
DATA = {
    "tiny": X * 1e-9,
    "far from zero": X + 5000,
    "large": X * 1e6,
    "beyond float16": X * 100 + 1e6,
    "of two scales": X * np.where(np.arange(16) % 2, 1e-7, 1e-12),
}


@pytest.fixture
def service(client: TestClient) -> Service:
    """The service of `client`."""
    found: Service = client.app.state.service  # type: ignore[attr-defined]
    return found


def make(service: Service, data: NDArray[Any], kept: Any) -> None:
    """Make encoders `e` and `f` for the data, and a collection `c` of `e`."""
    for seed, name in enumerate("ef"):
        service.encoders.create(name, "lsh", 64, {"random_state": seed}, descriptors=data)
    service.collections.create("c", "e", kept)


def codes(service: Service) -> dict[str, bytes]:
    items, _ = service.collections.get("c").items(0, N)
    return {item.id: item.code for item in items}


@pytest.mark.parametrize("what", DATA)
def test_re_encoding_gives_the_codes_of_the_descriptors(
    what: str, client: TestClient, service: Service
) -> None:
    """In float16, tiny ones had one code, those far from zero 97, and large ones were refused."""
    data = DATA[what]
    make(service, data, kept=True)
    service.collections.upsert("c", IDS, data)
    before = codes(service)
    assert len(set(before.values())) > 390
    assert ended(client, service.collections.reencode("c", "f"))["state"] == "done"
    expected = service.encoders.get("f").hasher.encode(data)
    assert codes(service) == {i: code.tobytes() for i, code in zip(IDS, expected, strict=True)}
    assert ended(client, service.collections.reencode("c", "e"))["state"] == "done"
    assert codes(service) == before


@pytest.mark.parametrize("what", DATA)
def test_float16_refuses_what_it_would_lose(what: str, service: Service) -> None:
    data = DATA[what]
    make(service, data, kept="float16")
    for ids, part in ((IDS, data), (IDS[:5], data[:5])):
        with pytest.raises((InvalidInput, InvalidItems), match=r"float16"):
            service.collections.upsert("c", ids, part)
    assert len(service.collections.get("c")) == 0


@pytest.mark.parametrize("kept", ["float16", "float32"])
def test_a_few_tiny_ones_among_others_are_noticed(
    kept: Any, client: TestClient, service: Service
) -> None:
    data = X.copy()
    data[:3] *= 1e-9
    for seed, name in enumerate("ef"):  # Nothing is subtracted, so that tiny ones have codes.
        service.encoders.create(name, "lsh", 64, {"random_state": seed}, dimension=16)
    service.collections.create("c", "e", kept)
    if kept == "float16":
        with pytest.raises(InvalidInput, match="a quarter of those of 3 items"):
            service.collections.upsert("c", IDS, data)
        service.collections.get("c").upsert(
            IDS, service.encoders.get("e").hasher.encode(data), descriptors=data
        )
        before = codes(service)
        job = ended(client, service.collections.reencode("c", "f"))
        assert (job["state"], codes(service)) == ("failed", before)
    else:
        service.collections.upsert("c", IDS, data)
        assert ended(client, service.collections.reencode("c", "f"))["state"] == "done"
        assert len(set(codes(service).values())) > 390


def test_float16_takes_what_it_can_hold(client: TestClient, service: Service) -> None:
    make(service, X, kept="float16")
    service.collections.upsert("c", IDS, X)
    for i in range(0, N, 20):
        service.collections.upsert("c", IDS[i : i + 1], X[i : i + 1])
    before = codes(service)
    for name in "fe":
        assert ended(client, service.collections.reencode("c", name))["state"] == "done"
    after = codes(service)
    changed = sum((int.from_bytes(before[i]) ^ int.from_bytes(after[i])).bit_count() for i in IDS)
    assert changed < 0.001 * 64 * N


@pytest.mark.parametrize("what", ["tiny", "far from zero", "of two scales"])
def test_descriptors_that_an_earlier_version_lost_replace_no_codes(
    what: str, client: TestClient, service: Service
) -> None:
    data = DATA[what]
    make(service, data, kept="float16")
    collection = service.collections.get("c")
    # As earlier versions wrote: whatever float16 made of them.
    hasher = service.encoders.get("e").hasher
    collection.upsert(IDS, hasher.encode(data), descriptors=data)
    before = codes(service)
    job = ended(client, service.collections.reencode("c", "f"))
    assert job["state"] == "failed"
    assert "do not give the codes of the items" in job["error"]
    assert "Nothing was changed" in job["error"]
    assert codes(service) == before
    assert service.collections.get("c").encoder == "e"


@pytest.mark.parametrize("kept", ["float16", "float32"])
def test_every_use_has_the_values_that_are_kept(
    kept: Any, client: TestClient, service: Service
) -> None:
    make(service, X, kept)
    service.collections.upsert("c", IDS, X)
    expected = X.astype(kept)
    # Items whose label changes keep their descriptors.
    change = {"items": [{"id": item_id, "label": 1} for item_id in IDS[:7]]}
    assert client.patch("/v1/collections/c/items", json=change).status_code == 200
    file, _, _ = service.snapshots.write("c")
    service.snapshots.restore("d", file)
    for name in "cd":
        collection = service.collections.get(name)
        assert (collection.descriptor_type, collection.dimension) == (kept, 16)
        found = collection.descriptors(IDS)
        assert found.dtype == kept
        assert np.array_equal(found, expected)
        batches: Iterator[DescriptorBatch] = collection.descriptor_batches()
        for batch in batches:  # In no order.
            assert np.array_equal(batch.descriptors, expected[[int(i) for i in batch.ids]])
        options = SearchOptions(3, rerank=50, rerank_by="descriptors")
        with service.answers.counted("") as size:
            (answer,) = service.searches.search(name, options, size, descriptors=X[:1] + 0.5).found
        for near in answer.neighbours:
            distance = np.linalg.norm(expected[int(near.id)].astype(float) - (X[0] + 0.5))
            assert near.score == pytest.approx(distance, rel=1e-12)


def test_the_type_survives_a_restart_and_is_shown(
    client: TestClient, service: Service, settings: Settings, tmp_path: Path
) -> None:
    service.encoders.create("e", "lsh", 12, {}, dimension=4)
    shown = {}
    for name, kept in {"a": True, "b": "float16", "c": "float32", "d": False}.items():
        body = {"name": name, "encoder": "e", "keep_descriptors": kept}
        answer = client.post("/v1/collections", json=body).json()
        shown[name] = (answer["keep_descriptors"], answer["descriptor_type"])
    assert shown == {
        "a": (True, "float32"),
        "b": (True, "float16"),
        "c": (True, "float32"),
        "d": (False, None),
    }
    for name, kept, status in (("b", True, 200), ("b", "float16", 200), ("b", "float32", 409)):
        body = {"encoder": "e", "keep_descriptors": kept}
        assert client.put(f"/v1/collections/{name}", json=body).status_code == status
    refused = client.post(
        "/v1/collections", json={"name": "x", "encoder": "e", "keep_descriptors": "float64"}
    )
    assert refused.status_code == 422
    service.close()
    with closing(Service(settings)) as again:
        assert {one.name: one.descriptor_type for one in again.collections.list()} == {
            name: kept for name, (_, kept) in shown.items()
        }
