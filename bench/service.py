"""A service in a process of its own, for benchmarks over HTTP."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class ServiceProcess:
    """`bitcell serve` on a free port, and one connection that is kept alive.

    Parameters
    ----------
    folder : Path
        The data directory; the log is the file `log` in it.
    demo : bool
        Whether the service makes its demo collection.
    settings : dict of str to str, optional
        Further variables of the environment.

    Attributes
    ----------
    url : str
    ready_seconds : float
        From the start of the process until the service answered, within 10 ms.
    """

    def __init__(
        self, folder: Path, *, demo: bool = False, settings: dict[str, str] | None = None
    ) -> None:
        variables = {
            "BITCELL_DATA_DIR": str(folder),
            "BITCELL_DEMO": str(demo),
            "BITCELL_DRAIN_SECONDS": "0",
        } | (settings or {})
        start = time.perf_counter()
        with (folder / "log").open("wb") as log_file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
                env=os.environ | variables,
                stderr=log_file,
            )
        while b"Bitcell is at" not in (log := (folder / "log").read_bytes()):
            if self.process.poll() is not None:
                raise RuntimeError(log.decode())
            time.sleep(0.01)
        self.ready_seconds = time.perf_counter() - start
        self._port = int(log.partition(b"Bitcell is at http://127.0.0.1:")[2].partition(b'"')[0])
        self.url = f"http://127.0.0.1:{self._port}"
        self._connection = self._connect()

    def _connect(self) -> socket.socket:
        # A bare socket: the cost of a client library is not the service's.
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def reconnect(self) -> None:
        """Open another connection: the service closes one that is idle for some seconds."""
        self._connection.close()
        self._connection = self._connect()

    def request(
        self, method: str, path: str, body: bytes = b"", media_type: str = "application/x-npy"
    ) -> bytes:
        """Send a request and return the body of the answer; RuntimeError for an error status."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
        length = f"Content-Length: {len(body)}\r\n\r\n"
        self._connection.sendall((head + length).encode() + body)
        received = self._connection.recv(1 << 20)
        head_end = received.index(b"\r\n\r\n") + 4
        match = re.search(rb"content-length: (\d+)", received[:head_end], re.IGNORECASE)
        parts, missing = [received], head_end + int(match[1] if match else 0) - len(received)
        while missing > 0:
            if not (part := self._connection.recv(1 << 20)):
                raise RuntimeError("the service closed the connection in the middle of an answer")
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)[head_end:]
        if int(received[9:12]) >= 400:
            raise RuntimeError(data.decode())
        return data

    def post(self, path: str, body: Any) -> Any:
        """Send JSON and return the answer's JSON."""
        return json.loads(self.request("POST", path, json.dumps(body).encode(), "application/json"))

    def stop(self) -> None:
        """Stop the service and wait for its end."""
        self._connection.close()
        self.process.terminate()
        self.process.wait()


def npy(*arrays: Any) -> bytes:
    """Return an npy body: the arrays, one after the other."""
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()
