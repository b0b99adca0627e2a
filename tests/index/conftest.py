from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index import Database, Store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "bitcell.db")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()
