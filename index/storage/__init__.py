"""The durable record of a store: one SQLite database."""
