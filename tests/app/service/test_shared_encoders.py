"""Encoders in a database that several replicas share."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from sqlalchemy import delete

from app.database.engine import open_engine
from app.database.migrate import migrate
from app.database.shared import SharedState
from app.database.tables import encoders
from app.service.encoder_store import EncoderStore
from hashing import make_hasher


@pytest.fixture(scope="module")
def module_state(database_url: str) -> Iterator[SharedState]:
    engine = open_engine(database_url)
    migrate(engine)
    yield SharedState(engine)
    engine.dispose()


@pytest.fixture
def state(module_state: SharedState) -> SharedState:
    with module_state.writing() as execute:
        execute(delete(encoders))
    return module_state


def add(store: EncoderStore, *names: str) -> None:
    for n_bits, name in enumerate(names, 8):
        store.add(name, make_hasher("lsh", n_bits=n_bits).fit([[1.0, 2.0], [3.0, 4.0]]))


def test_an_encoder_that_another_replica_drops_leaves_the_memory(state: SharedState) -> None:
    one, other = EncoderStore(state), EncoderStore(state)
    add(one, "kept", "dropped")
    hasher = weakref.ref(other.get("dropped").hasher)
    kept = other.get("kept")
    one.drop("dropped", lambda: None)
    assert [encoder.name for encoder in other.list()] == ["kept"]
    gc.collect()
    assert hasher() is None
    assert other.get("kept") is kept
