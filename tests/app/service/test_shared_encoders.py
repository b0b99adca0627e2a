"""Encoders in a database that several replicas share."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Executable, delete, select, text, update

from app.database import state as database_state
from app.database.engine import Unreachable
from app.database.shared import SharedState
from app.database.tables import encoders, jobs
from app.jobs.record import JobRecord
from app.service.encoder_store import EncoderStore
from hashing import make_hasher
from index import Unavailable


@pytest.fixture
def state(shared_state: SharedState) -> SharedState:
    with shared_state.writing() as execute:
        execute(delete(encoders))
    return shared_state


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


def test_files_are_read_in_parts(state: SharedState, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state limits the time of each read, whatever the size of the files and their number."""
    add(EncoderStore(state), "a", "b")
    expected = [encoder.fingerprint for encoder in EncoderStore(state).list()]
    read, most = SharedState.read, 0

    def note(self: SharedState, statement: Executable) -> Sequence[Any]:
        nonlocal most
        rows = read(self, statement)
        most = max(most, sum(len(value) for row in rows for value in row if type(value) is bytes))
        return rows

    monkeypatch.setattr(database_state, "PART_BYTES", 100)
    monkeypatch.setattr(SharedState, "read", note)
    assert [encoder.fingerprint for encoder in EncoderStore(state).list()] == expected
    JobRecord(state).add("a", "short", {}, b"m" * 250)
    assert JobRecord(state).material("a") == b"m" * 250
    with state.writing() as execute:
        execute(update(jobs).values(output=b"o" * 300))
    assert JobRecord(state).output("a") == b"o" * 300
    assert most == 100


@pytest.mark.parametrize("code", ["57014", "53200"])
def test_an_overloaded_database_is_not_an_unreachable_one(state: SharedState, code: str) -> None:
    """57014 is a statement that took too long, 53200 a lack of memory."""
    with pytest.raises(Unavailable, match="overloaded") as error, state.writing() as execute:
        execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"))
    assert not isinstance(error.value, Unreachable)
    assert state.is_reached
    state.read(select(encoders.c.name))
