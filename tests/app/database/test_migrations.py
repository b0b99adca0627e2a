"""The schema of a shared database: migrations, and what a start refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, inspect, text

from app.database.engine import database_url as as_url
from app.database.engine import open_engine
from app.database.migrate import VERSION_TABLE, migrate
from app.database.tables import metadata
from index import Unreadable
from index.milvus.tables import metadata as index_metadata
from tests.postgres import Server


def differences(engine: Engine) -> list[object]:
    """Return how the tables of a database differ from those that the service expects."""
    expected = MetaData()
    for table in (*metadata.tables.values(), *index_metadata.tables.values()):
        table.to_metadata(expected)
    with engine.connect() as connection:
        # SQLite has no identities: that of `jobs.rowid` would be a difference.
        defaults = engine.dialect.name == "postgresql"
        options = {"version_table": VERSION_TABLE, "compare_server_default": defaults}
        context = MigrationContext.configure(connection, opts=options)
        return [*compare_metadata(context, expected)]


def test_the_migrations_make_the_tables_of_the_service_in_postgresql(postgres: Server) -> None:
    url = postgres.new_database()
    engines = [open_engine(url) for _ in range(4)]
    # As replicas that start at the same time.
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(migrate, engines)) == [None] * 4
    assert not differences(engines[0])
    assert {*metadata.tables} < {*inspect(engines[0]).get_table_names()}
    for engine in engines:
        engine.dispose()


def test_the_migrations_make_the_tables_of_the_service_in_sqlite(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'milvus.db'}")
    migrate(engine)
    migrate(engine)
    assert not differences(engine)
    engine.dispose()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'milvus.db'}")
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(Unreadable, match="schema version 9999; the newest known here is 0001"):
        migrate(engine)
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite:///x.db", "nonsense secret", ""])
def test_another_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://") as error:
        as_url(url)
    assert "secret" not in str(error.value)


def test_a_short_url_means_psycopg() -> None:
    url = as_url("postgresql://u@h/d")
    assert url == as_url("postgresql+psycopg://u@h/d")
