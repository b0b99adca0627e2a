"""Two processes of the service that share one PostgreSQL and one Milvus."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from app.database.engine import open_engine
from app.database.migrate import migrate
from app.database.shared import SharedState
from app.service.state.keys import SharedKeys
from tests.app.service_process import Process
from tests.milvus_server import PATIENCE, using

# Benchmarks are jobs that take three steps, or never end. A replica that has not been heard of for
# two seconds has ended; see app/jobs/queue.py.
_WORK = "from app.jobs import benchmark; from tests.app.jobs import work_functions as w; "
QUICK_JOBS = f"{_WORK} benchmark.work = w.three_steps"
ENDLESS_JOBS = f"{_WORK} benchmark.work = w.never_end"
SOON_STALE = "; from app.jobs.queue import Jobs; Jobs.__init__.__kwdefaults__.update(stale=2.0)"

ENCODER = {"method": "lsh", "n_bits": 64, "dimension": 8}
# Milvus is given a second in the tests that stop it. PostgreSQL is given two for each connection of
# the pool and three for a new one, 10 in all. The rest is for a machine that is busy.
SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """What a replica answered."""

    status: int
    headers: dict[str, str]
    body: Any


class Replica(Process):
    """A replica, of which refusals are answers too."""

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "") -> Answer:
        """Return an answer, also one that refuses the call."""
        headers = {"Content-Type": "application/json"} | self.headers
        if key:
            headers |= authorization(key)
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, headers, method=method)
        try:
            with urlopen(request, timeout=60) as answer:
                found = answer.read()
                return Answer(answer.status, dict(answer.headers), json.loads(found or "null"))
        except HTTPError as refused:
            with refused:
                return Answer(refused.code, dict(refused.headers), json.loads(refused.read()))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the body of an answer that is none of an error."""
        answer = self.ask(method, path, body)
        assert answer.status < 300, answer
        return answer.body


def authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Servers:
    """What replicas share: the URL of a database, that of Milvus, a folder, and a key to write."""

    database: str
    index: str
    folder: Path
    key: str

    def replica(self, name: str, code: str = QUICK_JOBS, **environment: str) -> Replica:
        """Start a replica with a data directory of its own."""
        replica = Replica(
            self.folder / name,
            code,
            BITCELL_DATABASE_URL=self.database,
            BITCELL_INDEX_URL=self.index,
            BITCELL_SHARED_DIR=str(self.folder / "shared"),
            BITCELL_DEMO="false",
            BITCELL_REQUIRE_KEYS="true",
            **environment,
        )
        replica.headers |= authorization(self.key)
        assert replica.url, replica.log
        return replica


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


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Stop a process during the block, but not so long that Milvus would never serve again."""
    going_on = Timer(10, os.kill, (process, signal.SIGCONT))
    os.kill(process, signal.SIGSTOP)
    going_on.start()
    try:
        yield
    finally:
        going_on.cancel()
        os.kill(process, signal.SIGCONT)


def unavailable(replica: Replica, method: str, path: str, body: object = None) -> Answer:
    """Return an answer, which must be 503 with Retry-After and come in time."""
    start = monotonic()
    answer = replica.ask(method, path, body)
    assert monotonic() - start < SECONDS
    assert answer.status == 503, answer
    assert int(answer.headers.get("Retry-After", answer.headers.get("retry-after", "0"))) > 0
    return answer


def recovered(replica: Replica, method: str, path: str, body: object = None) -> Answer:
    """Return the first answer that is not 503, which must come within some time."""
    end = monotonic() + PATIENCE
    while (answer := replica.ask(method, path, body)).status == 503:
        assert monotonic() < end, answer
        Event().wait(0.1)
    return answer


@contextmanager
def keys_of(url: str) -> Iterator[SharedKeys]:
    """Open the keys of a database, whose tables are made if they are missing."""
    engine = open_engine(url)
    try:
        migrate(engine)
        yield SharedKeys(SharedState(engine), required_here=False)
    finally:
        engine.dispose()


def made(factory: pytest.TempPathFactory, database: str, index: str) -> Servers:
    """Return what replicas share, with a key in a database that is empty."""
    folder = factory.mktemp("replicas")
    (folder / "shared").mkdir()
    with keys_of(database) as keys:
        _, secret = keys.create("tests", "write")
    return Servers(database, index, folder, secret)


@pytest.fixture(scope="module")
def servers(
    database_url: str, milvus_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """Servers that other tests use as well, and that none stops."""
    with using(milvus_folder, alone=False) as server:
        yield made(tmp_path_factory, database_url, server.url)


@pytest.fixture(scope="module")
def replicas(servers: Servers) -> Iterator[list[Replica]]:
    """Two replicas, which no test stops."""
    found = [servers.replica("a"), servers.replica("b")]
    yield found
    for replica in found:
        replica.stop()
