"""The errors that the index raises. Each message says what was expected and what was received."""

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
    """Items, codes or options are invalid, or do not fit the collection.

    Attributes
    ----------
    row : int or None
        The item of the batch that is the reason, counted from 0.
    """

    def __init__(self, message: str = "", row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class BadSnapshot(IndexProblem, ValueError):
    """A snapshot file is damaged, is of a newer version, or is not a snapshot."""


class Unreadable(IndexProblem, OSError):
    """The database file cannot be opened: its folder is not usable, or its version is newer."""


class InUse(Unreadable):
    """Another process has the database open."""


class Damaged(Unreadable):
    """The database file is damaged: a checksum or a count is wrong, or SQLite cannot read it."""


class DiskError(IndexProblem, OSError):
    """The system failed to read or write the database file, though the disk is not full."""


class Full(IndexProblem, OSError):
    """The disk has no room; the write changed nothing."""


class Closed(IndexProblem):
    """The database has been closed."""


class Unavailable(IndexProblem):
    """A server that holds the data does not answer; the same call may succeed later.

    Attributes
    ----------
    retry_after : float
        Seconds after which another try makes sense.
    """

    def __init__(self, message: str = "", retry_after: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerError(IndexProblem, OSError):
    """A server that the index needs refuses a request that it should take."""
