"""A real Milvus server from the wheel `milvus`, for tests and benchmarks on this machine.

The fixtures `milvus` and `milvus_alone` give it to a test. All processes of a test run share one.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

PATIENCE = 120.0
# Strong reads wait for the next tick, in milliseconds.
_SETTINGS = {
    "proxy.timeTickInterval": 20,
    # Seconds until a part of a server that was killed counts as gone. One that is stopped for
    # longer never serves again.
    "common.session.ttl": 15,
}
# A server that ends sooner cannot run here, and is not started again.
_LEAST_UPTIME = 1.0
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
                # In a session of its own, so that what interrupts the tests does not end it first.
                command = [sys.executable, "-m", "tests.milvus_server", str(folder), str(owner)]
                subprocess.run(
                    ["setsid", "--fork", *command],
                    cwd=Path(__file__).parents[1],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    check=True,
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
    programs = _programs()
    owned = os.pidfd_open(owner)
    try:
        # Ports are free until the server listens on them: one server starts at a time.
        with (programs / "starting").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            config = MilvusServerConfig(data_dir=str(data))
            for name, value in _SETTINGS.items():
                config.set(name, value)
            config.resolve()
            health_port = _free_port(config, 20_530)
            etcd = _etcd(data, config.get("etcd_port"), _free_port(config, 2_480))
            process = _start(data, programs, health_port, etcd)
            server = Server(process.pid, config.get("proxy_port"), health_port)
            end = monotonic() + PATIENCE
            while not server.is_healthy and process.poll() is None and monotonic() < end:
                sleep(0.05)
        while True:
            _publish(folder, server)
            started = monotonic()
            ended = os.pidfd_open(process.pid)
            ready, _, _ = select.select([owned, ended], [], [])
            os.close(ended)
            if owned in ready:
                process.kill()
            process.wait()
            if owned in ready or monotonic() - started < _LEAST_UPTIME:
                return
            process = _start(data, programs, health_port, etcd)
            server = Server(process.pid, server.port, health_port)
    finally:
        (folder / _TO_START).unlink(missing_ok=True)
        shutil.rmtree(data, ignore_errors=True)


def _publish(folder: Path, server: Server) -> None:
    written = folder / "new.json"
    written.write_text(json.dumps(asdict(server)))
    written.replace(folder / _TO_START)


def _free_port(config: Any, first: int) -> int:
    port, listening = config.resolve_port(first)
    listening.close()
    return int(port)


def _etcd(data: Path, port: int, peer_port: int) -> Path:
    """Write the configuration of the etcd in the server, one of whose ports is fixed otherwise."""
    client, peer = (f"http://127.0.0.1:{each}" for each in (port, peer_port))
    path = data / "etcd.yaml"
    path.write_text(
        f"name: default\ndata-dir: {data / 'etcd'}\nlisten-client-urls: {client}\n"
        f"advertise-client-urls: {client}\nlisten-peer-urls: {peer}\n"
        f"initial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
        "unsafe-no-fsync: true\nlog-level: error\n"
    )
    return path


def _start(data: Path, programs: Path, health_port: int, etcd: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DEPLOY_MODE": "STANDALONE",
        "ETCD_CONFIG_PATH": str(etcd),
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

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / f"bitcell-milvus-{milvus.__version__}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "unpacking").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        milvus._initialize_data_files(str(folder))
    return folder / "bin"


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


REASON = "Milvus: install the wheels of its server and client (pip install milvus pymilvus)"


@pytest.fixture(scope="session")
def milvus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server, which the processes of a test run share."""
    if not is_installed():
        pytest.skip(REASON)
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "milvus"


def owner() -> int:
    """Return the process with which the server ends: that of the whole test run."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


@contextmanager
def using(folder: Path, *, alone: bool) -> Iterator[Server]:
    """Give the server, which no other test stops during the block, or uses at all."""
    running(folder, owner())
    with shared(folder, alone=alone):
        # Another test may have killed it while this one waited.
        yield running(folder, owner())


@pytest.fixture
def milvus(milvus_folder: Path) -> Iterator[Server]:
    """The server, which no other test stops meanwhile."""
    with using(milvus_folder, alone=False) as server:
        yield server


@pytest.fixture
def milvus_alone(milvus_folder: Path) -> Iterator[Server]:
    """The server, which no other test uses meanwhile."""
    with using(milvus_folder, alone=True) as server:
        yield server


if __name__ == "__main__":
    _supervise(Path(sys.argv[1]), int(sys.argv[2]))
