"""A PostgreSQL server for the tests of a process, with a database for each module that asks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from app.database.engine import open_engine
from app.database.migrate import migrate
from app.database.shared import SharedState
from tests.memory_folder import PREFIX

_NAMES = count()
_START_SECONDS = 60
_OPTIONS = "-c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=60"


def find_binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`, or None if there is no server."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


class Server:
    """A server of its own, reached through a socket in its folder.

    Attributes
    ----------
    folder : Path
        Where its socket and its data are.
    process : subprocess.Popen
        `postgres`; it ends with the process of the tests.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # The folder that `tests.memory_folder` chose is removed even if the tests are killed. In
        # another one, the path of the socket may be too long, or the server may not enter it.
        chosen = Path(tempfile.gettempdir())
        parent = chosen if chosen.name.startswith(PREFIX) else "/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        try:
            self._run(
                "initdb", "-D", self._data, "-U", "bitcell", "-A", "trust", "-N", "-E", "UTF8"
            )
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _as_user(self, name: str, *arguments: str) -> list[str]:
        # The server refuses to run as root, and must not outlive the tests.
        user = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"] * (os.geteuid() == 0)
        return ["setpriv", *user, "--pdeathsig=KILL", str(self._binaries / name), *arguments]

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(self._as_user(name, *arguments), check=True, capture_output=True)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        arguments = ["-D", self._data, "-k", str(self.folder), *_OPTIONS.split()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._as_user("postgres", *arguments), stdout=log, stderr=log
            )
        import psycopg

        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._info("postgres")).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
            else:
                return

    def stop(self) -> None:
        """End the server without a checkpoint, and wait for it."""
        self.process.send_signal(signal.SIGQUIT)  # An immediate shutdown.
        self.process.wait(30)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the server and the processes of its connections from doing anything."""
        main = self.process.pid
        os.kill(main, signal.SIGSTOP)
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        processes = [main, *map(int, children)]
        try:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def close(self) -> None:
        """End the server and delete its data."""
        self.process.kill()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _info(self, database: str) -> str:
        return f"host={self.folder} user=bitcell dbname={database} connect_timeout=5"

    def new_database(self) -> str:
        """Make an empty database and return its URL, as BITCELL_DATABASE_URL expects it."""
        import psycopg

        name = f"test{next(_NAMES)}"
        with psycopg.connect(self._info("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://bitcell@/{name}?host={self.folder}"


@contextmanager
def running() -> Iterator[Server]:
    """Run a server; skip the test if there is none on this machine."""
    pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'bitcell[servers]'")
    binaries = find_binaries()
    if binaries is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL: install its server (apt install postgresql)")
    server = Server(binaries)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server that the tests of this process share; no test stops it."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def database_url(postgres: Server) -> str:
    """The URL of an empty database for the tests of a module."""
    return postgres.new_database()


@pytest.fixture(scope="module")
def shared_state(database_url: str) -> Iterator[SharedState]:
    """The state in that database, with its tables."""
    engine = open_engine(database_url)
    migrate(engine)
    yield SharedState(engine)
    engine.dispose()
