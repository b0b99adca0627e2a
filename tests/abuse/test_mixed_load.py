"""Check answers against an oracle during re-encodings, drops, restores, snapshots and writes."""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.abuse.siege import LimitedService, Siege

DIMENSION, N_BITS, K = 16, 64, 10
N_ITEMS, N_LABELS = 600, 3
GROUP = [f"g{i}" for i in range(8)]
ENCODERS = ("mixed-a", "mixed-b")
# Multiples of 1/64: re-encoding reads descriptors as float16, which holds them exactly.
X = (np.random.default_rng(1).normal(size=(N_ITEMS, DIMENSION)) * 64).round() / 64
QUERIES = np.random.default_rng(2).normal(size=(40, DIMENSION)).round(3)
FILTERS: list[Any] = [None, {"label": 1}, {"even": True}, {"i": {"gte": 0}}]


class _Connection:
    """One connection to the service. It counts the answers."""

    def __init__(self, service: LimitedService) -> None:
        address = urlsplit(service.url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        self.answers = 0

    def call(self, method: str, path: str, body: Any, *statuses: int) -> Any:
        """Return the status and the JSON of an answer; check that the status is one of these."""
        headers = {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        while True:
            self._http.request(method, path, content, headers)
            answer = self._http.getresponse()
            received = answer.read()
            if answer.status != 503:
                break
        self.answers += 1
        assert answer.status in statuses, (method, path, answer.status, received)
        return answer.status, json.loads(received) if received else None

    def close(self) -> None:
        self._http.close()


def _payload(i: int) -> dict[str, Any]:
    return {"i": i, "even": i % 2 == 0}


def _matches(condition: Any) -> list[int]:
    if condition == {"label": 1}:
        return [i for i in range(N_ITEMS) if i % N_LABELS == 1]
    return list(range(0, N_ITEMS, 2 if condition == {"even": True} else 1))


class _Oracle:
    """The nearest items of each query for the codes of each encoder, by comparing all pairs."""

    def __init__(self, connection: _Connection) -> None:
        self._nearest = {
            (encoder, query, f): near
            for encoder in ENCODERS
            for query, distances in enumerate(_distances(connection, encoder))
            for f, condition in enumerate(FILTERS)
            for near in [_nearest(distances, _matches(condition))]
        }

    def check(self, answer: Any, query: int, f: int) -> None:
        """Check that an answer is complete and right for the codes of one of the encoders."""
        found = [(item["distance"], item["id"]) for item in answer["results"][0]]
        expected = [self._nearest[encoder, query, f] for encoder in ENCODERS]
        assert found in expected, (found, expected)
        assert answer["certificates"][0]["exact"] is True
        for item in answer["results"][0]:
            i = int(item["id"])
            assert item["payload"] == _payload(i)
            assert item["label"] == i % N_LABELS


def _distances(connection: _Connection, encoder: str) -> np.ndarray:
    codes = []
    for descriptors in (QUERIES, X):
        body = {"descriptors": descriptors.tolist()}
        _, answer = connection.call("POST", f"/v1/encoders/{encoder}/encode", body, 200)
        codes.append(np.array([list(bytes.fromhex(code)) for code in answer["codes"]], np.uint8))
    distances: np.ndarray = np.bitwise_count(codes[0][:, None] ^ codes[1][None]).sum(2, np.int64)
    return distances


def _nearest(distances: np.ndarray, items: list[int]) -> list[tuple[int, str]]:
    return sorted((int(distances[i]), f"{i:04d}") for i in items)[:K]


def _prepare(connection: _Connection) -> None:
    for seed, encoder in enumerate(ENCODERS):
        new = {"name": encoder, "method": "lsh", "n_bits": N_BITS, "dimension": DIMENSION}
        connection.call("POST", "/v1/encoders", new | {"params": {"random_state": seed}}, 201)
    items = [
        {"id": f"{i:04d}", "descriptor": x, "label": i % N_LABELS, "payload": _payload(i)}
        for i, x in enumerate(X.tolist())
    ]
    for name in ("flipped", "dropped", "grouped"):
        new_collection = {"name": name, "encoder": ENCODERS[0], "keep_descriptors": True}
        connection.call("POST", "/v1/collections", new_collection, 201)
        if name != "grouped":
            connection.call("PUT", f"/v1/collections/{name}/items", {"items": items}, 200)


class _Load:
    """The work of each thread: one step at a time, until the time is over."""

    def __init__(self, service: LimitedService, seconds: float) -> None:
        self.service = service
        setup = _Connection(service)
        _prepare(setup)
        self.oracle = _Oracle(setup)
        setup.close()
        self.written = 0
        self.failed = False
        self._deadline = time.perf_counter() + seconds

    def repeat(self, step: Callable[[_Connection, int], None]) -> int:
        """Repeat a step until the time is over or another thread failed; return the answers."""
        connection = _Connection(self.service)
        i = 0
        try:
            while time.perf_counter() < self._deadline and not self.failed:
                step(connection, i)
                i += 1
        except BaseException:
            self.failed = True
            raise
        finally:
            connection.close()
        assert i > 1
        return connection.answers

    def read(self, name: str) -> Callable[[_Connection, int], None]:
        """Query a collection; it may be missing only if it is the one that is dropped."""
        statuses = (200, 404) if name == "dropped" else (200,)

        def step(connection: _Connection, i: int) -> None:
            query, f = i % len(QUERIES), i % len(FILTERS)
            body = {"descriptors": [QUERIES[query].tolist()], "k": K}
            if FILTERS[f] is not None:
                body["filter"] = FILTERS[f]
            path = f"/v1/collections/{name}/query"
            status, answer = connection.call("POST", path, body, *statuses)
            if status == 200:
                self.oracle.check(answer, query, f)

        return step

    def read_pages(self, connection: _Connection, i: int) -> None:
        """List items of a page: all of them have their payloads."""
        path = f"/v1/collections/flipped/items?limit=50&offset={i * 50 % N_ITEMS}"
        _, page = connection.call("GET", path, None, 200)
        assert page["of"] == N_ITEMS
        assert len(page["items"]) == 50
        for item in page["items"]:
            assert item["payload"] == _payload(int(item["id"]))
        _, shown = connection.call("GET", "/v1/collections/flipped/statistics", None, 200)
        assert shown["buckets"]["looked"] == N_ITEMS

    def read_group(self, connection: _Connection, i: int) -> None:
        """A query sees all items of the group as one write left them, or none after a delete."""
        acknowledged = self.written
        body = {"descriptors": [QUERIES[0].tolist()], "k": len(GROUP) + 1}
        _, answer = connection.call("POST", "/v1/collections/grouped/query", body, 200)
        found = answer["results"][0]
        versions = {item["payload"]["version"] for item in found}
        assert sorted(item["id"] for item in found) in ([], GROUP)
        assert len(versions) <= 1
        assert all(version >= acknowledged for version in versions), (versions, acknowledged)

    def write_group(self, connection: _Connection, i: int) -> None:
        """Write the group with a new version; delete it now and then."""
        items = [
            {"id": id_, "descriptor": QUERIES[j].tolist(), "payload": {"version": i + 1}}
            for j, id_ in enumerate(GROUP)
        ]
        connection.call("PUT", "/v1/collections/grouped/items", {"items": items}, 200)
        self.written = i + 1
        if i % 5 == 4:
            path = "/v1/collections/grouped/items/delete"
            connection.call("POST", path, {"ids": GROUP}, 200)

    def reencode(self, connection: _Connection, i: int) -> None:
        """Change the encoder of `flipped`."""
        body = {"encoder": ENCODERS[(i + 1) % 2]}
        _, job = connection.call("POST", "/v1/collections/flipped/reencode", body, 202)
        shown: dict[str, Any] = {"state": "queued"}
        while shown["state"] in ("queued", "running"):
            _, shown = connection.call("GET", job["url"], None, 200)
        assert shown["state"] == "done", shown

    def drop_and_restore(self, connection: _Connection, i: int) -> None:
        """Take a snapshot of `dropped`, drop it, and restore it."""
        path = "/v1/collections/dropped"
        _, made = connection.call("POST", f"{path}/snapshots", None, 201)
        connection.call("DELETE", path, None, 204)
        connection.call("POST", f"{path}/restore", {"snapshot": made["snapshot"]}, 201)
        (self.service.data_dir / "snapshots" / made["snapshot"]).unlink()

    def take_snapshots(self, connection: _Connection, i: int) -> None:
        """Take snapshots of collections that are dropped or change meanwhile."""
        name = ("dropped", "flipped", "grouped")[i % 3]
        path = f"/v1/collections/{name}/snapshots"
        status, made = connection.call("POST", path, None, 201, 404)
        assert status == 201 or name == "dropped"
        if status == 201:
            (self.service.data_dir / "snapshots" / made["snapshot"]).unlink()


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_every_answer_is_right(tmp_path: Path, seconds: float) -> None:
    service = LimitedService(tmp_path / "data")
    try:
        load = _Load(service, seconds)
        steps = {
            "queries during re-encodings": load.read("flipped"),
            "queries during drops": load.read("dropped"),
            "pages and statistics": load.read_pages,
            "queries of the group": load.read_group,
            "writes of the group": load.write_group,
            "re-encodings": load.reencode,
            "drops and restores": load.drop_and_restore,
            "snapshots": load.take_snapshots,
        }
        with (
            Siege(service, megabytes=300, seconds=seconds + 30),
            ThreadPoolExecutor(len(steps)) as pool,
        ):
            answers = list(pool.map(load.repeat, steps.values()))
        logging.info("answers: %s", dict(zip(steps, answers, strict=True)))
    finally:
        service.stop()
