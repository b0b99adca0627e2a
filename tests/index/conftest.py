from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from index import Database, Store


@contextmanager
def opened(path: Path) -> Iterator[tuple[Database, Store]]:
    database = Database(path)
    try:
        store = Store(database)
        try:
            yield database, store
        finally:
            store.close()
    finally:
        database.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "bitcell.db") as (_, store):
        yield store


@pytest.fixture
def database(store: Store) -> Database:
    """The database of `store`."""
    return store._database
