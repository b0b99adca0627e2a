"""The service as a process of its own, and calls to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.request import Request, urlopen

from tests.app.fork_server import ForkedProcess

DEFAULTS = {"BITCELL_DRAIN_SECONDS": "0"}


class Process:
    """`bitcell serve` on a free port.

    Parameters
    ----------
    data_dir : Path
    code : str
        Python code that runs in the process before the service starts.
    environment : str
        Further environment variables. With variables PYTHON*, which Python reads when it starts, an
        interpreter is started, else a copy of a process that has imported the service.

    Attributes
    ----------
    url : str
        The address that the service logged, or an empty string if it ended before that.
    data_dir : Path
    headers : dict
        What each request is sent with, such as a key.
    started, ready : float
        By `time.perf_counter`: when the process was started, and when the address was logged.
    """

    fresh = False
    """Whether an interpreter is started in any case."""

    def __init__(self, data_dir: Path, code: str = "", **environment: str) -> None:
        self.started = time.perf_counter()
        self.data_dir = data_dir
        self.url = ""
        self.headers: dict[str, str] = {}
        self._lines: list[str] = []
        self._has_started = Event()
        code += "\nfrom app.cli.main import main; main()"
        arguments = ["serve", "--port", "0"]
        env = dict(os.environ) | DEFAULTS | {"BITCELL_DATA_DIR": str(data_dir)} | environment
        self.process: ForkedProcess | subprocess.Popen[str]
        if self.fresh or any(name.startswith("PYTHON") for name in environment):
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        else:
            self.process = ForkedProcess(code, arguments, env)
        # A thread of its own: a full pipe would stop the service.
        self._reader = Thread(target=self._read_log, daemon=True)
        self._reader.start()
        assert self._has_started.wait(60), self.log
        self.ready = time.perf_counter()

    def _read_log(self) -> None:
        for line in self.process.stderr or ():
            self._lines.append(line)
            if found := re.search(r"Bitcell is at (http://[^\s\"]+)", line):
                self.url = found[1]
                self._has_started.set()
        self._has_started.set()

    @property
    def log(self) -> str:
        """What the service has logged so far."""
        return "".join(self._lines)

    def get(self, path: str) -> str:
        """Return the body of an answer to GET."""
        with urlopen(Request(self.url + path, headers=self.headers), timeout=30) as answer:
            return str(answer.read().decode())

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | self.headers
        request = Request(self.url + path, data, headers, method=method)
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def follow(self, job: str, until: str) -> dict[str, Any]:
        """Return a job as soon as it is in a state, by its events."""
        request = Request(f"{self.url}/v1/jobs/{job}/events", headers=self.headers)
        with urlopen(request, timeout=60) as events:
            for line in events:
                if line.startswith(b"data: "):
                    shown: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                    if shown["state"] == until and (until != "running" or shown["progress"]["now"]):
                        return shown
        raise AssertionError(shown)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        """Stop the service and return its log."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(30)
        self._reader.join(30)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return self.log


class FreshProcess(Process):
    """`bitcell serve` in an interpreter that has imported nothing, for tests of its start."""

    fresh = True
