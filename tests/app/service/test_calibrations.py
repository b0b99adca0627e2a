"""When the meaning of distances is measured, and when again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from app.database.embedded import EmbeddedState
from app.service.encoder_store import EncoderStore
from app.service.measured import calibrations
from app.service.measured.calibrations import Angles, Asked, Calibrations
from app.service.measured.pairs import pairs_by_distance
from bitcodes import distances_to, pack
from hashing.theory.calibration import binomial_angles
from index import Collection, Database, Store

RNG = np.random.default_rng(0)
CODES = pack(RNG.normal(0, 1, (1000, 24)))
BOTH = Asked(calibrated=True, false_match_rate=0.1)
RATE = Asked(false_match_rate=0.1)


@pytest.fixture
def collection(store: Store) -> Collection:
    collection = store.create("c", 24)
    collection.upsert(range(1000), CODES)
    return collection


@pytest.fixture
def measuring(store: Store) -> Calibrations:
    return Calibrations(EncoderStore(EmbeddedState(store._database)))


def time_out() -> None:
    raise TimeoutError


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


def test_a_new_collection_of_the_same_name_is_measured_for_itself(
    store: Store, collection: Collection, measuring: Calibrations
) -> None:
    measuring.matches(collection, 0.1, lambda: None)
    store.drop("c")
    assert not measuring.is_ready(store.create("c", 24), RATE)


def test_a_measurement_during_a_write_is_one_without_its_items(
    collection: Collection, measuring: Calibrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, stage = collection._state.rows, collection._state.rows.stage
    pairs: list[int] = []

    def measured_before(*args: Any) -> None:
        pairs.append(measuring.matches(collection, 0.1, lambda: None).found.n_pairs)
        stage(*args)

    monkeypatch.setattr(rows, "stage", measured_before)
    collection.upsert(range(1000, 2000), CODES)
    assert pairs == [500]
    assert not measuring.is_ready(collection, RATE)
    assert measuring.matches(collection, 0.1, lambda: None).found.n_pairs == 1000


def test_a_write_that_fails_does_not_count(
    collection: Collection, measuring: Calibrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise MemoryError

    measuring.matches(collection, 0.1, lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(collection._state.rows, "stage", fail)
        with pytest.raises(MemoryError):
            collection.upsert(range(1000, 2000), CODES)
    collection.upsert([1000], CODES[:1])
    assert measuring.is_ready(collection, RATE)
    assert collection.written == 1001


def test_written_items_are_counted_over_a_restart(store: Store, tmp_path: Path) -> None:
    collection = store.create("w", 24)
    collection.upsert(range(600), CODES[:600])
    collection.upsert(range(100), CODES[:100])
    collection.delete(range(300))
    store.close()
    store._database.close()
    again = Database(tmp_path / "bitcell.db")
    reopened = Store(again)
    assert reopened.get("w").written == 700
    reopened.close()
    again.close()


@pytest.mark.parametrize("kept", [False, True])
def test_queries_wait_only_for_a_measurement_that_they_need(
    collection: Collection,
    measuring: Calibrations,
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
) -> None:
    """While angles are measured, rates are not, and a fresh measurement is there for all."""
    begun, go_on = Event(), Event()

    def held(*args: Any) -> Angles:
        begun.set()
        assert go_on.wait(30)
        return Angles("binomial", binomial_angles(24))

    monkeypatch.setattr(measuring, "_measured_angles", held)
    if kept:
        measuring.matches(collection, 0.1, lambda: None)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(measuring.angles, collection, lambda: None)
        assert begun.wait(30)
        rate = pool.submit(measuring.matches, collection, 0.1, lambda: None)
        try:
            assert rate.result(timeout=10).found.n_pairs == 500
            if kept:
                # Whoever waits for angles can give up.
                with pytest.raises(TimeoutError):
                    measuring.angles(collection, time_out)
        finally:
            go_on.set()
        assert first.result(timeout=30).law == "binomial"


def test_a_fresh_measurement_is_there_while_a_new_one_is_made(
    collection: Collection, measuring: Calibrations
) -> None:
    measuring.matches(collection, 0.1, lambda: None)
    with measuring._of(collection).counts.lock:
        assert measuring.matches(collection, 0.1, time_out).found.n_pairs == 500


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
    with pytest.raises(TimeoutError):
        measuring.matches(collection, 0.1, time_out)
    assert not measuring.is_ready(collection, RATE)


def test_no_more_pairs_are_compared_than_are_needed(
    collection: Collection, measuring: Calibrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrations, "MAX_UNRELATED", 100)
    assert measuring.matches(collection, 0.1, lambda: None).found.n_pairs == 100
