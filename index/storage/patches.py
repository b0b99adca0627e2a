"""The patches of a collection, for those who have to tell new items from items written again."""

from __future__ import annotations

import sqlite3

import numpy as np
from numpy.typing import NDArray

from index.storage.database import Database
from index.types import Patch


class Patches:
    """The recorded patches of one collection. Thread-safe."""

    def __init__(self, database: Database, key: int) -> None:
        self._database, self._key = database, key
        # Changed only while nothing is written.
        self._are_followed = False

    def follow(self) -> None:
        """Record all patches from now on, until the database is closed."""
        if not self._are_followed:
            with self._database.exclusive():
                self._are_followed = True

    def note(
        self, connection: sqlite3.Connection, old: NDArray[np.int64], new: NDArray[np.int64]
    ) -> None:
        """Record a patch, if patches are followed, in the transaction that writes it."""
        if self._are_followed:
            connection.execute(
                "INSERT INTO drift_patches VALUES (?, ?, ?)",
                (self._key, int(new[0]), old.astype("<i8").tobytes()),
            )

    def since(self, serial: int) -> list[Patch]:
        """Return the recorded patches whose first new serial number is this one or later."""
        rows = self._database.read(
            "SELECT first, old FROM drift_patches WHERE collection = ? AND first >= ? "
            "ORDER BY first",
            (self._key, serial),
        )
        return [Patch(first, np.frombuffer(old, "<i8").astype(np.int64)) for first, old in rows]

    def forget(self, before: int) -> None:
        """Delete the patches whose first new serial number is smaller."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM drift_patches WHERE collection = ? AND first < ?", (self._key, before)
            )
