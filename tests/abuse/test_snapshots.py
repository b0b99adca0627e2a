"""Attacks on snapshots: files of strangers, no file descriptors, and a service that is killed."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.service.service import Service
from app.service.settings import Settings
from tests.abuse.siege import LimitedService, Siege
from tests.app.service_process import Process
from tests.index import snapshot_blocks

SNAPSHOTS = "/v1/collections/honest/snapshots"


class _Connection:
    """One connection that stays open, so that the service needs no file for it later."""

    def __init__(self, service: Process) -> None:
        address = urlsplit(service.url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)

    def send(self, method: str, path: str, body: Any = None) -> None:
        content = None if body is None else json.dumps(body)
        self._http.request(method, path, content, {"Content-Type": "application/json"})

    def upload(self, name: str, parts: Iterator[bytes]) -> int:
        """Upload a snapshot in chunks, and return the status."""
        with suppress(BrokenPipeError, ConnectionResetError):  # It may be refused on the way.
            self._http.request(
                "PUT",
                f"/v1/snapshots/{name}",
                parts,
                encode_chunked=True,
                headers={"Transfer-Encoding": "chunked"},
            )
        answer = self._http.getresponse()
        answer.read()
        return answer.status

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        self.send(method, path, body)
        answer = self._http.getresponse()
        received = answer.read()
        return answer.status, json.loads(received) if received else None

    def close(self) -> None:
        self._http.close()


@contextmanager
def connected(service: Process) -> Iterator[_Connection]:
    connection = _Connection(service)
    try:
        yield connection
    finally:
        connection.close()


def _hostile(blocks: list[bytes]) -> Iterator[bytes]:
    about, items = blocks[0].replace(b'"has_encoder": true', b'"has_encoder": false'), blocks[-1]
    columns = snapshot_blocks.columns(items)
    first = json.loads(about)
    ids = json.dumps([f"{i}" for i in range(500)]).encode()

    def with_payloads(payloads: bytes) -> bytes:
        text = b"[" + ids + b",[" + payloads + b"]]"
        return snapshot_blocks.join([about, snapshot_blocks.block_of([text, *columns[1:]])])

    for n_bits in (10**12, 2**64, float("inf"), 65):
        changed = json.dumps(first | {"n_bits": n_bits}).encode()
        yield snapshot_blocks.join([changed])
    yield snapshot_blocks.join([about, b"abc"])
    # JSON that takes 25 times its size once parsed: in one payload, in many, and as ids.
    yield with_payloads(b'{"a":[' + b"{}," * 2_000_000 + b"1]}")
    yield with_payloads(b",".join([b'{"a":[' + b"{}," * 16_000 + b"1]}"] * 40 + [b"1"]))
    yield snapshot_blocks.join(
        [about, snapshot_blocks.block_of([b"[[" + b"{}," * 1_000_000 + b"1],[]]", b"", b"", b""])]
    )
    yield with_payloads(b'{"a":' * 500 + b"1" + b"}" * 500 + b",null" * 499)


def test_files_of_strangers_cost_little_and_leave_nothing(service: LimitedService) -> None:
    folder = service.data_dir / "snapshots"
    with connected(service) as connection:
        _, made = connection.call("POST", SNAPSHOTS)
        path = folder / made["snapshot"]
        blocks = snapshot_blocks.split(path.read_bytes())
        with Siege(service, megabytes=150, seconds=30):
            for data in _hostile(blocks):
                path.write_bytes(data)
                status, answer = connection.call(
                    "POST", "/v1/collections/hostile/restore", {"snapshot": path.name}
                )
                assert status == 422, answer
                assert connection.call("GET", "/v1/collections/hostile")[0] == 404
        path.unlink()
    assert list(folder.iterdir()) == []


def _claims(about: bytes) -> Iterator[Iterator[bytes]]:
    """Yield uploads, in parts: what they claim to hold would take gigabytes."""
    start = snapshot_blocks.join([about])[:-12]
    zeros = bytes(1 << 20)

    def of(*parts: bytes, megabytes: int = 0) -> Iterator[bytes]:
        yield from parts
        for _ in range(megabytes):
            yield zeros

    yield of(start, struct.pack("<QI", 2**63, 0))
    yield of(start, struct.pack("<QI", 120 << 20, 0), megabytes=120)
    yield of(start, struct.pack("<QI", 500 << 20, 0), megabytes=30)
    yield of(struct.pack("<19sQI", b"Bitcell snapshot 1\n", 300 << 20, 0), megabytes=150)
    yield of(megabytes=100)


def test_uploads_of_strangers_cost_little_and_leave_nothing(service: LimitedService) -> None:
    folder = service.data_dir / "snapshots"
    with connected(service) as connection:
        _, made = connection.call("POST", SNAPSHOTS)
        path = folder / made["snapshot"]
        about = snapshot_blocks.split(path.read_bytes())[0]
        path.unlink()
        with Siege(service, megabytes=50, seconds=30):
            for parts in _claims(about):
                assert connection.upload("hostile", parts) == 422
            # Many at a time: four are received, and the others are refused at once.
            with ThreadPoolExecutor(12) as pool:
                statuses = list(pool.map(lambda _: _upload(service, about), range(12)))
            assert set(statuses) <= {422, 503}
            assert 422 in statuses
    assert list(folder.iterdir()) == []


def _upload(service: LimitedService, about: bytes) -> int:
    name = threading.current_thread().name
    with connected(service) as connection:
        return connection.upload(name, list(_claims(about))[2])


def test_no_file_descriptors(service: LimitedService) -> None:
    pid = service.process.pid
    with connected(service) as connection:
        assert connection.call("GET", "/healthz")[0] == 200
        with Siege(service, megabytes=50):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
            free = min(set(range(len(used) + 1)) - used)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
            try:
                statuses = {connection.call("POST", SNAPSHOTS)[0] for _ in range(3)}
            finally:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            assert statuses == {503}
            status, made = connection.call("POST", SNAPSHOTS)
            assert status == 201
    (service.data_dir / "snapshots" / made["snapshot"]).unlink()


_HANG = """
import os, threading
from index.storage.snapshot_format import BlockWriter

def hang(writer):
    writer._file._file.flush()
    with open(os.environ["FIFO"], "w") as fifo:
        fifo.write("x")
    threading.Event().wait()

BlockWriter.end = hang
"""


@pytest.mark.slow
def test_a_snapshot_that_a_kill_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    fifo, folder = tmp_path / "fifo", tmp_path / "data" / "snapshots"
    os.mkfifo(fifo)
    process = Process(tmp_path / "data", _HANG, FIFO=str(fifo), BITCELL_DEMO="false")
    encoder = {"name": "e", "method": "lsh", "n_bits": 8, "dimension": 4}
    process.call("POST", "/v1/encoders", encoder)
    process.call("POST", "/v1/collections", {"name": "c", "encoder": "e"})
    with connected(process) as connection:
        connection.send("POST", "/v1/collections/c/snapshots")
        with fifo.open() as reached:
            assert reached.read() == "x"
    process.stop(signal.SIGKILL)
    (partial,) = folder.iterdir()
    assert partial.stat().st_size > 100
    with closing(Service(Settings(data_dir=tmp_path / "data"))) as service:
        assert list(folder.iterdir()) == []
        service.snapshots.write("c")
