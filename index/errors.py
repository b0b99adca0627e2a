"""What can go wrong in the index, by kind."""

from __future__ import annotations


class IndexProblem(Exception):
    """Anything the index refuses; the message says what was expected and what came."""


class NotFound(IndexProblem):
    """There is no collection, or no item, of that name."""


class AlreadyExists(IndexProblem):
    """There is a collection of that name."""


class InvalidItems(IndexProblem, ValueError):
    """Items, codes or numbers that do not fit the collection or one another."""


class Unreadable(IndexProblem, OSError):
    """The record on disk is damaged, of a newer version, or in use by another process."""


class InUse(Unreadable):
    """Another process has the record open."""


class Full(IndexProblem, OSError):
    """There is no room on the disk; nothing of the write was kept."""


class Replaced(NotFound):
    """The collection has been re-encoded: its codes are of another encoder now."""
