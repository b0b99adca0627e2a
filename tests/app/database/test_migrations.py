"""The schema of a shared database: migrations, and what a start refuses."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Engine, MetaData, create_engine, inspect, text
from sqlalchemy.exc import DataError

from app.database import engine as engine_module
from app.database import migrate as migrate_module
from app.database.engine import database_url as as_url
from app.database.engine import message, open_engine
from app.database.migrate import VERSION_TABLE, migrate
from app.database.tables import metadata
from app.service.settings import Settings
from app.service.state import opening
from index import Unavailable, Unreadable
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


def test_a_migration_waits_for_another_longer_than_statements_do(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "STATEMENT_SECONDS", 0.1)
    url = postgres.new_database()
    engine, other = open_engine(url), open_engine(url)
    with ThreadPoolExecutor(1) as pool:
        with other.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({migrate_module._LOCK})"))
            waiting = pool.submit(migrate, engine)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(30)
    assert not differences(other)
    engine.dispose()
    other.dispose()


def test_only_a_service_changes_the_tables_of_an_older_version(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    settings = Settings(data_dir=tmp_path / "data", database_url=SecretStr(url))
    with opening.keys_of(settings) as keys:  # They may be made before the first start.
        assert keys.list() == []
    scripts = tmp_path / "migrations"
    shutil.copytree(migrate_module._SCRIPTS, scripts)
    newer = "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
    newer += "def upgrade():\n    op.execute('ALTER TABLE keys RENAME TO renamed')\n"
    (scripts / "versions" / "r0002.py").write_text(newer)
    monkeypatch.setattr(migrate_module, "_SCRIPTS", scripts)
    with pytest.raises(Unreadable, match="schema version 0001, but this program expects 0002"):
        opening.keys_of(settings).__enter__()
    with pytest.raises(Unreadable, match="schema version 0001"):
        opening.encoder_file(settings, "e")
    engine = open_engine(url)
    assert inspect(engine).has_table("keys")
    migrate(engine)
    assert not inspect(engine).has_table("keys")
    migrate(engine, upgrade=False)
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
    with ExitStack() as opened, pytest.raises(Unavailable, match="1:1/db cannot") as error:
        opening.open_state(settings, opened)
    assert "secret" not in str(error.value)
    assert open_engine(url).hide_parameters


def test_what_a_job_says_of_the_database_has_no_statement() -> None:
    error = DataError("UPDATE jobs SET x", {"x": "private"}, Exception("too long\nmore"))
    assert message(error) == "too long"
    assert message(ValueError("one\ntwo")) == "one\ntwo"
