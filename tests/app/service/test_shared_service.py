"""Two services that share a database and an index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from pydantic import SecretStr
from typer.testing import CliRunner

from app.cli.main import cli
from app.database import engine, shared
from app.main import create_app
from app.service.keys import Keys
from app.service.service import Service
from app.service.settings import Settings
from app.service.state import opening
from index import Database, InUse, NotFound, Store, Unavailable, Unreadable
from tests.app.asgi_client import TestClient
from tests.app.conftest import fill
from tests.postgres import Server, running

LSH = {"method": "lsh", "n_bits": 12, "dimension": 4}


def settings_of(folder: Path, url: str, **more: Any) -> Settings:
    """Return the settings of a replica with its data directory in a folder."""
    shared = {"database_url": SecretStr(url), "index_url": SecretStr("milvus://nowhere")}
    return Settings(data_dir=folder, demo=False, allowed_hosts="testserver", **shared | more)


class Replicas:
    """Services over one database, which use one store in the place of Milvus."""

    def __init__(self, folder: Path, url: str, store: Store, stack: ExitStack) -> None:
        self.folder, self.url, self.store, self.stack = folder, url, store, stack

    def start(self, name: str, **more: Any) -> TestClient:
        settings = settings_of(self.folder / name, self.url, **more)
        app = create_app(settings)
        return self.stack.enter_context(TestClient(app, raise_server_exceptions=False))


@pytest.fixture
def shared_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An embedded store in the place of Milvus."""
    database = Database(tmp_path / "index.db")
    store = Store(database)
    monkeypatch.setattr(opening, "_milvus", lambda settings, engine, opened: store)
    yield store
    store.close()
    database.close()


@pytest.fixture
def replicas(tmp_path: Path, postgres: Server, shared_store: Store) -> Iterator[Replicas]:
    with ExitStack() as stack:
        yield Replicas(tmp_path, postgres.new_database(), shared_store, stack)


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def status(client: TestClient, key: str) -> int:
    answer = client.get("/v1/encoders", headers={"Authorization": f"Bearer {key}"})
    return int(answer.status_code)


def test_a_change_by_one_service_is_seen_by_the_other_at_once(replicas: Replicas) -> None:
    one, other = replicas.start("a"), replicas.start("b")
    fill(one)
    query = {"descriptors": [[1, 2, 3, 4]], "k": 3}
    found = other.post("/v1/collections/c/query", json=query).json()
    assert found["results"] == one.post("/v1/collections/c/query", json=query).json()["results"]
    assert other.delete("/v1/encoders/e").status_code == 409
    # The same name, but another encoder.
    assert one.post("/v1/encoders", json={"name": "f", **LSH}).status_code == 201
    before = other.get("/v1/encoders/f").json()["fingerprint"]
    assert other.post("/v1/encoders", json={"name": "f", **LSH}).status_code == 409
    assert one.delete("/v1/encoders/f").status_code == 204
    assert other.get("/v1/encoders/f").status_code == 404
    assert [encoder["name"] for encoder in other.get("/v1/encoders").json()] == ["e"]
    assert one.post("/v1/encoders", json={"name": "f", **LSH | {"n_bits": 16}}).status_code == 201
    after = other.get("/v1/encoders/f").json()["fingerprint"]
    assert after != before
    assert after == one.get("/v1/encoders/f").json()["fingerprint"]
    # A collection that is dropped and made again with the other encoder.
    assert other.delete("/v1/collections/c").status_code == 204
    assert other.post("/v1/collections", json={"name": "c", "encoder": "f"}).status_code == 201
    assert one.post("/v1/collections/c/query", json=query).json()["results"] == [[]]
    assert one.get("/v1/collections/c").json()["n_bits"] == 16


def test_a_query_does_not_ask_the_database_for_its_encoder(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = replicas.start("a")
    fill(client)
    state, asked = service_of(client).state, list[str]()
    read = state.read

    def note(statement: Any) -> Any:
        asked.extend(map(str, statement.get_final_froms()))
        return read(statement)

    monkeypatch.setattr(state, "read", note)
    query = {"descriptors": [[1, 2, 3, 4]], "k": 3}
    assert client.post("/v1/collections/c/query", json=query).status_code == 200
    assert asked == ["keys_required"]
    service_of(client).keys.create("first", "write")
    asked.clear()
    assert client.post("/v1/collections/c/query", json=query).status_code == 401
    assert asked == []


def test_a_key_counts_for_all_and_is_refused_at_once_by_all(replicas: Replicas) -> None:
    one, other = replicas.start("a"), replicas.start("b")
    assert other.get("/v1/encoders").status_code == 200
    first, secret = service_of(one).keys.create("first", "write")
    second, kept = service_of(one).keys.create("second", "read")
    for client in (one, other):
        assert client.get("/v1/encoders").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert status(client, secret) == 200
    service_of(other).keys.revoke(first.id)
    assert [status(client, secret) for client in (one, other)] == [401, 401]
    assert [status(client, kept) for client in (one, other)] == [200, 200]
    assert [key.id for key in service_of(one).keys.list()] == [second.id]
    service_of(one).keys.revoke(second.id)
    assert not service_of(other).keys.any()
    with pytest.raises(ValueError, match="there is no key"):
        service_of(one).keys.revoke(second.id)
    # Keys stay required, also for a replica that starts now.
    assert [client.get("/v1/encoders").status_code for client in (one, other)] == [401, 401]
    assert replicas.start("c").get("/v1/encoders").status_code == 401


def test_keys_stay_required_where_there_was_a_file_of_keys(replicas: Replicas) -> None:
    folder = replicas.folder / "a"
    folder.mkdir()
    with closing(Keys(folder)) as keys:
        _, secret = keys.create("before", "write")
    client = replicas.start("a")
    assert client.get("/v1/encoders").status_code == 401
    assert status(client, secret) == 401
    _, secret = service_of(client).keys.create("after", "write")
    assert status(client, secret) == 200


def test_commands_change_the_keys_of_the_shared_database(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = replicas.start("a")
    monkeypatch.setenv("BITCELL_DATABASE_URL", replicas.url)
    monkeypatch.setenv("BITCELL_INDEX_URL", "milvus://nowhere")
    created = CliRunner().invoke(cli, ["keys", "create", "cli", "--write"])
    assert created.exit_code == 0, created.output
    assert "in the shared database" in created.stderr
    secret = created.stdout.strip()
    assert status(client, secret) == 200
    key = created.stderr.split()[0]
    assert key in CliRunner().invoke(cli, ["keys", "list"]).stdout
    assert CliRunner().invoke(cli, ["keys", "revoke", key]).exit_code == 0
    assert status(client, secret) == 401
    refused = CliRunner().invoke(cli, ["backup", "copy"])
    assert "pg_dump" in str(refused.exception)


def test_an_embedded_index_is_alone_with_its_database(replicas: Replicas) -> None:
    client = replicas.start("a", index_url=None)
    fill(client)
    for index_url in (None, SecretStr("milvus://nowhere")):
        settings = settings_of(replicas.folder / "b", replicas.url, index_url=index_url)
        with pytest.raises(Unreadable, match="another process: several processes share it"):
            Service(settings)
    with pytest.raises(InUse, match="in use by another process"):
        Service(settings_of(replicas.folder / "a", replicas.url))


def test_one_service_may_have_its_collections_in_milvus_without_postgresql(
    tmp_path: Path, shared_store: Store
) -> None:
    settings = settings_of(tmp_path / "a", "", database_url=None)
    for is_first in (True, False):
        with TestClient(create_app(settings)) as client:
            if is_first:
                fill(client)
            assert client.get("/v1/encoders/e").status_code == 200
            assert client.get("/v1/collections/c/statistics").status_code == 200
            with pytest.raises(InUse):
                Service(settings)
    assert {"bitcell.db", "milvus.db"} <= {path.name for path in (tmp_path / "a").iterdir()}


def test_an_encoder_that_another_service_is_using_is_not_dropped(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_SECONDS", 1)
    one, other = replicas.start("a"), replicas.start("b")
    assert one.post("/v1/encoders", json={"name": "e", **LSH}).status_code == 201
    encoders = service_of(one).collections._encoders
    # As while a collection is made.
    with encoders.pinned("e"), service_of(other).collections._encoders.pinned("e"):
        assert one.delete("/v1/encoders/e").status_code == 409
    with encoders.pinned("e"):
        answer = other.delete("/v1/encoders/e")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["detail"] == "another request is in the way: try again later"
    assert other.delete("/v1/encoders/e").status_code == 204
    with pytest.raises(NotFound), encoders.pinned("e"):
        pass


def test_files_are_in_the_shared_folder(replicas: Replicas) -> None:
    shared = replicas.folder / "shared"
    one, other = (replicas.start(name, shared_dir=shared) for name in "ab")
    fill(one)
    made = one.post("/v1/collections/c/snapshots").json()["snapshot"]
    assert [each["snapshot"] for each in other.get("/v1/snapshots").json()] == [made]
    body = {"snapshot": made}
    assert other.post("/v1/collections/d/restore", json=body).status_code == 201
    assert one.get("/v1/collections/d").json()["items"] == 3
    assert not (replicas.folder / "a" / "snapshots").exists()


CALLS = [("GET", "/v1/encoders"), ("GET", "/v1/jobs"), ("POST", "/v1/encoders"), ("GET", "/readyz")]


def is_unavailable(
    client: TestClient, key: dict[str, str], calls: list[tuple[str, str]], seconds: float
) -> None:
    """Check that calls are refused within some seconds, and that the service says why."""
    for method, path in calls:
        begun = time.monotonic()
        json = {"name": "g", **LSH} if method == "POST" else None
        answer = client.request(method, path, headers=key, json=json)
        assert time.monotonic() - begun < seconds
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["detail"] == "the database cannot be reached: try again later"
    assert client.get("/healthz").json() == {"status": "ok", "database": "unreachable"}
    metrics = generate_latest(service_of(client).metrics.registry).decode()
    assert "bitcell_database_up 0.0" in metrics
    assert "bitcell_encoders" not in metrics


def is_well(client: TestClient, key: dict[str, str]) -> None:
    """Check that calls are answered within some seconds."""
    begun = time.monotonic()
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() - begun < 5
    assert client.get("/v1/encoders", headers=key).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}
    metrics = client.get("/metrics", headers=key).text
    assert "bitcell_database_up 1.0" in metrics
    assert "bitcell_encoders 1.0" in metrics


def test_the_service_outlives_an_unreachable_database(
    tmp_path: Path, shared_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "READ_SECONDS", 1.0)
    monkeypatch.setattr(engine, "PING_SECONDS", 0.5)
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 2)
    with running() as server, ExitStack() as stack:
        url = server.new_database()
        client = Replicas(tmp_path, url, shared_store, stack).start("a")
        fill(client)
        _, secret = service_of(client).keys.create("first", "write")
        key = {"Authorization": f"Bearer {secret}"}
        is_well(client, key)
        server.stop()
        is_unavailable(client, key, CALLS, seconds=2)
        with pytest.raises(
            Unavailable, match=r"bitcell:[*]{3}@.* cannot be reached: conn.* failed"
        ):
            Service(settings_of(tmp_path / "b", url.replace("bitcell@", "bitcell:secret@")))
        server.start()
        is_well(client, key)
        with server.paused():
            is_unavailable(client, key, CALLS[1:3], seconds=6)
            # Those that come soon afterwards are refused at once.
            monkeypatch.setattr(shared, "_PAUSE_SECONDS", 60)
            client.get("/v1/encoders", headers=key)
            is_unavailable(client, key, CALLS, seconds=1)
            monkeypatch.setattr(shared, "_PAUSE_SECONDS", 0)
            service_of(client).state._next_try = 0  # type: ignore[attr-defined]
        is_well(client, key)
