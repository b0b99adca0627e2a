"""What only an index in Milvus has: limits, replicas, and ties beyond what a search returns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from index import (
    AlreadyExists,
    Filter,
    InvalidItems,
    NotFound,
    Replaced,
    SearchOptions,
    Store,
    Unavailable,
    backend,
)
from tests.index.milvus.conftest import Opening
from tests.index.test_backend import check_methods
from tests.milvus_server import Server

CODES = np.random.default_rng(0).integers(0, 4, (200, 1), np.uint8)
IDS = [f"{i:03d}" for i in np.random.default_rng(1).permutation(200)]


def test_ties_beyond_the_reach_are_in_the_order_of_ids(
    store: Store, collection: backend.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.milvus import search

    monkeypatch.setattr(search, "REACH", 16)
    both: list[backend.Collection] = [store.create("c", 8), collection]
    for each in both:
        each.upsert(IDS, CODES, [i % 2 for i in range(200)])
    for k in (5, 16):
        for where in (None, Filter({"label": 1})):
            for radius in (None, 1):
                options = SearchOptions(k, radius, where=where, count_within=True)
                expected, found = (each.search(CODES[:2], options) for each in both)
                assert [each.neighbours for each in found] == [each.neighbours for each in expected]
                ties = [each.certificate.tie for each in found]
                known = [each.certificate.tie for each in expected]
                assert all(tie in (None, n) for tie, n in zip(ties, known, strict=True))
                # More items than Milvus counts are at this distance, or within the radius.
                assert None in ties
                if radius is not None:
                    assert None in [each.certificate.within for each in found]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.search(CODES[:1], SearchOptions(1, offset=16_384)), "at most 16384 items"),
        (lambda c: c.upsert(["a"], CODES[:1], None, [{"n": 2**63}]), "smaller than 2\\*\\*63"),
        (lambda c: c.upsert(["a"], CODES[:1], None, [{"n": [-(2**70)]}]), "smaller than 2\\*\\*63"),
        (lambda c: c.count(Filter({"a": None})), "cannot look for null"),
        (lambda c: c.search(CODES[:1], SearchOptions(1, max_score=1.0)), "radius takes the place"),
        (lambda c: c.upsert(["a"], CODES[:1], factors=np.ones((1, 3))), "have no factors"),
    ],
)
def test_what_milvus_cannot_do_is_refused(
    collection: backend.Collection, call: Any, message: str
) -> None:
    with pytest.raises(InvalidItems, match=message):
        call(collection)
    assert len(collection) == 0


def test_stores_of_what_milvus_cannot_hold_are_refused(module_store: backend.Store) -> None:
    with pytest.raises(InvalidItems, match="at most 32768 bits"):
        module_store.create("d", 32_769)
    with pytest.raises(InvalidItems, match="metric is None; got 'dot'"):
        module_store.create("d", 8, keep_descriptors=True, metric="dot")
    assert [each.name for each in module_store.list()] == ["c"]


def test_a_replica_sees_what_another_one_does(
    milvus: Server, milvus_store: backend.Store, opened: Opening
) -> None:
    other = opened(milvus)
    mine = milvus_store.create("c", 8, keep_descriptors=True)
    theirs = other.get("c")
    with pytest.raises(AlreadyExists, match="already a collection 'c'"):
        other.create("c", 8)
    X = np.random.default_rng(0).normal(size=(4, 3))
    mine.upsert(IDS[:4], CODES[:4], None, None, X)
    assert (len(theirs), theirs.dimension, theirs.written) == (4, 3, 4)
    theirs.follow_patches()
    mine.patch(IDS[1:2], [{"label": 7}])
    theirs.delete(IDS[:1])
    assert [(each.first, each.old.tolist()) for each in theirs.patches(0)] == [(4, [1])]
    assert [each.id for each in mine.items(0, 9)[0]] == [IDS[2], IDS[3], IDS[1]]
    version = theirs.version

    def encode(X: Any) -> Any:
        # Changes while items are encoded are encoded again.
        if theirs.version == version:
            theirs.delete(IDS[2:3])
            theirs.upsert([IDS[3], "new"], CODES[:2], [5, 6], None, X[:2])
        return np.packbits(X > 0, axis=1)

    new = milvus_store.reencode("c", encode, 3, encoder="other")
    with pytest.raises(Replaced):
        theirs.search(CODES[:1], SearchOptions(1))
    assert other.use("c", lambda each: (each.n_bits, each.encoder)) == (3, "other")
    found, n = new.items(0, 9)
    assert n == 3
    assert [(each.id, each.label) for each in found] == [(IDS[1], 7), (IDS[3], 5), ("new", 6)]
    other.drop("c")
    with pytest.raises(NotFound):
        new.get("new")


def test_a_write_that_could_not_be_sent_is_done_later(
    collection: backend.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash of the service between the two."""
    from index.milvus.server.physical import Physical

    collection.upsert(["a", "b"], CODES[:2])
    written = collection.written
    with monkeypatch.context() as patched:

        def fails(*of: Any) -> Any:
            raise KeyboardInterrupt

        patched.setattr(Physical, "upsert", fails)
        with pytest.raises(KeyboardInterrupt):
            collection.upsert(["b", "c"], CODES[2:4], [1, 2])
        patched.setattr(Physical, "delete", fails)
        # Nobody reads before it is repeated, which fails too.
        with pytest.raises(KeyboardInterrupt):
            collection.get("b")
    assert [collection.get(each).label for each in "abc"] == [None, 1, 2]
    assert (collection.written, len(collection)) == (written + 2, 3)


def test_writes_are_forgotten_when_milvus_has_flushed_them(
    module_store: backend.Store, collection: backend.Collection
) -> None:
    catalog = module_store._catalog  # type: ignore[attr-defined]
    collection.upsert(IDS, CODES)
    assert catalog.writes(collection.key)
    module_store.settle()
    assert catalog.writes(collection.key) == []
    assert len(collection) == 200


def test_a_server_that_is_not_there_is_unavailable(opened: Opening) -> None:
    store = opened(Server(0, 1, 1), timeout=0.5)
    with pytest.raises(Unavailable, match="cannot be reached"):
        store.create("c", 8)
    assert store.list() == []


def test_pages_of_many_items_are_in_the_order_of_insertion(
    collection: backend.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.milvus import reading

    monkeypatch.setattr(reading, "_FEW_MATCHES", 10)
    collection.upsert(IDS, CODES, [i % 3 for i in range(200)])
    collection.delete(IDS[20:90])
    collection.upsert(IDS[5:10], CODES[:5], [1] * 5)
    order = [*IDS[:5], *IDS[10:20], *IDS[90:], *IDS[5:10]]
    for offset, limit in ((0, 4), (60, 40), (125, 9)):
        found, n = collection.items(offset, limit)
        assert n == len(order) == 130
        assert [each.id for each in found] == order[offset : offset + limit]
    ones = [each for each in order if each in IDS[5:10] or IDS.index(each) % 3 == 1]
    found, n = collection.items(7, 9, where=Filter({"label": 1}))
    assert ([each.id for each in found], n) == (ones[7:16], len(ones))
    assert [name for batch in collection.item_batches(40) for name in batch.ids] == order
    moment = collection.moment()
    assert len(moment) == 130
    assert (np.diff(moment.serials) > 0).all()
    sample = collection.sample_codes(20, seed=3)
    assert (sample.n_items, sample.codes.shape) == (130, (20, 1))
    assert (sample.codes == collection.sample_codes(20, seed=3).codes).all()


def test_it_has_the_methods_of_a_backend(
    module_store: backend.Store, collection: backend.Collection
) -> None:
    from index.milvus.collection import Collection
    from index.milvus.reading import Moment
    from index.milvus.store import MilvusStore

    check_methods(backend.Store, MilvusStore, module_store)
    check_methods(backend.Collection, Collection, collection)
    check_methods(backend.Moment, Moment, collection.moment())


def test_two_processes_share_collections_through_postgresql(
    milvus: Server, database_url: str
) -> None:
    """Two stores, as two processes have them, write the same items at the same time."""
    from app.database.engine import open_engine
    from index.milvus.store import MilvusStore
    from index.milvus.tables import metadata

    engines = [open_engine(database_url) for _ in range(2)]
    metadata.create_all(engines[0])
    stores = [MilvusStore(milvus.url, engine, timeout=60) for engine in engines]
    stores[0].create("c", 8)
    ids = [str(i) for i in range(20)]

    def write(of: int) -> None:
        collection = stores[of].get("c")
        for i in range(8):
            collection.upsert(ids, CODES[:20], [10 * of + i] * 20)
            collection.delete([f"{of}"])

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, [0, 1]))
    mine, theirs = (store.get("c") for store in stores)
    assert mine.items(0, 100) == theirs.items(0, 100)
    # No batch is mixed with another one, and every item that was written got its own number.
    assert len({item.label for item in mine.items(0, 100)[0]}) == 1
    assert mine.written == 16 * 20
    # What a process that died was making is deleted by the others, and not what is being made.
    with stores[0].making(
        "m", 8, encoder="", fingerprint="", descriptor_type=None, metric=None
    ) as made:
        stores[1].settle()
        made.upsert(["a"], CODES[:1])
    assert [each.name for each in stores[1].list()] == ["c", "m"]
    for name in ("c", "m"):
        stores[1].drop(name)
    stores[1].settle()
    for store, engine in zip(stores, engines, strict=True):
        store.close()
        engine.dispose()


def test_reads_wait_for_deletions_too(collection: backend.Collection) -> None:
    """Milvus gives no time of them, by which readers could wait."""
    for _ in range(5):
        collection.upsert(IDS, CODES)
        collection.delete(IDS)
        assert len(collection) == 0
        with pytest.raises(NotFound):
            collection.patch(IDS[:1], [{"label": 1}])
