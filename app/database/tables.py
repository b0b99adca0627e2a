"""The tables of the service in SQLAlchemy Core.

Those that the record of a data directory has too (`encoders`, `jobs`, `drift` and `demo`) have
there the same names and columns, without the columns that are marked as shared: see
`app.database.embedded`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

encoders = Table(
    "encoders",
    metadata,
    Column("name", Text, primary_key=True),
    Column("file", LargeBinary, nullable=False),
    # Shared: other replicas compare it with that of the encoder that they have loaded.
    Column("fingerprint", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    # Every table of SQLite has this column. It gives the order in which jobs were added.
    Column("rowid", BigInteger, Identity(), nullable=False, unique=True),
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("material", LargeBinary),
    Column("starts", Integer, nullable=False, server_default="0"),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("result", Text),
    Column("error", Text),
    Column("output", LargeBinary),
    Index("jobs_state", "state", "kind"),
)

job_claims = Table(
    "job_claims",
    metadata,
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("heartbeat", Double, nullable=False),
    Column("progress", Text),
    Column("cancels", Integer, nullable=False, server_default="0"),
    comment="Which replica works on a job, and what it last said of it.",
)

drift = Table(
    "drift",
    metadata,
    Column("collection", BigInteger, primary_key=True, autoincrement=False),
    Column("watched", Text, nullable=False),
)

demo = Table("demo", metadata, Column("state", Text, nullable=False))

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("created", Double, nullable=False),
)

keys_required = Table(
    "keys_required",
    metadata,
    Column("since", Double, nullable=False),
    comment="It has a row if keys are required; since is 0 until one is created.",
)
