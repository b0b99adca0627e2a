"""Encoders, jobs, drift and keys in a database: SQLite in the data directory, or PostgreSQL."""
