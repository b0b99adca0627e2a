"""State in `bitcell.db`, which one process has open for itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import ClauseElement, Column, ColumnElement, Executable, select
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.compiler import SQLCompiler

from app.database.state import Execute
from index import Database

# The tables are as earlier versions made them.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS encoders (
        name TEXT PRIMARY KEY,
        file BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS jobs (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        request TEXT NOT NULL,
        material BLOB,
        starts INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        result TEXT,
        error TEXT,
        output BLOB
    ) STRICT""",
    # Without it, accepting a job would read all that have ended.
    "CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, kind)",
    """CREATE TABLE IF NOT EXISTS drift (
        collection INTEGER PRIMARY KEY REFERENCES collections (key) ON DELETE CASCADE,
        watched TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS demo (state TEXT NOT NULL) STRICT",
)
_REFUSED_ROWS = (
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
)
_DIALECT = dialect(paramstyle="qmark")


class EmbeddedState:
    """State in the same file as the embedded index, with its guarantees.

    The statements are compiled for SQLite and executed by `Database`: writes take turns with those
    of the index, are synced at every commit, and raise the errors of the index.
    """

    shared = False

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
            _adopt_old_benchmarks(connection)

    @contextmanager
    def writing(self, alone: str = "") -> Iterator[Execute]:
        """Commit all that the block executes, or nothing if it raises."""
        try:
            with self._database.transaction() as connection:
                yield lambda statement: connection.execute(*_compiled(statement))
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _REFUSED_ROWS:
                raise
            raise IntegrityError(str(error), None, error) from error

    def read(self, statement: Executable) -> Sequence[Any]:
        """Return all rows of a query."""
        return self._database.read(*_compiled(statement))

    def part(
        self, column: Column[bytes], row: ColumnElement[bool], offset: int, size: int
    ) -> bytes | None:
        """Return up to `size` bytes of a binary value, without reading all of it."""
        table = column.table
        found = select(table.c.rowid).where(row, column.is_not(None))
        with self._database.reading() as connection:
            connection.execute("BEGIN")  # The row cannot go between the two reads.
            try:
                rows = connection.execute(*_compiled(found)).fetchall()
                if not rows:
                    return None
                place = rows[0][0]
                with connection.blobopen(table.name, column.name, place, readonly=True) as blob:
                    blob.seek(min(offset, len(blob)))
                    return blob.read(size)
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def locked(self, name: str, *, share: bool = False) -> Iterator[None]:
        """Do nothing: no other process uses the file."""
        yield


def _compiled(statement: Executable) -> tuple[str, list[Any]]:
    """Return a statement as SQL of SQLite, with its values in order."""
    compiled = cast(ClauseElement, statement).compile(
        dialect=_DIALECT, compile_kwargs={"render_postcompile": True}
    )
    values, order = compiled.construct_params() or {}, cast(SQLCompiler, compiled).positiontup
    return str(compiled), [values[name] for name in order or ()]


def _adopt_old_benchmarks(connection: sqlite3.Connection) -> None:
    """Move benchmarks from the table that they had in version 0.1.0."""
    table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'benchmarks'"
    if not connection.execute(table).fetchone():
        return
    connection.execute(
        "INSERT INTO jobs (id, kind, state, request, created, result, error, output) "
        "SELECT id, 'benchmark', iif(state = 'done', 'done', 'failed'), request, 0, result, "
        "iif(state = 'done', NULL, coalesce(error, 'the service stopped before it was done')), "
        "CAST(report AS BLOB) FROM benchmarks ORDER BY rowid"
    )
    connection.execute("DROP TABLE benchmarks")
