"""The open connections of a server, and which of them gives way when there are too many."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Protocol

import structlog

from app.http.problems import problem

# For the database, the jobs, and whatever else opens files.
RESERVED_FILES = 256

log = structlog.stdlib.get_logger("bitcell")


class Connection(Protocol):
    """A connection that can be closed at once."""

    def abort(self) -> None:
        """Close the connection without sending what is unread."""


class OpenConnections:
    """At most `limit` connections.

    A further connection takes the place of the one that has been without a request for the longest
    time, or else of the one whose client has left an answer unread for the longest time. If all
    connections have requests in progress, the new one is refused. So clients that only hold
    connections open keep nobody out.

    Attributes
    ----------
    refusal : bytes
        The answer to send to a connection that is not admitted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n = 0
        # In the order in which they came to rest.
        self._idle: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}
        answer = problem(
            503,
            f"{limit} connections are in use, which is the limit (BITCELL_MAX_CONNECTIONS)",
            {"Retry-After": "1", "Connection": "close"},
        )
        lines = [b"HTTP/1.1 503 Service Unavailable"]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.refusal = b"\r\n".join([*lines, b"", bytes(answer.body)])

    def admit(self, connection: Connection) -> bool:
        """Add a connection; return whether there is a place for it."""
        self._n += 1
        if self._n > self._limit:
            resting = self._idle or self._unread
            if not resting:
                return False
            # It is counted until it is removed, so that each new connection closes another one.
            given_up = next(iter(resting))
            del resting[given_up]
            given_up.abort()
        self._idle[connection] = None
        return True

    def remove(self, connection: Connection) -> None:
        """Remove a connection that has been added, admitted or not."""
        self._n -= 1
        self.note_request(connection)

    def note_request(self, connection: Connection) -> None:
        """Note that a request is in progress, so that the connection does not give way."""
        self._idle.pop(connection, None)
        self._unread.pop(connection, None)

    def note_rest(self, connection: Connection, *, unread: bool) -> None:
        """Note that no request is in progress, or that the client has not read the answer yet."""
        self.note_request(connection)
        (self._unread if unread else self._idle)[connection] = None


def possible_connections(wanted: int) -> int:
    """Return how many connections are possible within the limit on open files; raise that limit.

    The soft limit is raised as far as needed, at most to the hard limit. If that does not suffice,
    there are fewer connections than wanted, and the log says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + RESERVED_FILES
    if soft != unlimited and soft < needed:
        raised = needed if hard == unlimited else min(needed, hard)
        # The system may allow less than the hard limit, as macOS does.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == unlimited or soft >= needed:
        return wanted
    possible = max(1, soft - min(RESERVED_FILES, soft // 2))
    log.warning(
        "fewer connections than BITCELL_MAX_CONNECTIONS: the limit on open files is too low",
        connections=possible,
        open_files=soft,
    )
    return possible
