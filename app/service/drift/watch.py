"""When new items of a collection are compared with its reference, and what is remembered of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from app.pools import Pool
from app.service.drift.two_samples import Difference, differences
from index import Closed, Collection, Database, Full, Moment, NotFound, Store

LEAST_P = 0.001
"""A test raises an alarm if its p-value is at most this."""
REMEMBERED = 10
"""Windows whose alarms are shown."""
FALSE_ALARM_RATE = round(3 * REMEMBERED * LEAST_P, 6)
"""Probability, at most, that any of these windows raises an alarm although nothing has changed.

By Bonferroni's correction for the three tests of each window, whose p-values are exact.
"""
WINDOW = 1000
"""Fewest new items that are tested, and the most that are drawn from them."""
LEAST_REFERENCE = 2000
"""Fewest items of which a reference is taken."""
# A window is also at least this share of the collection, so that tests take a small share of the
# time in which a large collection is loaded.
_SHARE = 0.01
_REFERENCE = 2048
_SEED = 0

_SCHEMA = """CREATE TABLE IF NOT EXISTS drift (
    collection INTEGER PRIMARY KEY REFERENCES collections (key) ON DELETE CASCADE,
    watched TEXT NOT NULL
) STRICT"""

log = structlog.stdlib.get_logger("bitcell")


@dataclass(frozen=True)
class Watched:
    """What is known about the drift of a collection.

    Attributes
    ----------
    reference : list of int
        Serial numbers of the items that new ones are compared with, in random order.
    until : int
        New items are those with serial numbers from this on.
    windows : list of lists of `Difference`
        The last `REMEMBERED` windows, the oldest first.
    tested : int
        Number of windows since the reference was taken.
    """

    reference: list[int]
    until: int
    windows: list[list[Difference]] = field(default_factory=list)
    tested: int = 0

    def alarms(self) -> list[list[Difference]]:
        """Return the remembered windows that raised an alarm."""
        return [window for window in self.windows if any(one.p_value <= LEAST_P for one in window)]


class Drift:
    """The references of all collections of a service, and the tests against them. Thread-safe.

    Parameters
    ----------
    database : Database
    store : Store
    pool : Pool
        Runs the tests.
    """

    def __init__(self, database: Database, store: Store, pool: Pool) -> None:
        self._database, self._store, self._pool = database, store, pool
        # Held while a collection is tested.
        self._testing = Lock()
        self._queued: set[int] = set()
        # By collection: how many items were written when there were too few left to test.
        self._too_few: dict[int, int] = {}
        with database.transaction() as connection:
            connection.execute(_SCHEMA)
        rows = database.read("SELECT collection, watched FROM drift")
        self._watched = {key: _from_json(text) for key, text in rows}

    def note(self, collection: Collection) -> None:
        """Note that items have been written; test them in the pool if they are enough."""
        key = collection.key
        if key in self._queued or not self._is_due(collection):
            return
        self._queued.add(key)
        try:
            self._pool.submit(self._test_later, collection.name, key)
        except RuntimeError:  # The pool is closed: the service stops, and the next one tests them.
            self._queued.discard(key)

    def alarms(self) -> dict[str, int]:
        """Return how many of the last windows raised an alarm, by collection."""
        found = {}
        for collection in self._store.list():
            if (watched := self._watched.get(collection.key)) is not None:
                found[collection.name] = len(watched.alarms())
        return found

    def report(self, collection: Collection) -> dict[str, Any] | None:
        """Test new items if they are enough; return what `schemas.DriftOut` describes.

        None before there is a reference.
        """
        self._test(collection)
        watched = self._watched.get(collection.key)
        if watched is None:
            return None
        alarms = watched.alarms()
        shown = (alarms or watched.windows)[-1:]
        return {
            "alarm": bool(alarms),
            "alarms": len(alarms),
            "windows": len(watched.windows),
            "tested": watched.tested,
            "false_alarm_rate": FALSE_ALARM_RATE,
            "reference": len(watched.reference),
            "waiting": max(0, collection.written - watched.until),
            "tests": [
                {**one._asdict(), "alarm": one.p_value <= LEAST_P} for one in (shown or [[]])[0]
            ],
        }

    def _is_due(self, collection: Collection) -> bool:
        watched, n = self._watched.get(collection.key), len(collection)
        if watched is None:
            return n >= LEAST_REFERENCE
        since = max(watched.until, self._too_few.get(collection.key, 0))
        return collection.written - since >= max(WINDOW, _SHARE * n)

    def _test_later(self, name: str, key: int) -> None:
        self._queued.discard(key)
        try:
            self._store.use(name, self._test)
        except (NotFound, Closed):
            pass  # It has been dropped, or the service stops.
        except Exception:
            log.exception("new items could not be tested for drift", collection=name)

    def _test(self, collection: Collection) -> None:
        with self._testing:
            if not self._is_due(collection):
                return
            written = collection.written
            before = self._watched.get(collection.key)
            after = _tested(before, collection.moment(), collection.n_bits)
            if after is None:
                self._too_few[collection.key] = written
                return
            self._watched[collection.key] = after
            self._keep(collection.key, after)
            if after.windows and after.windows[-1] in after.alarms():
                log.warning("the codes of new items differ", collection=collection.name)

    def _keep(self, key: int, watched: Watched) -> None:
        try:
            with self._database.transaction() as connection:
                # Not for a collection that has been dropped and deleted meanwhile.
                connection.execute(
                    "INSERT OR REPLACE INTO drift SELECT key, ? FROM collections WHERE key = ?",
                    (json.dumps(asdict(watched)), key),
                )
        except Full as error:  # After a restart, the same items are tested again.
            log.warning("the result of a test for drift could not be kept", error=str(error))


def _tested(before: Watched | None, moment: Moment, n_bits: int) -> Watched | None:
    """Return what is known after the new items of a moment have been tested.

    None if most of them have been deleted already, so that there is nothing to test yet.
    """
    reference = np.empty(0, np.int64)
    if before is not None:
        reference = _places(moment, np.array(before.reference, np.int64))
    if before is None or len(reference) < LEAST_REFERENCE // 2:
        # There was none, or most of its items have been deleted or written again.
        if len(moment) < LEAST_REFERENCE:
            return None
        rng = np.random.default_rng(_SEED)
        chosen = rng.permutation(len(moment))[:_REFERENCE]
        return Watched(moment.serials[chosen].tolist(), _end(moment))
    new = np.flatnonzero(moment.serials >= before.until)
    if len(new) < WINDOW:
        return None
    rng = np.random.default_rng([_SEED, before.tested])
    new = rng.permutation(new)[:WINDOW]
    half = len(reference) // 2
    base, held, words = map(moment.words, (reference[:half], reference[half:], new))
    window = differences(base, held, words, n_bits, LEAST_P, seed=before.tested)
    windows = [*before.windows, window][-REMEMBERED:]
    return replace(before, until=_end(moment), windows=windows, tested=before.tested + 1)


def _end(moment: Moment) -> int:
    """Return the first serial number that no item of a moment has."""
    return int(moment.serials[-1]) + 1


def _places(moment: Moment, serials: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the items with these serial numbers that are still there."""
    places = np.searchsorted(moment.serials, serials)
    places = np.minimum(places, len(moment) - 1) if len(moment) else places[:0]
    found: NDArray[np.int64] = places[moment.serials[places] == serials[: len(places)]]
    return found


def _from_json(text: str) -> Watched:
    found = json.loads(text)
    found["windows"] = [[Difference(*one) for one in window] for window in found["windows"]]
    return Watched(**found)
