"""Stopping the service: under load, with endless queries, and with running jobs."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from pathlib import Path
from threading import Barrier, Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx2
import numpy as np
import pytest

from tests.app.conftest import NPY, npy
from tests.app.service_process import Process

CLIENTS = 8
NEW_ENCODER = {"name": "e", "method": "lsh", "n_bits": 48, "dimension": 64}


def test_requests_in_flight_are_answered(tmp_path: Path) -> None:
    process = Process(tmp_path, BITCELL_DEMO="false", BITCELL_DRAIN_SECONDS="1")
    process.call("POST", "/v1/encoders", NEW_ENCODER)
    process.call("POST", "/v1/collections", {"name": "c", "encoder": "e"})
    X = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    ids = np.array([f"i{i}" for i in range(len(X))])
    with httpx2.Client(base_url=process.url) as client:
        put = client.put("/v1/collections/c/items", content=npy(X, ids), headers=NPY)
        assert put.status_code == 200
    warm = Barrier(CLIENTS + 1)
    answered: list[int] = []
    broken: list[str] = []
    body = npy(X[:200])

    def send_queries() -> None:
        with httpx2.Client(base_url=process.url, timeout=30) as client:
            first = True
            while True:
                request = uuid.uuid4().hex
                headers = {**NPY, "X-Request-ID": request}
                try:
                    answer = client.post(
                        "/v1/collections/c/query?k=10", content=body, headers=headers
                    )
                except httpx2.ConnectError:
                    return  # It has stopped listening.
                except httpx2.HTTPError:
                    broken.append(request)
                    return
                answered.append(answer.status_code)
                if first:
                    warm.wait(30)
                    first = False

    threads = [Thread(target=send_queries) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    warm.wait(30)
    start = time.perf_counter()
    process.process.send_signal(signal.SIGTERM)
    # The service answers until it reports that it is not ready.
    states: list[int] = []
    reason = ""
    while not states or states[-1] == 200:
        try:
            with urlopen(process.url + "/readyz", timeout=30) as answer:
                states.append(answer.status)
        except HTTPError as error:
            states.append(error.code)
            reason = error.read().decode()
    assert states[-1] == 503
    assert "about to stop" in reason
    for thread in threads:
        thread.join(30)
    process.process.wait(30)
    assert time.perf_counter() - start < 10
    log = process.stop()
    # After an orderly stop, uvicorn ends the process by the signal.
    assert process.process.returncode == -signal.SIGTERM
    # The system resets connections that were not accepted when the service stopped listening. All
    # others are in the log, and must have been answered.
    assert log.count('"request_id"') > 2 * CLIENTS
    assert not [request for request in broken if request in log]
    assert len(answered) > 2 * CLIENTS
    assert set(answered) == {200}


ENDLESS_REQUESTS = """
import threading
from app.http import server
from app.service.collections.collections import Collections
from app.service.collections.searches import Searches

def wait(self, *args, **options):
    print("waiting", flush=True)
    threading.Event().wait()

server.GRACE_SECONDS = 0.2
Searches.search = Collections.items = wait
"""


@pytest.mark.parametrize(
    ("how", "status", "request_line"),
    [
        (signal.SIGTERM, -15, b"POST /v1/collections/c/query"),
        (signal.SIGINT, 130, b"GET /v1/collections/c/items"),
    ],
)
def test_an_endless_request_does_not_delay_the_stop(
    tmp_path: Path, how: signal.Signals, status: int, request_line: bytes
) -> None:
    process = Process(tmp_path, ENDLESS_REQUESTS, BITCELL_DEMO="false")
    process.call("POST", "/v1/encoders", NEW_ENCODER)
    process.call("POST", "/v1/collections", {"name": "c", "encoder": "e"})
    query = json.dumps({"descriptors": [[0] * 64]}).encode()
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (request_line, len(query), query)
        )
        assert process.process.stdout is not None
        assert process.process.stdout.readline() == "waiting\n"
        process.process.send_signal(how)
        # 0.2 s for connections and 1.5 s for the pools; the rest is for a slow machine.
        assert process.process.wait(9) == status
    process.stop()


def test_a_new_connection_is_still_answered(tmp_path: Path) -> None:
    """Its request may be on its way when the service stops."""
    process = Process(tmp_path, BITCELL_DEMO="false")
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        process.call("GET", "/healthz")  # By now the connection has been accepted.
        process.process.send_signal(signal.SIGTERM)
        wait_for_stopping(process)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in received.lower()
    process.stop()


def wait_for_stopping(process: Process) -> None:
    """Wait until the service has stopped listening."""
    host, port = process.url.removeprefix("http://").split(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=30).close()
        except ConnectionError:
            return


@pytest.fixture
def busy_data_dir(tmp_path: Path) -> Path:
    """Return a data directory with a dataset that keeps jobs busy."""
    (tmp_path / "datasets").mkdir()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1500)
    X = rng.normal(size=(1500, 64)) + np.eye(5, 64)[labels]
    np.savez(tmp_path / "datasets" / "big.npz", descriptors=X, labels=labels)
    return tmp_path


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_running_jobs_run_again_after_a_restart(how: signal.Signals, busy_data_dir: Path) -> None:
    process = Process(busy_data_dir, BITCELL_DEMO="false")
    long_benchmark = {"dataset": "big", "methods": ["lsh"], "bits": list(range(8, 58))}
    params = {"n_anchors": 100, "max_steps": 100}
    new = {"name": "t", "method": "ksh", "n_bits": 16, "params": params}
    new["training"] = {"dataset": "big"}
    benchmark = process.call("POST", "/v1/benchmarks", long_benchmark)["id"]
    training = process.call("POST", "/v1/encoders", new)["id"]
    queued = process.call(
        "POST", "/v1/encoders", new | {"name": "u", "method": "itq", "params": {}}
    )["id"]
    process.follow(benchmark, "running")
    process.follow(training, "running")
    workers = children(process.process.pid)
    assert len(workers) >= 2
    process.stop(how)
    # The processes of jobs end with the service, however it ended.
    deadline = time.monotonic() + 20
    while not all(map(ended, workers)):
        assert time.monotonic() < deadline
        os.sched_yield()
    process = Process(busy_data_dir, BITCELL_DEMO="false")
    try:
        states = {job["id"]: job["state"] for job in process.call("GET", "/v1/jobs")}
        assert set(states) == {benchmark, training, queued}
        assert set(states.values()) <= {"queued", "running"}
        process.call("DELETE", f"/v1/jobs/{benchmark}")
        assert process.follow(training, "done")["result"]["name"] == "t"
        assert process.follow(queued, "done")["result"]["name"] == "u"
        encoders = process.call("GET", "/v1/encoders")
        assert [encoder["name"] for encoder in encoders] == ["t", "u"]
    finally:
        process.stop()
