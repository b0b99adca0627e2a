"""The schema of a shared database: migrations, and what a start refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Engine, MetaData, create_engine, inspect, text
from sqlalchemy.exc import DataError

from app.database.engine import database_url as as_url
from app.database.engine import message, open_engine
from app.database.migrate import VERSION_TABLE, migrate
from app.database.tables import metadata
from app.service.settings import Settings
from app.service.state.opening import open_state
from index import InvalidItems, Unavailable, Unreadable
from index.milvus.server.connection import Connection
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


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/d",
        "sqlite:///x.db",
        "nonsense secret",
        "",
        "postgresql://u:secret@h:54x/d",
        "postgresql://u:p@secret@h/d",
    ],
)
def test_another_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"^BITCELL_DATABASE_URL: .*postgresql://") as error:
        as_url(url)
    assert "secret" not in str(error.value)


def test_a_short_url_means_psycopg() -> None:
    url = as_url("postgresql://u@h/d")
    assert url == as_url("postgresql+psycopg://u@h/d")


def test_a_password_among_the_options_is_not_shown() -> None:
    """Nor are the values of a statement that fails."""
    url = "postgresql://127.0.0.1:1/db?user=u&password=secret"
    settings = Settings(database_url=SecretStr(url))
    with (
        ExitStack() as opened,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/db cannot") as error,
    ):
        open_state(settings, opened)
    assert "secret" not in str(error.value)
    assert open_engine(url).hide_parameters


def test_what_a_job_says_of_the_database_has_no_statement() -> None:
    error = DataError("UPDATE jobs SET x", {"x": "private"}, Exception("too long\nmore"))
    assert message(error) == "too long"
    assert message(ValueError("one\ntwo")) == "one\ntwo"


def test_a_wrong_port_of_the_index_shows_no_password() -> None:
    with pytest.raises(InvalidItems, match="the port in the URL of an index") as error:
        Connection("milvus://u:secret/more@h:1", 1)
    assert "secret" not in str(error.value)
