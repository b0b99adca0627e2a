"""The service as a process: its start, its memory, its errors at start."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from app.cli.main import main
from bench.load import load
from bench.service import ServiceProcess, npy
from index import Database, Store
from tests.app.service_process import Process

# `make bench` has strict limits for a quiet machine; these also hold on a busy one.
READY_SECONDS = 10.0
MEMORY_MB = 250


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with the demo collection, from a first start."""
    path: Path = tmp_path_factory.mktemp("serving")
    first = Process(path)
    assert "1,797 scanned digits" in first.log, first.stop()
    first.stop()
    return path


@pytest.fixture(scope="module")
def serving(data_dir: Path) -> Iterator[Process]:
    """A service that has started again; the tests leave its data as they are."""
    process = Process(data_dir)
    yield process
    process.stop()


def test_it_is_ready_soon_and_needs_little_memory(serving: Process) -> None:
    assert '"collections":1' in serving.get("/readyz").replace(" ", "")
    assert serving.ready - serving.started < READY_SECONDS
    status = Path(f"/proc/{serving.process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident
    assert int(resident[1]) / 1024 < MEMORY_MB


def test_an_answer_to_head_has_no_body(serving: Process) -> None:
    connection = http.client.HTTPConnection(urlsplit(serving.url).netloc, timeout=30)
    job = serving.call("POST", "/v1/benchmarks", {"dataset": "digits", "methods": ["lsh"]})["id"]
    for path in ("/", "/metrics", "/v1/collections", f"/v1/jobs/{job}/events"):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read() == b""
    # A body would be taken for the head of the next answer.
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()
    serving.call("DELETE", f"/v1/jobs/{job}")


def test_many_connections_are_served_without_error(tmp_path: Path) -> None:
    """Run for two seconds what `make bench` runs for sixty."""
    serving = ServiceProcess(tmp_path)
    try:
        serving.post("/v1/encoders", {"name": "e", "method": "lsh", "n_bits": 48, "dimension": 32})
        serving.post("/v1/collections", {"name": "c", "encoder": "e"})
        X = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
        ids = np.array([f"i{i}" for i in range(len(X))])
        serving.request("PUT", "/v1/collections/c/items", npy(X, ids))
        bodies = [npy(query[None]) for query in X[:100]]
        found = asyncio.run(load(serving, "/v1/collections/c/query", bodies, 64, 2))
    finally:
        serving.stop()
    assert found["errors"] == 0
    assert found["queries_per_second"] > 64  # Each connection is used more than once.
    assert found["grown_mb"] < 30


# Lists the packages that a process has loaded when Ctrl-C ends it.
LOADED = """
import os, sys
def show(code, end=os._exit):
    packages = sorted({module.partition(".")[0] for module in sys.modules})
    print("LOADED", *packages, file=sys.stderr, flush=True)
    end(code)
os._exit = show
"""


def test_it_does_not_load_torch_scikit_learn_or_pillow(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOADED)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = Process(tmp_path / "data", PYTHONPATH=path, BITCELL_DEMO="false")
    encoder = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 2}
    process.call("POST", "/v1/encoders", encoder)
    process.call("POST", "/v1/collections", {"name": "c", "encoder": "e"})
    items = [{"id": "a", "descriptor": [1, 2]}]
    process.call("PUT", "/v1/collections/c/items", {"items": items})
    found = process.call("POST", "/v1/collections/c/query", {"descriptors": [[1, 2]]})
    assert found["results"] == [[{"id": "a", "distance": 0}]]
    log = process.stop(signal.SIGINT)
    loaded = set(log.partition("LOADED")[2].split())
    assert {"fastapi", "faiss", "numpy"} <= loaded
    assert not loaded & {"torch", "sklearn", "pandas", "PIL"}


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Start a service that cannot start, in this process; return what it prints."""

    def run(*_: Any) -> None:
        raise AssertionError("the service was not refused")

    def start(**settings: Any) -> str:
        for name, value in ({"PORT": 0} | settings).items():
            monkeypatch.setenv(f"BITCELL_{name}", str(value))
        monkeypatch.setattr("sys.argv", ["bitcell", "serve"])
        monkeypatch.setattr("app.http.log_setup.configure", lambda settings: None)
        monkeypatch.setattr("uvicorn.Server.run", run)
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("bitcell: ")
        assert message.count("\n") == 1
        return message

    return start


def test_a_second_service_on_the_same_data_is_refused(
    serving: Process, refused: Callable[..., str]
) -> None:
    message = refused(DATA_DIR=serving.data_dir)
    assert "bitcell.db is in use by another process" in message


def test_a_port_in_use_is_reported(
    serving: Process, refused: Callable[..., str], tmp_path: Path
) -> None:
    port = serving.url.rpartition(":")[2]
    message = refused(DATA_DIR=tmp_path, DEMO="false", PORT=port)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose" in message
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_data_directory_is_reported(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert "file cannot hold the data" in refused(DATA_DIR=tmp_path / "file")


def damaged(record: Path) -> None:
    record.write_bytes(b"not a database" * 100)


def cut_off(record: Path) -> None:
    database = Database(record)
    Store(database).close()
    database.close()
    data = record.read_bytes()
    record.write_bytes(data[: len(data) // 2])


def of_another_program(record: Path) -> None:
    with closing(sqlite3.connect(record)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def of_a_later_version(record: Path) -> None:
    Database(record).close()
    with closing(sqlite3.connect(record)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("bitcell.db", damaged, "is damaged: file is not a database; restore it from a copy"),
        ("bitcell.db", cut_off, "is damaged: database disk image is malformed; restore it"),
        ("bitcell.db", of_another_program, "is a database of another program, not of Bitcell"),
        ("bitcell.db", of_a_later_version, "has version 99; the newest known here is"),
        ("bitcell.db", Path.mkdir, "cannot be opened: unable to open database file"),
        ("keys.db", damaged, "file is not a database"),
        ("keys.db", Path.mkdir, "is a folder; expected the file of keys"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(
    name: str,
    spoil: Callable[[Path], None],
    message: str,
    refused: Callable[..., str],
    tmp_path: Path,
) -> None:
    spoil(tmp_path / name)
    shown = refused(DATA_DIR=tmp_path)
    assert str(tmp_path / name) in shown
    assert message in shown


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MAX_K", "0", "BITCELL_MAX_K: Input should be greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "BITCELL_LOG_LEVEL: Input should be 'debug', 'info'"),
        ("MAX_BODY", "lots", "BITCELL_MAX_BODY: could not parse value"),
        ("PROT", "80", "BITCELL_PROT: there is no such setting"),
    ],
)
def test_settings_are_checked_at_start(
    name: str, value: str, message: str, refused: Callable[..., str]
) -> None:
    assert message in refused(**{name: value})


def test_the_exit_status_is_that_of_the_process(tmp_path: Path) -> None:
    process = Process(tmp_path, BITCELL_PROT="80")
    assert "BITCELL_PROT" in process.stop()
    assert process.process.returncode == 2
