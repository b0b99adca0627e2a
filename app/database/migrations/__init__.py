"""The versions of the schema of a shared database, for Alembic."""
