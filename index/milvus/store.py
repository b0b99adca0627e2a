"""The collections of one Milvus server and one database, which several replicas share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from numpy.typing import NDArray
from sqlalchemy import Engine

from bitcodes import Codes
from index.backend import Capabilities
from index.errors import InvalidItems, NotFound, Replaced
from index.milvus.catalog import Catalog, Row
from index.milvus.collection import Collection
from index.milvus.reencoding import Copy
from index.milvus.server.columns import MAX_BITS, MAX_TEXT
from index.milvus.server.connection import Connection
from index.milvus.server.physical import CONSISTENCIES, REACH, Consistency, Physical
from index.milvus.upkeep import Upkeep
from index.milvus.writes import Writes
from index.reencoding import Check, Encoding
from index.storage.catalog import DescriptorType, Metric
from index.validation import check_bits, check_keeps_descriptors, check_name

_CAPABILITIES = Capabilities(
    reach=REACH,
    batch=None,
    estimates=False,
    bits=MAX_BITS,
    descriptor_bytes=MAX_TEXT // 4 * 3,  # As base64.
)
_NO_ESTIMATES = (
    "an index in Milvus ranks by the Hamming distance: it has no estimates, so metric is None; "
    "got {metric!r}"
)

T = TypeVar("T")


class MilvusStore:
    """Collections in Milvus, by name: a `Store` of `index.backend`. Safe for threads and replicas.

    Parameters
    ----------
    url : str
        `milvus://host:port/database`, with `milvuss` for TLS.
    engine : sqlalchemy.Engine
        Of a database with the tables of `index.milvus.tables`. PostgreSQL may be shared by several
        processes; any other is for one.
    consistency : {"strong", "session", "bounded"}
        What reads may miss. "strong": nothing. "session": nothing that a replica has confirmed, but
        they do not wait for writes that go on. "bounded": what was written in the last seconds.
    timeout : float
        Seconds that a call of Milvus, or waiting for another writer, takes at most.
    """

    def __init__(
        self,
        url: str,
        engine: Engine,
        *,
        consistency: str = "strong",
        timeout: float = 10.0,
    ) -> None:
        for each in CONSISTENCIES:
            if each == consistency:
                self._consistency: Consistency = each
                break
        else:
            raise InvalidItems(
                f"consistency is one of {', '.join(CONSISTENCIES)}; got {consistency!r:.20}"
            )
        self._connection = Connection(url, timeout)
        self._catalog = Catalog(engine)
        self._lock = Lock()
        # By key, so that callers get the same object again.
        self._collections: dict[int, Collection] = {}
        # Of the collections that are being made here, by key.
        self._making: dict[int, Writes] = {}
        self._upkeep = Upkeep(self._catalog, self._connection, self._writes)

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return _CAPABILITIES

    def close(self) -> None:
        """Stop the work in the background, and close the connection to Milvus."""
        self._upkeep.close()
        self._connection.close()

    def settle(self) -> None:
        """Do what is to be done in the background: flush, and delete dropped collections."""
        self._upkeep.settle()

    def create(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        keep_descriptors: bool | DescriptorType = False,
        metric: Metric | None = None,
    ) -> Collection:
        """Make a new, empty collection; raise AlreadyExists if there is one of this name."""
        kept = "float32" if keep_descriptors is True else keep_descriptors or None
        with self.making(
            name,
            n_bits,
            encoder=encoder,
            fingerprint=fingerprint,
            descriptor_type=kept,
            metric=metric,
        ) as made:
            pass
        return self._open(self._row(made.name))

    @contextmanager
    def making(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str,
        fingerprint: str,
        descriptor_type: DescriptorType | None,
        metric: Metric | None,
    ) -> Iterator[Collection]:
        """Make a collection that is visible only after the block, and never if the block raises."""
        check_name(name)
        _check_new(n_bits, metric)
        with self._made(
            making=name,
            n_bits=int(n_bits),
            encoder=encoder,
            fingerprint=fingerprint,
            descriptor_type=descriptor_type,
        ) as collection:
            yield collection
            self._catalog.finish(collection.key, name)

    @contextmanager
    def _made(self, **values: Any) -> Iterator[Collection]:
        """Make a collection in Milvus; if the block raises, delete it unless it is finished.

        It may be finished although the block raises: where the database does it, but the
        connection is lost before its answer.
        """
        with self._catalog.inserted(**values) as row:
            try:
                made = self._new(self._create(row))
                self._making[row.key] = made.writes
                yield made
            except BaseException:
                self._catalog.abandon(row.key)
                self._upkeep.wake()
                raise
            finally:
                self._making.pop(row.key, None)

    def _create(self, row: Row) -> Row:
        """Make the collection of a row in Milvus, by a name that nothing there has."""
        for generation in count(row.generation + 1):
            if not self._physical(row._replace(generation=generation)).exists():
                break
        # The database knows it first, so that what is left of it is deleted, and nothing else is.
        row = self._catalog.use_generation(row.key, generation)
        self._physical(row).create(keeps_descriptors=row.descriptor_type is not None)
        return row

    def _physical(self, row: Row) -> Physical:
        return Physical(self._connection, row.physical, row.n_bits)

    def _new(self, row: Row) -> Collection:
        physical = self._physical(row)
        writes = Writes(self._catalog, self._connection, physical, row, self._upkeep.note)
        return Collection(row, self._catalog, physical, writes, self._consistency)

    def _open(self, row: Row) -> Collection:
        """Return the collection of a row: always the same object."""
        with self._lock:
            found = self._collections.get(row.key)
            if found is None:
                found = self._collections[row.key] = self._new(row)
            return found

    def _writes(self, row: Row) -> Writes | None:
        return self._making.get(row.key) if row.name is None else self._open(row).writes

    def _row(self, name: str) -> Row:
        row = self._catalog.named(name)
        if row is None:
            raise NotFound(f"there is no collection {name!r}")
        return row

    def get(self, name: str) -> Collection:
        """Return the collection of this name; raise NotFound if there is none."""
        return self._open(self._row(name))

    def use(self, name: str, work: Callable[[Collection], T]) -> T:
        """Return work(collection). If the collection is re-encoded meanwhile, call `work` again."""
        while True:
            try:
                return work(self.get(name))
            except Replaced:
                continue

    def list(self) -> list[Collection]:
        """Return all collections, by name."""
        rows = self._catalog.finished()
        keys = {row.key for row in rows}
        with self._lock:
            self._collections = {
                key: each for key, each in self._collections.items() if key in keys
            }
        return [self._open(row) for row in rows]

    def drop(self, name: str) -> None:
        """Drop a collection; raise NotFound if there is none of this name.

        Milvus deletes it in the background.
        """
        row = self._row(name)
        if not self._catalog.remove(row):
            raise NotFound(f"there is no collection {name!r}")
        self._forget(row.key)

    def _forget(self, key: int) -> None:
        with self._lock:
            self._collections.pop(key, None)
        self._upkeep.wake()

    def reencode(
        self,
        name: str,
        encode: Callable[[NDArray[Any]], Codes],
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        metric: Metric | None = None,
        factors: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        check: Check = lambda descriptors, codes: None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Collection:
        """Encode all items again, from their kept descriptors, and switch to the new codes.

        Until the switch the collection answers with its old codes and takes writes, of all
        replicas; only the last of them wait. After it, every call of the old `Collection` raises
        `Replaced`.

        Raises
        ------
        NotFound
        InvalidItems
            The collection keeps no descriptors, or a metric is given.
        AlreadyExists
            It is already being re-encoded.
        """
        old = self.get(name)
        check_keeps_descriptors(name, old.descriptor_type)
        _check_new(n_bits, metric)
        with self._made(
            replaces=old.key,
            n_bits=int(n_bits),
            encoder=encoder,
            fingerprint=fingerprint,
            descriptor_type=old.descriptor_type,
        ) as new:
            code = Encoding(encode, None, check)
            copy = Copy(self._catalog, self._connection, old, new, code, progress)
            copy.all_items()
            with old.writes.alone() as last:
                copy.changes()
                copy.end()
                if not self._catalog.switch(last, new.key, copy.until):
                    raise old.writes.gone()
        self._forget(old.key)
        return self._open(self._row(name))


def _check_new(n_bits: int, metric: Metric | None) -> None:
    check_bits(n_bits)
    if n_bits > MAX_BITS:
        raise InvalidItems(f"codes in Milvus have at most {MAX_BITS} bits, got {n_bits}")
    if metric is not None:
        raise InvalidItems(_NO_ESTIMATES.format(metric=metric))
