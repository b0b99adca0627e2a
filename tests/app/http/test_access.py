"""Who is let in, and who is not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli.main import cli
from app.main import create_app
from app.service.keys import READ, WRITE, Keys
from app.service.settings import Settings
from tests.app.conftest import NPY, npy
from tests.app.problems import assert_problem

Client = Callable[..., TestClient]


@pytest.fixture
def serve(settings: Settings) -> Iterator[Client]:
    """A client of a service with settings of its own."""
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


def test_without_a_key_and_with_a_wrong_one(serve: Client) -> None:
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


def test_a_read_key_reads_and_does_not_write(serve: Client) -> None:
    client = serve(require_keys=True)
    read, write = bearer(make_key(client, READ)), bearer(make_key(client, WRITE))
    assert_problem(client.post("/v1/encoders", json=NEW, headers=read), 403, "may only read")
    assert client.post("/v1/encoders", json=NEW, headers=write).status_code == 201
    new = {"name": "c", "encoder": "e"}
    assert client.post("/v1/collections", json=new, headers=write).status_code == 201
    body = npy([[1.0, 2, 3, 4]])
    for url in ("/v1/encoders/e/encode", "/v1/collections/c/query"):
        assert client.post(url, content=body, headers=NPY | read).status_code == 200
    for url, asked in (
        ("c/reencode", {"encoder": "e"}),
        ("c/snapshots", None),
        ("d/restore", {"snapshot": "c.snapshot"}),
    ):
        answer = client.post(f"/v1/collections/{url}", json=asked, headers=read)
        assert_problem(answer, 403, "may only read")


def test_every_call_that_is_not_known_to_read_takes_a_write_key(serve: Client) -> None:
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
        "post /v1/gist",
        "post /v1/encoders/{name}/encode",
        "post /v1/collections/{name}/query",
    }


def test_keys_are_asked_for_where_others_reach_the_service(serve: Client) -> None:
    assert serve(host="127.0.0.1").get("/v1/encoders").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_elsewhere_than_on_loopback_keys_are_asked_for(host: str, serve: Client) -> None:
    assert serve(host=host).get("/v1/encoders").status_code == 401


def test_once_there_is_a_key_it_is_asked_for_on_loopback_too(serve: Client) -> None:
    client = serve()
    assert client.get("/v1/encoders").status_code == 200
    key = make_key(client, READ)
    assert client.get("/v1/encoders").status_code == 401
    assert client.get("/v1/encoders", headers=bearer(key)).status_code == 200


def test_unless_it_is_set_that_none_is(serve: Client) -> None:
    client = serve(host="0.0.0.0", require_keys=False)
    make_key(client, READ)
    assert client.get("/v1/encoders").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "a b", "[::1", "::1"])
def test_a_name_that_was_rebound_to_us_is_refused(host: str, serve: Client) -> None:
    client = serve(allowed_hosts="")
    assert_problem(client.get("/v1/encoders", headers={"Host": host}), 400, "BITCELL_ALLOWED_HOSTS")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_our_own_names_are_not(host: str, serve: Client) -> None:
    client = serve(allowed_hosts="")
    assert client.get("/v1/encoders", headers={"Host": host}).status_code == 200


def test_hosts_can_be_named(serve: Client) -> None:
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
    # Nothing allows such a page to read what a GET gives.
    reading = client.get("/v1/encoders", headers=headers)
    assert "access-control-allow-origin" not in reading.headers


def test_our_own_page_may(serve: Client) -> None:
    headers = {"Origin": "http://localhost:8000", "Host": "localhost:8000"}
    assert serve().post("/v1/encoders", json=NEW, headers=headers).status_code == 201


def test_the_command_line_makes_lists_and_revokes(
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
        assert run.invoke(cli, ["keys", "revoke", listed.split()[0]]).exit_code == 0
        assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 200  # none is left
        run.invoke(cli, ["keys", "create", "other"])
        assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 401
    file = tmp_path / "data" / "keys.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret.encode() not in file.read_bytes()
    wrong = run.invoke(cli, ["keys", "revoke", "nobody"])
    assert isinstance(wrong.exception, ValueError)


def test_a_service_sees_at_once_what_the_command_line_does_to_its_keys(tmp_path: Path) -> None:
    asked, written = Keys(tmp_path), Keys(tmp_path)
    for _ in range(50):
        assert not asked.any()
        first, second = (written.create(name, READ)[0].id for name in ("a", "b"))
        assert asked.any()
        written.revoke(first)
        assert asked.any()
        written.revoke(second)
    assert not asked.any()
    asked.close()
    written.close()


def test_the_service_refuses_to_listen_elsewhere_without_keys(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from app.cli.main import main; main()",
            "serve",
            "--host",
            "0.0.0.0",
        ],
        env=os.environ | {"BITCELL_DATA_DIR": str(tmp_path), "BITCELL_PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 2
    assert "there is no API key: create one with `bitcell keys create" in run.stderr
    assert run.stderr.count("\n") == 1
