"""Copies of a process that has imported the service, which start in a fraction of a second.

A process that runs `bitcell serve` spends nearly all of its start on imports. Here a server, one
for each process of pytest, imports once and forks for each process that a test asks for. Such a
copy differs from an interpreter only in what is read when it starts: the options of the
interpreter, the variables PYTHON* and LANG, and those of libraries, such as OMP_NUM_THREADS.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).parents[2]
_NUMBER = struct.Struct("i")
_SERVER = "from tests.app.fork_server import wait_for_work; exec(wait_for_work({}))"


class ForkedProcess:
    """`python -c CODE ARGUMENTS`, as `subprocess.Popen` shows it.

    Parameters
    ----------
    code : str
    arguments : list of str
    environment : dict
        All environment variables.
    """

    def __init__(self, code: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        order = {"code": code, "arguments": arguments, "environment": environment}
        self._status, their_end = socket.socketpair()
        out, err = os.pipe(), os.pipe()
        handed_over = [out[1], err[1], their_end.detach()]
        try:
            _send(_server(), json.dumps(order | {"folder": str(Path.cwd())}).encode(), handed_over)
        finally:
            for fd in handed_over:
                os.close(fd)
        self.stdout: IO[str] = os.fdopen(out[0])
        self.stderr: IO[str] = os.fdopen(err[0])
        self.pid = self._receive()

    def poll(self) -> int | None:
        """Return the exit status, or None if the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when the process has ended; raise TimeoutExpired if it runs."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = self._receive()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("a forked process", timeout or 0) from None
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # It has ended, and its exit status is on the way.
                os.kill(self.pid, number)

    def _receive(self) -> int:
        received = self._status.recv(_NUMBER.size)
        if len(received) != _NUMBER.size:
            raise EOFError("the server of forked processes has ended")
        number: int = _NUMBER.unpack(received)[0]
        return number


@cache
def _server() -> socket.socket:
    """Return a connection to the server, which runs until this process ends."""
    own, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER.format(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=_ROOT,  # Where `tests` is found.
        )

    def stop() -> None:
        own.shutdown(socket.SHUT_RDWR)  # Also if a fork of this process has the socket.
        own.close()
        server.wait()

    atexit.register(stop)
    return own


def _send(server: socket.socket, message: bytes, fds: list[int]) -> None:
    socket.send_fds(server, [_NUMBER.pack(len(message))], fds)
    server.sendall(message)


def wait_for_work(fd: int) -> str:
    """Import the service, fork at each order, and return the code that the copy is to run."""
    import app.cli.main
    import app.http.server  # noqa: F401

    gc.freeze()  # Collections of garbage in the copies then leave shared memory alone.
    # Ignored here, and in the copies as an interpreter would find it.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=fd) as orders:
        while True:
            head, fds, _, _ = socket.recv_fds(orders, _NUMBER.size, 3)
            _collect_children()
            if not head:
                return ""
            message = orders.recv(_NUMBER.unpack(head)[0], socket.MSG_WAITALL)
            if os.fork() == 0:
                break
            for received in fds:
                os.close(received)
    signal.signal(signal.SIGINT, interrupt)
    out, err, status = fds
    if (pid := os.fork()) != 0:
        _report(pid, fds)
    os.close(status)
    for received, standard in ((out, 1), (err, 2)):
        os.dup2(received, standard)
        os.close(received)
    order = json.loads(message)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["arguments"]
    code: str = order["code"]
    return code


def _collect_children() -> None:
    """Take note of the children that have ended, which are zombies until then."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _report(pid: int, fds: list[int]) -> None:
    """Send the id of a process and later its exit status, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out, err, status = fds
    os.close(out)
    os.close(err)
    os.write(status, _NUMBER.pack(pid))
    os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    os._exit(0)
