"""`bitcell migrate`: from a data directory to PostgreSQL and Milvus, and a replica on them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.database.embedded import EmbeddedState
from app.service.encoder_store import EncoderStore
from app.service.keys import READ, Keys
from hashing import make_hasher
from index import Database, SearchOptions, Store
from tests.app.cli.test_main import bitcell
from tests.app.fork_server import ForkedProcess
from tests.app.shared.conftest import Servers, keys_of

# A process that is killed when it has copied a hundred items of `things`.
KILLED = """
import os, signal
from app.cli.main import main
from app.service.migration import copying

def report(progress, before, total, name, n):
    if name == "things" and n == 100:
        os.kill(os.getpid(), signal.SIGKILL)

copying._report, copying._ITEMS = report, 100
main()"""
N = 500
X = np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)
IDS = [f"ü {i}'/\"x" for i in range(N)]
PAYLOADS = [
    {"i": i, "x": i / 7, "one": 1.0, "none": None, "text": "ß\"'\\", "list": [1, 2.5, "a"]}
    for i in range(N)
]
Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its status, and what it printed and complained of."""

    def run(line: str) -> tuple[int, str, str]:
        status = bitcell(monkeypatch, line)
        shown = capsys.readouterr()
        return status, shown.out.strip(), shown.err.strip()

    return run


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with `things` of an encoder and with descriptors, and `own` codes."""
    path = tmp_path / "data"
    monkeypatch.setenv("BITCELL_DATA_DIR", str(path))
    database = Database(path / "bitcell.db")
    store = Store(database)
    hasher = make_hasher("lsh", n_bits=20, random_state=0).fit(np.eye(8))
    used = EncoderStore(EmbeddedState(database)).add("lsh", hasher)
    things = store.create(
        "things", 20, encoder="lsh", fingerprint=used.fingerprint, keep_descriptors="float16"
    )
    codes = hasher.encode(X)
    things.upsert(IDS, codes, [i % 5 - 1 for i in range(N)], PAYLOADS, X)
    things.delete(IDS[7::50])
    store.create("own", 20).upsert(IDS[:50], codes[:50])
    store.close()
    database.close()
    return path


def answers(path: Path, X: np.ndarray[Any, Any]) -> list[list[tuple[str, int]]]:
    """Return what the embedded collection `things` answers."""
    database = Database(path / "bitcell.db")
    store = Store(database)
    codes = EncoderStore(EmbeddedState(database)).get("lsh").hasher.encode(X)
    found = store.get("things").search(codes, SearchOptions(7))
    store.close()
    database.close()
    return [[(one.id, one.distance) for one in each.neighbours] for each in found]


def test_a_replica_goes_on_where_the_embedded_service_ended(
    data: Path, run: Run, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = Keys(data).create("a client", READ)
    (data / "snapshots").mkdir()
    (data / "snapshots" / "x.snapshot").touch()
    monkeypatch.setenv("BITCELL_DATABASE_URL", servers.database)
    # The options count more than the variables.
    monkeypatch.setenv("BITCELL_INDEX_URL", "milvus://127.0.0.1:1")
    killed = ForkedProcess(KILLED, ["migrate", "--index-url", servers.index], dict(os.environ))
    assert killed.wait(60) == -signal.SIGKILL
    killed.stdout.close()
    killed.stderr.close()
    status, out, err = run(f"migrate --keys --index-url {servers.index}")
    assert status == 0, err
    assert out.splitlines() == [
        "own: 50 items were there, with the same answers",
        "things: 490 items copied, with the same answers",
        "keys: 1 copied",
    ]
    assert "snapshots is not copied: its files belong to snapshots/ of BITCELL_SHARED_DIR" in err
    status, out, _ = run(f"migrate --keys things --index-url {servers.index}")
    assert status == 0
    assert out.splitlines() == [
        "things: 490 items were there, with the same answers",
        "keys: 0 copied",
    ]
    replica = servers.replica("migrated")
    try:
        query = {"descriptors": X[:5].tolist(), "k": 7}
        asked = replica.ask("POST", "/v1/collections/things/query", query, key=secret)
        found = [[(hit["id"], hit["distance"]) for hit in hits] for hits in asked.body["results"]]
        assert found == answers(data, X[:5])
        assert asked.body["results"][0][0]["payload"] == PAYLOADS[0]
        # Written to since, it is another collection.
        replica.call("PUT", "/v1/collections/own/items", {"items": [{"id": "y", "code": "000000"}]})
    finally:
        replica.stop()
    status, _, err = run(f"migrate --index-url {servers.index}")
    assert status == 2
    assert "or it was written to since it was copied: it holds 51 items, and 50 in the sour" in err


def test_mistakes_are_explained(data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = run("migrate")
    assert (status, "\n" in err) == (2, False)
    assert "say where to copy to, with --database-url and --index-url" in err
    urls = "--database-url postgresql://u:secret@127.0.0.1:1/d --index-url milvus://127.0.0.1:1"
    database = Database(data / "bitcell.db")
    status, _, err = run(f"migrate {urls}")
    assert status == 2
    assert f"a service has {data} open: stop it; or copy its data with `bitcell backup`" in err
    database.close()
    status, _, err = run(f"migrate {urls}")
    assert status == 2
    assert "127.0.0.1:1/d cannot be reached" in err
    assert "secret" not in err
    status, _, err = run(f"--data-dir {data.parent / 'no'} migrate {urls}")
    assert status == 2
    assert "holds no data" in err


def test_keys_are_copied_with_their_hashes_once(servers: Servers, tmp_path: Path) -> None:
    source = Keys(tmp_path)
    key, secret = source.create("camera", READ)
    with keys_of(servers.database) as target:
        assert target.adopt(source.hashes()) == 1
        assert target.adopt(source.hashes()) == 0
        assert target.find(secret) == key
        target.revoke(key.id)
        assert target.find(secret) is None
    source.close()
