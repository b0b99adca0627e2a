"""Two processes of the service that share one PostgreSQL and one Milvus."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from app.database.engine import open_engine
from app.database.migrate import migrate
from app.database.shared import SharedState
from app.service.state.keys import SharedKeys
from tests.app.service_process import Process
from tests.index.milvus.conftest import REASON, owner
from tests.milvus_server import Server, is_installed, running, shared

# A replica that has not been heard of for a second has ended; see app/jobs/queue.py.
QUICK = "from app.jobs.queue import Jobs; Jobs.__init__.__kwdefaults__.update(beat=0.1, stale=1.0)"


@dataclass(frozen=True)
class Answer:
    """What a replica answered."""

    status: int
    headers: dict[str, str]
    body: Any


class Replica(Process):
    """A replica, which is called with a key."""

    key = ""

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, timeout: float = 60
    ) -> Answer:
        """Return an answer, also one that refuses the call."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key or self.key}"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, headers, method=method)
        try:
            with urlopen(request, timeout=timeout) as answer:
                return Answer(answer.status, dict(answer.headers), json.loads(answer.read() or "null"))
        except HTTPError as refused:
            with refused:
                return Answer(refused.code, dict(refused.headers), json.loads(refused.read()))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the body of an answer that is none of an error."""
        answer = self.ask(method, path, body)
        assert answer.status < 300, answer
        return answer.body


@dataclass(frozen=True)
class Servers:
    """What replicas share: the URL of a database, that of Milvus, a folder, and a key to write."""

    database: str
    index: str
    folder: Path
    key: str

    def replica(self, name: str, code: str = QUICK, **environment: str) -> Replica:
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
        replica.key = self.key
        assert replica.url, replica.log
        return replica


@contextmanager
def keys_of(url: str) -> Iterator[SharedKeys]:
    """Open the keys of a database, whose tables are made if they are missing."""
    engine = open_engine(url)
    try:
        migrate(engine)
        yield SharedKeys(SharedState(engine), required_here=False)
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all tests share, which no other test stops meanwhile."""
    if not is_installed():
        pytest.skip(REASON)
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "milvus"
    server = running(folder, owner())
    with shared(folder, alone=False):
        yield server


@pytest.fixture(scope="module")
def servers(
    database_url: str, milvus_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Servers:
    folder = tmp_path_factory.mktemp("replicas")
    (folder / "shared").mkdir()
    with keys_of(database_url) as keys:
        _, secret = keys.create("tests", "write")
    return Servers(database_url, milvus_server.url, folder, secret)


@pytest.fixture(scope="module")
def replicas(servers: Servers) -> Iterator[list[Replica]]:
    """Two replicas, which no test stops."""
    found = [servers.replica("a"), servers.replica("b")]
    yield found
    for replica in found:
        replica.stop()
