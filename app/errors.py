"""Errors that the service and its jobs raise; `app.http.problems` maps them to HTTP statuses."""

from __future__ import annotations

import errno


class Conflict(Exception):
    """The request contradicts the current state of the service."""


class TooMany(Exception):
    """The queue is full; the caller may try again later."""


class Unready(Exception):
    """The service cannot answer now: it is busy, or about to stop."""


class TooLarge(Exception):
    """The request exceeds a limit of the settings."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHORT = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.EAGAIN: "processes or threads",
}


def is_full(error: BaseException) -> bool:
    """Return whether an error of the system says that the disk has no room."""
    return isinstance(error, OSError) and error.errno in _FULL


def shortage(error: BaseException) -> str | None:
    """Return what is short if an error says that the same call may succeed later; else None."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RuntimeError):
        return "threads" if "can't start new thread" in str(error) else None
    return _SHORT.get(error.errno or 0) if isinstance(error, OSError) else None
