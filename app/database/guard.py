"""A lock that a process holds as long as it uses a shared database."""

from __future__ import annotations

from threading import Lock
from time import monotonic, sleep
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from app.database.engine import first_line, shorten_patience
from index import Unavailable

# Of the advisory lock that every process holds which uses a shared database.
_LOCK = 0xB17CE11 << 32 | 0xFFFFFFFE
_CHECK_SECONDS = 1.0
_TRIES, _TRY_SECONDS = 20, 0.1
_SESSION = "FROM pg_stat_activity WHERE pid = "

log = structlog.stdlib.get_logger("bitcell")


class Guard:
    """Keeps unlike processes out: one that is alone and any other one.

    The lock ends with its connection, which the server or the network may close. `check` notices
    that and takes the lock again. While another process has it, this one refuses to work.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of PostgreSQL.
    alone : bool
        Whether this process keeps out all others, or only those that want to be alone.
    """

    def __init__(self, engine: Engine, *, alone: bool) -> None:
        self._engine = engine
        self._lock = func.pg_try_advisory_lock if alone else func.pg_try_advisory_lock_shared
        self._connection: Connection | None = None
        # What tells the connection from others, in the server.
        self._session: tuple[int, Any] | None = None
        self._checking, self._next_check = Lock(), 0.0
        self._is_refused = False

    def take(self) -> bool:
        """Take the lock; return False if another process has it."""
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            shorten_patience(connection)
            is_taken = self._try(connection)
            if not is_taken and self._session is not None:
                # The server may not know yet that the connection of this process is lost.
                own = text(
                    f"SELECT pg_terminate_backend(pid) {_SESSION} :pid AND backend_start = :start"
                )
                pid, start = self._session
                is_ending = connection.execute(own, {"pid": pid, "start": start}).first()
                # The server ends that session a moment later.
                for _ in range(_TRIES if is_ending else 1):
                    if is_taken := self._try(connection):
                        break
                    sleep(_TRY_SECONDS)
            if is_taken:
                mine = text(f"SELECT pid, backend_start {_SESSION} pg_backend_pid()")
                pid, start = connection.execute(mine).one()
                self._session = pid, start
                self._connection = connection
        finally:
            if self._connection is not connection:
                connection.close()
        return is_taken

    def _try(self, connection: Connection) -> bool:
        return bool(connection.execute(select(self._lock(literal(_LOCK)))).scalar_one())

    def check(self) -> None:
        """See now and then whether the lock is still held; raise Unavailable if another has it."""
        if monotonic() >= self._next_check and self._checking.acquire(blocking=False):
            try:
                self._check()
                self._next_check = monotonic() + _CHECK_SECONDS
            finally:
                self._checking.release()
        self.require()

    def _check(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute(select(literal(1)))
                return
            except DBAPIError as error:
                log.warning("the lock of the database is lost", error=first_line(error))
                self.close()
        is_refused = not self.take()
        if is_refused and not self._is_refused:
            log.error("another process has taken the database: this one refuses to work")
        elif self._is_refused and not is_refused:
            log.info("this process has the database again")
        self._is_refused = is_refused

    def require(self) -> None:
        """Raise Unavailable if the last check found that another process has the lock."""
        if self._is_refused:
            raise Unavailable(
                "another process uses the database, and several share it only if all of them have "
                "BITCELL_INDEX_URL set: this one works again when that one has stopped"
            )

    def close(self) -> None:
        """Release the lock."""
        if (connection := self._connection) is not None:
            self._connection = None
            connection.invalidate()
            connection.close()
