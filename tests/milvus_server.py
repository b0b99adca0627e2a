"""A real Milvus server from the wheel `milvus`, for tests and benchmarks on this machine.

`python -m tests.milvus_server FOLDER PID` runs the server until the process PID ends, and starts it
again whenever it is killed. `running` starts that once for all processes that share a folder.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

PATIENCE = 120.0
_TO_START = "server.json"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its process and the ports on 127.0.0.1."""

    pid: int
    port: int
    health_port: int

    @property
    def url(self) -> str:
        """The address, as the service takes it."""
        return f"milvus://127.0.0.1:{self.port}"

    @property
    def is_healthy(self) -> bool:
        """Whether it says that all of its parts run."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.health_port}/healthz", timeout=5
            ) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False


def is_installed() -> bool:
    """Return whether the wheels of the server and its client are installed."""
    return all(importlib.util.find_spec(name) for name in ("milvus", "pymilvus"))


@contextmanager
def shared(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the server together with others, or alone, as to kill it."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def running(folder: Path, owner: int) -> Server:
    """Return the server of a folder, started if it does not run; it ends with the owner."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "starting").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _TO_START).exists():
            with (folder / "supervisor.log").open("a") as log:
                subprocess.Popen(
                    [sys.executable, "-m", "tests.milvus_server", str(folder), str(owner)],
                    cwd=Path(__file__).parents[1],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return await_ready(folder)


def await_ready(folder: Path, after: int | None = None) -> Server:
    """Return the server once it answers; `after` is the process of one that was killed."""
    end = monotonic() + PATIENCE
    while monotonic() < end:
        path = folder / _TO_START
        if path.exists():
            server = Server(**json.loads(path.read_text()))
            if server.pid != after and server.is_healthy:
                return server
        sleep(0.05)
    log = (folder / "supervisor.log").read_text()[-2000:]
    raise TimeoutError(f"Milvus did not start within {PATIENCE:g} s: {log}")


def _supervise(folder: Path, owner: int) -> None:
    """Run a server until the owner ends, and again whenever it ends before."""
    from milvus import MilvusServerConfig

    data = Path(tempfile.mkdtemp(prefix="bitcell-milvus-", dir=_memory()))
    try:
        config = MilvusServerConfig(data_dir=str(data))
        config.set("proxy.timeTickInterval", 20)
        config.set("system_log_level", "warn")
        config.resolve()
        health_port, sock = config.resolve_port(config.get("proxy_port") + 1000)
        sock.close()
        programs = _programs()
        pidfd = os.pidfd_open(owner)
        while True:
            server = _start(data, programs, health_port)
            record = {
                "pid": server.pid,
                "port": config.get("proxy_port"),
                "health_port": health_port,
            }
            written = folder / "new.json"
            written.write_text(json.dumps(record))
            written.replace(folder / _TO_START)
            ended = os.pidfd_open(server.pid)
            ready, _, _ = select.select([pidfd, ended], [], [])
            os.close(ended)
            if pidfd in ready:
                server.kill()
                server.wait()
                return
            server.wait()
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _start(data: Path, programs: Path, health_port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(health_port),
        "MILVUS_RUN_DIR": str(data / "run"),
        "LD_LIBRARY_PATH": str(programs),
    }
    with (data / "server.log").open("ab") as log:
        return subprocess.Popen(
            [programs / "milvus", "run", "standalone"],
            cwd=data,
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,
        )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _programs() -> Path:
    """Return the folder of the unpacked programs, which later runs use again."""
    import milvus

    folder = Path(tempfile.gettempdir()) / f"bitcell-milvus-{milvus.__version__}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    with (folder / "unpacking").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        milvus._initialize_data_files(str(folder))
    return folder / "bin"


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    _supervise(Path(sys.argv[1]), int(sys.argv[2]))
