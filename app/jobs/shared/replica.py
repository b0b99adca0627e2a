"""The thread in which a replica takes jobs from the database that it shares with others."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import structlog

from index import Closed, Unavailable

log = structlog.stdlib.get_logger("bitcell")


class Replica:
    """Calls `work` now and then, and soon after `wake`, until it is closed.

    Parameters
    ----------
    work : callable
        Confirms the claims of this replica, and takes jobs.
    seconds : float
        The longest time between two calls.
    """

    def __init__(self, work: Callable[[], object], seconds: float) -> None:
        self._work, self._seconds = work, seconds
        self._awake, self._closed = Event(), False
        self._thread = Thread(target=self._run, name="jobs of replicas", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have `work` called soon: there is a new job, or room for one."""
        self._awake.set()

    def close(self, seconds: float) -> None:
        """End the thread; wait for it for some seconds."""
        self._closed = True
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closed:
            self._awake.clear()
            try:
                self._work()
            except (Closed, Unavailable):
                pass  # The next call tries again; what calls the database has logged it.
            except Exception:
                log.exception("jobs could not be taken from the shared database")
            if not self._closed:
                self._awake.wait(self._seconds)
