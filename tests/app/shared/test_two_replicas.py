"""Two replicas over one PostgreSQL and one Milvus: writes, jobs, keys, and one that is killed."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from itertools import count
from threading import Event
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from app.database.engine import database_url as parsed
from tests.app.shared.conftest import (
    ENDLESS_JOBS,
    QUICK_JOBS,
    SOON_STALE,
    Replica,
    Servers,
    ids_in,
    items,
    keys_of,
    make,
)

# Shorter tests are in tests/app/service and test_replicas.py.
pytestmark = pytest.mark.slow

BENCHMARK = {"dataset": "digits", "methods": ["lsh"], "bits": [8]}


def rows(servers: Servers, statement: str) -> list[Any]:
    engine = create_engine(parsed(servers.database))
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(statement)))
    finally:
        engine.dispose()


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
    jobs = [replicas[i % 2].call("POST", "/v1/benchmarks", BENCHMARK)["id"] for i in range(4)]
    for i, job in enumerate(jobs):
        # Asked for at the replica that did not accept it.
        shown = replicas[(i + 1) % 2].follow(job, "done")
        assert shown["progress"] is None or shown["progress"]["of"] == 3
    starts = rows(servers, "SELECT id, starts FROM jobs WHERE kind = 'benchmark'")
    assert sorted(starts) == sorted((job, 1) for job in jobs)
    assert not rows(servers, "SELECT * FROM job_claims")


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
    name = f"load-{number}"
    victim = servers.replica(f"victim-{number}", ENDLESS_JOBS)
    job = victim.call("POST", "/v1/benchmarks", BENCHMARK)["id"]
    victim.follow(job, "running")
    other = servers.replica(f"other-{number}", QUICK_JOBS + SOON_STALE)
    try:
        make(victim, name)
        kept: set[str] = set()
        killed = Event()

        def write(thread: int) -> None:
            """Write until three batches are stored after the other replica was killed."""
            replica, after = (victim, other)[thread % 2], 0
            for n in count():
                new = items(1_000_000 * thread + 10 * n, 10)
                try:
                    answer = replica.ask("PUT", f"/v1/collections/{name}/items", {"items": new})
                except (OSError, HTTPException):  # The answer may be cut off.
                    assert replica is victim, "the other one answers"
                    return
                assert answer.status in (200, 503), answer
                if answer.status == 200:
                    kept.update(item["id"] for item in new)
                    after += killed.is_set()
                if thread == 0 and n == 2:
                    victim.stop(signal.SIGKILL)
                    killed.set()
                if after == 3:
                    return

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        found = ids_in(other, name)
        assert kept <= found
        # No batch is there in part.
        batches = Counter(item[: -len("0")] for item in found)
        assert set(batches.values()) == {10}
        query = {"descriptors": [items(0, 1)[0]["descriptor"]], "k": 1}
        ((hit,),) = other.call("POST", f"/v1/collections/{name}/query", query)["results"]
        assert (hit["id"], hit["distance"]) == ("item-0", 0)
        other.follow(job, "done")
        assert rows(servers, f"SELECT starts FROM jobs WHERE id = '{job}'") == [(2,)]
    finally:
        victim.stop(signal.SIGKILL)
        other.stop()


def test_one_is_killed_under_load_and_the_other_goes_on(servers: Servers) -> None:
    kill_under_load(servers, 0)


def test_nothing_is_lost_when_replicas_are_killed_again_and_again(servers: Servers) -> None:
    for number in range(1, 21):
        kill_under_load(servers, number)
