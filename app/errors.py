"""Errors that the service and its jobs raise; `app.http.problems` maps them to HTTP statuses."""

from __future__ import annotations


class Conflict(Exception):
    """The request contradicts the current state of the service."""


class TooMany(Exception):
    """The queue is full; the caller may try again later."""


class Unready(Exception):
    """The service cannot answer now: it is busy, or about to stop."""


class TooLarge(Exception):
    """The request exceeds a limit of the settings."""
