"""Nothing is lost where replicas, upkeep and re-encoding meet, with a Milvus in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine

from index import NotFound, Unavailable, backend

if TYPE_CHECKING:
    from index.milvus.store import MilvusStore
    from tests.index.milvus.in_memory import InMemory

CODES = np.arange(16, dtype=np.uint8)[:, None]
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
MADE: dict[str, Any] = {"encoder": "", "fingerprint": "", "descriptor_type": None, "metric": None}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> InMemory:
    """A Milvus in memory."""
    pytest.importorskip("pymilvus", reason="Milvus: pip install 'bitcell[servers]'")
    from tests.index.milvus.in_memory import InMemory

    server = InMemory()
    server.take_the_place(monkeypatch)
    return server


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database in a file."""
    from index.milvus.tables import metadata

    engine = create_engine(f"sqlite:///{tmp_path / 'index.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def replica(server: InMemory, engine: Engine) -> Iterator[MilvusStore]:
    """A store."""
    from index.milvus.store import MilvusStore

    store = MilvusStore("milvus://127.0.0.1:1", engine)
    yield store
    store.close()


def encode(X: Any) -> Any:
    return np.packbits(X > 0, axis=1)


def then(work: Callable[..., Any], after: Callable[[], object]) -> Callable[..., Any]:
    """Return `work` followed by `after`."""

    def both(*of: Any, **more: Any) -> Any:
        found = work(*of, **more)
        after()
        return found

    return both


def fail() -> None:
    raise Unavailable("the answer was lost")


def ids(collection: backend.Collection) -> list[str]:
    return [name for batch in collection.item_batches(100) for name in batch.ids]


def test_a_switch_whose_answer_is_lost_keeps_the_items(
    replica: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = replica._catalog
    old = replica.create("c", 8, keep_descriptors=True)
    old.upsert(list("ab"), CODES[:2], descriptors=X[:2])
    monkeypatch.setattr(catalog, "switch", then(catalog.switch, fail))
    with pytest.raises(Unavailable, match="answer was lost"):
        replica.reencode("c", encode, 3)
    replica.settle()
    new = replica.get("c")
    assert (new.n_bits, ids(new)) == (3, ["a", "b"])


def test_upkeep_keeps_what_is_finished_while_it_looks(
    replica: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = replica._catalog
    abandoned = catalog.abandoned
    with replica.making("c", 8, **MADE) as made:
        made.upsert(["a"], CODES[:1])
        # As another replica sees it whose look is older than the end of the making.
        catalog._made.clear()
        seen = abandoned()
    assert [row.making for row in seen] == ["c"]
    monkeypatch.setattr(catalog, "abandoned", lambda: seen)
    replica.settle()
    assert ids(replica.get("c")) == ["a"]


def test_what_upkeep_has_deleted_is_not_finished(replica: MilvusStore) -> None:
    """As where the connection was lost that shows that a collection is being made."""
    catalog = replica._catalog

    def lose() -> None:
        catalog._made.clear()
        replica.settle()

    making = replica.making("c", 8, **MADE)
    with pytest.raises(Unavailable, match="deleted meanwhile"), making:
        lose()
    assert replica.list() == []
    old = replica.create("d", 8, keep_descriptors=True)
    old.upsert(list("ab"), CODES[:2], descriptors=X[:2])

    def encode_late(X: Any) -> Any:
        lose()
        return encode(X)

    with pytest.raises(NotFound):
        replica.reencode("d", encode_late, 3)
    assert ids(replica.get("d")) == ["a", "b"]


def test_a_switch_to_what_is_deleted_keeps_the_old(replica: MilvusStore) -> None:
    catalog = replica._catalog
    old = replica.create("d", 8)
    old.upsert(list("ab"), CODES[:2])
    row = catalog.read(old.key)
    assert row is not None
    with pytest.raises(Unavailable, match="deleted meanwhile"):
        catalog.switch(row, 1000, 1000)
    assert ids(old) == ["a", "b"]


def test_a_switch_refuses_to_lose_writes_that_came_between(
    replica: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the connection that holds the lock was lost, and another replica writes."""
    from contextlib import nullcontext

    from index.milvus.reencoding import Copy

    old = replica.create("c", 8, keep_descriptors=True)
    old.upsert(list("ab"), CODES[:2], descriptors=X[:2])
    with monkeypatch.context() as patched:
        patched.setattr(replica._catalog, "holding", lambda key, timeout: nullcontext())
        late = lambda: old.upsert(["c"], CODES[2:3], descriptors=X[2:3])  # noqa: E731
        patched.setattr(Copy, "end", then(Copy.end, late))
        with pytest.raises(Unavailable, match="written meanwhile"):
            replica.reencode("c", encode, 3)
    assert ids(replica.get("c")) == ["a", "b", "c"]


def test_a_failed_creation_deletes_only_what_it_made(
    replica: MilvusStore, server: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.milvus.server.physical import Physical

    server.collections = {"bc_1_1": {}}
    with monkeypatch.context() as patched:
        patched.setattr(Physical, "create", then(Physical.create, fail))
        with pytest.raises(Unavailable, match="answer was lost"):
            replica.create("c", 8)
    assert [*server.collections] == ["bc_1_1", "bc_1_2"]
    replica.settle()
    assert [*server.collections] == ["bc_1_1"]
    # Nor where it did not come to making it.
    server.collections["bc_2_1"] = {}
    server.before["exists"] = [fail]
    with pytest.raises(Unavailable, match="answer was lost"):
        replica.create("c", 8)
    replica.settle()
    assert [*server.collections] == ["bc_1_1", "bc_2_1"]
    assert replica.create("c", 8).written == 0
    assert [*server.collections] == ["bc_1_1", "bc_2_1", "bc_3_1"]


def test_replicas_leave_each_others_collections_on_postgresql(
    server: InMemory, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.database.engine import open_engine
    from index.milvus.store import MilvusStore
    from index.milvus.tables import metadata

    engines = [open_engine(database_url) for _ in range(2)]
    metadata.create_all(engines[0])
    one, other = (MilvusStore("milvus://127.0.0.1:1", engine) for engine in engines)
    catalog = other._catalog
    # To look for what is abandoned takes no lock that writers need.
    with ThreadPoolExecutor() as pool, catalog._lock:
        assert pool.submit(catalog.abandoned).result(30) == []
    # One finishes between the looks of the other one at the rows and at their locks.
    with one.making("c", 8, **MADE) as made:
        made.upsert(["a"], CODES[:1])
        row = one._catalog.read(made.key)
        assert row is not None
        assert catalog.abandoned() == []
    assert not catalog.abandon(row.key)
    assert ids(other.get("c")) == ["a"]

    def lose() -> None:
        """End the connection whose lock shows that a collection is being made."""
        with engines[1].begin() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 9999) FROM pg_locks WHERE locktype = 'advisory'"
            )
        other.settle()

    making = one.making("d", 8, **MADE)
    with pytest.raises(Unavailable, match="deleted meanwhile"), making:
        lose()
    assert [each.name for each in one.list()] == ["c"]
    for store, engine in zip((one, other), engines, strict=True):
        store.close()
        engine.dispose()


@pytest.mark.parametrize("starts", ["before", "meanwhile"])
def test_a_write_that_goes_on_is_encoded_again(
    replica: MilvusStore, server: InMemory, monkeypatch: pytest.MonkeyPatch, starts: str
) -> None:
    """It is recorded, but Milvus has it only once the re-encoding waits for the lock."""
    old = replica.create("c", 8, keep_descriptors=True)
    old.upsert(["a"], CODES[:1], descriptors=X[:1])
    recorded, waits = Event(), Event()

    def wait() -> None:
        recorded.set()
        assert waits.wait(30)

    def holding(key: int, timeout: float) -> Any:
        if key == old.key and recorded.is_set():
            waits.set()
        return hold(key, timeout)

    with ThreadPoolExecutor() as pool:

        def write() -> None:
            server.before["upsert"] = [wait]
            pool.submit(old.upsert, ["b"], CODES[1:2], descriptors=X[1:2])
            assert recorded.wait(30)

        def encode_later(X: Any) -> Any:
            if not recorded.is_set():
                write()
            return encode(X)

        hold = replica._catalog.holding
        if starts == "before":
            write()
        monkeypatch.setattr(replica._catalog, "holding", holding)
        new = replica.reencode("c", encode_later, 3)
    assert ids(new) == ["a", "b"]


def test_what_milvus_loses_meanwhile_is_encoded_again(
    replica: MilvusStore, server: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.milvus.reencoding import Copy

    def lose() -> None:
        server.lose()
        replica._connection._losses += 1

    old = replica.create("c", 8, keep_descriptors=True)
    old.upsert(list("ab"), CODES[:2], descriptors=X[:2])
    server.before["query"] = [lose]
    assert sorted(ids(replica.reencode("c", encode, 3))) == ["a", "b"]
    # In the last pass that is refused.
    old = replica.get("c")
    with monkeypatch.context() as patched:
        patched.setattr(Copy, "changes", then(Copy.changes, lose))
        with pytest.raises(Unavailable, match="encode it again"):
            replica.reencode("c", encode, 3)
    assert sorted(ids(replica.get("c"))) == ["a", "b"]


def test_writes_that_milvus_lost_are_repeated_before_they_are_forgotten(
    replica: MilvusStore, server: InMemory, engine: Engine
) -> None:
    from index.milvus.store import MilvusStore

    collection = replica.create("c", 8)
    collection.upsert(["a"], CODES[:1])
    server.lose()
    new = MilvusStore("milvus://127.0.0.1:1", engine)
    new.settle()
    assert new._catalog.writes(collection.key) == []
    assert ids(new.get("c")) == ["a"]
    # The connection is lost while Milvus flushes, and before.
    collection = new.get("c")
    collection.upsert(["b"], CODES[1:2])

    def lose() -> None:
        server.lose()
        new._connection._losses += 1

    server.before["flush"] = [lose]
    new.settle()
    assert len(new._catalog.writes(collection.key)) == 1
    new.settle()
    assert new._catalog.writes(collection.key) == []
    assert ids(new.get("c")) == ["a", "b"]
    new.close()


def test_writes_of_a_collection_that_is_being_made_are_forgotten(replica: MilvusStore) -> None:
    with replica.making("c", 8, **MADE) as made:
        made.upsert(["a"], CODES[:1])
        replica.settle()
        assert replica._catalog.writes(made.key) == []
    assert ids(replica.get("c")) == ["a"]


def test_upkeep_goes_on_after_what_fails(replica: MilvusStore, server: InMemory) -> None:
    keys = []
    for name in "abcd":
        collection = replica.create(name, 8)
        collection.upsert(["a"], CODES[:1])
        keys.append(collection.key)
    replica.drop("a")
    replica.drop("b")
    server.before = {"drop": [fail], "flush": [fail]}
    with pytest.raises(Unavailable, match="answer was lost"):
        replica.settle()
    assert replica._catalog.to_drop() == ["bc_1_1"]
    assert [len(replica._catalog.writes(key)) for key in keys] == [0, 0, 1, 0]
    replica.settle()
    assert [*server.collections] == ["bc_3_1", "bc_4_1"]
    assert [len(replica._catalog.writes(key)) for key in keys] == [0, 0, 0, 0]


def test_a_scan_yields_what_is_written_again_and_again(
    replica: MilvusStore, server: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.milvus import reading

    collection = replica.create("c", 8, keep_descriptors=True)
    collection.upsert(list("abcdef"), CODES[:6], descriptors=X[:6])

    def write() -> None:
        collection.upsert(list("ef"), CODES[4:6], descriptors=X[4:6])

    def read() -> list[str]:
        return [name for batch in collection.item_batches(2) for name in batch.ids]

    # Before each call of Milvus.
    server.before["query"] = [write] * 50
    assert read() == [*"abcdef"]
    assert (np.diff(collection.moment().serials) > 0).all()
    # Where more was written than one call reads.
    with monkeypatch.context() as patched:
        patched.setattr(reading, "_AT_ONCE", 1)
        server.before["query"] = [write] * 6
        assert read() == [*"abcdef"]
        patched.setattr(reading, "_PASSES", 3)
        server.before["query"] = [write] * 1000
        with pytest.raises(Unavailable, match="written faster"):
            read()
    server.before.clear()
    # A write that goes on when the scan starts does not let an item come twice.
    row = replica._row("c")
    replica._catalog.record(row, "delete", b"[]", 1, None)
    items = server.collections[row.physical]

    def apply() -> None:
        items["a"] = items["a"]._replace(serials=np.array([row.next_serial]))

    server.before["query"] = [lambda: None, apply]
    assert read() == [*"abcdef"]
