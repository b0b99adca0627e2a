"""Drift of collections that several services share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import select

from app.database.shared import SharedState
from app.database.tables import drift
from app.pools import Pool
from app.service.drift import watch
from app.service.drift.two_samples import differences
from app.service.drift.watch import LEAST_REFERENCE, WINDOW, Drift
from index import Collection, Database, Store
from tests.app.service.drift.test_watch import N_BITS, codes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Database(tmp_path / "c.db")) as database, closing(Store(database)) as store:
        yield store


def test_replicas_know_what_each_other_has_found(
    shared_state: SharedState, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def insert(n: int, seed: int, shift: float = 0) -> Collection:
        collection = store.get("c")
        first = collection.written
        collection.upsert(range(first, first + n), codes(n, seed, shift))
        return collection

    tests = 0

    def count(*arguments: object, **named: object) -> object:
        nonlocal tests
        tests += 1
        return differences(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(watch, "differences", count)
    with ExitStack() as stack:
        pool = Pool(1, "drift")
        stack.callback(pool.close, 10)
        store.create("c", N_BITS)
        one, other = (Drift(shared_state, store, pool) for _ in range(2))
        found = one.report(insert(LEAST_REFERENCE, 0))
        assert other.report(store.get("c")) == found
        found = other.report(insert(WINDOW, 1, shift=0.3))
        assert found is not None
        assert (found["windows"], found["alarms"]) == (1, 1)
        assert one.report(store.get("c")) == found
        assert tests == 1
        assert one.alarms() == other.alarms() == {"c": 1}
        one.accept(store.get("c"))
        assert other.alarms() == {"c": 0}
        # One that starts later.
        assert Drift(shared_state, store, pool).alarms() == {"c": 0}
        store.drop("c")
        assert other.alarms() == {}
        assert not shared_state.read(select(drift.c.collection))
