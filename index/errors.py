"""The errors that the index raises. Each message says what was expected and what came."""

from __future__ import annotations


class IndexProblem(Exception):
    """Base class of all errors of the index."""


class NotFound(IndexProblem):
    """No collection or item has this name or id."""


class Replaced(NotFound):
    """The collection has been re-encoded: its codes are now those of another encoder."""


class AlreadyExists(IndexProblem):
    """A collection of this name exists, or is being made or re-encoded."""


class InvalidItems(IndexProblem, ValueError):
    """Items, codes or options are invalid, or do not fit the collection."""


class BadSnapshot(IndexProblem, ValueError):
    """A snapshot file is damaged, is of a newer version, or is no snapshot."""


class Unreadable(IndexProblem, OSError):
    """The database file cannot be opened: its folder is not usable, or its version is newer."""


class InUse(Unreadable):
    """Another process has the database open."""


class Damaged(Unreadable):
    """The database file is damaged: a checksum or a count is wrong, or SQLite cannot read it."""


class DiskError(IndexProblem, OSError):
    """The system failed to read or write the database file, for another reason than its size."""


class Full(IndexProblem, OSError):
    """The disk has no room; nothing of the write was kept."""


class Closed(IndexProblem):
    """The database has been closed."""
