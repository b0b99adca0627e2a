"""A service with a memory limit, and the conditions that hold during every attack on it.

An attack is a test that calls the service inside a `Siege`::

    def test_many_heads(service):
        with Siege(service, megabytes=50, seconds=20):
            ...  # attack service.url

When the block ends, `Siege` checks that the memory and the time were bounded, that no request got a
5xx other than 503 and 507, that the log has no traceback, and that a well-behaved client got
correct answers all the while.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.app.service_process import Process

MEMORY_LIMIT = 3 << 30
"""Private memory of the service, in bytes. Beyond it, allocations fail."""
PATIENCE = 10.0
"""Seconds within which the well-behaved client gets an answer, refusals and retries included."""
ALLOWED_5XX = {"503", "507"}
_DIMENSION, _N_BITS, _ITEMS, _K = 16, 64, 500, 10
_LIMIT_MEMORY = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY_LIMIT},) * 2)"


class LimitedService(Process):
    """A service whose memory is limited, with a collection `honest` for the well-behaved client.

    Parameters are those of `Process`.
    """

    def __init__(self, data_dir: Path, code: str = "", **environment: str) -> None:
        environment = {"BITCELL_DEMO": "false"} | environment
        super().__init__(data_dir, f"{_LIMIT_MEMORY}\n{code}", **environment)
        assert self.url, self.log
        self.oracle = _Oracle(self)

    def connect(self) -> socket.socket:
        """Return a new connection to the service, for requests that no HTTP client would send."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), timeout=30)

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        return self._status("VmRSS")

    @property
    def peak_memory(self) -> int:
        """Largest resident memory in bytes since `reset_peak`."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        """Measure `peak_memory` from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def answers_by_status(self) -> dict[str, int]:
        """Return how many requests the service has answered with each status, by its metrics."""
        counts: dict[str, int] = {}
        for labels, value in re.findall(
            r"^bitcell_requests_total\{(.*)\} (\S+)$", self.get("/metrics"), re.M
        ):
            status = re.search(r'status="(\d+)"', labels)
            assert status, labels
            counts[status[1]] = counts.get(status[1], 0) + int(float(value))
        return counts

    def _status(self, field: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.M)
        assert found, status
        return int(found[1]) << 10


class _Oracle:
    """The answers of the collection `honest`, by comparing all pairs of its codes."""

    def __init__(self, service: Process) -> None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(_ITEMS, _DIMENSION)).round(3)
        encoder = {"name": "honest", "method": "lsh", "n_bits": _N_BITS, "dimension": _DIMENSION}
        service.call("POST", "/v1/encoders", encoder)
        service.call("POST", "/v1/collections", {"name": "honest", "encoder": "honest"})
        items = [
            {"id": f"{i:04d}", "descriptor": x.tolist(), "label": i % 5, "payload": {"i": i}}
            for i, x in enumerate(X)
        ]
        service.call("PUT", "/v1/collections/honest/items", {"items": items})
        encoded = service.call("POST", "/v1/encoders/honest/encode", {"descriptors": X.tolist()})
        codes = np.array([list(bytes.fromhex(code)) for code in encoded["codes"]], np.uint8)
        self.X = X
        distances = np.bitwise_count(codes[:, None] ^ codes[None]).sum(2, dtype=np.int64)
        self._nearest = [
            sorted((int(distance), f"{i:04d}") for i, distance in enumerate(row))[:_K]
            for row in distances
        ]

    def check(self, row: int, answer: dict[str, Any]) -> None:
        """Check the answer to a query for the nearest `_K` items of a row."""
        found = answer["results"][0]
        nearest = [(item["distance"], item["id"]) for item in found]
        assert nearest == self._nearest[row], f"expected {self._nearest[row]}, got {nearest}"
        assert all(item["payload"] == {"i": int(item["id"])} for item in found)
        assert answer["certificates"][0]["exact"] is True


class Siege:
    """Check that a service stays within bounds, and answers a well-behaved client correctly.

    Parameters
    ----------
    service : LimitedService
    megabytes : float
        How much the resident memory of the service may grow.
    seconds : float
        How long the attack may last.
    patience : float
        Seconds within which each query of the well-behaved client is answered.

    Attributes
    ----------
    slowest : float
        After the block: the longest time that the well-behaved client waited, in seconds.
    client : Thread
        Sends the queries of the well-behaved client; it ends early if one fails.
    growth : float
        After the block: by how many megabytes the memory grew.
    """

    def __init__(
        self,
        service: LimitedService,
        megabytes: float = 100,
        seconds: float = 30,
        patience: float = PATIENCE,
    ) -> None:
        self.service = service
        self.slowest = 0.0
        self.growth = 0.0
        self._megabytes = megabytes
        self._seconds = seconds
        self._patience = patience
        self._over = Event()
        self._answered = Event()
        self._failure: BaseException | None = None
        self.client = Thread(target=self._query, daemon=True)

    def __enter__(self) -> Siege:
        # Earlier attacks may have left memory that the service reuses: measure from what it has.
        self.service.reset_peak()
        self._memory = self.service.memory
        self._statuses = self.service.answers_by_status()
        self._log = len(self.service.log)
        self._start = time.perf_counter()
        self.client.start()
        assert self._answered.wait(self._patience), self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        lasted = time.perf_counter() - self._start
        self._over.set()
        self.client.join(self._patience + 1)
        if kind is not None:
            return
        if self._failure is not None:
            raise self._failure
        assert not self.client.is_alive(), "the well-behaved client still waits for its answer"
        assert self.service.process.poll() is None, self.service.log
        assert lasted < self._seconds, f"the attack lasted {lasted:.1f} s"
        self.growth = (self.service.peak_memory - self._memory) / 2**20
        assert self.growth < self._megabytes, f"the memory grew by {self.growth:.0f} MB"
        for status, count in self.service.answers_by_status().items():
            new = count - self._statuses.get(status, 0)
            assert status[0] != "5" or status in ALLOWED_5XX or not new, f"{new} times {status}"
        log = self.service.log[self._log :]
        assert "Traceback" not in log, log

    def _query(self) -> None:
        client = _Client(self.service)
        try:
            for i in range(1_000_000):
                start = time.perf_counter()
                client.query(i % _ITEMS, start + self._patience)
                self.slowest = max(self.slowest, time.perf_counter() - start)
                self._answered.set()
                if self._over.wait(0.005):
                    return
        except BaseException as failure:  # noqa: BLE001 - the main thread raises it.
            self._failure = failure
        finally:
            client.close()


class _Client:
    """Queries one row at a time over one connection, and tries again when refused."""

    def __init__(self, service: LimitedService) -> None:
        self._oracle = service.oracle
        address = urlsplit(service.url)
        self._connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=PATIENCE
        )

    def query(self, row: int, deadline: float) -> None:
        """Query a row and check the answer; raise TimeoutError when it comes after a deadline."""
        body = json.dumps({"descriptors": [self._oracle.X[row].tolist()], "k": _K})
        while time.perf_counter() < deadline:
            try:
                self._connection.request(
                    "POST",
                    "/v1/collections/honest/query",
                    body,
                    {"Content-Type": "application/json"},
                )
                answer = self._connection.getresponse()
                content = answer.read()
            except (ConnectionError, http.client.HTTPException):
                self._connection.close()
                continue
            if answer.status == 200:
                self._oracle.check(row, json.loads(content))
                return
            assert answer.status == 503, content
            assert answer.headers["Retry-After"], content
        raise TimeoutError("the well-behaved client was not answered in time")

    def close(self) -> None:
        self._connection.close()
