"""Jobs that find near-duplicates, against comparing all codes with all."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.jobs import duplicates, group_file
from app.jobs.group_file import GroupFile
from app.jobs.kind import Outcome, Task
from app.service.collections.duplicates import check_result, export
from app.service.settings import Settings
from bitcodes import Codes, hamming
from bitcodes.near_groups import Groups
from index import Full, NotFound, Store
from tests.app.asgi_client import TestClient
from tests.app.jobs.waiting import ended

URL = "/v1/collections/c/duplicates"


def no_progress(done: int, of: int, now: str) -> None:
    pass


def find(store: Store, folder: Path, **request: Any) -> tuple[dict[str, Any], GroupFile]:
    """Do what a job does, in this process."""
    folder.mkdir(exist_ok=True)
    request = {"collection": "c", "filter": None, "max_pairs": 10**6} | request
    export(store, Settings(data_dir=folder), request, folder, no_progress)
    outcome = duplicates.work(Task(folder, folder, request, None), no_progress)
    return outcome.result, reader(outcome)


def reader(outcome: Outcome) -> GroupFile:
    output = outcome.output or b""
    return GroupFile(lambda offset, size: output[offset : offset + size])


def lines(groups: GroupFile) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(groups.lines()).splitlines()]


def expected(codes: dict[str, NDArray[np.uint8]], radius: int) -> list[dict[str, Any]]:
    """Return the groups of items, as the lines have them."""
    ids = sorted(codes)
    matrix = np.array([codes[one] for one in ids]).reshape(len(ids), -1)
    distances = hamming(matrix, matrix)
    left, groups = set(range(len(ids))), []
    while left:
        group, new = set(), {min(left)}
        while new:
            group |= new
            near = set(np.flatnonzero((distances[sorted(new)] <= radius).any(axis=0)).tolist())
            new = near - group
        left -= group
        members = sorted(group)
        pairs = [
            [a, b, int(distances[members[a], members[b]])]
            for a, b in itertools.combinations(range(len(members)), 2)
            if distances[members[a], members[b]] <= radius
        ]
        if pairs:
            groups.append({"items": [ids[one] for one in members], "pairs": pairs})
    return sorted(groups, key=lambda group: (-len(group["items"]), group["items"]))


def clustered(rng: np.random.Generator, n: int, n_bits: int, flip: float) -> Codes:
    centres = rng.integers(0, 2, (max(1, n // 15), n_bits), np.uint8)
    bits = centres[rng.integers(0, len(centres), n)] ^ (rng.random((n, n_bits)) < flip)
    return np.packbits(bits, axis=1)


@pytest.mark.parametrize("flip", [0.5, 0.04], ids=["uniform", "clustered"])
def test_what_is_found_in_random_collections(flip: float, store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for n_bits in (8, 12, 64, 65, 512):  # Others are in tests/test_near_groups.py.
        n, radius = int(rng.integers(60, 160)), int(rng.integers(0, min(40, n_bits) + 1))
        collection = store.create("c", n_bits)
        codes = clustered(rng, n, n_bits, flip)
        ids = [f"ü{'x' * int(rng.integers(0, 9))}{i}" for i in rng.permutation(n).tolist()]
        labels = rng.integers(-1, 3, n)
        half = n // 2
        collection.upsert(ids[:half], codes[:half], labels[:half], [{"n": 1}] * half)
        store.settle()
        collection.upsert(ids[half:], codes[half:], labels[half:])
        gone = rng.choice(n, 10, replace=False).tolist()
        collection.delete([ids[i] for i in gone])
        kept = [i for i in range(n) if i not in gone]
        has_payload = np.arange(n) < half
        wanted: list[tuple[Any, NDArray[np.bool_]]] = [
            (None, np.ones(n, bool)),
            ({"label": {"in": [0, 1]}}, (labels == 0) | (labels == 1)),
            ({"n": 1, "label": {"gte": 0}}, has_payload & (labels >= 0)),
        ]
        for condition, matches in wanted:
            result, groups = find(store, tmp_path / "job", radius=radius, filter=condition)
            chosen = {ids[i]: codes[i] for i in kept if matches[i]}
            assert lines(groups) == expected(chosen, radius), (n_bits, radius)
            assert result["items"] == len(chosen)
        store.drop("c")


def arrays(groups: GroupFile) -> list[NDArray[Any]]:
    file = io.BytesIO(b"".join(groups.npy()))
    found = [np.load(file, allow_pickle=False) for _ in range(3)]
    assert not file.read()
    return found


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_both_forms_say_the_same_however_they_are_cut(
    chunk: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    codes = clustered(rng, 150, 64, 0.03)
    ids = [f'{"é" * (i % 7)}"{i}' for i in range(150)]
    store.create("c", 64).upsert(ids, codes)
    monkeypatch.setattr(group_file, "_CHUNK", chunk)
    monkeypatch.setattr(group_file, "_ID_BYTES", 100 * chunk)
    result, groups = find(store, tmp_path / "job", radius=3)
    found = lines(groups)
    assert found == expected(dict(zip(ids, codes, strict=True)), 3)
    names, numbers, pairs = arrays(groups)
    assert names.tolist() == [one for group in found for one in group["items"]]
    assert numbers.tolist() == [i for i, group in enumerate(found) for _ in group["items"]]
    ends = np.searchsorted(numbers, np.arange(len(found)))
    shifted = [
        [a + ends[i], b + ends[i], distance]
        for i, group in enumerate(found)
        for a, b, distance in group["pairs"]
    ]
    assert pairs.tolist() == shifted
    assert result["groups"] == len(found)
    assert result["grouped"] == len(names)
    assert result["pairs"] == len(pairs)
    for shown, group in zip(result["largest"], found, strict=False):
        assert shown["items"] == len(group["items"])
        assert shown["ids"] == group["items"][:12]
        assert shown["pairs"] == len(group["pairs"])
        assert shown["farthest"] == max(distance for *_, distance in group["pairs"])


@pytest.mark.parametrize(
    ("n", "size", "width"), [(4000, 2, 256), (4000, 4000, 256), (2**17, 2**17, 8)]
)
def test_no_part_of_an_answer_is_large(n: int, size: int, width: int) -> None:
    """A client that does not read keeps a part in memory."""
    ids = [f"{i:08}".encode() + "\N{GRINNING FACE}".encode() * (width - 8) for i in range(n)]
    starts = np.arange(0, n, size, dtype=np.uint32)
    pairs, distances = np.stack([starts, starts + 1], axis=1), np.ones(len(starts), np.uint16)
    sizes = np.full(len(starts), size)
    file = group_file.pack(ids, Groups(np.arange(n), sizes, pairs, distances, False))
    groups = GroupFile(lambda offset, size: file[offset : offset + size])
    assert max(map(len, groups.lines())) < 1 << 19
    assert max(map(len, groups.npy())) < 1 << 19
    assert arrays(groups)[1].tolist() == [i // size for i in range(n)]


def test_too_many_pairs_are_cut_off_but_groups_are_complete(store: Store, tmp_path: Path) -> None:
    ids = [f"i{i:03}" for i in range(200)]
    store.create("c", 16).upsert(ids, np.arange(200, dtype=np.uint16)[:, None].view(np.uint8))
    result, groups = find(store, tmp_path / "job", radius=2, max_pairs=30)
    assert result["truncated"]
    assert result["pairs"] == 30
    assert [group["items"] for group in lines(groups)] == [ids]
    assert sum(len(group["pairs"]) for group in lines(groups)) == 30


def test_an_empty_collection_has_no_groups(store: Store, tmp_path: Path) -> None:
    store.create("c", 100)
    result, groups = find(store, tmp_path / "job", radius=2)
    assert (result["items"], result["groups"], result["largest"]) == (0, 0, [])
    assert lines(groups) == []
    assert [len(array) for array in arrays(groups)] == [0, 0, 0]


def test_a_result_beyond_the_limit_fails_with_the_reason(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("c", 8).upsert(["a", "b"], np.zeros((2, 1), np.uint8))
    monkeypatch.setattr(duplicates, "MAX_OUTPUT", 10)
    with pytest.raises(ValueError, match="take a smaller radius"):
        find(store, tmp_path / "job", radius=0)


def test_a_disk_without_room_takes_no_result(tmp_path: Path) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 60

    with pytest.raises(Full):
        check_result(Settings(data_dir=tmp_path), {}, Outcome({}, Huge()))


def test_the_copying_ends_when_the_job_is_cancelled(store: Store, tmp_path: Path) -> None:
    def cancelled(done: int, of: int, now: str) -> None:
        raise InterruptedError

    store.create("c", 8).upsert(["a", "b"], np.zeros((2, 1), np.uint8))
    request, settings = {"collection": "c", "filter": None}, Settings(data_dir=tmp_path)
    with pytest.raises(InterruptedError):
        export(store, settings, request, tmp_path, cancelled)
    with pytest.raises(NotFound):
        export(store, settings, request | {"collection": "x"}, tmp_path, no_progress)


def test_over_http(client: TestClient) -> None:
    assert client.post("/v1/collections", json={"name": "c", "n_bits": 64}).status_code == 201
    codes = [code.tobytes().hex() for code in np.random.default_rng(0).integers(0, 2**63, 20)]
    items = [{"id": f"i{i:02}", "code": x, "label": i % 2} for i, x in enumerate(2 * codes)]
    assert client.put("/v1/collections/c/items", json={"items": items}).status_code == 200

    accepted = client.post(URL, json={"radius": 0, "filter": {"label": 1}})
    assert accepted.status_code == 202, accepted.text
    job = accepted.json()["id"]
    assert accepted.json()["url"] == accepted.headers["Location"] == f"/v1/jobs/{job}"
    shown = ended(client, job)
    assert shown["state"] == "done", shown
    assert shown["kind"] == "duplicates"
    assert shown["result"]["groups"] == 10
    answer = client.get(f"/v1/jobs/{job}/groups")
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert found[0] == {"items": ["i01", "i21"], "pairs": [[0, 1, 0]]}
    answer = client.get(f"/v1/jobs/{job}/groups", headers={"Accept": "application/x-npy"})
    names = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert names.tolist() == [one for group in found for one in group["items"]]

    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert client.get(f"/v1/jobs/{job}/groups").status_code == 404


def test_what_is_refused(client: TestClient) -> None:
    new = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 8}
    client.post("/v1/encoders", json=new)
    client.post("/v1/collections", json={"name": "c", "encoder": "e"})
    for body in (
        {},
        {"radius": -1},
        {"radius": 1.5},
        {"radius": 1, "max_pairs": 0},
        {"radius": 1, "max_pairs": 10**9},
        {"radius": 1, "filter": {}},
        {"radius": 1, "filter": {"a": {"near": 3}}},
        {"radius": 1, "k": 2},
    ):
        assert client.post(URL, json=body).status_code == 422, body
    assert client.post("/v1/collections/x/duplicates", json={"radius": 1}).status_code == 404
    # Every answer about the job has its filter.
    long = {"radius": 1, "filter": {"label": {"in": [*range(4000)]}}}
    refused = client.post(URL, json=long)
    assert refused.status_code == 413
    assert "has at most 16384 bytes of JSON" in refused.json()["detail"]
    assert client.get("/v1/jobs").json() == []
    assert client.get("/v1/jobs/x/groups").status_code == 404
    jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
    with jobs._lock:  # The job does not start.
        jobs._record.add("waiting", "duplicates", {}, None)
        jobs._record.add("other", "training", {}, None)
    assert client.get("/v1/jobs/waiting/groups").status_code == 409
    other = client.get("/v1/jobs/other/groups")
    assert other.status_code == 404
    assert "of kind training" in other.json()["detail"]
