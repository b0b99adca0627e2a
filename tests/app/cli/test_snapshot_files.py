"""`bitcell snapshot` and `bitcell restore`, with and without a service that owns the data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from struct import pack
from threading import Thread
from zlib import crc32

import httpx2
import numpy as np
import pytest

from app.database.embedded import EmbeddedState
from app.service.encoder_store import EncoderStore
from app.service.keys import READ, WRITE, Keys
from hashing import load_hasher, make_hasher
from index import Collection, Database, Store
from tests.app.cli.test_main import bitcell
from tests.app.service_process import Process

Run = Callable[[str], str]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a collection `c` of an encoder `e`, and `own` without an encoder."""
    path = tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(path))
    make(path)
    return path


def make(path: Path, seed: int = 0) -> None:
    hasher = make_hasher("lsh", n_bits=12, random_state=seed).fit(np.eye(4))
    database = Database(path / "bitcell.db")
    used, store = EncoderStore(EmbeddedState(database)).add("e", hasher), Store(database)
    coded = store.create("c", 12, encoder="e", fingerprint=used.fingerprint)
    codes = hasher.encode(np.random.default_rng(0).normal(size=(300, 4)))
    payloads = [{"i": i} for i in range(300)]
    for collection in (coded, store.create("own", 12)):
        collection.upsert([f"{i}" for i in range(300)], codes, list(range(300)), payloads)
    store.close()
    database.close()


def contents(path: Path) -> dict[str, list[object]]:
    def items(collection: Collection) -> list[object]:
        return [collection.get(f"{i}") for i in range(300)]

    database = Database(path / "bitcell.db")
    store = Store(database)
    found = {collection.name: items(collection) for collection in store.list()}
    store.close()
    database.close()
    return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that succeeds, on `data` or `served`; returns its output."""

    def run(line: str) -> str:
        assert bitcell(monkeypatch, line) == 0, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    return run


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that fails; returns its message, which is one line."""

    def run(line: str) -> str:
        assert bitcell(monkeypatch, line) == 2
        message = capsys.readouterr().err.strip()
        assert "\n" not in message
        return message

    return run


def test_a_snapshot_is_written_and_restored_without_a_service(data: Path, run: Run) -> None:
    assert run("snapshot c c.snapshot") == "c.snapshot: 300 items of c"
    assert run("restore c.snapshot --name d") == "d: 300 items"
    assert run("snapshot own own.snapshot") == "own.snapshot: 300 items of own"
    assert run("restore own.snapshot --name again") == "again: 300 items"
    restored = contents(data)
    assert sorted(restored) == ["again", "c", "d", "own"]
    assert restored["c"] == restored["d"] == restored["own"] == restored["again"]


def test_the_default_name_is_that_in_the_snapshot(data: Path, run: Run, refused: Run) -> None:
    run("snapshot c c.snapshot")
    before = contents(data)
    assert "there is already a collection 'c'" in refused("restore c.snapshot")
    database = Database(data / "bitcell.db")
    store = Store(database)
    store.drop("c")
    store.close()
    database.close()
    # An empty name, as of a variable that is not set, is no default.
    assert "a name has 1 to 64" in refused("restore c.snapshot --name=")
    assert run("restore c.snapshot") == "c: 300 items"
    assert contents(data) == before


def test_errors_say_what_is_wrong(
    data: Path, run: Run, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no collection 'x'" in refused("snapshot x x.snapshot")
    assert "ends in .snapshot" in refused("snapshot c c.txt")
    assert "there is no folder no" in refused("snapshot c no/c.snapshot")
    assert "No such file" in refused("restore no.snapshot")
    Path("text.snapshot").write_text("no snapshot")
    assert "is no snapshot of version 1, 2 or 3" in refused("restore text.snapshot")
    run("snapshot c c.snapshot")
    assert "a name has 1 to 64" in refused("restore c.snapshot --name /")
    damaged = bytearray(Path("c.snapshot").read_bytes())
    damaged[-40] ^= 1
    Path("bad.snapshot").write_bytes(damaged)
    assert "bad.snapshot is damaged" in refused("restore bad.snapshot --name d")
    assert sorted(contents(data)) == ["c", "own"]
    monkeypatch.setenv("BITCELL_DATA_DIR", "elsewhere")
    assert "elsewhere holds no data" in refused("snapshot c c.snapshot")
    assert not Path("elsewhere").exists()
    make(Path("elsewhere"), seed=1)
    assert "give its encoder another name with --enc" in refused("restore c.snapshot --name d")
    assert list(contents(Path("elsewhere"))) == ["c", "own"]
    assert run("restore c.snapshot --name d --encoder e2") == "d: 300 items"
    run("snapshot own own.snapshot")
    assert "without an encoder" in refused("restore own.snapshot --name x --encoder e2")
    assert sorted(contents(Path("elsewhere"))) == ["c", "d", "own"]


def test_a_snapshot_of_an_earlier_version_needs_a_name(data: Path, run: Run, refused: Run) -> None:
    database = Database(data / "bitcell.db")
    fingerprint = EncoderStore(EmbeddedState(database)).get("e").fingerprint
    database.close()
    about = {"n_bits": 12, "encoder": "e", "fingerprint": fingerprint, "keep_descriptors": False}
    first = json.dumps(about).encode()
    head, end = pack("<QI", len(first), crc32(first)), pack("<QI", 0, crc32(first))
    Path("old.snapshot").write_bytes(b"Bitcell snapshot 1\n" + head + first + end)
    assert "give it a name with --name" in refused("restore old.snapshot")
    assert run("restore old.snapshot --name d") == "d: 0 items"
    message = refused("restore old.snapshot --name x --encoder none")
    assert "neither there nor in the snapshot: add that encoder first" in message


@contextmanager
def serving(data: Path) -> Iterator[Process]:
    with closing(Keys(data)) as keys:
        keys.create("someone", READ)
    process = Process(data, BITCELL_DEMO="false")
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    path: Path = tmp_path_factory.mktemp("served") / "data"
    make(path)
    with serving(path) as process:
        yield process


@pytest.fixture
def served(shared: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """A service with what `make` makes. Several tests share it, and leave its data as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BITCELL_DATA_DIR", str(shared.data_dir))
    return shared


def test_a_running_service_writes_and_restores_the_snapshot(
    data: Path, run: Run, refused: Run
) -> None:
    with serving(data) as process:
        check_snapshots(process, run, refused)
    restored = contents(data)
    assert restored["c"] == restored["d"] == restored["again"]


def check_snapshots(served: Process, run: Run, refused: Run) -> None:
    data, at = served.data_dir, f"--url {served.url}"
    assert run(f"snapshot c c.snapshot {at}") == "c.snapshot: 300 items of c"
    assert run(f"restore c.snapshot --name d --encoder e2 {at}") == "d: 300 items"
    run(f"snapshot own own.snapshot {at}")
    assert run(f"restore own.snapshot --name again {at}") == "again: 300 items"
    assert "there is already a collection 'c'" in refused(f"restore c.snapshot {at}")
    assert "there is no collection 'x'" in refused(f"snapshot x x.snapshot {at}")
    assert "no service answers at http://127.0.0.1:9:" in refused(
        "snapshot c c.snapshot --url http://127.0.0.1:9"
    )
    no_url = "--url takes a URL with http:// or https://, got 'nonsense'"
    assert no_url in refused("snapshot c c.snapshot --url nonsense")
    assert "'..' is not a name" in refused(f"snapshot .. c.snapshot {at}")
    # The commands leave neither their temporary files nor their keys.
    assert list((data / "snapshots").iterdir()) == []
    with closing(Keys(data)) as keys:
        assert [key.name for key in keys.list()] == ["someone"]
        keys.revoke(keys.list()[0].id)
        # The service still needs a key, and the command still creates one for itself.
        assert run(f"snapshot c e.snapshot {at}") == "e.snapshot: 300 items of c"
        assert keys.list() == []
    assert httpx2.get(f"{served.url}/v1/collections").status_code == 401


@pytest.mark.usefixtures("served")
def test_an_encoder_is_exported_beside_a_running_service(run: Run, refused: Run) -> None:
    shown = run("export e e.safetensors")
    exported = load_hasher("e.safetensors")
    assert shown == f"e.safetensors: {exported.fingerprint}"
    assert exported.fingerprint == make_hasher("lsh", n_bits=12).fit(np.eye(4)).fingerprint
    assert "there is no encoder 'x'" in refused("export x x.safetensors")
    assert "ends in .safetensors" in refused("export e e.npz")


@pytest.mark.usefixtures("served")
def test_a_backup_is_made_beside_a_running_service(run: Run, refused: Run, tmp_path: Path) -> None:
    assert re.fullmatch(r"copy: [\d,]+ bytes in 3 files", run("backup copy"))
    assert "copy is not empty" in refused("backup copy")
    assert "there is no folder none" in refused("backup none/copy")
    make(tmp_path / "same")
    assert contents(tmp_path / "copy") == contents(tmp_path / "same")


@pytest.mark.parametrize("keys_required", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_service_with_another_data_directory_is_refused(
    keys_required: str, served: Process, refused: Run, run: Run, tmp_path: Path
) -> None:
    data = served.data_dir
    run(f"snapshot c c.snapshot --url {served.url}")
    make(tmp_path / "other")
    with closing(Keys(tmp_path / "other")) as keys:
        keys.create("someone", READ)
    settings = {"BITCELL_DEMO": "false", "BITCELL_REQUIRE_KEYS": keys_required}
    other = Process(tmp_path / "other", **settings)
    try:
        at = f"--url {other.url}"
        message = refused(f"snapshot c d.snapshot {at}")
        assert "has another data directory" in message
        # A service without keys is asked, but there is no such snapshot in its data directory.
        message = refused(f"restore c.snapshot --name d {at}")
        assert ("has another data directory" in message) == (keys_required == "true")
        assert "there is no snapshot" in message or keys_required == "true"
    finally:
        other.stop()
    assert not Path("d.snapshot").exists()
    assert list((data / "snapshots").iterdir()) == []
    with closing(Keys(data)) as keys:
        assert [key.name for key in keys.list()] == ["someone"]


class Stranger:
    """An HTTP server that is not the service, and records the scopes of the keys it is sent."""

    def __init__(self, data: Path, answer: Callable[[str], tuple[int, bytes]]) -> None:
        self.scopes: list[str | None] = []
        self.requests = 0
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger.requests += 1
                if (authorization := self.headers["Authorization"]) is not None:
                    with closing(Keys(data)) as keys:
                        key = keys.find(authorization.removeprefix("Bearer "))
                    stranger.scopes.append(key.scope if key else None)
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Write nothing to stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Stranger:
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


READY = b'{"status": "ready", "collections": 1}'
STRANGERS: dict[str, Callable[[str], tuple[int, bytes]]] = {
    "a page": lambda _: (200, b"<html>hello</html>"),
    "JSON": lambda _: (200, b"[]"),
    "not found": lambda _: (404, b""),
    "a Bitcell with other keys": lambda path: (200, READY) if path == "/readyz" else (401, b"{}"),
    "a Bitcell without keys": lambda path: (200, READY if path == "/readyz" else b"{}"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize(
    "command",
    [
        "snapshot c d.snapshot",
        pytest.param("restore c.snapshot --name d", marks=pytest.mark.slow),
    ],
)
def test_a_stranger_gets_no_key_that_may_write(
    stranger: str, command: str, data: Path, run: Run, refused: Run
) -> None:
    run("snapshot c c.snapshot")
    with closing(Keys(data)) as keys:
        keys.create("someone", READ)
    database = Database(data / "bitcell.db")
    try:
        with Stranger(data, STRANGERS[stranger]) as server:
            message = refused(f"{command} --url {server.url}")
    finally:
        database.close()
    assert server.requests > 0
    assert "expected" in message or "has another data directory" in message
    assert WRITE not in server.scopes
    # Only a Bitcell gets a key at all: one that nobody created, then one that may read.
    assert server.scopes in ([], [None], [None, READ])
    with closing(Keys(data)) as keys:
        assert [key.name for key in keys.list()] == ["someone"]


def test_no_key_is_created_for_a_service_that_needs_none(
    data: Path, run: Run, refused: Run
) -> None:
    run("snapshot c c.snapshot")
    database = Database(data / "bitcell.db")
    try:
        # It asks for keys, so it is the service of another data directory.
        with Stranger(data, STRANGERS["a Bitcell with other keys"]) as server:
            refused(f"snapshot c d.snapshot --url {server.url}")
    finally:
        database.close()
    assert server.scopes == []
    assert list(data.glob("*keys*")) == []


def test_no_key_goes_over_plain_http_beyond_loopback_unless_asked(
    data: Path, run: Run, refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Keys(data)) as keys:
        keys.create("someone", READ)
    # An address for documentation (RFC 5737), which nobody has.
    monkeypatch.setenv("BITCELL_HOST", "192.0.2.1")
    database = Database(data / "bitcell.db")
    try:
        message = refused("snapshot c d.snapshot")
    finally:
        database.close()
    assert "a key would go over plain http to 192.0.2.1" in message
    assert "--url http://192.0.2.1:8000" in message


def test_proxies_of_the_environment_are_not_used(
    served: Process, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert run(f"snapshot c c.snapshot --url {served.url}") == "c.snapshot: 300 items of c"
