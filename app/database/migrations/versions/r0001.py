"""The tables of the first version that shares its state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _encoders_and_jobs()
    _drift_and_keys()
    _collections_in_milvus()
    if op.get_bind().dialect.name == "postgresql":
        # Not compressed, so that a part of a value can be read without the rest.
        for table, column in (("jobs", "output"), ("jobs", "material"), ("encoders", "file")):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def _encoders_and_jobs() -> None:
    op.create_table(
        "encoders",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("file", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("rowid", sa.BigInteger, sa.Identity(), nullable=False, unique=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("material", sa.LargeBinary),
        sa.Column("starts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("ended", sa.Double),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("output", sa.LargeBinary),
    )
    op.create_index("jobs_state", "jobs", ["state", "kind"])
    op.create_table(
        "job_claims",
        sa.Column("job", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("heartbeat", sa.Double, nullable=False),
        sa.Column("progress", sa.Text),
        sa.Column("cancels", sa.Integer, nullable=False, server_default="0"),
        comment="Which replica works on a job, and what it last said of it.",
    )


def _drift_and_keys() -> None:
    op.create_table(
        "drift",
        sa.Column("collection", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("watched", sa.Text, nullable=False),
    )
    op.create_table("demo", sa.Column("state", sa.Text, nullable=False))
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_table(
        "keys_required",
        sa.Column("since", sa.Double, nullable=False),
        comment="It has a row if keys are required; since is 0 until one is created.",
    )


def _collections_in_milvus() -> None:
    # SQLite counts up only what it calls an integer.
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "index_collections",
        sa.Column("key", key, primary_key=True, autoincrement=True),
        sa.Column("generation", sa.Integer, nullable=False, server_default="1"),
        sa.Column("name", sa.String(64), unique=True),
        sa.Column("making", sa.String(64), unique=True),
        sa.Column("replaces", key, unique=True),
        sa.Column("n_bits", sa.Integer, nullable=False),
        sa.Column("encoder", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("descriptor_type", sa.String(8)),
        sa.Column("dimension", sa.Integer),
        sa.Column("next_serial", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("written", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("stamp", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("broken", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("follows_patches", sa.Boolean, nullable=False, server_default=sa.false()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "index_redo",
        sa.Column("id", key, primary_key=True, autoincrement=True),
        sa.Column("collection", key, nullable=False, index=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("applied", sa.Boolean, nullable=False, server_default=sa.false()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "index_patches",
        sa.Column("collection", key, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("old", sa.LargeBinary, nullable=False),
    )
    op.create_table("index_dropped", sa.Column("physical", sa.String(64), primary_key=True))
