"""Two replicas over one PostgreSQL and one Milvus: writes, jobs, keys, and the end of one of them."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from app.database.engine import database_url as parsed
from tests.app.shared.conftest import Replica, Servers, keys_of

ENCODER = {"method": "lsh", "n_bits": 64, "dimension": 8}


def items(first: int, n: int) -> list[dict[str, Any]]:
    """Return items whose descriptors are theirs alone."""
    rows = np.random.default_rng(first).normal(size=(n, 8)).round(6).tolist()
    return [{"id": f"item-{first + i}", "descriptor": row} for i, row in enumerate(rows)]


def make(replica: Replica, name: str) -> None:
    replica.call("POST", "/v1/encoders", {"name": name, **ENCODER})
    replica.call("POST", "/v1/collections", {"name": name, "encoder": name})


def ids_in(replica: Replica, name: str) -> set[str]:
    found: set[str] = set()
    while True:
        path = f"/v1/collections/{name}/items?limit=1000&offset={len(found)}"
        page = replica.call("GET", path)["items"]
        found |= {item["id"] for item in page}
        if len(page) < 1000:
            return found


def rows(servers: Servers, statement: str) -> list[Any]:
    engine = create_engine(parsed(servers.database))
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(statement)))
    finally:
        engine.dispose()


def test_what_one_writes_the_other_sees_at_once(replicas: list[Replica]) -> None:
    a, b = replicas
    make(a, "seen")
    assert b.call("GET", "/v1/encoders/seen")["n_bits"] == 64
    for number, (writer, reader) in enumerate([(a, b), (b, a)] * 3):
        new = items(10 * number, 5)
        assert writer.call("PUT", "/v1/collections/seen/items", {"items": new})["upserted"] == 5
        query = {"descriptors": [item["descriptor"] for item in new], "k": 1}
        found = reader.call("POST", "/v1/collections/seen/query", query)["results"]
        assert [hits[0]["distance"] for hits in found] == [0] * 5
        assert {item["id"] for item in new} <= ids_in(reader, "seen")
        gone = new[0]["id"]
        writer.call("DELETE", f"/v1/collections/seen/items/{gone}")
        assert reader.ask("GET", f"/v1/collections/seen/items/{gone}").status == 404
    b.call("DELETE", "/v1/collections/seen")
    assert a.ask("GET", "/v1/collections/seen").status == 404
    assert a.ask("POST", "/v1/collections/seen/query", query).status == 404


def test_writes_through_both_at_the_same_time_are_all_kept(replicas: list[Replica]) -> None:
    make(replicas[0], "both")

    def write(number: int) -> set[str]:
        new = items(100 * number, 20)
        # All of them write these two items too: each ends with the value of one of the writes.
        new += [{"id": f"common-{i}", "descriptor": [number] * 8, "label": number} for i in (0, 1)]
        replicas[number % 2].call("PUT", "/v1/collections/both/items", {"items": new})
        return {item["id"] for item in new}

    with ThreadPoolExecutor(4) as pool:
        expected = set().union(*pool.map(write, range(8)))
    for replica in replicas:
        assert ids_in(replica, "both") == expected
        assert replica.call("GET", "/v1/collections/both")["items"] == len(expected)
    labels = [
        {replica.call("GET", f"/v1/collections/both/items/common-{i}")["label"] for i in (0, 1)}
        for replica in replicas
    ]
    assert labels[0] == labels[1]
    assert len(labels[0]) == 1


def test_each_of_several_jobs_runs_once(replicas: list[Replica], servers: Servers) -> None:
    train = {"method": "itq", "n_bits": 8, "training": {"dataset": "digits"}}
    jobs = [
        replicas[i % 2].call("POST", "/v1/encoders", {"name": f"trained-{i}", **train})["id"]
        for i in range(4)
    ]
    for i, job in enumerate(jobs):
        # Asked for at the replica that did not accept it.
        assert finished(replicas[(i + 1) % 2], job)["state"] == "done"
    names = [f"trained-{i}" for i in range(4)]
    for replica in replicas:
        shown = {encoder["name"]: encoder for encoder in replica.call("GET", "/v1/encoders")}
        assert set(names) <= shown.keys()
    starts = rows(servers, "SELECT id, starts FROM jobs WHERE kind = 'training'")
    assert sorted(starts) == sorted((job, 1) for job in jobs)


def finished(replica: Replica, job: str) -> dict[str, Any]:
    while (shown := replica.call("GET", f"/v1/jobs/{job}"))["state"] in ("queued", "running"):
        Event().wait(0.05)
    assert isinstance(shown, dict)
    return shown


def test_a_revoked_key_is_refused_by_both_at_once(
    replicas: list[Replica], servers: Servers
) -> None:
    with keys_of(servers.database) as keys:
        for _ in range(3):
            key, secret = keys.create("short", "read")
            asked = [replica.ask("GET", "/v1/encoders", key=secret) for replica in replicas]
            assert [answer.status for answer in asked] == [200, 200]
            keys.revoke(key.id)
            asked = [replica.ask("GET", "/v1/encoders", key=secret) for replica in replicas]
            assert [answer.status for answer in asked] == [401, 401]


def kill_under_load(servers: Servers, number: int) -> None:
    """Kill one of two replicas while both take writes, and look for every item acknowledged."""
    victim, other = servers.replica(f"victim-{number}"), servers.replica(f"other-{number}")
    name = f"load-{number}"
    try:
        make(victim, name)
        benchmark = {"dataset": "digits", "methods": ["ksh"], "bits": [64], "seeds": [0, 1, 2, 3]}
        job = victim.call("POST", "/v1/benchmarks", benchmark)["id"]
        kept: list[str] = []
        killed = Event()

        def write(thread: int) -> int:
            n = 0
            while not killed.is_set() or n < 3:
                new = items(1_000_000 * thread + 10 * n, 10)
                replica = victim if thread % 2 and not killed.is_set() else other
                try:
                    answer = replica.ask("PUT", f"/v1/collections/{name}/items", {"items": new})
                except OSError:  # The one that was killed.
                    assert replica is victim
                    return n
                assert answer.status in (200, 503), answer
                if answer.status == 200:
                    kept.extend(item["id"] for item in new)
                    n += 1
                if n == 3 and thread == 1:
                    victim.stop(signal.SIGKILL)
                    killed.set()
            return n

        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(write, range(4)))
        assert max(written) >= 3
        assert set(kept) <= ids_in(other, name)
        # No batch is there in part.
        batches = {item.rpartition("-")[2][:-1] for item in ids_in(other, name)}
        assert len(ids_in(other, name)) == 10 * len(batches)
        query = {"descriptors": [items(0, 1)[0]["descriptor"]], "k": 1}
        (found,) = other.call("POST", f"/v1/collections/{name}/query", query)["results"]
        assert found[0] == {"id": "item-0", "distance": 0}
        # Whichever of them ran the job: it ends.
        assert finished(other, job)["state"] == "done"
    finally:
        victim.stop(signal.SIGKILL)
        other.stop()


def test_one_is_killed_under_load_and_the_other_goes_on(servers: Servers) -> None:
    kill_under_load(servers, 0)


@pytest.mark.slow
def test_nothing_is_lost_when_replicas_are_killed_again_and_again(servers: Servers) -> None:
    for number in range(1, 21):
        kill_under_load(servers, number)
