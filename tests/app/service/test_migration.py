"""Collections and encoders copied from one back end to another, and compared there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.database.embedded import EmbeddedState
from app.errors import Conflict
from app.service.encoder_store import EncoderStore
from app.service.migration import copying
from app.service.migration import places as places_module
from app.service.migration.comparing import check_same
from app.service.migration.copying import Copied, Place, migrate
from app.service.settings import Settings
from app.service.state.opening import open_all
from hashing import Hasher, make_hasher
from index import Collection, Database, InvalidItems, NotFound, Store, Unavailable

N = 300


def hasher(seed: int = 0) -> Hasher:
    return make_hasher("lsh", n_bits=12, random_state=seed).fit(np.eye(4))


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    """Two empty back ends, each of a record of its own."""
    databases = [Database(tmp_path / f"{name}.db") for name in ("source", "target")]
    stores = [Store(database) for database in databases]
    yield [
        Place(store, EncoderStore(EmbeddedState(database)))
        for store, database in zip(stores, databases, strict=True)
    ]
    for store in stores:
        store.close()
    for database in databases:
        database.close()


@pytest.fixture
def source(places: list[Place]) -> Place:
    """An encoder `e`, its collection `c` with descriptors, `own` of given codes, an empty one."""
    source = places[0]
    encoder = source.encoders.add("e", hasher())
    X = np.random.default_rng(0).normal(size=(N, 4))
    codes = encoder.hasher.encode(X)
    coded = source.store.create(
        "c", 12, encoder="e", fingerprint=encoder.fingerprint, keep_descriptors="float16"
    )
    names, payloads = [f"ü {i}/x" for i in range(N)], [{"i": i, "x": i / 7} for i in range(N)]
    coded.upsert(names, codes, list(range(N)), payloads, X)
    coded.delete(names[10:30])
    coded.upsert([names[5]], codes[:1], None, None, X[:1])  # It becomes the last one.
    own = source.store.create("own", 12)
    own.upsert(names[:100], codes[:100])
    source.store.create("empty", 7)
    return source


@pytest.fixture
def target(places: list[Place]) -> Place:
    return places[1]


def contents(collection: Collection | Any) -> list[Any]:
    return [
        (batch.ids, batch.codes.tolist(), batch.labels.tolist(), batch.payloads)
        + (() if batch.descriptors is None else (batch.descriptors.tolist(),))
        for batch in collection.item_batches(10_000)
    ]


def run(source: Place, target: Place, names: Sequence[str] = (), **more: Any) -> list[Copied]:
    return migrate(source, target, names, queries=20, **more)


def test_everything_is_copied_once(source: Place, target: Place) -> None:
    seen: list[tuple[int, int, str]] = []
    copied = run(source, target, progress=lambda *step: seen.append(step))
    assert copied == [Copied("c", N - 20, True), Copied("empty", 0, True), Copied("own", 100, True)]
    assert [one.name for one in target.store.list()] == ["c", "empty", "own"]
    assert target.encoders.get("e").fingerprint == hasher().fingerprint
    for collection in source.store.list():
        copy = target.store.get(collection.name)
        assert contents(copy) == contents(collection)
        assert copy.fingerprint == collection.fingerprint
        assert copy.descriptor_type == collection.descriptor_type
    assert seen[0] == (0, N + 80, "copying c")
    assert seen[-1] == (N + 80, N + 80, "comparing own")
    assert seen == sorted(seen, key=lambda step: step[0])
    again = [replace(one, is_new=False) for one in copied]
    assert run(source, target) == again


def test_single_collections_are_copied_with_their_encoder(source: Place, target: Place) -> None:
    assert run(source, target, ["own"]) == [Copied("own", 100, True)]
    assert not target.encoders.list()
    with pytest.raises(NotFound, match="no collection 'missing'"):
        run(source, target, ["c", "missing"])
    assert [one.name for one in target.store.list()] == ["own"]


def test_an_interrupted_copy_leaves_nothing_and_can_be_repeated(
    source: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.migration.copying._ITEMS", 50)

    def stop(done: int, of: int, now: str) -> None:
        if now == "copying c" and done >= 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, target, progress=stop)
    assert not target.store.list()
    assert [one.is_new for one in run(source, target)] == [True, True, True]
    assert contents(target.store.get("c")) == contents(source.store.get("c"))


def test_batches_of_large_items_are_smaller(
    source: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    put = Collection.put

    def note(collection: Collection, batch: Any) -> None:
        sizes.append(sum(len(text or "") for text in batch.payloads))
        put(collection, batch)

    monkeypatch.setattr(Collection, "put", note)
    monkeypatch.setattr("app.service.migration.copying._SIZE", 1 << 16)
    large = source.store.create("large", 12)
    texts = ["x" * (n * 997 % 30_000) for n in range(60)]
    large.upsert(
        [str(n) for n in range(60)], np.zeros((60, 2), np.uint8), None, [{"t": t} for t in texts]
    )
    run(source, target, ["large"])
    assert contents(target.store.get("large")) == contents(large)
    assert max(sizes) < (1 << 16) + 30_000
    assert min(sizes[:-1]) > (1 << 16) - 2 * 30_000


def test_another_encoder_of_the_name_is_found_before_anything_is_copied(
    source: Place, target: Place
) -> None:
    source.encoders.add("a", hasher(3))
    target.encoders.add("e", hasher(1))
    with pytest.raises(
        Conflict, match=r"another encoder 'e': its fingerprint is .*; name the coll"
    ):
        run(source, target)
    assert [one.name for one in target.encoders.list()] == ["e"]
    assert not target.store.list()


@pytest.mark.parametrize(
    ("n_bits", "ids", "message"),
    [
        (
            12,
            ["x"],
            "it holds 1 items, and 100 in the source; .* or name the other collections only",
        ),
        (13, [], "n_bits is 13, and 12 in the source"),
    ],
)
def test_another_collection_of_the_name_is_found_before_anything_is_copied(
    n_bits: int, ids: list[str], message: str, source: Place, target: Place
) -> None:
    target.store.create("own", n_bits).upsert(ids, np.zeros((len(ids), 2), np.uint8))
    with pytest.raises(Conflict, match=message):
        run(source, target)
    assert [one.name for one in target.store.list()] == ["own"]
    assert not target.encoders.list()


def test_a_collection_that_the_target_cannot_rank_is_refused(
    source: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates = make_hasher("rabitq", n_bits=4, random_state=0).fit(np.eye(4))
    used = source.encoders.add("q", estimates)
    source.store.create("ranked", 4, encoder="q", fingerprint=used.fingerprint, metric="cosine")
    monkeypatch.setattr(
        "index.store._CAPABILITIES", replace(target.store.capabilities, estimates=False)
    )
    with pytest.raises(Conflict, match="'ranked' ranks by estimated distances, which the target"):
        run(source, target)
    assert not target.store.list()
    assert len(run(source, target, ["c", "own"])) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"codes": True}, "the answer to the query [0-9a-f]{4}, at place"),
        ({"labels": True}, "items from place 0, at place 0: expected .* got"),
        ({"payloads": True}, "items from place 0, at place 0"),
        ({"descriptors": True}, "the kept descriptors are not the same"),
        ({"ids": True}, "differs in the target: it holds 279 items, and 280 in the source"),
    ],
)
def test_a_copy_that_answers_otherwise_is_never_seen(
    changed: dict[str, bool],
    message: str,
    source: Place,
    target: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A target that changes what it is given, everywhere but at the ends of the collection."""
    put = Collection.put

    def change(collection: Collection, batch: Any) -> None:
        if "codes" in changed:
            codes = batch.codes.copy()
            codes[60:-60] ^= 0x80
            batch = batch._replace(codes=codes)
        if "labels" in changed:
            batch = batch._replace(labels=batch.labels + 1)
        if "payloads" in changed:
            batch = batch._replace(payloads=[None] * len(batch.ids))
        if "descriptors" in changed and batch.descriptors is not None:
            batch = batch._replace(descriptors=batch.descriptors + 1)
        if "ids" in changed:
            batch = type(batch)(*(None if part is None else part[1:] for part in batch))
        put(collection, batch)

    def compare_unseen(expected: Any, got: Any) -> None:
        assert not target.store.list()
        check_same(expected, got)

    monkeypatch.setattr(Collection, "put", change)
    monkeypatch.setattr(copying, "check_same", compare_unseen)
    # What can be seen may have been written to, and is never dropped.
    monkeypatch.setattr(Store, "drop", None)
    with pytest.raises(Conflict, match=f"{message}.*; nothing of it was kept"):
        run(source, target, ["c"])
    assert not target.store.list()


def test_a_collection_that_is_there_and_answers_otherwise_is_left(
    source: Place, target: Place
) -> None:
    run(source, target)
    own = target.store.get("own")
    own.upsert(["ü 0/x"], np.full((1, 2), 0xF0, np.uint8))
    with pytest.raises(Conflict, match=r"'own' differs in the target: .* it was left as it is"):
        run(source, target)
    assert len(target.store.get("own")) == 100


def test_items_that_the_target_refuses_are_named(
    source: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(collection: Collection, batch: Any) -> None:
        raise InvalidItems("a payload has at most 65,536 bytes")

    monkeypatch.setattr(Collection, "put", refuse)
    with pytest.raises(Conflict, match=r"'c', after 0 of its 280 items: a payload has .* was kept"):
        run(source, target, ["c"])
    assert not target.store.list()


@pytest.mark.parametrize("call", ["put", "search", "items"])
def test_a_target_that_does_not_answer_for_a_while_is_waited_for(
    call: str, source: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = getattr(Collection, call)
    refused: list[str] = []
    waited: list[float] = []
    store: Any = target.store

    def refuse(collection: Any, *arguments: Any) -> Any:
        """Do the call. For the first three on the target, raise Unavailable afterwards."""
        answer = done(collection, *arguments)
        if collection._state.database is store._database and len(refused) < 3:
            refused.append(call)
            raise Unavailable("Milvus does not answer", 7.0)
        return answer

    monkeypatch.setattr(Collection, call, refuse)
    monkeypatch.setattr("app.service.migration.copying._ITEMS", 50)
    monkeypatch.setattr(copying, "sleep", waited.append)
    seen: list[str] = []
    run(source, target, progress=lambda done, of, now: seen.append(now))
    assert len(refused) == 3
    assert waited == [7.0] * 3
    assert "waiting for the target, for c" in seen
    assert [contents(one) for one in target.store.list()] == [
        contents(one) for one in source.store.list()
    ]


def test_a_target_that_never_answers_again_is_given_up(
    source: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def put(collection: Collection, batch: Any) -> None:
        raise Unavailable("Milvus does not answer", 7.0)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(Collection, "put", put)
    monkeypatch.setattr(copying, "sleep", sleep)
    monkeypatch.setattr(copying, "monotonic", lambda: now)
    with pytest.raises(Unavailable, match="Milvus does not answer"):
        run(source, target)
    assert 300 < now < 700
    assert not target.store.list()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"bits": 11}, "'c' has codes of 12 bits, and the target takes at most 11: re-encode"),
        ({"descriptor_bytes": 7}, "'c' keeps descriptors of 8 bytes each, and the target takes"),
    ],
)
def test_what_is_too_large_is_found_before_anything_is_copied(
    limits: dict[str, Any],
    message: str,
    source: Place,
    target: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.store._CAPABILITIES", replace(target.store.capabilities, **limits))
    with pytest.raises(Conflict, match=message):
        run(source, target)
    assert not target.encoders.list()
    assert len(run(source, target, ["empty"])) == 1


def test_the_target_is_read_with_strong_consistency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(tmp_path / "bitcell.db").close()
    seen: list[str] = []
    urls = {"database_url": "postgresql://nowhere/d", "index_url": "milvus://nowhere"}

    def open_embedded(settings: Settings, stack: Any) -> Any:
        seen.append(settings.consistency)
        return open_all(settings.model_copy(update=dict.fromkeys(urls)), stack)

    monkeypatch.setattr(places_module, "open_all", open_embedded)
    settings = Settings.model_validate({"data_dir": tmp_path, "consistency": "bounded"} | urls)
    with places_module.opened(settings):
        assert seen[1] == "strong"
