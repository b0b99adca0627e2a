"""The service as a process: its start, its memory, its errors at start."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from app.cli.main import main
from bench.load import load
from bench.service import ServiceProcess, npy
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


@pytest.fixture
def serving(data_dir: Path) -> Iterator[Process]:
    process = Process(data_dir)
    yield process
    process.stop()


def test_it_is_ready_soon_and_needs_little_memory(serving: Process) -> None:
    assert '"collections":1' in serving.get("/readyz").replace(" ", "")
    assert time.perf_counter() - serving.started < READY_SECONDS
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


def test_it_does_not_load_torch_scikit_learn_or_pillow(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOADED)
    process = Process(data_dir, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert "digit-0007" in process.get("/v1/collections/demo/items/digit-0007")
    log = process.stop(signal.SIGINT)
    loaded = set(log.partition("LOADED")[2].split())
    assert {"fastapi", "faiss", "numpy"} <= loaded
    assert not loaded & {"torch", "sklearn", "pandas", "PIL"}


def test_a_second_service_on_the_same_data_is_refused(serving: Process, data_dir: Path) -> None:
    second = Process(data_dir)
    assert second.url == ""
    assert "bitcell.db is in use by another process" in second.stop()
    assert second.log.startswith("bitcell: ")
    assert second.log.count("\n") == 1
    assert second.process.returncode == 2


def test_a_port_in_use_is_reported(serving: Process, tmp_path: Path) -> None:
    port = serving.url.rpartition(":")[2]
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", port],
        env=os.environ | {"BITCELL_DATA_DIR": str(tmp_path), "BITCELL_DEMO": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose" in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_data_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = Process(tmp_path / "file")
    assert "file cannot hold the data" in process.stop()
    assert process.log.count("\n") == 1
    assert process.process.returncode == 2


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("BITCELL_MAX_K", "0", "BITCELL_MAX_K: Input should be greater than or equal to 1"),
        ("BITCELL_LOG_LEVEL", "loud", "BITCELL_LOG_LEVEL: Input should be 'debug', 'info'"),
        ("BITCELL_MAX_BODY", "lots", "BITCELL_MAX_BODY: could not parse value"),
    ],
)
def test_settings_are_checked_at_start(
    variable: str,
    value: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("sys.argv", ["bitcell", "serve"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_misspelled_setting_is_refused_in_one_line(tmp_path: Path) -> None:
    process = Process(tmp_path, BITCELL_PROT="80")
    log = process.stop()
    assert "BITCELL_PROT: there is no such setting" in log
    assert "Traceback" not in log
    assert process.process.returncode == 2
