"""When the meaning of distances is measured, and when again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.service.collections import calibrations
from app.service.collections.calibrations import Asked, Calibrations
from app.service.collections.pairs import pairs_by_distance
from app.service.encoder_store import EncoderStore
from bitcodes import distances_to, pack
from index import Collection, Database, Store

RNG = np.random.default_rng(0)
CODES = pack(RNG.normal(0, 1, (1000, 24)))
BOTH = Asked(calibrated=True, false_match_rate=0.1)
RATE = Asked(false_match_rate=0.1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(tmp_path / "c.db")
    store = Store(database)
    yield store
    store.close()
    database.close()


@pytest.fixture
def collection(store: Store) -> Collection:
    collection = store.create("c", 24)
    collection.upsert(range(1000), CODES)
    return collection


@pytest.fixture
def measuring(store: Store) -> Calibrations:
    return Calibrations(EncoderStore(store._database))


def test_it_is_measured_again_when_a_tenth_has_changed(
    collection: Collection, measuring: Calibrations
) -> None:
    assert not measuring.is_ready(collection, RATE)
    measuring.matches(collection, 0.1, lambda: None)
    assert measuring.is_ready(collection, RATE)
    assert not measuring.is_ready(collection, BOTH)
    collection.delete(range(20))
    collection.upsert(range(920, 1000), CODES[:80])
    assert measuring.is_ready(collection, RATE)
    # Replaced items count as changed, although the collection is as large as before.
    collection.upsert([920], CODES[:1])
    assert not measuring.is_ready(collection, RATE)
    first = measuring.matches(collection, 0.1, lambda: None)
    assert measuring.is_ready(collection, RATE)
    assert first.found.n_pairs == 490
    collection.delete(range(20, 119))
    assert not measuring.is_ready(collection, RATE)


def test_a_new_collection_of_the_same_name_is_measured_anew(
    store: Store, collection: Collection, measuring: Calibrations
) -> None:
    measuring.matches(collection, 0.1, lambda: None)
    store.drop("c")
    assert not measuring.is_ready(store.create("c", 24), RATE)


def test_the_order_of_insertion_decides_the_sample(store: Store, collection: Collection) -> None:
    collection.delete(range(0, 400, 3))
    before = pairs_by_distance(collection.moment(), 24, 7, lambda: None)
    store.settle()
    after = pairs_by_distance(collection.moment(), 24, 7, lambda: None)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pairs_are_different_and_have_their_distance(collection: Collection) -> None:
    moment = collection.moment()
    pairs = pairs_by_distance(moment, 24, 0, lambda: None)
    assert (pairs.first != pairs.second).all()
    ordered = np.sort(np.stack([pairs.first, pairs.second], axis=1), axis=1)
    assert len(np.unique(ordered, axis=0)) == len(ordered)
    words = moment.words(np.arange(1000))
    for place in (0, len(pairs.first) // 2, -1):
        (expected,) = distances_to(words[pairs.first[place]], words[[pairs.second[place]]])
        assert pairs.distances[place] == expected
    # All near pairs of 512 items are there; of the others, about as many at each distance.
    counts = np.bincount(pairs.distances, minlength=25)
    assert counts[10:15].max() < 1.3 * counts[10:15].min()
    assert counts.sum() < 1.1 * (1 << 15)


def test_a_query_that_takes_too_long_ends_the_measurement(
    collection: Collection, measuring: Calibrations
) -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        measuring.matches(collection, 0.1, stop)
    assert not measuring.is_ready(collection, RATE)


def test_no_more_pairs_are_compared_than_are_needed(
    collection: Collection, measuring: Calibrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrations, "MAX_UNRELATED", 100)
    assert measuring.matches(collection, 0.1, lambda: None).found.n_pairs == 100
