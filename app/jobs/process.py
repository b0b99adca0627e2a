"""The process of a job: its handle in the service, and what runs in it.

It loads neither FastAPI nor Faiss.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread, Timer

from app.errors import shortage
from app.jobs.kind import Outcome, Progress, Task

NICE = 19
INTERRUPT = signal.SIGUSR1
INTERRUPT_SECONDS = 30.0
"""How long a process may take to return what it has after `JobProcess.interrupt`."""
Message = tuple[int, int, str] | Outcome | str | OSError
"""Progress, the outcome, or the reason why there is none: an error if another try may succeed."""

_SPAWN = multiprocessing.get_context("spawn")


class JobFailed(Exception):
    """The process of a job ended without an outcome; the message is the reason."""


class JobProcess:
    """A process that works on one task, as the service sees it."""

    def __init__(self, work: Callable[[Task, Progress], Outcome], task: Task, threads: int) -> None:
        self._receiver, self._sender = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(
            target=main, args=(self._sender, work, task, threads), daemon=True
        )

    def start(self) -> None:
        """Start the process."""
        # The process has its own copy of the sender: the receiver then sees the process end.
        with self._sender:
            try:
                self._process.start()
            except BaseException:
                self._receiver.close()
                raise

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the process; kill it if it does not end soon."""
        if self._process.exitcode is None and self._process.pid is not None:
            with suppress(ProcessLookupError):  # It has ended just now.
                os.kill(self._process.pid, INTERRUPT)
        timer = Timer(INTERRUPT_SECONDS, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def follow(self, on_progress: Progress) -> Outcome:
        """Pass on progress until the process ends; return the outcome.

        Raises
        ------
        JobFailed
        OSError
            The process was short of something that there may be later; see `app.errors.shortage`.
        """
        with self._receiver:
            try:
                while isinstance(message := self._receiver.recv(), tuple):
                    on_progress(*message)
            except (EOFError, OSError):
                message = None
        self._process.join()
        if isinstance(message, Outcome):
            return message
        if isinstance(message, OSError):
            raise message
        if message is None:
            code = self._process.exitcode
            message = f"the process of the job ended without a result (exit code {code})"
        raise JobFailed(message)


def main(sender: Connection, work: Callable[[Task, Progress], Outcome], task: Task, n: int) -> None:
    """Work on a task with `n` threads, in the process; send progress and the outcome."""
    _set_signals()
    Thread(target=_exit_with_the_service, daemon=True).start()
    _give_way_to_the_service(n)

    def progress(done: int, of: int, now: str) -> None:
        sender.send((done, of, now))

    try:
        message: Message = work(task, progress)
    except BrokenPipeError:
        return  # The service has ended.
    except KeyboardInterrupt:
        return  # The job was cancelled, and has nothing to keep.
    except OSError as error:
        # A plain one, since others may not be picklable.
        plain = OSError(error.errno, error.strerror or str(error))
        message = plain if shortage(error) else str(error)
    except (ValueError, MemoryError) as error:
        message = str(error) or type(error).__name__
    signal.signal(INTERRUPT, signal.SIG_IGN)
    with suppress(BrokenPipeError):
        sender.send(message)


def _set_signals() -> None:
    """Ignore signals to the whole process group: the service ends its jobs itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(INTERRUPT, signal.default_int_handler)


def _exit_with_the_service() -> None:
    service = multiprocessing.parent_process()
    if service is not None:
        wait([service.sentinel])
        os._exit(1)


def _give_way_to_the_service(threads: int) -> None:
    """Take the lowest priority, and limit the threads of torch and BLAS."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    # If memory runs out, Linux is to end this process, not the service.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Torch reads this when it is loaded, which is later. BLAS is loaded already.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
