"""A measurement of a collection that is kept until a tenth of its items has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

from index import holding
from index.backend import Collection

Checkpoint = Callable[[], None]
T = TypeVar("T")

# A measurement is used until this share of the items has been written or deleted.
_CHANGED = 0.1


@dataclass
class Kept(Generic[T]):
    """A measurement of a collection, with the state of the collection before it. Thread-safe."""

    lock: Lock = field(default_factory=Lock)
    measured: tuple[tuple[int, int], T] | None = None

    def fresh(
        self, collection: Collection, suffices: Callable[[T], bool] = lambda _: True
    ) -> T | None:
        """Return the measurement; None if there is none yet or it no longer holds.

        A measurement that still holds is also rejected, with None, if `suffices` returns False for
        it: for instance because a query asks for more neighbours than it measured.
        """
        if self.measured is None:
            return None
        (written, n), found = self.measured
        written_now, n_now = _state(collection)
        new = written_now - written
        gone = n + new - n_now
        return found if max(new, gone) <= _CHANGED * n and suffices(found) else None

    def get(
        self,
        collection: Collection,
        measure: Callable[[], T],
        checkpoint: Checkpoint,
        suffices: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Return a measurement that holds. Only those who need a new one wait for it."""
        if (found := self.fresh(collection, suffices)) is not None:
            return found
        with holding(self.lock, checkpoint):
            if (found := self.fresh(collection, suffices)) is None:
                # Read before the items, so that what is written in between counts as new.
                state = _state(collection)
                found = measure()
                self.measured = state, found
            return found


def _state(collection: Collection) -> tuple[int, int]:
    """Return how many items were ever written, and how many there are."""
    return collection.written, len(collection)
