"""Bringing the schema of a database to the version that this program knows."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, text

from app.database.engine import be_patient, explained
from index import Unreadable

VERSION_TABLE = "bitcell_version"
_SCRIPTS = Path(__file__).parent / "migrations"
# Of the advisory lock that a migration holds.
_LOCK = 0xB17CE11 << 32 | 0xFFFFFFFF
_LOCK_SECONDS = 600


def migrate(engine: Engine, *, upgrade: bool = True) -> None:
    """Make the tables, or bring them up to date, in one transaction.

    Of several processes that start at the same time, one does it while the others wait.

    Parameters
    ----------
    engine : Engine
    upgrade : bool
        Whether tables of an older version may be changed, which only a service should do.

    Raises
    ------
    Unreadable
        A newer version of Bitcell has migrated the database; or an older one, without `upgrade`.
    Unavailable
        The database cannot be reached.
    ValueError
        Alembic is not installed.
    """
    try:
        from alembic import command
        from alembic.config import Config
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory
    except ImportError:
        raise ValueError(
            "BITCELL_DATABASE_URL and BITCELL_INDEX_URL need Alembic, which is not installed "
            "here: pip install 'bitcell[servers]'"
        ) from None
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with explained(), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            be_patient(connection, _LOCK_SECONDS + 10)  # The server says why it gives up.
            for limit in ("lock_timeout", "statement_timeout"):
                connection.execute(text(f"SET LOCAL {limit} = '{_LOCK_SECONDS}s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        options = {"version_table": VERSION_TABLE}
        found = MigrationContext.configure(connection, opts=options).get_current_revision()
        if found is not None and found not in known:
            raise Unreadable(
                f"the database has schema version {found}; the newest known here is "
                f"{scripts.get_current_head()}: start a newer version of Bitcell"
            )
        if found is not None and found != scripts.get_current_head() and not upgrade:
            raise Unreadable(
                f"the database has schema version {found}, but this program expects "
                f"{scripts.get_current_head()}: start a service of this version first, which "
                "brings the database up to date"
            )
        if found != scripts.get_current_head():
            config.attributes.update(connection=connection, **options)
            command.upgrade(config, "head")
