"""How long a query may take."""

from __future__ import annotations

from threading import Event
from time import monotonic

from app.errors import Unready


class Deadline:
    """The end of the time that a query has, which begins now.

    Parameters
    ----------
    seconds : float
    stopping : Event
        Set when the service stops, which ends all queries at once.
    """

    def __init__(self, seconds: float, stopping: Event) -> None:
        self._seconds = seconds
        self._at = monotonic() + seconds
        self._stopping = stopping

    def check(self) -> None:
        """Raise Unready if the time is over or the service stops. Costs less than a microsecond."""
        if self._stopping.is_set():
            raise Unready("the service is stopping")
        if monotonic() > self._at:
            raise Unready(
                f"the query took longer than {self._seconds:g} s (BITCELL_QUERY_TIMEOUT): ask for "
                "less in one query, or try again later"
            )
