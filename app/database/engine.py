"""The engine of a database by its URL, with limits on how long it is waited for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnection

from index import DiskError, Full, NotFound, Unavailable

CONNECT_SECONDS = 3
PING_SECONDS = 2.0
"""How long a connection that is taken from the pool may take to answer."""
FRESH_SECONDS = 1.0
STATEMENT_SECONDS = 30.0
READ_SECONDS = 10.0
"""How long `SharedState.read` waits for an answer."""
LOCK_SECONDS = 5
POOL_SECONDS = 5
RETRY_SECONDS = 5.0
CONNECTIONS = 20
"""How many connections a process opens at most; the first five stay open."""

# Codes of PostgreSQL: a full disk.
_FULL = ("53100",)
# Too little memory; a statement that took too long.
_OVERLOADED = ("53200", "57014")
# A server that only reads, as after a failover; that starts or stops; that is at its limits.
_LATER = ("25006", "57P01", "57P02", "57P03", "53300")
_IN_THE_WAY = ("40001", "40P01", "55P03")


def database_url(text: str) -> URL:
    """Return the URL of a PostgreSQL database; raise ValueError, without its password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number.
        raise _wrong_url() from None
    if "@" in (url.host or ""):  # A part of the password would be taken for the host, and shown.
        raise _wrong_url()
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername != "postgresql+psycopg":
        raise ValueError(
            "BITCELL_DATABASE_URL: expected a URL that begins with postgresql://, got one with "
            f"{url.drivername}://: without a URL, state is in SQLite in the data directory"
        )
    return url


def _wrong_url() -> ValueError:
    return ValueError(
        "BITCELL_DATABASE_URL: expected the URL of a PostgreSQL database, such as "
        "postgresql://user:password@host:5432/database, with %40 for an @ in the password"
    )


def shown(url: URL) -> str:
    """Return a URL without its password, which may also be among the options after `?`."""
    return url.set(query={}).render_as_string()


def open_engine(text: str) -> Engine:
    """Return an engine for a PostgreSQL database; nothing connects yet.

    Connecting, each statement, and the answer of a connection that has been idle are limited in
    time, so that a server that is down, unreachable or stopped is noticed within seconds.

    Raises
    ------
    ValueError
        The URL is not one of PostgreSQL, or psycopg is not installed.
    """
    url = database_url(text)
    connect = _connector()
    engine = create_engine(
        url,
        pool_size=5,
        max_overflow=CONNECTIONS - 5,
        pool_timeout=POOL_SECONDS,
        pool_use_lifo=True,
        hide_parameters=True,  # The log is no place for what users store.
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            # A connection that holds a lock may be idle for hours, and must not be lost by that.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "application_name": "bitcell",
            "options": f"-c statement_timeout={STATEMENT_SECONDS:.0f}s "
            f"-c lock_timeout={LOCK_SECONDS}s -c idle_in_transaction_session_timeout=60s",
        },
    )
    event.listen(engine, "do_connect", lambda dialect, record, args, more: connect(**more))
    event.listen(engine, "checkout", _ping)
    return engine


def _connector() -> Callable[..., Any]:
    """Return what opens a connection that waits for the server for a limited time."""
    try:
        import psycopg
    except ImportError:
        raise ValueError(
            "BITCELL_DATABASE_URL needs psycopg, which is not installed here: pip install "
            "'bitcell[servers]'"
        ) from None

    class Patient(psycopg.Connection[Any]):
        """A connection that gives up a server that does not answer."""

        patience = STATEMENT_SECONDS

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, self.patience if timeout is None else timeout)
            except psycopg.errors._WaitTimeout as error:
                self.pgconn.finish()  # Nobody knows in which state it is.
                raise psycopg.OperationalError(f"no answer within {self.patience:g} s") from error

    return Patient.connect


def _ping(connection: Any, record: Any, proxy: Any) -> None:
    """Check a connection that the pool lends; the pool opens another one if this raises.

    One that has answered within the last second is not asked again.
    """
    import psycopg

    now = monotonic()
    connection.patience = STATEMENT_SECONDS
    if now - record.info.get("answered", -FRESH_SECONDS) < FRESH_SECONDS:
        return
    connection.patience = PING_SECONDS
    try:
        connection.autocommit = True
        connection.execute("")
        connection.autocommit = False
    except psycopg.Error as error:
        raise DisconnectionError(str(error)) from error
    connection.patience = STATEMENT_SECONDS
    record.info["answered"] = now


def shorten_patience(connection: Connection) -> None:
    """Have the statements of a connection that is lent wait no longer than reads do."""
    be_patient(connection, READ_SECONDS)


def be_patient(connection: Connection, seconds: float) -> None:
    """Have each statement of a connection wait this long for its answer until it is given back."""
    raw: Any = connection.connection.dbapi_connection
    if hasattr(raw, "patience"):  # SQLite has none.
        raw.patience = seconds


class Unreachable(Unavailable):
    """The database does not answer, or does not take writes."""


def unreachable() -> Unreachable:
    """Return the error for a client, which names neither the host nor the user."""
    return Unreachable("the database cannot be reached: try again later", RETRY_SECONDS)


@contextmanager
def explained() -> Iterator[None]:
    """Raise Unreachable, Unavailable, Full, DiskError or NotFound for errors that mean this."""
    try:
        yield
    except NoConnection as error:
        raise Unavailable("too many requests wait for the database: try again later") from error
    except DBAPIError as error:
        if has_null(error):
            raise NotFound("nothing has a name with a null character") from error
        code = getattr(error.orig, "sqlstate", None) or ""
        sqlite = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL or sqlite == sqlite3.SQLITE_FULL:
            raise Full(f"the database could not be written: {first_line(error)}") from error
        if sqlite in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise DiskError(f"the database could not be read or written: {error.orig}") from error
        if code in _IN_THE_WAY or sqlite in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Unavailable("another request is in the way: try again later", 1.0) from error
        if code in _OVERLOADED:
            raise Unavailable("the database is overloaded: try again later") from error
        is_lost = isinstance(error, (OperationalError, InterfaceError)) and not (code or sqlite)
        if error.connection_invalidated or is_lost or code in _LATER or code.startswith("08"):
            raise unreachable() from error
        raise


def has_null(error: DBAPIError) -> bool:
    """Return whether psycopg refuses text with a null character, which PostgreSQL cannot hold."""
    return isinstance(error, DataError) and "NUL" in str(error.orig)


def message(error: Exception) -> str:
    """Return what an error says, of an error of the database without the statement."""
    return first_line(error) if isinstance(error, DBAPIError) else str(error)


def first_line(error: BaseException | None) -> str:
    """Return the first line of what an error of the database says."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0]
