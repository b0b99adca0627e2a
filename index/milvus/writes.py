"""Writes to one collection: recorded in the database first, and repeated where that is needed.

Milvus alone promises nothing about a write that it has not confirmed: after a crash a part of it
may be there. A write is therefore committed to the table `index_redo` before Milvus gets it, and
stays there until Milvus has flushed it to its disks. What is recorded is repeated before the next
write or read whenever an answer was missing, the connection was lost, or this process is new.
Repeating is safe: items have their serial numbers already, and of several writes of an id only the
last counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus.grpc_gen import milvus_pb2

from index.errors import InvalidItems, NotFound, Replaced, ServerError, Unavailable
from index.milvus.catalog import INTERRUPTED, Catalog, Row
from index.milvus.server.columns import MAX_WRITE, Columns, chosen, read_columns, upsert_request
from index.milvus.server.connection import Connection, NotDone
from index.milvus.server.physical import Physical

UPSERT, DELETE = "upsert", "delete"
_UNKNOWN = "whether the write is done is not known, and repeating it is safe"
_Send = Callable[[], int]


class Writes:
    """The writes of one collection. Safe for threads and replicas."""

    def __init__(
        self,
        catalog: Catalog,
        connection: Connection,
        physical: Physical,
        row: Row,
        on_write: Callable[[int], None],
    ) -> None:
        self._catalog, self._connection, self._physical = catalog, connection, physical
        self._key, self._name, self._n_bits = row.key, row.name or row.making or "", row.n_bits
        self._is_being_made = row.name is None
        self._on_write = on_write
        # The losses of the connection after which all recorded writes were repeated.
        self._repeated: int | None = None

    def row(self) -> Row:
        """Return the row of the collection; raise NotFound or Replaced if there is none."""
        row = self._catalog.read(self._key)
        if row is None:
            raise self.gone()
        return row

    def gone(self) -> NotFound:
        """Return the error of a collection that there is no more."""
        if self._is_being_made:
            return NotFound(INTERRUPTED)
        if self._catalog.named(self._name) is not None:
            return Replaced(f"collection {self._name!r} has been re-encoded")
        return NotFound(f"there is no collection {self._name!r}")

    def ready(self) -> Row:
        """Return the row of a collection that can be read: no recorded write has to be repeated."""
        row = self.row()
        if not row.broken and self._repeated == self._connection.losses:
            return row
        with self.alone() as repaired:
            return repaired

    @contextmanager
    def alone(self) -> Iterator[Row]:
        """Let nobody else write during the block, before which recorded writes are repeated."""
        with self._catalog.holding(self._key, self._connection.timeout):
            row = self.row()
            losses = self._connection.losses
            is_left = row.broken or self._repeated != losses
            if is_left or self._catalog.has_unconfirmed(self._key):
                try:
                    self._repeat(row)
                except Unavailable as error:
                    raise Unavailable(
                        f"collection {self._name!r} waits until its last writes are repeated in "
                        f"Milvus: {error}",
                        error.retry_after,
                    ) from error
                row = self.row()
            self._repeated = losses
            yield row

    def _repeat(self, row: Row) -> None:
        """Write again what is recorded, the last first, without what later writes replace."""
        numbers = self._catalog.writes(self._key)
        if not numbers and not row.broken:
            return
        done: set[str] = set()
        stamp = row.stamp
        for number in reversed(numbers):
            write = self._catalog.write(number)
            if write is None:  # Flushed meanwhile.
                continue
            ids, send = self._of(*write, done)
            done.update(ids)
            if send is not None:
                stamp = max(stamp, send())
        self._catalog.confirm(self._key, numbers[-1] if numbers else 0, stamp)

    def _of(self, kind: str, body: bytes, done: set[str]) -> tuple[list[str], _Send | None]:
        """Return the ids of a write, and what writes those that are not done."""
        if kind == DELETE:
            ids = json.loads(body)
            left = [item_id for item_id in ids if item_id not in done]
            return ids, (lambda: self._physical.delete(left)) if left else None
        request = milvus_pb2.UpsertRequest.FromString(body)
        columns = read_columns(request.fields_data, self._n_bits)
        places = [place for place, item_id in enumerate(columns.ids) if item_id not in done]
        if len(places) < len(columns.ids):
            request = upsert_request(chosen(columns, places))
        return columns.ids, (lambda: self._physical.upsert(request)) if places else None

    def upsert(
        self,
        row: Row,
        columns: Columns,
        *,
        dimension: int | None = None,
        patched: NDArray[np.int64] | None = None,
        next_serial: int | None = None,
    ) -> None:
        """Insert or replace items inside `alone`, whose row is given.

        `patched` are the serial numbers that they had before a patch, and `next_serial` is the
        next free one, if it does not follow from the row.
        """
        request = upsert_request(columns)
        body = request.SerializeToString()
        if len(body) > MAX_WRITE:
            raise InvalidItems(
                f"a write to an index in Milvus has at most {MAX_WRITE >> 20} MiB, with payloads "
                f"and descriptors; this one has {len(body) / (1 << 20):.1f}: write fewer items at "
                "a time"
            )
        n = len(columns.ids) if next_serial is None else max(0, next_serial - row.next_serial)
        values = {} if dimension is None else {"dimension": dimension}
        self._write(row, UPSERT, body, lambda: self._physical.upsert(request), n, patched, values)

    def delete(self, row: Row, ids: Sequence[str]) -> None:
        """Delete items inside `alone`, whose row is given."""
        body = json.dumps(ids).encode()
        self._write(row, DELETE, body, lambda: self._physical.delete(ids), 0, None, {})

    def _write(
        self,
        row: Row,
        kind: str,
        body: bytes,
        send: _Send,
        n_serials: int,
        patched: NDArray[Any] | None,
        values: dict[str, Any],
    ) -> None:
        try:
            number = self._catalog.record(row, kind, body, n_serials, patched, **values)
            if number is None:
                raise self.gone()
            stamp = max(row.stamp, self._send(number, send))
            self._catalog.confirm(self._key, number, stamp)
        except NotDone:
            raise
        except Unavailable as error:
            raise Unavailable(f"{error}; {_UNKNOWN}", error.retry_after) from error
        self._on_write(len(body))

    def _send(self, number: int, send: _Send) -> int:
        try:
            return send()
        except (ServerError, NotDone):
            self._catalog.discard(number)
            raise
        except BaseException:
            # Until it is repeated, a part of it may be there.
            self._repeated = None
            self._catalog.is_broken(self._key)
            raise

    @contextmanager
    def reading(self) -> Iterator[Row]:
        """Give the row for a block that reads; raise NotFound or Replaced if it is gone by then."""
        row = self.ready()
        try:
            yield row
        except (Unavailable, ServerError):
            self.row()
            raise
