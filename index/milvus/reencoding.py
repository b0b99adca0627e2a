"""Re-encoding: copy the items of a collection into another one, with codes of another encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
from pymilvus.grpc_gen import milvus_pb2

from index.errors import Unavailable
from index.milvus import reading
from index.milvus.catalog import Catalog
from index.milvus.collection import Collection
from index.milvus.fetched import FEW
from index.milvus.server.columns import (
    CODE,
    DESCRIPTOR,
    LABEL,
    MAX_ID,
    MAX_WRITE,
    PAYLOAD,
    SERIAL,
    Columns,
    as_descriptors,
    chosen,
    read_columns,
)
from index.milvus.server.connection import Connection
from index.milvus.server.physical import at
from index.milvus.writes import DELETE
from index.reencoding import FEW_CHANGES, MAX_PASSES, Encoding
from index.validation import check_codes

# Limits of a write: its items, and the bytes that these take.
_CHUNK = 2048
_SIZE = MAX_WRITE // 4
_FIELDS = [LABEL, SERIAL, CODE, PAYLOAD, DESCRIPTOR]


class Copy:
    """The copy of all items of `old`, while it takes writes, with their serial numbers.

    What changes meanwhile is in the recorded writes of `old`, which stay as long as its row is
    being replaced.

    Attributes
    ----------
    until : int
        The number of the last recorded write of `old` that is repeated.
    """

    def __init__(
        self,
        catalog: Catalog,
        connection: Connection,
        old: Collection,
        new: Collection,
        code: Encoding,
        progress: Callable[[int, int], None],
    ) -> None:
        self._catalog, self._connection, self._old, self._new = catalog, connection, old, new
        self._code, self._progress = code, progress
        # Nobody writes: readers see all that is recorded.
        with old.writes.alone():
            self._losses = connection.losses
            self.until = max(catalog.writes(old.key), default=0)

    def all_items(self) -> None:
        """Copy all items and then what has changed meanwhile, until that is little."""
        n, done = len(self._old), 0
        with self._old.writes.reading() as row:
            # What is written again meanwhile is among the changes.
            now = reading.Now(at("session", row.stamp), row.written, row.written)
            for columns in reading.scan(self._old.physical, "", _FIELDS, lambda: now, _CHUNK):
                self._put(columns)
                done += len(columns.ids)
                self._progress(min(done, n), n)
        for _ in range(MAX_PASSES):
            if self.changes() <= FEW_CHANGES:
                return

    def changes(self) -> int:
        """Repeat all writes since the last call; return how many ids they changed.

        Those that go on are repeated by the next call too, since readers may not see them yet.
        """
        losses = self._connection.losses
        if losses != self._losses:
            # What was read may have lacked items, all of whose writes are still recorded.
            self._losses, self.until = losses, 0
        numbers = self._catalog.writes(self._old.key, self.until)
        unconfirmed = self._catalog.first_unconfirmed(self._old.key)
        ids: set[str] = set()
        for number in numbers:
            write = self._catalog.write(number)
            if write is not None:  # They stay until the end.
                ids.update(self._ids(*write))
        changed = sorted(ids)
        for first in range(0, len(changed), FEW):
            n = len(self._old)
            self._progress(n, n)
            part = changed[first : first + FEW]
            now = at("session", self._old.writes.ready().stamp)
            ((columns, places),) = reading.by_ids(self._old.physical, part, _FIELDS, now, FEW)
            self._new.delete([part[place] for place in np.flatnonzero(places < 0).tolist()])
            self._put(columns)
        confirmed = [each for each in numbers if unconfirmed is None or each < unconfirmed]
        self.until = max(confirmed, default=self.until)
        return len(changed)

    def _ids(self, kind: str, body: bytes) -> list[str]:
        if kind == DELETE:
            found: list[str] = json.loads(body)
            return found
        request = milvus_pb2.UpsertRequest.FromString(body)
        return read_columns(request.fields_data, self._old.n_bits).ids

    def _put(self, columns: Columns) -> None:
        if not columns.ids:
            return
        kept = self._old.descriptor_type or "float32"
        descriptors = as_descriptors(columns.descriptors, kept)
        self._code.check(descriptors, columns.codes)
        codes = self._code.encode(descriptors)
        check_codes(codes, len(columns.ids), self._new.n_bits)
        for part in _parts(columns._replace(codes=codes)):
            with self._new.writes.alone() as row:
                self._new.writes.upsert(
                    row,
                    part,
                    dimension=descriptors.shape[1],
                    next_serial=int(part.serials.max()) + 1,
                )

    def end(self) -> None:
        """Let the serial numbers go on after those of `old`, once nothing can change any more."""
        if self._connection.losses != self._losses:
            raise Unavailable(
                f"the connection to Milvus was lost in the last step of re-encoding collection "
                f"{self._old.name!r}: encode it again"
            )
        self._catalog.continue_serials(self._new.key, self._old.writes.row())


def _parts(columns: Columns) -> Iterator[Columns]:
    """Yield the items in parts of which each fits into a write."""
    width = MAX_ID + columns.codes.shape[1]
    texts = zip(columns.payloads, columns.descriptors, strict=True)
    sizes = np.cumsum([width + len(payload or b"") + len(text) for payload, text in texts])
    cuts = np.flatnonzero(np.diff(sizes // _SIZE)) + 1
    for places in np.split(np.arange(len(sizes)), cuts):
        yield chosen(columns, places)
