"""API keys, host names and origins: which requests are refused."""

from __future__ import annotations

import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from app.cli.main import cli
from app.http.server import _check_access
from app.main import create_app
from app.service.keys import READ, WRITE, Keys
from app.service.service import Service
from app.service.settings import Settings
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy
from tests.app.problems import assert_problem
from tests.app.service_process import Process

Client = Callable[..., TestClient]


@pytest.fixture
def serve(settings: Settings) -> Iterator[Client]:
    """Return a function that starts a service with changed settings and returns a client."""
    opened: list[TestClient] = []

    def make(**change: Any) -> TestClient:
        client = TestClient(
            create_app(settings.model_copy(update=change)), raise_server_exceptions=False
        )
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def make_key(client: TestClient, scope: str) -> str:
    keys: Keys = client.app.state.service.keys  # type: ignore[attr-defined]
    return keys.create("test", scope)[1]


NEW = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 4}


def test_requests_without_a_valid_key_are_refused(serve: Client) -> None:
    client = serve(require_keys=True)
    good = make_key(client, READ)
    for headers in (
        {},
        bearer("bitcell_" + "x" * 43),
        bearer(""),
        bearer(good[:-1]),
        bearer(good + "x"),
        {"Authorization": good},
        {"Authorization": f"Basic {good}"},
        {"X-API-Key": good},
    ):
        assert_problem(
            client.get("/v1/encoders", headers=headers), 401, "Authorization: Bearer KEY"
        )
    assert client.get("/v1/encoders", headers=bearer(good)).status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/v1/nothing").status_code == 401
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_a_read_key_cannot_write(serve: Client) -> None:
    client = serve(require_keys=True)
    read, write = bearer(make_key(client, READ)), bearer(make_key(client, WRITE))
    assert_problem(client.post("/v1/encoders", json=NEW, headers=read), 403, "may only read")
    assert client.post("/v1/encoders", json=NEW, headers=write).status_code == 201
    new = {"name": "c", "encoder": "e"}
    assert client.post("/v1/collections", json=new, headers=write).status_code == 201
    matrix = npy([[1.0, 2, 3, 4]])
    for url in ("/v1/encoders/e/encode", "/v1/collections/c/query"):
        assert client.post(url, content=matrix, headers=NPY | read).status_code == 200
    for url, body in (
        ("c/reencode", {"encoder": "e"}),
        ("c/snapshots", None),
        ("d/restore", {"snapshot": "c.snapshot"}),
    ):
        answer = client.post(f"/v1/collections/{url}", json=body, headers=read)
        assert_problem(answer, 403, "may only read")


def test_a_read_key_can_post_only_what_reads(serve: Client) -> None:
    client = serve(require_keys=True)
    read = bearer(make_key(client, READ))
    calls = {
        f"{method} {path}"
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
        if client.request(method, path.replace("{", "").replace("}", ""), headers=read).status_code
        != 403
    }
    posts = {call for call in calls if not call.startswith("get ")}
    assert posts == {
        "post /v1/collections/{name}/items/count",
        "post /v1/collections/{name}/items/list",
        "post /v1/gist",
        "post /v1/encoders/{name}/encode",
        "post /v1/collections/{name}/query",
    }


@pytest.mark.parametrize("item_id", ["count", "list"])
def test_a_read_key_cannot_change_an_item_with_the_name_of_a_call(
    serve: Client, item_id: str
) -> None:
    client = serve(require_keys=True)
    read, write = bearer(make_key(client, READ)), bearer(make_key(client, WRITE))
    client.post("/v1/collections", json={"name": "c", "n_bits": 8}, headers=write)
    items = [{"id": item_id, "code": "00", "label": 1}]
    client.put("/v1/collections/c/items", json={"items": items}, headers=write)
    url = f"/v1/collections/c/items/{item_id}"
    changed = client.patch(url, json={"label": 2}, headers=read)
    assert_problem(changed, 403, "may only read")
    assert_problem(client.delete(url, headers=read), 403, "may only read")
    assert client.get(url, headers=read).json()["label"] == 1
    assert client.delete(url, headers=write).status_code == 204


def test_no_key_is_needed_on_loopback(serve: Client) -> None:
    assert serve(host="127.0.0.1").get("/v1/encoders").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_keys_are_required_on_other_addresses(host: str, serve: Client) -> None:
    assert serve(host=host).get("/v1/encoders").status_code == 401


def test_keys_are_required_on_loopback_once_one_exists(serve: Client) -> None:
    client = serve()
    assert client.get("/v1/encoders").status_code == 200
    key = make_key(client, READ)
    assert client.get("/v1/encoders").status_code == 401
    assert client.get("/v1/encoders", headers=bearer(key)).status_code == 200


def test_the_settings_can_turn_keys_off(serve: Client) -> None:
    client = serve(host="0.0.0.0", require_keys=False)
    make_key(client, READ)
    assert client.get("/v1/encoders").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "a b", "[::1", "::1"])
def test_other_host_names_are_refused(host: str, serve: Client) -> None:
    client = serve(allowed_hosts="")
    assert_problem(client.get("/v1/encoders", headers={"Host": host}), 400, "BITCELL_ALLOWED_HOSTS")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_local_host_names_are_accepted(host: str, serve: Client) -> None:
    client = serve(allowed_hosts="")
    assert client.get("/v1/encoders", headers={"Host": host}).status_code == 200


def test_only_configured_hosts_are_accepted(serve: Client) -> None:
    client = serve(allowed_hosts="codes.example, other.example")
    assert client.get("/v1/encoders", headers={"Host": "codes.example"}).status_code == 200
    assert client.get("/v1/encoders", headers={"Host": "localhost"}).status_code == 400


def test_any_host_can_be_allowed(serve: Client) -> None:
    assert serve(allowed_hosts="*").get("/healthz", headers={"Host": "x"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "x", ""])
def test_a_page_of_another_origin_may_not_write(origin: str, serve: Client) -> None:
    client = serve()
    headers = {"Origin": origin, "Host": "localhost:8000", "Content-Type": "text/plain"}
    answer = client.post("/v1/encoders", json=NEW, headers=headers)
    assert_problem(answer, 403, "may not write")
    assert client.get("/v1/encoders", headers={"Host": "localhost:8000"}).json() == []
    # No header allows such a page to read the answer to a GET.
    reading = client.get("/v1/encoders", headers=headers)
    assert "access-control-allow-origin" not in reading.headers


def test_the_services_own_page_may_write(serve: Client) -> None:
    headers = {"Origin": "http://localhost:8000", "Host": "localhost:8000"}
    assert serve().post("/v1/encoders", json=NEW, headers=headers).status_code == 201


def test_the_command_line_creates_lists_and_revokes_keys(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path / "data"))
    run = CliRunner()
    with TestClient(create_app(settings)) as client:
        secret = run.invoke(cli, ["keys", "create", "camera 1", "--write"]).stdout.strip()
        listed = run.invoke(cli, ["keys", "list"]).stdout
        assert "write" in listed
        assert listed.endswith("camera 1\n")
        assert secret not in listed
        assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 200
        revoked = run.invoke(cli, ["keys", "revoke", listed.split()[0]])
        assert revoked.exit_code == 0
        assert "this was the last key: the service refuses every request" in revoked.stderr
        assert "bitcell keys create NAME" in run.invoke(cli, ["keys", "list"]).stderr
        # No key is left, and still one is needed.
        for headers in ({}, bearer(secret)):
            assert client.get("/v1/jobs", headers=headers).status_code == 401
            assert client.delete("/v1/collections/c", headers=headers).status_code == 401
        other = run.invoke(cli, ["keys", "create", "other"]).stdout.strip()
        assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 401
        assert client.get("/v1/jobs", headers=bearer(other)).status_code == 200
    file = tmp_path / "data" / "keys.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret.encode() not in file.read_bytes()
    wrong = run.invoke(cli, ["keys", "revoke", "nobody"])
    assert isinstance(wrong.exception, ValueError)
    file.unlink()
    lost = run.invoke(cli, ["keys", "list"])
    assert "although keys were created there: the service refuses" in str(lost.exception)


def test_locked_keys_delay_no_request(serve: Client) -> None:
    client = serve()
    secret = make_key(client, WRITE)
    assert client.get("/v1/encoders", headers=bearer(secret)).status_code == 200
    make_key(client, READ)
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    file = service.settings.data_dir / "keys.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        start = time.perf_counter()
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/encoders", headers=bearer(secret)).status_code == 200
        assert client.get("/v1/encoders").status_code == 401
        assert time.perf_counter() - start < 2
        connection.execute("ROLLBACK")


URL = "http://127.0.0.1:8000"
SECRET = re.compile(r"^    (bitcell_[\w-]{43})$", re.MULTILINE)


def test_the_first_start_that_others_can_reach_makes_a_key_and_shows_it_once(
    tmp_path: Path,
) -> None:
    first = Process(tmp_path, BITCELL_HOST="0.0.0.0", BITCELL_DEMO="false")
    url = first.url.replace("0.0.0.0", "127.0.0.1")
    (secret,) = SECRET.findall(first.log)
    assert first.log.count(secret) == 1
    assert f"The page at {url} asks for it" in first.log
    with closing(Keys(tmp_path)) as keys:
        (key,) = keys.list()
    assert f"bitcell keys revoke {key.id}\n" in first.log
    assert "bitcell keys create NAME" in first.log
    # The log itself, which is one JSON object a line, has nothing of it.
    assert not any(secret in line for line in first.log.splitlines() if line.startswith("{"))
    assert httpx2.get(f"{url}/v1/encoders").status_code == 401
    made = httpx2.post(f"{url}/v1/encoders", json=NEW, headers=bearer(secret))
    assert made.status_code == 201
    first.stop()
    second = Process(tmp_path, BITCELL_HOST="0.0.0.0", BITCELL_DEMO="false")
    assert second.url
    assert not SECRET.findall(second.stop())


def test_no_key_is_made_where_none_is_wanted_or_needed(settings: Settings) -> None:
    for host, require_keys in (("0.0.0.0", False), ("127.0.0.1", None), ("127.0.0.1", False)):
        chosen = settings.model_copy(update={"host": host, "require_keys": require_keys})
        with closing(Service(chosen)) as service:
            _check_access(chosen, service, URL)
            assert not service.keys.required
    assert not (settings.data_dir / "keys.db").exists()


def test_a_key_is_made_where_keys_are_asked_for(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings.model_copy(update={"require_keys": True})
    with closing(Service(chosen)) as service:
        _check_access(chosen, service, URL)
        printed = capsys.readouterr()
        assert printed.out == ""
        (secret,) = SECRET.findall(printed.err)
        found = service.keys.find(secret)
        assert found is not None
        assert found.scope == WRITE


@pytest.mark.parametrize(
    ("require_keys", "reason"),
    [(None, "has had API keys, so the service requires one"), (True, "BITCELL_REQUIRE_KEYS")],
)
def test_the_service_does_not_start_when_its_keys_are_lost(
    require_keys: bool | None, reason: str, settings: Settings
) -> None:
    with closing(Keys(settings.data_dir)) as keys:
        keys.create("a", READ)
    (settings.data_dir / "keys.db").unlink()
    settings = settings.model_copy(update={"require_keys": require_keys})
    with (
        closing(Service(settings)) as service,
        pytest.raises(OSError, match=f"{reason}.*create one with `bitcell keys create"),
    ):
        _check_access(settings, service, URL)
    settings = settings.model_copy(update={"require_keys": False})
    with closing(Service(settings)) as service, capture_logs() as log:
        _check_access(settings, service, URL)
    assert "no key is required" in log[0]["event"]
